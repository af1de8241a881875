//! Calls that list or change the extended attributes of a file, where the root is the task's own.
//!
//! The one in which an owner is recorded is not shown: a program that copies all that are listed would give
//! the copy the owner of the original. Nor is it a command's to write: it would give its files to others.
//!
//! Sources: listxattr(2), setxattr(2).

use std::os::fd::AsRawFd;

use nix::libc;
use rustix::io::Errno;

use super::identity_calls::{Identities, Target};
use super::notification::Answer;
use super::task::Task;
use crate::image::OWNER_RECORD;

/// The calls that [`answer`] knows.
pub(super) const CALLS: [libc::c_long; 11] = [
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SETXATTRAT,
    REMOVEXATTRAT,
];

/// Numbers of calls that came later than the C library's list of them.
const SETXATTRAT: libc::c_long = 463;
const REMOVEXATTRAT: libc::c_long = 466;

/// The kernel's bound on a name, in bytes.
const NAME_LIMIT: usize = 255;

/// The kernel's bound on a list of names, in bytes.
const LIST_LIMIT: usize = 65_536;

/// Answers one of [`CALLS`]; `None` for another.
pub(super) fn answer(
    identities: &Identities,
    task: &Task<'_>,
    call: libc::c_long,
    arguments: &[u64; 6],
) -> Option<Answer> {
    let [first, buffer, size, fourth, ..] = *arguments;
    let target = match call {
        libc::SYS_listxattr => Target::read(task, libc::AT_FDCWD as u64, first, 0),
        libc::SYS_llistxattr => Target::read(task, libc::AT_FDCWD as u64, first, libc::AT_SYMLINK_NOFOLLOW),
        libc::SYS_flistxattr => Ok(Target::descriptor(first)),
        SETXATTRAT | REMOVEXATTRAT => return Some(change(task, fourth)),
        call if CALLS.contains(&call) => return Some(change(task, buffer)),
        _ => return None,
    };
    let listed = target.and_then(|target| list(identities, task, &target, buffer, size));
    Some(listed.unwrap_or_else(Answer::Failed))
}

/// A change of the attribute whose name is at this address.
fn change(task: &Task<'_>, name: u64) -> Answer {
    match task.string(name, NAME_LIMIT + 1) {
        Ok(name) if name == OWNER_RECORD.to_bytes() => Answer::Failed(Errno::PERM),
        // What is wrong with another name is said by the kernel.
        _ => Answer::Continue,
    }
}

fn list(
    identities: &Identities,
    task: &Task<'_>,
    target: &Target,
    buffer: u64,
    size: u64,
) -> Result<Answer, Errno> {
    if !identities.may_be_recorded(task, target) {
        return Ok(Answer::Continue);
    }
    let Ok(file) = target.open(task) else { return Ok(Answer::Continue) };
    let mut names = vec![0; LIST_LIMIT];
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let Ok(length) = rustix::fs::listxattr(path, &mut names) else { return Ok(Answer::Continue) };
    let shown = without_record(&names[..length]);
    if shown.len() == length {
        return Ok(Answer::Continue);
    }
    // Without a buffer only its length is asked for.
    if size != 0 {
        if shown.len() as u64 > size {
            return Err(Errno::RANGE);
        }
        if !task.is_waiting() {
            return Err(Errno::SRCH);
        }
        task.write(buffer, &shown)?;
    }
    Ok(Answer::Value(shown.len() as i64))
}

fn without_record(names: &[u8]) -> Vec<u8> {
    let names = names.split_inclusive(|byte| *byte == 0);
    names.filter(|name| *name != OWNER_RECORD.to_bytes_with_nul()).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_not_listed() {
        for (names, shown) in [
            (&b"user.a\0user.containers.override_stat\0security.b\0"[..], &b"user.a\0security.b\0"[..]),
            (b"user.containers.override_stat2\0", b"user.containers.override_stat2\0"),
            (b"", b""),
        ] {
            assert_eq!(without_record(names), shown);
        }
    }
}
