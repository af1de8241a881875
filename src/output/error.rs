//! Why a result could not be handed over.

use std::io;
use std::path::{Path, PathBuf};

use crate::engine::EngineError;
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

    /// Whether something that was read is not what it should be.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Layer(_) => true,
            Self::File { source, .. } => source.kind() == io::ErrorKind::InvalidData,
            Self::Engine(_) | Self::Registry(_) | Self::Unsuitable { .. } => false,
        }
    }

    /// Whether the disk is full, so that the same command may work later.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::File { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Layer(error) => error.is_disk_full(),
            Self::Engine(error) => error.is_disk_full(),
            Self::Registry(_) | Self::Unsuitable { .. } => false,
        }
    }
}
