//! Executing the program of a command, and explaining why that failed.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::libc;

use super::run::EXEC;
use super::spec::RunSpec;
use super::wire::{Failure, Step};

/// Where programs are looked up when the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names of the architectures that images are built for, by ELF machine number.
const MACHINES: [(u16, &str); 9] = [
    (3, "386"),
    (8, "mips64"),
    (21, "ppc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

/// Enough of a program to tell what it is and what interpreter it wants.
const HEAD: u64 = 4096;

/// Executes the program; comes back only with a failure.
pub(super) fn execute(spec: &RunSpec, home: &str) -> Failure {
    match try_execute(spec, home) {
        Ok((errno, message)) => Failure { step: EXEC.to_owned(), message, errno: errno as i32 },
        Err(failure) => failure,
    }
}

fn try_execute(spec: &RunSpec, home: &str) -> Result<(Errno, String), Failure> {
    let mut env = Vec::with_capacity(spec.env.len() + spec.hidden_env.len() + 1);
    let hidden = |name: &[u8]| spec.hidden_env.iter().any(|(other, _)| other == name);
    for (name, value) in spec.env.iter().filter(|(name, _)| !hidden(name)) {
        env.push([&name[..], b"=", value].concat());
    }
    for (name, value) in &spec.hidden_env {
        env.push([&name[..], b"=", value.bytes()].concat());
    }
    if !hidden(b"HOME") && !spec.env.iter().any(|(name, _)| name == b"HOME") {
        env.push([b"HOME=", home.as_bytes()].concat());
    }
    let strings = |values: Vec<Vec<u8>>| values.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let env = strings(env).map_err(io::Error::from).step("environment")?;
    let argv = strings(spec.argv.clone()).map_err(io::Error::from).step("arguments")?;
    let Some(program) = spec.argv.first() else {
        return Ok((Errno::ENOENT, "the command is empty".to_owned()));
    };
    let path = spec.env.iter().rev().find(|(name, _)| name == b"PATH").map(|(_, value)| &value[..]);
    let hidden_path =
        spec.hidden_env.iter().find(|(name, _)| name == b"PATH").map(|(_, value)| value.bytes());
    let path = hidden_path.or(path).unwrap_or(DEFAULT_PATH);
    // Another error than "not found" on the way is the one to tell of, as shells do.
    let mut first = None;
    for candidate in candidates(program, path) {
        let file = CString::new(&candidate[..]).map_err(io::Error::from).step("arguments")?;
        let Err(errno) = nix::unistd::execve(&file, &argv, &env);
        let missing = matches!(errno, Errno::ENOENT | Errno::ENOTDIR) && !exists(&candidate);
        if missing {
            continue;
        }
        first.get_or_insert((errno, candidate));
        if errno != Errno::EACCES {
            break;
        }
    }
    Ok(match first {
        Some((errno, file)) => (errno, explain(&file, errno)),
        None => (Errno::ENOENT, format!("{}: not found", String::from_utf8_lossy(program))),
    })
}

/// The files that a program name may mean: itself with a slash, else one for each directory of
/// `path`.
fn candidates(program: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    path.split(|byte| *byte == b':')
        .map(|directory| if directory.is_empty() { &b"."[..] } else { directory })
        .map(|directory| [directory, b"/", program].concat())
        .collect()
}

fn exists(file: &[u8]) -> bool {
    rustix::fs::stat(file).is_ok()
}

fn explain(file: &[u8], errno: Errno) -> String {
    let name = String::from_utf8_lossy(file);
    let head = head(file);
    match (errno, describe(&head)) {
        (Errno::ENOEXEC, Content::Elf { machine, .. }) => {
            format!("exec format error: {name} is an ELF file for {machine}")
        }
        (Errno::ENOEXEC, Content::Empty) => format!("exec format error: {name} is empty"),
        (Errno::ENOEXEC, _) => {
            format!("exec format error: {name} is neither an ELF file nor a script with `#!`")
        }
        (
            Errno::ENOENT,
            Content::Elf { interpreter: Some(interpreter), .. } | Content::Script(interpreter),
        ) => {
            let interpreter = String::from_utf8_lossy(&interpreter);
            format!("{name} needs the interpreter {interpreter} that the image does not have")
        }
        (Errno::ENOENT, Content::Elf { machine, .. }) => format!(
            "{name} is an ELF file for {machine}, and the emulator for it is not visible in the \
             image"
        ),
        (Errno::EACCES, _) => format!("{name}: permission denied"),
        (errno, _) => format!("{name}: {}", io::Error::from(errno)),
    }
}

fn head(file: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(std::ffi::OsStr::from_bytes(file));
    if let Ok(file) = file
        && file.metadata().is_ok_and(|meta| meta.is_file())
        && file.take(HEAD).read_to_end(&mut head).is_err()
    {
        head.clear();
    }
    head
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Empty,
    Script(Vec<u8>),
    Elf { machine: String, interpreter: Option<Vec<u8>> },
    Other,
}

/// Tells what a program is from its first bytes.
fn describe(head: &[u8]) -> Content {
    if head.is_empty() {
        return Content::Empty;
    }
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let word = line.split(|byte| b" \t\r".contains(byte)).find(|word| !word.is_empty());
        // A carriage return belongs to the name: it is why the interpreter is not found.
        let carriage = if line.ends_with(b"\r") { &b"\\r"[..] } else { b"" };
        return Content::Script([word.unwrap_or_default(), carriage].concat());
    }
    elf(head).unwrap_or(Content::Other)
}

fn elf(head: &[u8]) -> Option<Content> {
    head.strip_prefix(b"\x7fELF")?;
    let (wide, big) = (*head.get(4)? == 2, *head.get(5)? == 2);
    let number = |offset: usize, size: usize| -> Option<u64> {
        let bytes = head.get(offset..offset.checked_add(size)?)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    };
    let code = number(18, 2)? as u16;
    let machine = MACHINES.iter().find(|(number, _)| *number == code);
    let machine = machine.map_or_else(|| format!("machine {code}"), |(_, name)| (*name).to_owned());
    let interpreter = || -> Option<Vec<u8>> {
        let (table, size, count) = if wide {
            (number(32, 8)?, number(54, 2)?, number(56, 2)?)
        } else {
            (number(28, 4)?, number(42, 2)?, number(44, 2)?)
        };
        for index in 0..count {
            let header = usize::try_from(table.checked_add(index * size)?).ok()?;
            // PT_INTERP
            if number(header, 4)? != 3 {
                continue;
            }
            let (offset, length) = if wide {
                (number(header.checked_add(8)?, 8)?, number(header.checked_add(32)?, 8)?)
            } else {
                (number(header.checked_add(4)?, 4)?, number(header.checked_add(16)?, 4)?)
            };
            let end = usize::try_from(offset.checked_add(length)?).ok()?;
            let text = head.get(usize::try_from(offset).ok()?..end)?;
            return Some(text.strip_suffix(b"\0").unwrap_or(text).to_vec());
        }
        None
    };
    Some(Content::Elf { machine, interpreter: interpreter() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_up_like_a_shell_does() {
        let found = |program: &str, path: &str| candidates(program.as_bytes(), path.as_bytes());
        assert_eq!(found("sh", "/a:/b"), [b"/a/sh".to_vec(), b"/b/sh".to_vec()]);
        assert_eq!(found("sh", ":/b"), [b"./sh".to_vec(), b"/b/sh".to_vec()]);
        assert_eq!(found("./sh", "/a"), [b"./sh".to_vec()]);
        assert_eq!(found("", "/a"), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn programs_are_told_apart() {
        assert_eq!(describe(b""), Content::Empty);
        assert_eq!(describe(b"echo x"), Content::Other);
        assert_eq!(describe(b"#! /bin/sh -e\nx"), Content::Script(b"/bin/sh".to_vec()));
        assert_eq!(describe(b"#!/bin/sh\r\nx"), Content::Script(b"/bin/sh\\r".to_vec()));
        assert_eq!(describe(b"#!"), Content::Script(Vec::new()));
        let mut file = vec![0; 128];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = 183;
        let plain = Content::Elf { machine: "aarch64".into(), interpreter: None };
        assert_eq!(describe(&file), plain);
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64] = 3;
        file[72] = 121;
        file[96] = 5;
        file[121..126].copy_from_slice(b"/l.s\0");
        let machine = "aarch64".to_owned();
        let dynamic = Content::Elf { machine, interpreter: Some(b"/l.s".to_vec()) };
        assert_eq!(describe(&file), dynamic);
        file[32..40].fill(0xff);
        assert_eq!(describe(&file), plain);
        for end in 0..file.len() {
            describe(&file[..end]);
        }
    }
}
