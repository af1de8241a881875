//! Secrets that the caller gives to a build: values that reach commands and servers, and nothing else.
//!
//! Owns: the values by their ids, and what stands in for them where a command prints one.
//! Refuses: to be printed; a debug form shows ids alone.
//!
//! Invariants:
//! - A value is in no key, history, log, record or file of the store.

mod mask;
mod values;

pub use mask::Mask;
pub use values::Secrets;
