//! Content on disk: blobs, layers in their forms, cache records, resolved references, scratch space.
//!
//! Owns: everything below `--root`.
//!
//! ```text
//! blobs/sha256/<hex>       what registries hold: manifests, configs, compressed layers
//! layers/<hex>/index       a layer's entries, without contents
//! layers/<hex>/fs/         the layer as a lower directory of an overlay mount
//! layers/<hex>/blob-<compression>.json   diff id and descriptor of the layer's blob
//! layers/<hex>/blob-fetched.json         the same of a blob that came from elsewhere
//! steps/<hex>              record: a step's chain key or content key -> layer
//! refs/<hex>               an image name and the digest that it stood for when last asked
//! downloads/<hex>          what a URL gave: digest and validators, under the digest of the URL
//! git/<hex>/               a bare repository that commits are fetched into
//! caches/<hex>/<n>/        a directory of RUN --mount=type=cache; <n>.lock is held while it is used
//! contexts/<hex>           what files of a context were, so that those that did not change are not read again
//! locks/<hex>              taken while one of several builds makes a thing that all of them want
//! locks/gate               held while a thing is looked up, and alone while one is taken away
//! scratch/<build>/         work in progress; removed by the next build when its owner has died
//! scratch/<build>.lock     held while the build lives; its time is when the build began
//! CACHEDIR.TAG             tells programs that make backups to pass by
//! ```
//!
//! Invariants:
//! - Nothing has its final name before it is whole: files and directories are made in scratch space
//!   and renamed. A build that is killed leaves only scratch space behind.
//! - Commands write into a cache directory while it has its name, and what they left is kept, whether
//!   they failed or not: its content is hostile, and nothing here looks at it.
//! - A layer directory never changes once it has its name; forms are added to it, never replaced.
//! - A record that cannot be read, or in which a bit has changed, is a miss, never a failure and never a
//!   wrong result. One that leads to a layer or blob that is gone is a miss as well.
//! - What a build has looked up is not removed before that build has ended (`gate.rs`).

mod blobs;
mod caches;
mod disk_usage;
mod downloads;
mod error;
mod gate;
mod inventory;
mod layers;
mod lock;
mod prune;
mod records;
mod root;
mod scratch;
mod sealed;
mod survey;
mod sweeper;
mod verify;
mod verify_layer;

pub use caches::{CacheDirectory, CacheSharing};
pub use downloads::DownloadRecord;
pub use error::StoreError;
pub use inventory::{Entry, Inventory, Kind};
pub use layers::{BlobRecord, LayerId, NewLayer};
pub use lock::Lock;
pub use prune::{Criteria, Removed};
pub use records::{Grounds, ReferenceRecord, StepRecord};
pub use root::Store;
pub use scratch::{Leftovers, ScratchDir, ScratchFile};
pub use verify::{Damage, Verified};
