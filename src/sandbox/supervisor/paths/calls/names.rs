//! Taking names away from files, and giving them others.

use nix::libc;
use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::super::super::notification::Answer;
use super::super::access;
use super::super::view::is_directory;
use super::super::walk::{Entry, Found, Parent};
use super::{Call, Outcome, only};

/// unlink(2)
pub(in super::super) fn unlink(call: &Call<'_>) -> Outcome {
    remove(call, libc::AT_FDCWD, &call.path(0)?, false)
}

/// rmdir(2)
pub(in super::super) fn rmdir(call: &Call<'_>) -> Outcome {
    remove(call, libc::AT_FDCWD, &call.path(0)?, true)
}

/// unlinkat(2)
pub(in super::super) fn unlinkat(call: &Call<'_>) -> Outcome {
    only(call.int(2), libc::AT_REMOVEDIR)?;
    remove(call, call.int(0), &call.path(1)?, call.int(2) != 0)
}

/// rename(2)
pub(in super::super) fn rename(call: &Call<'_>) -> Outcome {
    give_name(call, (libc::AT_FDCWD, call.path(0)?), (libc::AT_FDCWD, call.path(1)?), 0)
}

/// renameat(2)
pub(in super::super) fn renameat(call: &Call<'_>) -> Outcome {
    give_name(call, (call.int(0), call.path(1)?), (call.int(2), call.path(3)?), 0)
}

/// renameat2(2)
pub(in super::super) fn renameat2(call: &Call<'_>) -> Outcome {
    give_name(call, (call.int(0), call.path(1)?), (call.int(2), call.path(3)?), call.unsigned(4))
}

fn remove(call: &Call<'_>, directory: i32, path: &[u8], is_rmdir: bool) -> Outcome {
    let entry = call.entry(directory, path, false)?;
    let (file, parent) = match (&entry.file, &entry.parent) {
        (None, _) => return Err(Errno::NOENT),
        (Some(_), None) if is_rmdir && path.ends_with(b"..") => return Err(Errno::NOTEMPTY),
        (Some(_), None) if is_rmdir && path.ends_with(b".") => return Err(Errno::INVAL),
        (Some(_), None) => return Err(if is_rmdir { Errno::BUSY } else { Errno::ISDIR }),
        (Some(file), Some(parent)) => (file, parent),
    };
    check_leaving(call, &entry, file, parent)?;
    if entry.directory && !is_directory(&file.stat) {
        return Err(Errno::NOTDIR);
    }
    let flags = if is_rmdir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    rustix::fs::unlinkat(&parent.directory, &parent.name, flags)?;
    Ok(Answer::DONE)
}

/// Checks that a file may be taken away from where it is.
fn check_leaving(call: &Call<'_>, entry: &Entry, file: &Found, parent: &Parent) -> Result<(), Errno> {
    let credentials = call.credentials()?;
    call.check_parent(&credentials, parent)?;
    if let Some(place) = &entry.place {
        call.paths.view.check_movable(place)?;
    }
    if credentials.file_user() == 0 {
        return Ok(());
    }
    access::check_sticky(&credentials, call.parent_owner(parent), call.owner(file))
}

fn give_name(call: &Call<'_>, from: (i32, Vec<u8>), to: (i32, Vec<u8>), flags: u32) -> Outcome {
    let flags = RenameFlags::from_bits_retain(flags);
    // A whiteout is a device, which commands cannot make.
    if flags.contains(RenameFlags::WHITEOUT) {
        return Err(Errno::PERM);
    }
    let old = call.entry(from.0, &from.1, false)?;
    let new = call.entry(to.0, &to.1, false)?;
    let (Some(old_parent), Some(new_parent)) = (&old.parent, &new.parent) else { return Err(Errno::BUSY) };
    let Some(file) = &old.file else { return Err(Errno::NOENT) };
    if (old.directory || new.directory) && !is_directory(&file.stat) {
        return Err(Errno::NOTDIR);
    }
    check_leaving(call, &old, file, old_parent)?;
    match &new.file {
        Some(replaced) => check_leaving(call, &new, replaced, new_parent)?,
        None => call.check_parent(&*call.credentials()?, new_parent)?,
    }
    if !call.paths.view.is_same_mount(&old_parent.place, &new_parent.place) {
        return Err(Errno::XDEV);
    }
    rustix::fs::renameat_with(
        &old_parent.directory,
        &old_parent.name,
        &new_parent.directory,
        &new_parent.name,
        flags,
    )?;
    Ok(Answer::DONE)
}
