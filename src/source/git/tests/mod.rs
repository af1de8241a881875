//! Real repositories, honest and hostile, from a real server.

mod honest;
mod hostile;
mod programs;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{GitEnvironment, GitRequest, GitTree, fetch};
use crate::dockerfile::GitAddress;
use crate::layer::{Change, EntryKind};
use crate::secrets::Secrets;
use crate::source::{Context, SourceError};

/// Where the machine's programs are.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// When all commits of these tests are made.
const TIME: i64 = 1_700_000_000;

/// A folder of repositories and a `git daemon` that serves it.
struct Server {
    folder: TempDir,
    port: u16,
    daemon: Child,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Between finding a free port and taking it, another test may be quicker.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut daemon = Command::new("/usr/lib/git-core/git-daemon")
                .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1", &format!("--port={port}")])
                .arg(format!("--base-path={}", folder.path().display()))
                .arg(folder.path())
                .env("PATH", PATH)
                .env("HOME", folder.path())
                .process_group(0)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(10) && daemon.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { folder, port, daemon };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            drop(daemon.kill());
            drop(daemon.wait());
        }
        panic!("git daemon does not start");
    }

    fn stop(&mut self) {
        killpg(Pid::from_raw(self.daemon.id() as i32), Signal::SIGKILL).ok();
        drop(self.daemon.wait());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self, rest: &str) -> String {
        format!("git://127.0.0.1:{}/{rest}", self.port)
    }

    /// An empty repository, with a work tree that the server does not mind.
    fn repository(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        git(&path, &["init", "-q", "-b", "main"]);
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs git as somebody who makes repositories.
fn git(directory: &Path, arguments: &[&str]) -> String {
    git_with(directory, arguments, b"")
}

fn git_with(directory: &Path, arguments: &[&str], input: &[u8]) -> String {
    let date = format!("{TIME} +0000");
    let mut child = Command::new("git")
        .args(["-c", "protocol.file.allow=always", "-c", "core.protectNTFS=false"])
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs([("PATH", PATH), ("HOME", "/nonexistent"), ("GIT_CONFIG_NOSYSTEM", "1"), ("LC_ALL", "C")])
        .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@example.com"), ("GIT_AUTHOR_DATE", &date)])
        .envs([("GIT_COMMITTER_NAME", "C"), ("GIT_COMMITTER_EMAIL", "c@example.com")])
        .env("GIT_COMMITTER_DATE", &date)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit_all(repository: &Path, message: &str) -> String {
    git(repository, &["add", "-A"]);
    git(repository, &["commit", "-q", "--allow-empty", "-m", message]);
    git(repository, &["rev-parse", "HEAD"])
}

/// A repository with what trees can hold; gives the commits `v0` and `v1`.
fn sample(server: &Server) -> (String, String) {
    let path = server.repository("r");
    fs::write(path.join("a.txt"), "old").unwrap();
    let old = commit_all(&path, "old");
    git(&path, &["tag", "v0"]);
    fs::write(path.join("a.txt"), "new").unwrap();
    fs::write(path.join("same.txt"), "new").unwrap();
    fs::create_dir_all(path.join("d/e")).unwrap();
    fs::write(path.join("d/e/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(path.join("d/e/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../../../etc/passwd", path.join("d/out")).unwrap();
    fs::write(path.join(std::ffi::OsStr::from_bytes(b"odd \n\xff -x")), "odd").unwrap();
    fs::write(path.join("empty"), "").unwrap();
    fs::write(path.join(".gitattributes"), "* text eol=crlf filter=evil ident\n").unwrap();
    fs::write(path.join("lines"), "$Id$\none\ntwo\n").unwrap();
    let new = commit_all(&path, "new");
    git(&path, &["tag", "-a", "-m", "tag", "v1"]);
    git(&path, &["branch", "topic", "v0"]);
    (old, new)
}

struct Client {
    directory: TempDir,
    environment: GitEnvironment,
    secrets: Secrets,
}

impl Client {
    fn new() -> Self {
        let environment = GitEnvironment {
            path: PATH.into(),
            network: Vec::new(),
            ssh_agent: None,
            known_hosts: None,
            time_limit: Duration::from_secs(120),
        };
        Self { directory: tempfile::tempdir().unwrap(), environment, secrets: Secrets::default() }
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn fetch(&self, address: &str) -> Result<GitTree, String> {
        self.fetch_as(address, None, None).map_err(|error| {
            let hint = if let SourceError::Git(error) = &error { error.hint() } else { None };
            format!("{error}|{}", hint.unwrap_or_default())
        })
    }

    fn fetch_as(
        &self,
        address: &str,
        checksum: Option<&str>,
        keep: Option<bool>,
    ) -> Result<GitTree, SourceError> {
        let address = GitAddress::parse(address).unwrap().unwrap();
        let environment = &self.environment;
        let request = GitRequest { address: &address, checksum, keep_git_dir: keep, now: 5, environment };
        fetch(&request, self.directory.path(), &self.cache(), &self.secrets, &|| false)
    }
}

/// Paths with what is there, in short.
fn files(tree: &GitTree) -> BTreeMap<String, String> {
    let show = |change: &Change| {
        let entry = &change.entry;
        assert_eq!((entry.uid, entry.gid), (0, 0));
        let shown = match &entry.kind {
            EntryKind::File { size } => {
                let mut text = String::new();
                change.content.open().unwrap().read_to_string(&mut text).unwrap();
                assert_eq!(text.len() as u64, *size);
                format!("{:o} {text}", entry.mode)
            }
            EntryKind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
            EntryKind::Directory => format!("{:o}/", entry.mode),
            other => format!("{other:?}"),
        };
        (entry.path.as_bytes().escape_ascii().to_string(), shown)
    };
    Context::gathered(tree.changes.clone()).unwrap();
    tree.changes.iter().map(show).collect()
}

/// Puts a submodule into the index of a repository, whatever it is.
fn add_module(repository: &Path, path: &str, commit: &str) {
    git(repository, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
}
