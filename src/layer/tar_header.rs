//! Single headers of a tar archive: numbers, checksums, types and the meaning of `.wh.` names.

use super::entry::{Entry, EntryKind};
use super::error::LayerError;
use super::path::LayerPath;
use super::tar_writer::BLOCK;

/// What an entry with this header, full name, link target and size is.
pub(super) fn kind_of(
    header: &[u8; BLOCK],
    name: &[u8],
    link: &[u8],
    size: u64,
) -> Result<EntryKind, &'static str> {
    let target = || match link {
        [] => Err("its link target is empty"),
        link if link.contains(&0) || link.len() > 4095 => Err("its link target is malformed"),
        link => Ok(link.to_vec()),
    };
    let device = || {
        let part = |field: &[u8]| number(field).and_then(|value| u32::try_from(value).ok());
        part(&header[329..337]).zip(part(&header[337..345])).ok_or("its device number is malformed")
    };
    Ok(match header[156] {
        // Before ustar a directory was a file whose name ends in a slash.
        b'0' | 0 if name.ends_with(b"/") && size == 0 => EntryKind::Directory,
        b'0' | 0 | b'7' if name.ends_with(b"/") => return Err("a file has the name of a directory"),
        b'0' | 0 | b'7' | b'S' => EntryKind::File { size },
        b'1' => {
            let target =
                LayerPath::from_archive(&target()?).map_err(|_| "its link target leaves the root")?;
            if target.is_root() {
                return Err("it links to the root directory");
            }
            EntryKind::HardLink { target }
        }
        b'2' => EntryKind::Symlink { target: target()? },
        b'3' => device().map(|(major, minor)| EntryKind::Char { major, minor })?,
        b'4' => device().map(|(major, minor)| EntryKind::Block { major, minor })?,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        _ => return Err("its type is not known"),
    })
}

/// Turns `.wh.` names into deletions; `None` for the metadata of AUFS.
pub(super) fn marker(entry: Entry) -> Result<Option<Entry>, LayerError> {
    if !entry.path.components().any(|name| name.starts_with(b".wh.")) {
        return Ok(Some(entry));
    }
    let refuse = |reason| Err(LayerError::refused(&entry.path, reason));
    let directory = entry.path.parent().unwrap_or_default();
    let name = entry.path.file_name().unwrap_or_default();
    if directory.components().any(|name| name.starts_with(b".wh..wh.")) {
        return Ok(None);
    }
    if directory.components().any(|name| name.starts_with(b".wh.")) {
        return refuse("it stands below a deletion");
    }
    if name == b".wh..wh..opq" {
        return Ok(Some(Entry::opaque(directory)));
    }
    if name.starts_with(b".wh..wh.") {
        return Ok(None);
    }
    match name.strip_prefix(b".wh.") {
        Some(b"" | b"." | b"..") => refuse("it deletes no name"),
        Some(deleted) => Ok(Some(Entry::whiteout(directory.join(deleted)?))),
        None => Ok(Some(entry)),
    }
}

/// Whether the header's checksum is right.
pub(super) fn checksum_holds(block: &[u8; BLOCK]) -> bool {
    let counted = |at: usize| if (148..156).contains(&at) { b' ' } else { block[at] };
    let unsigned: i128 = (0..BLOCK).map(|at| i128::from(counted(at))).sum();
    // Some old writers added signed bytes.
    let signed: i128 = (0..BLOCK).map(|at| i128::from(counted(at) as i8)).sum();
    number(&block[148..156]).is_some_and(|sum| sum == unsigned || sum == signed)
}

/// A header's number: octal text, blank for zero, or base 256 when the first bit is set.
pub(super) fn number(field: &[u8]) -> Option<i128> {
    if field[0] & 0x80 != 0 {
        // Two's complement; the first bit is the mark and the second the sign.
        let sign = if field[0] & 0x40 == 0 { 0 } else { -1 };
        let first = i128::from(field[0] & 0x7f) - if sign < 0 { 0x80 } else { 0 };
        return Some(field[1..].iter().fold(first, |value, &byte| value << 8 | i128::from(byte)));
    }
    let start = field.iter().position(|&byte| byte != b' ').unwrap_or(field.len());
    let digits = field[start..].split(|&byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    digits.iter().try_fold(0, |value, &digit| match digit {
        b'0'..=b'7' => Some(value << 3 | i128::from(digit - b'0')),
        _ => None,
    })
}

/// A long name without what pads it.
pub(super) fn until_nul(body: &[u8]) -> Vec<u8> {
    body.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}
