//! Hints for failures that a program has only, or mostly, under emulation.
//!
//! A hint stands after the program's own error and never instead of it. The
//! patterns are what users reported over the years; a hint that guesses wrong
//! costs trust, so each needs a phrase or a status that means little else.

use fanfold_platforms::Platform;

use crate::Outcome;

/// The last part of the output that is searched, in bytes.
const TAIL: usize = 64 * 1024;

const SIGILL: i32 = 4;
const SIGSEGV: i32 = 11;
const OWN_HANDLER: &str = "Let fanfold use its own handler (flags POCF): install a static \
                           qemu-user, or pass --qemu-dir DIR";

/// An emulated command that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The platform of the command.
    pub platform: &'a Platform,
    /// The emulator with its version if known, such as `qemu-aarch64 7.2.22`.
    pub emulator: &'a str,
    /// The text of the RUN instruction.
    pub command: &'a str,
    /// How the command ended.
    pub outcome: Outcome,
    /// The last of what it printed; 64 KiB of it are looked at.
    pub output: &'a [u8],
}

/// Recognises a known failure under emulation, and says what helps.
///
/// The text is one line for a person and holds nothing of the output. Only for
/// commands that failed and were emulated.
#[must_use]
pub fn crash_hint(failure: &Failure<'_>) -> Option<String> {
    let signal = failure.signal();
    // Ordered: what names its cause comes before what only names a signal.
    if let Some(hint) = failure.start_hint() {
        return Some(hint);
    }
    if let Some(hint) = failure.phrase_hint(signal) {
        return Some(hint);
    }
    failure.signal_hint(signal?)
}

impl Failure<'_> {
    /// Whether the tail of the output holds the phrase.
    fn printed(&self, phrase: &str) -> bool {
        let tail = &self.output[self.output.len().saturating_sub(TAIL)..];
        tail.windows(phrase.len()).any(|window| window == phrase.as_bytes())
    }

    fn printed_any(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.printed(phrase))
    }

    /// Whether the command names one of the programs as a word of its own.
    fn runs(&self, programs: &[&str]) -> bool {
        let part = |byte: char| byte.is_ascii_alphanumeric() || "_.-".contains(byte);
        self.command.split(|byte| !part(byte)).any(|word| programs.contains(&word))
    }

    /// The signal that ended the command or a program in it: seen directly, as a
    /// shell's status, or in the emulator's report.
    fn signal(&self) -> Option<i32> {
        let direct = match self.outcome {
            Outcome::Signaled(signal) => Some(signal),
            Outcome::Exited(status) if status > 128 => Some(status - 128),
            Outcome::Exited(_) | Outcome::Errno(_) => None,
        };
        direct.filter(|signal| [SIGILL, SIGSEGV].contains(signal)).or_else(|| {
            [SIGSEGV, SIGILL]
                .into_iter()
                .find(|signal| self.printed(&format!("uncaught target signal {signal} ")))
        })
    }

    /// The outcome in words.
    fn status(&self) -> String {
        match self.outcome {
            Outcome::Exited(status) => format!("status {status}"),
            Outcome::Signaled(signal) => format!("signal {signal}"),
            Outcome::Errno(errno) => format!("error {errno}"),
        }
    }

    /// Failures to start a program at all.
    fn start_hint(&self) -> Option<String> {
        let (platform, emulator) = (self.platform, self.emulator);
        if self.printed("-cpu option cannot be empty") {
            return Some(format!(
                "{emulator} refuses an empty QEMU_CPU. Remove QEMU_CPU from ENV and ARG; \
                 fanfold sets it where a variant needs it"
            ));
        }
        let no_loader = self.printed("qemu-") && self.printed(": Could not open '/lib");
        if no_loader || self.outcome == Outcome::Errno(2) {
            return Some(format!(
                "a program, or the dynamic loader that it asks for, is not in the image (musl and \
                 glibc name their loaders differently), or the handler for {platform} lacks flag F"
            ));
        }
        let no_handler = self.outcome == Outcome::Errno(8) || self.printed("Exec format error");
        no_handler.then(|| {
            format!(
                "a program of an architecture that nothing here runs was started in a build for \
                 {platform}. Look with `file` whether it was downloaded or copied for another \
                 platform"
            )
        })
    }

    /// Failures that are known by what is printed.
    fn phrase_hint(&self, signal: Option<i32>) -> Option<String> {
        let (platform, emulator) = (self.platform, self.emulator);
        let narrow = self.platform.elf_machine().is_some_and(|machine| machine.class == 32);
        if narrow && self.printed("Value too large for defined data type") {
            return Some(format!(
                "32-bit programs under {emulator} cannot read the 64-bit directory hashes of this \
                 file system. Put the directory on a tmpfs (RUN --mount=type=tmpfs), for cargo \
                 also set CARGO_NET_GIT_FETCH_WITH_CLI=true, or keep the store on xfs or btrfs"
            ));
        }
        // The emulator's own last words, which it does not say of a program.
        if self.printed_any(&["QEMU internal SIG", "qemu: fatal:", "Unhandled CPU exception"]) {
            return Some(format!(
                "the emulator itself crashed, {emulator}, not your command. Use a newer qemu \
                 (--qemu-dir DIR), or build this stage on $BUILDPLATFORM"
            ));
        }
        if self.printed("effective uid is not 0") {
            return Some(format!(
                "setuid programs such as sudo need a handler with flag C and subordinate ids; \
                 {emulator} runs without. {OWN_HANDLER}, and add the user to /etc/subuid and \
                 /etc/subgid; or drop sudo where RUN is root already"
            ));
        }
        if self.printed("applet not found") {
            return Some(format!(
                "the program lost its own name (argv[0]) on the way through {emulator}: the \
                 handler lacks flag P. {OWN_HANDLER}"
            ));
        }
        if self.printed_any(&["cpio: chown failed", "cap_set_file"]) {
            return Some(
                "files could not get their owner or capabilities: only one user id is mapped. Add \
                 the user to /etc/subuid and /etc/subgid and install newuidmap (package uidmap)"
                    .to_owned(),
            );
        }
        if self.printed_any(&["Invalid cross-device link", "EXDEV"]) {
            return Some(
                "a directory of a lower layer was renamed, which the overlay refuses (EXDEV); it \
                 is not the emulator's fault. Copy the directory and remove the old one, or create \
                 it in the same RUN"
                    .to_owned(),
            );
        }
        if self.printed("io_uring") {
            return Some(format!(
                "{emulator} has no io_uring. Set UV_USE_IO_URING=0 for programs that use libuv"
            ));
        }
        let tracing = self.runs(&["strace", "gdb", "perf", "bpftrace", "unshare"])
            || self.printed_any(&["PTRACE_", "ptrace("]);
        let refused = ["Function not implemented", "Operation not permitted", "Invalid argument"];
        if tracing && signal.is_none() && self.printed_any(&refused) {
            return Some(format!(
                "{emulator} offers no ptrace, perf, bpf and namespaces to the programs that it \
                 runs. Skip this step when building for {platform}"
            ));
        }
        None
    }

    /// Failures by a signal, told apart by the program.
    fn signal_hint(&self, signal: i32) -> Option<String> {
        let (platform, emulator) = (self.platform, self.emulator);
        let start = format!("RUN failed with {} under {emulator}", self.status());
        let quoted = format!("{start}: \"qemu: uncaught target signal {signal}\"");
        let start = if self.printed("qemu: uncaught target signal") { quoted } else { start };
        if self.runs(&["go"]) || self.printed_any(&["go: ", "go build"]) {
            return Some(format!(
                "{start}. Go's runtime is known to crash under qemu. Compile in a stage FROM \
                 --platform=$BUILDPLATFORM with GOOS=$TARGETOS GOARCH=$TARGETARCH"
            ));
        }
        let java = ["java", "javac", "mvn", "gradle", "gradlew", "sbt"];
        if self.runs(&java) || self.printed_any(&["Java Runtime Environment", "OpenJ9", "Gradle"]) {
            return Some(format!(
                "{start}. Java's compiler at run time is known to crash under qemu. Jars run \
                 anywhere: build them in a stage FROM --platform=$BUILDPLATFORM, or try another \
                 qemu version"
            ));
        }
        match signal {
            SIGILL => {
                let node = ["node", "npm", "npx", "yarn", "pnpm"];
                let what = match crate::cpu_model(platform) {
                    Some(model) => format!(
                        "The program holds instructions that {platform} (QEMU_CPU={model}) does \
                         not have. Fetch or compile it for this variant"
                    ),
                    None if self.runs(&node) => {
                        "Node's compiler at run time is known to fail under qemu. Use a newer \
                         qemu, or build in a stage FROM --platform=$BUILDPLATFORM"
                            .to_owned()
                    }
                    None => "The emulator does not know an instruction, or the program holds one \
                             that no processor knows. Use a newer qemu, or build this stage on \
                             $BUILDPLATFORM"
                        .to_owned(),
                };
                Some(format!("{start}. {what}"))
            }
            SIGSEGV => Some(format!(
                "{start}. Most likely the emulator crashed, not your command. A fault of the program \
                 itself looks the same. Use a newer qemu (--qemu-dir DIR), or build this stage on \
                 $BUILDPLATFORM"
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(platform: &str, command: &str, outcome: Outcome, output: &str) -> Option<String> {
        let platform: Platform = platform.parse().expect(platform);
        crash_hint(&Failure {
            platform: &platform,
            emulator: "qemu-x 7.2.22",
            command,
            outcome,
            output: output.as_bytes(),
        })
    }

    #[test]
    fn known_failures_get_their_remedy() {
        use Outcome::{Errno, Exited, Signaled};
        let crash = "qemu: uncaught target signal 11 (Segmentation fault) - core dumped";
        let illegal = "qemu: uncaught target signal 4 (Illegal instruction) - core dumped";
        let cases = [
            ("linux/arm64", "apt-get install x", Exited(139), crash, "the emulator crashed, not"),
            ("linux/arm64", "apt-get install x", Exited(100), crash, "status 100 under qemu-x 7"),
            ("linux/arm64", "./configure", Signaled(11), "", "signal 11 under qemu-x 7.2.22. Most"),
            ("linux/arm64", "go build ./...", Exited(139), "", "GOARCH=$TARGETARCH"),
            (
                "linux/arm64",
                "make",
                Exited(2),
                "go: downloading x\nqemu: uncaught target signal 11 (",
                "GOARCH",
            ),
            ("linux/s390x", "./gradlew jar", Exited(139), crash, "Jars run"),
            ("linux/arm64", "npm ci", Exited(132), illegal, "Node's compiler"),
            ("linux/arm/v6", "npm ci", Exited(132), illegal, "QEMU_CPU=arm1176"),
            ("linux/riscv64", "./x", Signaled(4), "", "Use a newer qemu"),
            (
                "linux/arm/v7",
                "cargo build",
                Exited(101),
                "Value too large for defined data type",
                "CARGO_NET",
            ),
            ("linux/arm64", "sudo x", Exited(1), "sudo: effective uid is not 0, is sudo", "flag C"),
            ("linux/arm64", "ls", Exited(127), "sh: applet not found", "flag P"),
            ("linux/arm64", "yum install x", Exited(1), "error: cpio: chown failed - ", "/etc/subuid"),
            ("linux/arm64", "mv a b", Exited(1), "mv: Invalid cross-device link", "EXDEV"),
            ("linux/arm64", "strace ls", Exited(1), "PTRACE_TRACEME: Function not implemented", "ptrace"),
            (
                "linux/arm64",
                "x",
                Exited(139),
                "qemu: QEMU internal SIGSEGV {code=",
                "itself crashed, qemu-x 7",
            ),
            ("linux/arm64", "x", Exited(1), "io_uring_setup: ENOSYS", "UV_USE_IO_URING=0"),
            ("linux/arm64", "x", Exited(126), "sh: ./x: Exec format error", "another platform"),
            ("linux/arm64", "x", Errno(8), "", "another platform"),
            ("linux/arm64", "x", Errno(2), "", "dynamic loader"),
            (
                "linux/arm64",
                "x",
                Exited(255),
                "qemu-aarch64: Could not open '/lib/ld-linux-aarch64.so.1'",
                "dynamic loader",
            ),
            ("linux/arm/v6", "x", Exited(1), "qemu: -cpu option cannot be empty", "QEMU_CPU"),
        ];
        for (platform, command, outcome, output, want) in cases {
            let got = hint(platform, command, outcome, output);
            let got = got.unwrap_or_else(|| panic!("no hint for {command:?}, {output:?}"));
            assert!(got.contains(want), "{got:?} lacks {want:?}");
            assert!(!got.contains('\n'));
        }
    }

    #[test]
    fn the_message_names_status_emulator_and_signal() {
        let crash = "qemu: uncaught target signal 11 (Segmentation fault) - core dumped";
        assert_eq!(
            hint("linux/arm64", "ldconfig", Outcome::Exited(139), crash).as_deref(),
            Some(
                "RUN failed with status 139 under qemu-x 7.2.22: \"qemu: uncaught target signal \
                 11\". Most likely the emulator crashed, not your command. A fault of the \
                 program itself looks the same. Use a newer qemu (--qemu-dir DIR), or build this \
                 stage on $BUILDPLATFORM"
            )
        );
    }

    #[test]
    fn ordinary_failures_get_none() {
        let old = format!("qemu: uncaught target signal 11 (x){}", " ".repeat(TAIL));
        let cases = [
            ("linux/arm64", "false", Outcome::Exited(1), ""),
            ("linux/arm64", "make", Outcome::Exited(2), "make: *** [all] Error 1"),
            ("linux/arm64", "x", Outcome::Exited(137), "Killed"),
            ("linux/arm64", "x", Outcome::Exited(134), "qemu: uncaught target signal 6 (Aborted)"),
            ("linux/arm64", "x", Outcome::Exited(1), "Value too large for defined data type"),
            ("linux/arm64", "x", Outcome::Exited(1), "touch: Operation not permitted"),
            ("linux/arm64", "x", Outcome::Exited(1), old.as_str()),
            ("linux/arm64", "x", Outcome::Signaled(9), ""),
        ];
        for (platform, command, outcome, output) in cases {
            assert_eq!(hint(platform, command, outcome, output), None, "{command} {outcome:?}");
        }
    }
}
