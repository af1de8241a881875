//! Why a cache cannot be read or written.

use std::io;
use std::path::{Path, PathBuf};

use crate::image::Digest;
use crate::registry::{ErrorKind, RegistryError};
use crate::source::SourceError;
use crate::store::StoreError;

/// A cache that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The registry refused, or could not be reached.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A layout that cannot be read.
    #[error(transparent)]
    Layout(#[from] SourceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of a layout that cannot be written.
    #[error("failed to {action} `{path}`: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer from `{place}` within {seconds} s")]
    Late {
        /// What was asked.
        place: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The directory holds something else, or its index is damaged.
    #[error("`{path}` is not the index of an OCI layout: {reason}")]
    NoIndex {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A result that cannot be written as a record.
    #[error("the result of `{step}` cannot be written: {reason}")]
    Unwritable {
        /// The instruction.
        step: String,
        /// Why.
        reason: String,
    },
    /// A layer that is neither in the store nor anywhere else.
    #[error("the layer {0} is not in the store any more")]
    Missing(Digest),
    /// A layer in the store that is not what it was.
    #[error("the layer {0} in the store is damaged; it was dropped")]
    Damaged(Digest),
}

impl CacheError {
    /// Adds what was tried, and where, to an error of the system.
    pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    /// Whether it concerns one record or blob, so that others of the same cache may be good.
    pub(super) fn is_of_one_record(&self) -> bool {
        match self {
            Self::Registry(error) => matches!(error.kind(), ErrorKind::Protocol | ErrorKind::NotFound),
            Self::Layout(_) | Self::Unwritable { .. } | Self::Missing(_) | Self::Damaged(_) => true,
            _ => false,
        }
    }

    /// Whether the same command may work later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Registry(error) => error.kind() == ErrorKind::Retryable,
            Self::Late { .. } => true,
            _ => self.is_disk_full(),
        }
    }

    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::File { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Store(error) => error.is_disk_full(),
            _ => false,
        }
    }

    /// What the user can do about it, in one line.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::NoIndex { .. } => Some("name another folder, or remove this one".to_owned()),
            Self::Missing(_) | Self::Damaged(_) => {
                Some("build again: the step is carried out anew".to_owned())
            }
            _ => None,
        }
    }
}
