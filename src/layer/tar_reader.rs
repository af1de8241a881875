//! [`read_tar`]: every entry of a layer or archive, validated, in archive order.
//!
//! Headers are taken apart with the `tar` crate's header types alone; sizes, PAX records and long
//! names are combined here, because a reader that disagrees with others on where the next header
//! stands sees other entries than they do. Rules: OCI image-spec, `layer.md`.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use tar::Header;

use super::entry::{Entry, EntryKind, Xattrs, keep_xattr};
use super::error::LayerError;
use super::limits::Limits;
use super::path::LayerPath;
use super::pax;
use super::sparse::{self, SparseMap};
use super::tar_header::{checksum_holds, kind_of, marker, number, until_nul};
use super::tar_writer::{BLOCK, padding};

/// Largest PAX record set, and largest GNU long name.
pub(super) const LARGEST_RECORD_SET: usize = 1 << 20;
/// The archive is read in pieces of this size.
const PIECE: usize = 64 << 10;

/// What `.wh.` names mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A layer of an image: they are deletions.
    Layer,
    /// An archive to be added to an image: they are refused, since the layer that would hold them
    /// could not express them.
    Archive,
    /// Files that are not part of a layer: they are names like any other. The writer of a layer
    /// refuses them when they get that far.
    Files,
}

/// Receives one entry and its content; what it leaves unread is skipped.
pub type OnEntry<'a> = dyn FnMut(Entry, &mut dyn Read) -> Result<(), LayerError> + 'a;

/// Reads an uncompressed tar to the end of `reader`, within the default [`Limits`].
///
/// Bytes after the end marker are read and ignored; a missing end marker is tolerated.
///
/// # Errors
///
/// Fails for damaged or ambiguous archives, names that leave the root, unknown entry types, excess
/// over the limits, and whatever `each` fails with.
pub fn read_tar(reader: impl Read, mode: Mode, each: &mut OnEntry<'_>) -> Result<(), LayerError> {
    read_tar_within(reader, mode, &Limits::default(), each)
}

/// As [`read_tar`], with other limits.
///
/// # Errors
///
/// As [`read_tar`].
pub fn read_tar_within(
    reader: impl Read,
    mode: Mode,
    limits: &Limits,
    each: &mut OnEntry<'_>,
) -> Result<(), LayerError> {
    let mut archive = Archive {
        inner: BufReader::with_capacity(PIECE, reader),
        offset: 0,
        mode,
        limits,
        entries: 0,
        bytes: 0,
        global: Records::default(),
    };
    while let Some(member) = archive.next_member()? {
        archive.hand_over(member, each)?;
    }
    io::copy(&mut archive.inner, &mut io::sink()).map_err(LayerError::stream)?;
    Ok(())
}

/// PAX records by key; the sparse format 0.0 repeats keys, so its map is kept apart, in order.
#[derive(Debug, Default, Clone)]
struct Records {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    sparse_pairs: Vec<Vec<u8>>,
}

impl Records {
    fn add(&mut self, set: &[u8]) -> Result<(), &'static str> {
        for (key, value) in pax::parse(set)? {
            if let b"GNU.sparse.offset" | b"GNU.sparse.numbytes" = key {
                if self.sparse_pairs.len() >= 2 * sparse::MOST_SEGMENTS {
                    return Err("sparse map is too long");
                }
                self.sparse_pairs.push(value.to_vec());
            } else if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") {
                // An empty value withdraws the record.
                self.values.remove(key);
            } else {
                self.values.insert(key.to_vec(), value.to_vec());
            }
        }
        Ok(())
    }

    fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key.as_bytes()).map(Vec::as_slice)
    }

    fn number(&self, key: &str) -> Result<Option<u64>, &'static str> {
        self.get(key).map(|text| pax::decimal(text).ok_or("PAX number is malformed")).transpose()
    }
}

/// One entry's header with all that extends it, before its content.
struct Member {
    header: Header,
    records: Records,
    name: Vec<u8>,
    link: Vec<u8>,
    /// Bytes in the archive, without padding.
    stored: u64,
    header_offset: u64,
}

struct Archive<'a, R> {
    inner: BufReader<R>,
    offset: u64,
    mode: Mode,
    limits: &'a Limits,
    entries: u64,
    bytes: u64,
    global: Records,
}

impl<R: Read> Archive<'_, R> {
    fn malformed(&self, reason: &'static str) -> LayerError {
        LayerError::Malformed { offset: self.offset, reason }
    }

    /// The next block; `None` when the archive ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.malformed("it ends within a block")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LayerError::stream(error)),
            }
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    /// The next block of an archive that must not end here.
    fn needed_block(&mut self) -> Result<[u8; BLOCK], LayerError> {
        let end = self.malformed("it ends within an entry");
        self.block()?.ok_or(end)
    }

    /// The body of a header that extends the next one.
    fn small_body(&mut self, header: &Header) -> Result<Vec<u8>, LayerError> {
        let size = self.size_of(header)?;
        if size > LARGEST_RECORD_SET as u64 {
            return Err(LayerError::Limit { what: "bytes in one header", limit: LARGEST_RECORD_SET as u64 });
        }
        let mut body = Vec::with_capacity(size as usize + BLOCK);
        while (body.len() as u64) < size {
            body.extend_from_slice(&self.needed_block()?);
        }
        body.truncate(size as usize);
        Ok(body)
    }

    fn size_of(&self, header: &Header) -> Result<u64, LayerError> {
        let size = number(&header.as_old().size).and_then(|size| u64::try_from(size).ok());
        size.ok_or_else(|| self.malformed("its header has a bad size"))
    }

    /// Reads headers up to and including the next entry's own; `None` at the end of the archive.
    fn next_member(&mut self) -> Result<Option<Member>, LayerError> {
        let mut records = None::<Records>;
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let header_offset = self.offset;
            let Some(block) = self.block()? else {
                return self.end(records.is_some() || long_name.is_some() || long_link.is_some());
            };
            if block == [0; BLOCK] {
                if self.block()?.is_some_and(|next| next != [0; BLOCK]) {
                    return Err(self.malformed("a zero block stands between entries"));
                }
                return self.end(records.is_some() || long_name.is_some() || long_link.is_some());
            }
            let header = Header::from_byte_slice(&block).clone();
            if !checksum_holds(&block) {
                return Err(self.malformed("the checksum of a header is wrong"));
            }
            // Every header counts, or an archive of extensions alone would never end.
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(LayerError::Limit { what: "entries", limit: self.limits.entries });
            }
            match block[156] {
                b'x' => {
                    let body = self.small_body(&header)?;
                    let set = records.get_or_insert_with(Records::default);
                    set.add(&body).map_err(|reason| self.malformed(reason))?;
                }
                b'g' => self.read_global(&header)?,
                b'L' => long_name = Some(until_nul(&self.small_body(&header)?)),
                b'K' => long_link = Some(until_nul(&self.small_body(&header)?)),
                _ => {
                    let mut all = self.global.clone();
                    if let Some(own) = records {
                        all.values.extend(own.values);
                        all.sparse_pairs = own.sparse_pairs;
                    }
                    let size = all.number("size").map_err(|reason| self.malformed(reason))?;
                    let stored = match size {
                        Some(size) => size,
                        None => self.size_of(&header)?,
                    };
                    let name = long_name
                        .or_else(|| all.get("path").map(<[u8]>::to_vec))
                        .unwrap_or_else(|| header.path_bytes().into_owned());
                    let link = long_link
                        .or_else(|| all.get("linkpath").map(<[u8]>::to_vec))
                        .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                        .unwrap_or_default();
                    return Ok(Some(Member { header, records: all, name, link, stored, header_offset }));
                }
            }
        }
    }

    fn end(&self, dangling: bool) -> Result<Option<Member>, LayerError> {
        if dangling { Err(self.malformed("it ends after an extended header")) } else { Ok(None) }
    }

    fn read_global(&mut self, header: &Header) -> Result<(), LayerError> {
        let body = self.small_body(header)?;
        let mut global = std::mem::take(&mut self.global);
        global.add(&body).map_err(|reason| self.malformed(reason))?;
        let of_one_entry = |key: &Vec<u8>| {
            matches!(&key[..], b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.")
        };
        if global.values.keys().any(of_one_entry) || !global.sparse_pairs.is_empty() {
            return Err(self.malformed("a global header sets the name or size of entries"));
        }
        self.global = global;
        Ok(())
    }

    fn hand_over(&mut self, member: Member, each: &mut OnEntry<'_>) -> Result<(), LayerError> {
        let shown = member.records.get("GNU.sparse.name").unwrap_or(&member.name).to_vec();
        let refuse = |reason| LayerError::refused(&shown, reason);
        let path = LayerPath::from_archive(&shown)?;
        if path.components().count() > self.limits.depth {
            return Err(LayerError::Limit {
                what: "directories above one entry",
                limit: self.limits.depth as u64,
            });
        }

        let flag = member.header.as_bytes()[156];
        let map = self.sparse_map(&member, flag)?;
        let size = map.as_ref().map_or(member.stored, SparseMap::size);
        if size > self.limits.file_bytes {
            return Err(LayerError::Limit { what: "bytes in one file", limit: self.limits.file_bytes });
        }
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.total_bytes {
            return Err(LayerError::Limit { what: "bytes in one archive", limit: self.limits.total_bytes });
        }
        let kind = kind_of(member.header.as_bytes(), &member.name, &member.link, size).map_err(refuse)?;
        if !matches!(kind, EntryKind::File { .. }) && member.stored != 0 {
            return Err(refuse("it has content but is not a regular file"));
        }
        if path.is_root() && kind != EntryKind::Directory {
            return Err(refuse("it would replace the root directory"));
        }
        if kind == (EntryKind::Char { major: 0, minor: 0 }) {
            return Err(refuse("a character device 0:0 means a deletion to overlayfs"));
        }
        let entry = self.metadata(&member, path, kind)?;
        let entry = match self.mode {
            Mode::Layer => marker(entry)?,
            Mode::Archive if entry.path.components().any(|name| name.starts_with(b".wh.")) => {
                return Err(refuse("names beginning with `.wh.` mean deletions in a layer"));
            }
            Mode::Archive | Mode::Files => Some(entry),
        };

        let in_archive = map.as_ref().map_or(member.stored, SparseMap::stored);
        let mut body = Body { inner: &mut self.inner, left: in_archive };
        if let Some(entry) = entry {
            match map {
                None => each(entry, &mut body)?,
                Some(map) => each(entry, &mut map.reader(&mut body))?,
            }
        }
        let rest = body.left;
        let skipped =
            io::copy(&mut (&mut self.inner).take(rest), &mut io::sink()).map_err(LayerError::stream)?;
        if skipped < rest {
            return Err(self.malformed("it ends within an entry"));
        }
        self.offset += in_archive;
        let pad = padding(in_archive) as u64;
        // The padding of the last entry may be cut off together with the end marker.
        self.offset +=
            io::copy(&mut (&mut self.inner).take(pad), &mut io::sink()).map_err(LayerError::stream)?;
        Ok(())
    }

    fn sparse_map(&mut self, member: &Member, flag: u8) -> Result<Option<SparseMap>, LayerError> {
        let records = &member.records;
        let bad = |reason| LayerError::Malformed { offset: member.header_offset, reason };
        if flag == b'S' {
            let header = member.header.as_gnu().ok_or_else(|| bad("a sparse entry has no GNU header"))?;
            let mut pairs: Vec<(u64, u64)> = sparse::gnu_pairs(&header.sparse).map_err(bad)?;
            let mut more = header.is_extended();
            while more {
                if pairs.len() > sparse::MOST_SEGMENTS {
                    return Err(bad("sparse map is too long"));
                }
                let mut extension = tar::GnuExtSparseHeader::new();
                extension.as_mut_bytes().copy_from_slice(&self.needed_block()?);
                pairs.extend(sparse::gnu_pairs(&extension.sparse).map_err(bad)?);
                more = extension.is_extended();
            }
            let real =
                sparse::unsigned(&header.realsize).ok_or_else(|| bad("sparse entry has a bad size"))?;
            return SparseMap::new(pairs, real, member.stored).map(Some).map_err(bad);
        }
        let real = match records.number("GNU.sparse.realsize").map_err(bad)? {
            Some(real) => Some(real),
            None => records.number("GNU.sparse.size").map_err(bad)?,
        };
        let (pairs, map_bytes) = if records.get("GNU.sparse.major") == Some(b"1") {
            self.sparse_1_0(member)?
        } else if let Some(map) = records.get("GNU.sparse.map") {
            (sparse::pairs(map.split(|&byte| byte == b',')).map_err(bad)?, 0)
        } else if !records.sparse_pairs.is_empty() {
            (sparse::pairs(records.sparse_pairs.iter().map(Vec::as_slice)).map_err(bad)?, 0)
        } else {
            return Ok(None);
        };
        let real = real.ok_or_else(|| bad("sparse entry has no real size"))?;
        let data = member.stored.checked_sub(map_bytes).ok_or_else(|| bad("sparse map exceeds its entry"))?;
        SparseMap::new(pairs, real, data).map(Some).map_err(bad)
    }

    /// The sparse format 1.0 has its map as decimal lines before the data, padded to whole blocks.
    fn sparse_1_0(&mut self, member: &Member) -> Result<(Vec<(u64, u64)>, u64), LayerError> {
        let mut text = Vec::new();
        let mut lines = 0;
        let mut wanted = None::<usize>;
        loop {
            if text.len() as u64 >= member.stored {
                return Err(self.malformed("sparse map exceeds its entry"));
            }
            let block = self.needed_block()?;
            lines += block.iter().filter(|&&byte| byte == b'\n').count();
            text.extend_from_slice(&block);
            if wanted.is_none() {
                let first = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
                let count = pax::decimal(first).and_then(|count| usize::try_from(count).ok());
                wanted = count.filter(|&count| lines > 0 && count <= sparse::MOST_SEGMENTS);
            }
            let Some(count) = wanted else {
                return Err(self.malformed("sparse map is too long"));
            };
            if lines > 2 * count {
                let numbers = text.split(|&byte| byte == b'\n').skip(1).take(2 * count);
                let pairs = sparse::pairs(numbers).map_err(|reason| self.malformed(reason))?;
                return Ok((pairs, text.len() as u64));
            }
        }
    }

    fn metadata(&self, member: &Member, path: LayerPath, kind: EntryKind) -> Result<Entry, LayerError> {
        let old = member.header.as_old();
        let refuse = |reason| LayerError::refused(&path, reason);
        let id = |key: &str, field: &[u8]| {
            let value = match member.records.get(key) {
                Some(text) => pax::decimal(text).map(i128::from),
                None => number(field),
            };
            // The largest number means "leave as it is" to the kernel, never an owner.
            let id = value.and_then(|value| u32::try_from(value).ok()).filter(|&id| id != u32::MAX);
            id.ok_or_else(|| refuse("its owner is not a 32-bit id"))
        };
        let (uid, gid) = (id("uid", &old.uid)?, id("gid", &old.gid)?);
        let mtime = match member.records.get("mtime") {
            Some(text) => pax::seconds(text),
            None => number(&old.mtime).and_then(|value| i64::try_from(value).ok()),
        };
        let mtime = mtime.ok_or_else(|| refuse("its time is malformed"))?;
        let mode = number(&old.mode).ok_or_else(|| refuse("its mode is malformed"))? & 0o7777;
        let mut xattrs = Xattrs::new();
        for (key, value) in &member.records.values {
            let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else { continue };
            if value.len() > self.limits.xattr_bytes {
                let limit = self.limits.xattr_bytes as u64;
                return Err(LayerError::Limit { what: "bytes in one extended attribute", limit });
            }
            if let Some(value) = keep_xattr(name, value) {
                xattrs.insert(name.to_vec(), value);
            }
        }
        Ok(Entry { path, kind, mode: mode as u32, uid, gid, mtime, xattrs })
    }
}

/// The rest of one entry's bytes in the archive.
struct Body<'a, R> {
    inner: &'a mut R,
    left: u64,
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a file"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
#[path = "tar_reader_tests.rs"]
mod tests;
