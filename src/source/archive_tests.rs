use std::io::Write;

use super::*;
use crate::dockerfile::Selection;
use crate::layer::{EntryKind, LayerPath};

/// One member: name, type, link target, data, mode.
type Member<'a> = (&'a str, u8, &'a str, &'a [u8], u32);

fn member(name: &str, flag: u8, target: &str, data: &[u8], mode: u32) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(tar::EntryType::new(flag));
    header.set_size(data.len() as u64);
    header.set_mode(mode);
    header.set_mtime(1_000_000_000);
    header.set_uid(1234);
    header.set_gid(4321);
    header.set_device_major(1).unwrap();
    header.set_device_minor(7).unwrap();
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn tar(members: &[Member<'_>]) -> Vec<u8> {
    let all = members.iter().map(|(name, flag, target, data, mode)| member(name, *flag, target, data, *mode));
    let mut bytes: Vec<u8> = all.flatten().collect();
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn compressed(tar: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    bzip2.write_all(tar).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
    xz.write_all(tar).unwrap();
    vec![
        ("plain", tar.to_vec()),
        ("gzip", gzip(tar)),
        ("zstd", zstd::encode_all(tar, 3).unwrap()),
        ("bzip2", bzip2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
    ]
}

fn read(bytes: Vec<u8>) -> Result<Context, SourceError> {
    let directory = tempfile::tempdir().unwrap();
    let context = Context::archive(Cursor::new(bytes), directory.path(), &Limits::default());
    // Nothing is left behind that has a name.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    context
}

fn path(path: &str) -> LayerPath {
    LayerPath::new(path).unwrap()
}

/// Every entry, with its data.
fn show(context: &Context) -> Vec<String> {
    let describe = |(path, node): (LayerPath, crate::layer::Node)| {
        let entry = node.entry;
        assert_eq!((entry.uid, entry.gid), (0, 0));
        let what = match &entry.kind {
            EntryKind::Directory => "d".to_owned(),
            EntryKind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
            EntryKind::HardLink { target } => format!("= {target}"),
            EntryKind::File { .. } => {
                std::io::read_to_string(context.content(&path).open().unwrap()).unwrap()
            }
            other => format!("{other:?}"),
        };
        format!("{path} {what}")
    };
    context.tree().walk(&LayerPath::root()).into_iter().map(describe).collect()
}

#[test]
fn archives_become_contexts() {
    let bytes = tar(&[
        ("./", b'5', "", b"", 0o755),
        ("./Dockerfile", b'0', "", b"FROM scratch\n", 0o640),
        ("./d/", b'5', "", b"", 0o2750),
        ("./d/run", b'0', "", b"run", 0o4755),
        ("./d/same", b'1', "./d/run", b"", 0),
        ("/absolute", b'0', "", b"in", 0o644),
        ("out", b'2', "/etc/passwd", b"", 0o777),
        ("climbs", b'2', "../../x", b"", 0o777),
        ("deep/er/f", b'0', "", b"f", 0o600),
        ("pipe", b'6', "", b"", 0o644),
        ("device", b'3', "", b"", 0o600),
        (".wh.x", b'0', "", b"plain", 0o644),
    ]);
    for (name, bytes) in compressed(&bytes) {
        let context = read(bytes).unwrap();
        let want = [
            "/.wh.x plain",
            "/Dockerfile FROM scratch\n",
            "/absolute in",
            "/climbs -> ../../x",
            "/d d",
            "/d/run run",
            "/d/same = /d/run",
            "/deep d",
            "/deep/er d",
            "/deep/er/f f",
            "/device Char { major: 1, minor: 7 }",
            "/out -> /etc/passwd",
            "/pipe Fifo",
        ];
        assert_eq!(show(&context), want, "{name}");
        let run = context.tree().get(&path("d/run")).unwrap().entry;
        assert_eq!((run.mode, run.mtime), (0o4755, 1_000_000_000));
        assert_eq!(context.read_file("Dockerfile", 100).unwrap().unwrap(), b"FROM scratch\n");
        // Links out of the archive lead to nothing.
        for word in ["out", "climbs"] {
            assert!(context.select(&Selection::of([word])).is_err(), "{word}");
        }
        assert!(context.digest(&Selection::of(["d"])).is_ok());
    }
}

#[test]
fn the_last_of_several_counts() {
    for (members, want) in [
        (vec![("a", b'0', "", &b"1"[..], 0o644), ("./a", b'0', "", b"22", 0o644)], vec!["/a 22"]),
        (
            vec![("a", b'5', "", b"", 0o755), ("a/x", b'0', "", b"x", 0o644), ("a", b'0', "", b"f", 0o644)],
            vec!["/a f"],
        ),
        (vec![("a", b'0', "", b"1", 0o644), ("a", b'2', "b", b"", 0o777)], vec!["/a -> b"]),
        (
            vec![("a", b'2', "b", b"", 0o777), ("a", b'5', "", b"", 0o755), ("a/x", b'0', "", b"x", 0o644)],
            vec!["/a d", "/a/x x"],
        ),
    ] {
        assert_eq!(show(&read(tar(&members)).unwrap()), want);
    }
}

#[test]
fn entries_below_links_stay_inside() {
    for (target, want) in [
        ("e", vec!["/d -> e", "/e d", "/e/x x"]),
        ("../../e", vec!["/d -> ../../e", "/e d", "/e/x x"]),
        ("/tmp/e", vec!["/d -> /tmp/e", "/tmp d", "/tmp/e d", "/tmp/e/x x"]),
    ] {
        let bytes = tar(&[("d", b'2', target, b"", 0o777), ("d/x", b'0', "", b"x", 0o644)]);
        assert_eq!(show(&read(bytes).unwrap()), want);
    }
}

#[test]
fn hostile_archives_are_refused() {
    for (members, want) in [
        (vec![("../x", b'0', "", &b"x"[..], 0o644)], "`..` component"),
        (vec![("a/../../x", b'0', "", b"x", 0o644)], "`..` component"),
        (vec![("l", b'1', "nothing", b"", 0o644)], "the file it links to is not in the archive"),
        (vec![("l", b'1', "../etc/passwd", b"", 0o644)], "its link target leaves the root"),
        (vec![("l", b'1', "l", b"", 0o644)], "hard link to itself"),
        (vec![("f", b'0', "", b"", 0o644), ("f/x", b'0', "", b"", 0o644)], "`/f` is not a directory"),
        (
            vec![("a", b'2', "b", b"", 0), ("b", b'2', "a", b"", 0), ("a/x", b'0', "", b"", 0)],
            "too many levels of symbolic links",
        ),
        (vec![("n", b'V', "", b"", 0o644)], "its type is not known"),
    ] {
        let error = read(tar(&members)).unwrap_err().to_string();
        assert!(error.starts_with("the archive cannot be used: "), "{error}");
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn truncated_archives_say_so() {
    let data: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for (name, bytes) in compressed(&tar(&[("a", b'0', "", &data, 0o644)])) {
        let error = read(bytes[..bytes.len() * 2 / 3].to_vec()).unwrap_err().to_string();
        assert!(error.starts_with("the archive cannot be used: it is cut off ("), "{name}: {error}");
    }
}

#[test]
fn bombs_are_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = tar(&[("a", b'0', "", &vec![0; 1 << 20], 0o644), ("b", b'0', "", b"b", 0o644)]);
    for limits in [
        Limits { total_bytes: 1 << 20, ..Limits::default() },
        Limits { file_bytes: 1000, ..Limits::default() },
        Limits { entries: 1, ..Limits::default() },
    ] {
        let error = Context::archive(Cursor::new(gzip(&bytes)), directory.path(), &limits).unwrap_err();
        assert!(error.to_string().contains("exceeds the limit of"), "{error}");
    }
}

#[test]
fn inputs_are_told_by_content() {
    let directory = tempfile::tempdir().unwrap();
    let input = |bytes: &[u8]| {
        Input::read(Cursor::new(bytes.to_vec()), directory.path(), &Limits::default())
            .map_err(|error| error.to_string())
    };
    let archive = tar(&[("Dockerfile", b'0', "", b"FROM x", 0o644)]);
    for (name, bytes) in compressed(&archive) {
        assert!(matches!(input(&bytes), Ok(Input::Archive(_))), "{name}");
        assert!(looks_like_archive(&bytes[..bytes.len().min(512)]), "{name}");
    }
    // An archive of nothing.
    for bytes in [vec![0; 10_240], gzip(&[0; 10_240])] {
        let Ok(Input::Archive(context)) = input(&bytes) else { panic!("no archive") };
        assert!(show(&context).is_empty());
    }
    for text in [&b""[..], b"FROM scratch\n", b"\xef\xbb\xbf# syntax=x\nFROM a\n", &[b'#'; 1 << 20]] {
        let Ok(Input::Dockerfile(read)) = input(text) else { panic!("no Dockerfile") };
        assert_eq!(read, text);
        assert!(!looks_like_archive(text));
    }
    for (bytes, want) in [
        (vec![b'#'; (1 << 20) + 1], "for a Dockerfile it is too large, with more than 1048576 bytes"),
        (gzip(b"FROM scratch\n"), "it is gzip data, but no tar is in it"),
        (zstd::encode_all(&b"FROM x"[..], 3).unwrap(), "it is zstd data, but no tar is in it"),
        (gzip(&archive)[..30].to_vec(), "it is cut off"),
    ] {
        let error = input(&bytes).unwrap_err();
        assert!(error.contains(want), "{error}");
    }
    assert!(Context::archive(Cursor::new(b"FROM x".to_vec()), directory.path(), &Limits::default()).is_err());
}

#[test]
fn many_entries_stay_cheap() {
    let names: Vec<String> = (0..20_000).map(|n| format!("d{}/f{n}", n % 100)).collect();
    let members: Vec<_> = names.iter().map(|name| (&**name, b'0', "", &b"data"[..], 0o644)).collect();
    let context = read(gzip(&tar(&members))).unwrap();
    assert_eq!(show(&context).len(), 20_100);
}
