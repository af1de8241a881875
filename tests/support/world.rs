//! A sealed place for one test: a home, a store and a work folder of its own,
//! no variables but those that the test sets, and the user that builds run as.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::run::Run;

/// Name of the account that root's tests run plain builds as; `ci/test` makes it.
const PLAIN_USER: &str = "fanfold-test";

/// Who a build runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// Root. Only where the tests run as root.
    Root,
    /// A user without privilege, with subordinate ids. Where the tests do not
    /// run as root this is the user that runs them.
    Plain,
    /// A user of whom nobody knows: no account, and so no subordinate ids. Only where the tests
    /// run as root.
    Unknown {
        /// The number of the user.
        uid: u32,
        /// The number of the group.
        gid: u32,
    },
}

/// True if the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Every kind of user that a test can be carried out as here.
pub(crate) fn users() -> Vec<User> {
    if is_root() { vec![User::Root, User::Plain] } else { vec![User::Plain] }
}

/// The platform of this machine, as `linux/amd64`.
pub(crate) fn native_platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        "riscv64" => "linux/riscv64",
        "s390x" => "linux/s390x",
        other => panic!("no tests are written for a machine of type {other}"),
    }
}

/// Folders and identity of one test. Removed when it is dropped.
#[derive(Debug)]
pub(crate) struct World {
    dir: TempDir,
    user: User,
    ids: Option<(u32, u32)>,
}

impl World {
    /// A world of the user who runs the tests.
    pub(crate) fn new() -> Self {
        Self::of(if is_root() { User::Root } else { User::Plain })
    }

    /// A world of `user`.
    pub(crate) fn of(user: User) -> Self {
        let dir = tempfile::Builder::new().prefix("fanfold-test-").tempdir().expect("a temporary folder");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        let ids = match (user, is_root()) {
            (User::Root | User::Unknown { .. }, false) => panic!("a world of {user:?} needs root"),
            (User::Unknown { uid, gid }, true) => Some((uid, gid)),
            (User::Plain, true) => Some(account()),
            _ => None,
        };
        let world = Self { dir, user, ids };
        for name in ["home", "root", "out", "tmp"] {
            world.folder(name);
        }
        world
    }

    /// Who builds run as here.
    pub(crate) fn user(&self) -> User {
        self.user
    }

    /// A path below the world's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The store that builds use.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// Makes a folder that the world's user owns.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("mkdir");
        if let Some((uid, gid)) = self.ids {
            chown(&path, Some(uid), Some(gid)).expect("chown");
        }
        path
    }

    /// Writes a file, readable by all; parents are made.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        std::fs::write(&path, content).expect("write");
        path
    }

    /// A build context of one Dockerfile, in the folder `name`.
    pub(crate) fn context(&self, name: &str, dockerfile: &str) -> PathBuf {
        self.write(&format!("{name}/Dockerfile"), dockerfile);
        self.path(name)
    }

    /// The binary under test.
    pub(crate) fn binary(&self) -> &'static Path {
        binary()
    }

    /// `fanfold ARGS`, sealed.
    pub(crate) fn fanfold<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Run {
        let mut command = self.command(binary());
        command.args(args);
        Run::new(command)
    }

    /// `fanfold build`, with this world's store and plain progress; options and
    /// the context are the caller's.
    pub(crate) fn build(&self) -> Run {
        let root = self.root();
        self.fanfold(["build", "--root", root.to_str().expect("UTF-8")]).env("FANFOLD_PROGRESS", "plain")
    }

    /// Any program as the world's user, in its environment.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        if let Some((uid, gid)) = self.ids {
            use std::os::unix::process::CommandExt as _;
            command.uid(uid).gid(gid);
            if self.user == User::Plain {
                command.env("USER", PLAIN_USER);
            }
        }
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if is_root() {
            return;
        }
        // The store holds files of subordinate ids, which only a namespace with
        // these ids can remove.
        let _ = Command::new("unshare")
            .args(["--user", "--map-root-user", "--map-auto", "--", "rm", "-rf"])
            .arg(self.dir.path())
            .stderr(Stdio::null())
            .status();
    }
}

/// Uid and gid of the plain account.
fn account() -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let fields = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == PLAIN_USER)
        .unwrap_or_else(|| panic!("no account {PLAIN_USER}: run ci/test once as root, it makes it"));
    (fields[2].parse().expect("a uid"), fields[3].parse().expect("a gid"))
}

/// The binary, at a place where every user can execute it.
pub(super) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_fanfold"));
        let open = built.ancestors().skip(1).all(|folder| {
            std::fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
        });
        if open || !is_root() {
            return built;
        }
        // Named by the file's age, so that test programs share one copy.
        let age =
            std::fs::metadata(&built).and_then(|metadata| metadata.modified()).expect("the built binary");
        let age = age.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
        let copy = PathBuf::from(format!("/tmp/fanfold-test-bin-{age}"));
        if !copy.exists() {
            let partial = PathBuf::from(format!("{}.{}", copy.display(), std::process::id()));
            std::fs::copy(&built, &partial).expect("copy of the binary");
            std::fs::set_permissions(&partial, PermissionsExt::from_mode(0o755)).expect("chmod");
            std::fs::rename(&partial, &copy).expect("rename");
        }
        copy
    })
}
