//! What a build tells the person or the program that watches it.
//!
//! Owns: the one [`Event`] type, the thread that turns events into text, and
//! the four ways of writing them: a live terminal, plain lines, JSON lines, and
//! silence. Every other room sends facts through [`Progress`] and never prints.
//!
//! Refuses: to read the environment (the caller passes [`Environment`]), to
//! choose an exit code, to fail a build because nobody reads its output.
//!
//! Invariants:
//! - Every line that a command prints is written in plain and JSON mode, in
//!   order and whole; only counts of transferred bytes may be left out.
//! - Text that comes from a Dockerfile, an image, a registry or a command
//!   reaches the screen only through [`escape`].
//! - The cursor is hidden, and line wrapping is off, only inside one single
//!   write, so that no way of dying leaves a terminal in that state.
//! - A closed standard output or error ends the writing, not the build.
//! - In JSON mode the error is the last line, whatever is sent after it.
//!
//! Sources: ECMA-48 for the control sequences; <https://no-color.org>.

pub mod escape;
pub mod human;

mod block;
mod event;
mod handle;
mod json;
mod label;
mod mode;
mod plain;
mod renderer;
mod steps;
mod summary;
mod terminal;
mod transfer;
mod transfers;
mod warning;
mod writer;

pub use event::{
    ErrorReport, Event, Execution, Place, PlatformSummary, Step, StepId, Stream, Summary, TransferEnd,
    TransferId, TransferKind, Warning,
};
pub use handle::{Clock, Outputs, Progress};
pub use mode::{Environment, Mode, ParseModeError};
pub use terminal::Size;
pub use transfer::Transfer;
