//! Tests of unpacking, with a canary outside that no archive may touch.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::*;
use crate::image::media_type::LayerEncoding;
use crate::layer::{Content, Entry, EntryKind, Pool, Seal, TarWriter, Tree, scan_upper, seal};

fn path(path: &str) -> LayerPath {
    LayerPath::new(path).unwrap()
}

fn own(at: &str, kind: EntryKind, mode: u32) -> Entry {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Entry { uid, gid, mtime: 1000, ..Entry::new(path(at), kind, mode) }
}

fn file(at: &str) -> Entry {
    own(at, EntryKind::File { size: 1 }, 0o644)
}

fn directory(at: &str) -> Entry {
    own(at, EntryKind::Directory, 0o755)
}

fn symlink(at: &str, target: &str) -> Entry {
    own(at, EntryKind::Symlink { target: target.into() }, 0o777)
}

fn link(at: &str, target: &str) -> Entry {
    own(at, EntryKind::HardLink { target: path(target) }, 0o644)
}

/// A place to unpack into, with a canary beside it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.layer()).unwrap();
        fs::create_dir(place.canary()).unwrap();
        fs::write(place.canary().join("file"), "untouched").unwrap();
        fs::set_permissions(place.canary(), fs::Permissions::from_mode(0o751)).unwrap();
        place
    }

    fn layer(&self) -> PathBuf {
        self.0.path().join("a/layer")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.layer().join(path)
    }

    fn canary(&self) -> PathBuf {
        self.0.path().join("canary")
    }

    fn unpack(&self, entries: &[Entry]) -> Result<Unpacked, LayerError> {
        let before = fs::metadata(self.canary()).unwrap();
        let mut writer = TarWriter::new(tempfile::tempfile().unwrap());
        for entry in entries {
            writer.append(entry, &mut &b"x"[..]).unwrap();
        }
        let mut blob = writer.finish().unwrap();
        io::Seek::rewind(&mut blob).unwrap();
        let unpacked =
            unpack(blob, LayerEncoding::Tar, Some((&self.layer(), Ownership::Kernel)), &Limits::default());
        let after = fs::metadata(self.canary()).unwrap();
        let state = |metadata: &fs::Metadata| {
            (metadata.mode(), metadata.uid(), metadata.mtime_nsec(), metadata.nlink())
        };
        assert_eq!(state(&before), state(&after), "the canary was touched");
        assert_eq!(fs::read_dir(self.canary()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(self.canary().join("file")).unwrap(), "untouched");
        unpacked
    }
}

#[test]
fn links_never_lead_out() {
    let outside = |place: &Place| place.canary().to_str().unwrap().to_owned();
    for case in 0..9 {
        let place = Place::new();
        let canary = outside(&place);
        let relative = "../../canary";
        let entries = match case {
            // RUSTSEC-2026-0067: the mode of the link's target must not change.
            0 => vec![symlink("d", &canary), own("d", EntryKind::Directory, 0o777)],
            1 => vec![symlink("d", relative), own("d", EntryKind::Directory, 0o777), file("d/x")],
            2 => vec![symlink("d", &canary), file("d/x")],
            3 => vec![symlink("d", relative), file("d/file")],
            4 => vec![symlink("d", ".."), symlink("e", "d/.."), file("e/canary/x")],
            5 => vec![symlink("d", relative), link("l", "d/file")],
            6 => vec![symlink("d", relative), Entry::whiteout(path("d/file"))],
            7 => vec![symlink("d", relative), Entry::opaque(path("d"))],
            _ => vec![symlink("d", relative), link("l", "d"), file("l/file")],
        };
        // Some of these land inside, some fail; the canary is what counts.
        _ = place.unpack(&entries);
    }
}

#[test]
fn a_link_that_leaves_is_followed_inside_the_root() {
    let place = Place::new();
    place
        .unpack(&[symlink("d", "/../../canary"), file("d/x"), directory("lib"), symlink("lib/up", "..")])
        .unwrap();
    assert_eq!(fs::read_to_string(place.at("canary/x")).unwrap(), "x");
    assert_eq!(fs::read_link(place.at("d")).unwrap().as_os_str().as_bytes(), b"/../../canary");
}

#[test]
fn metadata_is_set_last() {
    let place = Place::new();
    let entries = [
        own("closed", EntryKind::Directory, 0o555),
        file("closed/f"),
        Entry { mode: 0o4755, ..file("setuid") },
        Entry { mode: 0o000, ..file("none") },
        link("again", "closed/f"),
        file("implicit/f"),
        own("fifo", EntryKind::Fifo, 0o620),
        symlink("sym", "nowhere"),
    ];
    let unpacked = place.unpack(&entries).unwrap();
    let metadata = |at: &str| fs::symlink_metadata(place.at(at)).unwrap();
    assert_eq!((metadata("closed").mode() & 0o7777, metadata("closed").mtime()), (0o555, 1000));
    assert_eq!(metadata("setuid").mode() & 0o7777, 0o4755);
    assert_eq!((metadata("none").mode() & 0o7777, metadata("none").mtime()), (0, 1000));
    assert_eq!(metadata("again").ino(), metadata("closed/f").ino());
    assert_eq!((metadata("implicit").mode() & 0o7777, metadata("implicit").mtime()), (0o755, 0));
    assert!(metadata("fifo").file_type().is_fifo());
    assert_eq!((metadata("fifo").mode() & 0o7777, metadata("sym").mtime()), (0o620, 1000));
    assert!(unpacked.unwritten.is_empty());
    fs::set_permissions(place.at("closed"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn replacements_within_one_layer() {
    let place = Place::new();
    let entries = [
        file("tree/a/b/c"),
        file("tree/a/d"),
        file("tree"),
        file("f"),
        directory("f"),
        file("f/x"),
        symlink("l", "f"),
        file("l/y"),
        directory("l"),
        file("l/z"),
        directory("e"),
        symlink("e", "f"),
    ];
    let index = place.unpack(&entries).unwrap().index;
    let names = |at: &str| {
        let mut names: Vec<_> =
            fs::read_dir(place.at(at)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names.iter().map(|name| name.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["e", "f", "l", "tree"]);
    assert_eq!((names("f"), names("l")), (vec!["x".to_owned(), "y".to_owned()], vec!["z".to_owned()]));
    assert!(fs::metadata(place.at("tree")).unwrap().is_file());
    assert!(fs::symlink_metadata(place.at("e")).unwrap().is_symlink());
    assert_eq!(index.entries().count(), 7);
}

#[test]
fn deletions_are_what_overlayfs_reads() {
    let place = Place::new();
    let entries = [
        Entry::whiteout(path("gone")),
        Entry::whiteout(path("sub/gone")),
        Entry::opaque(path("renewed")),
        file("renewed/f"),
        Entry::whiteout(path("again")),
        file("again"),
        Entry::whiteout(path("directory")),
        directory("directory"),
    ];
    place.unpack(&entries).unwrap();
    for at in ["gone", "sub/gone"] {
        let metadata = fs::symlink_metadata(place.at(at)).unwrap();
        assert!(metadata.file_type().is_char_device() && metadata.rdev() == 0, "{at}");
    }
    let opaque = |at: &str| {
        let mut value = [0; 8];
        rustix::fs::getxattr(place.at(at), "user.overlay.opaque", &mut value[..])
            .is_ok_and(|size| &value[..size] == b"y")
    };
    assert!(opaque("renewed") && opaque("directory") && !opaque("sub"));
    assert!(fs::metadata(place.at("again")).unwrap().is_file());
}

#[test]
fn sealing_unpacking_and_scanning_agree() {
    let change = |entry: Entry, content: &[u8]| {
        let mut entry = entry;
        if let EntryKind::File { size } = &mut entry.kind {
            *size = content.len() as u64;
        }
        Change { entry, content: Content::Bytes(content.into()) }
    };
    let mut named = file("d/named");
    named.xattrs.insert(b"user.k".to_vec(), b"v".to_vec());
    let changes = [
        change(directory("d"), b""),
        change(named, b"content"),
        change(link("d/second", "d/named"), b""),
        change(symlink("sym", "d"), b""),
        change(own("fifo", EntryKind::Fifo, 0o600), b""),
        change(file("empty"), b""),
    ];
    let pool = Pool::new(1).unwrap();
    let place = Place::new();
    for encoding in [LayerEncoding::Tar, LayerEncoding::Gzip, LayerEncoding::Zstd] {
        let compression = crate::image::Compression::new(encoding, None).unwrap();
        let options = Seal { clamp: Some(500), compression, pool: &pool, halt: &Halt::default() };
        let blob = place.0.path().join("blob");
        let sealed = seal(&changes, &options, &blob).unwrap();
        let into = place.0.path().join(format!("{encoding:?}"));
        fs::create_dir(&into).unwrap();
        let unpacked = unpack(
            File::open(&blob).unwrap(),
            encoding,
            Some((&into, Ownership::Kernel)),
            &Limits::default(),
        )
        .unwrap();
        assert_eq!((unpacked.diff_id, unpacked.size), (sealed.diff_id, sealed.uncompressed_size));
        let index = LayerIndex::from_changes(&changes, Some(500)).unwrap();
        assert_eq!(unpacked.index, index);
        let only_index = unpack(File::open(&blob).unwrap(), encoding, None, &Limits::default()).unwrap();
        assert_eq!(only_index.index, index);

        // The same layer, written without a blob, and scanned back from either directory.
        let direct = place.0.path().join(format!("direct-{encoding:?}"));
        fs::create_dir(&direct).unwrap();
        write_directory(&changes, Some(500), &direct, Ownership::Kernel, &Halt::default()).unwrap();
        for directory in [&into, &direct] {
            let scanned = scan_upper(directory, &Tree::default(), &[]).unwrap();
            let again = seal(&scanned, &options, &blob).unwrap();
            assert_eq!(again, sealed);
        }
    }
}

#[test]
fn failures_end_the_decoder() {
    let place = Place::new();
    let mut blob = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut blob, &[1; 10 << 20]).unwrap();
    io::Seek::rewind(&mut blob).unwrap();
    assert!(
        unpack(blob, LayerEncoding::Tar, Some((&place.layer(), Ownership::Kernel)), &Limits::default())
            .is_err()
    );
    let mut blob = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut blob, b"not gzip").unwrap();
    io::Seek::rewind(&mut blob).unwrap();
    let error = unpack(blob, LayerEncoding::Gzip, None, &Limits::default()).unwrap_err();
    assert!(matches!(error, LayerError::Stream(_)), "{error}");
}

#[test]
fn owners_are_real_or_recorded() {
    let place = Place::new();
    let entry = Entry { uid: 12, gid: 34, ..file("f") };
    place.unpack(std::slice::from_ref(&entry)).unwrap();
    let metadata = fs::metadata(place.at("f")).unwrap();
    if rustix::process::geteuid().is_root() {
        assert_eq!((metadata.uid(), metadata.gid()), (12, 34));
    }
    let scanned = scan_upper(&place.layer(), &Tree::default(), &[]).unwrap();
    assert_eq!(scanned[0].entry, entry);
}

/// An archive of many small files in many directories, with all that has to wait for something.
fn crowded() -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    let mut append = |entry: Entry, content: &[u8]| {
        let mut entry = entry;
        if let EntryKind::File { size } = &mut entry.kind {
            *size = content.len() as u64;
        }
        writer.append(&entry, &mut &content[..]).unwrap();
    };
    for number in 0..600_u32 {
        let mut named = file(&format!("d{}/f{number}", number % 40));
        named.mode = [0o644, 0o600, 0o4755, 0o444, 0o777][number as usize % 5];
        if number % 50 == 7 {
            named.xattrs.insert(b"user.k".to_vec(), b"v".to_vec());
        }
        append(named, &vec![number as u8; number as usize * 7]);
        if number % 40 == 0 {
            append(link(&format!("l{number}"), &format!("d0/f{number}")), b"");
        }
        if number % 97 == 3 {
            append(symlink(&format!("d{}/s{number}", number % 40), "nowhere"), b"");
            // A name that a file has is taken by another one, and by a directory.
            append(file(&format!("d{}/f{number}", number % 40)), b"again");
            append(own(&format!("t{number}"), EntryKind::File { size: 0 }, 0o644), b"short-lived");
            append(directory(&format!("t{number}")), b"");
            append(file(&format!("t{number}/below")), b"below");
        }
    }
    append(file("large"), &vec![9; 700 << 10]);
    append(own("d1", EntryKind::Directory, 0o555), b"");
    writer.finish().unwrap()
}

#[test]
fn any_number_of_threads_writes_the_same() {
    let archive = crowded();
    let pool = Pool::new(1).unwrap();
    let place = Place::new();
    let mut found = Vec::new();
    for threads in [0, 1, 2, 8] {
        let into = place.0.path().join(threads.to_string());
        fs::create_dir(&into).unwrap();
        let blob = io::Cursor::new(archive.clone());
        let unpacked = unpack_on(
            blob,
            LayerEncoding::Tar,
            Some((&into, Ownership::Kernel)),
            &Limits::default(),
            threads,
        )
        .unwrap();
        assert_eq!(unpacked.diff_id, DiffId(crate::image::Digest::of(&archive)));
        assert_eq!(fs::metadata(into.join("l0")).unwrap().nlink(), 2);
        assert_eq!(fs::read(into.join("t100/below")).unwrap(), b"below");
        assert_eq!(fs::read(into.join("d3/f3")).unwrap(), b"again");
        assert_eq!(fs::metadata(into.join("d2/f2")).unwrap().mode() & 0o7777, 0o4755);
        let scanned = scan_upper(&into, &Tree::default(), &[]).unwrap();
        let compression = crate::image::Compression::NONE;
        let blob = place.0.path().join("blob");
        let options = Seal { clamp: None, compression, pool: &pool, halt: &Halt::default() };
        found.push(seal(&scanned, &options, &blob).unwrap());
        fs::set_permissions(into.join("d1"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert!(found.iter().all(|sealed| *sealed == found[0]));
}

#[test]
fn a_stream_that_breaks_leaves_no_thread_behind() {
    /// Fails after so many bytes, as a pull that is given up.
    struct Broken(io::Cursor<Vec<u8>>);
    impl io::Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("given up")),
                count => Ok(count),
            }
        }
    }
    let mut archive = crowded();
    archive.truncate(archive.len() / 2);
    let place = Place::new();
    let blob = Broken(io::Cursor::new(archive));
    let into = Some((&*place.layer(), Ownership::Kernel));
    let error = unpack_on(blob, LayerEncoding::Tar, into, &Limits::default(), 2)
        .map(|unpacked| unpacked.size)
        .unwrap_err();
    assert!(matches!(&error, LayerError::Stream(source) if source.to_string() == "given up"), "{error:?}");
    // Nothing is written any more.
    fs::remove_dir_all(place.layer()).unwrap();
    assert!(!place.layer().exists());
}

#[test]
fn new_files_get_their_modes_under_any_mask() {
    // The mask of the process is not changed here, since other tests run beside this one: what it takes
    // away is set afterwards.
    let place = Place::new();
    let modes = [0o777, 0o666, 0o640, 0o022, 0o2755, 0o1644];
    let entries: Vec<_> = modes.iter().map(|&mode| Entry { mode, ..file(&format!("f{mode:o}")) }).collect();
    place.unpack(&entries).unwrap();
    for mode in modes {
        assert_eq!(fs::metadata(place.at(&format!("f{mode:o}"))).unwrap().mode() & 0o7777, mode);
    }
}
