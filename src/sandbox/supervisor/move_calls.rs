//! Calls that give a file another name, where the root is the task's own.
//!
//! The owner of a symbolic link or a pipe of a layer is known by its name. Before it gets another one it
//! goes into the journal.
//!
//! Sources: rename(2), link(2).

use std::os::fd::AsFd;

use nix::libc;
use rustix::io::Errno;

use super::owners::Owners;
use super::task::Task;
use super::view::{OwnRoot, View};

/// The calls that [`note`] looks at.
pub(super) const CALLS: [libc::c_long; 5] =
    [libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_link, libc::SYS_linkat];

/// Notes what one of [`CALLS`] is about to move. The call is the kernel's to carry out.
///
/// # Errors
///
/// Fails where the file system does not keep what is to be noted.
pub(super) fn note(
    owners: &Owners,
    task: &Task<'_>,
    call: libc::c_long,
    arguments: &[u64; 6],
) -> Result<(), Errno> {
    let [first, second, third, fourth, fifth, _] = *arguments;
    let here = libc::AT_FDCWD;
    let moved = match call {
        libc::SYS_rename | libc::SYS_link => vec![(here, first, false)],
        libc::SYS_renameat => vec![(first as i32, second, false)],
        // Both may change places.
        libc::SYS_renameat2 => vec![(first as i32, second, false), (third as i32, fourth, false)],
        libc::SYS_linkat => vec![(first as i32, second, fifth & libc::AT_SYMLINK_FOLLOW as u64 != 0)],
        _ => return Ok(()),
    };
    for (directory, path, follow) in moved {
        // The kernel says what is wrong with a path.
        let Ok(path) = task.path(path) else { continue };
        let Ok(found) = OwnRoot.locate(task, directory, &path, follow) else { continue };
        owners.before_move(found.file.as_fd())?;
    }
    Ok(())
}
