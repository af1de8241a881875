//! Times of files.

use nix::libc;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::super::super::notification::Answer;
use super::super::access::{self, WRITE};
use super::super::walk::Found;
use super::{Call, Outcome, only};

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW as _ };
const OMIT: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ };

/// utime(2)
pub(in super::super) fn utime(call: &Call<'_>) -> Outcome {
    let found = call.target_to_change(libc::AT_FDCWD, &call.path(0)?, 0)?;
    let times = match call.arguments[1] {
        0 => [NOW; 2],
        address => numbers::<2>(call, address)?.map(|seconds| Timespec { tv_sec: seconds, tv_nsec: 0 }),
    };
    set(call, &found, times)
}

/// utimes(2)
pub(in super::super) fn utimes(call: &Call<'_>) -> Outcome {
    let found = call.target_to_change(libc::AT_FDCWD, &call.path(0)?, 0)?;
    set(call, &found, microseconds(call, call.arguments[1])?)
}

/// futimesat(2)
pub(in super::super) fn futimesat(call: &Call<'_>) -> Outcome {
    let found = if call.arguments[1] == 0 {
        opened(call)?
    } else {
        call.target_to_change(call.int(0), &call.path(1)?, 0)?
    };
    set(call, &found, microseconds(call, call.arguments[2])?)
}

/// utimensat(2)
pub(in super::super) fn utimensat(call: &Call<'_>) -> Outcome {
    let flags = call.int(3);
    only(flags, libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
    let found = if call.arguments[1] == 0 {
        only(flags, libc::AT_EMPTY_PATH)?;
        opened(call)?
    } else {
        call.target_to_change(call.int(0), &call.path(1)?, flags)?
    };
    let times = match call.arguments[2] {
        0 => [NOW; 2],
        address => {
            let [access, access_part, change, change_part] = numbers::<4>(call, address)?;
            let time = |seconds, part| Timespec { tv_sec: seconds, tv_nsec: part };
            [time(access, access_part), time(change, change_part)]
        }
    };
    set(call, &found, times)
}

/// What the first argument is open on, to be changed.
fn opened(call: &Call<'_>) -> Result<Found, Errno> {
    let found = call.opened_to_change(call.int(0))?;
    call.check_writable(&found)?;
    Ok(found)
}

/// Two times of seconds and microseconds.
fn microseconds(call: &Call<'_>, address: u64) -> Result<[Timespec; 2], Errno> {
    if address == 0 {
        return Ok([NOW; 2]);
    }
    let [access, access_part, change, change_part] = numbers::<4>(call, address)?;
    let time = |seconds, part| match part {
        0..1_000_000 => Ok(Timespec { tv_sec: seconds, tv_nsec: part * 1000 }),
        _ => Err(Errno::INVAL),
    };
    Ok([time(access, access_part)?, time(change, change_part)?])
}

/// Reads numbers of 64 bits.
fn numbers<const N: usize>(call: &Call<'_>, address: u64) -> Result<[i64; N], Errno> {
    let mut bytes = [0; 64];
    let bytes = &mut bytes[..N * 8];
    call.task.read(address, bytes)?;
    let mut numbers = [0; N];
    for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = i64::from_ne_bytes(bytes.try_into().map_err(|_| Errno::FAULT)?);
    }
    Ok(numbers)
}

fn set(call: &Call<'_>, found: &Found, [access, change]: [Timespec; 2]) -> Outcome {
    let is = |time: &Timespec, special: Timespec| time.tv_nsec == special.tv_nsec;
    let credentials = call.credentials()?;
    if is(&access, OMIT) && is(&change, OMIT) {
        return Ok(Answer::DONE);
    }
    let owner = call.owner(found);
    let both_now = is(&access, NOW) && is(&change, NOW);
    match access::check_owner(&credentials, owner) {
        // The time of now is what writing would set as well.
        Err(_) if both_now => call.check(&credentials, found, WRITE)?,
        other => other?,
    }
    let times = Timestamps { last_access: access, last_modification: change };
    rustix::fs::utimensat(CWD, call.paths.view.own_path(&found.file), &times, AtFlags::empty())?;
    Ok(Answer::DONE)
}
