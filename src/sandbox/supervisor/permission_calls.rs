//! What a simulated user may not do, where the root is the task's own.
//!
//! To the kernel such a user is root, so that it refuses nothing. A call that the user's rights do not
//! permit fails here; another one goes on to the kernel. What counts are the owners and modes that files
//! show. This makes commands behave as with real users. It keeps nobody from anything: a process that
//! changes a path while its call is looked at is root as before, in a root that is its own.
//!
//! Not looked at: what is below /proc, where the kernel decides, terminals, and sockets that commands make,
//! whose owner is not kept. What the kernel says of a process in /proc, as its groups and capabilities, is
//! not changed.
//!
//! Sources: path_resolution(7), open(2), unlink(2), rename(2), utimensat(2), access(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::access::{self, EXECUTE, READ, WRITE};
use super::creation_calls::{split, without_slashes};
use super::credential_sets::CredentialSets;
use super::credentials::Credentials;
use super::owners::{Owner, Owners};
use super::task::Task;
use super::view::{Located, OwnRoot, View};

/// Number of a call that came later than the C library's list.
const FCHMODAT2: libc::c_long = 452;

/// The calls that [`check`] looks at beside those that others answer.
pub(super) const CALLS: [libc::c_long; 29] = [
    libc::SYS_connect,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_truncate,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
];

/// Where the kernel itself decides, or where the owner is not kept.
const NOT_LOOKED_AT: [&[u8]; 3] = [b"/proc/", b"/dev/pts/", b"/memfd:"];
/// A time of a file that is set to now, or left.
const NANOSECONDS: usize = 8;

/// A file as a call names it.
#[derive(Debug)]
struct Named {
    directory: i32,
    /// Empty: what the descriptor is open on.
    path: Vec<u8>,
    follow: bool,
}

/// What a call needs.
#[derive(Debug)]
enum Need {
    /// These rights to a file.
    Rights(Named, u32),
    /// These rights, by the real ids of the process.
    RealRights(Named, u32),
    /// To own a file.
    Owning(Named),
    /// To own a file, or to be able to write to it.
    OwningOrWriting(Named),
    /// To open a file by these flags.
    Opening(Named, OFlags),
    /// To write to a socket, where its owner is known.
    Connecting(Named),
    /// To make a name that there is not.
    Making(Named),
    /// To remove a name.
    Removing(Named),
    /// To take a file from one name to the other.
    Moving(Named, Named),
}

/// Checks that the rights of the task's user permit a call.
///
/// # Errors
///
/// `EACCES` or `EPERM`, as the kernel has it. What fails for another reason is left to the kernel.
pub(super) fn check(
    owners: &Owners,
    sets: &CredentialSets,
    task: &Task<'_>,
    call: libc::c_long,
    arguments: &[u64; 6],
) -> Result<(), Errno> {
    let credentials = sets.of(task.thread())?;
    if credentials.file_user() == 0 && credentials.users.real == 0 {
        return Ok(());
    }
    // The kernel says what is wrong with the arguments.
    let Ok(Some(need)) = need(task, call, arguments) else { return Ok(()) };
    let user = User { owners, task, credentials };
    match user.check(&need) {
        Err(refused @ (Errno::ACCESS | Errno::PERM)) => Err(refused),
        _ => Ok(()),
    }
}

/// Reads what a call needs; `None` for one that is not looked at.
fn need(task: &Task<'_>, call: libc::c_long, arguments: &[u64; 6]) -> Result<Option<Need>, Errno> {
    const AT: u64 = libc::AT_FDCWD as u64;
    const NO_FOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;
    let [first, second, third, fourth, fifth, _] = *arguments;
    let at = |directory: u64, path: u64, flags: u64| {
        let path = if path == 0 { Vec::new() } else { task.path(path)? };
        Ok(Named { directory: directory as i32, path, follow: flags & NO_FOLLOW == 0 })
    };
    let open = |named: Result<Named, Errno>, flags: u64| {
        let flags = OFlags::from_bits_retain(flags as u32);
        let exclusive = flags.contains(OFlags::CREATE | OFlags::EXCL);
        let named = named?;
        let follow = !flags.contains(OFlags::NOFOLLOW) && !exclusive;
        Ok::<_, Errno>(Need::Opening(Named { follow, ..named }, flags))
    };
    // Without times these are those of now, for which writing is enough.
    let times = |named: Result<Named, Errno>, at: u64| {
        let now = at == 0 || sets_now(task, call, at);
        Ok::<_, Errno>(if now { Need::OwningOrWriting(named?) } else { Need::Owning(named?) })
    };
    let link = libc::AT_SYMLINK_NOFOLLOW as u64;
    Ok(Some(match call {
        libc::SYS_open => open(at(AT, first, 0), second)?,
        libc::SYS_openat => open(at(first, second, 0), third)?,
        libc::SYS_openat2 => {
            let mut flags = [0; size_of::<u64>()];
            task.read(third, &mut flags)?;
            open(at(first, second, 0), u64::from_ne_bytes(flags))?
        }
        libc::SYS_creat => open(at(AT, first, 0), (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64)?,
        libc::SYS_execve => Need::Rights(at(AT, first, 0)?, EXECUTE),
        libc::SYS_execveat => Need::Rights(at(first, second, fifth)?, EXECUTE),
        libc::SYS_access => Need::RealRights(at(AT, first, 0)?, second as u32),
        libc::SYS_faccessat => Need::RealRights(at(first, second, 0)?, third as u32),
        libc::SYS_faccessat2 if fourth & libc::AT_EACCESS as u64 != 0 => {
            Need::Rights(at(first, second, fourth)?, third as u32)
        }
        libc::SYS_faccessat2 => Need::RealRights(at(first, second, fourth)?, third as u32),
        libc::SYS_connect => match socket_path(task, second, third)? {
            Some(path) => Need::Connecting(Named { directory: libc::AT_FDCWD, path, follow: true }),
            None => return Ok(None),
        },
        libc::SYS_stat => Need::Rights(at(AT, first, 0)?, 0),
        libc::SYS_lstat => Need::Rights(at(AT, first, link)?, 0),
        libc::SYS_newfstatat => Need::Rights(at(first, second, fourth)?, 0),
        libc::SYS_statx => Need::Rights(at(first, second, third)?, 0),
        libc::SYS_chdir => Need::Rights(at(AT, first, 0)?, EXECUTE),
        libc::SYS_fchdir => Need::Rights(at(first, 0, 0)?, EXECUTE),
        libc::SYS_truncate => Need::Rights(at(AT, first, 0)?, WRITE),
        libc::SYS_setxattr | libc::SYS_removexattr => Need::Rights(at(AT, first, 0)?, WRITE),
        libc::SYS_lsetxattr | libc::SYS_lremovexattr => Need::Rights(at(AT, first, link)?, WRITE),
        libc::SYS_mkdir | libc::SYS_mknod => Need::Making(at(AT, first, link)?),
        libc::SYS_mkdirat | libc::SYS_mknodat => Need::Making(at(first, second, link)?),
        libc::SYS_symlink => Need::Making(at(AT, second, link)?),
        libc::SYS_symlinkat => Need::Making(at(second, third, link)?),
        libc::SYS_link => Need::Making(at(AT, second, link)?),
        libc::SYS_linkat => Need::Making(at(third, fourth, link)?),
        libc::SYS_unlink | libc::SYS_rmdir => Need::Removing(at(AT, first, link)?),
        libc::SYS_unlinkat => Need::Removing(at(first, second, link)?),
        libc::SYS_rename => Need::Moving(at(AT, first, link)?, at(AT, second, link)?),
        libc::SYS_renameat | libc::SYS_renameat2 => {
            Need::Moving(at(first, second, link)?, at(third, fourth, link)?)
        }
        libc::SYS_chmod => Need::Owning(at(AT, first, 0)?),
        libc::SYS_fchmod => Need::Owning(at(first, 0, 0)?),
        libc::SYS_fchmodat => Need::Owning(at(first, second, 0)?),
        FCHMODAT2 => Need::Owning(at(first, second, fourth)?),
        libc::SYS_utime | libc::SYS_utimes => times(at(AT, first, 0), second)?,
        libc::SYS_futimesat => times(at(first, second, 0), third)?,
        libc::SYS_utimensat => times(at(first, second, fourth), third)?,
        _ => return Ok(None),
    }))
}

/// The path of a socket's address, if that is what it has.
fn socket_path(task: &Task<'_>, address: u64, length: u64) -> Result<Option<Vec<u8>>, Errno> {
    let mut bytes = [0; size_of::<libc::sockaddr_un>()];
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
    task.read(address, &mut bytes[..length])?;
    let Some((family, path)) = bytes[..length].split_first_chunk() else { return Ok(None) };
    if i32::from(u16::from_ne_bytes(*family)) != libc::AF_UNIX {
        return Ok(None);
    }
    let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
    // Without one the socket is no file.
    Ok((!path.is_empty()).then(|| path.to_vec()))
}

/// Whether the times of utimensat(2) are both "now".
fn sets_now(task: &Task<'_>, call: libc::c_long, at: u64) -> bool {
    let mut times = [0; 4 * NANOSECONDS];
    if call != libc::SYS_utimensat || task.read(at, &mut times).is_err() {
        return false;
    }
    let (fields, _) = times.as_chunks::<NANOSECONDS>();
    [fields[1], fields[3]].iter().all(|field| i64::from_ne_bytes(*field) == libc::UTIME_NOW)
}

/// Who calls.
struct User<'a> {
    owners: &'a Owners,
    task: &'a Task<'a>,
    credentials: Arc<Credentials>,
}

impl User<'_> {
    fn check(&self, need: &Need) -> Result<(), Errno> {
        // What only concerns the real user's rights.
        if let Need::RealRights(named, wanted) = need {
            let mut real = Credentials::clone(&self.credentials);
            (real.users.file, real.main_groups.file) = (real.users.real, real.main_groups.real);
            let user = User { credentials: Arc::new(real), ..*self };
            return user.check_rights(named, *wanted);
        }
        if self.credentials.file_user() == 0 {
            return Ok(());
        }
        match need {
            Need::Rights(named, wanted) | Need::RealRights(named, wanted) => {
                self.check_rights(named, *wanted)
            }
            Need::Owning(named) => match self.find(named)? {
                Some(found) => access::check_owner(&self.credentials, self.owner(found.file.as_fd())?),
                None => Ok(()),
            },
            Need::OwningOrWriting(named) => match self.find(named)? {
                Some(found) => {
                    let owner = self.owner(found.file.as_fd())?;
                    access::check_owner(&self.credentials, owner)
                        .or_else(|_| access::check(&self.credentials, owner, false, WRITE))
                }
                None => Ok(()),
            },
            Need::Connecting(named) => match self.find(named)? {
                Some(found) => {
                    let stat = rustix::fs::fstat(&found.file)?;
                    match self.owners.recorded(found.file.as_fd(), &stat) {
                        Some(_) => self.check_file(found.file.as_fd(), WRITE),
                        None => Ok(()),
                    }
                }
                None => Ok(()),
            },
            Need::Opening(named, flags) => self.check_opening(named, *flags),
            Need::Making(named) => self.check_making(named),
            Need::Removing(named) => self.check_removing(named).map(drop),
            Need::Moving(from, to) => {
                self.check_removing(from)?;
                // What stands there is replaced.
                if self.check_removing(to)? { Ok(()) } else { self.check_making(to) }
            }
        }
    }

    fn check_rights(&self, named: &Named, wanted: u32) -> Result<(), Errno> {
        let Some(found) = self.find(named)? else { return Ok(()) };
        self.check_file(found.file.as_fd(), wanted)
    }

    fn check_file(&self, file: BorrowedFd<'_>, wanted: u32) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(file)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        access::check(&self.credentials, self.owners.of(file, &stat), is_directory, wanted)
    }

    fn check_opening(&self, named: &Named, flags: OFlags) -> Result<(), Errno> {
        if flags.contains(OFlags::PATH) {
            return self.check_rights(named, 0);
        }
        if flags.contains(OFlags::TMPFILE) {
            return self.check_rights(named, WRITE | EXECUTE);
        }
        let mut wanted = match flags & OFlags::RWMODE {
            OFlags::WRONLY => WRITE,
            OFlags::RDWR => READ | WRITE,
            _ => READ,
        };
        if flags.contains(OFlags::TRUNC) {
            wanted |= WRITE;
        }
        match self.find(named) {
            Err(Errno::NOENT) if flags.contains(OFlags::CREATE) => self.check_making(named),
            Err(error) => Err(error),
            Ok(None) => Ok(()),
            Ok(Some(found)) => self.check_file(found.file.as_fd(), wanted),
        }
    }

    /// Checks that a name can be made. Where there is one already, the kernel says so.
    fn check_making(&self, named: &Named) -> Result<(), Errno> {
        let Some((parent, name)) = self.parent(named)? else { return Ok(()) };
        if open_name(&parent, &name).is_ok() {
            return Ok(());
        }
        self.check_file(parent.as_fd(), WRITE | EXECUTE)
    }

    /// Checks that a name can be removed; false where there is none.
    fn check_removing(&self, named: &Named) -> Result<bool, Errno> {
        let Some((parent, name)) = self.parent(named)? else { return Ok(false) };
        let Ok(file) = open_name(&parent, &name) else { return Ok(false) };
        self.check_file(parent.as_fd(), WRITE | EXECUTE)?;
        let stat = rustix::fs::fstat(&file)?;
        // Nobody has recorded whose a socket is.
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            let owner = self.owners.of(file.as_fd(), &stat);
            access::check_sticky(&self.credentials, self.owner(parent.as_fd())?, owner)?;
        }
        Ok(true)
    }

    fn owner(&self, file: BorrowedFd<'_>) -> Result<Owner, Errno> {
        Ok(self.owners.of(file, &rustix::fs::fstat(file)?))
    }

    /// The directory that a name is in, which the user may search, and the name.
    fn parent(&self, named: &Named) -> Result<Option<(OwnedFd, Vec<u8>)>, Errno> {
        let (parent, name) = split(without_slashes(&named.path));
        if name.is_empty() || name == b"." || name == b".." {
            return Ok(None);
        }
        let parent = Named { directory: named.directory, path: parent.to_vec(), follow: true };
        Ok(self.find(&parent)?.map(|found| (found.file, name.to_vec())))
    }

    /// Finds a file, on a way that the user may search; `None` for one that is not looked at.
    fn find(&self, named: &Named) -> Result<Option<Located>, Errno> {
        let Named { directory, path, follow } = named;
        if path.is_empty() {
            let file = self.task.directory(*directory)?;
            let inside = rustix::fs::readlink(
                format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)),
                Vec::new(),
            )?;
            let found = Located { file, path: Vec::new(), inside: inside.into_bytes() };
            return Ok(is_looked_at(&found.inside).then_some(found));
        }
        let found = OwnRoot.locate(self.task, *directory, path, *follow)?;
        if !is_looked_at(&found.inside) {
            return Ok(None);
        }
        // A relative path needs no right to what is above its start.
        let start = if path.starts_with(b"/") {
            None
        } else {
            let start = OwnRoot.locate(self.task, *directory, b".", true).ok();
            start.map(|start| start.inside).filter(|start| is_below(&found.inside, start))
        };
        for above in Path::new(std::ffi::OsStr::from_bytes(&found.inside)).ancestors().skip(1) {
            let directory = open_directory(above)?;
            self.check_file(directory.as_fd(), EXECUTE)?;
            if start.as_ref().is_some_and(|start| start == above.as_os_str().as_bytes()) {
                break;
            }
        }
        Ok(Some(found))
    }
}

/// Whether a path, as the supervisor's root has it, is one whose owner counts.
fn is_looked_at(inside: &[u8]) -> bool {
    inside.starts_with(b"/")
        && inside != b"/proc"
        && !NOT_LOOKED_AT.iter().any(|other| inside.starts_with(other))
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    let rest = path.strip_prefix(directory);
    rest.is_some_and(|rest| directory == b"/" || rest.starts_with(b"/"))
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

fn open_name(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_the_kernel_decides_on_are_left_to_it() {
        for (path, expected) in [
            ("/etc/passwd", true),
            ("/", true),
            ("/process", true),
            ("/proc", false),
            ("/proc/self/environ", false),
            ("/dev/pts/0", false),
            ("/dev/null", true),
            ("/memfd:x (deleted)", false),
            ("pipe:[7]", false),
        ] {
            assert_eq!(is_looked_at(path.as_bytes()), expected, "{path}");
        }
        for (path, directory, expected) in
            [("/a/b", "/a", true), ("/ab", "/a", false), ("/a", "/a", false), ("/a", "/", true)]
        {
            assert_eq!(is_below(path.as_bytes(), directory.as_bytes()), expected, "{path} {directory}");
        }
    }
}
