//! `fanfold platforms --doctor`: everything about this machine that builds depend on.
//!
//! Verdicts come from trying things out; the files of the kernel explain them. What costs builds
//! something says what, and how to mend it. Nothing is left behind.
//!
//! One file for each group of topics: it gathers, and judges what was gathered without looking again.

mod cgroups;
mod emulation;
mod finding;
mod ids;
mod kernel_files;
mod network;
mod process;
mod programs;
mod rungs;
mod security;
mod storage;

use std::path::PathBuf;

use fanfold_platforms::Platform;

use super::environment::Environment;
use super::host::Machine;
use crate::sandbox::{self, Isolation, survey};

use emulation::Named;
use process::Status;
use rungs::Rung;
use storage::Overlays;

pub(super) use finding::{Finding, json, text};
pub(super) use storage::Place;

/// The text of a file of the kernel without the line's end, where it can be read.
fn read(file: &str) -> Option<String> {
    let bytes = std::fs::read(file).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// What is known before namespaces are entered.
#[derive(Debug)]
pub(super) struct Outside {
    first: Vec<Finding>,
    rungs: Vec<Rung>,
    rights: Vec<Finding>,
    cgroups: Finding,
    handlers: Result<Vec<Named>, String>,
}

impl Outside {
    /// Finds it out. Call it in the original process, which still is who started the build, while that
    /// has one thread.
    pub(super) fn examine(config: &sandbox::Config, platforms: &[Platform]) -> Self {
        let status = Status::parse(&read("/proc/self/status").unwrap_or_default());
        let mut first = process::identity();
        first.extend(rungs::namespaces());
        let mut rights = vec![ids::find(&status, &config.path)];
        rights.extend(process::rights(&status));
        rights.extend(security::find());
        Self {
            first,
            rungs: rungs::climb(config),
            rights,
            cgroups: cgroups::find(),
            handlers: emulation::host(platforms),
        }
    }

    /// All findings. Call it in the process that is to build, which has entered the rung `taken`, when
    /// nothing is to run by handlers any more.
    pub(super) fn conclude(
        self,
        taken: Option<Isolation>,
        environment: &Environment,
        place: &Place,
        machine: &Machine,
        platforms: &[Platform],
    ) -> Vec<Finding> {
        let spaced = taken.is_some_and(Isolation::has_namespaces);
        let (overlays, private) = match (taken, &place.scratch) {
            (None, _) => untried("commands are not run here"),
            (Some(taken), _) if !spaced => untried(&format!("the isolation {taken} has no mounts")),
            (_, Err(_)) => untried("the store cannot be written to"),
            (_, Ok(scratch)) => {
                // The folders that the engine takes as well.
                let elsewhere: [PathBuf; 3] = [std::env::temp_dir(), "/dev/shm".into(), "/var/tmp".into()];
                (Overlays::tried(scratch.path(), &elsewhere), emulation::private())
            }
        };
        let mounts = read("/proc/self/mountinfo").unwrap_or_default();
        let mut all = self.first;
        all.extend(rungs::findings(&self.rungs, taken));
        all.extend(self.rights);
        all.push(kernel_files::proc(&mounts, spaced.then(survey::fresh_proc)));
        all.push(kernel_files::devices());
        all.push(self.cgroups);
        all.extend(storage::find(place, &overlays));
        all.extend(emulation::handlers(&self.handlers, &private));
        all.extend(emulation::interpreters(platforms, machine));
        all.extend(network::find(environment));
        all.extend(programs::find(&environment.search_path()));
        all
    }
}

fn untried(reason: &str) -> (Overlays, Result<(), String>) {
    (Overlays::Untried(reason.to_owned()), Err(format!("not to be had: {reason}")))
}
