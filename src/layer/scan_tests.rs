//! Tests of the scan, on directories made as overlayfs makes them: deletions are devices 0:0, which
//! any user may make, and the marks are user attributes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;

use super::*;
use crate::layer::build::Builder;
use crate::layer::{LayerIndex, Xattrs};

struct Upper(tempfile::TempDir);

impl Upper {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn directory(&self, path: &str) {
        fs::create_dir_all(self.at(path)).unwrap();
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn file(&self, path: &str, content: &[u8]) {
        fs::write(self.at(path), content).unwrap();
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o640)).unwrap();
    }

    fn gone(&self, path: &str) {
        let device = FileType::CharacterDevice;
        rustix::fs::mknodat(CWD, self.at(path), device, Mode::empty(), 0).unwrap();
    }

    fn mark(&self, path: &str, name: &str, value: &[u8]) {
        rustix::fs::setxattr(self.at(path), name, value, XattrFlags::empty()).unwrap();
    }

    fn time(&self, path: &str, seconds: i64) {
        let time = Timespec { tv_sec: seconds, tv_nsec: 999 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, self.at(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    fn scan(&self, below: &Tree, stubs: &[&str]) -> Vec<Change> {
        let stubs: Vec<_> = stubs.iter().map(|stub| path(stub)).collect();
        scan_upper(self.0.path(), below, &stubs).unwrap()
    }
}

fn path(path: &str) -> LayerPath {
    LayerPath::new(path).unwrap()
}

/// An entry owned by whoever runs the test.
fn own(at: &str, kind: EntryKind, mode: u32) -> Entry {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Entry { uid, gid, mtime: 1000, ..Entry::new(path(at), kind, mode) }
}

fn below(entries: &[(&str, bool)]) -> Tree {
    let mut builder = Builder::new();
    for &(at, directory) in entries {
        let entry = if directory {
            own(at, EntryKind::Directory, 0o755)
        } else {
            own(at, EntryKind::File { size: 1 }, 0o640)
        };
        builder.place(entry).unwrap();
    }
    Tree::new(vec![Arc::new(builder.finish().unwrap())])
}

fn listing(changes: &[Change]) -> Vec<String> {
    let describe = |change: &Change| {
        let kind = match &change.entry.kind {
            EntryKind::File { size } => format!("f{size}"),
            EntryKind::HardLink { target } => format!("={target}"),
            EntryKind::Symlink { target } => format!("->{}", target.escape_ascii()),
            EntryKind::Directory => "d".to_owned(),
            EntryKind::Fifo => "p".to_owned(),
            EntryKind::Char { .. } | EntryKind::Block { .. } => "dev".to_owned(),
            EntryKind::Whiteout => "gone".to_owned(),
            EntryKind::Opaque => "opaque".to_owned(),
        };
        format!("{} {kind}", change.entry.path)
    };
    changes.iter().map(describe).collect()
}

#[test]
fn deletions_and_opaque_directories() {
    let upper = Upper::new();
    let below =
        below(&[("d", true), ("d/old", false), ("e", true), ("f", false), ("g", true), ("g/x", false)]);
    upper.directory("d");
    upper.file("d/new", b"n");
    upper.mark("d", "user.overlay.opaque", b"y");
    upper.directory("e");
    upper.mark("e", "user.overlay.opaque", b"y");
    upper.directory("f");
    upper.mark("f", "user.overlay.opaque", b"y");
    upper.directory("g");
    upper.gone("g/x");
    upper.gone("g/never");
    upper.mark("g", "user.overlay.impure", b"y");
    upper.time("e", 1000);
    let changes = upper.scan(&below, &[]);
    // Nothing lies below in `e`, and `f` was a file: no marker is needed.
    assert_eq!(listing(&changes), ["/d d", "/d opaque", "/d/new f1", "/f d", "/g d", "/g/x gone"]);
    assert!(changes.iter().all(|change| change.entry.xattrs.is_empty()));
}

#[test]
fn hard_links_specials_and_names() {
    let upper = Upper::new();
    upper.directory("z");
    upper.file("z/first", b"same");
    fs::hard_link(upper.at("z/first"), upper.at("a")).unwrap();
    fs::hard_link(upper.at("z/first"), upper.at("z/third")).unwrap();
    symlink("../..//x", upper.at("sym")).unwrap();
    rustix::fs::mknodat(CWD, upper.at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(upper.at("socket")).unwrap();
    fs::write(upper.0.path().join(std::ffi::OsStr::from_bytes(b"\xff\n")), "x").unwrap();
    let sparse = fs::File::create(upper.at("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    let found = scan(upper.0.path(), &Tree::default(), &[], Owners::Kernel).unwrap();
    let want =
        ["/a f4", "/fifo p", "/sparse f1048576", "/sym ->../..//x", "/z d", "/z/first =/a", "/z/third =/a"];
    assert_eq!(listing(&found.changes)[..7], want);
    assert_eq!(found.changes[7].entry.path.as_bytes(), b"\xff\n");
    assert_eq!(found.notes, [Note { path: path("socket"), what: "socket" }]);
}

#[test]
fn copied_up_directories_are_dropped() {
    let upper = Upper::new();
    let below =
        below(&[("same", true), ("same/deep", true), ("time", true), ("mode", true), ("parent", true)]);
    for directory in ["same/deep", "time", "mode", "parent", "new"] {
        upper.directory(directory);
    }
    upper.directory("same");
    upper.file("parent/f", b"x");
    fs::set_permissions(upper.at("mode"), fs::Permissions::from_mode(0o711)).unwrap();
    for directory in ["same/deep", "same", "mode", "parent"] {
        upper.time(directory, 1000);
    }
    assert_eq!(
        listing(&upper.scan(&below, &[])),
        ["/mode d", "/new d", "/parent d", "/parent/f f1", "/time d"]
    );
}

#[test]
fn our_own_stubs_leave_no_trace() {
    let below = below(&[("etc", true), ("etc/hosts", false), ("dev", true)]);
    let stubs = ["etc/resolv.conf", "etc/hosts", "mnt", "mnt/cache", "run", "run/secret"];
    let make = || {
        let upper = Upper::new();
        for directory in ["etc", "proc", "sys", "dev", "mnt/cache", "mnt", "run"] {
            upper.directory(directory);
        }
        upper.file("etc/resolv.conf", b"");
        upper.file("run/secret", b"");
        upper.file("dev/null", b"junk");
        upper.file("proc/version", b"junk");
        upper
    };
    assert!(make().scan(&below, &stubs).is_empty());
    // What the step itself wrote stays, with its parents.
    let upper = make();
    upper.file("etc/resolv.conf", b"nameserver 1.1.1.1\n");
    upper.file("mnt/cache/kept", b"x");
    let want = ["/etc d", "/etc/resolv.conf f19", "/mnt d", "/mnt/cache d", "/mnt/cache/kept f1"];
    assert_eq!(listing(&upper.scan(&below, &stubs)), want);
    // A stub that hid a file of the image and was emptied by the step is a change.
    let upper = make();
    upper.file("etc/hosts", b"");
    assert_eq!(listing(&upper.scan(&below, &stubs)), ["/etc d", "/etc/hosts f0"]);
}

#[test]
fn attributes_and_owners() {
    let upper = Upper::new();
    upper.file("f", b"x");
    fs::set_permissions(upper.at("f"), fs::Permissions::from_mode(0o6755)).unwrap();
    upper.mark("f", "user.kept", b"\0v");
    upper.mark("f", "user.overlay.origin", b"x");
    upper.mark("f", "user.fanfold.x", b"x");
    upper.mark("f", "user.containers.override_stat", b"5:70000:04755");
    upper.time("f", -5);
    let changes = upper.scan(&Tree::default(), &[]);
    let entry = &changes[0].entry;
    assert_eq!((entry.mode, entry.uid, entry.gid, entry.mtime), (0o6755, 5, 70000, -5));
    assert_eq!(entry.xattrs, Xattrs::from([(b"user.kept".to_vec(), b"\0v".to_vec())]));

    settle_times(upper.0.path(), &changes, None).unwrap();
    let metadata = fs::metadata(upper.at("f")).unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-5, 0));
    settle_times(upper.0.path(), &changes, Some(100)).unwrap();
    assert_eq!(fs::metadata(upper.at("f")).unwrap().mtime(), 0);
}

/// A record stands on files that could not be given away. On one that has another owner a command wrote it.
#[test]
fn owners_cannot_be_forged() {
    let upper = Upper::new();
    upper.file("f", b"x");
    upper.mark("f", "user.containers.override_stat", b"0:0:04755");
    let other = Some(rustix::fs::Uid::from_raw(7));
    match rustix::fs::chown(upper.at("f"), other, None) {
        // Only root gives files away.
        Err(Errno::PERM | Errno::INVAL) => return,
        given => given.unwrap(),
    }
    let entry = &upper.scan(&Tree::default(), &[])[0].entry;
    assert_eq!((entry.uid, entry.xattrs.len()), (7, 0));
}

#[test]
fn whiteout_names_are_refused() {
    let upper = Upper::new();
    upper.directory("d");
    upper.file("d/.wh.x", b"");
    let error = scan_upper(upper.0.path(), &Tree::default(), &[]).unwrap_err();
    assert!(error.to_string().contains("d/.wh.x"), "{error}");
}

#[test]
fn depth_costs_no_descriptors_and_long_paths_open() {
    let upper = Upper::new();
    let name = "n".repeat(200);
    let mut fd: OwnedFd = fs::File::open(upper.0.path()).unwrap().into();
    for _ in 0..20 {
        rustix::fs::mkdirat(&fd, &name, Mode::from_raw_mode(0o755)).unwrap();
        fd = rustix::fs::openat(&fd, &name, OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let flags = OFlags::WRONLY | OFlags::CREATE;
    let file = rustix::fs::openat(&fd, "f", flags, Mode::from_raw_mode(0o644)).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    let changes = upper.scan(&Tree::default(), &[]);
    assert_eq!(changes.len(), 21);
    let mut content = String::new();
    std::io::Read::read_to_string(&mut changes[20].content.open().unwrap(), &mut content).unwrap();
    assert_eq!(content, "deep");
    // The whole way: sealed, read back, unpacked.
    let directory = tempfile::tempdir().unwrap();
    crate::layer::write_directory(
        &changes,
        None,
        directory.path(),
        crate::image::Ownership::Kernel,
        &crate::layer::Halt::default(),
    )
    .unwrap();
    let again = scan_upper(directory.path(), &Tree::default(), &[]).unwrap();
    assert_eq!(listing(&again), listing(&changes));
    let index = LayerIndex::from_changes(&changes, None).unwrap();
    assert_eq!(index.entries().count(), 21);
}
