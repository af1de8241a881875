//! What this machine can run: the ladder of ways to execute a platform's programs.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

use fanfold_platforms::{NativeExecution, Platform, host_amd64_level, native_execution};
use fanfold_qemu::{Interpreter, NotFound, Outcome, Registered, Search, Verdict};

use super::args::{EmulationArg, HostArgs};
use crate::coordinator::{Emulator, Way};
use crate::sandbox::{self, Binfmt, Isolation, ProbeOutcome, execute_intercepted, execute_probe};

/// Where the host's handlers can be read.
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// What a handler of the host must do: open its interpreter when it is registered, and keep `argv[0]`.
const NEEDED_FLAGS: &str = "PF";

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
    wanted: EmulationArg,
    isolation: Isolation,
    binfmt: OnceCell<Result<Binfmt, String>>,
    registered: Vec<&'static str>,
}

impl Machine {
    /// `probes` is a directory on the file system that builds use; commands are kept apart by `isolation`.
    pub(super) fn new(
        arguments: &HostArgs,
        path: &std::ffi::OsStr,
        probes: PathBuf,
        isolation: Isolation,
    ) -> Self {
        let absolute = |dir: PathBuf| std::path::absolute(&dir).unwrap_or(dir);
        let own = arguments.qemu_dir.clone().map(absolute);
        let dirs =
            own.into_iter().chain(std::env::split_paths(path).filter(|dir| dir.is_absolute())).collect();
        Self {
            host: Platform::host(),
            search: Search { dirs },
            probes,
            wanted: arguments.emulation,
            isolation,
            binfmt: OnceCell::new(),
            registered: Vec::new(),
        }
    }

    /// Finds a way to run a platform's commands, and proves it by running a program.
    ///
    /// Call it inside the build's own namespaces, with one thread: handlers are registered there.
    pub(super) fn execution(&mut self, platform: &Platform) -> Execution {
        let mut reasons = Vec::new();
        match native_execution(&self.host, platform, host_amd64_level()) {
            NativeExecution::Yes => return Execution::Native,
            NativeExecution::No => reasons.push(format!("native: the host is {}", self.host)),
            // The supervisor answers the calls of one kind of program alone.
            NativeExecution::Probe if self.isolation.is_supervised() => {
                reasons.push(format!("native: not with the isolation {}", self.isolation));
            }
            NativeExecution::Probe => match self.probe_natively(platform) {
                Ok(()) => return Execution::Native,
                Err(reason) => reasons.push(format!("native: {reason}")),
            },
        }
        match self.emulate(platform, &mut reasons) {
            Ok(emulator) => Execution::Emulated(emulator),
            Err(fix) => Execution::Unavailable { reasons, fix },
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
            Ok(interpreter) => Execution::Emulated(Emulator::new(interpreter, Way::PrivateBinfmt)),
            Err(error) => Execution::Unavailable {
                reasons: vec![format!("native: the host is {}", self.host), format!("emulation: {error}")],
                fix: no_interpreter(&error),
            },
        }
    }

    /// The processor may run the platform; a handler must not flatter it.
    fn probe_natively(&self, platform: &Platform) -> Result<(), String> {
        if let Err(reason) = self.own_binfmt() {
            // Where no instance of our own hides the host's handlers, they have to say that they take none.
            let program = fanfold_qemu::probe(platform).unwrap_or_default();
            if !self.may_use(EmulationArg::HostBinfmt) || host_handler(&program)?.is_some() {
                return Err(reason);
            }
        }
        match self.probe(platform) {
            Verdict::Works => Ok(()),
            verdict => Err(verdict.to_string()),
        }
    }

    fn may_use(&self, way: EmulationArg) -> bool {
        self.wanted == EmulationArg::Auto || self.wanted == way
    }

    /// An instance of binfmt_misc of our own, which hides the host's handlers.
    fn own_binfmt(&self) -> Result<&Binfmt, String> {
        if !self.isolation.has_namespaces() {
            return Err(format!("the isolation {} has no mounts", self.isolation));
        }
        // Once mounted, it would hide the handlers that are asked for.
        if self.wanted == EmulationArg::HostBinfmt {
            return Err("the handlers of the host are asked for".to_owned());
        }
        let mounted = self.binfmt.get_or_init(|| Binfmt::mount().map_err(|error| error.to_string()));
        mounted.as_ref().map_err(Clone::clone)
    }

    /// Tries one way after the other; on failure gives what to do, with all reasons in `reasons`.
    fn emulate(&mut self, platform: &Platform, reasons: &mut Vec<String>) -> Result<Emulator, String> {
        if self.wanted == EmulationArg::None {
            reasons.push("emulation: --emulation=none".to_owned());
            return Err("leave --emulation away, or build on a machine of that platform".to_owned());
        }
        let interpreter = fanfold_qemu::find(platform, &self.search);
        if self.may_use(EmulationArg::PrivateBinfmt) {
            let tried = match &interpreter {
                Ok(interpreter) => self.register(platform, interpreter),
                Err(error) => Err(error.to_string()),
            };
            match (tried, &interpreter) {
                (Ok(()), Ok(interpreter)) => {
                    return Ok(Emulator::new(interpreter.clone(), Way::PrivateBinfmt));
                }
                (Err(reason), _) => reasons.push(format!("private binfmt_misc: {reason}")),
                (Ok(()), Err(_)) => {}
            }
        }
        if self.may_use(EmulationArg::HostBinfmt) {
            match self.use_host(platform) {
                Ok(handler) => {
                    let name = handler.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    return Ok(Emulator::new(Interpreter { path: handler, name }, Way::HostBinfmt));
                }
                Err(reason) => reasons.push(format!("host handler: {reason}")),
            }
        }
        if self.may_use(EmulationArg::Exec) {
            let tried = match &interpreter {
                Ok(interpreter) => self.intercept(platform, interpreter),
                Err(error) => Err(error.to_string()),
            };
            match (tried, &interpreter) {
                (Ok(()), Ok(interpreter)) => return Ok(Emulator::new(interpreter.clone(), Way::Exec)),
                (Err(reason), _) => reasons.push(format!("exec interception: {reason}")),
                (Ok(()), Err(_)) => {}
            }
        }
        Err(match &interpreter {
            Err(error) => no_interpreter(error),
            Ok(_) if self.wanted != EmulationArg::Auto => "leave --emulation away".to_owned(),
            Ok(_) => {
                "try another version of qemu-user-static, pass --qemu-dir DIR, or build on a machine of that \
                      platform"
                    .to_owned()
            }
        })
    }

    /// A handler of our own, proved.
    fn register(&mut self, platform: &Platform, interpreter: &Interpreter) -> Result<(), String> {
        let key = fanfold_qemu::handler_key(platform).unwrap_or_default();
        let binfmt = self.own_binfmt()?;
        if !self.registered.contains(&key) {
            let name = fanfold_qemu::entry_name(platform).unwrap_or_default();
            let line = fanfold_qemu::registration(platform, &interpreter.path, &name)
                .map_err(|error| error.to_string())?;
            binfmt.register(&line).map_err(|error| error.to_string())?;
            self.registered.push(key);
        }
        match self.probe(platform) {
            Verdict::Works => Ok(()),
            verdict => Err(format!("with {}: {verdict}", interpreter.path.display())),
        }
    }

    /// The interpreter of the host's handler, where it does what builds need.
    fn use_host(&self, platform: &Platform) -> Result<PathBuf, String> {
        if matches!(self.binfmt.get(), Some(Ok(_))) {
            return Err("hidden by the build's own".to_owned());
        }
        let program = fanfold_qemu::probe(platform).ok_or("there is no such program to try")?;
        match self.probe(platform) {
            Verdict::Works => {}
            verdict => return Err(verdict.to_string()),
        }
        let handler = host_handler(&program)?.ok_or("which one it is cannot be seen")?;
        let lacking = handler.lacks(NEEDED_FLAGS);
        if lacking.is_empty() {
            return Ok(handler.interpreter);
        }
        let shown = handler.interpreter.display();
        Err(format!("{shown} is registered as {:?}, without {lacking}", handler.flags))
    }

    /// Calls to execute programs, rewritten; proved.
    fn intercept(&self, platform: &Platform, interpreter: &Interpreter) -> Result<(), String> {
        let program = fanfold_qemu::probe(platform).ok_or("there is no such program to try")?;
        let machine = platform.elf_machine().ok_or("it has no programs")?.e_machine;
        let interpreter = sandbox::Interpreter { machine, path: interpreter.path.clone() };
        let outcome = execute_intercepted(&self.probes, &program, &interpreter, self.isolation)
            .map_err(|error| error.to_string())?;
        match verdict(outcome) {
            Verdict::Works => Ok(()),
            verdict => Err(format!("with {}: {verdict}", interpreter.path.display())),
        }
    }

    fn probe(&self, platform: &Platform) -> Verdict {
        let Some(program) = fanfold_qemu::probe(platform) else {
            return Verdict::NoEmulator;
        };
        match execute_probe(&self.probes, &program) {
            Ok(outcome) => verdict(outcome),
            Err(error) => Verdict::of(Outcome::Errno(error.raw_os_error().unwrap_or(0))),
        }
    }
}

fn verdict(outcome: ProbeOutcome) -> Verdict {
    Verdict::of(match outcome {
        ProbeOutcome::Exited(code) => Outcome::Exited(code),
        ProbeOutcome::Signaled(signal) => Outcome::Signaled(signal),
        ProbeOutcome::Errno(errno) => Outcome::Errno(errno),
    })
}

/// The handler of the host that takes programs that begin like this one, as far as it can be seen.
fn host_handler(program: &[u8]) -> Result<Option<Registered>, String> {
    let unreadable = |error: std::io::Error| format!("{HANDLERS}: {error}");
    let mut found = None;
    for entry in fs::read_dir(Path::new(HANDLERS)).map_err(unreadable)? {
        let Ok(text) = entry.map_err(unreadable).and_then(|entry| {
            fs::read(entry.path())
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .map_err(unreadable)
        }) else {
            continue;
        };
        found = found.or(Registered::parse(&text).filter(|handler| handler.takes(program)));
    }
    Ok(found)
}

/// What to do where no interpreter is found.
fn no_interpreter(error: &NotFound) -> String {
    match error {
        NotFound::CannotEmulate(_) => "build on a machine of that platform".to_owned(),
        error => error.fix().to_owned(),
    }
}
