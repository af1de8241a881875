//! Runs a program to its end, with a time limit, and asserts on what it said.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// No build of a test may take longer.
const LIMIT: Duration = Duration::from_secs(600);

/// A program that is about to run.
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
    input: Option<Vec<u8>>,
}

impl Run {
    /// Will run `command`.
    pub(crate) fn new(command: Command) -> Self {
        Self { command, input: None }
    }

    /// Adds one argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Gives it these bytes on standard input, through a pipe.
    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = Some(bytes.into());
        self
    }

    /// Runs to the end.
    pub(crate) fn run(self) -> Outcome {
        self.start().finish()
    }

    /// Starts, and lets the test go on.
    pub(crate) fn start(mut self) -> Running {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = format!("{:?}", self.command);
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
        if let (Some(bytes), Some(mut stdin)) = (self.input, child.stdin.take()) {
            // Who does not read it all may close the pipe.
            std::thread::spawn(move || drop(stdin.write_all(&bytes)));
        }
        Running {
            started: Instant::now(),
            stdout: collect(child.stdout.take().expect("piped")),
            stderr: collect(child.stderr.take().expect("piped")),
            child,
            shown,
        }
    }
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    started: Instant,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    shown: String,
}

impl Running {
    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid =
            rustix::process::Pid::from_raw(self.child.id().try_into().expect("a pid")).expect("not zero");
        rustix::process::kill_process(pid, signal).expect("kill");
    }

    /// Kills it, if it still runs.
    pub(crate) fn kill(&self) {
        let pid = self.child.id().try_into().ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            if self.started.elapsed() > LIMIT {
                let _ = self.child.kill();
                panic!("{} ran longer than {} s", self.shown, LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = self.started.elapsed();
        let text = |thread: JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&thread.join().expect("a reader")).into_owned()
        };
        Outcome { status, took, stdout: text(self.stdout), stderr: text(self.stderr), shown: self.shown }
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    status: ExitStatus,
    /// Wall-clock time from start to end.
    pub(crate) took: Duration,
    /// All of standard output.
    pub(crate) stdout: String,
    /// All of standard error.
    pub(crate) stderr: String,
    shown: String,
}

impl Outcome {
    /// The exit code; 128 and the signal's number if a signal ended it.
    pub(crate) fn exit(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Asserts exit code 0.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.code(0)
    }

    /// Asserts an exit code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert!(self.exit() == code, "exit code {}, not {code}\n{}", self.exit(), self.report());
        self
    }

    /// Asserts that standard error holds `text`.
    #[track_caller]
    pub(crate) fn stderr_has(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "standard error lacks {text:?}\n{}", self.report());
        self
    }

    /// Asserts that standard output holds `text`.
    #[track_caller]
    pub(crate) fn stdout_has(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "standard output lacks {text:?}\n{}", self.report());
        self
    }

    /// Asserts that neither output holds `text`.
    #[track_caller]
    pub(crate) fn lacks(self, text: &str) -> Self {
        assert!(
            !self.stdout.contains(text) && !self.stderr.contains(text),
            "the output holds {text:?}\n{}",
            self.report()
        );
        self
    }

    /// The JSON objects of standard output, one a line.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("{error}: {line}\n{}", self.report()))
            })
            .collect()
    }

    /// Lines that commands of the build printed, as `(platform, text)`, from
    /// `--progress json`.
    #[track_caller]
    pub(crate) fn output_lines(&self) -> Vec<(String, String)> {
        let field = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        self.events()
            .iter()
            .filter(|event| event["event"] == "output")
            .map(|event| (field(event, "platform"), field(event, "text")))
            .collect()
    }

    /// How many lines that commands printed are exactly `text`; with JSON progress.
    pub(crate) fn printed(&self, text: &str) -> usize {
        self.output_lines().iter().filter(|(_, line)| line == text).count()
    }

    /// How many events of a kind there are whose step begins with RUN; with JSON progress.
    pub(crate) fn runs(&self, kind: &str) -> usize {
        self.steps(kind, "RUN")
    }

    /// How many events of a kind there are whose step begins with `text`; with JSON progress.
    pub(crate) fn steps(&self, kind: &str, text: &str) -> usize {
        let is_meant = |event: &Value| event["step"].as_str().is_some_and(|step| step.starts_with(text));
        self.events().iter().filter(|event| event["event"] == kind && is_meant(event)).count()
    }

    /// The sentences of all warnings; with JSON progress.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let events = self.events();
        let warnings = events.iter().filter(|event| event["event"] == "warning");
        warnings.map(|event| event["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// All that is known, for a failing assertion.
    pub(crate) fn report(&self) -> String {
        format!(
            "command: {}\nexit: {}\n--- standard output\n{}--- standard error\n{}",
            self.shown,
            self.exit(),
            self.stdout,
            self.stderr
        )
    }
}

/// Runs a tool of the machine as the user of the tests.
pub(crate) fn tool<A: AsRef<std::ffi::OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Outcome {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    Run::new(command).run()
}

/// `--output` of an OCI layout folder.
pub(crate) fn layout(dir: &Path) -> String {
    format!("type=oci,tar=false,dest={}", dir.display())
}
