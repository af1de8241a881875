//! What the paths of a command mean.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::task::Task;

/// A file that a path of a task names.
#[derive(Debug)]
pub(super) struct Located {
    /// The file, open as a path.
    pub(super) file: OwnedFd,
    /// A path by which the task's own calls reach it.
    pub(super) path: Vec<u8>,
    /// Its path in the root of the command, absolute and without links; where it has none any more, the path
    /// that it was found by.
    pub(super) inside: Vec<u8>,
}

/// Resolves paths as a task means them.
pub(super) trait View: Send + Sync {
    /// Finds what `path` names, relative to `directory` (`AT_FDCWD` or a descriptor of the task). The last
    /// link is followed when `follow` says so, and all are resolved inside the root. An empty path means what the
    /// descriptor is open on.
    fn locate(&self, task: &Task<'_>, directory: i32, path: &[u8], follow: bool) -> Result<Located, Errno>;
}

/// The view of a task whose root is the command's: paths mean what the kernel says.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnRoot;

impl View for OwnRoot {
    fn locate(&self, task: &Task<'_>, directory: i32, path: &[u8], follow: bool) -> Result<Located, Errno> {
        if path.is_empty() {
            let file = task.descriptor(directory)?;
            let inside = place(task, &file)?;
            return Ok(Located { file, path: inside.clone(), inside });
        }
        let absolute = path.starts_with(b"/");
        let base = if absolute { task.root()? } else { task.directory(directory)? };
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if !follow {
            flags |= OFlags::NOFOLLOW;
        }
        // A link that a relative path meets may be absolute, and is then resolved from the supervisor's
        // root, which is the task's. The links of /proc that lead to files would be those of the supervisor,
        // with whatever it has open.
        let resolve = if absolute { ResolveFlags::IN_ROOT } else { ResolveFlags::empty() };
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(base, path, flags, Mode::empty(), resolve)?;
        let inside = place(task, &file)?;
        Ok(Located { file, path: path.to_vec(), inside })
    }
}

/// The path of an open file, as the supervisor's root has it.
fn place(task: &Task<'_>, file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let link = format!("self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::readlinkat(task.proc(), link, Vec::new())?.into_bytes())
}
