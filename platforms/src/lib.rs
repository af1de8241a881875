//! OCI platforms: parse, normalise, match and detect them.
//!
//! Owns: the spelling of a platform ([`Platform`]), the choice of the best one
//! among several ([`choose`]), the table of architectures ([`ARCHITECTURES`])
//! and the reading of ELF headers ([`elf`]).
//! Refuses: specifiers with an operating system, architecture or variant that
//! nobody knows; a typing error must not become a platform of its own.
//!
//! Invariants:
//! - A [`Platform`] is always in normal form, so equality is `==`.
//! - Nothing here reads a file, the environment or the clock. The CPU is asked
//!   for its features, and that is all.
//! - No choice ever crosses from one architecture to another, not even from
//!   amd64 to 386 or from arm64 to arm.
//!
//! Sources: OCI image-spec 1.1, `image-index.md`, "platform"; the normal forms
//! that containerd's `platforms` package gives.

mod architecture;
mod choose;
pub mod elf;
mod names;
mod native;
mod parse;
mod platform;

pub use architecture::{ARCHITECTURES, Architecture};
pub use choose::choose;
pub use elf::{Endian, Machine};
pub use native::{NativeExecution, host_amd64_level, native_execution};
pub use parse::{ParsePlatformError, ParsePlatformErrorKind, parse_list};
pub use platform::Platform;
