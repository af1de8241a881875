//! What `git` sees of the machine and of the configuration, and whom it may speak to.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use super::credentials::Credentials;
use super::error::{GitError, shown};
use super::process::Call;
use super::request::GitEnvironment;
use crate::dockerfile::{GitRemote, GitScheme, without_userinfo};

/// How many of the last lines of git are shown.
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
        Ok(Call::new(self, command, action, remote.to_string()))
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

    /// The program, for messages.
    pub(super) fn program(&self) -> &Path {
        &self.program
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
    pub(super) fn detail(&self, tail: &[u8]) -> String {
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
