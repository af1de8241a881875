//! QEMU's user-mode emulators: find them, register them, probe them, and
//! explain what is missing.
//!
//! Owns: the table of emulated architectures, the search for an emulator on
//! disk ([`find`]), the line that registers one ([`registration`]), the probe
//! program that tells whether a platform's programs run ([`probe`],
//! [`Verdict`]), and hints for failures that only emulated programs have
//! ([`crash_hint`]).
//! Refuses: emulators that need a dynamic loader, platforms that QEMU cannot
//! stand in for, and the registration of the host's own machine.
//!
//! Invariants:
//! - Nothing is mounted or registered here, and no probe is run: the caller
//!   does so in its own namespaces and brings back the outcome.
//! - The one program ever started is an emulator with `--version`, without
//!   environment and within a time limit.
//! - Hints never repeat a program's output, so they are safe on a terminal.
//!
//! Sources: Linux `Documentation/admin-guide/binfmt-misc.rst` and
//! `fs/binfmt_misc.c`; QEMU `scripts/qemu-binfmt-conf.sh`; the ELF supplement
//! of each processor.

mod cpu;
mod find;
mod handler;
mod hint;
mod probe;
mod registered;
mod target;
#[cfg(test)]
mod testing;
mod verdict;
mod version;

pub use cpu::{CannotEmulate, can_emulate, cpu_model};
pub use find::{Interpreter, NotFound, Nowhere, Search, Unsuitable, find};
pub use handler::{RegistrationError, entry_name, handler_key, registration};
pub use hint::{Failure, crash_hint};
pub use probe::{PROBE_STATUS, probe};
pub use registered::Registered;
pub use verdict::{Outcome, Verdict};
pub use version::VersionError;
