//! Modes and owners: asking for them, changing them.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::libc;
use rustix::io::Errno;

use super::super::super::credentials::Credentials;
use super::super::super::notification::Answer;
use super::super::access::{self, WRITE};
use super::super::view::is_directory;
use super::super::walk::Found;
use super::{Call, Outcome, PERMISSIONS, done, only};

/// What [`faccessat2`] takes.
const ACCESS_FLAGS: i32 = libc::AT_EACCESS | libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
/// What changes of owner and mode take.
const CHANGE_FLAGS: i32 = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
/// The id that leaves an owner as it is.
const UNCHANGED: u32 = u32::MAX;

/// access(2)
pub(in super::super) fn access(call: &Call<'_>) -> Outcome {
    may_access(call, libc::AT_FDCWD, &call.path(0)?, call.unsigned(1), 0)
}

/// faccessat(2)
pub(in super::super) fn faccessat(call: &Call<'_>) -> Outcome {
    may_access(call, call.int(0), &call.path(1)?, call.unsigned(2), 0)
}

/// faccessat2(2)
pub(in super::super) fn faccessat2(call: &Call<'_>) -> Outcome {
    only(call.int(3), ACCESS_FLAGS)?;
    may_access(call, call.int(0), &call.path(1)?, call.unsigned(2), call.int(3))
}

/// chmod(2)
pub(in super::super) fn chmod(call: &Call<'_>) -> Outcome {
    set_mode(call, &call.target_to_change(libc::AT_FDCWD, &call.path(0)?, 0)?, call.unsigned(1))
}

/// fchmod(2)
pub(in super::super) fn fchmod(call: &Call<'_>) -> Outcome {
    set_mode(call, &opened(call)?, call.unsigned(1))
}

/// fchmodat(2)
pub(in super::super) fn fchmodat(call: &Call<'_>) -> Outcome {
    set_mode(call, &call.target_to_change(call.int(0), &call.path(1)?, 0)?, call.unsigned(2))
}

/// fchmodat2(2)
pub(in super::super) fn fchmodat2(call: &Call<'_>) -> Outcome {
    only(call.int(3), CHANGE_FLAGS)?;
    set_mode(call, &call.target_to_change(call.int(0), &call.path(1)?, call.int(3))?, call.unsigned(2))
}

/// chown(2)
pub(in super::super) fn chown(call: &Call<'_>) -> Outcome {
    set_owner(call, &call.target_to_change(libc::AT_FDCWD, &call.path(0)?, 0)?, 1)
}

/// lchown(2)
pub(in super::super) fn lchown(call: &Call<'_>) -> Outcome {
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    set_owner(call, &call.target_to_change(libc::AT_FDCWD, &call.path(0)?, flags)?, 1)
}

/// fchown(2)
pub(in super::super) fn fchown(call: &Call<'_>) -> Outcome {
    set_owner(call, &opened(call)?, 1)
}

/// fchownat(2)
pub(in super::super) fn fchownat(call: &Call<'_>) -> Outcome {
    only(call.int(4), CHANGE_FLAGS)?;
    set_owner(call, &call.target_to_change(call.int(0), &call.path(1)?, call.int(4))?, 2)
}

/// What the first argument is open on, to be changed.
fn opened(call: &Call<'_>) -> Result<Found, Errno> {
    let found = call.opened_to_change(call.int(0))?;
    call.check_writable(&found)?;
    Ok(found)
}

fn may_access(call: &Call<'_>, directory: i32, path: &[u8], wanted: u32, flags: i32) -> Outcome {
    if wanted & !7 != 0 {
        return Err(Errno::INVAL);
    }
    let found = call.target(directory, path, flags)?;
    if wanted == libc::F_OK as u32 {
        return Ok(Answer::DONE);
    }
    let mut credentials = call.credentials()?;
    if flags & libc::AT_EACCESS == 0 {
        credentials = real(credentials);
    }
    access::check(&credentials, call.owner(&found), is_directory(&found.stat), wanted)?;
    if wanted & WRITE != 0 && matches!(found.stat.st_mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR) {
        call.check_writable(&found)?;
    }
    Ok(Answer::DONE)
}

/// Credentials by which the real user is asked for.
fn real(credentials: Arc<Credentials>) -> Arc<Credentials> {
    let (users, groups) = (credentials.users, credentials.main_groups);
    if (users.file, groups.file) == (users.real, groups.real) {
        return credentials;
    }
    let mut real = Credentials::clone(&credentials);
    (real.users.file, real.main_groups.file) = (users.real, groups.real);
    Arc::new(real)
}

fn set_mode(call: &Call<'_>, found: &Found, mode: u32) -> Outcome {
    if found.stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
        return Err(Errno::OPNOTSUPP);
    }
    let credentials = call.credentials()?;
    let owner = call.owner(found);
    access::check_owner(&credentials, owner)?;
    let mut mode = mode & PERMISSIONS;
    // Nobody makes a program of a group that he is not in.
    if credentials.file_user() != 0 && !credentials.is_member(owner.gid) && !is_directory(&found.stat) {
        mode &= !libc::S_ISGID;
    }
    call.paths.owners.set_mode(found.file.as_fd(), mode).map(done)
}

/// The ids are the arguments from `first` on.
fn set_owner(call: &Call<'_>, found: &Found, first: usize) -> Outcome {
    let id = |index| Some(call.unsigned(index)).filter(|id| *id != UNCHANGED);
    let credentials = call.credentials()?;
    let file = found.file.as_fd();
    call.paths.owners.chown(file, &credentials, id(first), id(first + 1)).map(done)
}
