//! What files are.

use nix::libc;
use rustix::fs::{AtFlags, FileType, Stat, Statx, StatxFlags};
use rustix::io::Errno;

use super::super::super::notification::Answer;
use super::super::super::owners::Owner;
use super::{Call, Found, Outcome, PERMISSIONS, only};

/// What newfstatat takes.
const STAT_FLAGS: i32 = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH;
/// What statx takes besides: how fresh the answer has to be.
const STATX_FLAGS: i32 = STAT_FLAGS | libc::AT_STATX_FORCE_SYNC | libc::AT_STATX_DONT_SYNC;

/// stat(2)
pub(in super::super) fn stat(call: &Call<'_>) -> Outcome {
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
    let own_flags = AtFlags::EMPTY_PATH
        | AtFlags::SYMLINK_NOFOLLOW
        | AtFlags::from_bits_retain((flags & (libc::AT_STATX_FORCE_SYNC | libc::AT_STATX_DONT_SYNC)) as u32);
    let wanted = StatxFlags::from_bits_retain(call.unsigned(3) | StatxFlags::TYPE.bits());
    let known = rustix::fs::statx(&found.file, "", own_flags, wanted)?;
    call.task.write(call.arguments[4], &statx_bytes(&known, call.owner(&found)))?;
    Ok(Answer::DONE)
}

/// The path of a call that may leave it out where a descriptor is meant (since Linux 6.11).
fn optional_path(call: &Call<'_>, flags: i32) -> Result<Vec<u8>, Errno> {
    if call.arguments[1] == 0 && flags & libc::AT_EMPTY_PATH != 0 { Ok(Vec::new()) } else { call.path(1) }
}

/// Writes what is known of a file to where argument `index` points.
fn give(call: &Call<'_>, found: &Found, index: usize) -> Outcome {
    call.task.write(call.arguments[index], &stat_bytes(&found.stat, call.owner(found)))?;
    Ok(Answer::DONE)
}

/// The mode that a file shows.
fn shown_mode(mode: u32, owner: Owner) -> u32 {
    // Of a link nobody changes it.
    if FileType::from_raw_mode(mode) == FileType::Symlink { mode } else { mode & !PERMISSIONS | owner.mode }
}

/// `struct stat` of x86-64.
fn stat_bytes(stat: &Stat, owner: Owner) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(144);
    let mut put = |number: u64| bytes.extend_from_slice(&number.to_ne_bytes());
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    put(stat.st_dev);
    put(stat.st_ino);
    put(stat.st_nlink as u64);
    put(pair(shown_mode(stat.st_mode, owner), owner.uid));
    put(pair(owner.gid, 0));
    put(stat.st_rdev);
    put(stat.st_size as u64);
    put(stat.st_blksize as u64);
    put(stat.st_blocks as u64);
    put(stat.st_atime as u64);
    put(stat.st_atime_nsec as u64);
    put(stat.st_mtime as u64);
    put(stat.st_mtime_nsec as u64);
    put(stat.st_ctime as u64);
    put(stat.st_ctime_nsec as u64);
    for _ in 0..3 {
        put(0);
    }
    bytes
}

/// `struct statx`, as far as it is known here; the rest is zero, which its mask says.
fn statx_bytes(known: &Statx, owner: Owner) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let mut put = |part: &[u8]| bytes.extend_from_slice(part);
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    put(&(known.stx_mask & mask.bits()).to_ne_bytes());
    put(&known.stx_blksize.to_ne_bytes());
    put(&known.stx_attributes.bits().to_ne_bytes());
    put(&known.stx_nlink.to_ne_bytes());
    put(&owner.uid.to_ne_bytes());
    put(&owner.gid.to_ne_bytes());
    put(&(shown_mode(u32::from(known.stx_mode), owner) as u16).to_ne_bytes());
    put(&[0; 2]);
    put(&known.stx_ino.to_ne_bytes());
    put(&known.stx_size.to_ne_bytes());
    put(&known.stx_blocks.to_ne_bytes());
    put(&known.stx_attributes_mask.bits().to_ne_bytes());
    for time in [&known.stx_atime, &known.stx_btime, &known.stx_ctime, &known.stx_mtime] {
        put(&time.tv_sec.to_ne_bytes());
        put(&time.tv_nsec.to_ne_bytes());
        put(&[0; 4]);
    }
    for number in [known.stx_rdev_major, known.stx_rdev_minor, known.stx_dev_major, known.stx_dev_minor] {
        put(&number.to_ne_bytes());
    }
    put(&known.stx_mnt_id.to_ne_bytes());
    bytes.resize(256, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_layout() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let owner = Owner { uid: 5, gid: 7, mode: 0o4711 };
        let stat = stat_bytes(&rustix::fs::fstat(&file).unwrap(), owner);
        assert_eq!(stat.len(), size_of::<libc::stat>());
        let word = |at: usize| u32::from_ne_bytes(stat[at..at + 4].try_into().unwrap());
        assert_eq!((word(24) & PERMISSIONS, word(28), word(32)), (0o4711, 5, 7));
        let wanted = StatxFlags::BASIC_STATS;
        let known = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, wanted).unwrap();
        let statx = statx_bytes(&known, owner);
        assert_eq!(statx.len(), size_of::<libc::statx>());
        assert_eq!(statx[std::mem::offset_of!(libc::statx, stx_uid)], 5);
        let at = std::mem::offset_of!(libc::statx, stx_mnt_id);
        assert_eq!(statx[at..at + 8], known.stx_mnt_id.to_ne_bytes());
        let at = std::mem::offset_of!(libc::statx, stx_mtime);
        assert_eq!(statx[at..at + 8], known.stx_mtime.tv_sec.to_ne_bytes());
    }
}
