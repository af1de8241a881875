//! The lexical layer: physical lines, comments, continuations, heredoc bodies.
//!
//! Invariants: a [`Logical`] line is never blank and never a comment; line numbers count every
//! physical line; the work is linear in the size of the text.

use std::ops::Range;

use super::ast::{Heredoc, Span};
use super::directives::DirectiveState;
use super::syntax_error::SyntaxError;

/// The most bytes of one physical line, its newline not counted.
const LONGEST_LINE: usize = 65_535;

/// What stands between blanks where a Dockerfile separates words.
pub(super) const BLANKS: [char; 5] = [' ', '\t', '\u{b}', '\u{c}', '\r'];

/// One instruction: its physical lines joined, the comments between them dropped.
#[derive(Debug)]
pub(super) struct Logical<'a> {
    /// The joined text, its line ends and continuations cut.
    pub(super) text: String,
    /// The same as one readable line, the blanks around the joints collapsed.
    pub(super) display: String,
    /// The lines of the instruction, without those of its heredocs.
    pub(super) span: Span,
    /// The comments directly above, without `#` and trimmed.
    pub(super) comments: Vec<&'a str>,
    /// Whether a blank line stood inside the instruction.
    pub(super) empty_continuation: bool,
    pieces: Vec<Piece>,
}

/// Where a part of the joined text comes from.
#[derive(Debug)]
struct Piece {
    offset: usize,
    line: u32,
    /// The characters that were cut from the line's beginning.
    cut: u32,
}

impl Logical<'_> {
    /// The line and the columns (counted from 1, the end excluded) of a range of the text. A range
    /// over several lines is cut to the first of them.
    pub(super) fn locate(&self, range: Range<usize>) -> (u32, (u32, u32)) {
        let after = self.pieces.partition_point(|piece| piece.offset <= range.start);
        let Some(piece) = self.pieces.get(after.saturating_sub(1)) else {
            return (self.span.first, (1, 2));
        };
        let end = self.pieces.get(after).map_or(range.end, |next| next.offset.min(range.end));
        let count = |range: Range<usize>| -> u32 {
            let characters = self.text.get(range).map_or(0, |text| text.chars().count());
            u32::try_from(characters).unwrap_or(u32::MAX)
        };
        let first = piece.cut.saturating_add(count(piece.offset..range.start)).saturating_add(1);
        (piece.line, (first, first.saturating_add(count(range.start..end).max(1))))
    }
}

/// Splits a text into logical lines, and reads heredoc bodies between them.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a [u8],
    number: u32,
    limit: usize,
    pub(super) directives: DirectiveState,
}

/// One physical line.
#[derive(Debug)]
struct Line<'a> {
    number: u32,
    /// With its line end.
    raw: &'a str,
}

impl<'a> Line<'a> {
    fn text(&self) -> &'a str {
        self.raw.trim_end_matches(['\r', '\n'])
    }
}

impl<'a> Lexer<'a> {
    /// Reads a Dockerfile.
    pub(super) fn new(text: &'a [u8]) -> Self {
        let rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        Self { rest, number: 0, limit: LONGEST_LINE, directives: DirectiveState::default() }
    }

    /// Reads a trigger: joined text, so of any length, in which no directive is looked for.
    pub(super) fn trigger(text: &'a str, escape: char) -> Self {
        let directives = DirectiveState::finished(escape);
        Self { rest: text.as_bytes(), number: 0, limit: usize::MAX, directives }
    }

    /// The number of lines read.
    pub(super) fn line_number(&self) -> u32 {
        self.number
    }

    /// Reads the next instruction.
    pub(super) fn next(&mut self) -> Result<Option<Logical<'a>>, SyntaxError> {
        let mut comments = Vec::new();
        while let Some(line) = self.line()? {
            let text = line.text().trim_start();
            let is_directive = self.directives.take(text, line.number)?;
            if let Some(comment) = text.strip_prefix('#') {
                match comment.trim() {
                    "" => comments.clear(),
                    _ if is_directive => comments.clear(),
                    comment => comments.push(comment),
                }
                continue;
            }
            if text.is_empty() {
                comments.clear();
                continue;
            }
            let logical = self.join(&line, std::mem::take(&mut comments))?;
            if !logical.text.trim().is_empty() {
                return Ok(Some(logical));
            }
        }
        Ok(None)
    }

    /// Joins a line with those that continue it.
    fn join(&mut self, first: &Line<'a>, comments: Vec<&'a str>) -> Result<Logical<'a>, SyntaxError> {
        let escape = self.directives.escape;
        let whole = first.text();
        let text = whole.trim_start();
        let cut = whole[..whole.len() - text.len()].chars().count();
        let span = Span { first: first.number, last: first.number };
        let mut logical = Logical {
            text: String::new(),
            display: String::new(),
            span,
            comments,
            empty_continuation: false,
            pieces: Vec::new(),
        };
        let cut = u32::try_from(cut).unwrap_or(u32::MAX);
        let mut open = push(&mut logical, text, first.number, cut, escape);
        while open && let Some(line) = self.line()? {
            logical.span.last = line.number;
            let text = line.text();
            let content = text.trim_start();
            if content.starts_with('#') {
                continue;
            }
            if content.is_empty() {
                logical.empty_continuation = true;
                continue;
            }
            open = push(&mut logical, text, line.number, 0, escape);
        }
        logical.display.truncate(logical.display.trim_end().len());
        Ok(logical)
    }

    /// Reads the bodies of an instruction's heredocs, in order, and gives back the last line.
    pub(super) fn bodies<'h>(
        &mut self,
        heredocs: impl Iterator<Item = &'h mut Heredoc>,
        span: Span,
    ) -> Result<Span, SyntaxError> {
        let mut last = span.last;
        for heredoc in heredocs {
            loop {
                let Some(line) = self.body_line()? else {
                    return Err(SyntaxError::on_line(span.first, "unterminated heredoc"));
                };
                last = line.number;
                let end = match heredoc.strip_tabs {
                    true => line.raw.trim_start_matches('\t'),
                    false => line.raw,
                };
                if end.trim_end_matches(['\r', '\n']) == heredoc.name {
                    break;
                }
                heredoc.body.push_str(line.raw);
            }
        }
        Ok(Span { last, ..span })
    }

    /// The next line outside heredocs. A comment may hold any bytes, since nobody reads it.
    fn line(&mut self) -> Result<Option<Line<'a>>, SyntaxError> {
        let Some((number, bytes)) = self.bytes()? else {
            return Ok(None);
        };
        match check(number, bytes) {
            Err(_) if bytes.trim_ascii_start().starts_with(b"#") => Ok(Some(Line { number, raw: "#" })),
            checked => checked.map(Some),
        }
    }

    fn body_line(&mut self) -> Result<Option<Line<'a>>, SyntaxError> {
        match self.bytes()? {
            Some((number, bytes)) => check(number, bytes).map(Some),
            None => Ok(None),
        }
    }

    fn bytes(&mut self) -> Result<Option<(u32, &'a [u8])>, SyntaxError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let newline = self.rest.iter().position(|&byte| byte == b'\n');
        let content = newline.unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at(newline.map_or(content, |at| at + 1));
        self.rest = rest;
        self.number = self.number.saturating_add(1);
        if content > self.limit {
            let message = format!("dockerfile line greater than max allowed size of {LONGEST_LINE}");
            return Err(SyntaxError::on_line(self.number, message));
        }
        Ok(Some((self.number, line)))
    }
}

/// Holds a line to what a Dockerfile may consist of.
fn check(number: u32, bytes: &[u8]) -> Result<Line<'_>, SyntaxError> {
    if bytes.contains(&0) {
        return Err(SyntaxError::on_line(number, "the line contains a NUL byte"));
    }
    match std::str::from_utf8(bytes) {
        Ok(raw) => Ok(Line { number, raw }),
        Err(error) => {
            let at = error.valid_up_to() + 1;
            Err(SyntaxError::on_line(number, format!("the line is not valid UTF-8 from byte {at} on")))
        }
    }
}

/// Appends a physical line to a logical one; true if another line continues it.
fn push(logical: &mut Logical<'_>, text: &str, line: u32, cut: u32, escape: char) -> bool {
    let (text, open) = match continued(text, escape) {
        Some(text) => (text, true),
        None => (text, false),
    };
    if text.is_empty() {
        return open;
    }
    logical.pieces.push(Piece { offset: logical.text.len(), line, cut });
    logical.text.push_str(text);
    let words = text.trim_start();
    if words.len() < text.len() || logical.display.ends_with(char::is_whitespace) {
        logical.display.truncate(logical.display.trim_end().len());
        if !logical.display.is_empty() {
            logical.display.push(' ');
        }
    }
    logical.display.push_str(words);
    open
}

/// The line without its continuation mark, if it has one. A doubled escape character is none.
fn continued(line: &str, escape: char) -> Option<&str> {
    let text = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!text.ends_with(escape)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<(String, u32, u32)> {
        let mut lexer = Lexer::new(source.as_bytes());
        let mut found = Vec::new();
        while let Some(line) = lexer.next().unwrap() {
            found.push((line.text, line.span.first, line.span.last));
        }
        found
    }

    #[test]
    fn lines_comments_and_continuations() {
        for (source, want) in [
            ("\u{feff}FROM a\r\n", vec![("FROM a", 1, 1)]),
            ("  \tRUN a  ", vec![("RUN a  ", 1, 1)]),
            ("RUN a\\\n  b", vec![("RUN a  b", 1, 2)]),
            ("RUN a \\ \t\nb", vec![("RUN a b", 1, 2)]),
            ("RUN a\\\r\nb\r\n", vec![("RUN ab", 1, 2)]),
            ("RUN a\\\\\nRUN b", vec![("RUN a\\\\", 1, 1), ("RUN b", 2, 2)]),
            ("RUN a\\\n\\\nb", vec![("RUN ab", 1, 3)]),
            ("RUN a \\\n # c \\\n\n \t\nb # d\nRUN c", vec![("RUN a b # d", 1, 5), ("RUN c", 6, 6)]),
            ("RUN a\\", vec![("RUN a", 1, 1)]),
            ("RUN a\\\n#x", vec![("RUN a", 1, 2)]),
            ("# a \\\nRUN b", vec![("RUN b", 2, 2)]),
            ("\\\n\\\n", vec![]),
            ("\\\n  RUN a", vec![("  RUN a", 1, 2)]),
            ("# escape=`\nRUN a`\nb\\\nRUN c", vec![("RUN ab\\", 2, 3), ("RUN c", 4, 4)]),
            ("\u{a0}# no\n\n", vec![]),
        ] {
            let want: Vec<_> =
                want.iter().map(|&(text, first, last)| (text.to_owned(), first, last)).collect();
            assert_eq!(texts(source), want, "{source:?}");
        }
    }

    #[test]
    fn display_collapses_joints_only() {
        for (source, want) in [
            ("RUN a  b", "RUN a  b"),
            ("RUN a &&  \\\n   b   c \\\n\n  && d  ", "RUN a && b   c && d"),
            ("RUN fo\\\no", "RUN foo"),
            ("\\\n  RUN x", "RUN x"),
        ] {
            let line = Lexer::new(source.as_bytes()).next().unwrap().unwrap();
            assert_eq!(line.display, want, "{source:?}");
            assert_eq!(line.empty_continuation, source.contains("\n\n"));
        }
    }

    #[test]
    fn comments_above_are_kept_until_a_blank_line() {
        let source = "# syntax=docker/dockerfile:1\n# a\n# b\nRUN\n# c\n\n# d\nRUN\n# e\n#\n# f\nRUN";
        let mut lexer = Lexer::new(source.as_bytes());
        for want in [vec!["a", "b"], vec!["d"], vec!["f"]] {
            assert_eq!(lexer.next().unwrap().unwrap().comments, want);
        }
    }

    #[test]
    fn locate_finds_physical_lines() {
        let line = Lexer::new("  RUN é --a \\\n# c\n  --bad=\\\nx".as_bytes()).next().unwrap().unwrap();
        let at = line.text.find("--bad").unwrap();
        assert_eq!(line.locate(at..at + 7), (3, (3, 9)));
        assert_eq!(line.locate(0..3), (1, (3, 6)));
        assert_eq!(line.locate(line.text.len() - 1..line.text.len()), (4, (1, 2)));
        let a = line.text.find("--a").unwrap();
        assert_eq!(line.locate(a..a + 3), (1, (9, 12)));
    }

    #[test]
    fn bytes_that_are_refused() {
        let longest = format!("RUN {}", "x".repeat(LONGEST_LINE - 4));
        assert!(Lexer::new(longest.as_bytes()).next().is_ok());
        assert!(Lexer::new(format!("{longest}\n").as_bytes()).next().is_ok());
        for (source, line, message) in [
            (format!("{longest}x").into_bytes(), 1, "dockerfile line greater than max allowed size of 65535"),
            (b"\n\nRUN \0".to_vec(), 3, "the line contains a NUL byte"),
            (b"\nRUN \xff".to_vec(), 2, "the line is not valid UTF-8 from byte 5 on"),
        ] {
            let error = Lexer::new(&source).next().unwrap_err();
            assert_eq!((error.line, error.message.as_str()), (line, message));
        }
        assert!(Lexer::new(b"# caf\xe9 \0\n").next().unwrap().is_none());
    }
}
