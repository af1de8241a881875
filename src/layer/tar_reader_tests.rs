//! Tests of the reader: hand-made archives, one for every advisory and rule.

use super::*;
use crate::layer::tar_writer::TarWriter;

/// A raw header, so that archives can lie.
struct Raw {
    name: Vec<u8>,
    flag: u8,
    size: u64,
    link: Vec<u8>,
    body: Vec<u8>,
    gnu: bool,
}

fn raw(name: &str, flag: u8, body: &[u8]) -> Raw {
    Raw {
        name: name.into(),
        flag,
        size: body.len() as u64,
        link: Vec::new(),
        body: body.to_vec(),
        gnu: false,
    }
}

fn linked(name: &str, flag: u8, link: &str) -> Raw {
    Raw { link: link.into(), ..raw(name, flag, b"") }
}

fn pax(records: &[(&str, &str)]) -> Raw {
    let mut set = Vec::new();
    for (key, value) in records {
        let one = BTreeMap::from([(key.as_bytes().to_vec(), value.as_bytes().to_vec())]);
        set.extend(crate::layer::pax::encode(&one));
    }
    raw("PaxHeaders.0/x", b'x', &set)
}

impl Raw {
    fn bytes(&self) -> Vec<u8> {
        let mut header = if self.gnu { Header::new_gnu() } else { Header::new_ustar() };
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(self.size);
        let fields = header.as_mut_bytes();
        fields[..self.name.len().min(100)].copy_from_slice(&self.name[..self.name.len().min(100)]);
        fields[157..157 + self.link.len()].copy_from_slice(&self.link);
        fields[156] = self.flag;
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(&self.body);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

fn archive(members: &[Raw]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members.iter().flat_map(Raw::bytes).collect();
    bytes.extend([0; 2 * BLOCK]);
    bytes
}

fn read_as(mode: Mode, bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, LayerError> {
    let mut entries = Vec::new();
    read_tar(bytes, mode, &mut |entry, content| {
        let mut body = Vec::new();
        content.read_to_end(&mut body).map_err(LayerError::stream)?;
        entries.push((entry, body));
        Ok(())
    })?;
    Ok(entries)
}

fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, LayerError> {
    read_as(Mode::Layer, bytes)
}

fn listing(members: &[Raw]) -> Vec<(String, usize)> {
    let entries = read(&archive(members)).unwrap().into_iter();
    entries.map(|(entry, body)| (entry.path.to_string(), body.len())).collect()
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

#[test]
fn rustsec_2025_0110_pax_size_hides_a_nested_archive() {
    let nested = archive(&[raw("evil", b'0', b"x")]);
    let mut outer = raw("inner.tar", b'0', &nested);
    outer.size = 0;
    let found = listing(&[pax(&[("size", &nested.len().to_string())]), outer, raw("after", b'0', b"")]);
    assert_eq!(found, [("/inner.tar".to_owned(), nested.len()), ("/after".to_owned(), 0)]);
}

#[test]
fn rustsec_2026_0068_pax_size_wins_over_another_header_size() {
    let mut file = raw("f", b'0', &[7; 1024]);
    file.size = 512;
    let found = listing(&[pax(&[("size", "1024")]), file, raw("after", b'0', b"")]);
    assert_eq!(found, [("/f".to_owned(), 1024), ("/after".to_owned(), 0)]);
}

#[test]
fn rustsec_2026_0112_pax_size_does_not_move_extension_headers() {
    // The size belongs to the file, not to the long name that stands between.
    let long = raw("././@LongLink", b'L', b"long-name\0");
    let found = listing(&[pax(&[("size", "600")]), long, Raw { size: 0, ..raw("short", b'0', &[1; 600]) }]);
    assert_eq!(found, [("/long-name".to_owned(), 600)]);
    let long = raw("././@LongLink", b'L', b"long-name\0");
    let found = listing(&[long, pax(&[("size", "600")]), Raw { size: 0, ..raw("short", b'0', &[1; 600]) }]);
    assert_eq!(found, [("/long-name".to_owned(), 600)]);
}

#[test]
fn ghsa_3cv2_records_before_a_long_name_belong_to_the_file() {
    let records = pax(&[("uid", "7000000"), ("SCHILY.xattr.user.k", "v")]);
    let bytes =
        archive(&[records, raw("././@LongLink", b'L', b"n\0"), raw("f", b'0', b"abc"), raw("g", b'0', b"")]);
    let entries = read(&bytes).unwrap();
    assert_eq!((entries[0].0.path.as_bytes(), entries[0].0.uid), (&b"n"[..], 7_000_000));
    assert_eq!(entries[0].0.xattrs.len(), 1);
    assert_eq!((entries[1].0.uid, entries[1].0.xattrs.len()), (0, 0));
}

#[test]
fn rustsec_2026_0066_bad_records_are_refused() {
    for set in ["30 path=x\n", "nonsense", "9 path=x", "11 size=12a\n", "12 size=-512\n"] {
        let bytes = archive(&[raw("h", b'x', set.as_bytes()), raw("f", b'0', b"")]);
        assert!(read(&bytes).is_err(), "{set}");
    }
}

#[test]
fn tar_rs_286_sparse_1_0_has_its_real_name_and_size() {
    let mut body = b"2\n0\n3\n1000\n4\n".to_vec();
    body.resize(512, 0);
    body.extend(b"abcdefg");
    let records = pax(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "real"),
        ("GNU.sparse.realsize", "1010"),
    ]);
    let bytes = archive(&[records, raw("GNUSparseFile.0/real", b'0', &body), raw("after", b'0', b"")]);
    let entries = read(&bytes).unwrap();
    assert_eq!(entries[0].0.path.as_bytes(), b"real");
    let mut want = vec![0; 1010];
    want[..3].copy_from_slice(b"abc");
    want[1000..1004].copy_from_slice(b"defg");
    assert_eq!(entries[0].1, want);
    assert_eq!(entries[1].0.path.as_bytes(), b"after");
}

#[test]
fn sparse_0_0_and_0_1() {
    let old = pax(&[
        ("GNU.sparse.size", "10"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.offset", "1"),
        ("GNU.sparse.numbytes", "1"),
        ("GNU.sparse.offset", "8"),
        ("GNU.sparse.numbytes", "2"),
    ]);
    let newer = pax(&[("GNU.sparse.size", "10"), ("GNU.sparse.name", "f"), ("GNU.sparse.map", "1,1,8,2")]);
    for records in [old, newer] {
        let entries = read(&archive(&[records, raw("f", b'0', b"abc")])).unwrap();
        assert_eq!(entries[0].1, b"\0a\0\0\0\0\0\0bc");
    }
}

#[test]
fn sparse_files_of_gnu_tar() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sparse");
    let file = std::fs::File::create(&path).unwrap();
    let write = |at: u64| std::os::unix::fs::FileExt::write_all_at(&file, &[b'x'; 5000], at).unwrap();
    // More segments than fit into one header and one extension.
    (0..60).for_each(|number| write(number * 100_000));
    file.set_len(7_000_000).unwrap();
    let want = std::fs::read(&path).unwrap();
    for format in ["--format=gnu", "--format=posix", "--sparse-version=0.0", "--sparse-version=0.1"] {
        let format = if format.contains("version") { vec!["--format=posix", format] } else { vec![format] };
        let tar = std::process::Command::new("tar")
            .args(["-cS", "-f", "-", "-C"])
            .arg(directory.path())
            .args(&format)
            .arg("sparse")
            .output()
            .unwrap();
        assert!(tar.status.success(), "{tar:?}");
        assert!(tar.stdout.len() < 1_000_000, "the test file is not sparse on disk");
        let entries = read(&tar.stdout).unwrap();
        assert_eq!(entries[0].0.path.as_bytes(), b"sparse", "{format:?}");
        assert!(entries[0].1 == want, "{format:?}");
    }
}

#[test]
fn cve_2025_58183_sparse_maps_are_bounded() {
    let mut body = b"1000000000\n".to_vec();
    body.resize(512, b'0');
    let records = pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.name", "f"), ("GNU.sparse.realsize", "1")]);
    assert!(refusal(&archive(&[records, raw("f", b'0', &body)])).contains("sparse map is too long"));
    for map in ["0,5", "5,1,3,1", "0,3,99999999999999999999,1", "0,2", "0"] {
        let records = pax(&[("GNU.sparse.size", "4"), ("GNU.sparse.map", map)]);
        assert!(refusal(&archive(&[records, raw("f", b'0', b"abc")])).contains("sparse map"), "{map}");
    }
}

#[test]
fn a_sparse_terabyte_is_refused_by_size() {
    let records = pax(&[("GNU.sparse.size", "1099511627776"), ("GNU.sparse.map", "0,3")]);
    assert!(refusal(&archive(&[records, raw("f", b'0', b"abc")])).contains("bytes in one file"));
}

#[test]
fn names_that_leave_the_root_are_refused() {
    for name in ["../x", "a/../../x", "a/..", "..", "a//b", "a/./b"] {
        assert!(read(&archive(&[raw(name, b'0', b"")])).is_err(), "{name}");
    }
    assert_eq!(
        listing(&[raw("/etc/x", b'0', b""), raw("./y", b'0', b"")]),
        [("/etc/x".into(), 0), ("/y".into(), 0)]
    );
    let far = format!("{}x", "d/".repeat(1100));
    assert!(refusal(&archive(&[pax(&[("path", &far)]), raw("x", b'0', b"")])).contains("1024"));
    for flag in [b'0', b'2', b'6', b'3'] {
        // With a slash at its end, an empty file was the old form of a directory.
        let names = if flag == b'0' { &["."][..] } else { &[".", "/", "./"] };
        for name in names {
            let entry = linked(name, flag, "etc");
            assert!(read(&archive(&[entry])).is_err(), "{name} {flag}");
        }
    }
    assert!(read(&archive(&[linked("l", b'1', "../../etc/passwd")])).is_err());
    assert!(read(&archive(&[linked("l", b'1', "")])).is_err());
}

#[test]
fn symlink_targets_stay_verbatim() {
    let entries = read(&archive(&[linked("l", b'2', "../..//./etc/")])).unwrap();
    assert_eq!(entries[0].0.kind, EntryKind::Symlink { target: b"../..//./etc/".to_vec() });
}

#[test]
fn whiteouts_are_markers_in_layers_and_errors_in_archives() {
    let members = ["a/.wh.b", "a/.wh..wh..opq", ".wh..wh.plnk/1.2", ".wh..wh.aufs", ".wh..opq"];
    let bytes = archive(&members.map(|name| raw(name, b'0', b"")));
    let entries: Vec<_> = read(&bytes).unwrap().into_iter().map(|(entry, _)| entry).collect();
    let path = |path: &str| LayerPath::new(path).unwrap();
    assert_eq!(
        entries,
        [Entry::whiteout(path("a/b")), Entry::opaque(path("a")), Entry::whiteout(path(".opq"))]
    );
    assert!(read_as(Mode::Archive, &bytes).is_err());
    assert_eq!(read_as(Mode::Files, &bytes).unwrap().len(), members.len());
    for name in [".wh.", ".wh..", ".wh...", ".wh.a/b"] {
        assert!(read(&archive(&[raw(name, b'0', b"")])).is_err(), "{name}");
    }
}

#[test]
fn ambiguous_bodies_are_refused() {
    for flag in [b'1', b'2', b'3', b'5', b'6'] {
        let entry = Raw { link: b"t".to_vec(), ..raw("e", flag, &[0; 512]) };
        assert!(refusal(&archive(&[entry])).contains("not a regular file"), "{flag}");
    }
    assert!(read(&archive(&[raw("d/", b'0', b"x")])).is_err());
    assert!(read(&archive(&[raw("v", b'V', b"")])).is_err());
    assert!(read(&archive(&[raw("m", b'M', b"")])).is_err());
    assert!(refusal(&archive(&[raw("c", b'3', b"")])).contains("deletion"));
    let global = Raw { flag: b'g', ..pax(&[("path", "everything")]) };
    assert!(read(&archive(&[global, raw("f", b'0', b"")])).is_err());
    assert!(read(&archive(&[pax(&[("uid", "4294967295")]), raw("f", b'0', b"")])).is_err());
    assert!(read(&archive(&[pax(&[("uid", "4294967296")]), raw("f", b'0', b"")])).is_err());
}

#[test]
fn old_forms_are_read() {
    let mut old = raw("dir/", 0, b"").bytes();
    old[257..265].fill(0);
    old[329..345].fill(0);
    old[108..116].fill(0);
    let sum: u32 = old[..148].iter().chain(&old[156..512]).map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
    old[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut big = raw("big", b'0', b"abc");
    big.gnu = true;
    let mut big = big.bytes();
    // Base 256: a uid of more than seven octal digits, a time before 1970.
    big[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0, 0x3d, 9, 0]);
    big[136..148].copy_from_slice(&[0xff; 12]);
    big[148..156].fill(b' ');
    let sum: u32 = big[..512].iter().map(|&byte| u32::from(byte)).sum();
    big[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let comment = Raw { flag: b'g', ..pax(&[("comment", "commit")]) }.bytes();
    let entries = read(&[comment, old, big].concat()).unwrap();
    assert_eq!(entries[0].0.kind, EntryKind::Directory);
    assert_eq!((entries[1].0.uid, entries[1].0.mtime), (4_000_000, -1));
    assert_eq!(entries[1].1, b"abc");
}

#[test]
fn ends() {
    let whole = archive(&[raw("f", b'0', &[1; 600])]);
    let second = archive(&[raw("second", b'0', b"")]);
    let count = |bytes: &[u8]| read(bytes).map(|entries| entries.len()).map_err(|error| error.to_string());
    assert_eq!(count(b""), Ok(0));
    assert_eq!(count(&[0; 1024]), Ok(0));
    assert_eq!(count(&[&whole[..], &second, b"junk"].concat()), Ok(1));
    assert_eq!(count(&whole[..whole.len() - 1024]), Ok(1));
    assert_eq!(count(&whole[..whole.len() - 512]), Ok(1));
    for length in [100, 700, 1100] {
        assert!(count(&whole[..length]).is_err(), "{length}");
    }
    let mut gap = raw("f", b'0', b"").bytes();
    gap.extend([0; 512]);
    gap.extend(raw("g", b'0', b"").bytes());
    assert!(count(&gap).is_err());
    let mut flipped = whole.clone();
    flipped[0] ^= 1;
    assert!(count(&flipped).unwrap_err().contains("checksum"));
    assert!(count(&pax(&[("path", "x")]).bytes()).is_err());
}

#[test]
fn no_size_overflows() {
    for size in ["18446744073709551615", "18446744073709551104", "9223372036854775807"] {
        for records in [
            vec![("size", size)],
            vec![("size", size), ("GNU.sparse.major", "1"), ("GNU.sparse.realsize", size)],
            vec![("size", size), ("GNU.sparse.map", "0,3"), ("GNU.sparse.size", size)],
            vec![("GNU.sparse.map", "18446744073709551615,18446744073709551615"), ("GNU.sparse.size", size)],
        ] {
            assert!(
                read(&archive(&[pax(&records), raw("f", b'0', b"2\n0\n1\n5\n1\nab")])).is_err(),
                "{records:?}"
            );
        }
    }
}

proptest::proptest! {
    #[test]
    fn damage_never_panics(at in 0usize..6000, value: u8, cut in 0usize..6000) {
        let sparse = [("GNU.sparse.major", "1"), ("GNU.sparse.name", "s"), ("GNU.sparse.realsize", "9")];
        let mut bytes = archive(&[
            pax(&[("path", "long"), ("size", "3"), ("mtime", "1.5"), ("SCHILY.xattr.user.k", "v")]),
            raw("././@LongLink", b'L', b"name\0"),
            raw("f", b'0', b"abc"),
            pax(&sparse),
            raw("s", b'0', b"1\n2\n3\n"),
            linked("l", b'2', "t"),
        ]);
        let length = bytes.len();
        bytes[at % length] = value;
        // Whatever comes out: it ends, and in a value.
        _ = read(&bytes);
        _ = read(&bytes[..cut % length]);
    }
}

#[test]
fn limits_hold() {
    let bytes = archive(&[raw("a", b'0', b"abc"), raw("b", b'0', b"abc"), raw("c", b'0', b"abc")]);
    let small = Limits { entries: 2, ..Limits::default() };
    let error = read_tar_within(&bytes[..], Mode::Layer, &small, &mut |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, LayerError::Limit { what: "entries", limit: 2 }), "{error}");
    let small = Limits { total_bytes: 8, ..Limits::default() };
    assert!(read_tar_within(&bytes[..], Mode::Layer, &small, &mut |_, _| Ok(())).is_err());
    let mut huge = raw("h", b'x', b"");
    huge.size = 1 << 30;
    assert!(refusal(&archive(&[huge])).contains("bytes in one header"));
    let value = "v".repeat((64 << 10) + 1);
    let big = pax(&[("SCHILY.xattr.user.big", &value)]);
    assert!(refusal(&archive(&[big, raw("f", b'0', b"")])).contains("extended attribute"));
}

#[test]
fn unread_content_is_skipped() {
    let bytes = archive(&[raw("a", b'0', &[1; 1000]), raw("b", b'0', b"x")]);
    let mut names = Vec::new();
    read_tar(&bytes[..], Mode::Layer, &mut |entry, _| {
        names.push(entry.path.to_string());
        Ok(())
    })
    .unwrap();
    assert_eq!(names, ["/a", "/b"]);
}

#[test]
fn what_is_written_is_read_back() {
    let at = |path: &[u8]| LayerPath::new(path).unwrap();
    let file = |path: &[u8]| Entry {
        mtime: 1_700_000_000,
        ..Entry::new(at(path), EntryKind::File { size: 3 }, 0o4755)
    };
    let long = [b"d/".repeat(100), b"n".repeat(200)].concat();
    let mut special = file(b"special");
    (special.uid, special.gid, special.mtime) = (4_000_000_000, 2_097_152, -3);
    special.xattrs.insert(b"user.bin".to_vec(), (0..=255).collect());
    special.xattrs.insert(b"security.capability".to_vec(), [&[1, 0, 0, 2][..], &[0; 16]].concat());
    let kind = |path: &[u8], kind| Entry::new(at(path), kind, 0o755);
    let entries = [
        file(b"plain"),
        file(&b"n".repeat(100)),
        file(&[&b"p".repeat(155)[..], b"/", &b"n".repeat(100)].concat()),
        file(&long),
        file(b"not\xff\xfeutf8\n"),
        file("caf\u{e9}/\u{fc}".as_bytes()),
        special,
        kind(&[&b"q".repeat(100)[..], b"/", &b"r".repeat(99)].concat(), EntryKind::Directory),
        kind(b"hard", EntryKind::HardLink { target: at(&long) }),
        Entry { mode: 0o777, ..kind(b"sym", EntryKind::Symlink { target: b"t".repeat(4000) }) },
        kind(b"fifo", EntryKind::Fifo),
        kind(b"char", EntryKind::Char { major: 1, minor: 3 }),
        kind(b"block", EntryKind::Block { major: 259, minor: 1 << 20 }),
        Entry::whiteout(at(b"d/gone")),
        Entry::opaque(at(b"d")),
        Entry::whiteout(at(&b"w".repeat(250))),
    ];
    let mut writer = TarWriter::new(Vec::new());
    for entry in &entries {
        writer.append(entry, &mut &b"abc"[..]).unwrap();
    }
    let bytes = writer.finish().unwrap();
    let found: Vec<_> = read(&bytes).unwrap().into_iter().map(|(entry, _)| entry).collect();
    assert_eq!(found, entries);

    // The same bytes, read by GNU tar.
    let mut tar = std::process::Command::new("tar")
        .env("TZ", "UTC0")
        .args(["-tv", "--numeric-owner", "--quoting-style=escape", "-f", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    io::Write::write_all(&mut tar.stdin.take().unwrap(), &bytes).unwrap();
    let listing = tar.wait_with_output().unwrap();
    assert!(listing.status.success());
    let listing = String::from_utf8(listing.stdout).unwrap();
    assert_eq!(listing.lines().count(), entries.len());
    let listing = listing.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    for want in [
        "-rwsr-xr-x 0/0 3 2023-11-14 22:13 plain",
        "not\\377\\376utf8\\n",
        "-rwsr-xr-x 4000000000/2097152 3 1969-12-31 23:59 special",
        "hrwxr-xr-x 0/0 0 1970-01-01 00:00 hard link to d/d/",
        "crwxr-xr-x 0/0 1,3 1970-01-01 00:00 char",
        "d/.wh..wh..opq",
    ] {
        assert!(listing.contains(want), "{want}\n{listing}");
    }
}
