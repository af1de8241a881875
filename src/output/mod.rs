//! Where results go: registry, OCI layout, docker archive, root file systems, result files.
//!
//! Owns: the output formats, and the order in which things become visible.
//! Refuses: a format that cannot hold what was built (several platforms in a docker archive).
//!
//! Invariants:
//! - Nothing appears under its final name before it is whole: files are written beside their
//!   destination and renamed; in a layout `index.json` comes last; in a registry children come
//!   before the index, and tags come last of all.
//! - The same result gives the same bytes, whatever the machine and the time.
//!
//! Sources: OCI image-spec 1.1 `image-layout.md`; the `docker save` format; buildx's metadata file.

mod docker;
mod error;
mod file;
mod layout;
mod metadata;
mod publish;
mod push;
mod rootfs;
mod spec;
mod write;

pub use error::OutputError;
pub use metadata::{iidfile, metadata, write_metadata};
pub use publish::{Publisher, publisher};
pub use spec::{Destination, OutputSpec, SpecError};
pub use write::{Context, check_destinations, write};
