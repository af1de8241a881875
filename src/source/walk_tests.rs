use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{Mode, mkdirat, openat};

use super::*;

fn ignore(text: &str) -> Ignore {
    Ignore::parse(text.as_bytes()).unwrap()
}

fn walked(at: &Path, ignore: &Ignore, threads: fn() -> usize) -> Result<Walked, SourceError> {
    walk(File::open(at).unwrap().as_fd(), ignore, threads)
}

fn names(walked: &Walked) -> Vec<String> {
    walked.entries.iter().map(|entry| entry.path.to_string()).collect()
}

/// Directories in one another, whose path is too long for a layer.
fn bottomless(at: &Path) {
    let name = "d".repeat(250);
    let mut directory = OwnedFd::from(File::open(at).unwrap());
    for _ in 0..20 {
        mkdirat(&directory, &name[..], Mode::RWXU).unwrap();
        directory = openat(&directory, &name[..], OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
}

#[test]
fn threads_do_not_change_what_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for directory in 0..40 {
        for deeper in ["", "/x", "/x/y", "/z"] {
            let directory = at.join(format!("d{directory}{deeper}"));
            fs::create_dir_all(&directory).unwrap();
            for file in 0..7 {
                fs::write(directory.join(format!("f{file}")), "f").unwrap();
            }
        }
        fs::hard_link(at.join("d0/f0"), at.join(format!("d{directory}/x/linked"))).unwrap();
        symlink("nowhere", at.join(format!("d{directory}/to"))).unwrap();
        fs::write(at.join(format!("d{directory}.txt")), "f").unwrap();
        drop(UnixListener::bind(at.join(format!("d{directory}/s"))).unwrap());
    }
    let rules = ignore("d1*\n!d17/z\n**/y");
    let one = walked(at, &rules, || 1).unwrap();
    assert!(one.entries.is_sorted_by(|left, right| left.path < right.path));
    assert!(one.sockets.is_sorted() && one.sockets.len() == 29);
    assert_eq!(one.entries.len(), one.stats.len());
    for _ in 0..10 {
        assert_eq!(walked(at, &rules, || 8).unwrap(), one);
    }
    let index = crate::layer::LayerIndex::of_sorted(one.entries.clone()).unwrap();
    let changes: Vec<_> = one.entries.iter().cloned().map(crate::layer::Change::bare).collect();
    assert_eq!(index, crate::layer::LayerIndex::from_changes(&changes, None).unwrap());
    let of = |path: &str| one.entries.iter().find(|entry| entry.path.as_bytes() == path.as_bytes()).unwrap();
    assert!(of("d0/f0").is_file());
    assert_eq!(of("d2/x/linked").kind, EntryKind::HardLink { target: LayerPath::new("d0/f0").unwrap() });
    assert_eq!(of("d2/to").mode, 0o777);
    assert!(of("d17").is_directory() && of("d17/z/f0").is_file());
}

#[test]
fn what_is_ignored_is_not_entered() {
    for (rules, enters) in [
        ("deep", false),
        ("*", false),
        ("d*/", false),
        ("deep\n!other/x", false),
        ("", true),
        ("other", true),
        ("deep\n!deep/x", true),
        ("deep/x", true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("other/x")).unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        bottomless(&folder.path().join("deep"));
        // A rule that re-includes `deep/x` leads into `deep`, and no further.
        let first = folder.path().join("deep/x");
        if rules.ends_with("!deep/x") {
            fs::create_dir(&first).unwrap();
            bottomless(&first);
        }
        assert_eq!(walked(folder.path(), &ignore(rules), || 2).is_err(), enters, "{rules:?}");
    }
}

#[test]
fn ignored_directories_stay_for_what_is_included_below() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["a/b/keep", "a/b/drop", "a/c/drop", "e/drop", "f"] {
        fs::create_dir_all(folder.path().join(file).parent().unwrap()).unwrap();
        fs::write(folder.path().join(file), "").unwrap();
    }
    let found = walked(folder.path(), &ignore("**\n!**/keep"), || 2).unwrap();
    assert_eq!(names(&found), ["/a", "/a/b", "/a/b/keep"]);
    assert_eq!(found.stats.len(), 3);
}

#[test]
fn the_first_failure_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for directory in 0..30 {
        let directory = folder.path().join(format!("d{directory:02}"));
        fs::create_dir(&directory).unwrap();
        if directory.ends_with("d11") || directory.ends_with("d23") {
            bottomless(&directory);
        }
    }
    for _ in 0..5 {
        let error = walked(folder.path(), &Ignore::none(), || 4).unwrap_err().to_string();
        assert!(error.contains("d11/") && error.contains("4096"), "{error}");
    }
}
