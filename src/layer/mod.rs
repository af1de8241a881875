//! Layers: tar in, tar out, the merged view of a stack of them, and their directories on disk.
//!
//! Owns: reading archives ([`read_tar`], [`decoder`]), writing them ([`TarWriter`], [`seal`],
//! [`recompress`]), the metadata of a layer ([`LayerIndex`]) and of a stack of layers ([`Tree`]), and a
//! layer's directory as a lower of an overlay mount ([`unpack`], [`write_directory`], [`scan_upper`]). Where
//! there is no overlay: a stack as one tree of files ([`materialise`], [`advance`]), and what a step
//! changed in it ([`compare`]).
//! Refuses: names that leave the root, archives that two readers could read differently, hard links
//! without their file, sources that change while they are read, decompression bombs. An entry is
//! never skipped silently: what a file system cannot hold stays in the index and is named.
//!
//! Invariants:
//! - No path of a layer is ever followed by the kernel: links are resolved on the index, and files
//!   are opened beneath a descriptor with links refused.
//! - Deletions act on lower layers only, wherever they stand in their archive.
//! - The bytes of a sealed layer depend on its entries, the compression and the encoder's version alone,
//!   not on the number of threads.
//! - Memory does not grow with the size of a layer's files, only with the number of entries.
//! - Work that takes long ends soon after its [`Halt`] was asked, and leaves no file that it was to write.
//! - Directory modes and times are set after everything below, deepest first.
//!
//! Sources: OCI image-spec 1.1 `layer.md`; POSIX.1-2017 `pax`; RFC 1952, RFC 8878; Linux `overlayfs.rst`.

mod advance;
mod attributes;
mod behind;
mod beneath;
mod blocks;
mod build;
mod codec;
mod compare;
mod content;
mod copy;
mod decode;
mod dir_writer;
mod entry;
mod error;
mod extract;
mod gather;
mod gzip_writer;
mod halt;
mod index;
mod index_codec;
mod inspect;
mod journal;
mod limits;
mod materialise;
mod path;
mod pax;
mod pool;
mod scan;
mod seal;
mod seen;
mod snapshot;
mod sparse;
mod stamp;
mod stream;
mod tar_header;
mod tar_reader;
mod tar_writer;
mod tree;
mod unpack;
mod writers;
mod zstd_writer;

pub use advance::advance;
pub use beneath::open as open_beneath;
pub use compare::{Compare, Compared, Original, compare};
pub use content::{Change, Content, sort_changes};
pub use decode::{Compression, archive, decoder, detect, is_tar, verify_diff_id};
pub use entry::{Entry, EntryKind, Xattrs, keep_xattr};
pub use error::LayerError;
pub use extract::extract;
pub use gather::{Gathered, OnContent, gather};
pub use halt::Halt;
pub use index::LayerIndex;
pub use inspect::Owners;
pub use journal::{Birth, Journal};
pub use limits::Limits;
pub use materialise::{LayerContent, materialise};
pub use path::LayerPath;
pub use pool::Pool;
pub use scan::{Note, Scan, scan, scan_upper, settle_times};
pub use seal::{Seal, Sealed, diff_id, recompress, seal};
pub use seen::Seen;
pub use snapshot::Snapshot;
pub use stamp::Stamp;
pub use tar_reader::{Mode, OnEntry, read_tar, read_tar_within};
pub use tar_writer::TarWriter;
pub use tree::{FileNode, Node, Resolved, Tree};
pub use unpack::{Unpacked, unpack, write_directory};
