//! Why a step did not give a layer.

use std::io;

use super::Layer;
use crate::image::{AccountError, DiffId, Digest};
use crate::layer::LayerError;
use crate::sandbox::{OverlayError, RunError};
use crate::source::SourceError;
use crate::store::StoreError;

/// A failed step, or a layer that could not be brought into the form it is needed in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The step itself failed, as its author would see it.
    #[error(transparent)]
    Step(#[from] StepFailure),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer cannot be read or written.
    #[error(transparent)]
    Layer(LayerError),
    /// The build context cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The command's surroundings could not be set up.
    #[error(transparent)]
    Sandbox(#[from] RunError),
    /// The store's file system cannot carry overlays.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A layer of the store, which was right when it came there, is not what its name says.
    #[error("the layer {layer} of the store is damaged: {reason}")]
    Damaged {
        /// Its diff id.
        layer: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer of an image or of a remote cache is not what the image's config or the record says.
    #[error("the layer has the diff id {found}, but {expected} is promised")]
    WrongDiffId {
        /// What is promised.
        expected: DiffId,
        /// What the blob holds.
        found: DiffId,
    },
    /// A layer of an image or of a remote cache cannot be unpacked.
    #[error("the layer cannot be unpacked: {0}")]
    BadLayer(#[source] LayerError),
    /// An archive of the build context cannot be unpacked.
    #[error("the archive `{name}` cannot be unpacked: {reason}")]
    BadArchive {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer of a kind that cannot be unpacked.
    #[error("layers of type `{0}` cannot be unpacked")]
    UnknownLayerType(String),
    /// A layer is in the store in a form that does not serve here.
    #[error("the store has no usable content of a layer that is needed")]
    NoContent,
    /// A command was asked for where the build has no sandbox.
    #[error("this build was planned without commands")]
    NoSandbox,
    /// The build was asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Something else of the system failed.
    #[error("failed to {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// A step that failed for a reason that lies in the Dockerfile, the context or the command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepFailure {
    /// The command ended with another status than 0.
    #[error("process \"{command}\" did not complete successfully: {how}")]
    Command {
        /// The command's words, joined.
        command: String,
        /// `exit code: 7`, or the signal.
        how: String,
        /// Exit code, where it ended by itself.
        code: Option<i32>,
        /// Signal, where one ended it.
        signal: Option<i32>,
    },
    /// The command reached a limit that the build was given.
    #[error("process \"{command}\" did not complete successfully: {how}")]
    Limit {
        /// The command's words, joined.
        command: String,
        /// Which limit, and how it ended.
        how: String,
        /// What to do.
        hint: String,
    },
    /// A user or group that the image does not have.
    #[error("{what}: {source}")]
    Account {
        /// The flag or instruction.
        what: String,
        /// What is wrong.
        source: AccountError,
    },
    /// A copy or working directory that cannot be made.
    #[error("{message}")]
    Refused {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl StepFailure {
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: None }
    }

    pub(super) fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Refused { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }
}

impl From<LayerError> for EngineError {
    fn from(error: LayerError) -> Self {
        match error {
            LayerError::Halted => Self::Cancelled,
            other => Self::Layer(other),
        }
    }
}

impl EngineError {
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    pub(super) fn damaged(layer: &Layer, reason: impl ToString) -> Self {
        Self::Damaged { layer: *layer.id.digest(), reason: reason.to_string() }
    }

    /// What is wrong with a layer of the store, where it came from nowhere else.
    pub(super) fn of_stored(self, layer: &Layer) -> Self {
        match self {
            _ if layer.elsewhere.is_some() || self.is_disk_full() => self,
            Self::BadLayer(error @ LayerError::Io { .. }) => Self::Layer(error),
            Self::BadLayer(error) => Self::damaged(layer, error),
            Self::WrongDiffId { found, .. } => Self::damaged(layer, format!("its blob holds {found}")),
            error => error,
        }
    }

    /// Whether the disk is full, so that the same command may work later.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Store(error) => error.is_disk_full(),
            Self::Layer(error) | Self::BadLayer(error) => error.is_disk_full(),
            Self::Source(error) => error.is_disk_full(),
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}
