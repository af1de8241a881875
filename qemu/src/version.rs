//! An emulator's version, asked of the emulator.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::Interpreter;

/// A real one answers within milliseconds, also on a busy machine in seconds.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// The answer is two lines; a program that prints on and on is none of ours.
const MAX_ANSWER: u64 = 4096;

/// An emulator that does not tell its version.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// The program did not start or could not be read.
    #[error("failed to run {} --version", .path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program neither answered nor ended in time.
    #[error("{} --version did not end within {limit:?}", .path.display())]
    TimedOut {
        /// The program.
        path: PathBuf,
        /// The time it was given.
        limit: Duration,
    },
    /// The answer holds no version.
    #[error("{} --version printed no version", .path.display())]
    NoVersion {
        /// The program.
        path: PathBuf,
    },
}

impl Interpreter {
    /// Asks the emulator for its version, such as `7.2.22`.
    ///
    /// It runs with an empty environment, so that no `QEMU_*` variable of the
    /// user gets in, and is killed if it takes longer than ten seconds. A
    /// thread reads the answer and has ended when this returns, except after a
    /// time-out.
    ///
    /// # Errors
    ///
    /// The program does not start, does not end, or prints something else.
    pub fn version(&self) -> Result<String, VersionError> {
        self.version_within(TIME_LIMIT)
    }

    fn version_within(&self, limit: Duration) -> Result<String, VersionError> {
        let run = |source| VersionError::Run { path: self.path.clone(), source };
        let mut child = Command::new(&self.path)
            .arg("--version")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(run)?;
        let stdout = child.stdout.take();
        let (sender, receiver) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut answer = Vec::new();
            let read = stdout.map_or(Ok(0), |pipe| pipe.take(MAX_ANSWER).read_to_end(&mut answer));
            // The receiver is gone after a time-out; then nobody wants to know.
            let _ = sender.send(read.map(|_| answer));
        });
        let answer = receiver.recv_timeout(limit);
        // It has closed its output, filled it or run out of time: in each case
        // there is nothing to wait for. Killing one that has ended does no harm.
        child.kill().and_then(|()| child.wait()).map_err(run)?;
        let Ok(answer) = answer else {
            return Err(VersionError::TimedOut { path: self.path.clone(), limit });
        };
        // It has sent, so it is at its end and cannot have panicked.
        let _ = reader.join();
        parse(&answer.map_err(run)?).ok_or_else(|| VersionError::NoVersion { path: self.path.clone() })
    }
}

/// Takes `7.2.22` out of `qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg)`.
fn parse(answer: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(answer.split(|byte| *byte == b'\n').next()?).ok()?;
    let (_, rest) = line.split_once(" version ")?;
    let version = rest.split_whitespace().next()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+~".contains(&byte);
    let good = version.starts_with(|first: char| first.is_ascii_digit())
        && version.len() <= 64
        && version.bytes().all(plain);
    good.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::testing::{Scratch, endless_program, host_program};
    use crate::{Search, find};

    #[test]
    fn answers() {
        let cases: [(&[u8], Option<&str>); 7] = [
            (b"qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright", Some("7.2.22")),
            (b"qemu-arm version 10.0.2\n", Some("10.0.2")),
            (b"qemu-arm version 9.1.0-rc1", Some("9.1.0-rc1")),
            (b"qemu-arm version \x1b[2J", None),
            (b"qemu-arm version \n7.2", None),
            (b"\xff\xfe version 7", None),
            (b"", None),
        ];
        for (answer, want) in cases {
            assert_eq!(parse(answer).as_deref(), want, "{}", answer.escape_ascii());
        }
    }

    /// All programs that are executed stand in one test: a file that another
    /// thread's child still holds open for writing cannot be executed.
    #[test]
    fn programs_are_asked() {
        let scratch = Scratch::new("version");
        let search = Search { dirs: vec![scratch.path("")] };
        let platform = "linux/s390x".parse().expect("a platform");
        let ask = |content: &[u8], limit: u64| {
            scratch.file("qemu-s390x", content, 0o755);
            let found = find(&platform, &search).expect("just written");
            found.version_within(Duration::from_millis(limit))
        };

        let good = ask(&host_program(b"qemu-s390x version 99.1.2 (test)\n"), 10_000);
        assert_eq!(good.expect("an answer"), "99.1.2");
        let silent = ask(&host_program(b""), 10_000).expect_err("no answer");
        assert!(matches!(silent, VersionError::NoVersion { .. }), "{silent}");
        let endless = ask(&endless_program(), 50).expect_err("no end");
        assert!(matches!(endless, VersionError::TimedOut { .. }), "{endless}");

        let gone = Interpreter { path: scratch.path("gone"), name: "qemu-s390x".to_owned() };
        let gone = gone.version().expect_err("no file");
        assert!(matches!(gone, VersionError::Run { .. }), "{gone}");

        let real = Search { dirs: vec!["/usr/bin".into()] };
        for name in ["linux/arm64", "linux/arm/v6", "linux/riscv64"] {
            if let Ok(found) = find(&name.parse().expect(name), &real) {
                let version = found.version().expect("an installed emulator");
                let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
                assert!(major >= Some(4), "{version}");
                assert!(found.path.starts_with(Path::new("/usr/bin")));
            }
        }
    }
}
