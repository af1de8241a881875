//! Carries out one step on one platform and gives back a layer.
//!
//! Owns: the forms of a layer and when each is made, the semantics of COPY, ADD and WORKDIR on a
//! [`crate::layer::Tree`], and RUN on an overlay or in a working root, with its mounts, secrets and ssh
//! agents.
//! Refuses: a RUN without a sandbox; content that does not hash to its diff id; a copy that would
//! turn a file into a directory or the other way round.
//!
//! Invariants:
//! - COPY, ADD and WORKDIR need neither mount, namespace, privilege nor emulator.
//! - A step's layer is in the store, whole, before anybody hears of it. Its name is its diff id, so that
//!   equal results are one layer.
//! - A secret reaches the commands that mount it, over a socket, and no file; what they print of it is
//!   hidden. Of an ssh agent they can use the keys, and neither change nor take them.
//! - A form of a layer (index, directory, blob) is made once, however many builds want it.

mod accounts;
mod agent;
mod archive;
mod built;
mod cancel;
mod chmod;
mod contents;
mod copy;
mod destination;
mod discarded;
mod engine_core;
mod equal;
mod error;
mod forms;
mod ground;
mod limits;
mod mounts;
mod output;
mod publisher;
mod run;
mod staging;
mod state;
mod storage;
mod unpacking;
mod workdir;
mod working_root;

pub use built::{Built, BuiltImage, BuiltLayer};
pub use cancel::Cancel;
pub use contents::Contents;
pub use copy::{CopySource, PreparedCopy, Programs};
pub use engine_core::{Engine, Needs, Settings};
pub use error::{EngineError, StepFailure};
pub use output::OutputLine;
pub use publisher::{Published, Publisher};
pub use run::Command;
pub use state::{Elsewhere, Layer, State};
pub use unpacking::FreshLayer;
