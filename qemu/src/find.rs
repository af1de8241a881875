//! The search for an emulator on disk.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fanfold_platforms::{Machine, Platform, elf};

use crate::cpu::{CannotEmulate, emulated};

/// Where to look for emulators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Absolute directories in order of preference: first those that the user
    /// named, then those of `PATH`.
    pub dirs: Vec<PathBuf>,
}

/// An emulator that was found: static, executable, built for this host.
///
/// `Display` prints its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Interpreter {
    /// The absolute path of the program.
    pub path: PathBuf,
    /// The upstream name, such as `qemu-aarch64`, whatever the file is called.
    pub name: String,
}

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Why a file or directory with the right name was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsuitable {
    /// A relative directory, such as an empty element of `PATH`: what it holds
    /// depends on where the build was started.
    RelativeDirectory,
    /// A directory, socket or the like.
    NotAFile,
    /// Nobody may execute it.
    NotExecutable,
    /// Not an ELF program; the kernel takes no script as an emulator.
    NotElf,
    /// A program of another machine than the host's.
    OtherMachine(Machine),
    /// Needs this dynamic loader, which an image does not hold.
    Dynamic(String),
    /// Could not be read, with the system's message.
    Unreadable(String),
}

impl fmt::Display for Unsuitable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RelativeDirectory => f.write_str("is not an absolute path"),
            Self::NotAFile => f.write_str("is not a regular file"),
            Self::NotExecutable => f.write_str("is not executable"),
            Self::NotElf => f.write_str("is not an ELF program"),
            Self::OtherMachine(machine) => write!(f, "is a program for {machine}, not this host"),
            Self::Dynamic(loader) => {
                write!(f, "is not static (needs {loader})")
            }
            Self::Unreadable(message) => write!(f, "cannot be read: {message}"),
        }
    }
}

/// No emulator for a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotFound {
    /// QEMU cannot run the platform's programs, or not those of this level.
    #[error(transparent)]
    CannotEmulate(#[from] CannotEmulate),
    /// No directory holds one that can be used.
    #[error(transparent)]
    Nowhere(#[from] Box<Nowhere>),
}

/// A search that found no emulator, or none that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no usable {name} for {platform}: {}", tried(.dirs, .unsuitable))]
#[non_exhaustive]
pub struct Nowhere {
    /// The platform that was asked for.
    pub platform: Platform,
    /// The upstream name of its emulator.
    pub name: String,
    /// The directories that were searched.
    pub dirs: Vec<PathBuf>,
    /// What was there and cannot be used.
    pub unsuitable: Vec<(PathBuf, Unsuitable)>,
}

impl NotFound {
    /// What the user can do about it.
    #[must_use]
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::CannotEmulate(_) => {
                "build the platform on a machine of its own, or keep RUN out of its stages \
                 and compile on $BUILDPLATFORM"
            }
            Self::Nowhere(_) => {
                "install qemu-user-static (Debian 12) or qemu-user (Debian 13), \
                 or pass --qemu-dir DIR"
            }
        }
    }
}

/// What was looked at, in one line.
fn tried(dirs: &[PathBuf], unsuitable: &[(PathBuf, Unsuitable)]) -> String {
    let mut parts: Vec<String> =
        unsuitable.iter().map(|(path, reason)| format!("{} {reason}", path.display())).collect();
    let empty: Vec<String> = dirs
        .iter()
        .filter(|dir| !unsuitable.iter().any(|(path, _)| path.starts_with(dir)))
        .map(|dir| dir.display().to_string())
        .collect();
    if !empty.is_empty() {
        parts.push(format!("nothing in {}", empty.join(", ")));
    }
    if parts.is_empty() {
        return "no directory to search".to_owned();
    }
    parts.join("; ")
}

/// Finds the emulator of a platform: in each directory in turn `qemu-A`,
/// `qemu-A-static` and Debian's other names for it.
///
/// A file that cannot serve is passed over and remembered for the error.
///
/// # Errors
///
/// The platform cannot be emulated, or no directory holds a static program of
/// the host's own machine under one of the names.
pub fn find(platform: &Platform, search: &Search) -> Result<Interpreter, NotFound> {
    let (target, _) = emulated(platform)?;
    let name = target.program();
    let mut names = vec![name.clone(), format!("{name}-static")];
    names.extend(target.aliases.iter().map(|alias| format!("qemu-{alias}")));

    let mut dirs: Vec<PathBuf> = Vec::new();
    let mut unsuitable = Vec::new();
    for dir in &search.dirs {
        if dirs.contains(dir) {
            continue;
        }
        dirs.push(dir.clone());
        if !dir.is_absolute() {
            unsuitable.push((dir.clone(), Unsuitable::RelativeDirectory));
            continue;
        }
        for path in names.iter().map(|name| dir.join(name)) {
            match examine(&path) {
                Ok(true) => return Ok(Interpreter { path, name }),
                Ok(false) => {}
                Err(reason) => unsuitable.push((path, reason)),
            }
        }
    }
    let nowhere = Nowhere { platform: platform.clone(), name, dirs, unsuitable };
    Err(Box::new(nowhere).into())
}

/// Whether the file is there; an error if it is and cannot serve.
fn examine(path: &Path) -> Result<bool, Unsuitable> {
    let unreadable = |error: io::Error| Unsuitable::Unreadable(error.to_string());
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            use io::ErrorKind::{NotADirectory, NotFound};
            let absent = matches!(error.kind(), NotFound | NotADirectory);
            return if absent { Ok(false) } else { Err(unreadable(error)) };
        }
    };
    if !metadata.is_file() {
        return Err(Unsuitable::NotAFile);
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(Unsuitable::NotExecutable);
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let mut header = [0; elf::HEADER_LEN];
    let machine = match io::Read::read_exact(&mut file, &mut header) {
        Ok(()) => elf::machine_of(&header).ok_or(Unsuitable::NotElf)?,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(Unsuitable::NotElf);
        }
        Err(error) => return Err(unreadable(error)),
    };
    if Platform::host().elf_machine() != Some(machine) {
        return Err(Unsuitable::OtherMachine(machine));
    }
    match elf::interpreter(&mut file).map_err(unreadable)? {
        Some(loader) => Err(Unsuitable::Dynamic(loader.escape_ascii().to_string())),
        None => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::{Scratch, host_program};

    fn platform(name: &str) -> Platform {
        name.parse().expect(name)
    }

    #[test]
    fn names_are_tried_in_order() {
        let scratch = Scratch::new("order");
        let search = Search { dirs: vec![scratch.path("a"), scratch.path("b"), scratch.path("a")] };
        let found = |name: &str| find(&platform(name), &search).map(|found| found.path);
        let program = host_program(b"");

        scratch.file("b/qemu-arm64", &program, 0o755);
        assert_eq!(found("linux/arm64"), Ok(scratch.path("b/qemu-arm64")));
        scratch.file("b/qemu-aarch64-static", &program, 0o755);
        assert_eq!(found("linux/arm64"), Ok(scratch.path("b/qemu-aarch64-static")));
        scratch.file("b/qemu-aarch64", &program, 0o755);
        assert_eq!(found("linux/arm64/v8"), Ok(scratch.path("b/qemu-aarch64")));
        scratch.file("a/qemu-arm64", &program, 0o755);
        assert_eq!(found("linux/arm64"), Ok(scratch.path("a/qemu-arm64")));
        scratch.file("a/qemu-armel", &program, 0o755);
        for variant in ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"] {
            let found = find(&platform(variant), &search).expect(variant);
            assert_eq!((found.to_string().as_str(), found.path), ("qemu-arm", scratch.path("a/qemu-armel")));
        }
    }

    #[test]
    fn unusable_files_are_passed_over_and_named() {
        let scratch = Scratch::new("unusable");
        let own = host_program(b"");
        let mut foreign = own.clone();
        foreign[18] ^= 0xff;
        let mut dynamic = own.clone();
        let entry = if usize::BITS == 64 { 64 } else { 52 };
        // The one program header becomes a PT_INTERP that names the ELF magic.
        dynamic[entry..entry + 4].copy_from_slice(&3_u32.to_ne_bytes());
        let cases: [(&str, &[u8], u32, &str); 5] = [
            ("qemu-s390x", b"#!/bin/sh\nexec qemu \"$@\"\n", 0o755, "is not an ELF program"),
            ("qemu-s390x", b"", 0o755, "is not an ELF program"),
            ("qemu-s390x", &own, 0o644, "is not executable"),
            ("qemu-s390x", &foreign, 0o755, "is a program for ELF machine"),
            ("qemu-s390x", &dynamic, 0o755, "is not static (needs \\x7fELF"),
        ];
        let first = scratch.path("a");
        let search = Search { dirs: vec![first, scratch.path("none"), "bin".into()] };
        for (file, content, mode, want) in cases {
            scratch.file(&format!("a/{file}"), content, mode);
            let error = find(&platform("linux/s390x"), &search).expect_err(want);
            let text = error.to_string();
            let path = scratch.path("a/qemu-s390x");
            let start = format!("no usable qemu-s390x for linux/s390x: {} {want}", path.display());
            assert!(text.starts_with(&start), "{text}");
            let none = scratch.path("none");
            let end = format!("; bin is not an absolute path; nothing in {}", none.display());
            assert!(text.ends_with(&end), "{text}");
            assert!(error.fix().contains("qemu-user-static"));
        }
        scratch.file("a/qemu-s390x-static", &own, 0o755);
        let found = find(&platform("linux/s390x"), &search).expect("the second name");
        assert_eq!(found.path, scratch.path("a/qemu-s390x-static"));
    }

    #[test]
    fn a_directory_and_an_empty_search() {
        let scratch = Scratch::new("directory");
        scratch.file("qemu-arm/x", b"", 0o644);
        let search = Search { dirs: vec![scratch.path("")] };
        let error = find(&platform("linux/arm"), &search).expect_err("a directory");
        assert!(error.to_string().contains("qemu-arm is not a regular file"), "{error}");
        let error = find(&platform("linux/arm"), &Search::default()).expect_err("nowhere");
        assert!(error.to_string().ends_with("no directory to search"), "{error}");
        let error = find(&platform("linux/amd64/v4"), &search).expect_err("no v4");
        assert_eq!(error.to_string(), "platform linux/amd64/v4 cannot be emulated (qemu provides up to v3)");
        assert!(error.fix().contains("$BUILDPLATFORM"));
    }

    #[test]
    fn installed_emulators_are_judged_by_their_files() {
        let search = Search { dirs: vec!["/usr/bin".into()] };
        for target in crate::target::TARGETS {
            let platform = Platform::new("linux", target.architecture, None, None);
            let wanted = [target.program(), format!("{}-static", target.program())];
            let present: BTreeSet<PathBuf> = wanted
                .iter()
                .map(|name| Path::new("/usr/bin").join(name))
                .filter(|path| path.is_file())
                .collect();
            match find(&platform, &search) {
                Ok(found) => assert!(present.contains(&found.path) || present.is_empty()),
                Err(NotFound::Nowhere(nowhere)) => {
                    let named: BTreeSet<PathBuf> =
                        nowhere.unsuitable.into_iter().map(|(path, _)| path).collect();
                    assert!(named.is_superset(&present), "{present:?} against {named:?}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}
