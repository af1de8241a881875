//! The rungs of isolation below user namespaces, entered as in a container that grants little.
//!
//! Each case is a process of its own: this program, started with the name of the case. Root is needed,
//! and nothing is tried without it.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use fanfold::sandbox::{
    self, Config, Ended, Entered, Hidden, Isolation, Mount, Network, RootPlace, RunEnd, RunError, RunSpec,
    Sandbox, Spawned,
};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// The fourteen capabilities of a container.
const CONTAINER: CapabilitySet = CapabilitySet::from_bits_retain(0xa804_25fb);

type Case = fn(&Path);

const CASES: [(&str, Case); 9] = [
    ("commands", commands),
    ("root_is_put_back", root_is_put_back),
    ("mounts", mounts),
    ("secrets", secrets),
    ("kills", kills),
    ("build_is_killed", build_is_killed),
    ("original_is_killed", original_is_killed),
    ("refusals", refusals),
    ("whole_tree_in_namespaces", whole_tree_in_namespaces),
];

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = sandbox::hidden_entry(arguments.iter().cloned()) {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let words: Vec<String> = arguments.iter().filter_map(|word| word.clone().into_string().ok()).collect();
    if let [_, mode, name, directory] = &words[..]
        && let Some((_, case)) = CASES.iter().find(|(other, _)| other == name)
        && mode.starts_with("case-")
    {
        if mode == "case-container" {
            become_container();
        }
        case(Path::new(directory));
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| word == "--list") || !rustix::process::geteuid().is_root() {
        return ExitCode::SUCCESS;
    }
    let filter = words.iter().skip(1).find(|word| !word.starts_with('-'));
    let wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter.as_str()));
    let mut failed = Vec::new();
    for (name, _) in CASES.into_iter().filter(|(name, _)| wanted(name)) {
        for mode in ["case-container", "case-root"] {
            let directory = tempfile::tempdir().expect("a temporary folder");
            fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
            let status = own(mode, name, directory.path()).wait().expect("a case");
            if !status.success() {
                failed.push(format!("{mode} {name}: {status}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    ExitCode::SUCCESS
}

/// Starts a case.
fn own(mode: &str, name: &str, directory: &Path) -> Child {
    Command::new("/proc/self/exe").args([mode, name]).arg(directory).spawn().expect("a process")
}

/// Leaves this process what root of a container has.
fn become_container() {
    for bit in 0..41 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if !CONTAINER.contains(capability) {
            rustix::thread::remove_capability_from_bounding_set(capability).expect("prctl");
        }
    }
    let sets =
        CapabilitySets { effective: CONTAINER, permitted: CONTAINER, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).expect("capset");
}

fn config(directory: &Path, isolation: Option<Isolation>) -> Config {
    Config { path: "/usr/bin:/bin".into(), isolation, scratch: directory.join("not/yet/there") }
}

/// Enters chroot isolation, and does `work` inside.
fn inside(directory: &Path, work: impl FnOnce(Sandbox)) -> Option<Ended> {
    match sandbox::enter(&config(directory, Some(Isolation::Chroot))).expect("chroot isolation") {
        Entered::Inside(sandbox) => {
            assert_eq!(sandbox.isolation(), Isolation::Chroot);
            assert!(sandbox.refused().is_empty() && !sandbox.remarks().is_empty());
            work(sandbox);
            None
        }
        Entered::Outside(ended) => Some(ended),
    }
}

/// As [`inside`], for work that is all there is to a case.
fn case(directory: &Path, work: impl FnOnce(Sandbox)) {
    let ended = inside(directory, work);
    assert!(matches!(ended, None | Some(Ended::Exited(0))), "{ended:?}");
}

/// A root with busybox, a hostile /dev and a link for resolv.conf.
fn root(directory: &Path) -> PathBuf {
    let root = directory.join("root");
    for name in ["bin", "etc", "run", "tmp", "srv", "dev/kept"] {
        fs::create_dir_all(root.join(name)).expect("mkdir");
    }
    fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).expect("chmod");
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let busybox = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fixtures/busybox/bin");
    fs::copy(busybox.join(format!("busybox-{arch}")), root.join("bin/busybox")).expect("the busybox fixture");
    for name in ["sh", "ls", "cat", "id", "sleep", "rm", "mkdir", "mv", "mknod", "chroot", "touch", "setsid"]
    {
        symlink("busybox", root.join("bin").join(name)).expect("symlink");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\n")
        .expect("write");
    fs::write(root.join("etc/group"), "extra:x:2000:app\n").expect("write");
    symlink("/etc/passwd", root.join("dev/null")).expect("symlink");
    symlink("../run/resolv.conf", root.join("etc/resolv.conf")).expect("symlink");
    fs::write(root.join("etc/hosts"), "of the image\n").expect("write");
    fs::write(directory.join("resolv"), "nameserver 192.0.2.1\n").expect("write");
    fs::write(directory.join("names"), "127.0.0.1 localhost").expect("write");
    root
}

fn spec(root: &Path, script: &str) -> RunSpec {
    let directory = root.parent().expect("a parent");
    RunSpec {
        root: RootPlace::Directory { path: root.to_owned() },
        isolation: Isolation::Chroot,
        special_owners: Vec::new(),
        interpreters: Vec::new(),
        argv: ["/bin/sh", "-c", script].map(|word| word.as_bytes().to_vec()).to_vec(),
        env: vec![(b"PATH".to_vec(), b"/bin".to_vec())],
        hidden_env: Vec::new(),
        cwd: b"/".to_vec(),
        user: String::new(),
        network: Network::Host,
        hostname: "fanfold".into(),
        resolv_conf: directory.join("resolv"),
        hosts: directory.join("names"),
        extra_hosts: vec![("extra".into(), "10.0.0.1".into())],
        mounts: Vec::new(),
        aside: directory.to_owned(),
        shm_size: None,
        ulimits: Vec::new(),
        linux32: false,
    }
}

/// Runs a command, and gives how it ended and what it wrote.
fn run(sandbox: &Sandbox, spec: &RunSpec) -> (Result<RunEnd, RunError>, String) {
    let Spawned { running, stdout, stderr } = match sandbox.spawn(spec) {
        Ok(spawned) => spawned,
        Err(error) => return (Err(error), String::new()),
    };
    let mut text = String::new();
    fs::File::from(stdout).read_to_string(&mut text).expect("output");
    fs::File::from(stderr).read_to_string(&mut text).expect("output");
    (running.wait(), text)
}

/// Runs a script that has to succeed.
fn ok(sandbox: &Sandbox, spec: &RunSpec) -> (RunEnd, String) {
    let (end, text) = run(sandbox, spec);
    let end = end.unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(end.ended, Ended::Exited(0), "{text}");
    (end, text)
}

fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| !text.contains(") Z "))
}

fn await_file(path: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => assert!(Instant::now() < deadline, "{} does not appear", path.display()),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn await_death(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether commands have a process namespace here, so that their process ids say nothing outside.
fn has_spaces(sandbox: &Sandbox) -> bool {
    !sandbox.remarks().iter().any(|remark| remark.contains("no /proc"))
}

fn commands(directory: &Path) {
    case(directory, |sandbox| {
        let root = root(directory);
        let (_, text) = ok(&sandbox, &spec(&root, "id -u; id -G; cat /etc/hosts /etc/resolv.conf; ls /dev"));
        assert!(
            text.starts_with("0\n0\n127.0.0.1 localhost\n10.0.0.1\textra\nnameserver 192.0.2.1\n"),
            "{text}"
        );
        for device in ["null", "zero", "full", "random", "urandom", "tty", "fd", "shm"] {
            assert!(text.lines().any(|line| line == device), "{text}");
        }
        assert!(!text.contains("kept"), "{text}");
        let script =
            "echo x > /dev/null && ! mknod /tmp/n c 1 3 && ! chroot /tmp /x && ! ls /proc/1/root/bin";
        let (_, text) = ok(&sandbox, &spec(&root, script));
        assert!(!text.contains("busybox"), "{text}");
        let app =
            RunSpec { user: "app".into(), ..spec(&root, "id -u; id -G; touch /tmp/own; ! touch /etc/x") };
        let (_, text) = ok(&sandbox, &app);
        assert!(text.starts_with("1000\n1001 2000\n"), "{text}");
        let made = fs::metadata(root.join("tmp/own")).expect("a file");
        assert_eq!((made.uid(), made.gid()), (1000, 1001));
        let (end, _) = run(&sandbox, &spec(&root, "exit 7"));
        assert_eq!(end.expect("an end").ended, Ended::Exited(7));
        let missing = RunSpec { argv: vec![b"nothing".to_vec()], ..spec(&root, "") };
        assert!(matches!(run(&sandbox, &missing).0, Err(RunError::Exec { code: 127, .. })));
        // With a process namespace the command has a /proc of its own, else none.
        let (_, text) = ok(&sandbox, &spec(&root, "ls /proc"));
        assert_eq!(text.contains("self"), has_spaces(&sandbox), "{text}");
        // Without network namespaces a filter of calls stands for them, and takes the loopback device too.
        let script = "/bin/busybox ifconfig lo > /dev/null 2>&1; echo $?";
        let (end, text) = ok(&sandbox, &RunSpec { network: Network::None, ..spec(&root, script) });
        assert_eq!(text == "0\n", has_spaces(&sandbox), "{text}");
        assert_eq!(end.notes.iter().any(|note| note.contains("loopback")), !has_spaces(&sandbox));
        let (_, text) = ok(&sandbox, &spec(&root, script));
        assert_eq!(text, "0\n");
    });
}

/// All of a tree but change times.
fn listing(top: &Path, name: &str, lines: &mut Vec<String>) {
    let path = top.join(name);
    let found = fs::symlink_metadata(&path).expect("stat");
    lines.push(format!(
        "{name} {:o} {}:{} {} {}.{}",
        found.mode(),
        found.uid(),
        found.gid(),
        found.ino(),
        found.mtime(),
        found.mtime_nsec()
    ));
    if found.is_dir() {
        let mut names: Vec<_> =
            fs::read_dir(&path).expect("readdir").map(|entry| entry.expect("entry")).collect();
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            listing(top, &format!("{name}/{}", entry.file_name().to_string_lossy()), lines);
        }
    }
}

fn tree(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    listing(top, ".", &mut lines);
    lines
}

fn root_is_put_back(directory: &Path) {
    case(directory, |sandbox| {
        let root = root(directory);
        let before = tree(&root);
        let (end, _) = ok(&sandbox, &spec(&root, "true"));
        assert_eq!(tree(&root), before);
        assert_eq!(end.stubs_left, Vec::<Vec<u8>>::new());
        for path in ["dev", "etc/resolv.conf", "etc/hosts"] {
            assert!(end.untouched.contains(&path.as_bytes().to_vec()), "{:?}", end.untouched);
        }
        // What a command does to our things is dropped.
        let script =
            "rm -rf /dev/shm /etc/hosts; mkdir /etc/hosts; echo x >> /etc/resolv.conf; touch /dev/x; true";
        ok(&sandbox, &spec(&root, script));
        let changed: Vec<_> = tree(&root).into_iter().filter(|line| !before.contains(line)).collect();
        assert!(changed.iter().all(|line| line.starts_with("./etc ")), "{changed:?}");
        // What it does to the directory around them is kept.
        ok(&sandbox, &spec(&root, "mv /etc /old; mkdir /etc; echo mine > /etc/hosts"));
        assert_eq!(fs::read(root.join("etc/hosts")).expect("a file"), b"mine\n");
        assert_eq!(fs::read(root.join("old/hosts")).expect("a file"), b"of the image\n");
        assert!(!root.join("etc/resolv.conf").exists() && root.join("old/resolv.conf").is_symlink());
        let aside = fs::read_dir(directory).expect("readdir").map(|entry| entry.expect("entry").file_name());
        assert!(!aside.into_iter().any(|name| name.to_string_lossy().starts_with(".aside")));
        // No link leads out of the root.
        fs::remove_dir_all(root.join("etc")).expect("rm");
        symlink("../../../../../../../etc", root.join("etc")).expect("symlink");
        assert!(
            run(&sandbox, &spec(&root, "true")).0.is_err() || !Path::new("/etc/resolv.conf").is_symlink()
        );
    });
}

fn mounts(directory: &Path) {
    case(directory, |sandbox| {
        let root = root(directory);
        for name in ["cache", "source"] {
            fs::create_dir(directory.join(name)).expect("mkdir");
            fs::write(directory.join(name).join("file"), name).expect("write");
        }
        fs::write(root.join("srv/hidden"), "original").expect("write");
        let agent = std::os::unix::net::UnixListener::bind(directory.join("agent")).expect("a socket");
        let before = tree(&root);
        let at = |name: &str| format!("/srv/{name}").into_bytes();
        let spec = RunSpec {
            cwd: b"/srv/cache/deep/er".to_vec(),
            mounts: vec![
                Mount::Tmpfs { target: b"/srv".to_vec(), size: Some(4096) },
                Mount::Directory { path: directory.join("cache"), target: at("cache"), read_only: false },
                Mount::Directory { path: directory.join("source"), target: at("source"), read_only: true },
                Mount::File {
                    content: Hidden::new(b"#!/bin/sh\necho script\n".to_vec()),
                    target: b"/dev/run".to_vec(),
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                    secret: false,
                },
                Mount::Socket {
                    path: directory.join("agent"),
                    target: b"/run/new/agent".to_vec(),
                    uid: 0,
                    gid: 0,
                },
            ],
            ..spec(
                &root,
                "test ! -e /srv/hidden && cat ../../file && echo more > ../../more && cat /srv/source/file && \
                 echo x > /srv/source/file && /dev/run && test -S /run/new/agent",
            )
        };
        let (end, text) = ok(&sandbox, &spec);
        assert_eq!(text, "cachesourcescript\n");
        assert!(end.notes.len() == 1 && end.notes[0].contains("/srv has no limit"), "{:?}", end.notes);
        assert_eq!(tree(&root), before);
        assert!(end.untouched.contains(&b"srv".to_vec()), "{:?}", end.untouched);
        assert_eq!(fs::read(directory.join("cache/more")).expect("kept"), b"more\n");
        assert_eq!(fs::read(directory.join("source/file")).expect("kept"), b"source");
        drop(agent);
        // A command that removes the place of a cache leaves an empty one.
        let rude = RunSpec {
            cwd: b"/".to_vec(),
            mounts: spec.mounts[1..2].to_vec(),
            argv: ["/bin/sh", "-c", "rm -rf /srv/cache"].map(|word| word.as_bytes().to_vec()).to_vec(),
            ..spec.clone()
        };
        ok(&sandbox, &rude);
        assert_eq!(fs::read_dir(directory.join("cache")).expect("a directory").count(), 0);
        assert_eq!(tree(&root).len(), before.len());
        // A command that mounts one directory twice has it once; a file is mounted as well.
        fs::write(directory.join("single"), "single").expect("write");
        let twice = |name: &str| Mount::Directory {
            path: directory.join("cache"),
            target: at(name),
            read_only: name == "read",
        };
        let single = |name: &str, read_only| Mount::Directory {
            path: directory.join("single"),
            target: at(name),
            read_only,
        };
        let script = "echo x > /srv/one/x && cat /srv/two/x && mv /srv/two/x /srv/two/y && ls /srv/one /srv/read && \
                      echo changed > /srv/copied && cat /srv/single && echo kept > /srv/single";
        let both = RunSpec {
            cwd: b"/".to_vec(),
            mounts: vec![
                twice("one"),
                twice("two"),
                twice("one"),
                twice("read"),
                single("copied", true),
                single("single", false),
            ],
            argv: ["/bin/sh", "-c", script].map(|word| word.as_bytes().to_vec()).to_vec(),
            ..spec.clone()
        };
        let (_, text) = ok(&sandbox, &both);
        assert_eq!(text, "x\n/srv/one:\ny\n\n/srv/read:\nsingle");
        assert_eq!(fs::read(directory.join("cache/y")).expect("kept"), b"x\n");
        assert_eq!(fs::read(directory.join("single")).expect("kept"), b"kept\n");
        assert_eq!(tree(&root).len(), before.len());
        // Across file systems a cache is copied there and back.
        if let Ok(far) = tempfile::tempdir_in("/dev/shm") {
            fs::create_dir(far.path().join("cache")).expect("mkdir");
            fs::write(far.path().join("cache/a"), "a").expect("write");
            let mount =
                Mount::Directory { path: far.path().join("cache"), target: at("far"), read_only: false };
            let script = "cat /srv/far/a && rm /srv/far/a && echo b > /srv/far/b";
            let argv = ["/bin/sh", "-c", script].map(|word| word.as_bytes().to_vec()).to_vec();
            let (_, text) = ok(&sandbox, &RunSpec { mounts: vec![mount], argv, cwd: b"/".to_vec(), ..spec });
            assert_eq!(text, "a");
            assert_eq!(fs::read(far.path().join("cache/b")).expect("kept"), b"b\n");
            assert!(!far.path().join("cache/a").exists());
            assert_eq!(fs::read_dir(far.path()).expect("readdir").count(), 1);
        }
    });
}

fn secrets(directory: &Path) {
    case(directory, |sandbox| {
        let secret = |target: &str| Mount::File {
            content: Hidden::new(b"hunter2".to_vec()),
            target: target.as_bytes().to_vec(),
            mode: 0o400,
            uid: 1000,
            gid: 1001,
            secret: true,
        };
        let script = "cat /run/secrets/a";
        let on = |directory: &Path| {
            let root = root(directory);
            let spec =
                RunSpec { mounts: vec![secret("/run/secrets/a")], user: "app".into(), ..spec(&root, script) };
            let before = tree(&root);
            let result = run(&sandbox, &spec);
            assert_eq!(tree(&root), before);
            result
        };
        let is_memory = |path: &Path| rustix::fs::statfs(path).expect("statfs").f_type == 0x0102_1994;
        if !is_memory(directory) {
            let (end, _) = on(directory);
            let text = end.expect_err("a secret on a disk").to_string();
            assert!(text.contains("env=NAME") && !text.contains("hunter2"), "{text}");
        }
        if let Ok(memory) = tempfile::tempdir_in("/dev/shm")
            && is_memory(memory.path())
        {
            let (end, text) = on(memory.path());
            assert_eq!((end.expect("an end").ended, text.as_str()), (Ended::Exited(0), "hunter2"));
        }
        let root = root(&directory.join("again"));
        let layers = Mount::Layers {
            lowers: vec![directory.to_owned()],
            discard: None,
            source: b"/".to_vec(),
            target: b"/srv".to_vec(),
        };
        let end = run(&sandbox, &RunSpec { mounts: vec![layers], ..spec(&root, "true") }).0;
        assert!(matches!(end, Err(RunError::Mount { .. })), "{end:?}");
    });
}

/// A script that leaves a process in a session of its own, and waits.
const DETACHED: &str = "setsid sh -c 'echo $$ > /tmp/pid; sleep 1000' & sleep 1000";

fn kills(directory: &Path) {
    case(directory, |sandbox| {
        let root = root(directory);
        let before = tree(&root);
        let spawned = sandbox.spawn(&spec(&root, DETACHED)).expect("a command");
        let pid = await_file(&root.join("tmp/pid"));
        spawned.running.killer().kill().expect("kill");
        assert_eq!(spawned.running.wait().expect("an end").ended, Ended::Signaled(9));
        assert!(has_spaces(&sandbox) || !is_alive(&pid));
        fs::remove_file(root.join("tmp/pid")).expect("rm");
        assert_eq!(tree(&root).len(), before.len());
        // What a command leaves behind ends with it.
        let (_, text) = ok(&sandbox, &spec(&root, "setsid sleep 1000 > /dev/null 2>&1 & echo $!"));
        assert!(has_spaces(&sandbox) || !is_alive(text.trim()));
    });
}

/// Builds in a process of its own, and gives the ids of that and of the detached process.
fn build(directory: &Path, sandbox: &Sandbox) {
    let root = root(directory);
    let _running = sandbox.spawn(&spec(&root, DETACHED)).expect("a command");
    let inner = await_file(&root.join("tmp/pid"));
    // In a process namespace the ids are others: the one that sleeps is found by its parents' end.
    let shown = if has_spaces(sandbox) { "none".to_owned() } else { inner };
    fs::write(directory.join("ready"), format!("{} {shown}\n", std::process::id())).expect("write");
    std::thread::sleep(Duration::from_secs(1000));
}

fn build_is_killed(directory: &Path) {
    // Another process looks on, as this one waits in the library.
    if directory.join("watched").exists() {
        let ended = inside(directory, |sandbox| build(directory, &sandbox));
        assert_eq!(ended, Some(Ended::Signaled(9)));
        return;
    }
    let (mut original, build, inner) = watch("build_is_killed", directory);
    kill(&build);
    assert!(original.wait().expect("an end").success());
    assert!(!is_alive(&inner) && !is_alive(&build));
}

fn original_is_killed(directory: &Path) {
    if directory.join("watched").exists() {
        inside(directory, |sandbox| build(directory, &sandbox));
        return;
    }
    let (mut original, build, inner) = watch("original_is_killed", directory);
    original.kill().expect("kill");
    original.wait().expect("an end");
    await_death(&build);
    await_death(&inner);
    // The helper lives until it has put the root back.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !directory.join("root/dev/kept").exists() {
        assert!(Instant::now() < deadline, "the root is not put back");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn watch(name: &str, directory: &Path) -> (Child, String, String) {
    fs::write(directory.join("watched"), "").expect("write");
    let original = own("case-same", name, directory);
    let ready = await_file(&directory.join("ready"));
    let (build, inner) = ready.split_once(' ').expect("two ids");
    (original, build.to_owned(), inner.to_owned())
}

fn kill(pid: &str) {
    let pid = rustix::process::Pid::from_raw(pid.parse().expect("an id")).expect("an id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
}

fn refusals(directory: &Path) {
    let all = sandbox::probe_ladder(&config(directory, None));
    assert_eq!(all.iter().map(|(isolation, _)| *isolation).collect::<Vec<_>>(), Isolation::LADDER);
    let chroot = all.iter().find(|(isolation, _)| *isolation == Isolation::Chroot).expect("a rung");
    assert_eq!(chroot.1, Ok(()));
    // Without the capability the rung is refused, with the call that failed and what helps.
    rustix::thread::remove_capability_from_bounding_set(CapabilitySet::SYS_CHROOT).expect("prctl");
    let mut sets = rustix::thread::capabilities(None).expect("capget");
    sets.effective.remove(CapabilitySet::SYS_CHROOT);
    sets.permitted.remove(CapabilitySet::SYS_CHROOT);
    rustix::thread::set_capabilities(None, sets).expect("capset");
    let error = sandbox::enter(&config(directory, Some(Isolation::Chroot))).expect_err("a refusal");
    let text = error.to_string();
    assert!(
        text.starts_with("no isolation works here: chroot: chroot(\".\"): Operation not permitted"),
        "{text}"
    );
    assert!(error.fix().is_some_and(|fix| fix.contains("SYS_CHROOT")));
    assert_eq!(fs::read_dir(directory).expect("readdir").count(), 0);
}

fn whole_tree_in_namespaces(directory: &Path) {
    match sandbox::enter(&config(directory, Some(Isolation::Userns))).expect("a user namespace") {
        Entered::Outside(ended) => assert_eq!(ended, Ended::Exited(0)),
        Entered::Inside(sandbox) => {
            let root = root(directory);
            let before = tree(&root);
            let own = |script| RunSpec { isolation: Isolation::Userns, ..spec(&root, script) };
            let (end, text) =
                ok(&sandbox, &own("ls /proc/self/fd && cat /etc/resolv.conf && echo > /dev/null"));
            assert!(text.ends_with("nameserver 192.0.2.1\n"), "{text}");
            assert!(end.stubs_left.is_empty() && end.untouched.is_empty());
            assert_eq!(tree(&root), before);
            ok(&sandbox, &own("id -u > /made && ! rm /etc/hosts"));
            assert_eq!(fs::read(root.join("made")).expect("a file"), b"0\n");
        }
    }
}
