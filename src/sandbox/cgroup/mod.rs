//! Limits of a command's memory, processor time and processes, kept by the kernel's control groups.
//!
//! Owns: finding the cgroup that this process may divide, in version 2, version 1 or both; one cgroup
//! for each command, with its limits; what the kernel says of a limit that was reached.
//! Refuses: any cgroup but those below the caller's own; dividing one that other processes are in.
//!
//! Invariants:
//! - Every cgroup made here is named `fanfold-build-…` and lies below the cgroup that the build was started in.
//!   All of them are removed: a command's when it has ended, the build's own by the original process.
//! - Whoever uses such a cgroup holds a lock on it. What has no holder was left by a killed build and
//!   is removed by the next.
//! - Version 2 allows no processes in a cgroup that is divided. The build is moved below it only where
//!   nobody else is in it, and moved back at the end.
//! - A limit counts as set when it is read back.
//!
//! Sources: cgroups(7), the kernel's documents cgroup-v2 and cgroup-v1 (memory, pids, cpu bandwidth).

mod branch;
mod error;
mod find;
mod group;
mod limits;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use branch::Branch;
use find::Hierarchies;
pub(super) use group::Group;

pub use error::CgroupError;
pub use group::Usage;
pub use limits::Limits;

/// The cgroups of a build: those that its commands get theirs in.
///
/// Make it while the process has one thread and before it enters namespaces: it may have to be moved.
/// Forked, both processes have it: the build uses it, the original process gives it back with
/// [`Cgroups::remove`], which nothing does by itself.
#[derive(Debug)]
pub struct Cgroups {
    limits: Limits,
    branches: Arc<Vec<Branch>>,
    commands: AtomicU64,
}

impl Cgroups {
    /// Finds where cgroups can be made, makes the build's own there, and tries the limits out. What
    /// killed builds have left there is removed.
    ///
    /// # Errors
    ///
    /// Says for each version why it does not serve, and what would help. Nothing is left then.
    pub fn make(limits: Limits) -> Result<Self, CgroupError> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let hierarchies = Hierarchies::find(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        let cgroups = Self {
            limits,
            branches: Arc::new(Branch::make_all(&hierarchies, &limits.controllers())?),
            commands: AtomicU64::new(0),
        };
        // The probe: what it makes is removed when it is dropped.
        match cgroups.group() {
            Ok(_) => Ok(cgroups),
            Err(error) => {
                cgroups.remove();
                Err(error)
            }
        }
    }

    /// A cgroup for one command, with all limits.
    pub(super) fn group(&self) -> Result<Group, CgroupError> {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        Group::make(&self.branches, self.limits, number)
    }

    /// Removes everything and moves this process back to where it was. Call it in the original process
    /// when no other is left.
    pub fn remove(self) {
        for branch in self.branches.iter() {
            branch.remove();
        }
    }
}
