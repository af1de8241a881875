//! Tests of the comparison: on trees that were written from a layer and then changed by hand, the
//! changes must turn the layer into what stands on disk.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use proptest::prelude::*;
use rustix::fs::{CWD, Mode, OFlags, Timespec, Timestamps, XattrFlags};

use super::*;
use crate::image::{
    MODE_RECORD, OWNER_RECORD, Ownership, mode_record, owner_record, parse_mode_record, parse_owner_record,
};
use crate::layer::{Journal, LayerIndex, advance, materialise};

type Bytes = HashMap<(usize, LayerPath), Vec<u8>>;

const ALL: [Ownership; 3] = [Ownership::Kernel, Ownership::Recorded, Ownership::Simulated];

fn path(path: impl AsRef<[u8]>) -> LayerPath {
    LayerPath::new(path).unwrap()
}

/// A working root with the image that it came from.
struct Place {
    dir: tempfile::TempDir,
    ownership: Ownership,
    tree: Tree,
    bytes: Bytes,
    snapshot: Snapshot,
    journal: Journal,
    excluded: Vec<LayerPath>,
}

impl Place {
    fn new(ownership: Ownership, mut base: Vec<Change>) -> Self {
        if ownership == Ownership::Kernel {
            for change in &mut base {
                let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
                (change.entry.uid, change.entry.gid) = me;
            }
        }
        let mut place = Self {
            dir: tempfile::tempdir().unwrap(),
            ownership,
            tree: Tree::default(),
            bytes: Bytes::new(),
            snapshot: Snapshot::default(),
            journal: Journal::default(),
            excluded: Vec::new(),
        };
        place.take_layer(&base);
        fs::create_dir(place.root()).unwrap();
        let unwritten = place.write(&place.root());
        assert!(unwritten.is_empty(), "{unwritten:?}");
        place.snapshot = Snapshot::take(&place.root(), 2).unwrap();
        place.snapshot.outlive_clock();
        place
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn at(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.root().join(OsStr::from_bytes(name.as_ref()))
    }

    /// Puts a layer on top of the image.
    fn take_layer(&mut self, changes: &[Change]) {
        let layer = self.tree.layers().len();
        for change in changes.iter().filter(|change| change.entry.is_file()) {
            let mut bytes = Vec::new();
            change.content.open().unwrap().read_to_end(&mut bytes).unwrap();
            self.bytes.insert((layer, change.entry.path.clone()), bytes);
        }
        let index = LayerIndex::from_changes(changes, None).unwrap();
        self.tree = self.tree.with_layer(Arc::new(index));
    }

    fn content(&self, layer: usize, path: &LayerPath) -> Content {
        Content::Bytes(self.bytes[&(layer, path.clone())].clone().into())
    }

    fn write(&self, into: &Path) -> Vec<LayerPath> {
        materialise(&self.tree, &|layer, path| self.content(layer, path), self.ownership, into, 2).unwrap()
    }

    fn compare(&self) -> Result<Compared, LayerError> {
        let journal = &self.journal;
        let owners = match self.ownership {
            Ownership::Kernel => Owners::Kernel,
            Ownership::Recorded => Owners::Recorded { journal },
            Ownership::Simulated => Owners::Simulated { journal },
        };
        let original = |path: &LayerPath| {
            let file = self.tree.file(path)?;
            self.content(file.layer, &file.path).open().ok()
        };
        let with =
            Compare { below: &self.tree, owners, excluded: &self.excluded, original: &original, threads: 2 };
        compare(&self.root(), &self.snapshot, &with)
    }

    fn changes(&self) -> Vec<Change> {
        self.compare().unwrap().scan.changes
    }

    /// Takes the step's changes as a layer, and checks that the image then is what stands on disk,
    /// whether it is written anew or applied to a tree of the image before.
    fn step(&mut self) {
        let before = self.dir.path().join("before");
        fs::create_dir(&before).unwrap();
        self.write(&before);
        let Compared { scan, mut after } = self.compare().unwrap();
        let content = |change: &Change| {
            let mut bytes = Vec::new();
            change.content.open().unwrap().read_to_end(&mut bytes).unwrap();
            Change { entry: change.entry.clone(), content: Content::Bytes(bytes.into()) }
        };
        let changes: Vec<Change> = scan.changes.iter().map(content).collect();
        after.settle(&self.root(), &changes, None).unwrap();
        after.outlive_clock();
        self.take_layer(&changes);
        let anew = self.dir.path().join("anew");
        fs::create_dir(&anew).unwrap();
        self.write(&anew);
        assert_eq!(dump(&self.root(), self.ownership), dump(&anew, self.ownership), "{changes:?}");
        advance(&before, &changes, self.ownership).unwrap();
        assert_eq!(dump(&before, self.ownership), dump(&anew, self.ownership), "{changes:?}");
        for left in [before, anew] {
            fs::remove_dir_all(left).unwrap();
        }
        self.snapshot = after;
        let nothing = self.changes();
        assert!(nothing.is_empty(), "{nothing:?}");
        let fresh = Snapshot::take(&self.root(), 1).unwrap();
        let records = |snapshot: &Snapshot| {
            let all = snapshot.directories.iter().flat_map(|(directory, listing)| {
                let named = |(name, record): (&[u8], &Record)| (directory.join(name).unwrap(), *record);
                listing.iter().map(named).collect::<Vec<_>>()
            });
            all.collect::<HashMap<_, _>>()
        };
        assert_eq!(records(&self.snapshot), records(&fresh));
    }
}

/// All that a layer would hold of a tree, and which names are one file.
fn dump(root: &Path, ownership: Ownership) -> Vec<String> {
    let mut lines = Vec::new();
    let mut names = HashMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        let mut entries: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for at in entries {
            let metadata = fs::symlink_metadata(&at).unwrap();
            let name = at.strip_prefix(root).unwrap().to_owned();
            let record = |attribute: &std::ffi::CStr| {
                let mut value = [0; 64];
                let size = rustix::fs::lgetxattr(&at, attribute, &mut value[..]).ok()?;
                Some(value[..size].to_vec())
            };
            let mut mode = metadata.mode() & 0o7777;
            let mut owner = (metadata.uid(), metadata.gid());
            if ownership != Ownership::Kernel {
                owner = (0, 0);
            }
            if !metadata.is_symlink() {
                owner = record(OWNER_RECORD).map_or(owner, |value| parse_owner_record(&value).unwrap());
            }
            if ownership == Ownership::Simulated && !metadata.is_symlink() {
                mode = record(MODE_RECORD).map_or(mode, |value| parse_mode_record(&value).unwrap());
            }
            let what = if metadata.is_dir() {
                open.push(at.clone());
                String::new()
            } else if metadata.is_symlink() {
                format!("{:?}", fs::read_link(&at).unwrap())
            } else if metadata.is_file() {
                let first = names.entry(metadata.ino()).or_insert_with(|| name.clone()).clone();
                let content = fs::read(&at).unwrap();
                format!("{first:?} {}", content.escape_ascii())
            } else {
                "special".to_owned()
            };
            lines.push(format!("{name:?} {mode:o} {owner:?} {} {what}", metadata.mtime()));
        }
    }
    lines.sort();
    lines
}

fn entry(at: impl AsRef<[u8]>, kind: EntryKind, mode: u32) -> Entry {
    Entry { mtime: 1000, ..Entry::new(path(at), kind, mode) }
}

fn file(at: impl AsRef<[u8]>, content: &str) -> Change {
    let entry = entry(at, EntryKind::File { size: content.len() as u64 }, 0o644);
    Change { entry, content: Content::Bytes(content.as_bytes().into()) }
}

fn directory(at: &str) -> Change {
    Change::bare(entry(at, EntryKind::Directory, 0o755))
}

fn base() -> Vec<Change> {
    vec![
        directory("d"),
        file("d/a", "aa"),
        file("d/b", "bb"),
        directory("d/sub"),
        file("d/sub/x", "xx"),
        directory("e"),
        file("f", "ff"),
        file("h1", "hard"),
        Change::bare(entry("h2", EntryKind::HardLink { target: path("h1") }, 0o644)),
        Change::bare(entry("l", EntryKind::Symlink { target: b"f".to_vec() }, 0o777)),
        file(b"\xffn", "nn"),
    ]
}

fn listing(changes: &[Change]) -> Vec<String> {
    let describe = |change: &Change| {
        let kind = match &change.entry.kind {
            EntryKind::File { size } => format!("f{size}"),
            EntryKind::HardLink { target } => format!("={target}"),
            EntryKind::Symlink { target } => format!("->{}", target.escape_ascii()),
            EntryKind::Directory => "d".to_owned(),
            EntryKind::Whiteout => "gone".to_owned(),
            _ => "other".to_owned(),
        };
        format!("/{} {kind}", change.entry.path.as_bytes().escape_ascii())
    };
    changes.iter().map(describe).collect()
}

fn time(at: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn chmod(at: &Path, mode: u32) {
    fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn transitions() {
    type Act = fn(&dyn Fn(&str) -> PathBuf);
    let cases: &[(&str, Act, &str)] = &[
        ("nothing", |_| {}, ""),
        ("touched and set back", |at| time(&at("f"), 1000), ""),
        ("touched", |at| time(&at("f"), 2000), "/f f2"),
        ("mode", |at| chmod(&at("f"), 0o600), "/f f2"),
        (
            "mode there and back",
            |at| {
                chmod(&at("f"), 0o600);
                chmod(&at("f"), 0o644);
            },
            "",
        ),
        (
            "content, time set back",
            |at| {
                fs::write(at("f"), "FF").unwrap();
                time(&at("f"), 1000);
            },
            "/f f2",
        ),
        (
            "same content, time set back",
            |at| {
                fs::write(at("f"), "ff").unwrap();
                time(&at("f"), 1000);
            },
            "",
        ),
        (
            "same file anew",
            |at| {
                fs::remove_file(at("f")).unwrap();
                fs::write(at("f"), "ff").unwrap();
                chmod(&at("f"), 0o644);
                time(&at("f"), 1000);
            },
            "",
        ),
        (
            "file to directory",
            |at| {
                fs::remove_file(at("f")).unwrap();
                fs::create_dir(at("f")).unwrap();
                fs::write(at("f/n"), "n").unwrap();
            },
            "/f d, /f/n f1",
        ),
        (
            "directory to file",
            |at| {
                fs::remove_dir_all(at("d")).unwrap();
                fs::write(at("d"), "n").unwrap();
            },
            "/d f1",
        ),
        (
            "file to symlink",
            |at| {
                fs::remove_file(at("f")).unwrap();
                symlink("d", at("f")).unwrap();
            },
            "/f ->d",
        ),
        (
            "symlink to file",
            |at| {
                fs::remove_file(at("l")).unwrap();
                fs::write(at("l"), "").unwrap();
            },
            "/l f0",
        ),
        (
            "directory to symlink",
            |at| {
                fs::remove_dir_all(at("d")).unwrap();
                symlink("e", at("d")).unwrap();
            },
            "/d ->e",
        ),
        (
            "symlink to directory",
            |at| {
                fs::remove_file(at("l")).unwrap();
                fs::create_dir(at("l")).unwrap();
            },
            "/l d",
        ),
        (
            "symlink elsewhere",
            |at| {
                fs::remove_file(at("l")).unwrap();
                symlink("e", at("l")).unwrap();
            },
            "/l ->e",
        ),
        ("file gone", |at| fs::remove_file(at("d/a")).unwrap(), "/d d, /d/a gone"),
        ("directory gone", |at| fs::remove_dir_all(at("d")).unwrap(), "/d gone"),
        ("deep change", |at| fs::write(at("d/sub/x"), "y").unwrap(), "/d d, /d/sub d, /d/sub/x f1"),
        (
            "directory made again",
            |at| {
                fs::remove_dir_all(at("d")).unwrap();
                fs::create_dir(at("d")).unwrap();
                fs::write(at("d/a"), "new").unwrap();
            },
            "/d d, /d/b gone, /d/sub gone, /d/a f3",
        ),
        (
            "directory made again, empty",
            |at| {
                fs::remove_dir_all(at("d/sub")).unwrap();
                fs::create_dir(at("d/sub")).unwrap();
            },
            "/d d, /d/sub d, /d/sub/x gone",
        ),
        (
            "directory renamed",
            |at| fs::rename(at("d"), at("g")).unwrap(),
            "/d gone, /g d, /g/a f2, /g/b f2, /g/sub d, /g/sub/x f2",
        ),
        (
            "directory renamed there and back",
            |at| {
                fs::rename(at("d"), at("g")).unwrap();
                fs::rename(at("g"), at("d")).unwrap();
            },
            "",
        ),
        (
            "file renamed over another",
            |at| fs::rename(at("d/a"), at("d/b")).unwrap(),
            "/d d, /d/a gone, /d/b f2",
        ),
        (
            "made and removed",
            |at| {
                fs::write(at("e/n"), "n").unwrap();
                fs::remove_file(at("e/n")).unwrap();
            },
            "/e d",
        ),
        ("link to an old file", |at| fs::hard_link(at("f"), at("z")).unwrap(), "/f f2, /z =/f"),
        ("link before an old file", |at| fs::hard_link(at("f"), at("c")).unwrap(), "/c f2, /f =/c"),
        ("one of two names gone", |at| fs::remove_file(at("h2")).unwrap(), "/h2 gone"),
        ("one of two names written", |at| fs::write(at("h2"), "HARD").unwrap(), "/h1 f4, /h2 =/h1"),
        (
            "two names parted",
            |at| {
                fs::remove_file(at("h2")).unwrap();
                fs::write(at("h2"), "soft").unwrap();
            },
            "/h2 f4",
        ),
        (
            "new pair",
            |at| {
                fs::write(at("e/p"), "p").unwrap();
                fs::hard_link(at("e/p"), at("e/q")).unwrap();
            },
            "/e d, /e/p f1, /e/q =/e/p",
        ),
    ];
    for ownership in ALL {
        for (name, act, want) in cases {
            let mut place = Place::new(ownership, base());
            act(&|name: &str| place.at(name));
            assert_eq!(listing(&place.changes()).join(", "), *want, "{name} {ownership:?}");
            place.step();
        }
    }
}

#[test]
fn names_that_are_not_text() {
    let mut place = Place::new(Ownership::Recorded, base());
    fs::write(place.at(b"\xffn"), "more").unwrap();
    fs::write(place.at(b"new\n\xfe"), "x").unwrap();
    assert_eq!(listing(&place.changes()), ["/new\\n\\xfe f1", "/\\xffn f4"]);
    place.step();
    fs::write(place.at("e/.wh.x"), "").unwrap();
    let error = place.compare().unwrap_err();
    assert!(error.to_string().contains(".wh."), "{error}");
}

#[test]
fn what_no_layer_holds_is_named() {
    let mut place = Place::new(Ownership::Recorded, base());
    fs::remove_file(place.at("f")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.at("f")).unwrap();
    let device = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(CWD, place.at("device"), device, Mode::from_raw_mode(0o600), 0).unwrap();
    let found = place.compare().unwrap();
    assert_eq!(listing(&found.scan.changes), ["/f gone"]);
    let notes = [("device", "character device 0:0"), ("f", "socket")];
    assert_eq!(found.scan.notes, notes.map(|(at, what)| Note { path: path(at), what }));
    place.snapshot = found.after;
    assert!(place.changes().is_empty());
}

#[test]
fn excluded_paths_count_as_unchanged() {
    let mut base = base();
    base.extend([directory("etc"), file("etc/hosts", "host"), directory("dev")]);
    let mut place = Place::new(Ownership::Recorded, base);
    place.excluded = ["dev", "proc", "etc/hosts", "etc/resolv.conf"].map(path).into();
    fs::write(place.at("dev/null"), "junk").unwrap();
    fs::create_dir(place.at("proc")).unwrap();
    fs::write(place.at("proc/x"), "junk").unwrap();
    fs::remove_file(place.at("etc/hosts")).unwrap();
    fs::write(place.at("etc/resolv.conf"), "junk").unwrap();
    assert!(place.changes().is_empty());
    // With something else in their directory, they still are not there, and leave it its time.
    fs::write(place.at("etc/other"), "o").unwrap();
    assert_eq!(listing(&place.changes()), ["/etc d", "/etc/other f1"]);
    fs::remove_file(place.at("etc/other")).unwrap();
    chmod(&place.at("etc"), 0o711);
    let changes = place.changes();
    assert_eq!((listing(&changes), changes[0].entry.mtime), (vec!["/etc d".to_owned()], 1000));
    // Made again, the directory is what it was, since what is excluded was no part of it.
    fs::remove_dir_all(place.at("etc")).unwrap();
    fs::create_dir(place.at("etc")).unwrap();
    chmod(&place.at("etc"), 0o755);
    assert!(place.changes().is_empty());
}

#[test]
fn depth_costs_no_descriptors() {
    for (depth, fits) in [(2000, true), (3000, false)] {
        let place = Place::new(Ownership::Kernel, base());
        let mut fd: OwnedFd = fs::File::open(place.root()).unwrap().into();
        for _ in 0..depth {
            rustix::fs::mkdirat(&fd, "n", Mode::from_raw_mode(0o755)).unwrap();
            fd = rustix::fs::openat(&fd, "n", OFlags::RDONLY, Mode::empty()).unwrap();
        }
        match place.compare() {
            Ok(found) => assert_eq!((found.scan.changes.len(), fits), (depth, true)),
            Err(error) => assert!(!fits && error.to_string().contains("4096"), "{error}"),
        }
        // Too deep to be removed by path: the levels are taken off at the top.
        drop(fd);
        for _ in 1..depth {
            fs::rename(place.at("n/n"), place.at("m")).unwrap();
            fs::remove_dir(place.at("n")).unwrap();
            fs::rename(place.at("m"), place.at("n")).unwrap();
        }
    }
}

#[test]
fn owners_of_what_carries_no_record() {
    let mut base = base();
    let owned = |at: &str, kind, mode| Entry { uid: 7, gid: 8, ..entry(at, kind, mode) };
    let link = || EntryKind::Symlink { target: b"f".to_vec() };
    base.extend(["s1", "s2", "s3", "s4"].map(|at| Change::bare(owned(at, link(), 0o777))));
    base.push(Change::bare(owned("p", EntryKind::Fifo, 0o600)));
    for ownership in [Ownership::Recorded, Ownership::Simulated] {
        let mut place = Place::new(ownership, base.clone());
        // Only looked at, moved, given away, made anew as something else.
        time(&place.at("s1"), 1000);
        fs::rename(place.at("s2"), place.at("e/s2")).unwrap();
        let moved = fs::symlink_metadata(place.at("s3")).unwrap();
        place.journal.insert(moved.ino(), None, 1, 2);
        time(&place.at("s3"), 1000);
        fs::remove_file(place.at("s4")).unwrap();
        symlink("elsewhere", place.at("s4")).unwrap();
        chmod(&place.at("p"), 0o644);
        let changes = place.changes();
        let owners: Vec<_> = changes
            .iter()
            .filter(|change| !change.entry.is_marker() && !change.entry.is_directory())
            .map(|change| (change.entry.path.to_string(), change.entry.uid, change.entry.gid))
            .collect();
        let want = [("/e/s2", 7, 8), ("/p", 7, 8), ("/s3", 1, 2), ("/s4", 0, 0)];
        assert_eq!(owners, want.map(|(at, uid, gid)| (at.to_owned(), uid, gid)));
        place.step();
    }
}

#[test]
fn records_are_the_owner_and_mode() {
    for ownership in [Ownership::Recorded, Ownership::Simulated] {
        let mut place = Place::new(ownership, base());
        let set = |at: &str, name, value: String| {
            rustix::fs::setxattr(place.at(at), name, value.as_bytes(), XattrFlags::empty()).unwrap();
        };
        set("f", OWNER_RECORD, owner_record(33, 44, 0o644));
        set("d", OWNER_RECORD, owner_record(1, 0, 0o755));
        set("f", MODE_RECORD, mode_record(0o4400));
        let mut changes = place.changes();
        let simulated = ownership == Ownership::Simulated;
        let got: Vec<_> = changes
            .iter_mut()
            .map(|c| (c.entry.mode, c.entry.uid, c.entry.gid, c.entry.xattrs.len()))
            .collect();
        assert_eq!(got, [(0o755, 1, 0, 0), (if simulated { 0o4400 } else { 0o644 }, 33, 44, 0)]);
        if simulated {
            place.step();
        }
        rustix::fs::setxattr(place.at("f"), OWNER_RECORD, b"junk", XattrFlags::empty()).unwrap();
        assert!(place.compare().unwrap_err().to_string().contains("malformed"));
    }
}

/// One thing a command may do; what fails is left undone.
#[derive(Debug, Clone)]
enum Act {
    Write(usize),
    Same(usize),
    Remove(usize),
    Directory(usize),
    Rename(usize, usize),
    Link(usize, usize),
    Symlink(usize),
    Chmod(usize, usize),
    Own(usize, u32),
    SetBack(usize),
}

const NAMES: [&str; 14] =
    ["d", "d/a", "d/b", "d/sub", "d/sub/x", "e", "e/n", "f", "h1", "h2", "l", "g", "g/a", "g/sub"];

fn any_act() -> impl Strategy<Value = Act> {
    let at = || 0..NAMES.len();
    prop_oneof![
        3 => at().prop_map(Act::Write),
        1 => at().prop_map(Act::Same),
        3 => at().prop_map(Act::Remove),
        2 => at().prop_map(Act::Directory),
        3 => (at(), at()).prop_map(|(from, to)| Act::Rename(from, to)),
        2 => (at(), at()).prop_map(|(from, to)| Act::Link(from, to)),
        1 => at().prop_map(Act::Symlink),
        2 => (at(), 0..4usize).prop_map(|(at, mode)| Act::Chmod(at, mode)),
        1 => (at(), 0..3u32).prop_map(|(at, uid)| Act::Own(at, uid)),
        2 => at().prop_map(Act::SetBack),
    ]
}

fn act(place: &Place, act: &Act, number: usize) -> std::io::Result<()> {
    let at = |name: usize| place.at(NAMES[name]);
    let plain = |name: usize| -> std::io::Result<fs::Metadata> {
        let metadata = fs::symlink_metadata(at(name))?;
        if metadata.is_symlink() { Err(std::io::ErrorKind::InvalidInput.into()) } else { Ok(metadata) }
    };
    match *act {
        Act::Write(name) => {
            if fs::symlink_metadata(at(name)).is_ok_and(|found| found.is_symlink()) {
                return Ok(());
            }
            fs::File::create(at(name))?.write_all(format!("content {number}").as_bytes())
        }
        Act::Same(name) => {
            plain(name)?;
            let content = fs::read(at(name))?;
            let time_before = fs::metadata(at(name))?.mtime();
            fs::write(at(name), content)?;
            time(&at(name), time_before);
            Ok(())
        }
        Act::Remove(name) if fs::symlink_metadata(at(name))?.is_dir() => fs::remove_dir_all(at(name)),
        Act::Remove(name) => fs::remove_file(at(name)),
        Act::Directory(name) => fs::create_dir(at(name)),
        Act::Rename(from, to) => fs::rename(at(from), at(to)),
        Act::Link(from, to) => fs::hard_link(at(from), at(to)),
        Act::Symlink(name) => symlink(format!("to {number}"), at(name)),
        Act::Chmod(name, mode) => {
            plain(name)?;
            fs::set_permissions(at(name), fs::Permissions::from_mode([0o755, 0o700, 0o4711, 0o1777][mode]))
        }
        Act::Own(name, uid) => {
            plain(name)?;
            if place.ownership == Ownership::Kernel {
                return std::os::unix::fs::chown(at(name), Some(uid), Some(uid));
            }
            let record = owner_record(uid, uid, 0);
            Ok(rustix::fs::setxattr(at(name), OWNER_RECORD, record.as_bytes(), XattrFlags::empty())?)
        }
        Act::SetBack(name) => {
            fs::symlink_metadata(at(name))?;
            time(&at(name), 1000);
            Ok(())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn the_image_becomes_what_stands_on_disk(
        ownership in 0..3usize,
        steps in prop::collection::vec(prop::collection::vec(any_act(), 0..12), 1..4),
    ) {
        let mut place = Place::new(ALL[ownership], base());
        let mut number = 0;
        for acts in &steps {
            for one in acts {
                number += 1;
                _ = act(&place, one, number);
            }
            place.step();
        }
    }
}
