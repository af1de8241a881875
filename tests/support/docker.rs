//! A Docker Engine (Debian's docker.io) that the tests of one program share: containers are the
//! places where builds have little: no mounts, no namespaces, in the end no privilege at all.
//!
//! The engine lives in a mount and a process namespace of its own, without a bridge and without
//! touching the firewall. It ends with the test program, also when that is killed: the kernel then
//! ends every process of the namespace, and the shell around it removes its files and cgroups.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::fixtures::busybox;
use super::run::{Run, tool};
use super::world::binary;

/// Absolute, since a machine may have another client in front of Debian's.
const CLIENT: &str = "/usr/bin/docker";

/// Where a container finds the binary under test.
const FANFOLD: &str = "/usr/local/bin/fanfold";

/// Emulators as Debian 12 and 13 name them. Those that are there are shown to containers.
const EMULATORS: [&str; 4] = [
    "/usr/bin/qemu-aarch64-static",
    "/usr/bin/qemu-x86_64-static",
    "/usr/bin/qemu-aarch64",
    "/usr/bin/qemu-x86_64",
];

/// A running engine, with the image `busybox`.
#[derive(Debug)]
pub(crate) struct Engine {
    dir: PathBuf,
    child: Mutex<Child>,
    /// The engine's shell waits for the end of this pipe.
    _lifeline: Mutex<Option<ChildStdin>>,
}

impl Engine {
    /// The engine of this test program, started by the first who asks. Needs root.
    pub(crate) fn shared() -> &'static Self {
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        ENGINE.get_or_init(|| {
            let engine = Self::start();
            engine.import_busybox();
            engine
        })
    }

    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("fanfold-engine-").tempdir().expect("a folder").keep();
        std::fs::write(dir.join("config.json"), "{}").expect("write");
        let mut child = Command::new("sh")
            .args(["-c", SUPERVISOR, "engine"])
            .arg(&dir)
            .arg(dir.file_name().expect("a name"))
            .arg(INNER)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log")).expect("a log"))
            .spawn()
            .expect("sh");
        let lifeline = child.stdin.take();
        let engine = Self { dir, child: Mutex::new(child), _lifeline: Mutex::new(lifeline) };
        let deadline = Instant::now() + Duration::from_secs(30);
        while engine.client(&["version"]).run().exit() != 0 {
            let ended = engine.child.lock().expect("no panic before").try_wait().expect("wait").is_some();
            if ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(engine.dir.join("log")).unwrap_or_default();
                panic!("the Docker Engine did not start (package docker.io):\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        engine
    }

    /// The client with these arguments.
    fn client(&self, args: &[&str]) -> Run {
        let mut command = Command::new(CLIENT);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.dir)
            .stdin(Stdio::null())
            .arg("--host")
            .arg(format!("unix://{}/sock", self.dir.display()))
            .args(args);
        Run::new(command)
    }

    /// The busybox base, with one account, and with the libraries that the binary under test
    /// needs; none if it is static.
    fn import_busybox(&self) {
        let [rootfs, archive] = ["rootfs", "rootfs.tar"].map(|name| self.dir.join(name));
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let source = busybox();
        tool("cp", ["-a".to_owned(), text(&source.join("root/.")), text(&rootfs)]).success();
        let native = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let program = source.join(format!("bin/busybox-{native}"));
        std::fs::copy(program, rootfs.join("usr/bin/busybox")).expect("busybox");
        std::fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("write");
        let libraries = tool("ldd", [binary()]).stdout;
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            let copy = rootfs.join(library.trim_start_matches('/'));
            std::fs::create_dir_all(copy.parent().expect("a parent")).expect("mkdir");
            std::fs::copy(library, copy).expect("copy of a library");
        }
        tool("tar", ["-C".to_owned(), text(&rootfs), "-cf".to_owned(), text(&archive), ".".to_owned()])
            .success();
        self.client(&["import", &text(&archive), "busybox"]).run().success();
        std::fs::remove_dir_all(&rootfs).expect("rm");
    }
}

/// A container that is about to run, as the Engine makes it by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Container {
    options: Vec<String>,
}

impl Container {
    /// Docker's default: root with fourteen capabilities, the default seccomp profile. It shares
    /// the machine's network, for the sake of the registries on the loopback interface.
    pub(crate) fn new() -> Self {
        let container = Self::default().option("--rm").option("--network=host").option("--pids-limit=1000");
        let tools = EMULATORS.iter().filter(|path| Path::new(path).exists());
        tools.fold(container, |container, path| container.read_only_volume(Path::new(path), path))
    }

    /// What Kubernetes calls restricted: an ordinary user without any capability, nothing to gain
    /// by setuid programs, and a root file system that cannot be written.
    pub(crate) fn restricted() -> Self {
        Self::new()
            .option("--user=1000")
            .option("--cap-drop=ALL")
            .option("--security-opt=no-new-privileges")
            .option("--read-only")
    }

    fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }

    /// Sets a variable.
    pub(crate) fn env(self, name: &str, value: &str) -> Self {
        self.option(format!("--env={name}={value}"))
    }

    /// Shows a folder of the machine under the same path, writable.
    pub(crate) fn volume(self, folder: &Path) -> Self {
        let shown = folder.display();
        self.option(format!("--volume={shown}:{shown}"))
    }

    /// Shows a file or folder of the machine under `inside`, not to be written.
    pub(crate) fn read_only_volume(self, outside: &Path, inside: &str) -> Self {
        self.option(format!("--volume={}:{inside}:ro", outside.display()))
    }

    /// Sets the working directory.
    pub(crate) fn dir(self, dir: &Path) -> Self {
        self.option(format!("--workdir={}", dir.display()))
    }

    /// Will run `program`; arguments can be added.
    pub(crate) fn command(self, program: &str) -> Run {
        let engine = Engine::shared();
        engine.client(&["run"]).args(self.options).args(["busybox", program])
    }

    /// Will run the binary under test; arguments can be added.
    pub(crate) fn fanfold(self) -> Run {
        self.read_only_volume(binary(), FANFOLD).command(FANFOLD)
    }
}

/// Runs the engine apart until the pipe is closed, then removes what it left: its folder (the
/// first argument) and its cgroups (which the second names).
const SUPERVISOR: &str = r#"
unshare --mount --propagation private --pid --fork --kill-child --mount-proc -- sh -c "$3" engine "$1" "$2"
find /sys/fs/cgroup -depth -type d -path "*/$2*" -exec rmdir {} \; 2>/dev/null
rm -rf "$1"
"#;

/// Process 1 of the engine's namespace.
const INNER: &str = r#"
/usr/sbin/dockerd --config-file "$1/config.json" --data-root "$1/data" --exec-root "$1/exec" \
  --pidfile "$1/pid" --host "unix://$1/sock" --bridge none --iptables=false --ip6tables=false \
  --cgroup-parent "/$2" --shutdown-timeout 1 >&2 &
engine=$!
cat >/dev/null
kill "$engine" 2>/dev/null
wait "$engine" 2>/dev/null
"#;
