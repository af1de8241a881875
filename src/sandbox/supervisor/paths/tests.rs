//! Tests of paths and calls. The task is the test's own thread: its memory and descriptors are at hand.

use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use nix::libc;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::image::{Identity, Ownership};

use super::super::super::filter::{Action, Filter};
use super::super::super::hidden::Hidden;
use super::super::super::isolation::Isolation;
use super::super::super::mount::Mount;
use super::super::super::root::remove_stubs;
use super::super::super::spec::{Network, RootPlace, RunSpec};
use super::super::super::sys::notify;
use super::super::confine::Confinement;
use super::super::credentials::Credentials;
use super::super::notification::{Answer, Handler, serve};
use super::super::owners::Owners;
use super::super::task::Task;
use super::super::view::View;
use super::binds::Bind;
use super::place::Place;
use super::{BindSource, Identify, PathView, Paths, Processes, prepare, rules};

struct Fixed(Arc<Credentials>);

impl Identify for Fixed {
    fn credentials(&self, _: &Task<'_>) -> Result<Arc<Credentials>, Errno> {
        Ok(Arc::clone(&self.0))
    }
}

/// A root at `root`, and beside it what nobody may reach.
struct World {
    directory: tempfile::TempDir,
    proc: OwnedFd,
    paths: Paths,
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn bind(target: &str, source: &Path, read_only: bool) -> Bind {
    let source = fs::canonicalize(source).unwrap();
    let source = if source.is_dir() {
        BindSource::Directory { directory: open(&source), path: source }
    } else {
        BindSource::File { file: open(&source), path: source }
    };
    Bind { target: Place::written(target.as_bytes()), source, read_only, masked: &["hidden"] }
}

impl World {
    /// All processes count as the command's where `tracer` is 0: nobody traces them.
    fn new(uid: u32, tracer: i32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(directory.path()).unwrap();
        let root = path.join("root");
        for name in ["root/etc", "root/run", "root/proc", "root/a/b", "root/new\nline", "root/ro"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        for name in ["shared/deep", "outside", "read"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        for (name, content) in [
            ("root/etc/passwd", "inside"),
            ("root/new\nline/f", "newline"),
            ("root/run/s", "covered"),
            ("outside/secret", "secret"),
            ("shared/s", "shared"),
            ("shared/hidden", "hidden"),
            ("read/r", "read"),
        ] {
            fs::write(path.join(name), content).unwrap();
        }
        fs::create_dir(root.join("var")).unwrap();
        for (text, name) in [
            ("/etc/passwd", "root/absolute"),
            ("../../../../../../../etc/passwd", "root/up"),
            ("loop", "root/loop"),
            ("/made", "root/dangling"),
            ("/run", "root/var/run"),
            ("../run/s", "root/etc/shared"),
            ("/proc/self/root/etc/passwd", "root/magic"),
            ("../../../etc/passwd", "shared/up"),
            ("/etc/passwd", "shared/absolute"),
            ("etc", "root/link"),
        ] {
            symlink(text, path.join(name)).unwrap();
        }
        symlink(path.join("outside/secret"), root.join("out")).unwrap();
        let proc = open(Path::new("/proc"));
        let list = open(Path::new("/proc"));
        let processes = Bind {
            target: Place::written(b"/proc"),
            source: BindSource::Processes { directory: open(Path::new("/proc")) },
            read_only: false,
            masked: &["kcore"],
        };
        let binds =
            vec![bind("/run", &path.join("shared"), false), bind("/ro", &path.join("read"), true), processes];
        let view = PathView::new(&root, binds, Processes::new(tracer, list)).unwrap();
        let owners = Owners::new(Ownership::Simulated, open(&root).as_fd(), None, &[]).unwrap();
        let who = Identity { uid, gid: uid, groups: Vec::new(), home: "/".to_owned() };
        let identify = Arc::new(Fixed(Arc::new(Credentials::of(&who))));
        Self { directory, proc, paths: Paths::new(Arc::new(view), Arc::new(owners), identify) }
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    fn task(&self) -> Task<'_> {
        Task::stopped(&self.proc, rustix::thread::gettid().as_raw_nonzero().get())
    }

    fn content(&self, directory: i32, path: &[u8]) -> Result<String, Errno> {
        let found = self.paths.view.find(&self.task(), directory, path, true)?;
        let file = self.paths.view.reopen(&found.file, OFlags::RDONLY)?;
        Ok(std::io::read_to_string(fs::File::from(file)).unwrap())
    }

    fn call<const N: usize>(&self, call: libc::c_long, given: [u64; N]) -> Answer {
        let mut arguments = [0; 6];
        arguments[..N].copy_from_slice(&given);
        self.paths.handle(&self.task(), call, &arguments)
    }

    /// The result of a call, or its error number, negative.
    fn result<const N: usize>(&self, call: libc::c_long, given: [u64; N]) -> i64 {
        match self.call(call, given) {
            Answer::Value(value) => value,
            Answer::Failed(errno) => -i64::from(errno.raw_os_error()),
            other => panic!("{other:?}"),
        }
    }

    fn open<const N: usize>(&self, given: [u64; N]) -> Result<fs::File, Errno> {
        match self.call(libc::SYS_open, given) {
            Answer::Descriptor { file, .. } => Ok(fs::File::from(file)),
            Answer::Failed(errno) => Err(errno),
            other => panic!("{other:?}"),
        }
    }

    /// Type and permissions, user, group.
    fn stat(&self, path: &str) -> (u32, u32, u32) {
        let buffer = [0_u8; 144];
        assert_eq!(self.result(libc::SYS_lstat, [text(path), buffer.as_ptr() as u64]), 0, "{path}");
        let buffer = std::hint::black_box(buffer);
        let word = |at: usize| u32::from_ne_bytes(buffer[at..at + 4].try_into().unwrap());
        (word(24), word(28), word(32))
    }
}

/// The address of a text, as a program passes it.
fn text(text: &str) -> u64 {
    CString::new(text).unwrap().into_raw() as u64
}

fn no(errno: i32) -> i64 {
    -i64::from(errno)
}

const AT: i32 = libc::AT_FDCWD;

/// A command that asks for `mounts`, with the name server 192.0.2.1.
fn spec(directory: &Path, mounts: Vec<Mount>) -> RunSpec {
    fs::write(directory.join("resolv"), "nameserver 192.0.2.1\n").unwrap();
    fs::write(directory.join("hosts"), "127.0.0.1 localhost").unwrap();
    RunSpec {
        root: RootPlace::Directory { path: directory.join("root") },
        isolation: Isolation::Ptrace,
        interpreters: Vec::new(),
        argv: Vec::new(),
        env: Vec::new(),
        hidden_env: Vec::new(),
        cwd: b"/".to_vec(),
        user: String::new(),
        network: Network::Host,
        hostname: String::new(),
        resolv_conf: directory.join("resolv"),
        hosts: directory.join("hosts"),
        extra_hosts: vec![("db".to_owned(), "192.0.2.2".to_owned())],
        mounts,
        aside: directory.to_owned(),
        shm_size: None,
        special_owners: Vec::new(),
        ulimits: Vec::new(),
        linux32: false,
    }
}

#[test]
fn paths_stay_inside() {
    let world = World::new(0, 0);
    for (path, wanted) in [
        ("/etc/passwd", Ok("inside")),
        ("//etc/./passwd", Ok("inside")),
        ("/../../etc/passwd", Ok("inside")),
        ("/a/b/../../etc/passwd", Ok("inside")),
        ("/absolute", Ok("inside")),
        ("/up", Ok("inside")),
        ("/link/passwd", Ok("inside")),
        ("/magic", Ok("inside")),
        ("/new\nline/f", Ok("newline")),
        ("/run/s", Ok("shared")),
        ("/var/run/s", Ok("shared")),
        ("/etc/shared", Ok("shared")),
        ("/run/deep/../s", Ok("shared")),
        ("/run/../etc/passwd", Ok("inside")),
        ("/run/up", Ok("inside")),
        ("/run/absolute", Ok("inside")),
        ("/run/deep/../../../../etc/passwd", Ok("inside")),
        ("/ro/r", Ok("read")),
        ("/proc/self/root/etc/passwd", Ok("inside")),
        ("/proc/thread-self/root/run/s", Ok("shared")),
        ("/run/hidden", Err(Errno::NOENT)),
        ("/proc/kcore", Err(Errno::NOENT)),
        ("/out", Err(Errno::NOENT)),
        ("/loop", Err(Errno::LOOP)),
        ("/dangling", Err(Errno::NOENT)),
        ("/missing/../etc/passwd", Err(Errno::NOENT)),
        ("/etc/passwd/..", Err(Errno::NOTDIR)),
        ("/etc/passwd/", Err(Errno::NOTDIR)),
        ("/etc/passwd/.", Err(Errno::NOTDIR)),
        ("/etc/passwd/x", Err(Errno::NOTDIR)),
        ("/proc/self/cwd/Cargo.toml", Err(Errno::NOENT)),
        ("/proc/self/ns/user", Err(Errno::ACCESS)),
        ("", Err(Errno::NOENT)),
        // The test does not stand in the root.
        ("etc/passwd", Err(Errno::ACCESS)),
    ] {
        assert_eq!(world.content(AT, path.as_bytes()), wanted.map(str::to_owned), "{path:?}");
    }
    let long = [b"/".to_vec(), vec![b'a'; 300]].concat();
    assert_eq!(world.content(AT, &long), Err(Errno::NAMETOOLONG));
}

#[test]
fn directories_of_a_task_are_places() {
    let world = World::new(0, 0);
    let etc = fs::File::open(world.root().join("etc")).unwrap();
    let shared = fs::File::open(world.directory.path().join("shared/deep")).unwrap();
    let outside = fs::File::open(world.directory.path().join("outside")).unwrap();
    let (etc_number, shared_number) = (etc.as_raw_fd(), shared.as_raw_fd());
    assert_eq!(world.content(etc_number, b"passwd").as_deref(), Ok("inside"));
    assert_eq!(world.content(etc_number, b"../run/s").as_deref(), Ok("shared"));
    assert_eq!(world.content(shared_number, b"../s").as_deref(), Ok("shared"));
    assert_eq!(world.content(shared_number, b"../../../etc/passwd").as_deref(), Ok("inside"));
    assert_eq!(world.content(outside.as_raw_fd(), b"secret"), Err(Errno::ACCESS));
    assert_eq!(world.content(-5, b"x"), Err(Errno::BADF));
    let file = fs::File::open(world.root().join("etc/passwd")).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    assert_eq!(world.content(AT, path.as_bytes()).as_deref(), Ok("inside"));
    assert_eq!(
        world.content(AT, format!("/proc/self/fd/{etc_number}/passwd").as_bytes()).as_deref(),
        Ok("inside")
    );
    let up = format!("/proc/self/fd/{etc_number}/../up");
    assert_eq!(world.content(AT, up.as_bytes()).as_deref(), Ok("inside"));
    let beyond = format!("/proc/self/fd/{}/secret", outside.as_raw_fd());
    assert_eq!(world.content(AT, beyond.as_bytes()), Err(Errno::ACCESS));
    // What readlink says.
    let read = |path: String| {
        let buffer = [0_u8; 256];
        let length = world.result(libc::SYS_readlink, [text(&path), buffer.as_ptr() as u64, 256]);
        let buffer = std::hint::black_box(buffer);
        usize::try_from(length).map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    assert_eq!(read(path), Ok("/etc/passwd".to_owned()));
    assert_eq!(read(format!("/proc/self/fd/{shared_number}")), Ok("/run/deep".to_owned()));
    assert_eq!(read(format!("/proc/self/fd/{}", outside.as_raw_fd())), Ok("/(elsewhere)".to_owned()));
    assert_eq!(read("/proc/self".to_owned()), Ok(std::process::id().to_string()));
    assert_eq!(read("/proc/self/root".to_owned()), Ok("/".to_owned()));
    fs::remove_dir_all(world.root().join("new\nline")).unwrap();
    // A removed directory has no place.
    let gone = fs::File::open(world.root().join("a/b")).unwrap();
    fs::remove_dir(world.root().join("a/b")).unwrap();
    assert_eq!(world.content(gone.as_raw_fd(), b"x"), Err(Errno::NOENT));
}

#[test]
fn other_processes_are_not_there() {
    let world = World::new(0, -1);
    for path in ["/proc/1/root/etc/passwd", "/proc/1/status", "/proc/1"] {
        assert_eq!(world.content(AT, path.as_bytes()), Err(Errno::NOENT), "{path}");
    }
    assert!(world.content(AT, b"/proc/uptime").is_ok());
    let located = world.paths.view.locate(&world.task(), AT, b"/link/passwd", true).unwrap();
    assert_eq!(located.inside, b"/etc/passwd");
    assert_eq!(fs::read_to_string(std::str::from_utf8(&located.path).unwrap()).unwrap(), "inside");
    let located = world.paths.view.locate(&world.task(), AT, b"/proc/uptime", true);
    assert_eq!(located.unwrap_err(), Errno::ACCESS);
}

#[test]
fn files_are_made_where_the_path_leads() {
    let world = World::new(0, 0);
    let making = (libc::O_CREAT | libc::O_RDWR) as u64;
    let exclusive = making | libc::O_EXCL as u64;
    world.open([text("/dangling"), making, 0o640]).unwrap().write_all(b"x").unwrap();
    assert_eq!(fs::read(world.root().join("made")).unwrap(), b"x");
    assert_eq!(world.open([text("/dangling"), exclusive, 0o644]).unwrap_err(), Errno::EXIST);
    assert_eq!(world.open([text("/out"), making, 0o644]).unwrap_err(), Errno::NOENT);
    assert_eq!(world.open([text("/etc/"), making, 0o644]).unwrap_err(), Errno::ISDIR);
    assert_eq!(world.open([text("/ro/new"), making, 0o644]).unwrap_err(), Errno::ROFS);
    assert_eq!(world.open([text("/ro/r"), libc::O_RDWR as u64]).unwrap_err(), Errno::ROFS);
    assert_eq!(world.open([text("/absolute"), libc::O_NOFOLLOW as u64]).unwrap_err(), Errno::LOOP);
    assert!(world.open([text("/etc"), libc::O_DIRECTORY as u64]).is_ok());
    assert!(world.open([text("/etc"), (libc::O_TMPFILE | libc::O_RDWR) as u64, 0o600]).is_ok());

    assert_eq!(world.result(libc::SYS_mkdir, [text("/d/"), 0o500]), 0);
    assert_eq!(world.stat("/d"), (libc::S_IFDIR | 0o500, 0, 0));
    assert_eq!(fs::metadata(world.root().join("d")).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(world.result(libc::SYS_mkdir, [text("/d"), 0o755]), no(libc::EEXIST));
    assert_eq!(world.result(libc::SYS_mkdir, [text("/run/d"), 0o755]), 0);
    assert!(world.directory.path().join("shared/d").is_dir());
    assert_eq!(world.result(libc::SYS_symlink, [text("/etc"), text("/d/l")]), 0);
    assert_eq!(world.result(libc::SYS_mknod, [text("/d/fifo"), u64::from(libc::S_IFIFO | 0o600)]), 0);
    assert_eq!(
        world.result(libc::SYS_mknod, [text("/d/null"), u64::from(libc::S_IFCHR | 0o600), 0x103]),
        no(libc::EPERM)
    );
    assert!(matches!(world.call(libc::SYS_open, [text("/d/fifo"), libc::O_RDONLY as u64]), Answer::Later(_)));
    let nonblocking = (libc::O_RDONLY | libc::O_NONBLOCK) as u64;
    assert!(world.open([text("/d/fifo"), nonblocking]).is_ok());

    assert_eq!(world.result(libc::SYS_link, [text("/made"), text("/d/hard")]), 0);
    assert_eq!(world.result(libc::SYS_link, [text("/d/l"), text("/d/l2")]), 0);
    assert_eq!(world.result(libc::SYS_link, [text("/made"), text("/run/hard")]), no(libc::EXDEV));
    assert_eq!(world.result(libc::SYS_rename, [text("/d/hard"), text("/a/moved")]), 0);
    assert_eq!(world.result(libc::SYS_rename, [text("/a/moved"), text("/run/moved")]), no(libc::EXDEV));
    assert_eq!(world.result(libc::SYS_rename, [text("/run"), text("/else")]), no(libc::EBUSY));
    assert_eq!(world.result(libc::SYS_rename, [text("/a/moved/"), text("/x")]), no(libc::ENOTDIR));
    assert_eq!(world.result(libc::SYS_unlink, [text("/ro/r")]), no(libc::EROFS));
    assert_eq!(world.result(libc::SYS_unlink, [text("/out")]), 0);
    assert!(world.directory.path().join("outside/secret").exists());
    assert_eq!(world.result(libc::SYS_rmdir, [text("/run")]), no(libc::EBUSY));
    assert_eq!(world.result(libc::SYS_rmdir, [text("/")]), no(libc::EBUSY));
    assert_eq!(world.result(libc::SYS_rmdir, [text("/a/.")]), no(libc::EINVAL));
    assert_eq!(world.result(libc::SYS_rmdir, [text("/link/")]), no(libc::ENOTDIR));
    assert_eq!(world.result(libc::SYS_unlink, [text("/d")]), no(libc::EISDIR));
    assert_eq!(world.result(libc::SYS_truncate, [text("/made"), 0]), 0);
    assert_eq!(fs::metadata(world.root().join("made")).unwrap().len(), 0);
}

#[test]
fn owners_modes_and_attributes_are_simulated() {
    let world = World::new(0, 0);
    let path = text("/etc/passwd");
    assert_eq!(world.result(libc::SYS_chmod, [path, 0o4]), 0);
    assert_eq!(world.result(libc::SYS_lchown, [path, 5, 7]), 0);
    assert_eq!(world.stat("/etc/passwd"), (libc::S_IFREG | 0o4, 5, 7));
    assert_eq!(fs::metadata(world.root().join("etc/passwd")).unwrap().permissions().mode() & 0o777, 0o604);
    let buffer = [0_u8; 256];
    let at = buffer.as_ptr() as u64;
    assert_eq!(world.result(libc::SYS_listxattr, [path, at, 256]), 0);
    let record = text("user.fanfold.mode");
    assert_eq!(world.result(libc::SYS_getxattr, [path, record, at, 256]), no(libc::ENODATA));
    assert_eq!(world.result(libc::SYS_setxattr, [path, record, at, 1, 0]), no(libc::EPERM));
    let capability = text("security.capability");
    assert_eq!(world.result(libc::SYS_setxattr, [path, capability, at, 20, 0]), no(libc::EOPNOTSUPP));
    assert_eq!(world.result(libc::SYS_setxattr, [path, text("user.a"), at, 3, 0]), 0);
    assert_eq!(world.result(libc::SYS_listxattr, [path, at, 256]), 7);
    assert_eq!(world.result(libc::SYS_chmod, [text("/ro/r"), 0o600]), no(libc::EROFS));
    let open = fs::File::open(world.directory.path().join("read/r")).unwrap();
    assert_eq!(world.result(libc::SYS_fchmod, [open.as_raw_fd() as u64, 0o600]), no(libc::EROFS));
    let beyond = fs::File::open(world.directory.path().join("outside/secret")).unwrap();
    assert_eq!(world.result(libc::SYS_fchmod, [beyond.as_raw_fd() as u64, 0o600]), no(libc::EPERM));
    let times = [1_i64, 0, 2, 0];
    let times = times.as_ptr() as u64;
    assert_eq!(world.result(libc::SYS_utimensat, [AT as u32 as u64, path, times, 0]), 0);
    assert_eq!(fs::metadata(world.root().join("etc/passwd")).unwrap().mtime(), 2);
    assert_eq!(world.result(libc::SYS_getcwd, [at, 256]), no(libc::EACCES));
}

#[test]
fn other_users_need_permission() {
    let world = World::new(1000, 0);
    let secret = world.root().join("etc/passwd");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let making = (libc::O_CREAT | libc::O_RDWR) as u64;
    assert_eq!(world.open([text("/etc/passwd"), 0]).unwrap_err(), Errno::ACCESS);
    assert_eq!(world.open([text("/etc/new"), making, 0o644]).unwrap_err(), Errno::ACCESS);
    assert_eq!(world.result(libc::SYS_access, [text("/etc/passwd"), libc::R_OK as u64]), no(libc::EACCES));
    assert_eq!(world.result(libc::SYS_access, [text("/etc/passwd"), 0]), 0);
    assert_eq!(world.result(libc::SYS_unlink, [text("/etc/passwd")]), no(libc::EACCES));
    assert_eq!(world.result(libc::SYS_chmod, [text("/etc/passwd"), 0o777]), no(libc::EPERM));
    assert_eq!(world.result(libc::SYS_chown, [text("/etc/passwd"), 1000, 1000]), no(libc::EPERM));
    fs::set_permissions(world.root().join("a"), fs::Permissions::from_mode(0o1777)).unwrap();
    world.open([text("/a/own"), making, 0o600]).unwrap();
    assert_eq!(world.stat("/a/own"), (libc::S_IFREG | 0o600, 1000, 1000));
    fs::write(world.root().join("a/other"), "").unwrap();
    assert_eq!(world.result(libc::SYS_unlink, [text("/a/other")]), no(libc::EPERM));
    assert_eq!(world.result(libc::SYS_unlink, [text("/a/own")]), 0);
    fs::set_permissions(world.root().join("a"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(world.result(libc::SYS_access, [text("/a/other"), 0]), no(libc::EACCES));
}

/// Runs `work` in a thread whose calls are answered for a root.
fn supervised<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> (Arc<World>, T) {
    let world = Arc::new(World::new(0, 0));
    let root = world.root();
    let (give, take) = std::sync::mpsc::channel();
    let command = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
        rustix::process::chdir(root.join("a")).unwrap();
        rustix::thread::set_no_new_privs(true).unwrap();
        let filter = Filter {
            rules: rules(),
            compat: None,
            otherwise: Action::Allow,
            other_abi: Action::Errno(libc::ENOSYS as u16),
        };
        give.send(notify::install_with_listener(&filter.assemble()).unwrap()).unwrap();
        work()
    });
    let listener = Arc::new(take.recv().unwrap());
    for _ in 0..2 {
        let (listener, world) = (Arc::clone(&listener), Arc::clone(&world));
        std::thread::spawn(move || serve(&listener, &world.proc, &world.paths));
    }
    let result = command.join().unwrap();
    (world, result)
}

#[test]
fn a_thread_lives_in_another_root() {
    let (world, seen) = supervised(|| {
        fs::create_dir_all("deep/er").unwrap();
        fs::write("deep/er/file", "written").unwrap();
        fs::write("/top", "top").unwrap();
        fs::rename("/top", "../renamed").unwrap();
        let names: Vec<_> = fs::read_dir("/")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let cwd = std::env::current_dir().unwrap();
        let text = fs::read_to_string("/proc/thread-self/cwd/deep/er/file").unwrap();
        let host = fs::metadata("/usr").is_err();
        // A pipe: both ends wait for each other.
        nix::unistd::mkfifo("/pipe", nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let writer = std::thread::spawn(|| fs::write("/pipe", "through").unwrap());
        let through = fs::read_to_string("/pipe").unwrap();
        writer.join().unwrap();
        (names, cwd, text, host, through)
    });
    let (names, cwd, text, host, through) = seen;
    assert!(names.contains(&"renamed".to_owned()) && !names.contains(&"usr".to_owned()), "{names:?}");
    assert_eq!(cwd, Path::new("/a"));
    assert_eq!((text.as_str(), host, through.as_str()), ("written", true, "through"));
    assert_eq!(fs::read(world.root().join("renamed")).unwrap(), b"top");
    assert_eq!(fs::read(world.root().join("a/deep/er/file")).unwrap(), b"written");
}

#[test]
fn sockets_have_their_names_in_the_root() {
    let (world, seen) = supervised(|| {
        let listener = UnixListener::bind("/etc/socket").unwrap();
        let again = UnixListener::bind("/etc/socket").unwrap_err().kind();
        let peer = std::thread::spawn(|| {
            let mut stream = UnixStream::connect("/link/socket").unwrap();
            stream.write_all(b"hello").unwrap();
        });
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        peer.join().unwrap();
        let none = UnixStream::connect("/none").unwrap_err().kind();
        let datagrams = std::os::unix::net::UnixDatagram::unbound().unwrap_err().kind();
        let network = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let network = std::net::TcpStream::connect(network.local_addr().unwrap()).is_ok();
        (text, again, none, datagrams, network)
    });
    use std::io::ErrorKind::{AddrInUse, NotFound, PermissionDenied};
    assert_eq!(seen, ("hello".to_owned(), AddrInUse, NotFound, PermissionDenied, true));
    assert!(world.root().join("etc/socket").exists());
}

#[test]
fn a_root_is_prepared_and_confined() {
    let mut world = World::new(0, 0);
    let outside = fs::canonicalize(world.directory.path()).unwrap();
    let target = |path: &str| path.as_bytes().to_vec();
    let mounts = vec![
        Mount::Directory { path: outside.join("shared"), target: target("/cache"), read_only: false },
        Mount::Tmpfs { target: target("/cache/tmp"), size: None },
        Mount::Directory { path: outside.join("read"), target: target("/context"), read_only: true },
        Mount::File {
            content: Hidden::new(b"top secret".to_vec()),
            target: target("/run/secrets/key"),
            mode: 0o400,
            uid: 5,
            gid: 7,
            secret: true,
        },
    ];
    let root = world.root();
    let scratch = outside.join("scratch");
    fs::create_dir(&scratch).unwrap();
    let spec = |mounts| spec(&outside, mounts);
    let prepared = prepare(&spec(mounts), &root, &scratch).unwrap();
    let list = open(Path::new("/proc"));
    let view = PathView::new(&root, prepared.binds, Processes::new(0, list)).unwrap();
    world.paths.view = Arc::new(view);
    let content = |path: &str| world.content(AT, path.as_bytes());
    assert_eq!(content("/etc/resolv.conf").as_deref(), Ok("nameserver 192.0.2.1\n"));
    assert_eq!(content("/etc/hosts").as_deref(), Ok("127.0.0.1 localhost\n192.0.2.2\tdb\n"));
    assert_eq!(content("/cache/s").as_deref(), Ok("shared"));
    assert_eq!(content("/context/r").as_deref(), Ok("read"));
    assert_eq!(content("/run/secrets/key").as_deref(), Ok("top secret"));
    assert_eq!(world.stat("/run/secrets/key"), (libc::S_IFREG | 0o400, 5, 7));
    assert_eq!(world.stat("/cache/tmp"), (libc::S_IFDIR | 0o1777, 0, 0));
    assert_eq!(content("/proc/kcore"), Err(Errno::NOENT));
    let writing = libc::O_WRONLY as u64;
    world.open([text("/dev/null"), writing]).unwrap().write_all(b"x").unwrap();
    assert_eq!(world.open([text("/run/secrets/key"), writing]).unwrap_err(), Errno::ROFS);
    assert_eq!(world.result(libc::SYS_chmod, [text("/dev/null"), 0o600]), no(libc::EROFS));
    if Path::new("/dev/tty").exists() {
        assert_eq!(world.open([text("/dev/tty"), writing]).unwrap_err(), Errno::NXIO);
    }
    let file = fs::File::open(root.join("etc/passwd")).unwrap();
    assert_eq!(content(&format!("/dev/fd/{}", file.as_raw_fd())).as_deref(), Ok("inside"));
    // Rules of the kernel's own for what the supervisor does not carry out itself.
    match Confinement::new(&world.paths.view, &[]) {
        Ok(confinement) => {
            let (inside, beyond) = (root.join("etc/passwd"), outside.join("outside/secret"));
            let opened = std::thread::spawn(move || {
                confinement.enter().unwrap();
                (fs::read(inside).is_ok(), fs::read(beyond).map_err(|error| error.kind()))
            });
            let denied = Err(std::io::ErrorKind::PermissionDenied);
            assert_eq!(opened.join().unwrap(), (true, denied));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(root.join("cache").is_dir() && root.join("run/secrets/key").exists());
    assert!(remove_stubs(&root, &prepared.stubs).is_empty());
    assert!(!root.join("cache").exists() && !root.join("run/secrets").exists() && !root.join("dev").exists());
    fs::create_dir(outside.join("second")).unwrap();
    for forbidden in ["/proc/x", "/sys/x", "/etc/hosts/x"] {
        let mounts = vec![Mount::Tmpfs { target: target(forbidden), size: None }];
        fs::remove_dir_all(outside.join("second")).unwrap();
        fs::create_dir(outside.join("second")).unwrap();
        let failure = prepare(&spec(mounts), &root, &outside.join("second")).unwrap_err();
        assert!(failure.message.contains(forbidden), "{failure:?}");
    }
}
