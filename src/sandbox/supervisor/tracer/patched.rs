//! Native programs of a root that is not the process's.
//!
//! The kernel loads the loader that a program names (`PT_INTERP`) from the root of the process. Where that
//! is another one, it executes a copy of the program that names the loader by its path on the host; nothing
//! else of the program is changed, and the copy is made once for each program.
//!
//! Sources: elf(5).

use std::fs::{self, File, Metadata};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::libc;
use rustix::io::Errno;

use super::super::task::Task;
use super::super::view::{Located, View};
use super::rewrite::Loader;
use crate::image::Sha256;

/// Programs of this machine, as ELF names it.
const NATIVE: u16 = 62;
/// Most entries of a program's table that are looked at.
const TABLE_LIMIT: u16 = 128;
/// Bytes of one.
const ENTRY: u64 = 56;
/// Longer than two ticks of the kernel's clock, in nanoseconds.
const TICKS: i128 = 25_000_000;

/// Makes copies of programs.
pub(in crate::sandbox) struct Patched {
    /// Where the copies are, beyond the reach of the command.
    pub(in crate::sandbox) directory: PathBuf,
    /// What the paths of loaders mean.
    pub(in crate::sandbox) view: Arc<dyn View>,
}

/// Where a program names its loader.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    /// Offset of the entry in the file.
    entry: u64,
    /// The loader's path.
    path: Vec<u8>,
}

impl Loader for Patched {
    fn native(&self, task: &Task<'_>, program: &Located, content: &File) -> Result<Vec<u8>, Errno> {
        let failed = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        // What is in memory alone, as a secret is, is never copied to a disk.
        if program.path.is_empty() {
            return Err(Errno::ACCESS);
        }
        let Some(named) = loader(content).map_err(failed)? else { return Ok(program.path.clone()) };
        // Without a slash it would be looked for where the process stands; nobody writes that.
        let found = self.view.locate(task, libc::AT_FDCWD, &named.path, true)?;
        let path = self.copy(program, content, &named, &found.path).map_err(failed)?;
        Ok(path.as_os_str().as_bytes().to_vec())
    }
}

impl Patched {
    fn copy(&self, program: &Located, content: &File, named: &Named, loader: &[u8]) -> io::Result<PathBuf> {
        let found = content.metadata()?;
        let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
        let mut key = Sha256::new();
        key.update(format!("{} {} {times:?} ", found.dev(), found.ino()).as_bytes());
        // A link may lead to another loader by now.
        key.update(loader);
        let place = self.directory.join(key.finish().hex());
        // The kernel calls the process by the last name of the path.
        let name = Path::new(std::ffi::OsStr::from_bytes(&program.inside)).file_name().unwrap_or_default();
        let path = place.join(name);
        if fs::metadata(&path).is_ok_and(|copy| is_settled(&found, &copy)) {
            return Ok(path);
        }
        match fs::create_dir(&place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mut file = tempfile::Builder::new();
        let mut file = file.prefix(".new").make_in(&place, |path| {
            fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(path)
        })?;
        let mut content = content.try_clone()?;
        content.seek(SeekFrom::Start(0))?;
        let end = io::copy(&mut content, file.as_file_mut())?;
        let now = content.metadata()?;
        if [now.mtime(), now.mtime_nsec(), now.ctime(), now.ctime_nsec()] != times {
            // Somebody writes to it.
            return Err(Errno::TXTBSY.into());
        }
        file.write_all(&[loader, b"\0"].concat())?;
        let length = loader.len() as u64 + 1;
        file.as_file().write_all_at(&end.to_le_bytes(), named.entry + 8)?;
        file.as_file().write_all_at(&length.to_le_bytes(), named.entry + 32)?;
        // Closed before it is executed: nothing can execute what is open for writing.
        file.into_temp_path().persist(&path)?;
        Ok(path)
    }
}

/// Whether a copy shows what the original is now: one made within the same tick of the kernel's clock as
/// the original's last change may be older than that.
fn is_settled(original: &Metadata, copy: &Metadata) -> bool {
    let since = |file: &Metadata| i128::from(file.ctime()) * 1_000_000_000 + i128::from(file.ctime_nsec());
    since(copy) - since(original) > TICKS
}

/// Finds the loader of a native program; `None` for a static one.
///
/// # Errors
///
/// `ENOEXEC` for what is no program of this machine.
fn loader(file: &File) -> io::Result<Option<Named>> {
    let wrong = || io::Error::from_raw_os_error(libc::ENOEXEC);
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 0).map_err(|_| wrong())?;
    let machine = u16::from_le_bytes([head[18], head[19]]);
    if !head.starts_with(b"\x7fELF\x02\x01") || machine != NATIVE {
        return Err(wrong());
    }
    let table = number(&head[32..40]);
    let count = u16::from_le_bytes([head[56], head[57]]);
    if u64::from(u16::from_le_bytes([head[54], head[55]])) != ENTRY || count > TABLE_LIMIT {
        return Err(wrong());
    }
    for at in (0..u64::from(count)).map(|index| table.saturating_add(index * ENTRY)) {
        let mut entry = [0; ENTRY as usize];
        file.read_exact_at(&mut entry, at).map_err(|_| wrong())?;
        if entry[..4] != [libc::PT_INTERP as u8, 0, 0, 0] {
            continue;
        }
        let (offset, length) = (number(&entry[8..16]), number(&entry[32..40]));
        if !(2..=libc::PATH_MAX as u64).contains(&length) {
            return Err(wrong());
        }
        let mut path = vec![0; length as usize];
        file.read_exact_at(&mut path, offset).map_err(|_| wrong())?;
        let end = path.iter().position(|byte| *byte == 0).ok_or_else(wrong)?;
        path.truncate(end);
        return Ok(Some(Named { entry: at, path }));
    }
    Ok(None)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_of_this_program_is_found() {
        let file = File::open("/proc/self/exe").unwrap();
        if let Some(named) = loader(&file).unwrap() {
            assert!(named.path.starts_with(b"/lib"), "{named:?}");
        }
    }

    /// Another loader, and content that may have changed since, make another copy.
    #[test]
    fn copies_are_of_what_a_program_is_now() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("p");
        let view = Arc::new(super::super::super::view::OwnRoot);
        let patched = Patched { directory: base.path().join("copies"), view };
        fs::create_dir(&patched.directory).unwrap();
        let named = Named { entry: 0, path: Vec::new() };
        let write = |text: &str| fs::write(&path, text.repeat(64)).unwrap();
        let copy = |loader: &[u8]| {
            let file = File::open(&path).unwrap();
            let inside = path.as_os_str().as_bytes().to_vec();
            let located = Located { file: file.try_clone().unwrap().into(), path: inside.clone(), inside };
            patched.copy(&located, &file, &named, loader).unwrap()
        };
        write("a");
        let first = copy(b"/one");
        write("b");
        assert_eq!(fs::read(copy(b"/one")).unwrap()[60], b'b');
        assert_ne!(first, copy(b"/two"));
        std::thread::sleep(std::time::Duration::from_nanos(2 * TICKS as u64));
        let settled = copy(b"/one");
        let made = fs::metadata(&settled).unwrap().ino();
        assert_eq!(fs::metadata(copy(b"/one")).unwrap().ino(), made);
    }

    #[test]
    fn other_files_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("file");
        let mut whole = fs::read("/proc/self/exe").unwrap();
        whole.truncate(5000);
        for (at, value) in [(4, 1), (5, 2), (18, 3), (54, 55), (57, 9), (35, 0xff)] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(
                loader(&File::open(&path).unwrap()).unwrap_err().raw_os_error(),
                Some(libc::ENOEXEC),
                "{at}"
            );
        }
        fs::write(&path, "#!/bin/sh").unwrap();
        assert!(loader(&File::open(&path).unwrap()).is_err());
    }
}
