//! What the first bytes of a file say of how it is executed. Pure.
//!
//! Sources: execve(2), elf(5), the kernel's `fs/binfmt_script.c` and `fs/binfmt_elf.c`.

/// As many bytes as the kernel looks at.
pub(super) const HEAD: usize = 256;

/// A file that is to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Program {
    /// A script, with the rest of its first line.
    Script {
        /// Path of the program that reads it.
        interpreter: Vec<u8>,
        /// What else stands there, as one argument.
        argument: Option<Vec<u8>>,
    },
    /// A program for a processor, by its ELF number.
    Elf(u16),
    /// Something else.
    Unknown,
}

impl Program {
    /// Reads the first bytes of a file, [`HEAD`] or all of it.
    pub(super) fn of(head: &[u8]) -> Self {
        if let Some(line) = head.strip_prefix(b"#!") {
            return Self::script(line, head.len() < HEAD).unwrap_or(Self::Unknown);
        }
        machine(head).map_or(Self::Unknown, Self::Elf)
    }

    fn script(line: &[u8], whole: bool) -> Option<Self> {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let end = line.iter().position(|byte| matches!(byte, b'\n' | 0));
        let text = match end {
            Some(end) => &line[..end],
            None if whole => line,
            // The line goes on: without a blank, the interpreter's path is cut.
            None => {
                let start = line.iter().position(|byte| !blank(byte))?;
                line[start..].iter().any(blank).then_some(line)?
            }
        };
        let text = text.trim_ascii_start();
        let split = text.iter().position(blank).unwrap_or(text.len());
        let (interpreter, rest) = text.split_at(split);
        let start = rest.iter().position(|byte| !blank(byte)).unwrap_or(rest.len());
        let last = rest.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
        let argument = &rest[start..last.max(start)];
        (!interpreter.is_empty()).then(|| Self::Script {
            interpreter: interpreter.to_vec(),
            argument: (!argument.is_empty()).then(|| argument.to_vec()),
        })
    }
}

fn machine(head: &[u8]) -> Option<u16> {
    let field = head.strip_prefix(b"\x7fELF").and_then(|_| head.get(18..20))?;
    let field = [field[0], field[1]];
    match head[5] {
        1 => Some(u16::from_le_bytes(field)),
        2 => Some(u16::from_be_bytes(field)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(interpreter: &str, argument: Option<&str>) -> Program {
        let argument = argument.map(|text| text.as_bytes().to_vec());
        Program::Script { interpreter: interpreter.as_bytes().to_vec(), argument }
    }

    #[test]
    fn scripts() {
        for (text, want) in [
            ("#!/bin/sh\n", script("/bin/sh", None)),
            ("#!/bin/sh", script("/bin/sh", None)),
            ("#! \t/bin/sh  -e  -u \t\nls", script("/bin/sh", Some("-e  -u"))),
            ("#!/usr/bin/env python3\n", script("/usr/bin/env", Some("python3"))),
            ("#!\n", Program::Unknown),
            ("#!   \n/bin/sh", Program::Unknown),
            ("#!/bin/sh\0junk", script("/bin/sh", None)),
            ("# /bin/sh\n", Program::Unknown),
            ("", Program::Unknown),
        ] {
            assert_eq!(Program::of(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn a_long_first_line_is_cut() {
        let line = format!("#!/bin/sh {}", "x".repeat(300));
        assert_eq!(Program::of(&line.as_bytes()[..HEAD]), script("/bin/sh", Some(&"x".repeat(246))));
        let line = format!("#!/{}", "x".repeat(300));
        assert_eq!(Program::of(&line.as_bytes()[..HEAD]), Program::Unknown);
    }

    #[test]
    fn machines() {
        let mut head = [0; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[18..20].copy_from_slice(&[183, 0]);
        assert_eq!(Program::of(&head), Program::Elf(183));
        head[5] = 2;
        head[18..20].copy_from_slice(&[0, 22]);
        assert_eq!(Program::of(&head), Program::Elf(22));
        head[5] = 7;
        assert_eq!(Program::of(&head), Program::Unknown);
        assert_eq!(Program::of(&head[..19]), Program::Unknown);
    }
}
