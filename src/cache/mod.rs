//! Remote caches: results of steps that other machines made, and that they may have of this one.
//!
//! Owns: the values of `--cache-from` and `--cache-to`, the form of a record in a registry, in an OCI layout
//! and in an image's config, looking records up and writing them.
//! Refuses: to trust a record further than its form. Whether it fits the build at hand is for the caller to
//! find out, and its layer's bytes are verified by whoever fetches them.
//!
//! A *record* says which layer a step made, on which grounds. It is found by two keys, and is one small image
//! manifest of its own:
//!
//! ```text
//! registry   repository:<tag>-<hex of key>          one tag for each key; `cache` stands for the tag `latest`
//! layout     index.json, an entry with the reference name <hex of key> and the artifact type of records
//! inline     the member `fanfold.cache.v1` of an image's config; the layers are those of the image
//! ```
//!
//! Invariants:
//! - Nothing is read in order to be written changed, but a layout's `index.json`, under a lock: whoever else
//!   writes into the same cache takes nothing away. Records of all platforms lie side by side.
//! - A record is written after its layer, and says all by itself: an export that is killed leaves whole
//!   records behind.
//! - A record is no proof that its layer is still there: each export looks, and brings what was lost.
//! - What cannot be read, is damaged or is somebody else's is a miss with a warning, never a failure.
//! - Texts of a record are bounded and hold nothing that acts on a terminal: they come from a registry.
//! - Equal records have equal bytes.
//!
//! Sources: OCI image-spec 1.1 (`manifest.md`, "Guidelines for Artifact Usage"; `image-layout.md`),
//! OCI distribution-spec 1.1. The manifests name neither a subject nor an artifact index, so that registries
//! without the referrers API take them.

mod codec;
mod error;
mod export;
mod from_layout;
mod from_registry;
mod imports;
pub mod inline;
mod place;
mod spec;
mod statement;
mod to_layout;
mod to_registry;

#[cfg(test)]
mod tests;

pub use error::CacheError;
pub use export::{Entry, Exported, export};
pub use imports::{Found, Imports};
pub use spec::{CacheFrom, CacheMode, CacheSpecError, CacheTarget, CacheTo};
