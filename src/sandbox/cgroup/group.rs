//! The cgroup of one command.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::branch::{Branch, attach, put, remove_directory};
use super::error::CgroupError;
use super::limits::{Controller, Limits, Setting, Version, counter};

/// What the kernel says of a command that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What the command was allowed.
    pub limits: Limits,
    /// Processes that were killed because the command's memory was used up.
    pub oom_kills: u64,
    /// The most memory that it had at once, in bytes, where the kernel tells.
    pub memory_peak: Option<u64>,
    /// How often it could not start a process or thread because it had as many as it may.
    pub pids_refused: u64,
}

/// A cgroup with a command's limits, in each hierarchy that it takes. Dropped, it is removed.
#[derive(Debug)]
pub(in crate::sandbox) struct Group {
    limits: Limits,
    branches: Arc<Vec<Branch>>,
    name: String,
}

impl Group {
    /// Makes the cgroup and sets the limits. On failure nothing is left.
    pub(super) fn make(
        branches: &Arc<Vec<Branch>>,
        limits: Limits,
        number: u64,
    ) -> Result<Self, CgroupError> {
        let group = Self { limits, branches: Arc::clone(branches), name: format!("run-{number}") };
        for branch in group.branches.iter() {
            let directory = branch.directory.join(&group.name);
            for controller in &branch.controllers {
                let made = match fs::create_dir(&directory) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    made => made,
                };
                let fault =
                    |error: io::Error| CgroupError::not_taken(*controller, &directory, &error.to_string());
                made.map_err(fault)?;
                for setting in limits.settings(branch.version, *controller) {
                    set(&directory.join(setting.file), &setting, *controller)?;
                }
            }
        }
        Ok(group)
    }

    fn directories(&self) -> impl Iterator<Item = (&Branch, PathBuf)> {
        self.branches.iter().map(|branch| (branch, branch.directory.join(&self.name)))
    }

    /// Puts a process, of which nothing was started yet, under the limits.
    pub(in crate::sandbox) fn attach(&self, process: i32) -> io::Result<()> {
        self.directories().try_for_each(|(_, directory)| attach(&directory, process))
    }

    /// What the limits came to.
    pub(in crate::sandbox) fn usage(&self) -> Usage {
        let mut usage = Usage { limits: self.limits, oom_kills: 0, memory_peak: None, pids_refused: 0 };
        for (branch, directory) in self.directories() {
            // A kernel that does not tell has no such file.
            let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
            if branch.controllers.contains(&Controller::Memory) {
                let (events, peak) = match branch.version {
                    Version::One => ("memory.oom_control", "memory.max_usage_in_bytes"),
                    Version::Two => ("memory.events", "memory.peak"),
                };
                usage.oom_kills = counter(&read(events), "oom_kill").unwrap_or(0);
                usage.memory_peak = read(peak).trim().parse().ok();
            }
            if branch.controllers.contains(&Controller::Pids) {
                usage.pids_refused = counter(&read("pids.events"), "max").unwrap_or(0);
            }
        }
        usage
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for (_, directory) in self.directories() {
            // The original process and the next build try it again.
            drop(remove_directory(&directory));
        }
    }
}

/// Writes a limit, and looks whether it holds.
fn set(file: &std::path::Path, setting: &Setting, controller: Controller) -> Result<(), CgroupError> {
    let fault = |error: io::Error| CgroupError::not_taken(controller, file, &error.to_string());
    if setting.optional && !file.exists() {
        return Ok(());
    }
    put(file, &setting.value).map_err(fault)?;
    let found = fs::read_to_string(file).map_err(fault)?;
    if setting.is_taken(&found) {
        return Ok(());
    }
    let reason = format!("{} was written, and {} is there", setting.value, found.trim());
    Err(CgroupError::not_taken(controller, file, &reason))
}
