//! Running `git`: how long it may take, how its output is read, and how it is ended.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::cause::Cause;
use super::command::Host;
use super::error::GitError;

/// How often it is looked whether the build is being stopped, in milliseconds.
const LOOK_AROUND: u16 = 100;
/// What is kept of all that git complains about, in bytes.
const TAIL: usize = 8 << 10;

/// One call of git, not yet begun.
pub(super) struct Call<'h> {
    host: &'h Host<'h>,
    command: Command,
    action: &'static str,
    remote: String,
}

impl<'h> Call<'h> {
    pub(super) fn new(host: &'h Host<'h>, command: Command, action: &'static str, remote: String) -> Self {
        Self { host, command, action, remote }
    }

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
        let (output, failure) = self.finish(limit)?;
        failure.map_or(Ok(output), Err)
    }

    /// As [`Call::output`]; `None` when git fails, which is an answer.
    pub(super) fn answer(self, limit: u64) -> Result<Option<Vec<u8>>, GitError> {
        let (output, failure) = self.finish(limit)?;
        Ok(failure.is_none().then_some(output))
    }

    fn finish(self, limit: u64) -> Result<(Vec<u8>, Option<GitError>), GitError> {
        let mut running = self.start()?;
        let mut output = Vec::new();
        let count = running.by_ref().take(limit + 1).read_to_end(&mut output);
        let fail = |error| GitError::stream("read from", running.host.program(), error);
        if count.map_err(fail)? as u64 > limit {
            return Err(GitError::Limit {
                remote: running.remote.clone(),
                what: "bytes of output of git",
                limit,
            });
        }
        Ok((output, running.wait()?))
    }

    /// Begins. Its output is read from what comes back.
    pub(super) fn start(mut self) -> Result<Running<'h>, GitError> {
        self.host.go_on(self.action, &self.remote)?;
        let mut child = self.command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => GitError::NotInstalled,
            _ => GitError::io("start", self.host.program(), error),
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (host, action, remote) = (self.host, self.action, self.remote);
        Ok(Running { host, child, stdout, stderr, tail: Vec::new(), ended: false, action, remote })
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
        self.wait()?.map_or(Ok(()), Err)
    }

    /// Waits for the end. Gives what git said, where it failed.
    fn wait(&mut self) -> Result<Option<GitError>, GitError> {
        // Nobody reads the rest: whoever still writes shall notice.
        self.stdout = None;
        loop {
            let status = self.child.try_wait();
            if let Some(status) =
                status.map_err(|error| GitError::io("wait for", self.host.program(), error))?
            {
                self.ended = true;
                // A child of git may keep the pipe open; what is in it by now is all there is.
                while self.stderr.is_some() && self.look(0)? {}
                return Ok((!status.success()).then(|| self.failure(status)));
            }
            self.host.go_on(self.action, &self.remote)?;
            if self.stderr.is_some() {
                self.look(LOOK_AROUND)?;
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn failure(&self, status: ExitStatus) -> GitError {
        let mut detail = self.host.detail(&self.tail);
        let cause = Cause::of(&detail);
        if detail.is_empty() {
            detail = format!("git ended with {status}");
        }
        GitError::Failed { action: self.action, remote: self.remote.clone(), detail, cause }
    }

    /// Waits for output. Takes in complaints; whether there was anything to read.
    fn look(&mut self, milliseconds: u16) -> Result<bool, GitError> {
        let mut polled = Vec::with_capacity(2);
        polled.extend(self.stderr.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        polled.extend(self.stdout.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        match poll(&mut polled, PollTimeout::from(milliseconds)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(GitError::io("wait for", self.host.program(), errno)),
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
                Err(error) => return Err(GitError::io("read from", self.host.program(), error)),
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
