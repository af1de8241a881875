use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;
use crate::layer::{Entry, EntryKind};

fn path(path: &str) -> LayerPath {
    LayerPath::new(path).unwrap()
}

fn file(at: &str, data: &str) -> Change {
    let kind = EntryKind::File { size: data.len() as u64 };
    Change { entry: Entry::new(path(at), kind, 0o644), content: Content::Bytes(data.as_bytes().into()) }
}

fn link(at: &str, target: &str) -> Change {
    Change::bare(Entry::new(path(at), EntryKind::Symlink { target: target.into() }, 0o777))
}

fn hard_link(at: &str, target: &str) -> Change {
    Change::bare(Entry::new(path(at), EntryKind::HardLink { target: path(target) }, 0o644))
}

fn selection(words: &[&str], exclude: &[&str], parents: bool) -> Selection {
    let exclude = exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
    Selection { exclude, parents, ..Selection::of(words.to_vec()) }
}

fn directory(path: &Path) -> Context {
    Context::open(path, Ignore::none()).unwrap()
}

#[test]
fn sockets_are_named_where_a_copy_meets_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir_all(at.join("run/deep")).unwrap();
    fs::write(at.join("run/f"), "").unwrap();
    for name in ["run/s", "run/deep/t", "top"] {
        drop(UnixListener::bind(at.join(name)).unwrap());
    }
    symlink("run/s", at.join("to")).unwrap();
    let context = directory(at);
    for (words, exclude, parents, want) in [
        (&["run/f"][..], &[][..], false, &[][..]),
        (&["run"], &[], false, &["/run/deep/t", "/run/s"]),
        (&["run"], &["deep"], false, &["/run/s"]),
        (&["run"], &["s", "deep/t"], false, &[]),
        (&["t*"], &[], false, &["/run/s", "/top"]),
        (&["run/**/t"], &[], true, &["/run/deep/t"]),
        (&["."], &[], false, &["/run/deep/t", "/run/s", "/top"]),
    ] {
        let found = context.sockets_in(&selection(words, exclude, parents)).unwrap();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, want, "{words:?} without {exclude:?}");
    }
    for word in ["top", "run/s", "to"] {
        let error = context.select(&selection(&[word], &[], false)).unwrap_err();
        assert_eq!(error.to_string(), format!("\"/{word}\" is a socket, which no image can hold"));
    }
    assert!(context.digest(&selection(&["."], &[], false)).is_ok());
}

#[test]
fn what_is_missing_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.log"), "").unwrap();
    let context = Context::open(folder.path(), Ignore::parse(b"# logs\n*.log\n").unwrap()).unwrap();
    let hint = |context: &Context, word| context.select(&selection(&[word], &[], false)).unwrap_err().hint();
    assert_eq!(hint(&context, "a.log").unwrap(), "it is ignored by .dockerignore:2: *.log");
    assert_eq!(hint(&context, "b").unwrap(), "paths are relative to the build context");
    let why = "the build context is standard input, which holds a Dockerfile alone";
    let empty = Context::empty(why);
    assert_eq!(hint(&empty, "b").unwrap(), why);
    assert!(empty.select(&selection(&["b*"], &[], false)).unwrap().is_empty());
    assert!(empty.select(&selection(&["."], &[], false)).unwrap()[0].entries.is_empty());
    assert_eq!(empty.read_file("Dockerfile", 1).unwrap(), None);
}

#[test]
fn small_files_are_read_through_links_inside() {
    let context = Context::gathered(vec![
        file("Dockerfile", "FROM scratch"),
        Change::bare(Entry::new(path("d"), EntryKind::Directory, 0o755)),
        link("d/absolute", "/Dockerfile"),
        link("d/out", "../../../etc/passwd"),
        link("dangling", "/etc/passwd"),
        link("up", "../../Dockerfile"),
        hard_link("hard", "Dockerfile"),
        Change::bare(Entry::new(path("fifo"), EntryKind::Fifo, 0o644)),
    ])
    .unwrap();
    for name in ["Dockerfile", "/Dockerfile", "./d/../Dockerfile", "d/absolute", "up", "hard"] {
        let read = context.read_file(name, 12).unwrap();
        assert_eq!(read.as_deref(), Some(&b"FROM scratch"[..]), "{name}");
    }
    for name in ["nope", "d/out", "dangling", "../nope"] {
        assert_eq!(context.read_file(name, 100).unwrap(), None, "{name}");
    }
    for (name, want) in [
        ("fifo", "`fifo` of the build context is not a regular file"),
        ("d", "`d` of the build context is not a regular file"),
        ("Dockerfile", "`Dockerfile` of the build context is larger than 11 bytes"),
    ] {
        assert_eq!(context.read_file(name, 11).unwrap_err().to_string(), want);
    }
}

#[test]
fn a_digest_covers_what_is_taken_and_nothing_else() {
    let files = || {
        vec![
            Change::bare(Entry::new(path("d"), EntryKind::Directory, 0o755)),
            Change::bare(Entry::new(path("d/e"), EntryKind::Directory, 0o755)),
            file("d/e/a.txt", "a"),
            file("d/e/b.md", "b"),
            file("d/x", "x"),
            file("other", "o"),
        ]
    };
    let digest = |changes: &[Change], words: &[&str], exclude: &[&str], parents| {
        let context = Context::gathered(changes.to_vec()).unwrap();
        context.digest(&selection(words, exclude, parents)).unwrap()
    };
    let changed = |at: &str, change: &dyn Fn(&mut Change)| {
        let mut files = files();
        files.iter_mut().filter(|file| file.entry.path == path(at)).for_each(change);
        files
    };
    let data: &dyn Fn(&mut Change) = &|file| file.content = Content::Bytes(b"z"[..].into());
    let mode: &dyn Fn(&mut Change) = &|file| file.entry.mode ^= 0o111;
    let time: &dyn Fn(&mut Change) = &|file| file.entry.mtime += 1;
    for (words, exclude, parents, at, change, same) in [
        (&["d"][..], &[][..], false, "d/x", data, false),
        (&["d"], &[], false, "d/x", mode, false),
        (&["d"], &[], false, "d/x", time, true),
        (&["d"], &["x"], false, "d/x", data, true),
        (&["d"], &["x"], false, "d/x", mode, true),
        (&["d"], &["x"], false, "d/e/a.txt", data, false),
        (&["d"], &["**/*.md"], false, "d/e/b.md", data, true),
        (&["d"], &[], false, "other", data, true),
        // Directories on the way count where they are kept.
        (&["d/e/a.txt"], &[], true, "d/e", mode, false),
        (&["d/e/a.txt"], &[], true, "d", mode, false),
        (&["d/./e/a.txt"], &[], true, "d", mode, true),
        (&["d/e/a.txt"], &[], false, "d/e", mode, true),
        (&["**/*.txt"], &[], true, "d/e/b.md", data, true),
    ] {
        let before = digest(&files(), words, exclude, parents);
        let after = digest(&changed(at, change), words, exclude, parents);
        assert_eq!(before == after, same, "{words:?} without {exclude:?} after a change of {at}");
    }
    // What is asked for in other words is the same where the same is taken.
    let all = digest(&files(), &["d"], &[], false);
    assert_eq!(digest(&files(), &["d"], &["nothing"], false), all);
    assert_ne!(digest(&files(), &["d"], &["e"], false), all);
    assert_ne!(digest(&files(), &["d"], &[], true), all);
}

#[test]
fn hard_links_are_told_from_equal_files() {
    let digest = |changes: Vec<Change>, exclude: &[&str]| {
        let context = Context::gathered(changes).unwrap();
        context.digest(&selection(&["."], exclude, false)).unwrap()
    };
    let two = || vec![file("b", "x"), file("c", "x")];
    let linked = || vec![file("b", "x"), hard_link("c", "b")];
    assert_ne!(digest(two(), &[]), digest(linked(), &[]));
    // Names that are left out do not matter.
    let with_first = |mut more: Vec<Change>| {
        more.insert(0, file("a", "x"));
        more
    };
    let all = with_first(vec![hard_link("b", "a"), hard_link("c", "a")]);
    assert_eq!(digest(all, &["a"]), digest(linked(), &[]));
    assert_eq!(digest(with_first(vec![hard_link("b", "a"), file("c", "x")]), &["a"]), digest(two(), &[]));
}

#[test]
fn what_is_left_out_is_never_opened() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir(at.join("d")).unwrap();
    fs::write(at.join("d/f"), "f").unwrap();
    // It is gone when files are opened.
    fs::write(at.join("d/secret"), "s").unwrap();
    let context = directory(at);
    fs::remove_file(at.join("d/secret")).unwrap();
    assert!(context.digest(&selection(&["d"], &["secret"], false)).is_ok());
    assert!(context.digest(&selection(&["d/secret"], &["secret"], false)).is_ok());
    assert!(context.digest(&selection(&["d/f"], &[], true)).is_ok());
    assert!(context.digest(&selection(&["d"], &[], false)).is_err());
}

#[test]
fn many_files_are_read_by_several_threads_as_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for directory in ["x", "y/deep"] {
        fs::create_dir_all(at.join(directory)).unwrap();
        for number in 0..150 {
            fs::write(at.join(format!("{directory}/f{number:03}")), format!("{directory}{number}")).unwrap();
        }
    }
    fs::write(at.join("large"), vec![7; 200_000]).unwrap();
    fs::write(at.join("empty"), "").unwrap();
    fs::hard_link(at.join("x/f007"), at.join("y/linked")).unwrap();
    let context = directory(at);
    let all = selection(&["."], &[], false);
    // The same files from memory, which are read one after the other.
    let changes = context.tree().walk(&LayerPath::root()).into_iter().map(|(path, node)| {
        let data =
            if node.entry.is_file() { fs::read(at.join(path.as_os_path())).unwrap() } else { Vec::new() };
        Change { entry: node.entry, content: Content::Bytes(data.into()) }
    });
    let gathered = Context::gathered(changes.collect()).unwrap();
    assert_eq!(context.digest(&all).unwrap(), gathered.digest(&all).unwrap());
    // Of all that cannot be read, the first is told.
    for _ in 0..5 {
        let context = directory(at);
        let gone = ["x/f120", "y/deep/f000", "y/deep/f149"];
        gone.iter().for_each(|file| fs::remove_file(at.join(file)).unwrap());
        let error = context.digest(&all).unwrap_err().to_string();
        assert!(error.starts_with("failed to read `x/f120`"), "{error}");
        gone.iter().for_each(|file| fs::write(at.join(file), "").unwrap());
    }
}

#[test]
fn links_that_come_later_are_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), "secret").unwrap();
    for (place, target) in [("d/f", outside.path().join("f")), ("d", outside.path().to_owned())] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        fs::write(folder.path().join("d/f"), "public").unwrap();
        let context = directory(folder.path());
        fs::rename(folder.path().join(place), folder.path().join("away")).unwrap();
        symlink(target, folder.path().join(place)).unwrap();
        assert!(context.digest(&selection(&["d/f"], &[], false)).is_err(), "{place}");
    }
}
