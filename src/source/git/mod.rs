//! Git repositories as sources: for ADD, as build contexts and as named contexts.
//!
//! Owns: running the program `git`, the bare repositories it fetches into, and turning a commit
//! into entries.
//! Refuses: transports other than https, http, ssh and git; everything that hostile repositories
//! use to reach out of themselves: names with `.git` or `..`, submodules from local paths, links on
//! the way to a directory.
//!
//! Invariants:
//! - There is never a checkout: no work tree, no filter, no hook, no attribute has any effect, and
//!   no path of a repository is opened on disk.
//! - `git` sees an environment and a configuration of our own alone. It is waited for or killed
//!   with its children; no thread is started.
//! - Credentials are given to `git` in its environment, only for the server that they are meant
//!   for, and stand in no argument, file, message or entry.
//! - A bare repository is used by one build at a time; a damaged one is fetched again.
//!
//! Sources: BuildKit's git source; gitmodules(5), git-cat-file(1), git-config(1); the lessons of
//! CVE-2022-39253, CVE-2025-48384, GHSA-49p4-px3h-rq49 and GHSA-4vrq-3vrq-g6gg.

mod cause;
mod command;
mod credentials;
mod error;
mod fetch;
mod gather;
mod git_dir;
mod process;
mod repository;
mod request;
mod resolve;
mod submodules;
#[cfg(test)]
mod tests;
mod tree;

pub use cause::Cause;
pub use error::GitError;
pub use fetch::{fetch, fetch_commit, resolve};
pub use request::{GitCommit, GitEnvironment, GitRequest, GitTree};
