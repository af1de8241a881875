//! The owners and modes that files of the root have in the image.
//!
//! Regular files and directories carry theirs in an extended attribute, which stays with them when they
//! are renamed, linked, or copied up in an overlay. Symbolic links, pipes, sockets and devices cannot:
//! for them there is a journal, by inode number and time of birth.
//!
//! Source: chown(2), inode(7), the kernel's overlayfs document (st_ino of a file that is copied up).

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, StatxFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;

use super::super::codec::{Malformed, Reader, Writer};
use super::super::spec::SpecialOwner;
use super::credentials::Credentials;
use crate::image::{
    MODE_RECORD, OWNER_RECORD, Ownership, mode_record, owner_record, parse_mode_record, parse_owner_record,
    workable_mode,
};

/// Set-user-id, set-group-id, and execution by the group.
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o010;
/// The permissions of a mode, with set-id bits and the sticky bit.
const PERMISSIONS: u32 = 0o7777;
/// More than any record has.
const RECORD_LIMIT: usize = 64;
/// Extended attribute that holds the capabilities of a program.
const CAPABILITIES: &CStr = c"security.capability";

/// What an image says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// Its user.
    pub(super) uid: u32,
    /// Its group.
    pub(super) gid: u32,
    /// Permissions with set-id bits and the sticky bit.
    pub(super) mode: u32,
}

/// The owner of a file that cannot carry it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JournalEntry {
    /// Inode number of the file in the directory that holds the command's changes.
    pub inode: u64,
    /// When this inode was made, in seconds and nanoseconds of the epoch; `None` where the file system
    /// does not tell. The number may have belonged to another file before.
    pub birth: Option<(i64, u32)>,
    /// User that the file belongs to.
    pub uid: u32,
    /// Group that it belongs to.
    pub gid: u32,
}

impl JournalEntry {
    pub(in crate::sandbox) fn encode(&self, out: &mut Writer) {
        out.number(self.inode);
        out.list(self.birth.as_slice(), |out, (seconds, nanoseconds)| {
            out.number(seconds.cast_unsigned());
            out.number(u64::from(*nanoseconds));
        });
        out.number(u64::from(self.uid));
        out.number(u64::from(self.gid));
    }

    pub(in crate::sandbox) fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let inode = input.number()?;
        let birth = input.list(|input| Ok((input.number()?.cast_signed(), input.small()?)))?;
        Ok(Self { inode, birth: birth.first().copied(), uid: input.small()?, gid: input.small()? })
    }
}

/// What tells a file from all others as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    device: (u32, u32),
    inode: u64,
    birth: Option<(i64, u32)>,
}

/// Inode number and birth of a file in the directory of changes.
type Changed = (u64, Option<(i64, u32)>);

/// The owners, user and group, of files that cannot carry theirs.
#[derive(Debug, Default)]
struct Journal {
    /// By what tells a file from others as long as the kernel remembers it.
    files: BTreeMap<Key, (u32, u32)>,
    /// By where it lies in the directory of changes. An overlay that has forgotten a symbolic link gives
    /// another inode number to it.
    changed: BTreeMap<Changed, (u32, u32)>,
}

impl Journal {
    fn enter(&mut self, file: Key, changed: Option<Changed>, owner: (u32, u32)) {
        self.files.insert(file, owner);
        if let Some(changed) = changed {
            self.changed.insert(changed, owner);
        }
    }
}

/// Knows and changes what the image says of files.
#[derive(Debug)]
pub(super) struct Owners {
    ownership: Ownership,
    /// The user that the build is on disk.
    own: u32,
    /// Mount of the root. What lies on another one is not of the image.
    mount: u64,
    /// The upper directory, where the root is an overlay.
    changed: Option<OwnedFd>,
    journal: Mutex<Journal>,
    /// Owners that layers say special files have which cannot carry them, by path from the root.
    layers: BTreeMap<PathBuf, (u32, u32)>,
}

impl Owners {
    /// Owners of the files of `root`, whose changes go to the upper directory `changed` where it is an
    /// overlay. `layers` says what the image has for symbolic links, pipes, sockets and devices that do not
    /// belong to root, by path from the root.
    pub(super) fn new(
        ownership: Ownership,
        root: BorrowedFd<'_>,
        changed: Option<OwnedFd>,
        layers: &[SpecialOwner],
    ) -> Result<Self, Errno> {
        let found = statx(root)?;
        let owners = Self {
            ownership,
            own: rustix::process::geteuid().as_raw(),
            mount: found.stx_mnt_id,
            changed,
            journal: Mutex::default(),
            layers: layers.iter().map(|owner| (owner.path.clone(), (owner.uid, owner.gid))).collect(),
        };
        if owners.changed.is_none() {
            owners.note_layers(root);
        }
        Ok(owners)
    }

    /// Enters what layers say into the journal: in a root that is changed in place a file keeps its inode
    /// when the command moves it.
    fn note_layers(&self, root: BorrowedFd<'_>) {
        for (path, (uid, gid)) in &self.layers {
            let Ok(found) = open_beneath(root, path).and_then(|file| statx(file.as_fd())) else {
                continue;
            };
            self.lock().enter(key(&found), Some((found.stx_ino, birth(&found))), (*uid, *gid));
        }
    }

    /// Enters the owner of a file that is mounted at `path` of the root into the journal.
    pub(super) fn note_mounted(&self, root: BorrowedFd<'_>, path: &[u8], uid: u32, gid: u32) {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // What another mount covers is nobody's.
        let Ok(file) = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) else { return };
        if let Ok(found) = statx(file.as_fd())
            && found.stx_mnt_id != self.mount
        {
            self.lock().enter(key(&found), None, (uid, gid));
        }
    }

    /// Enters a file that is about to get another name into the journal, where it is by the name alone that
    /// its owner is known.
    pub(super) fn before_move(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(file)?;
        if self.changed.is_none() || carries_attributes(&stat) {
            return Ok(());
        }
        match self.noted(file, &stat) {
            Some((uid, gid)) => self.note(file, &stat, uid, gid),
            None => Ok(()),
        }
    }

    /// Owner and mode that the image has for an open file; a path descriptor will do. `stat` is what the
    /// kernel says of it.
    pub(super) fn of(&self, file: BorrowedFd<'_>, stat: &Stat) -> Owner {
        let (uid, gid) = self.recorded(file, stat).unwrap_or_else(|| self.plain(stat));
        Owner { uid, gid, mode: self.mode(file, stat) }
    }

    /// Whether a file without attribute may have an owner all the same.
    pub(super) fn has_journal(&self) -> bool {
        !self.layers.is_empty() || !self.lock().files.is_empty()
    }

    /// The owner that is recorded for a file; `None` where what the kernel says is true.
    pub(super) fn recorded(&self, file: BorrowedFd<'_>, stat: &Stat) -> Option<(u32, u32)> {
        if self.ownership == Ownership::Kernel {
            return None;
        }
        let own = if carries_attributes(stat) { read_owner(file) } else { None };
        own.or_else(|| self.noted(file, stat))
    }

    /// The owner of a file without record.
    fn plain(&self, stat: &Stat) -> (u32, u32) {
        if self.ownership == Ownership::Simulated && stat.st_uid == self.own {
            return (0, 0);
        }
        (stat.st_uid, stat.st_gid)
    }

    fn mode(&self, file: BorrowedFd<'_>, stat: &Stat) -> u32 {
        let mut value = [0; RECORD_LIMIT];
        let recorded = if self.ownership == Ownership::Simulated && carries_attributes(stat) {
            let length = rustix::fs::getxattr(by_descriptor(file), MODE_RECORD, &mut value);
            length.ok().and_then(|length| parse_mode_record(&value[..length]))
        } else {
            None
        };
        recorded.unwrap_or(stat.st_mode & PERMISSIONS)
    }

    /// What the journal or the layers say of a file.
    fn noted(&self, file: BorrowedFd<'_>, stat: &Stat) -> Option<(u32, u32)> {
        let journal = !self.lock().files.is_empty();
        let layers = self.changed.is_some() && !self.layers.is_empty() && !carries_attributes(stat);
        if !journal && !layers {
            return None;
        }
        let found = statx(file).ok()?;
        if let Some(owner) = self.lock().files.get(&key(&found)) {
            return Some(*owner);
        }
        let upper = self.changed.as_ref().filter(|_| !carries_attributes(stat))?;
        if found.stx_mnt_id != self.mount {
            return None;
        }
        let path = path_of(file)?;
        match open_beneath(upper.as_fd(), &path) {
            // A file that the command has made or changed.
            Ok(changed) => {
                let found = statx(changed.as_fd()).ok()?;
                self.lock().changed.get(&(found.stx_ino, birth(&found))).copied()
            }
            Err(_) => self.layers.get(&path).copied(),
        }
    }

    /// Gives a file to a user and a group on behalf of a process; `None` leaves either as it is.
    ///
    /// As in the kernel, set-id bits and capabilities of a program do not survive.
    ///
    /// # Errors
    ///
    /// `EPERM` where the process is neither root, nor the file's owner who gives it to another of its groups.
    pub(super) fn chown(
        &self,
        file: BorrowedFd<'_>,
        credentials: &Credentials,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(file)?;
        let owner = self.of(file, &stat);
        if !may_chown(credentials, owner, uid, gid) {
            return Err(Errno::PERM);
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        self.record(file, &stat, uid.unwrap_or(owner.uid), gid.unwrap_or(owner.gid), owner.mode)?;
        if kind == FileType::Directory || kind == FileType::Symlink {
            return Ok(());
        }
        let left = without_set_id(credentials, owner);
        if left != owner.mode {
            self.set_mode(file, left)?;
        }
        if kind == FileType::RegularFile {
            // There is rarely one, and where the file system has none there is nothing to lose.
            let _ = rustix::fs::removexattr(by_descriptor(file), CAPABILITIES);
        }
        Ok(())
    }

    fn record(&self, file: BorrowedFd<'_>, stat: &Stat, uid: u32, gid: u32, mode: u32) -> Result<(), Errno> {
        if self.ownership == Ownership::Kernel {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            return rustix::fs::chownat(file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
        }
        if carries_attributes(stat) {
            match write_owner(file, uid, gid, mode) {
                // A file system without such attributes, as of /dev: the journal knows its files.
                Err(Errno::OPNOTSUPP) => {}
                // The kernel's word for a file that is not our own.
                Err(Errno::ACCESS) => return Err(Errno::PERM),
                result => return result,
            }
        }
        self.note(file, stat, uid, gid)
    }

    /// Enters a file into the journal.
    fn note(&self, file: BorrowedFd<'_>, stat: &Stat, uid: u32, gid: u32) -> Result<(), Errno> {
        let of_root = statx(file)?.stx_mnt_id == self.mount;
        let changed = match &self.changed {
            Some(upper) if of_root => {
                copy_up(file, stat)?;
                // A file without name has no place in the image.
                let place = path_of(file).and_then(|path| open_beneath(upper.as_fd(), &path).ok());
                place.map(|place| statx(place.as_fd())).transpose()?
            }
            None if of_root => Some(statx(file)?),
            _ => None,
        };
        let changed = changed.map(|found| (found.stx_ino, birth(&found)));
        // Only now: being copied up has given it another birth.
        let key = key(&statx(file)?);
        self.lock().enter(key, changed, (uid, gid));
        Ok(())
    }

    /// Gives a file a mode; on disk it may be another one, by which the build can still work with it.
    pub(super) fn set_mode(&self, file: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
        let mode = mode & PERMISSIONS;
        let path = by_descriptor(file);
        let stat = rustix::fs::fstat(file)?;
        if self.ownership != Ownership::Simulated || !carries_attributes(&stat) {
            return rustix::fs::chmod(&path, Mode::from_raw_mode(mode));
        }
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let on_disk = workable_mode(mode, is_directory);
        rustix::fs::chmod(&path, Mode::from_raw_mode(on_disk))?;
        if on_disk == mode {
            return absent(rustix::fs::removexattr(&path, MODE_RECORD));
        }
        rustix::fs::setxattr(&path, MODE_RECORD, mode_record(mode).as_bytes(), XattrFlags::empty())
    }

    /// Records what belongs to a file that the supervisor has just made in the directory `parent` on behalf
    /// of a process. `mode` has gone through the process's mask.
    pub(super) fn born(
        &self,
        file: BorrowedFd<'_>,
        parent: BorrowedFd<'_>,
        credentials: &Credentials,
        mode: u32,
    ) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(file)?;
        let above = self.of(parent, &rustix::fs::fstat(parent)?);
        let kind = FileType::from_raw_mode(stat.st_mode);
        let inherits = above.mode & SET_GID != 0;
        let gid = if inherits { above.gid } else { credentials.file_group() };
        let mode = if inherits && kind == FileType::Directory { mode | SET_GID } else { mode };
        if self.ownership == Ownership::Simulated && kind != FileType::Symlink {
            self.set_mode(file, mode)?;
        }
        if self.plain(&stat) == (credentials.file_user(), gid) {
            return Ok(());
        }
        self.record(file, &stat, credentials.file_user(), gid, mode)
    }

    /// The owners of all files that cannot carry theirs, as far as the command has made or changed them.
    pub(super) fn journal(&self) -> Vec<JournalEntry> {
        let journal = self.lock();
        let entries = journal.changed.iter();
        let entries = entries.map(|((inode, birth), (uid, gid))| JournalEntry {
            inode: *inode,
            birth: *birth,
            uid: *uid,
            gid: *gid,
        });
        entries.collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Journal> {
        // No change of it can fail halfway.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the kernel would let a process give a file away.
fn may_chown(credentials: &Credentials, owner: Owner, uid: Option<u32>, gid: Option<u32>) -> bool {
    let owns = credentials.file_user() == owner.uid;
    let user = uid.is_none_or(|uid| owns && uid == owner.uid);
    let group = gid.is_none_or(|gid| owns && (gid == owner.gid || credentials.is_member(gid)));
    credentials.file_user() == 0 || user && group
}

/// What is left of a mode when the owner changes.
fn without_set_id(credentials: &Credentials, owner: Owner) -> u32 {
    let mut mode = owner.mode & !SET_UID;
    // Without execution the bit once meant mandatory locks, and those who may set it keep it.
    let keeps =
        mode & GROUP_EXECUTES == 0 && (credentials.file_user() == 0 || credentials.is_member(owner.gid));
    if !keeps {
        mode &= !SET_GID;
    }
    mode
}

/// Whether a file can have extended attributes of users.
fn carries_attributes(stat: &Stat) -> bool {
    matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory)
}

/// A path that leads to what a descriptor is open on, whatever it is open for.
fn by_descriptor(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn read_owner(file: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let mut value = [0; RECORD_LIMIT];
    let length = rustix::fs::getxattr(by_descriptor(file), OWNER_RECORD, &mut value).ok()?;
    parse_owner_record(&value[..length])
}

fn write_owner(file: BorrowedFd<'_>, uid: u32, gid: u32, mode: u32) -> Result<(), Errno> {
    let path = by_descriptor(file);
    if (uid, gid) == (0, 0) {
        return absent(rustix::fs::removexattr(&path, OWNER_RECORD));
    }
    let record = owner_record(uid, gid, mode);
    rustix::fs::setxattr(&path, OWNER_RECORD, record.as_bytes(), XattrFlags::empty())
}

/// That there was no attribute to remove is as good.
fn absent(removed: Result<(), Errno>) -> Result<(), Errno> {
    match removed {
        Err(Errno::NODATA) => Ok(()),
        other => other,
    }
}

/// Has an overlay copy a file to its upper directory, by setting its times to what they are.
fn copy_up(file: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
    };
    rustix::fs::utimensat(CWD, by_descriptor(file), &times, AtFlags::empty())
}

/// The path of a file from the root; `None` when it has none any more.
fn path_of(file: BorrowedFd<'_>) -> Option<PathBuf> {
    let path = rustix::fs::readlink(by_descriptor(file), Vec::new()).ok()?;
    let path = path.as_bytes().strip_prefix(b"/")?;
    (!path.ends_with(b" (deleted)")).then(|| Path::new(std::ffi::OsStr::from_bytes(path)).to_owned())
}

/// Opens a file in a directory of ours, over no link.
fn open_beneath(directory: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)
}

fn statx(file: BorrowedFd<'_>) -> Result<rustix::fs::Statx, Errno> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME | StatxFlags::MNT_ID;
    rustix::fs::statx(file, "", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, wanted)
}

fn birth(found: &rustix::fs::Statx) -> Option<(i64, u32)> {
    let known = found.stx_mask & StatxFlags::BTIME.bits() != 0;
    known.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
}

fn key(found: &rustix::fs::Statx) -> Key {
    Key { device: (found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino, birth: birth(found) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::image::Identity;

    fn user(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
        Credentials::of(&Identity { uid, gid, groups: groups.to_vec(), home: "/".into() })
    }

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    fn owner(owners: &Owners, path: &Path) -> (u32, u32, u32) {
        let file = open(path);
        let found = owners.of(file.as_fd(), &rustix::fs::fstat(&file).unwrap());
        (found.uid, found.gid, found.mode)
    }

    #[test]
    fn who_may_give_a_file_away() {
        let file = Owner { uid: 5, gid: 6, mode: 0o644 };
        let app = user(5, 6, &[20]);
        for (credentials, uid, gid, permitted) in [
            (user(0, 0, &[]), Some(7), Some(8), true),
            (app.clone(), Some(5), Some(20), true),
            (app.clone(), None, Some(6), true),
            (app.clone(), None, Some(7), false),
            (app.clone(), Some(7), None, false),
            (user(8, 20, &[]), None, Some(20), false),
            (user(8, 20, &[]), None, None, true),
        ] {
            assert_eq!(may_chown(&credentials, file, uid, gid), permitted, "{credentials:?} {uid:?} {gid:?}");
        }
        let left = |credentials: &Credentials, mode| without_set_id(credentials, Owner { mode, ..file });
        assert_eq!(left(&user(0, 0, &[]), 0o6755), 0o755);
        assert_eq!(left(&user(0, 0, &[]), 0o2744), 0o2744);
        assert_eq!(left(&user(8, 20, &[]), 0o2744), 0o744);
    }

    #[test]
    fn files_keep_the_owners_that_they_are_given() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("file", at("old")).unwrap();
        let root = open(place.path());
        let layers = [SpecialOwner { path: "old".into(), uid: 9, gid: 9 }];
        let owners = Owners::new(Ownership::Simulated, root.as_fd(), None, &layers).unwrap();
        let own = user(0, 0, &[]);
        assert_eq!(owner(&owners, &at("old")), (9, 9, 0o777));
        for (name, uid, gid) in [("file", Some(5), None), ("link", None, Some(7)), ("old", None, Some(8))] {
            owners.chown(open(&at(name)).as_fd(), &own, uid, gid).unwrap();
        }
        std::fs::rename(at("link"), at("moved")).unwrap();
        assert_eq!(owner(&owners, &at("moved")), (0, 7, 0o777));
        let mut journal: Vec<_> = owners.journal().iter().map(|one| (one.inode, one.uid, one.gid)).collect();
        journal.sort_unstable();
        let inode = |name: &str| std::fs::symlink_metadata(at(name)).unwrap().ino();
        let mut expected = [(inode("moved"), 0, 7), (inode("old"), 9, 8)];
        expected.sort_unstable();
        assert_eq!(journal, expected);
        // The mode on disk stays one that the build can work with.
        owners.set_mode(open(&at("file")).as_fd(), 0o040).unwrap();
        assert_eq!(owner(&owners, &at("file")), (5, 0, 0o040));
        assert_eq!(std::fs::metadata(at("file")).unwrap().permissions().mode() & 0o7777, 0o640);
        owners.chown(open(&at("file")).as_fd(), &own, Some(0), None).unwrap();
        assert_eq!(owner(&owners, &at("file")), (0, 0, 0o040));
    }

    #[test]
    fn new_files_belong_to_who_makes_them() {
        let place = tempfile::tempdir().unwrap();
        let root = open(place.path());
        let owners = Owners::new(Ownership::Recorded, root.as_fd(), None, &[]).unwrap();
        let shared = place.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o2775)).unwrap();
        let directory = open(&shared);
        owners.chown(directory.as_fd(), &user(0, 0, &[]), None, Some(50)).unwrap();
        for (parent, name, credentials, expected) in [
            (&root, "plain", user(5, 6, &[]), (5, 6)),
            (&directory, "shared/theirs", user(5, 6, &[]), (5, 50)),
            (&directory, "shared/roots", user(0, 0, &[]), (0, 50)),
        ] {
            let path = place.path().join(name);
            std::fs::write(&path, "").unwrap();
            owners.born(open(&path).as_fd(), parent.as_fd(), &credentials, 0o644).unwrap();
            let (uid, gid, _) = owner(&owners, &path);
            let plain = std::fs::metadata(&path).unwrap();
            let found = |id: u32, kernel: u32| if id == kernel { 0 } else { id };
            assert_eq!((found(uid, plain.uid()), found(gid, plain.gid())), expected, "{name}");
        }
    }
}
