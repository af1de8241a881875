//! [`Entry`]: one file, directory, link, device or deletion of a layer, without its content.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::image::OWNER_RECORD;

use super::path::LayerPath;

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// One entry of a layer: its place and its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands. For [`EntryKind::Whiteout`] the deleted path itself, for
    /// [`EntryKind::Opaque`] the directory.
    pub path: LayerPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, setuid, setgid and sticky (`07777`).
    pub mode: u32,
    /// Owner as the image sees it.
    pub uid: u32,
    /// Group as the image sees it.
    pub gid: u32,
    /// Modification time in whole seconds since 1970.
    pub mtime: i64,
    /// Extended attributes that belong into an image (see [`keep_xattr`]).
    pub xattrs: Xattrs,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of `size` bytes.
    File {
        /// Bytes of content, holes included.
        size: u64,
    },
    /// Another name of a file; its metadata is that of the file.
    HardLink {
        /// The file's first name in the layer.
        target: LayerPath,
    },
    /// A symbolic link, target verbatim.
    Symlink {
        /// The target, never cleaned.
        target: Vec<u8>,
    },
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A character device.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// The path is deleted from the layers below.
    Whiteout,
    /// Everything that lower layers hold below the directory is deleted.
    Opaque,
}

impl Entry {
    /// An entry owned by root, last modified in 1970, without extended attributes.
    pub fn new(path: LayerPath, kind: EntryKind, mode: u32) -> Self {
        Self { path, kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: Xattrs::new() }
    }

    /// The deletion of `path`: mode, owner and time are zero.
    pub fn whiteout(path: LayerPath) -> Self {
        Self::new(path, EntryKind::Whiteout, 0)
    }

    /// The marker that hides what lower layers hold in the directory `path`.
    pub fn opaque(path: LayerPath) -> Self {
        Self::new(path, EntryKind::Opaque, 0)
    }

    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }

    /// Whether this is a regular file under its first name.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, EntryKind::File { .. })
    }

    /// Whether this only deletes something of the layers below.
    pub fn is_marker(&self) -> bool {
        matches!(self.kind, EntryKind::Whiteout | EntryKind::Opaque)
    }

    /// The order of entries in a layer tar: by component, a directory before its children, its
    /// opaque marker first of them and whiteouts next.
    pub fn tar_order(&self, other: &Self) -> Ordering {
        let mut left = self.order_key();
        let mut right = other.order_key();
        loop {
            match (left.next(), right.next()) {
                (None, None) => return Ordering::Equal,
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some(left), Some(right)) if left == right => {}
                (Some(left), Some(right)) => return left.cmp(&right),
            }
        }
    }

    fn order_key(&self) -> impl Iterator<Item = (u8, &[u8])> {
        const OPAQUE: u8 = 0;
        const WHITEOUT: u8 = 1;
        const PLAIN: u8 = 2;
        let last = self.path.components().count();
        let whiteout = self.kind == EntryKind::Whiteout;
        let opaque = (self.kind == EntryKind::Opaque).then_some((OPAQUE, &b""[..]));
        let components = self.path.components().enumerate();
        components
            .map(move |(at, name)| (if whiteout && at + 1 == last { WHITEOUT } else { PLAIN }, name))
            .chain(opaque)
    }

    /// This entry as it is written under a time bound.
    pub(super) fn clamped(&self, clamp: Option<i64>) -> Self {
        let mut entry = self.clone();
        entry.mtime = clamped(self.mtime, clamp);
        if let EntryKind::Symlink { .. } = entry.kind {
            entry.mode = 0o777;
        }
        entry
    }
}

/// `mtime` under an upper bound; with a bound, times before 1970 become 1970.
pub(super) fn clamped(mtime: i64, clamp: Option<i64>) -> i64 {
    clamp.map_or(mtime, |epoch| mtime.min(epoch).max(0))
}

/// The value under which an extended attribute belongs into an image; `None` when it does not.
///
/// Kept are `security.capability`, as revision 2 without the root id of a user namespace, and
/// `user.*`. Dropped are the marks of overlayfs and of ownership records, which a hostile layer
/// could use to redirect an overlay mount, and everything that is bound to one host.
///
/// Rules: OCI image-spec, `layer.md`.
pub fn keep_xattr(name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    if name == b"security.capability" {
        return capability_revision_2(value);
    }
    (name.starts_with(b"user.") && !is_reserved(name)).then(|| value.to_vec())
}

/// Whether an attribute means something to overlayfs or to the directories of this room, so that
/// none may come from an image.
pub(super) fn is_reserved(name: &[u8]) -> bool {
    let ours = [&b"user.overlay."[..], b"user.fanfold.", OWNER_RECORD.to_bytes()];
    ours.iter().any(|prefix| name.starts_with(prefix))
}

/// `struct vfs_cap_data` of revision 2 out of revision 2 or 3 (which has a root id of 4 bytes more).
fn capability_revision_2(value: &[u8]) -> Option<Vec<u8>> {
    const REVISION_2: u8 = 2;
    const REVISION_3: u8 = 3;
    match (value.len(), value.get(3)?) {
        (20, &REVISION_2) => Some(value.to_vec()),
        (24, &REVISION_3) => {
            let mut value = value[..20].to_vec();
            value[3] = REVISION_2;
            Some(value)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_come_first_in_their_directory() {
        let file = |path: &str| Entry::new(LayerPath::new(path).unwrap(), EntryKind::File { size: 0 }, 0o644);
        let want = [
            Entry::whiteout(LayerPath::new("z").unwrap()),
            file("a"),
            Entry::opaque(LayerPath::new("a").unwrap()),
            Entry::whiteout(LayerPath::new("a/y").unwrap()),
            Entry::whiteout(LayerPath::new("a/z").unwrap()),
            file("a/b"),
            file("a/b/c"),
            file("a/c"),
            file("b"),
        ];
        let mut entries: Vec<_> = want.iter().rev().cloned().collect();
        entries.sort_by(Entry::tar_order);
        assert_eq!(entries, want);
    }

    #[test]
    fn attributes_of_the_host_are_dropped() {
        for (name, kept) in [
            ("user.mime_type", true),
            ("user.overlay.opaque", false),
            ("user.overlay.redirect", false),
            ("trusted.overlay.opaque", false),
            ("user.containers.override_stat", false),
            ("user.fanfold.owner", false),
            ("user.fanfold.mode", false),
            ("security.selinux", false),
            ("system.posix_acl_access", false),
        ] {
            assert_eq!(keep_xattr(name.as_bytes(), b"v").is_some(), kept, "{name}");
        }
    }

    #[test]
    fn capabilities_lose_their_root_id() {
        let mut revision_3 = vec![1, 0, 0, 3];
        revision_3.extend([7; 20]);
        let mut revision_2 = vec![1, 0, 0, 2];
        revision_2.extend([7; 16]);
        assert_eq!(keep_xattr(b"security.capability", &revision_3), Some(revision_2.clone()));
        assert_eq!(keep_xattr(b"security.capability", &revision_2), Some(revision_2));
        assert_eq!(keep_xattr(b"security.capability", b"junk"), None);
    }

    #[test]
    fn time_bound() {
        for (mtime, clamp, want) in
            [(5, None, 5), (-5, None, -5), (5, Some(3), 3), (2, Some(3), 2), (-5, Some(3), 0)]
        {
            assert_eq!(clamped(mtime, clamp), want);
        }
    }
}
