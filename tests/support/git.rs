//! Git repositories of a test, and `git daemon` over them.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::registry::free_port;
use super::run::Run;

/// A folder of bare repositories, served under `git://` until it is dropped or
/// the test program ends.
#[derive(Debug)]
pub(crate) struct GitServer {
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
    /// The daemon's shell waits for the end of this pipe.
    lifeline: Option<ChildStdin>,
}

/// Serves until the test program closes the pipe, by intention or by dying. The
/// program itself: `git daemon` would leave its child behind.
const SUPERVISOR: &str = r#"
"$(git --exec-path)/git-daemon" --reuseaddr --listen=127.0.0.1 --port="$1" --base-path="$2" --export-all &
daemon=$!
cat >/dev/null
kill "$daemon" 2>/dev/null
wait "$daemon" 2>/dev/null
"#;

impl GitServer {
    /// Starts it without any repository.
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("fanfold-git-").tempdir().expect("a folder");
        let served = dir.path().join("served");
        std::fs::create_dir(&served).expect("mkdir");
        for _ in 0..5 {
            let port = free_port();
            let mut command = isolated("sh", &served);
            command.args(["-c", SUPERVISOR, "git-daemon", &port.to_string()]).arg(&served);
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().expect("sh");
            let lifeline = child.stdin.take();
            if answers(port, &mut child) {
                return Self { dir, port, child, lifeline };
            }
            drop(lifeline);
            let _ = child.wait();
        }
        panic!("git-daemon did not start (package git)");
    }

    /// The folder of the bare repositories, for a web server before them.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("served")
    }

    /// `git://localhost:PORT/NAME.git`.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("git://localhost:{}/{name}.git", self.port)
    }

    /// Makes an empty repository with the branch `main`.
    pub(crate) fn repository(&self, name: &str) -> Repository {
        let work = self.dir.path().join("work").join(name);
        std::fs::create_dir_all(&work).expect("mkdir");
        let repository = Repository { work, bare: self.folder().join(format!("{name}.git")) };
        repository.git(["init", "--quiet", "--initial-branch=main", "."]);
        let bare = repository.bare.to_str().expect("UTF-8").to_owned();
        repository.git(["init", "--quiet", "--bare", "--initial-branch=main", &bare]);
        repository
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.child.wait();
    }
}

/// A repository with a work tree, and the bare one that is served.
#[derive(Debug)]
pub(crate) struct Repository {
    work: PathBuf,
    bare: PathBuf,
}

impl Repository {
    /// The work tree.
    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    /// Writes a file into the work tree; parents are made.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.work.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        std::fs::write(path, content).expect("write");
    }

    /// Makes a symbolic link in the work tree.
    pub(crate) fn link(&self, name: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.work.join(name)).expect("symlink");
    }

    /// Commits the work tree, serves it, and gives back the commit's hash.
    pub(crate) fn commit(&self) -> String {
        self.git(["add", "--all"]);
        self.git(["commit", "--quiet", "--allow-empty", "--message=test"]);
        self.publish();
        self.git(["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Serves all branches and tags as they are.
    pub(crate) fn publish(&self) {
        self.git(["push", "--quiet", "--mirror", self.bare.to_str().expect("UTF-8")]);
    }

    /// Enters a submodule by its address and commit, without asking the address.
    pub(crate) fn submodule(&self, path: &str, url: &str, commit: &str) {
        let modules = self.work.join(".gitmodules");
        let old = std::fs::read_to_string(&modules).unwrap_or_default();
        let new = format!("{old}[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
        std::fs::write(&modules, new).expect("write");
        self.git(["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
        // Without the folder `add --all` would take the submodule for removed.
        std::fs::create_dir_all(self.work.join(path)).expect("mkdir");
    }

    /// `git ARGS` in the work tree.
    pub(crate) fn git<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> String {
        let mut command = isolated("git", &self.work);
        command.args(args).current_dir(&self.work);
        Run::new(command).run().success().stdout
    }
}

/// Git without anybody's configuration, and with times that are always the same.
fn isolated(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "tests")
        .env("GIT_AUTHOR_EMAIL", "tests@localhost")
        .env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_NAME", "tests")
        .env("GIT_COMMITTER_EMAIL", "tests@localhost")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .stdin(Stdio::null());
    command
}

/// Waits until somebody listens. False if the daemon has ended instead.
fn answers(port: u16, child: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(15);
    while Instant::now() < deadline {
        if std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).is_ok() {
            return true;
        }
        if child.try_wait().expect("wait").is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
