//! Why the build context cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use crate::layer::LayerError;

/// A failed access to the build context, or a copy's word that finds nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file or directory that cannot be read. The path is relative to the context, unless the
    /// context itself is meant.
    #[error("failed to {action} `{path}`: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A path that does not exist.
    #[error("\"/{path}\": not found")]
    NotFound {
        /// The path, relative to the source's root.
        path: String,
        /// Why it may be missing: the rule of `.dockerignore` that hides it.
        ignored_by: Option<String>,
    },
    /// A pattern with a fault in it.
    #[error("`{pattern}` is not a valid pattern: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// An OCI layout that cannot be read, or holds no such image.
    #[error("failed to read the OCI layout `{path}`: {reason}")]
    Layout {
        /// The layout.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A secret that cannot be sent to a web server.
    #[error("the secret `{id}` is not text that an HTTP header can carry: it must be one line")]
    Secret {
        /// Its id.
        id: String,
    },
    /// A path or link of the source that cannot be followed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A git repository that cannot be used.
    #[error(transparent)]
    Git(#[from] super::git::GitError),
}

impl SourceError {
    pub(super) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }
}
