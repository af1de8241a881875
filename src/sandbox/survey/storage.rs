//! What a file system can do that the store and the roots of commands lie on.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use rustix::io::Errno;

use super::super::probe::{ProbeOutcome, execute_probe};

/// The attribute that is tried; those that builds use are of the same kind.
const ATTRIBUTE: &str = "user.fanfold.probe";

/// Whether a file in `directory` can share its blocks with a copy.
///
/// # Errors
///
/// `EOPNOTSUPP` for file systems that cannot, such as ext4 and tmpfs.
pub fn reflinks(directory: &Path) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(directory)?;
    file.write_all(&[1; 4096])?;
    let copy = tempfile::tempfile_in(directory)?;
    Ok(rustix::fs::ioctl_ficlone(&copy, &file)?)
}

/// Whether files and directories in `directory` keep attributes of users, in which overlays and owners of
/// files are recorded.
///
/// # Errors
///
/// `EOPNOTSUPP` for file systems that do not keep them.
pub fn user_attributes(directory: &Path) -> io::Result<()> {
    let place = tempfile::TempDir::new_in(directory)?;
    let file = place.path().join("file");
    fs::write(&file, "x")?;
    for path in [&file, place.path()] {
        rustix::fs::lsetxattr(path, ATTRIBUTE, b"0:0", XattrFlags::CREATE)?;
        let mut value = [0; 8];
        let length = rustix::fs::lgetxattr(path, ATTRIBUTE, &mut value)?;
        if value.get(..length) != Some(b"0:0") {
            return Err(io::Error::other("an attribute was read back as something else"));
        }
    }
    Ok(())
}

/// Whether the entries can be made in `directory` that hide files of lower layers.
///
/// # Errors
///
/// `EPERM` before Linux 5.8, and where a filter of system calls refuses them.
pub fn whiteouts(directory: &Path) -> io::Result<()> {
    let place = tempfile::TempDir::new_in(directory)?;
    let path = place.path().join("hidden");
    Ok(rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)?)
}

/// Whether `program`, one of this machine's own, runs from `directory`.
///
/// # Errors
///
/// `EACCES` where the file system is mounted without permission to execute.
pub fn executables(directory: &Path, program: &[u8], wanted: i32) -> io::Result<()> {
    match execute_probe(directory, program)? {
        ProbeOutcome::Exited(code) if code == wanted => Ok(()),
        ProbeOutcome::Errno(errno) => Err(Errno::from_raw_os_error(errno).into()),
        ProbeOutcome::Exited(code) => Err(io::Error::other(format!("it exited with {code}, not {wanted}"))),
        ProbeOutcome::Signaled(signal) => Err(io::Error::other(format!("it was ended by signal {signal}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_an_attempt() {
        let place = tempfile::tempdir().unwrap();
        // What they say is the file system's business.
        drop(reflinks(place.path()));
        drop(user_attributes(place.path()));
        drop(whiteouts(place.path()));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_does_not_exist_is_an_error() {
        let none = Path::new("/nonexistent/place");
        for outcome in [reflinks(none), user_attributes(none), whiteouts(none)] {
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }
}
