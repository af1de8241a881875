//! Where results go: registry, OCI layout, docker archive, root file systems, result files.
//!
//! Owns: the output formats, the order in which things become visible, and sending layers ahead of their
//! image ([`publisher`]).
//! Refuses: a format that cannot hold what was built (several platforms in a docker archive), outputs of one
//! build that want its layers in different compressions.
//!
//! Invariants:
//! - Nothing appears under its final name before it is whole: files are written beside their
//!   destination and renamed; in a layout `index.json` comes last; in a registry children come
//!   before the index, and tags come last of all.
//! - A layer's bytes are compared with its digest on their way out of the store. What went to a pipe cannot
//!   be taken back: its layers are compared before the first byte, too, and after a failure nothing begins again.
//! - The same result gives the same bytes, whatever the machine and the time.
//!
//! Sources: OCI image-spec 1.1 `image-layout.md`; the `docker save` format; buildx's metadata file.

mod compression;
mod docker;
mod error;
mod file;
mod layout;
mod metadata;
mod publish;
mod push;
mod rootfs;
mod spec;
mod stored;
mod write;

pub use compression::{Chosen, CompressionSpec, Disagreement, compression};
pub use error::OutputError;
pub use metadata::{iidfile, metadata, write_metadata};
pub use publish::publisher;
pub use spec::{Destination, OutputSpec, SpecError};
pub use write::{Context, check_destinations, write};
