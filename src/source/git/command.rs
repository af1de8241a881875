//! Running `git`: what it sees, how long it may take, and how it is ended.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::credentials::Credentials;
use super::error::{GitError, shown};
use super::request::GitEnvironment;
use crate::dockerfile::{GitRemote, GitScheme, without_userinfo};

/// How often it is looked whether the build is being stopped, in milliseconds.
const LOOK_AROUND: u16 = 100;
/// What is kept of all that git complains about, in bytes.
const TAIL: usize = 8 << 10;
/// How many of its last lines are shown.
const LINES: usize = 4;
/// Largest file of known hosts, in bytes.
const KNOWN_HOSTS: u64 = 16 << 20;

/// What stands in messages for the folder of our repositories.
pub(super) const OUR_PLACE: &str = "<cache>";

/// Settings of every call. What a configuration file says is never seen.
const SETTINGS: [&str; 20] = [
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.fsmonitor=false",
    "core.logAllRefUpdates=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "transfer.fsckObjects=true",
    // Faults of old tools that harm nobody and are in the history of well-known projects.
    "fetch.fsck.zeroPaddedFilemode=ignore",
    "fetch.fsck.badTimezone=ignore",
    "fetch.fsck.missingSpaceBeforeDate=ignore",
    "fetch.fsck.missingSpaceBeforeEmail=ignore",
    "fetch.fsck.missingEmail=ignore",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
];

/// Whom a call of git may speak to.
#[derive(Clone, Copy)]
pub(super) enum Reach<'a> {
    /// Nobody: it works on a repository of ours.
    Nobody,
    /// A repository of ours, as if it were a server.
    Ourselves,
    /// A server.
    Server(&'a GitRemote),
}

/// All that calls of git for one source have in common.
pub(super) struct Host<'a> {
    program: PathBuf,
    environment: &'a GitEnvironment,
    credentials: Credentials<'a>,
    /// An empty directory: the home directory, and where git is started.
    home: TempDir,
    /// Where our repositories are, which is nobody's business in messages.
    cache_dir: &'a Path,
    deadline: Instant,
    cancel: &'a dyn Fn() -> bool,
}

impl<'a> Host<'a> {
    pub(super) fn new(
        environment: &'a GitEnvironment,
        credentials: Credentials<'a>,
        scratch: &Path,
        cache_dir: &'a Path,
        cancel: &'a dyn Fn() -> bool,
    ) -> Result<Self, GitError> {
        let program = find_program(&environment.path).ok_or(GitError::NotInstalled)?;
        let home = tempfile::tempdir_in(scratch)
            .map_err(|error| GitError::io("make a directory in", scratch, error))?;
        if let Some(known) = &environment.known_hosts {
            copy_known_hosts(known, &home.path().join("known_hosts"))?;
        }
        let deadline = Instant::now() + environment.time_limit;
        Ok(Self { program, environment, credentials, home, cache_dir, deadline, cancel })
    }

    /// A call of git that is about `remote` and does `action`, for messages.
    pub(super) fn git<'h>(
        &'h self,
        action: &'static str,
        remote: &GitRemote,
        reach: Reach<'_>,
    ) -> Result<Call<'h>, GitError> {
        let mut command = Command::new(&self.program);
        command.env_clear().current_dir(self.home.path()).process_group(0);
        command.env("PATH", &self.environment.path).env("HOME", self.home.path());
        for (name, value) in [
            ("LC_ALL", "C"),
            ("TZ", "UTC"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_OPTIONAL_LOCKS", "0"),
        ] {
            command.env(name, value);
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let (allowed, mut settings) = match reach {
            Reach::Nobody => ("none", vec!["protocol.allow=never"]),
            Reach::Ourselves => ("file", vec!["protocol.allow=never", "protocol.file.allow=always"]),
            Reach::Server(_) => ("http:https:git:ssh", vec!["protocol.allow=never"]),
        };
        if let Reach::Server(_) = reach {
            settings.extend([
                "protocol.http.allow=always",
                "protocol.https.allow=always",
                "protocol.git.allow=always",
                "protocol.ssh.allow=always",
            ]);
        }
        command.env("GIT_ALLOW_PROTOCOL", allowed);
        for setting in settings {
            command.args(["-c", setting]);
        }
        if let Reach::Server(server) = reach {
            self.open_network(&mut command, server)?;
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Call { host: self, command, action, remote: remote.to_string() })
    }

    fn open_network(&self, command: &mut Command, server: &GitRemote) -> Result<(), GitError> {
        for (name, value) in &self.environment.network {
            command.env(name, value);
            // Git's HTTP library may not know the variable; git has one of its own.
            if name == "SSL_CERT_FILE" {
                command.env("GIT_SSL_CAINFO", value);
            }
        }
        if server.scheme() == GitScheme::Ssh {
            // The file of known hosts is in the directory that git is started in.
            let mut ssh = "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no \
                           -o IdentityFile=none -o ForwardAgent=no -o PermitLocalCommand=no -o ConnectTimeout=30"
                .to_owned();
            ssh += match self.environment.known_hosts {
                Some(_) => " -o UserKnownHostsFile=known_hosts",
                None => " -o UserKnownHostsFile=none",
            };
            match &self.environment.ssh_agent {
                Some(socket) => drop(command.env("SSH_AUTH_SOCK", socket)),
                None => ssh += " -o IdentityAgent=none",
            }
            command.env("GIT_SSH_COMMAND", ssh).env("GIT_SSH_VARIANT", "ssh");
        }
        if let (Some(origin), Some(header)) = (server.origin(), self.credentials.header(server)?) {
            command.env("GIT_CONFIG_COUNT", "1");
            command.env("GIT_CONFIG_KEY_0", format!("http.{origin}.extraHeader"));
            command.env("GIT_CONFIG_VALUE_0", format!("Authorization: {header}"));
            // Git would send the header to whatever server it is redirected to.
            command.args(["-c", "http.followRedirects=false"]);
        } else {
            command.args(["-c", "http.followRedirects=initial"]);
        }
        Ok(())
    }

    /// Fails once the build is being stopped or the time is over.
    pub(super) fn go_on(&self, action: &'static str, remote: &str) -> Result<(), GitError> {
        if (self.cancel)() {
            return Err(GitError::Cancelled);
        }
        if Instant::now() >= self.deadline {
            let seconds = self.environment.time_limit.as_secs();
            return Err(GitError::TimedOut { action, remote: remote.to_owned(), seconds });
        }
        Ok(())
    }

    /// The last lines of what git wrote, safe to show.
    fn detail(&self, tail: &[u8]) -> String {
        let lines = tail.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
        let mut lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
        lines.drain(..lines.len().saturating_sub(LINES));
        let line = |line: &&[u8]| {
            let line = self.credentials.mask().line(line.to_vec());
            let line = String::from_utf8_lossy(line.strip_prefix(b"fatal: ").unwrap_or(&line));
            without_userinfo(&shown(line.replace(&*self.cache_dir.to_string_lossy(), OUR_PLACE).as_bytes()))
        };
        lines.iter().map(line).collect::<Vec<_>>().join("; ")
    }
}

/// One call of git, not yet begun.
pub(super) struct Call<'h> {
    host: &'h Host<'h>,
    command: Command,
    action: &'static str,
    remote: String,
}

impl<'h> Call<'h> {
    /// Works on a repository of ours.
    pub(super) fn within(mut self, repository: &Path) -> Self {
        let mut option = OsString::from("--git-dir=");
        option.push(repository);
        self.command.arg(option);
        self
    }

    /// Adds arguments.
    pub(super) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.command.args(arguments);
        self
    }

    /// Gives git a file to read.
    pub(super) fn input(mut self, file: File) -> Self {
        self.command.stdin(file);
        self
    }

    /// Runs git and gives back what it printed, `limit` bytes at most.
    pub(super) fn output(self, limit: u64) -> Result<Vec<u8>, GitError> {
        let (output, status, detail) = self.finish(limit)?;
        status.map(|()| output).map_err(|failed| failed.with(detail))
    }

    /// As [`Call::output`]; `None` when git fails, which is an answer.
    pub(super) fn answer(self, limit: u64) -> Result<Option<Vec<u8>>, GitError> {
        let (output, status, _) = self.finish(limit)?;
        Ok(status.ok().map(|()| output))
    }

    fn finish(self, limit: u64) -> Result<(Vec<u8>, Result<(), Failure>, String), GitError> {
        let mut running = self.start()?;
        let mut output = Vec::new();
        let program = running.host.program.clone();
        let count = running.by_ref().take(limit + 1).read_to_end(&mut output);
        if count.map_err(|error| GitError::stream("read from", &program, error))? as u64 > limit {
            return Err(GitError::Limit {
                remote: running.remote.clone(),
                what: "bytes of output of git",
                limit,
            });
        }
        let (status, detail) = running.wait()?;
        let failure = Failure { action: running.action, remote: running.remote.clone(), status };
        Ok((output, if status.success() { Ok(()) } else { Err(failure) }, detail))
    }

    /// Begins. Its output is read from what comes back.
    pub(super) fn start(mut self) -> Result<Running<'h>, GitError> {
        self.host.go_on(self.action, &self.remote)?;
        let mut child = self.command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => GitError::NotInstalled,
            _ => GitError::io("start", &self.host.program, error),
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (host, action, remote) = (self.host, self.action, self.remote);
        Ok(Running { host, child, stdout, stderr, tail: Vec::new(), ended: false, action, remote })
    }
}

/// A call that failed, before it is known what git said.
struct Failure {
    action: &'static str,
    remote: String,
    status: ExitStatus,
}

impl Failure {
    fn with(self, detail: String) -> GitError {
        let hint = hint(&detail);
        let detail = if detail.is_empty() { format!("git ended with {}", self.status) } else { detail };
        GitError::Failed { action: self.action, remote: self.remote, detail, hint }
    }
}

/// A call under way. Its output is read from it; dropped early, git and its children are killed.
pub(super) struct Running<'h> {
    host: &'h Host<'h>,
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    tail: Vec<u8>,
    ended: bool,
    action: &'static str,
    remote: String,
}

impl Running<'_> {
    /// Waits for the end, which must be a good one.
    pub(super) fn done(mut self) -> Result<(), GitError> {
        let (status, detail) = self.wait()?;
        let failure = Failure { action: self.action, remote: self.remote.clone(), status };
        if status.success() { Ok(()) } else { Err(failure.with(detail)) }
    }

    fn wait(&mut self) -> Result<(ExitStatus, String), GitError> {
        // Nobody reads the rest: whoever still writes shall notice.
        self.stdout = None;
        loop {
            let status = self.child.try_wait();
            if let Some(status) =
                status.map_err(|error| GitError::io("wait for", &self.host.program, error))?
            {
                self.ended = true;
                // A child of git may keep the pipe open; what is in it by now is all there is.
                while self.stderr.is_some() && self.look(0)? {}
                return Ok((status, self.host.detail(&self.tail)));
            }
            self.host.go_on(self.action, &self.remote)?;
            if self.stderr.is_some() {
                self.look(LOOK_AROUND)?;
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Waits for output. Takes in complaints; whether there was anything to read.
    fn look(&mut self, milliseconds: u16) -> Result<bool, GitError> {
        let mut polled = Vec::with_capacity(2);
        polled.extend(self.stderr.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        polled.extend(self.stdout.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        match poll(&mut polled, PollTimeout::from(milliseconds)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(GitError::io("wait for", &self.host.program, errno)),
        }
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let complained = self.stderr.is_some() && polled.first().is_some_and(ready);
        let readable = self.stdout.is_some() && polled.last().is_some_and(ready);
        drop(polled);
        if complained && let Some(pipe) = &mut self.stderr {
            let mut buffer = [0; 4096];
            match pipe.read(&mut buffer) {
                Ok(0) => self.stderr = None,
                Ok(count) => self.tail.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(GitError::io("read from", &self.host.program, error)),
            }
            self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        }
        Ok(if self.stdout.is_some() { readable } else { complained })
    }
}

impl Read for Running<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.host.go_on(self.action, &self.remote).map_err(io::Error::other)?;
            let readable = self.look(LOOK_AROUND).map_err(io::Error::other)?;
            let Some(pipe) = &mut self.stdout else {
                return Ok(0);
            };
            if readable {
                return pipe.read(buffer);
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            if let Ok(pid) = i32::try_from(self.child.id()) {
                // It may have ended by itself in the meantime.
                killpg(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
            drop(self.child.wait());
        }
    }
}

/// The first program `git` of a `PATH`. Relative directories are not looked into.
fn find_program(path: &OsStr) -> Option<PathBuf> {
    let runs = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path).filter(|directory| directory.is_absolute()).map(|d| d.join("git")).find(runs)
}

/// A copy has a name without blanks and signs that ssh would expand.
fn copy_known_hosts(from: &Path, to: &Path) -> Result<(), GitError> {
    let fail = |error| GitError::io("read known hosts from", from, error);
    let file = match File::open(from) {
        Ok(file) => file,
        // Nobody is known, then.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
    };
    let mut text = Vec::new();
    file.take(KNOWN_HOSTS).read_to_end(&mut text).map_err(fail)?;
    fs::write(to, text).map_err(|error| GitError::io("write", to, error))
}

/// What to do about what git says.
fn hint(detail: &str) -> Option<&'static str> {
    const HINTS: [(&[&str], &str); 7] = [
        (
            &[
                "could not read Username",
                "could not read Password",
                "Authentication failed",
                "error: 401",
                "error: 403",
            ],
            "give a token as secret `GIT_AUTH_TOKEN` or `GIT_AUTH_TOKEN.<host>`",
        ),
        (
            &["error: 301", "error: 302", "error: 307", "error: 308"],
            "with credentials no redirection is followed; write the address that the server redirects to",
        ),
        (
            &["Host key verification failed"],
            "add the server's key to the file of known hosts, e.g. with `ssh-keyscan`, after checking it",
        ),
        (&["Permission denied (publickey"], "give an SSH agent that holds a key for this server"),
        (&["cannot run ssh", "ssh: not found"], "install ssh, e.g. `apt-get install openssh-client`"),
        (&["Could not resolve host", "unable to look up"], "is the host name right, and is there a network?"),
        (
            &["SSL certificate", "certificate verif", "CAfile"],
            "install the server's authority, e.g. `apt-get install ca-certificates`, or set SSL_CERT_FILE",
        ),
    ];
    HINTS.iter().find(|(signs, _)| signs.iter().any(|sign| detail.contains(sign))).map(|(_, hint)| *hint)
}
