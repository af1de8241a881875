//! Shows the place of a fault: the source's lines with a mark under what is wrong.
//!
//! The text is hostile: control and formatting characters are escaped, so that nothing in a
//! Dockerfile reaches a terminal as a command.

use std::fmt::Write as _;

use super::ast::Span;

/// The most lines shown of one span.
const MOST_LINES: u32 = 8;

/// The most columns of one line, without the line number.
const WIDTH: usize = 100;

/// What stands for the part of a line that is cut away.
const CUT: &str = "...";

/// The lines of `span` with their numbers, and carets under `columns` of its first line.
///
/// Columns are counted in characters from 1, the end excluded; without them the carets mark the
/// first line from its first to its last non-blank character. Every line ends with a newline. A
/// span outside the source gives an empty text.
pub fn excerpt(source: &str, span: Span, columns: Option<(u32, u32)>) -> String {
    let mut shown = String::new();
    let width = gutter(span);
    let first = span.first.max(1);
    let lines = source.trim_start_matches('\u{feff}').lines().zip(1u32..);
    let mut lines =
        lines.skip_while(|(_, number)| *number < first).take_while(|(_, number)| *number <= span.last);
    for (line, number) in lines.by_ref().take(MOST_LINES as usize) {
        if number == first {
            let (text, mark) = marked(line, columns);
            write_line(&mut shown, "", width, "");
            write_line(&mut shown, &number.to_string(), width, &text);
            write_line(&mut shown, "", width, &mark);
        } else {
            let (text, _) = window(&cells(line), 0..0);
            write_line(&mut shown, &number.to_string(), width, &text);
        }
    }
    if lines.next().is_some() {
        let _ = writeln!(shown, "{CUT:<width$}");
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
    columns: Option<(u32, u32)>,
) -> String {
    let column = match columns {
        Some((first, _)) => first,
        None => {
            let line =
                source.trim_start_matches('\u{feff}').lines().nth(span.first.saturating_sub(1) as usize);
            let blanks = line.map_or(0, |line| line.chars().take_while(|c| c.is_whitespace()).count());
            u32::try_from(blanks).unwrap_or(u32::MAX).saturating_add(1)
        }
    };
    let width = gutter(span);
    let mut text = String::new();
    let lines: Vec<String> = message.lines().map(escape).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{severity}: {}", lines.join("\n"));
    let _ = writeln!(text, "{:width$}--> {}:{}:{column}", "", escape(file), span.first);
    text.push_str(&excerpt(source, span, columns));
    text
}

/// The width of the longest line number shown.
fn gutter(span: Span) -> usize {
    let last = span.last.min(span.first.saturating_add(MOST_LINES - 1)).max(span.first);
    last.to_string().len()
}

fn write_line(shown: &mut String, number: &str, width: usize, text: &str) {
    let line = format!("{number:>width$} | {text}");
    let _ = writeln!(shown, "{}", line.trim_end());
}

/// The first line and its carets.
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
fn window(cells: &[String], keep: std::ops::Range<usize>) -> (String, usize) {
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

/// The printable form of each character of a line.
fn cells(line: &str) -> Vec<String> {
    line.chars().map(cell).collect()
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

fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u32, last: u32) -> Span {
        Span { first, last }
    }

    #[test]
    fn a_whole_message() {
        let shown = render(
            "error",
            "unknown instruction: FORM (did you mean FROM?)",
            "Dockerfile",
            "# a\n\nFORM busybox\nRUN x\n",
            span(3, 3),
            Some((1, 5)),
        );
        let want = "error: unknown instruction: FORM (did you mean FROM?)\n --> Dockerfile:3:1\n  |\n3 | FORM busybox\n  | ^^^^\n";
        assert_eq!(shown, want);
        let shown = render("warning", "m", "D", "\n\n\n\n\n\n\n\n\n  RUN a \\\n  b\n", span(10, 11), None);
        assert_eq!(shown, "warning: m\n  --> D:10:3\n   |\n10 |   RUN a \\\n   |   ^^^^^^^\n11 |   b\n");
    }

    #[test]
    fn hostile_text_is_escaped_and_the_mark_stays_in_place() {
        let shown = excerpt("RUN\t\u{1b}[2J \u{202e}x\n", span(1, 1), Some((11, 12)));
        assert_eq!(shown, format!("  |\n1 | RUN    \\x1b[2J \\u{{202e}}x\n  | {}^\n", " ".repeat(23)));
        assert!(!render("error", "a\u{1b}b", "f\u{7}", "x", span(1, 1), None).contains(['\u{1b}', '\u{7}']));
    }

    #[test]
    fn long_lines_are_cut_around_the_mark() {
        let source = format!("RUN {} --bad {}\n", "a".repeat(500), "b".repeat(500));
        let shown = excerpt(&source, span(1, 1), Some((506, 511)));
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
        assert_eq!(excerpt("a\n", span(5, 6), Some((1, 2))), "");
        assert_eq!(excerpt("a\n", span(1, 1), Some((9, 12))), "  |\n1 | a\n  |  ^\n");
        assert_eq!(excerpt("", span(0, 0), Some((0, 0))), "");
        assert_eq!(excerpt("\u{feff}ab\n", span(1, 1), Some((2, 3))), "  |\n1 | ab\n  |  ^\n");
    }
}
