//! Variables, quotes and escapes in the words of an instruction.
//!
//! Owns: all forms of `$v` and `${v…}`, quote removal, splitting into words.
//!
//! Refuses: open quotes, malformed or unknown substitutions, and (so that no
//! input exhausts the stack or the memory) substitutions nested deeper than
//! 100 or giving more than 64 MiB.
//!
//! Invariant: a value is never expanded again.
//!
//! Sources: BuildKit's Dockerfile reference; POSIX shell, "Parameter Expansion".

mod lexer;
mod shell_pattern;

use lexer::Lexer;

/// How deep `${a:-${b:-…}}` may nest.
const MAX_DEPTH: u32 = 100;

/// How many bytes all substitutions in one text may give together.
const MAX_LENGTH: usize = 64 << 20;

/// A text that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {text:?}: {kind}")]
pub struct ExpandError {
    text: String,
    kind: ExpandErrorKind,
}

impl ExpandError {
    /// What is wrong, without the text around it.
    #[must_use]
    pub const fn kind(&self) -> &ExpandErrorKind {
        &self.kind
    }
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandErrorKind {
    /// `${}`, `${:` or `${{`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${v` without end.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${v/p` without its second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// What follows the name is no known modifier.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// A pattern with an escape that means nothing.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")]
    InvalidEscape {
        /// The pattern.
        pattern: String,
        /// What stands behind the `\`; may be empty.
        escaped: String,
    },
    /// `${v?w}` of a variable that is unset, or (`:?`) empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The text of the instruction, or what is missing.
        message: String,
    },
    /// A quote that is not closed; the name of the quote.
    #[error("unexpected end of statement while looking for matching {0}")]
    OpenQuote(&'static str),
    /// Deeper than fanfold goes.
    #[error("substitutions are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Longer than fanfold goes.
    #[error("substitutions give more than {MAX_LENGTH} bytes")]
    TooLong,
}

/// A text after expansion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The result, without quotes and escapes.
    pub text: String,
    /// Names that were looked up and had no value, each once, in order; also
    /// those with a default (`${v:-w}`).
    pub undefined: Vec<String>,
}

/// Expands `word` to one word. `escape` is the Dockerfile's escape character;
/// `lookup` gives the value of a variable, or `None` if it is unset.
///
/// # Errors
///
/// All of [`ExpandErrorKind`].
pub fn expand(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Expanded, ExpandError> {
    let (text, _, undefined) = Lexer::new(word, escape, true, lookup).run()?;
    Ok(Expanded { text, undefined })
}

/// Expands `word` and splits the result at white space that is neither quoted
/// nor escaped; also gives the names that had no value, each once.
///
/// # Errors
///
/// All of [`ExpandErrorKind`].
pub fn expand_words(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(Vec<String>, Vec<String>), ExpandError> {
    let (_, words, undefined) = Lexer::new(word, escape, true, lookup).run()?;
    Ok((words, undefined))
}

/// Expands the body of a COPY or ADD heredoc: the escape character is `\`, and
/// quotes are text.
///
/// # Errors
///
/// All of [`ExpandErrorKind`] but open quotes.
pub fn expand_heredoc(body: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, ExpandError> {
    let (text, _, undefined) = Lexer::new(body, '\\', false, lookup).run()?;
    Ok(Expanded { text, undefined })
}

#[cfg(test)]
mod tests;
