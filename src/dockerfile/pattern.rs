//! Wildcard patterns, over slash-separated paths and over single names.
//!
//! Owns: [`Pattern`], used by `.dockerignore`, `--exclude` and `--parents`, and
//! [`Glob`], used for one component of a COPY or ADD source.
//!
//! Refuses: an open `[`, an empty class, a `\` at the end, a backward range.
//!
//! Invariants:
//! - Nothing is exponential: the work is bounded by pattern length x path length.
//! - Paths are bytes. `?` and `[ ]` take one UTF-8 character where there is one,
//!   else one byte.
//!
//! Sources: BuildKit's Dockerfile reference. Where Docker's own
//! translation to a regular expression strays from the documented rules (`\d`,
//! `^`, `[*]`, and a line break below `**`), the documented rule holds here:
//! `\` and `[ ]` make characters literal, and `**` crosses any name. A class may
//! match `/`, as there.

mod tokens;

use tokens::Token;

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern {pattern:?}: {fault}")]
pub struct PatternError {
    pattern: String,
    fault: &'static str,
}

/// A pattern over whole paths, anchored at both ends: `*`, `?`, `[a-z]`,
/// `[^a]`, `\`, and `**` for any number of components.
#[derive(Debug, Clone)]
pub struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Reads a pattern as it stands; nothing is trimmed or cleaned.
    ///
    /// # Errors
    ///
    /// Malformed classes and a final `\`.
    pub fn compile(pattern: &str) -> Result<Self, PatternError> {
        Self::compile_bytes(pattern.as_bytes())
    }

    /// As [`Pattern::compile`], for a pattern that may not be UTF-8.
    pub(super) fn compile_bytes(pattern: &[u8]) -> Result<Self, PatternError> {
        let tokens = tokens::read(pattern, true).map_err(|fault| error(pattern, fault))?;
        Ok(Self { tokens })
    }

    /// Whether the whole of `path` (relative, clean) matches. A match of a
    /// parent directory does not count.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        tokens::matches(&self.tokens, path)
    }

    /// Whether something below the directory `dir` (empty: the root) could
    /// match. Never false when something does.
    #[must_use]
    pub fn may_match_below(&self, dir: &[u8]) -> bool {
        if dir.is_empty() {
            return !self.tokens.is_empty();
        }
        tokens::may_match_longer(&self.tokens, &[dir, b"/"].concat())
    }

    /// The path, when it is the only one that matches.
    pub(super) fn exact(&self) -> Option<&[u8]> {
        match self.tokens.as_slice() {
            [Token::Literal(bytes)] => Some(bytes),
            _ => None,
        }
    }

    /// What every match begins with; may be empty.
    pub(super) fn head(&self) -> &[u8] {
        match self.tokens.first() {
            Some(Token::Literal(bytes)) => bytes,
            _ => &[],
        }
    }

    /// What every match ends with; may be empty.
    pub(super) fn tail(&self) -> &[u8] {
        match self.tokens.last() {
            Some(Token::Literal(bytes)) => bytes,
            _ => &[],
        }
    }

    /// The longest text that every match contains somewhere; may be empty.
    pub(super) fn core(&self) -> &[u8] {
        let literals = self.tokens.iter().map(|token| match token {
            Token::Literal(bytes) => bytes.as_slice(),
            _ => &[],
        });
        literals.max_by_key(|bytes| bytes.len()).unwrap_or_default()
    }
}

/// A pattern over one name: `*`, `?`, `[a-z]`, `[^a]`, `\`. A leading dot is
/// matched like any other character.
#[derive(Debug, Clone)]
pub struct Glob {
    tokens: Vec<Token>,
}

impl Glob {
    /// Reads the pattern of one component, which has no `/`.
    ///
    /// # Errors
    ///
    /// Malformed classes and a final `\`.
    pub fn compile(component: &str) -> Result<Self, PatternError> {
        let bytes = component.as_bytes();
        let tokens = tokens::read(bytes, false).map_err(|fault| error(bytes, fault))?;
        Ok(Self { tokens })
    }

    /// Whether the whole of `name` matches.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        tokens::matches(&self.tokens, name)
    }

    /// The name without its escapes, when the pattern has no wildcard.
    #[must_use]
    pub fn is_literal(&self) -> Option<String> {
        match self.tokens.as_slice() {
            [] => Some(String::new()),
            [Token::Literal(bytes)] => String::from_utf8(bytes.clone()).ok(),
            _ => None,
        }
    }
}

fn error(pattern: &[u8], fault: &'static str) -> PatternError {
    let pattern = String::from_utf8_lossy(pattern).into_owned();
    PatternError { pattern, fault }
}

#[cfg(test)]
mod tests;
