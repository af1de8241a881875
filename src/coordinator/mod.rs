//! Runs a graph: resolves bases, looks up results in the store and in caches elsewhere, carries out the
//! rest once, folds all of it into images and one index.
//!
//! Owns: what is done when, on how many threads, and what a failure means for the rest.
//! Refuses: a base without the wanted platform, before anything is built.
//!
//! Invariants:
//! - All keys are looked up before anything is done, and nothing below a hit is fetched, unpacked or run.
//! - A step is carried out only when all below it is there, and at most once for all platforms; not at all
//!   where a result by its content key is known by then.
//! - A layer that nobody here reads stays where it is.
//! - After a failure nothing new begins (or, with `keep_going`, only what does not need the failed
//!   step), everything that runs has ended before the build returns, and there is no result.

mod answers;
mod arriving;
mod bases;
mod build;
mod carry;
mod check;
mod crash;
mod demand;
mod error;
mod execute;
mod fold;
mod known;
mod notes;
mod options;
mod pull;
mod remotes;
mod results;
mod running;
mod schedule;
mod seals;
mod source;
mod stop;
mod warm;

pub use build::{Build, Finished, Outcome};
pub use check::{Check, Checked};
pub use error::{BuildError, ErrorKind, Recovery};
pub use options::{Annotation, ContextAt, Emulator, Options, Scope, Way};
pub use remotes::{Remotes, Repositories, WebFile, explain};
pub use results::Results;
pub use source::Source;
pub use stop::{Stop, stopped};
pub use warm::{Warm, Warmed};
