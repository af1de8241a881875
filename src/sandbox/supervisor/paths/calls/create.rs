//! Making directories, pipes and sockets.

use std::os::fd::AsFd;

use nix::libc;
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use crate::image::workable_mode;

use super::super::binds::open_plain;
use super::super::walk::Parent;
use super::{Call, Outcome, PERMISSIONS, done};

/// mkdir(2)
pub(in super::super) fn mkdir(call: &Call<'_>) -> Outcome {
    make_directory(call, libc::AT_FDCWD, &call.path(0)?, call.unsigned(1))
}

/// mkdirat(2)
pub(in super::super) fn mkdirat(call: &Call<'_>) -> Outcome {
    make_directory(call, call.int(0), &call.path(1)?, call.unsigned(2))
}

/// mknod(2)
pub(in super::super) fn mknod(call: &Call<'_>) -> Outcome {
    make_node(call, libc::AT_FDCWD, &call.path(0)?, call.unsigned(1))
}

/// mknodat(2)
pub(in super::super) fn mknodat(call: &Call<'_>) -> Outcome {
    make_node(call, call.int(0), &call.path(1)?, call.unsigned(2))
}

/// The directory for a new name, and the name. It must not exist yet.
pub(super) fn new_name(call: &Call<'_>, directory: i32, path: &[u8], slash: bool) -> Result<Parent, Errno> {
    let entry = call.entry(directory, path, false)?;
    let Some(parent) = entry.parent.filter(|_| entry.file.is_none()) else { return Err(Errno::EXIST) };
    // Only a directory may be named with a slash at the end.
    if entry.directory && !slash {
        return Err(Errno::NOENT);
    }
    call.check_parent(&*call.credentials()?, &parent)?;
    Ok(parent)
}

/// Records what belongs to a file that has just been made.
pub(super) fn record(call: &Call<'_>, parent: &Parent, mode: u32) -> Result<(), Errno> {
    let made = match open_plain(&parent.directory, &parent.name) {
        // The command has removed it already.
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    call.paths.owners.born(made.as_fd(), parent.directory.as_fd(), &*call.credentials()?, mode)
}

fn make_directory(call: &Call<'_>, directory: i32, path: &[u8], mode: u32) -> Outcome {
    let parent = new_name(call, directory, path, true)?;
    // Set-id bits are inherited, never asked for.
    let mode = call.new_mode(mode & 0o1777)?;
    rustix::fs::mkdirat(&parent.directory, &parent.name, Mode::from_raw_mode(workable_mode(mode, true)))?;
    record(call, &parent, mode).map(done)
}

fn make_node(call: &Call<'_>, directory: i32, path: &[u8], mode: u32) -> Outcome {
    let kind = match mode & libc::S_IFMT {
        0 => FileType::RegularFile,
        _ => FileType::from_raw_mode(mode),
    };
    match kind {
        FileType::RegularFile | FileType::Fifo | FileType::Socket => {}
        FileType::CharacterDevice | FileType::BlockDevice => return Err(Errno::PERM),
        FileType::Directory => return Err(Errno::PERM),
        _ => return Err(Errno::INVAL),
    }
    let parent = new_name(call, directory, path, false)?;
    let mode = call.new_mode(mode & PERMISSIONS)?;
    let on_disk = Mode::from_raw_mode(workable_mode(mode, false));
    rustix::fs::mknodat(&parent.directory, &parent.name, kind, on_disk, 0)?;
    record(call, &parent, mode).map(done)
}
