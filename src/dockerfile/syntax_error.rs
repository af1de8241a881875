//! Why a Dockerfile could not be parsed, and where.

use std::fmt;
use std::ops::Range;

use super::lines::Logical;

/// The first fault of a Dockerfile.
///
/// `Display` gives `dockerfile parse error on line N: message (did you mean X?)`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SyntaxError {
    /// What is wrong, without the line and the suggestion.
    pub message: String,
    /// The line, counted from 1.
    pub line: u32,
    /// The characters of that line which are at fault, counted from 1, the end excluded.
    pub columns: Option<(u32, u32)>,
    /// The word that was probably meant.
    pub suggestion: Option<String>,
}

impl SyntaxError {
    /// A fault of a whole line.
    pub(super) fn on_line(line: u32, message: impl Into<String>) -> Self {
        Self { message: message.into(), line, columns: None, suggestion: None }
    }

    /// The message with the suggestion, without the line: for use above an excerpt.
    pub fn full_message(&self) -> String {
        match &self.suggestion {
            Some(word) => format!("{} (did you mean {word}?)", self.message),
            None => self.message.clone(),
        }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dockerfile parse error on line {}: {}", self.line, self.full_message())
    }
}

/// Words of the Dockerfile may be as long as its lines; no message is.
const LONGEST_MESSAGE: usize = 500;

/// A fault inside one instruction, before its place in the file is looked up.
#[derive(Debug)]
pub(super) struct Fault {
    message: String,
    suggestion: Option<String>,
    range: Option<Range<usize>>,
}

impl Fault {
    /// A fault of the whole instruction.
    pub(super) fn new(message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((cut, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
            message.truncate(cut);
            message.push('…');
        }
        Self { message, suggestion: None, range: None }
    }

    /// Narrows the fault to a byte range of the instruction's joined text.
    pub(super) fn at(self, range: Range<usize>) -> Self {
        Self { range: Some(range), ..self }
    }

    /// Adds the word that was probably meant.
    pub(super) fn suggest(self, suggestion: Option<String>) -> Self {
        Self { suggestion, ..self }
    }

    /// Finds the fault's line and columns.
    pub(super) fn locate(self, logical: &Logical<'_>) -> SyntaxError {
        let (line, columns) = match self.range {
            Some(range) => {
                let (line, columns) = logical.locate(range);
                (line, Some(columns))
            }
            None => (logical.span.first, None),
        };
        SyntaxError { message: self.message, line, columns, suggestion: self.suggestion }
    }
}

#[cfg(test)]
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = SyntaxError::on_line(0, self.message.clone());
        let error = SyntaxError { suggestion: self.suggestion.clone(), ..error };
        f.write_str(&error.full_message())
    }
}
