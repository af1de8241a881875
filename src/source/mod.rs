//! Where build inputs come from: the build context, files on web servers, OCI layouts.
//!
//! Owns: walking a context directory under its `.dockerignore`, reading an archive as a context,
//! hashing what copies take from it, finding the paths that a copy's words mean, and finding images
//! and blobs in a layout.
//! Refuses: everything outside the context or layout, also through symbolic links: files are opened
//! beneath the context's descriptor, never by a joined path; blobs that are not what their digest
//! and size promise.
//!
//! Invariants:
//! - An ignored or excluded file is never opened.
//! - An archive is never unpacked into a directory: its entries are a tree in memory, and their data
//!   lies in one file without a name.
//! - A digest of copied files covers paths, types, modes, link targets, attributes and data, but
//!   neither times nor owners, which differ between machines.
//! - A file is opened for its digest once in a build, and in no later build while its inode, size and
//!   times stay the same.
//! - Neither trees nor digests nor errors depend on the number of threads.
//!
//! Sources: BuildKit's Dockerfile frontend, COPY and ADD; OCI image-spec 1.1, `image-layout.md`.

mod archive;
mod context;
mod error;
mod facts;
pub mod git;
mod layout;
mod reader;
pub mod remote;
mod select;
mod sockets;
mod spool;
mod stat_cache;
mod stat_records;
mod tar_places;
mod walk;

pub use archive::{Input, looks_like_archive};
pub use context::Context;
pub use error::SourceError;
pub use layout::{Layout, Selector};
pub use select::{Selected, Shape, has_wildcard, select};
pub use spool::Spool;
pub use stat_cache::StatCache;
