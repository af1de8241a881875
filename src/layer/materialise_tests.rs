//! Tests of whole trees and of the ways in which directories hold owners and modes.

use std::fs;
use std::io::Seek;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::image::media_type::LayerEncoding;
use crate::layer::{
    Change, Journal, LayerIndex, Limits, Owners, TarWriter, advance, scan, unpack, write_directory,
};

fn path(path: &str) -> LayerPath {
    LayerPath::new(path).unwrap()
}

fn owned(at: &str, kind: EntryKind, mode: u32, uid: u32, gid: u32) -> Change {
    let content = match kind {
        EntryKind::File { size } => Content::Bytes(vec![b'x'; size as usize].into()),
        _ => Content::Empty,
    };
    Change { entry: Entry { uid, gid, mtime: 1000, ..Entry::new(path(at), kind, mode) }, content }
}

fn file(at: &str, mode: u32) -> Change {
    owned(at, EntryKind::File { size: 1 }, mode, 0, 0)
}

fn directory(at: &str) -> Change {
    owned(at, EntryKind::Directory, 0o755, 0, 0)
}

fn link(at: &str, target: &str) -> Change {
    owned(at, EntryKind::HardLink { target: path(target) }, 0o644, 0, 0)
}

fn sym(at: &str, target: &str) -> Change {
    owned(at, EntryKind::Symlink { target: target.into() }, 0o777, 0, 0)
}

fn tree(layers: &[&[Change]]) -> Tree {
    Tree::new(layers.iter().map(|layer| Arc::new(LayerIndex::from_changes(layer, None).unwrap())).collect())
}

/// Content that tells where it is from.
fn content(layer: usize, path: &LayerPath) -> Content {
    assert!(!path.is_root());
    Content::Bytes(vec![b'0' + layer as u8].into())
}

fn attribute(at: PathBuf, name: &str) -> Option<String> {
    let mut value = [0; 64];
    let size = rustix::fs::lgetxattr(at, name, &mut value[..]).ok()?;
    Some(String::from_utf8(value[..size].to_vec()).unwrap())
}

#[test]
fn layers_become_one_tree() {
    let layers: [&[Change]; 3] = [
        &[
            directory("d"),
            file("d/a", 0o644),
            link("d/b", "d/a"),
            file("gone", 0o600),
            sym("l", "d"),
            file("e/x", 0o600),
        ],
        &[Change::bare(Entry::whiteout(path("gone"))), link("c", "d/b"), file("d/a", 0o444)],
        &[Change::bare(Entry::opaque(path("e"))), file("e/y", 0o600), file("l", 0o600)],
    ];
    let place = tempfile::tempdir().unwrap();
    let tree = tree(&layers);
    let unwritten = materialise(&tree, &content, Ownership::Recorded, place.path(), 3).unwrap();
    assert!(unwritten.is_empty());
    let at = |name: &str| place.path().join(name);
    let read = |name: &str| fs::read_to_string(at(name)).unwrap();
    assert_eq!(
        (read("d/a"), read("d/b"), read("c"), read("l")),
        ("1".into(), "0".into(), "0".into(), "2".into())
    );
    let metadata = |name: &str| fs::symlink_metadata(at(name)).unwrap();
    assert_eq!(metadata("c").ino(), metadata("d/b").ino());
    assert_ne!(metadata("c").ino(), metadata("d/a").ino());
    assert_eq!((metadata("d/a").mode() & 0o7777, metadata("d").mtime()), (0o444, 1000));
    assert!(!at("gone").exists() && !at("e/x").exists() && at("e/y").exists());
    assert_eq!(metadata("e").mtime(), 0);
    let dangling = tree_of_a_dangling_link();
    assert!(materialise(&dangling, &content, Ownership::Recorded, &at("e"), 1).is_err());
}

fn tree_of_a_dangling_link() -> Tree {
    tree(&[&[link("x", "nowhere")]])
}

#[test]
fn errors_of_other_threads_are_told() {
    let many: Vec<Change> = (0..300).map(|number| file(&format!("f{number}"), 0o644)).collect();
    let place = tempfile::tempdir().unwrap();
    let missing = |_: usize, path: &LayerPath| match path.as_bytes() {
        b"f250" => Content::File("/nonexistent/file".into()),
        _ => Content::Bytes(b"x"[..].into()),
    };
    let error = materialise(&tree(&[&many]), &missing, Ownership::Recorded, place.path(), 4).unwrap_err();
    assert!(error.to_string().contains("nonexistent"), "{error}");
}

#[test]
fn layers_are_applied_to_a_tree() {
    let base = [
        directory("d"),
        owned("d/sub", EntryKind::Directory, 0o1777, 5, 6),
        file("d/sub/a", 0o644),
        file("f", 0o644),
        sym("l", "d"),
        file("e/old", 0o600),
    ];
    let upper = [
        file("d/sub/b", 0o600),
        file("l/x", 0o600),
        directory("f"),
        Change::bare(Entry::opaque(path("e"))),
        directory("e"),
        owned("d", EntryKind::Directory, 0o700, 7, 8),
        link("again", "d/sub/a"),
    ];
    for ownership in [Ownership::Recorded, Ownership::Simulated] {
        let place = tempfile::tempdir().unwrap();
        let (root, anew) = (place.path().join("root"), place.path().join("anew"));
        for made in [&root, &anew] {
            fs::create_dir(made).unwrap();
        }
        let write = |layers: &[&[Change]], into: &Path| {
            let bytes = |_: usize, _: &LayerPath| Content::Bytes(b"x"[..].into());
            materialise(&tree(layers), &bytes, ownership, into, 1).unwrap();
        };
        write(&[&base], &root);
        assert!(advance(&root, &upper, ownership).unwrap().is_empty());
        write(&[&base, &upper], &anew);
        let look = |root: &Path, name: &str| {
            let metadata = fs::symlink_metadata(root.join(name)).unwrap();
            let record = attribute(root.join(name), "user.containers.override_stat");
            (metadata.mode(), metadata.mtime(), metadata.nlink(), record)
        };
        // The link of the image is replaced, never followed; a directory that is only passed keeps all.
        for name in ["", "d", "d/sub", "d/sub/a", "d/sub/b", "l", "l/x", "f", "e", "again"] {
            assert_eq!(look(&root, name), look(&anew, name), "{name}");
        }
        assert_eq!(look(&root, "d/sub").1, 1000);
        assert!(!root.join("e/old").exists() && !root.join("d/x").exists());
        let lost = [Change::bare(Entry::whiteout(path("d"))), link("z", "d/sub/a")];
        assert!(advance(&root, &lost, ownership).is_err());
        assert!(advance(&root, &[link("z", "nowhere")], ownership).is_err());
    }
}

#[test]
fn a_link_put_in_the_way_is_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let (root, outside) = (place.path().join("root"), place.path().join("outside"));
    fs::create_dir_all(root.join("d")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "safe").unwrap();
    symlink("../outside", root.join("out")).unwrap();
    symlink("../../outside/canary", root.join("d/file")).unwrap();
    let changes =
        [file("out/canary", 0o644), file("d/file", 0o644), Change::bare(Entry::whiteout(path("out/other")))];
    advance(&root, &changes, Ownership::Recorded).unwrap();
    assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "safe");
    assert_eq!(fs::read_to_string(root.join("out/canary")).unwrap(), "x");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn owners_and_modes_are_held_without_privilege() {
    let mut named = owned("closed", EntryKind::File { size: 1 }, 0o000, 12, 34);
    named.entry.xattrs.insert(b"user.k".to_vec(), b"v".to_vec());
    let changes = [
        named,
        owned("d", EntryKind::Directory, 0o555, 0, 7),
        owned("d/f", EntryKind::File { size: 1 }, 0o2755, 5, 5),
        file("plain", 0o644),
        file("setuid", 0o4755),
        owned("l", EntryKind::Symlink { target: b"x".to_vec() }, 0o777, 9, 9),
        owned("p", EntryKind::Fifo, 0o620, 9, 9),
        Change::bare(Entry::whiteout(path("gone"))),
    ];
    let journal = Journal::default();
    for (ownership, owners) in [
        (Ownership::Recorded, Owners::Recorded { journal: &journal }),
        (Ownership::Simulated, Owners::Simulated { journal: &journal }),
    ] {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        // Nothing is unwritten because of an owner that nothing can hold.
        let unwritten =
            write_directory(&changes, None, place.path(), ownership, &crate::layer::Halt::default()).unwrap();
        assert!(unwritten.is_empty(), "{unwritten:?}");
        let simulated = ownership == Ownership::Simulated;
        let metadata = |name: &str| fs::symlink_metadata(at(name)).unwrap();
        let me = rustix::process::geteuid().as_raw();
        assert!(
            changes[..7]
                .iter()
                .all(|change| metadata(change.entry.path.as_os_path().to_str().unwrap()).uid() == me)
        );
        let owner = |name: &str| attribute(at(name), "user.containers.override_stat");
        assert_eq!(owner("closed").or_else(|| Some("12:34:00".into())).unwrap(), "12:34:00");
        assert_eq!((owner("d/f").unwrap().as_str(), owner("plain")), ("5:5:02755", None));
        assert_eq!(metadata("setuid").mode() & 0o7777, 0o4755);
        let disk = (
            metadata("closed").mode() & 0o7777,
            metadata("d").mode() & 0o7777,
            metadata("p").mode() & 0o7777,
        );
        let want = if simulated { (0o600, 0o755, 0o620) } else { (0o000, 0o555, 0o620) };
        assert_eq!(disk, want);
        if simulated {
            assert_eq!(attribute(at("closed"), "user.fanfold.mode").unwrap(), "0");
            assert_eq!(attribute(at("d"), "user.fanfold.mode").unwrap(), "555");
            assert_eq!(attribute(at("plain"), "user.fanfold.mode"), None);
        }
        assert_eq!((metadata("closed").mtime(), metadata("d").mtime()), (1000, 1000));
        let gone = metadata("gone");
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        // A file without any permission can be read by privilege alone.
        if simulated || rustix::process::geteuid().is_root() {
            let below = tree(&[&changes[..7]]);
            let found = scan(place.path(), &below, &[], owners).unwrap();
            let found: Vec<_> = found.changes.into_iter().map(|change| change.entry).collect();
            let mut want: Vec<_> = changes.iter().map(|change| change.entry.clone()).collect();
            want.retain(|entry| !entry.is_marker());
            assert_eq!(
                found.iter().filter(|entry| !entry.is_marker()).cloned().collect::<Vec<_>>(),
                sorted(want)
            );
        }
        fs::set_permissions(at("d"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(Entry::tar_order);
    entries
}

#[test]
fn records_of_an_image_mean_nothing() {
    let mut hostile = file("f", 0o600);
    for (name, value) in [
        ("user.fanfold.mode", "4755"),
        ("user.containers.override_stat", "0:0:04755"),
        ("user.overlay.opaque", "y"),
        ("user.kept", "v"),
    ] {
        hostile.entry.xattrs.insert(name.into(), value.into());
    }
    let mut writer = TarWriter::new(tempfile::tempfile().unwrap());
    writer.append(&hostile.entry, &mut &b"x"[..]).unwrap();
    let mut blob = writer.finish().unwrap();
    for ownership in [Ownership::Recorded, Ownership::Simulated] {
        let place = tempfile::tempdir().unwrap();
        let into = |name: &str| {
            let into = place.path().join(name);
            fs::create_dir(&into).unwrap();
            into
        };
        blob.rewind().unwrap();
        let unpacked = into("unpacked");
        let found = unpack(
            blob.try_clone().unwrap(),
            LayerEncoding::Tar,
            Some((&unpacked, ownership)),
            &Limits::default(),
        );
        let found = found.unwrap();
        let kept: Vec<_> = found.index.get(&path("f")).unwrap().xattrs.keys().cloned().collect();
        assert_eq!(kept, [b"user.kept".to_vec()]);
        assert!(found.unwritten.is_empty());
        // An entry that has them all the same is written without, and named.
        let written = into("written");
        let unwritten = write_directory(
            std::slice::from_ref(&hostile),
            None,
            &written,
            ownership,
            &crate::layer::Halt::default(),
        )
        .unwrap();
        assert_eq!(unwritten, [path("f")]);
        for root in [unpacked, written] {
            for name in ["user.fanfold.mode", "user.containers.override_stat", "user.overlay.opaque"] {
                assert_eq!(attribute(root.join("f"), name), None, "{name}");
            }
            assert_eq!(attribute(root.join("f"), "user.kept").unwrap(), "v");
        }
    }
}
