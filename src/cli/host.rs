//! What this machine can run: namespaces, overlay, and an interpreter for each foreign platform.

use std::path::{Path, PathBuf};

use fanfold_platforms::{NativeExecution, Platform, host_amd64_level, native_execution};
use fanfold_qemu::{NotFound, Outcome, Search, Verdict};

use crate::coordinator::Emulator;
use crate::sandbox::{Binfmt, ProbeOutcome, execute_probe};

/// How a platform's commands run here.
#[derive(Debug)]
pub(super) enum Execution {
    /// By the processor.
    Native,
    /// By an interpreter.
    Emulated(Emulator),
    /// Not at all.
    Unavailable {
        /// Why each way fails.
        reasons: Vec<String>,
        /// What to do.
        fix: String,
    },
}

/// Finds out how platforms run. Lives as long as the handlers it registered are to work.
#[derive(Debug)]
pub(super) struct Machine {
    host: Platform,
    search: Search,
    probes: PathBuf,
    binfmt: Option<Result<Binfmt, String>>,
    registered: Vec<&'static str>,
}

impl Machine {
    /// `probes` is a directory on the file system that builds use.
    pub(super) fn new(qemu_dir: Option<&Path>, path: &std::ffi::OsStr, probes: PathBuf) -> Self {
        let absolute = |dir: PathBuf| std::path::absolute(&dir).unwrap_or(dir);
        let own = qemu_dir.map(|dir| absolute(dir.to_owned()));
        let dirs =
            own.into_iter().chain(std::env::split_paths(path).filter(|dir| dir.is_absolute())).collect();
        Self { host: Platform::host(), search: Search { dirs }, probes, binfmt: None, registered: Vec::new() }
    }

    /// Finds a way to run a platform's commands, and proves it by running a program.
    ///
    /// Call it inside the build's own namespaces, with one thread: handlers are registered there.
    pub(super) fn execution(&mut self, platform: &Platform) -> Execution {
        let mut reasons = Vec::new();
        match native_execution(&self.host, platform, host_amd64_level()) {
            NativeExecution::Yes => return Execution::Native,
            NativeExecution::Probe => {
                // A handler of the host must not flatter the processor: our own instance hides it.
                match self.own_binfmt().map(drop) {
                    Ok(()) => match self.probe(platform) {
                        Verdict::Works => return Execution::Native,
                        verdict => reasons.push(format!("native: {verdict}")),
                    },
                    Err(reason) => reasons.push(format!("native: private binfmt_misc: {reason}")),
                }
            }
            NativeExecution::No => reasons.push(format!("native: the host is {}", self.host)),
        }
        match self.emulate(platform) {
            Ok(execution) => execution,
            Err((reason, fix)) => {
                reasons.push(reason);
                Execution::Unavailable { reasons, fix }
            }
        }
    }

    /// Whether the processor runs a platform's commands beyond doubt.
    pub(super) fn is_native(&self, platform: &Platform) -> bool {
        matches!(native_execution(&self.host, platform, host_amd64_level()), NativeExecution::Yes)
    }

    /// How a platform's commands should run, as far as that is known without namespaces: nothing is
    /// tried.
    pub(super) fn expected(&self, platform: &Platform) -> Execution {
        if !matches!(native_execution(&self.host, platform, host_amd64_level()), NativeExecution::No) {
            return Execution::Native;
        }
        match fanfold_qemu::find(platform, &self.search) {
            Ok(interpreter) => Execution::Emulated(Emulator::new(interpreter)),
            Err(error) => Execution::Unavailable {
                reasons: vec![format!("native: the host is {}", self.host), format!("emulation: {error}")],
                fix: no_interpreter(&error),
            },
        }
    }

    /// An instance of binfmt_misc of our own, which hides the host's handlers.
    fn own_binfmt(&mut self) -> Result<&Binfmt, String> {
        let mounted = self.binfmt.get_or_insert_with(|| Binfmt::mount().map_err(|error| error.to_string()));
        mounted.as_ref().map_err(Clone::clone)
    }

    fn emulate(&mut self, platform: &Platform) -> Result<Execution, (String, String)> {
        let kernel = "run on a kernel of 6.7 or later, or on a machine of that platform".to_owned();
        let interpreter = fanfold_qemu::find(platform, &self.search)
            .map_err(|error| (format!("emulation: {error}"), no_interpreter(&error)))?;
        if let Err(reason) = self.own_binfmt() {
            return Err((format!("private binfmt_misc: {reason}"), kernel));
        }
        let key = fanfold_qemu::handler_key(platform).unwrap_or_default();
        if !self.registered.contains(&key) {
            let name = fanfold_qemu::entry_name(platform).unwrap_or_default();
            let line = fanfold_qemu::registration(platform, &interpreter.path, &name)
                .map_err(|error| (format!("private binfmt_misc: {error}"), kernel.clone()))?;
            let binfmt = self.own_binfmt().map_err(|reason| (reason, kernel.clone()))?;
            binfmt
                .register(&line)
                .map_err(|error| (format!("private binfmt_misc: {error}"), kernel.clone()))?;
            self.registered.push(key);
        }
        match self.probe(platform) {
            Verdict::Works => Ok(Execution::Emulated(Emulator::new(interpreter))),
            verdict => Err((
                format!("private binfmt_misc with {}: {verdict}", interpreter.path.display()),
                "try another version of qemu-user-static, or pass --qemu-dir DIR".to_owned(),
            )),
        }
    }

    fn probe(&self, platform: &Platform) -> Verdict {
        let Some(program) = fanfold_qemu::probe(platform) else {
            return Verdict::NoEmulator;
        };
        match execute_probe(&self.probes, &program) {
            Ok(ProbeOutcome::Exited(code)) => Verdict::of(Outcome::Exited(code)),
            Ok(ProbeOutcome::Signaled(signal)) => Verdict::of(Outcome::Signaled(signal)),
            Ok(ProbeOutcome::Errno(errno)) => Verdict::of(Outcome::Errno(errno)),
            Err(error) => Verdict::of(Outcome::Errno(error.raw_os_error().unwrap_or(0))),
        }
    }
}

/// What to do where no interpreter is found.
fn no_interpreter(error: &NotFound) -> String {
    match error {
        NotFound::CannotEmulate(_) => "build on a machine of that platform".to_owned(),
        error => error.fix().to_owned(),
    }
}
