use std::fs::FileTimes;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::dockerfile::Selection;
use crate::dockerfile::ignore::Ignore;
use crate::image::{DataHash, Digest};
use crate::layer::Xattrs;
use crate::source::Context;

/// Files that were written by a test are settled after a while.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(10)
}

struct Bench {
    folder: tempfile::TempDir,
    store: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap(), store: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.folder.path().join("d")).unwrap();
        for name in ["a", "d/b", "d/\n\u{ff}", "e", "z"] {
            fs::write(bench.folder.path().join(name), name).unwrap();
        }
        symlink("a", bench.folder.path().join("l")).unwrap();
        bench
    }

    fn cache(&self, clock: Clock) -> StatCache {
        StatCache { clock, ..StatCache::of(self.store.path(), self.folder.path()).unwrap() }
    }

    fn open(&self, clock: Clock) -> Context {
        Context::open_with(self.folder.path(), Ignore::none(), Some(self.cache(clock))).unwrap()
    }

    /// A build that reads what it does not know and keeps what it learns.
    fn build(&self, clock: Clock) -> Digest {
        let context = self.open(clock);
        let digest = context.digest(&Selection::of(["."])).unwrap();
        context.keep_stats();
        digest
    }

    /// What a build finds without any cache.
    fn truth(&self) -> Digest {
        let context = Context::open(self.folder.path(), Ignore::none()).unwrap();
        context.digest(&Selection::of(["."])).unwrap()
    }

    /// The paths that the next build need not open.
    fn known(&self, clock: Clock) -> Vec<String> {
        let context = self.open(clock);
        let nodes = context.tree().walk(&LayerPath::root());
        let paths = nodes.iter().map(|(path, _)| path);
        let stats: Vec<_> = paths.clone().map(|path| self.stat(path)).collect();
        let recalled = self.cache(clock).recall(paths.clone().zip(&stats));
        paths.filter(|path| recalled.facts.contains_key(path)).map(ToString::to_string).collect()
    }

    fn stat(&self, path: &LayerPath) -> Stamp {
        Stamp::of(&rustix::fs::lstat(self.folder.path().join(path.as_os_path())).unwrap())
    }
}

#[test]
fn what_did_not_change_is_not_read() {
    let bench = Bench::new();
    assert_eq!(bench.build(later), bench.truth());
    assert_eq!(bench.known(later), ["/a", "/d", "/d/\\n\u{ff}", "/d/b", "/e", "/z"]);
    assert_eq!(bench.build(later), bench.truth());
    // A false record is believed: nobody looks at the file.
    let path = LayerPath::new("e").unwrap();
    let false_data = Some(DataHash::of(b"other"));
    let facts = Facts { data: false_data, xattrs: Xattrs::new(), stat: Some(bench.stat(&path)), seen: None };
    bench.cache(later).keep([(&path, &facts)].into_iter()).unwrap();
    assert_ne!(bench.build(later), bench.truth());
}

#[test]
fn every_change_is_noticed() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("data of the same length under the same modification time", |file| {
            let modified = fs::metadata(file).unwrap().modified().unwrap();
            fs::write(file, "E").unwrap();
            let times = FileTimes::new().set_modified(modified);
            File::options().write(true).open(file).unwrap().set_times(times).unwrap();
        }),
        ("more data", |file| fs::write(file, "ee").unwrap()),
        ("another file in its place", |file| {
            let other = file.with_file_name("other");
            fs::write(&other, "E").unwrap();
            fs::rename(other, file).unwrap();
        }),
        ("a directory in its place", |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
        ("nothing in its place", |file| fs::remove_file(file).unwrap()),
        ("another mode", |file| fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap()),
    ];
    for (what, change) in changes {
        let bench = Bench::new();
        let before = bench.build(later);
        // The kernel's clock moves on in steps of some milliseconds.
        std::thread::sleep(Duration::from_millis(30));
        change(&bench.folder.path().join("e"));
        assert!(!bench.known(later).contains(&"/e".to_owned()), "{what}");
        let after = bench.build(later);
        assert_eq!(after, bench.truth(), "{what}");
        assert_ne!(after, before, "{what}");
        assert_eq!(bench.build(later), after, "{what}");
    }
}

#[test]
fn what_changed_lately_is_not_kept() {
    let bench = Bench::new();
    bench.build(SystemTime::now);
    assert!(bench.known(later).is_empty());
    // It was not written either.
    assert_eq!(fs::read_dir(bench.store.path()).unwrap().count(), 0);
    // A modification time to come.
    let times = FileTimes::new().set_modified(SystemTime::now() + Duration::from_secs(3600));
    File::options().write(true).open(bench.folder.path().join("e")).unwrap().set_times(times).unwrap();
    bench.build(later);
    assert_eq!(bench.known(later), ["/a", "/d", "/d/\\n\u{ff}", "/d/b", "/z"]);
}

#[test]
fn a_clock_that_went_backwards_ends_all_trust() {
    let bench = Bench::new();
    bench.build(later);
    assert!(!bench.known(later).is_empty());
    assert!(bench.known(SystemTime::now).is_empty());
}

#[test]
fn damage_is_ignored_and_mended() {
    let bench = Bench::new();
    let digest = bench.build(later);
    let file = bench.cache(later).file;
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() - 40], b"", b"fanfold-stats-1\n"] {
        fs::write(&file, damaged).unwrap();
        assert!(bench.known(later).is_empty());
        assert_eq!(bench.build(later), digest);
        assert_eq!(bench.known(later).len(), 6);
    }
}

#[test]
fn it_is_written_when_something_changed_and_forgets_what_is_gone() {
    let bench = Bench::new();
    bench.build(later);
    let file = bench.cache(later).file;
    let written = || fs::metadata(&file).unwrap();
    let (inode, size) = (written().ino(), written().size());
    assert_eq!(written().mode() & 0o7777, 0o600);
    bench.build(later);
    assert_eq!(written().ino(), inode);
    for name in ["a", "z"] {
        fs::remove_file(bench.folder.path().join(name)).unwrap();
        bench.build(later);
    }
    assert!(written().size() < size);
    assert_eq!(bench.known(later), ["/d", "/d/\\n\u{ff}", "/d/b", "/e"]);
    // New names sort before, between and after what is known.
    for name in ["A", "d/a", "y", "zz"] {
        fs::write(bench.folder.path().join(name), name).unwrap();
    }
    assert_eq!(bench.build(later), bench.truth());
    assert_eq!(bench.known(later).len(), 8);
}

#[test]
fn what_was_not_asked_for_this_time_stays_known() {
    let bench = Bench::new();
    bench.build(later);
    fs::write(bench.folder.path().join("new"), "new").unwrap();
    let context = bench.open(later);
    context.digest(&Selection::of(["new"])).unwrap();
    context.keep_stats();
    assert_eq!(bench.known(later).len(), 7);
}

#[test]
fn a_file_in_progress_is_left_to_its_owner() {
    let bench = Bench::new();
    let file = bench.cache(later).file;
    let progress = file.with_extension("new");
    fs::write(&progress, "").unwrap();
    bench.build(later);
    assert!(!file.exists());
    // After a minute, it is nobody's.
    let times = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(100));
    File::options().write(true).open(&progress).unwrap().set_times(times).unwrap();
    bench.build(later);
    assert!(file.exists() && !progress.exists());
}

#[test]
fn each_folder_has_a_cache_of_its_own() {
    let (one, two) = (Bench::new(), Bench::new());
    let of = |folder: &Path| StatCache::of(one.store.path(), folder).unwrap().file;
    assert_eq!(of(one.folder.path()), of(&one.folder.path().join("d/..")));
    assert_ne!(of(one.folder.path()), of(two.folder.path()));
    assert!(StatCache::of(one.store.path(), Path::new("/nowhere")).is_err());
    assert_eq!(of(one.folder.path()).file_name().unwrap().len(), 64);
}
