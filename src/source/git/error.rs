//! Why a git repository cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use super::cause::Cause;
use crate::layer::LayerError;

/// A failed use of a git repository. Addresses are without credentials, texts of git and of servers
/// are cut and escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// There is no program `git`.
    #[error("the program `git` was not found in PATH")]
    NotInstalled,
    /// `git` failed.
    #[error("failed to {action} {remote}: {detail}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// Which repository.
        remote: String,
        /// The last lines that git wrote.
        detail: String,
        /// Why, as far as that can be told.
        cause: Cause,
    },
    /// A reference or commit that the repository does not have.
    #[error("repository {remote} does not contain ref {reference:?}{}", .nearest.as_ref().map(|name| format!(" (did you mean {name:?}?)")).unwrap_or_default())]
    NoSuchRef {
        /// Which repository.
        remote: String,
        /// What was asked for.
        reference: String,
        /// The nearest branch or tag.
        nearest: Option<String>,
    },
    /// A repository without any commit.
    #[error("repository {remote} is empty")]
    Empty {
        /// Which repository.
        remote: String,
    },
    /// Another commit than the one that is wanted.
    #[error("expected checksum to match {expected}, got {found}")]
    Checksum {
        /// The wanted commit or its beginning.
        expected: String,
        /// The commit that the reference means.
        found: String,
    },
    /// A directory that is none.
    #[error("{subdir:?} in {remote} cannot be used as directory: {reason}")]
    Subdir {
        /// The directory.
        subdir: String,
        /// Which repository.
        remote: String,
        /// What it is.
        reason: &'static str,
    },
    /// Options that exclude each other, or a secret that is none.
    #[error("{0}")]
    Invalid(String),
    /// Something in a repository that no honest one has.
    #[error("repository {remote} is refused: {what}: {reason}")]
    Refused {
        /// Which repository.
        remote: String,
        /// What is in it, escaped.
        what: String,
        /// Why it is refused.
        reason: String,
    },
    /// It takes too long.
    #[error("failed to {action} {remote}: it took longer than {seconds} seconds")]
    TimedOut {
        /// What was tried.
        action: &'static str,
        /// Which repository.
        remote: String,
        /// The limit.
        seconds: u64,
    },
    /// More than an honest repository holds.
    #[error("{remote} exceeds the limit of {limit} {what}")]
    Limit {
        /// Which repository.
        remote: String,
        /// What was counted.
        what: &'static str,
        /// The largest accepted count.
        limit: u64,
    },
    /// The build is being stopped.
    #[error("the build was stopped")]
    Cancelled,
    /// A file of our own that cannot be read or written.
    #[error("failed to {action} `{path}`: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A name that no image can hold.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

impl GitError {
    pub(super) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    /// The error of a stream that ended early: what stopped it, or the system's answer.
    pub(super) fn stream(action: &'static str, path: &Path, error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::io(action, path, error),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotInstalled => Some("install git, e.g. `apt-get install git`"),
            Self::Failed { cause, .. } => cause.hint(),
            Self::Subdir { .. } => Some("name a directory of the commit itself; links are not followed"),
            Self::Layer(_) => Some("rename the file in the repository"),
            Self::TimedOut { .. } => Some("is the server reachable, and the repository that large?"),
            _ => None,
        }
    }

    /// Whether the address or an option has to be changed, rather than the world.
    pub fn is_invalid(&self) -> bool {
        matches!(
            self,
            Self::NotInstalled
                | Self::NoSuchRef { .. }
                | Self::Empty { .. }
                | Self::Subdir { .. }
                | Self::Invalid(_)
                | Self::Checksum { .. }
                | Self::Refused { .. }
                | Self::Limit { .. }
                | Self::Layer(_)
                | Self::Failed { cause: Cause::Unprepared(_), .. }
        )
    }

    /// Whether the server wants other credentials.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Failed { cause: Cause::Denied(_), .. })
    }

    /// Whether the server has no such repository.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Failed { cause: Cause::Missing, .. })
    }

    /// Whether the build was stopped from outside.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }
}

/// Untrusted bytes as one short printable line.
pub(super) fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    for letter in text.chars().take(LONGEST) {
        let turns =
            matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if letter.is_control() || turns {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}
