//! Why a result could not be handed over.

use std::io;
use std::path::{Path, PathBuf};

use crate::engine::EngineError;
use crate::image::Digest;
use crate::layer::LayerError;
use crate::registry::RegistryError;

/// A failed output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// A destination that cannot be written.
    #[error("failed to {action} `{path}`")]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The format cannot hold this result.
    #[error("{message}")]
    Unsuitable {
        /// What does not fit.
        message: String,
        /// What to use instead.
        hint: String,
    },
    /// A blob of the store is not what its digest says.
    #[error("the layer {digest} of the store is damaged: {reason}")]
    Damaged {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// A failure after bytes have gone where they cannot be taken back from, such as a pipe: the outputs
    /// cannot be written once more.
    #[error(transparent)]
    AfterStream(Box<Self>),
    /// The registry did not take it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A layer could not be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store could not give a layer's content.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl OutputError {
    /// Adds what was tried, and where, to an error of the system.
    pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    pub(super) fn damaged(digest: &Digest, reason: String) -> Self {
        Self::Damaged { digest: *digest, reason }
    }

    /// Whether the disk is full, so that the same command may work later.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::File { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Layer(error) => error.is_disk_full(),
            Self::Engine(error) => error.is_disk_full(),
            Self::AfterStream(error) => error.is_disk_full(),
            Self::Registry(_) | Self::Unsuitable { .. } | Self::Damaged { .. } => false,
        }
    }
}
