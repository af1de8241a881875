//! Where build inputs come from: the build context.
//!
//! Owns: walking a context directory under its `.dockerignore`, reading an archive as a context,
//! hashing what copies take from it, and finding the paths that a copy's words mean.
//! Refuses: everything outside the context, also through symbolic links: files are opened beneath
//! the context's descriptor, never by a joined path.
//!
//! Invariants:
//! - An ignored or excluded file is never opened.
//! - An archive is never unpacked into a directory: its entries are a tree in memory, and their data
//!   lies in one file without a name.
//! - A digest of copied files covers paths, types, modes, link targets, attributes and data, but
//!   neither times nor owners, which differ between machines.
//!
//! Source of the semantics: BuildKit's Dockerfile frontend, COPY and ADD.

mod archive;
mod context;
mod error;
mod facts;
mod select;
mod sockets;
mod spool;

pub use archive::{Input, looks_like_archive};
pub use context::Context;
pub use error::SourceError;
pub use select::{Selected, Shape, has_wildcard, select};
pub use spool::Spool;
