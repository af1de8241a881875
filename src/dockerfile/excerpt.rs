//! Shows the place of a fault: the source's lines with a mark under what is wrong.
//!
//! The text is hostile: control and formatting characters are escaped, so that nothing in a
//! Dockerfile reaches a terminal as a command.

use std::fmt::Write as _;
use std::ops::Range;

use super::ast::Span;
use super::git_address::userinfo;

/// The most lines shown of one span.
const MOST_LINES: u32 = 8;

/// The lines shown at each side of a marked line that is far from its span's beginning.
const BESIDE: u32 = 2;

/// The most columns of one line, without the line number.
const WIDTH: usize = 100;

/// What stands for the part of a line that is cut away.
const CUT: &str = "...";

/// What carets are put under: a part of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The line, counted from 1.
    pub line: u32,
    /// Its characters, counted from 1, the end excluded.
    pub columns: (u32, u32),
}

/// The lines of `span` with their numbers, and carets under the marked part.
///
/// Without a mark the carets are under the first line, from its first to its last non-blank
/// character. Of a long span the beginning is shown, and the marked line with those next to it.
/// Every line ends with a newline. A span outside the source gives an empty text, and a mark outside
/// the span counts as none.
pub fn excerpt(source: &str, span: Span, mark: Option<Mark>) -> String {
    let first = span.first.max(1);
    let mark = mark.filter(|mark| (first..=span.last).contains(&mark.line));
    let marked_line = mark.map_or(first, |mark| mark.line);
    let width = gutter(first, span, marked_line);
    let mut shown = String::new();
    let mut previous = first;
    for (line, number) in lines(source, span) {
        let (near, ends) = nearness(first, marked_line, number);
        if ends {
            let _ = writeln!(shown, "{CUT:<width$}");
            break;
        }
        if !near {
            continue;
        }
        if shown.is_empty() {
            write_line(&mut shown, "", width, "");
        } else if number > previous + 1 {
            let _ = writeln!(shown, "{CUT:<width$}");
        }
        previous = number;
        if number == marked_line {
            let (text, carets) = marked(line, mark.map(|mark| mark.columns));
            write_line(&mut shown, &number.to_string(), width, &text);
            write_line(&mut shown, "", width, &carets);
        } else {
            let (text, _) = window(&cells(line), 0..0);
            write_line(&mut shown, &number.to_string(), width, &text);
        }
    }
    shown
}

/// A whole message: severity, text, place and excerpt, ending with a newline.
pub fn render(
    severity: &str,
    message: &str,
    file: &str,
    source: &str,
    span: Span,
    mark: Option<Mark>,
) -> String {
    let place = mark.unwrap_or_else(|| {
        let line = lines(source, span).next().map_or("", |(line, _)| line);
        let blanks = line.chars().take_while(|c| c.is_whitespace()).count();
        let column = u32::try_from(blanks).unwrap_or(u32::MAX).saturating_add(1);
        Mark { line: span.first, columns: (column, column) }
    });
    let width = gutter(span.first.max(1), span, place.line);
    let mut text = String::new();
    let message: Vec<String> = message.lines().map(escape).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{severity}: {}", message.join("\n"));
    let _ = writeln!(text, "{:width$}--> {}:{}:{}", "", escape(file), place.line, place.columns.0);
    text.push_str(&excerpt(source, span, mark));
    text
}

/// The lines of a span that the source has, with their numbers.
pub(super) fn lines(source: &str, span: Span) -> impl Iterator<Item = (&str, u32)> {
    let first = span.first.max(1);
    let lines = source.strip_prefix('\u{feff}').unwrap_or(source).lines().zip(1u32..);
    lines.skip(first as usize - 1).take_while(move |(_, number)| *number <= span.last)
}

/// Whether a line of a span is shown, and whether nothing is shown from it on.
fn nearness(first: u32, marked: u32, number: u32) -> (bool, bool) {
    let from_first = number - first;
    if marked - first < MOST_LINES {
        return (from_first < MOST_LINES, from_first >= MOST_LINES);
    }
    let near = number.abs_diff(marked) <= BESIDE;
    (from_first <= BESIDE || near, number > marked.saturating_add(BESIDE))
}

/// The width of the longest line number shown.
fn gutter(first: u32, span: Span, marked: u32) -> usize {
    let head = first.saturating_add(MOST_LINES - 1);
    let last = if marked > head { marked.saturating_add(BESIDE) } else { head };
    last.min(span.last).max(first).to_string().len()
}

fn write_line(shown: &mut String, number: &str, width: usize, text: &str) {
    let line = format!("{number:>width$} | {text}");
    let _ = writeln!(shown, "{}", line.trim_end());
}

/// A line and its carets.
fn marked(line: &str, columns: Option<(u32, u32)>) -> (String, String) {
    let cells = cells(line);
    let (first, last) = match columns {
        Some((first, last)) => {
            let first = (first.max(1) - 1) as usize;
            (first, (last.max(1) as usize - 1).max(first + 1))
        }
        None => {
            let is_text = |cell: &&String| !cell.trim().is_empty();
            let first = cells.iter().take_while(|cell| !is_text(cell)).count();
            let blanks = cells.iter().rev().take_while(|cell| !is_text(cell)).count();
            (first, cells.len().saturating_sub(blanks).max(first + 1))
        }
    };
    // A place behind the end of the line is shown directly behind it.
    let first = first.min(cells.len());
    let last = last.min(cells.len()).max(first + 1);
    let before: usize = cells[..first].iter().map(|cell| width(cell)).sum();
    let inside: usize = cells[first..last.min(cells.len())].iter().map(|cell| width(cell)).sum();
    let (text, shift) = window(&cells, before..before + inside.max(1));
    let start = (before + CUT.len() * usize::from(shift > 0)).saturating_sub(shift);
    let room = (WIDTH + 2 * CUT.len()).saturating_sub(start);
    (text, format!("{}{}", " ".repeat(start), "^".repeat(inside.max(1).min(room.max(1)))))
}

/// Cuts a line to [`WIDTH`] columns around a range of columns, and says how many were cut off its
/// beginning.
fn window(cells: &[String], keep: Range<usize>) -> (String, usize) {
    let total: usize = cells.iter().map(|cell| width(cell)).sum();
    if total <= WIDTH {
        return (cells.concat(), 0);
    }
    // A third of the window shows what stands before the mark.
    let wanted = if keep.end <= WIDTH { 0 } else { keep.start.saturating_sub(WIDTH / 3) };
    let mut text = String::new();
    let mut column = 0;
    let mut shift = 0;
    let mut taken = 0;
    for cell in cells {
        if column < wanted {
            column += width(cell);
            shift = column;
            continue;
        }
        if taken + width(cell) > WIDTH {
            text.push_str(CUT);
            break;
        }
        taken += width(cell);
        text.push_str(cell);
    }
    if shift > 0 {
        text.insert_str(0, CUT);
    }
    (text, shift)
}

/// The printable form of each character of a line. Names and passwords in URLs are covered, as many
/// characters as there are, so that marks stay where they belong.
fn cells(line: &str) -> Vec<String> {
    let mut cells = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        cells.extend(before.chars().map(cell));
        let secret = userinfo(after);
        cells.extend(after[..secret].chars().map(|_| "*".to_owned()));
        rest = &after[secret..];
    }
    cells.extend(rest.chars().map(cell));
    cells
}

fn escape(text: &str) -> String {
    text.chars().map(cell).collect()
}

fn cell(character: char) -> String {
    match character {
        '\t' => "    ".to_owned(),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c if c.is_control() || is_format(c) => format!("\\u{{{:x}}}", u32::from(c)),
        c => c.to_string(),
    }
}

/// Characters that change how others are shown: directions, joiners, line separators, tags.
fn is_format(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// The columns that a cell takes on a terminal.
fn width(cell: &str) -> usize {
    cell.chars().map(|c| if is_wide(c) { 2 } else { 1 }).sum()
}

/// Characters that take two columns: those of East Asian scripts, their full forms, and pictures
/// (UAX #11, the blocks that are wide as a whole).
fn is_wide(character: char) -> bool {
    matches!(
        character,
        '\u{1100}'..='\u{115f}'
            | '\u{2e80}'..='\u{303e}'
            | '\u{3041}'..='\u{33ff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{a4cf}'
            | '\u{a960}'..='\u{a97c}'
            | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}'
            | '\u{fe30}'..='\u{fe6b}'
            | '\u{ff01}'..='\u{ff60}'
            | '\u{ffe0}'..='\u{ffe6}'
            | '\u{1f300}'..='\u{1f64f}'
            | '\u{1f680}'..='\u{1f6ff}'
            | '\u{1f900}'..='\u{1f9ff}'
            | '\u{20000}'..='\u{3fffd}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u32, last: u32) -> Span {
        Span { first, last }
    }

    fn mark(line: u32, first: u32, end: u32) -> Option<Mark> {
        Some(Mark { line, columns: (first, end) })
    }

    #[test]
    fn passwords_are_covered() {
        let source = "ADD http://me:hunter2@h/a https://h/@b ssh://git@h:x@y /d";
        let shown = excerpt(source, span(1, 1), mark(1, 56, 58));
        assert!(shown.contains("ADD http://**********@h/a https://h/@b ssh://*******@y /d\n"), "{shown}");
        assert!(shown.lines().last().is_some_and(|carets| carets.ends_with(&format!("| {:55}^^", ""))));
    }

    #[test]
    fn a_whole_message() {
        let shown = render(
            "error",
            "unknown instruction: FORM (did you mean FROM?)",
            "Dockerfile",
            "# a\n\nFORM busybox\nRUN x\n",
            span(3, 3),
            mark(3, 1, 5),
        );
        let want = "error: unknown instruction: FORM (did you mean FROM?)\n --> Dockerfile:3:1\n  |\n3 | FORM busybox\n  | ^^^^\n";
        assert_eq!(shown, want);
        let shown = render("warning", "m", "D", "\n\n\n\n\n\n\n\n\n  RUN a \\\n  b\n", span(10, 11), None);
        assert_eq!(shown, "warning: m\n  --> D:10:3\n   |\n10 |   RUN a \\\n   |   ^^^^^^^\n11 |   b\n");
    }

    #[test]
    fn hostile_text_is_escaped_and_the_mark_stays_in_place() {
        let shown = excerpt("RUN\t\u{1b}[2J \u{202e}x\n", span(1, 1), mark(1, 11, 12));
        assert_eq!(shown, format!("  |\n1 | RUN    \\x1b[2J \\u{{202e}}x\n  | {}^\n", " ".repeat(23)));
        assert!(!render("error", "a\u{1b}b", "f\u{7}", "x", span(1, 1), None).contains(['\u{1b}', '\u{7}']));
    }

    #[test]
    fn long_lines_are_cut_around_the_mark() {
        let source = format!("RUN {} --bad {}\n", "a".repeat(500), "b".repeat(500));
        let shown = excerpt(&source, span(1, 1), mark(1, 506, 511));
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.iter().all(|line| line.len() < 115), "{shown}");
        let at = lines[2].find('^').unwrap();
        assert_eq!(&lines[1][at..at + 5], "--bad");
        assert_eq!(lines[2].trim_start_matches([' ', '|']), "^^^^^");
        let whole = excerpt(&source, span(1, 1), None);
        assert!(whole.lines().all(|line| line.len() < 115), "{whole}");
    }

    #[test]
    fn long_spans_and_places_outside() {
        let source = "x\n".repeat(30);
        let shown = excerpt(&source, span(2, 20), None);
        assert_eq!(shown.lines().count(), 1 + 8 + 1 + 1);
        assert!(shown.ends_with("9 | x\n...\n"));
        assert_eq!(excerpt("a\n", span(5, 6), mark(5, 1, 2)), "");
        assert_eq!(excerpt("a\n", span(1, 1), mark(1, 9, 12)), "  |\n1 | a\n  |  ^\n");
        assert_eq!(excerpt("", span(0, 0), mark(0, 0, 0)), "");
        assert_eq!(excerpt("\u{feff}ab\n", span(1, 1), mark(1, 2, 3)), "  |\n1 | ab\n  |  ^\n");
    }

    #[test]
    fn marks_below_the_first_line() {
        let source = "RUN a \\\n  --bad \\\n  c\n";
        let shown = excerpt(source, span(1, 3), mark(2, 3, 8));
        assert_eq!(shown, "  |\n1 | RUN a \\\n2 |   --bad \\\n  |   ^^^^^\n3 |   c\n");
        let shown = render("error", "m", "D", source, span(1, 3), mark(2, 3, 8));
        assert!(shown.starts_with("error: m\n --> D:2:3\n  |\n1 |"), "{shown}");
        // A mark outside the span counts as none.
        assert_eq!(excerpt(source, span(1, 2), mark(3, 1, 2)), excerpt(source, span(1, 2), None));

        let long: String = (1..=200).map(|n| format!("l{n}\n")).collect();
        let shown = excerpt(&long, span(2, 190), mark(100, 1, 3));
        let want = "    |\n  2 | l2\n  3 | l3\n  4 | l4\n... \n 98 | l98\n 99 | l99\n100 | l100\n    | ^^\n101 | l101\n102 | l102\n...\n";
        assert_eq!(shown, want.replace("... \n", "...\n"));
        let shown = excerpt(&long, span(2, 12), mark(12, 1, 3));
        let want = "   |\n 2 | l2\n 3 | l3\n 4 | l4\n...\n10 | l10\n11 | l11\n12 | l12\n   | ^^\n";
        assert_eq!(shown, want);
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let shown = render("error", "m", "D", "ENV 名=前 x\n", span(1, 1), mark(1, 7, 8));
        assert_eq!(shown, "error: m\n --> D:1:7\n  |\n1 | ENV 名=前 x\n  |        ^^\n");
        let shown = excerpt("ENV é名 x\n", span(1, 1), mark(1, 8, 9));
        assert_eq!(shown, "  |\n1 | ENV é名 x\n  |         ^\n");
    }
}
