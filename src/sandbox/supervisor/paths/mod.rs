//! Paths of a command whose root is not the root of its process: every call that takes one is carried
//! out by the supervisor.
//!
//! Owns: what lies where in the root ([`PathView`]), what belongs into every root ([`prepare`]), the calls
//! that take paths, by family, and the rules that bring exactly these calls here ([`rules`]).
//! Refuses: mounts, namespaces, other roots; calls with paths that it does not know; terminals other than
//! those that a command was given; sockets for datagrams among processes, which take a path with every
//! message; watching files (inotify), which programs do without.
//!
//! Invariants:
//! - A path is read once, resolved in the root without the kernel following any link, and what was found
//!   is used by its descriptor, never by its path again.
//! - No call that takes a path is continued by the kernel, except on a socket to which paths mean nothing.
//! - /proc shows the files of the command's own processes. It lists the others too, by number alone.
//! - What a simulated user may do is decided by the modes that files show, root by what the disk allows.
//!
//! Sources: path_resolution(7), openat2(2), proc(5), unix(7).

mod binds;
mod calls;
mod place;
mod prepare;
mod processes;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod walk;

use std::sync::Arc;

use nix::libc;
use rustix::io::Errno;

use super::access;
use super::credential_sets::CredentialSets;
use super::credentials::Credentials;
use super::notification::{Answer, Handler};
use super::owners::Owners;
use super::task::Task;
use calls::Call;

pub(in crate::sandbox) use binds::BindSource;
pub(in crate::sandbox) use prepare::prepare;
pub(in crate::sandbox) use processes::Processes;
pub(super) use table::rules;
pub(in crate::sandbox) use view::PathView;

/// Knows who a task believes to be.
pub(super) trait Identify: Send + Sync {
    /// The credentials of a task.
    fn credentials(&self, task: &Task<'_>) -> Result<Arc<Credentials>, Errno>;
}

impl Identify for CredentialSets {
    fn credentials(&self, task: &Task<'_>) -> Result<Arc<Credentials>, Errno> {
        self.of(task.thread())
    }
}

/// Answers the calls that take paths.
///
/// The supervisor's own mask for modes has to be 0: those of new files go through the caller's.
pub(super) struct Paths {
    view: Arc<PathView>,
    owners: Arc<Owners>,
    identify: Arc<dyn Identify>,
}

impl std::fmt::Debug for Paths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paths").field("view", &self.view).finish_non_exhaustive()
    }
}

impl Paths {
    /// Answers calls of commands with this view.
    pub(super) fn new(view: Arc<PathView>, owners: Arc<Owners>, identify: Arc<dyn Identify>) -> Self {
        Self { view, owners, identify }
    }
}

impl Handler for Paths {
    fn handle(&self, task: &Task<'_>, call: libc::c_long, arguments: &[u64; 6]) -> Answer {
        let Some(carry_out) = table::handler(call) else { return Answer::Failed(Errno::NOSYS) };
        let call = Call { paths: self, task, arguments };
        carry_out(&call).unwrap_or_else(Answer::Failed)
    }
}
