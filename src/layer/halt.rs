//! [`Halt`]: ends long work on layers before it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::LayerError;

/// Whether work on layers is to end before it is done. Clones stand for the same question; the default is
/// that nobody has asked for it.
#[derive(Debug, Clone, Default)]
pub struct Halt(Arc<AtomicBool>);

impl Halt {
    /// Has the work end soon: after some mebibytes at most.
    pub fn ask(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was asked to end.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Fails once it was asked to end.
    pub(super) fn check(&self) -> Result<(), LayerError> {
        if self.is_asked() { Err(LayerError::Halted) } else { Ok(()) }
    }
}
