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
        /// What else people should know.
        hint: Option<String>,
    },
    /// A path that leads to a socket.
    #[error("\"/{path}\" is a socket, which no image can hold")]
    Socket {
        /// The path, relative to the source's root.
        path: String,
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
    /// A file that is read as a whole and is none, or is too large for that.
    #[error("`{path}` of the build context {reason}")]
    Unreadable {
        /// The path, relative to the context.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An archive that cannot be used as context.
    #[error("the archive cannot be used: {}", cause(.0))]
    Archive(LayerError),
    /// Input that is neither a usable archive nor a Dockerfile.
    #[error("this is no tar archive, and {0}")]
    NotAnArchive(String),
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

    /// What people should know beside the error itself.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { ignored_by: Some(rule), .. } => Some(format!("it is ignored by {rule}")),
            Self::NotFound { hint, .. } => hint.clone(),
            _ => None,
        }
    }

    /// Whether the disk is full, so that the same command may work later.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Archive(error) | Self::Layer(error) => error.is_disk_full(),
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// What is wrong with an archive, the reason in front where a stream broke off.
fn cause(error: &LayerError) -> String {
    match error {
        LayerError::Stream(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            format!("it is cut off ({source})")
        }
        LayerError::Stream(source) => source.to_string(),
        other => other.to_string(),
    }
}
