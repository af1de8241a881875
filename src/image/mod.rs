//! The values of the OCI image specification: digests, descriptors, manifests, indexes, configs, references.
//!
//! Owns: parsing and writing these documents, byte for byte the same for equal values.
//! Refuses: documents that can be read as two types, digests that cannot be verified here,
//! environment entries without a name.
//!
//! Invariants:
//! - All values are immutable once built; a change yields a new value.
//! - What was pulled keeps its raw bytes ([`RawManifest`]): those are hashed, stored and sent on,
//!   never a re-serialised form.
//!
//! Sources: OCI image-spec 1.1 (`descriptor.md`, `manifest.md`, `image-index.md`, `config.md`),
//! OCI distribution-spec 1.1 (references).

mod accounts;
mod compression;
mod config;
mod csv;
mod data;
mod descriptor;
mod digest;
mod layout;
mod manifest;
pub mod media_type;
mod origin;
mod ownership;
mod reference;
mod time;

pub use accounts::{AccountError, Accounts, Identity};
pub use compression::{Compression, CompressionError};
pub use config::{ConfigError, ContainerConfig, Healthcheck, History, ImageConfig};
pub use csv::split_csv;
pub use data::{DataHash, DataHasher};
pub use descriptor::Descriptor;
pub use digest::{DiffId, Digest, DigestError, HashingReader, HashingWriter, Sha256};
pub use layout::{CONTAINERD_NAME, LAYOUT_MARKER, REF_NAME, layout_index};
pub use manifest::{Document, ImageManifest, Index, ManifestError, RawManifest};
pub use origin::Origin;
pub use ownership::{
    MODE_RECORD, OWNER_RECORD, Ownership, mode_record, owner_record, parse_mode_record, parse_owner_record,
    workable_mode,
};
pub use reference::{Reference, ReferenceError, Repository};
pub use time::Timestamp;
