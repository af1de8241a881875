//! What files are.

use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd;

use nix::libc;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::super::super::super::sys::stat::{self, Fields, STAT_FIELDS, STATX_FIELDS};
use super::super::super::notification::Answer;
use super::super::super::owners::Owner;
use super::{Call, Found, Outcome, PERMISSIONS, only};

/// What newfstatat takes.
const STAT_FLAGS: i32 = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH;
/// What statx takes besides: how fresh the answer has to be.
const STATX_FLAGS: i32 = STAT_FLAGS | libc::AT_STATX_SYNC_TYPE;

/// stat(2)
pub(in super::super) fn stat_followed(call: &Call<'_>) -> Outcome {
    let found = call.find(libc::AT_FDCWD, &call.path(0)?, true)?;
    give(call, &found, 1)
}

/// lstat(2)
pub(in super::super) fn lstat(call: &Call<'_>) -> Outcome {
    let found = call.find(libc::AT_FDCWD, &call.path(0)?, false)?;
    give(call, &found, 1)
}

/// fstat(2)
pub(in super::super) fn fstat(call: &Call<'_>) -> Outcome {
    give(call, &call.opened(call.int(0))?, 1)
}

/// newfstatat(2)
pub(in super::super) fn newfstatat(call: &Call<'_>) -> Outcome {
    only(call.int(3), STAT_FLAGS)?;
    let path = optional_path(call, call.int(3))?;
    give(call, &call.target(call.int(0), &path, call.int(3))?, 2)
}

/// statx(2)
pub(in super::super) fn statx(call: &Call<'_>) -> Outcome {
    let flags = call.int(2);
    only(flags, STATX_FLAGS)?;
    let path = optional_path(call, flags)?;
    let found = call.target(call.int(0), &path, flags)?;
    let mut bytes =
        stat::statx(found.file.as_fd(), flags & libc::AT_STATX_SYNC_TYPE, call.unsigned(3)).map_err(errno)?;
    simulate(&mut bytes, STATX_FIELDS, offset_of!(libc::statx, stx_mode), call.owner(&found));
    call.task.write(call.arguments[4], &bytes)?;
    Ok(Answer::DONE)
}

/// The path of a call that may leave it out where a descriptor is meant (since Linux 6.11).
fn optional_path(call: &Call<'_>, flags: i32) -> Result<Vec<u8>, Errno> {
    if call.arguments[1] == 0 && flags & libc::AT_EMPTY_PATH != 0 { Ok(Vec::new()) } else { call.path(1) }
}

/// Writes what is known of a file to where argument `index` points.
fn give(call: &Call<'_>, found: &Found, index: usize) -> Outcome {
    let mut bytes = stat::stat(found.file.as_fd()).map_err(errno)?;
    simulate(&mut bytes, STAT_FIELDS, offset_of!(libc::stat, st_mode), call.owner(found));
    call.task.write(call.arguments[index], &bytes)?;
    Ok(Answer::DONE)
}

/// Puts owner and mode of the image in the place of those on disk.
fn simulate(bytes: &mut [u8], fields: Fields, mode: usize, owner: Owner) {
    for (at, value) in [(fields.uid, owner.uid), (fields.gid, owner.gid)] {
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    // The lower half holds all of it; statx has no more.
    let mut on_disk = [0; 2];
    on_disk.copy_from_slice(&bytes[mode..mode + 2]);
    let on_disk = u32::from(u16::from_ne_bytes(on_disk));
    // Of a link nobody changes the mode.
    if FileType::from_raw_mode(on_disk) != FileType::Symlink {
        let shown = (on_disk & !PERMISSIONS | owner.mode) as u16;
        bytes[mode..mode + 2].copy_from_slice(&shown.to_ne_bytes());
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_and_mode_are_simulated() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let owner = Owner { uid: 5, gid: 7, mode: 0o4711 };
        let plain = stat::stat(file.as_fd()).unwrap();
        let mut bytes = plain;
        simulate(&mut bytes, STAT_FIELDS, offset_of!(libc::stat, st_mode), owner);
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((word(24), word(28), word(32)), (libc::S_IFREG | 0o4711, 5, 7));
        assert_eq!(bytes[40..], plain[40..]);
        let mut bytes = stat::statx(file.as_fd(), 0, 0x7ff).unwrap();
        let at = offset_of!(libc::statx, stx_mode);
        simulate(&mut bytes, STATX_FIELDS, at, owner);
        assert_eq!(bytes[at..at + 2], (libc::S_IFREG as u16 | 0o4711).to_ne_bytes());
    }
}
