//! Opening files, and making them on the way.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::image::workable_mode;

use super::super::super::notification::{Answer, Waiting};
use super::super::super::task::Task;
use super::super::access::{READ, WRITE};
use super::super::view::is_directory;
use super::super::walk::{Found, Parent};
use super::{Call, Outcome};

/// How often a file may come and go between looking for it and making it.
const ATTEMPTS: u32 = 16;

/// Device number of /dev/tty, the caller's own terminal: the supervisor would open its own.
const CONTROLLING_TERMINAL: u64 = libc::makedev(5, 0);

/// How often a caller that waits for another process is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// Flags that the kernel does not know are ignored by these calls.
const KNOWN: i32 = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_NOCTTY
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_DSYNC
    | libc::O_SYNC
    | libc::O_ASYNC
    | libc::O_DIRECT
    | libc::O_LARGEFILE
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_CLOEXEC
    | libc::O_PATH
    | libc::O_TMPFILE;

/// open(2)
pub(in super::super) fn open(call: &Call<'_>) -> Outcome {
    open_at(call, libc::AT_FDCWD, call.path(0)?, call.int(1), call.unsigned(2))
}

/// creat(2)
pub(in super::super) fn creat(call: &Call<'_>) -> Outcome {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    open_at(call, libc::AT_FDCWD, call.path(0)?, flags, call.unsigned(1))
}

/// openat(2)
pub(in super::super) fn openat(call: &Call<'_>) -> Outcome {
    open_at(call, call.int(0), call.path(1)?, call.int(2), call.unsigned(3))
}

fn open_at(call: &Call<'_>, directory: i32, path: Vec<u8>, flags: i32, mode: u32) -> Outcome {
    let mut flags = flags & KNOWN;
    if flags & libc::O_PATH != 0 {
        flags &= libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    }
    let follow = flags & libc::O_NOFOLLOW == 0;
    if flags & libc::O_TMPFILE == libc::O_TMPFILE {
        return temporary(call, &call.find(directory, &path, true)?, flags, mode);
    }
    if flags & libc::O_CREAT == 0 {
        return existing(call, call.find(directory, &path, follow)?, flags);
    }
    if flags & libc::O_DIRECTORY != 0 {
        return Err(Errno::INVAL);
    }
    let exclusive = flags & libc::O_EXCL != 0;
    for _ in 0..ATTEMPTS {
        let entry = call.entry(directory, &path, follow && !exclusive)?;
        match (entry.file, entry.parent) {
            (Some(_), _) if exclusive => return Err(Errno::EXIST),
            (Some(found), _) if entry.directory || is_directory(&found.stat) => return Err(Errno::ISDIR),
            (Some(found), _) => return existing(call, found, flags),
            (None, _) if entry.directory => return Err(Errno::ISDIR),
            (None, None) => return Err(Errno::NOENT),
            (None, Some(parent)) => match create(call, &parent, flags, mode) {
                Err(Errno::EXIST) if !exclusive => {}
                other => return other,
            },
        }
    }
    Err(Errno::AGAIN)
}

fn descriptor(file: OwnedFd, flags: i32) -> Answer {
    Answer::Descriptor { file, close_on_exec: flags & libc::O_CLOEXEC != 0 }
}

fn oflags(flags: i32) -> OFlags {
    OFlags::from_bits_retain(flags as u32)
}

/// Makes a new file with a name.
fn create(call: &Call<'_>, parent: &Parent, flags: i32, mode: u32) -> Outcome {
    let credentials = call.credentials()?;
    call.check_parent(&credentials, parent)?;
    let mode = call.new_mode(mode)?;
    let how = oflags(flags & !libc::O_TRUNC)
        | OFlags::CREATE
        | OFlags::EXCL
        | OFlags::NOFOLLOW
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let on_disk = Mode::from_raw_mode(workable_mode(mode, false));
    let file = rustix::fs::openat(&parent.directory, &parent.name, how, on_disk)?;
    call.paths.owners.born(file.as_fd(), parent.directory.as_fd(), &credentials, mode)?;
    Ok(descriptor(file, flags))
}

/// Makes a new file without a name.
fn temporary(call: &Call<'_>, directory: &Found, flags: i32, mode: u32) -> Outcome {
    if !is_directory(&directory.stat) {
        return Err(Errno::NOTDIR);
    }
    let credentials = call.credentials()?;
    call.check_writable(directory)?;
    call.check(&credentials, directory, WRITE)?;
    let mode = call.new_mode(mode)?;
    let on_disk = Mode::from_raw_mode(workable_mode(mode, false));
    let how = (oflags(flags) - OFlags::NOFOLLOW) | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory.file, ".", how, on_disk)?;
    call.paths.owners.born(file.as_fd(), directory.file.as_fd(), &credentials, mode)?;
    Ok(descriptor(file, flags))
}

/// Opens a file that is there.
fn existing(call: &Call<'_>, found: Found, flags: i32) -> Outcome {
    if flags & libc::O_DIRECTORY != 0 && !is_directory(&found.stat) {
        return Err(Errno::NOTDIR);
    }
    if flags & libc::O_PATH != 0 {
        return Ok(descriptor(found.file, flags));
    }
    let kind = FileType::from_raw_mode(found.stat.st_mode);
    match kind {
        FileType::Symlink => return Err(Errno::LOOP),
        FileType::CharacterDevice if found.stat.st_rdev == CONTROLLING_TERMINAL => return Err(Errno::NXIO),
        _ => {}
    }
    let wanted = match flags & libc::O_ACCMODE {
        libc::O_RDONLY => READ,
        libc::O_WRONLY => WRITE,
        _ => READ | WRITE,
    } | if flags & libc::O_TRUNC != 0 { WRITE } else { 0 };
    if wanted & WRITE != 0 && matches!(kind, FileType::RegularFile | FileType::Directory) {
        call.check_writable(&found)?;
    }
    // What a process has open, and no path leads to, it may open once more.
    if found.place.is_some() {
        call.check(&*call.credentials()?, &found, wanted)?;
    }
    let how = oflags(flags);
    let waits =
        kind == FileType::Fifo && flags & libc::O_NONBLOCK == 0 && flags & libc::O_ACCMODE != libc::O_RDWR;
    if !waits {
        return Ok(descriptor(call.paths.view.reopen(&found.file, how)?, flags));
    }
    // Somebody else has to open the other end first.
    let (view, file, thread) = (call.paths.view.clone(), Arc::new(found.file), call.task.thread());
    let proc = call.task.proc().try_clone().map_err(|_| Errno::NFILE)?;
    Ok(Answer::Later(Waiting::new(move || {
        let (sender, opened) = mpsc::channel();
        let (own_view, own_file) = (view.clone(), Arc::clone(&file));
        // The receiver may have stopped to wait.
        let opening = move || drop(sender.send(own_view.reopen(&own_file, how)));
        if std::thread::Builder::new().spawn(opening).is_err() {
            return Answer::Failed(Errno::AGAIN);
        }
        loop {
            match opened.recv_timeout(PAUSE) {
                Ok(result) => return result.map_or_else(Answer::Failed, |file| descriptor(file, flags)),
                Err(RecvTimeoutError::Timeout) if !Task::stopped(&proc, thread).is_interrupted() => {}
                Err(_) => {
                    // With both ends open the other thread goes on.
                    drop(view.reopen(&file, OFlags::RDWR | OFlags::NONBLOCK));
                    return Answer::Failed(Errno::INTR);
                }
            }
        }
    })))
}
