//! [`TarWriter`]: the one form in which layers are written.
//!
//! ustar headers, and at most one PAX record set per entry where ustar cannot express it; the same
//! entries give the same bytes everywhere. Rules: OCI image-spec, `layer.md`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::blocks::{Blocks, Take, Through, written};
use super::entry::{Entry, EntryKind};
use super::error::LayerError;
use super::pax;

/// Size of a tar record.
pub(super) const BLOCK: usize = 512;
const NAME: usize = 100;
const PREFIX: usize = 155;
/// Largest id in seven octal digits.
const LARGEST_ID: u64 = 0o7_777_777;
/// Largest size or time in eleven octal digits.
const LARGEST_LONG: u64 = 0o77_777_777_777;
/// Archives are written in pieces of this size: large enough that system calls do not count, and small
/// enough that a piece stays in the processor's cache.
pub(super) const PIECE: usize = 128 * 1024;

/// Writes entries as a tar archive.
#[derive(Debug)]
pub struct TarWriter<W> {
    blocks: Blocks<Through<W>>,
}

impl<W: Write> TarWriter<W> {
    /// Begins an archive in `inner`, which gets it in large pieces.
    pub fn new(inner: W) -> Self {
        Self { blocks: Blocks::new(Through(inner), PIECE) }
    }

    /// Writes one entry; `content` is read for regular files only.
    ///
    /// The caller keeps the order: see [`Entry::tar_order`].
    ///
    /// # Errors
    ///
    /// Fails for an entry that no layer can hold, for content that is not exactly of the announced
    /// size, and when reading or writing fails.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), LayerError> {
        append(&mut self.blocks, entry, content)
    }

    /// Writes the end marker, two zero blocks, and gives back the inner writer.
    ///
    /// # Errors
    ///
    /// Fails when writing fails.
    pub fn finish(mut self) -> Result<W, LayerError> {
        end(&mut self.blocks)?;
        let (Through(mut inner), last, length) = self.blocks.finish();
        inner.write_all(&last[..length]).map_err(written)?;
        Ok(inner)
    }
}

/// Adds one entry to an archive: see [`TarWriter::append`].
pub(super) fn append<T: Take>(
    blocks: &mut Blocks<T>,
    entry: &Entry,
    content: &mut dyn Read,
) -> Result<(), LayerError> {
    blocks.put(&Header::of(entry)?.bytes()?)?;
    let EntryKind::File { size } = entry.kind else { return Ok(()) };
    let mut found = 0u64;
    loop {
        match content.read(blocks.space()) {
            Ok(0) => break,
            Ok(count) => {
                found += count as u64;
                if found > size {
                    return Err(size_changed(entry, size, size + 1));
                }
                blocks.advance(count)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LayerError::io("read", &entry.path, error)),
        }
    }
    if found < size {
        return Err(size_changed(entry, size, found));
    }
    blocks.put(&[0; BLOCK][..padding(size)])
}

/// Adds the end marker of an archive.
pub(super) fn end<T: Take>(blocks: &mut Blocks<T>) -> Result<(), LayerError> {
    blocks.put(&[0; 2 * BLOCK])
}

/// Bytes after content of `size` up to the next block.
pub(super) fn padding(size: u64) -> usize {
    const BLOCK_SIZE: u64 = BLOCK as u64;
    ((BLOCK_SIZE - size % BLOCK_SIZE) % BLOCK_SIZE) as usize
}

fn size_changed(entry: &Entry, expected: u64, found: u64) -> LayerError {
    LayerError::SizeChanged { path: entry.path.to_string(), expected, found }
}

/// The fields of one header, before it is known which of them ustar can express.
struct Header {
    name: Vec<u8>,
    link: Vec<u8>,
    flag: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    device: (u32, u32),
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Header {
    fn of(entry: &Entry) -> Result<Self, LayerError> {
        let refuse = |reason| Err(LayerError::refused(&entry.path, reason));
        let mut header = Self {
            name: entry.path.as_bytes().to_vec(),
            link: Vec::new(),
            flag: b'0',
            mode: entry.mode & 0o7777,
            uid: entry.uid,
            gid: entry.gid,
            size: 0,
            mtime: entry.mtime,
            device: (0, 0),
            xattrs: BTreeMap::new(),
        };
        if entry.path.components().any(|name| name.starts_with(b".wh.")) {
            return refuse("names beginning with `.wh.` mean deletions in a layer");
        }
        if entry.path.is_root() && entry.kind != EntryKind::Opaque {
            return refuse("the root directory is not an entry");
        }
        match &entry.kind {
            EntryKind::File { size } => header.size = *size,
            EntryKind::HardLink { target } => {
                header.flag = b'1';
                header.link = target.as_bytes().to_vec();
            }
            EntryKind::Symlink { target } => {
                header.flag = b'2';
                header.mode = 0o777;
                header.link.clone_from(target);
            }
            EntryKind::Char { major: 0, minor: 0 } => {
                return refuse("a character device 0:0 means a deletion to overlayfs");
            }
            EntryKind::Char { major, minor } => (header.flag, header.device) = (b'3', (*major, *minor)),
            EntryKind::Block { major, minor } => (header.flag, header.device) = (b'4', (*major, *minor)),
            EntryKind::Directory => {
                header.flag = b'5';
                header.name.push(b'/');
            }
            EntryKind::Fifo => header.flag = b'6',
            EntryKind::Whiteout => return Self::marker(entry, false),
            EntryKind::Opaque => return Self::marker(entry, true),
        }
        if matches!(header.flag, b'1' | b'2') && (header.link.is_empty() || header.link.contains(&0)) {
            return refuse("its link target is empty or has a NUL byte");
        }
        if u64::from(header.device.0.max(header.device.1)) > LARGEST_ID {
            return refuse("its device number is too large");
        }
        for (name, value) in &entry.xattrs {
            if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'=')) {
                return refuse("the name of an extended attribute has `=` or a NUL byte");
            }
            header.xattrs.insert([&b"SCHILY.xattr."[..], name].concat(), value.clone());
        }
        Ok(header)
    }

    fn marker(entry: &Entry, opaque: bool) -> Result<Self, LayerError> {
        let directory = if opaque { Some(entry.path.clone()) } else { entry.path.parent() };
        let Some(directory) = directory else {
            return Err(LayerError::refused("", "the root directory cannot be deleted"));
        };
        let mut name = directory.as_bytes().to_vec();
        if !name.is_empty() {
            name.push(b'/');
        }
        if opaque {
            name.extend_from_slice(b".wh..wh..opq");
        } else {
            name.extend_from_slice(b".wh.");
            name.extend_from_slice(entry.path.file_name().unwrap_or_default());
        }
        Ok(Self {
            name,
            link: Vec::new(),
            flag: b'0',
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            device: (0, 0),
            xattrs: BTreeMap::new(),
        })
    }

    /// The header blocks: one, or three and more when PAX records are needed.
    fn bytes(self) -> Result<Vec<u8>, LayerError> {
        let mut records = self.xattrs;
        let (prefix, name) = match split(&self.name) {
            Some(parts) => parts,
            None => {
                records.insert(b"path".to_vec(), self.name.clone());
                (&b""[..], &self.name[..])
            }
        };
        if self.link.len() > NAME || !self.link.is_ascii() {
            records.insert(b"linkpath".to_vec(), self.link.clone());
        }
        let mut number = |key: &str, value: i128, largest: u64| {
            let fits = (0..=i128::from(largest)).contains(&value);
            if !fits {
                records.insert(key.as_bytes().to_vec(), value.to_string().into_bytes());
            }
            if fits { value as u64 } else { 0 }
        };
        let fields = Fields {
            prefix,
            name,
            link: &self.link,
            flag: self.flag,
            mode: u64::from(self.mode),
            uid: number("uid", self.uid.into(), LARGEST_ID),
            gid: number("gid", self.gid.into(), LARGEST_ID),
            size: number("size", self.size.into(), LARGEST_LONG),
            mtime: number("mtime", self.mtime.into(), LARGEST_LONG),
            device: self.device,
        };
        if records.is_empty() {
            return Ok(fields.block().to_vec());
        }
        let set = pax::encode(&records);
        if set.len() > super::tar_reader::LARGEST_RECORD_SET {
            return Err(LayerError::refused(&self.name, "its extended attributes are larger than 1 MiB"));
        }
        let base = self.name.strip_suffix(b"/").unwrap_or(&self.name);
        let base = base.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let extended = Fields {
            prefix: b"",
            name: &[b"PaxHeaders.0/", base].concat(),
            link: b"",
            flag: b'x',
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: set.len() as u64,
            mtime: 0,
            device: (0, 0),
        };
        let mut out = extended.block().to_vec();
        out.extend_from_slice(&set);
        out.resize(out.len() + padding(set.len() as u64), 0);
        out.extend_from_slice(&fields.block());
        Ok(out)
    }
}

/// Splits a name into ustar prefix and name; `None` when it does not fit.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if !name.is_ascii() {
        return None;
    }
    if name.len() <= NAME {
        return Some((b"", name));
    }
    // The last slash that leaves a prefix short enough; a directory's own last slash splits nothing.
    let within = name.len().saturating_sub(1).min(PREFIX + 1);
    let slash = name[..within].iter().rposition(|&byte| byte == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (!prefix.is_empty() && rest.len() <= NAME).then_some((prefix, rest))
}

/// One header block, every number known to fit.
struct Fields<'a> {
    prefix: &'a [u8],
    name: &'a [u8],
    link: &'a [u8],
    flag: u8,
    mode: u64,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    device: (u32, u32),
}

impl Fields<'_> {
    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        text(&mut block[..NAME], self.name);
        octal(&mut block[100..108], self.mode);
        octal(&mut block[108..116], self.uid);
        octal(&mut block[116..124], self.gid);
        octal(&mut block[124..136], self.size);
        octal(&mut block[136..148], self.mtime);
        block[156] = self.flag;
        text(&mut block[157..257], self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block[329..337], u64::from(self.device.0));
        octal(&mut block[337..345], u64::from(self.device.1));
        text(&mut block[345..500], self.prefix);
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        octal(&mut block[148..155], sum);
        block
    }
}

/// Fills a text field; what ustar cannot hold stands in a PAX record, so it is cut and stripped here.
fn text(field: &mut [u8], value: &[u8]) {
    let ascii = value.iter().filter(|byte| byte.is_ascii());
    field.iter_mut().zip(ascii).for_each(|(slot, &byte)| *slot = byte);
}

/// Fills a number field: octal digits and a NUL.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for slot in field[..digits].iter_mut().rev() {
        *slot = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::path::LayerPath;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { mtime: 1_700_000_000, ..Entry::new(LayerPath::new(path).unwrap(), kind, 0o644) }
    }

    fn write(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        for (entry, mut content) in entries.iter().map(|(entry, content)| (entry, *content)) {
            writer.append(entry, &mut content).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn plain_entries_are_one_ustar_block() {
        let bytes = write(&[(entry("a/b.txt", EntryKind::File { size: 3 }), b"abc")]);
        assert_eq!(bytes.len(), 512 + 512 + 1024);
        assert_eq!(&bytes[..8], b"a/b.txt\0");
        assert_eq!(&bytes[100..124], b"0000644\x000000000\x000000000\0");
        assert_eq!(&bytes[124..148], b"00000000003\x0014524770400\0");
        assert_eq!(&bytes[257..265], b"ustar\x0000");
        assert_eq!(&bytes[512..516], b"abc\0");
        assert!(bytes[1024..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn long_names_use_the_prefix_before_pax() {
        let name = format!("{}/{}", "d".repeat(150), "f".repeat(100));
        let bytes = write(&[(entry(&name, EntryKind::File { size: 0 }), b"")]);
        assert_eq!(bytes.len(), 512 + 1024);
        assert_eq!(&bytes[345..495], "d".repeat(150).as_bytes());
        let name = "f".repeat(101);
        let bytes = write(&[(entry(&name, EntryKind::File { size: 0 }), b"")]);
        assert_eq!(&bytes[..20], b"PaxHeaders.0/fffffff");
        assert_eq!(&bytes[512..522], b"111 path=f");
    }

    #[test]
    fn pax_keys_are_sorted_and_no_clock_or_pid_is_inside() {
        let mut big = entry("caf\u{e9}", EntryKind::File { size: 0 });
        (big.uid, big.gid, big.mtime) = (3_000_000, 3_000_001, -7);
        big.xattrs.insert(b"user.k".to_vec(), b"v\n=\0".to_vec());
        let bytes = write(&[(big.clone(), b"")]);
        let set = b"28 SCHILY.xattr.user.k=v\n=\0\n15 gid=3000001\n12 mtime=-7\n14 path=caf\xc3\xa9\n15 uid=3000000\n";
        assert_eq!(&bytes[512..512 + set.len()], set);
        assert_eq!(bytes, write(&[(big, b"")]));
    }

    #[test]
    fn markers() {
        let bytes = write(&[
            (Entry::opaque(LayerPath::new("d").unwrap()), b""),
            (Entry::whiteout(LayerPath::new("d/gone").unwrap()), b""),
            (Entry::opaque(LayerPath::root()), b""),
        ]);
        assert_eq!(&bytes[..15], b"d/.wh..wh..opq\0");
        assert_eq!(&bytes[512..523], b"d/.wh.gone\0");
        assert_eq!(&bytes[1024..1037], b".wh..wh..opq\0");
        assert_eq!(&bytes[612..620], b"0000000\0");
    }

    #[test]
    fn refusals_name_the_path() {
        let cases: &[(Entry, &[u8])] = &[
            (entry("f", EntryKind::File { size: 4 }), b"abc"),
            (entry("f", EntryKind::File { size: 2 }), b"abc"),
            (entry("d/.wh.f", EntryKind::File { size: 0 }), b""),
            (entry("", EntryKind::Directory), b""),
            (entry("", EntryKind::Whiteout), b""),
            (entry("l", EntryKind::Symlink { target: Vec::new() }), b""),
            (entry("c", EntryKind::Char { major: 1 << 21, minor: 0 }), b""),
        ];
        for (entry, mut content) in cases.iter().map(|(entry, content)| (entry, *content)) {
            let error = TarWriter::new(io::sink()).append(entry, &mut content).unwrap_err();
            assert!(error.to_string().contains(&entry.path.to_string()[1..]), "{error}");
        }
    }
}
