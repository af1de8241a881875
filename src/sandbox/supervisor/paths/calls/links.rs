//! Links: making them, reading them.

use nix::libc;
use rustix::fs::{AtFlags, CWD, FileType};
use rustix::io::Errno;

use super::super::super::notification::Answer;
use super::create::{new_name, record};
use super::{Call, Outcome, done, only};

/// Permissions of every symbolic link.
const ALL: u32 = 0o777;

/// symlink(2)
pub(in super::super) fn symlink(call: &Call<'_>) -> Outcome {
    make_symlink(call, &call.path(0)?, libc::AT_FDCWD, &call.path(1)?)
}

/// symlinkat(2)
pub(in super::super) fn symlinkat(call: &Call<'_>) -> Outcome {
    make_symlink(call, &call.path(0)?, call.int(1), &call.path(2)?)
}

/// link(2)
pub(in super::super) fn link(call: &Call<'_>) -> Outcome {
    make_link(call, (libc::AT_FDCWD, call.path(0)?), (libc::AT_FDCWD, call.path(1)?), 0)
}

/// linkat(2)
pub(in super::super) fn linkat(call: &Call<'_>) -> Outcome {
    make_link(call, (call.int(0), call.path(1)?), (call.int(2), call.path(3)?), call.int(4))
}

/// readlink(2)
pub(in super::super) fn readlink(call: &Call<'_>) -> Outcome {
    read_link(call, libc::AT_FDCWD, &call.path(0)?, call.arguments[1], call.int(2))
}

/// readlinkat(2)
pub(in super::super) fn readlinkat(call: &Call<'_>) -> Outcome {
    read_link(call, call.int(0), &call.path(1)?, call.arguments[2], call.int(3))
}

fn make_symlink(call: &Call<'_>, text: &[u8], directory: i32, path: &[u8]) -> Outcome {
    if text.is_empty() {
        return Err(Errno::NOENT);
    }
    let parent = new_name(call, directory, path, false)?;
    rustix::fs::symlinkat(text, &parent.directory, &parent.name)?;
    record(call, &parent, ALL).map(done)
}

fn make_link(call: &Call<'_>, from: (i32, Vec<u8>), to: (i32, Vec<u8>), flags: i32) -> Outcome {
    only(flags, libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH)?;
    let follow = if flags & libc::AT_SYMLINK_FOLLOW == 0 { libc::AT_SYMLINK_NOFOLLOW } else { 0 };
    let file = call.target(from.0, &from.1, flags & libc::AT_EMPTY_PATH | follow)?;
    let parent = new_name(call, to.0, &to.1, false)?;
    if let Some(place) = &file.place {
        call.paths.view.check_writable(place)?;
        if !call.paths.view.is_same_mount(place, &parent.place) {
            return Err(Errno::XDEV);
        }
    }
    let own = call.paths.view.own_path(&file.file);
    // The link of /proc is followed to the file itself, which is not followed further.
    rustix::fs::linkat(CWD, own, &parent.directory, &parent.name, AtFlags::SYMLINK_FOLLOW)?;
    Ok(Answer::DONE)
}

fn read_link(call: &Call<'_>, directory: i32, path: &[u8], buffer: u64, size: i32) -> Outcome {
    let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or(Errno::INVAL)?;
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    let found = call.target(directory, path, flags)?;
    if FileType::from_raw_mode(found.stat.st_mode) != FileType::Symlink {
        return Err(if path.is_empty() { Errno::NOENT } else { Errno::INVAL });
    }
    let mut text = match &found.place {
        Some(place) => call.paths.view.link_text(call.task, place, &found.file)?,
        None => rustix::fs::readlinkat(&found.file, "", Vec::new())?.into_bytes(),
    };
    text.truncate(size);
    call.task.write(buffer, &text)?;
    Ok(Answer::Value(text.len() as i64))
}
