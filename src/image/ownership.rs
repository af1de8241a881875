//! How a directory of ours holds the owners and modes that an image says its files have.

use std::ffi::CStr;

/// Who keeps the owners of files: the kernel, or we beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ownership {
    /// The kernel: a file has its owner. An owner that the user namespace has no id for is recorded.
    Kernel,
    /// All files belong to the namespace's root; another owner than 0:0 is recorded on the file.
    Recorded,
    /// As `Recorded`, for a user without any right: also, every file can be read and written by
    /// its owner on disk, every directory searched, and a mode that says otherwise is recorded.
    Simulated,
}

/// Extended attribute that holds an owner, as other rootless tools write it: `uid:gid:0mode`.
pub const OWNER_RECORD: &CStr = c"user.containers.override_stat";

/// Extended attribute that holds a mode, in octal digits.
pub const MODE_RECORD: &CStr = c"user.fanfold.mode";

/// Writes an owner for [`OWNER_RECORD`].
pub fn owner_record(uid: u32, gid: u32, mode: u32) -> String {
    format!("{uid}:{gid}:0{:o}", mode & 0o7777)
}

/// Reads user and group of an [`OWNER_RECORD`]; `None` for what is not one.
pub fn parse_owner_record(value: &[u8]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let mut parts = text.split(':');
    let (uid, gid) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    u32::from_str_radix(parts.next()?, 8).ok()?;
    Some((uid, gid))
}

/// Writes a mode for [`MODE_RECORD`].
pub fn mode_record(mode: u32) -> String {
    format!("{:o}", mode & 0o7777)
}

/// Reads a [`MODE_RECORD`]; `None` for what is not one.
pub fn parse_mode_record(value: &[u8]) -> Option<u32> {
    let mode = u32::from_str_radix(std::str::from_utf8(value).ok()?, 8).ok()?;
    (mode <= 0o7777).then_some(mode)
}

/// The mode that a file has on disk under [`Ownership::Simulated`].
pub fn workable_mode(mode: u32, is_directory: bool) -> u32 {
    mode & 0o7777 | if is_directory { 0o700 } else { 0o600 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_written() {
        assert_eq!(owner_record(5, 7, 0o100644), "5:7:0644");
        assert_eq!(parse_owner_record(b"5:7:0644"), Some((5, 7)));
        assert_eq!(parse_owner_record(b"4294967294:0:04755:file"), Some((u32::MAX - 1, 0)));
        assert_eq!(parse_mode_record(mode_record(0o4751).as_bytes()), Some(0o4751));
    }

    #[test]
    fn other_values_are_none() {
        for value in [&b""[..], b"5", b"5:7", b"-1:0:0644", b"5:7:8", b"4294967296:0:0", b"\xff:0:0"] {
            assert_eq!(parse_owner_record(value), None, "{value:?}");
        }
        for value in [&b""[..], b"8", b"10000", b"rwx"] {
            assert_eq!(parse_mode_record(value), None, "{value:?}");
        }
    }

    #[test]
    fn owners_can_work_with_their_files() {
        assert_eq!(workable_mode(0o440, false), 0o640);
        assert_eq!(workable_mode(0o0, true), 0o700);
        assert_eq!(workable_mode(0o4755, false), 0o4755);
    }
}
