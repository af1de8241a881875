//! Where build inputs come from: the build context.
//!
//! Owns: walking a context directory under its `.dockerignore`, hashing what copies take from it,
//! and finding the paths that a copy's words mean.
//! Refuses: everything outside the context, also through symbolic links: files are opened beneath
//! the context's descriptor, never by a joined path.
//!
//! Invariants:
//! - An ignored file is never opened.
//! - A digest of copied files covers paths, types, modes, link targets, attributes and data, but
//!   neither times nor owners, which differ between machines.
//!
//! Source of the semantics: BuildKit's Dockerfile frontend, COPY and ADD.

mod context;
mod error;
mod facts;
pub mod git;
mod select;
mod spool;

pub use context::Context;
pub use error::SourceError;
pub use select::{Selected, has_wildcard, select};
pub use spool::Spool;
