//! Tar archives written by hand, also such that no program would write.

use std::io::Write;

/// One entry of an archive.
#[derive(Debug, Clone)]
pub(crate) enum Item<'a> {
    /// A directory, 0755.
    Dir(&'a str),
    /// A file, 0644, and its content.
    File(&'a str, &'a str),
    /// A symbolic link and its target.
    Link(&'a str, &'a str),
    /// Another name of a file.
    Hard(&'a str, &'a str),
    /// A named pipe, 0644.
    Fifo(&'a str),
}

/// An archive of these entries, names as they are, all of time 1700000000 and of owner 1234:1234.
pub(crate) fn archive(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let (kind, name, target, content) = match *item {
            Item::Dir(name) => (tar::EntryType::Directory, name, "", ""),
            Item::File(name, content) => (tar::EntryType::Regular, name, "", content),
            Item::Link(name, target) => (tar::EntryType::Symlink, name, target, ""),
            Item::Hard(name, target) => (tar::EntryType::Link, name, target, ""),
            Item::Fifo(name) => (tar::EntryType::Fifo, name, "", ""),
        };
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(1234);
        header.set_gid(1234);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        // The crate refuses names that leave the archive; these bytes are wanted.
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).expect("a vector takes all");
    }
    builder.into_inner().expect("a vector takes all")
}

/// Every form that an archive comes in, with a name for it.
pub(crate) fn compressed(archive: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(archive).expect("a vector takes all");
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(archive).expect("a vector takes all");
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(archive).expect("a vector takes all");
    vec![
        ("tar", archive.to_vec()),
        ("gzip", gzip.finish().expect("gzip")),
        ("bzip2", bzip2.finish().expect("bzip2")),
        ("xz", xz.finish().expect("xz")),
        ("zstd", zstd::encode_all(archive, 1).expect("zstd")),
    ]
}
