//! Limits of time, memory, processor and processes: what is reached is named, and nothing of it stays.

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::{HostState, User, World, base, is_root, native_platform, users};

/// Whether root can make cgroups of version 1 here.
fn has_cgroups() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    is_root() && mounts.lines().any(|line| line.contains(" cgroup rw,") && line.contains("memory"))
}

/// Cgroups below /sys/fs/cgroup that the build with this process has made.
fn cgroups(pid: u32) -> Vec<PathBuf> {
    fn walk(folder: &Path, mark: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(mark) {
                    found.push(entry.path());
                }
                walk(&entry.path(), mark, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), &format!("fanfold-build-{pid:08x}-"), &mut found);
    found
}

/// Builds one RUN with these arguments, and looks that no cgroup is left.
#[track_caller]
fn limited(run: &str, arguments: &[&str]) -> support::Outcome {
    let world = World::new();
    let context = world.context("context", &format!("ARG BASE\nFROM $BASE\nRUN {run}\n"));
    let running = world.build().args(["--build-arg", &base()]).args(arguments).arg(&context).start();
    let pid = running.id();
    let outcome = running.finish();
    assert_eq!(cgroups(pid), Vec::<PathBuf>::new(), "{}", outcome.report());
    outcome
}

#[test]
fn memory_that_runs_out_is_named_with_its_figures() {
    if !has_cgroups() {
        return;
    }
    limited("x=a; while true; do x=$x$x; done", &["--memory", "64m"])
        .code(1)
        .stderr_has(
            "ended by signal 9: the kernel ended it, as it used more than the 64 MiB of --memory (peak 6",
        )
        .stderr_has("hint: give it more with --memory")
        .stderr_has("Dockerfile:3");
    limited("sh -c 'x=a; while true; do x=$x$x; done'; exit 3", &["-m", "64m"])
        .code(1)
        .stderr_has("exit code: 3; before, the kernel ended 1 of its processes");
    limited("echo small", &["--memory", "64m"]).success();
}

#[test]
fn a_fork_bomb_stops_at_its_limit() {
    if !has_cgroups() {
        return;
    }
    limited("b() { b | b & }; b; sleep 1; exit 7", &["--pids", "30"])
        .code(1)
        .stderr_has("more processes and threads than the 30 of --pids");
    limited("true", &["--pids-limit", "30"]).success();
}

#[test]
fn processor_time_is_shared_out() {
    if !has_cgroups() {
        return;
    }
    // The kernel's own count of this command's cgroup: it has had to wait.
    let cgroup =
        "cd /sys/fs/cgroup/cpu/$(sed -n -E 's/^[0-9]+:cpu(,cpuacct)?://p' /proc/self/cgroup) || exit 9";
    let work = "n=0; while test $n -lt 200000; do n=$((n+1)); done";
    limited(&format!("{cgroup}; cat cpu.cfs_quota_us; {work}; cat cpu.stat"), &["--cpus", "0.25"])
        .success()
        .stderr_has(" 25000\n")
        .stderr_has("nr_throttled")
        .lacks("nr_throttled 0");
}

#[test]
fn a_killed_build_leaves_nothing_for_long() {
    if !has_cgroups() {
        return;
    }
    let world = World::new();
    let mark = format!("6{:09}", std::process::id());
    let context = world.context("context", &format!("ARG BASE\nFROM $BASE\nRUN sleep {mark}\n"));
    let running = world.build().args(["--build-arg", &base(), "--pids", "30"]).arg(&context).start();
    let pid = running.id();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !HostState::process_runs(&format!("sleep {mark}")) {
        assert!(Instant::now() < deadline, "the command does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!cgroups(pid).is_empty());
    running.kill();
    running.finish();
    HostState::no_process(&mark);
    limited("true", &["--pids", "30"]).success();
    assert!(cgroups(pid).is_empty());
}

#[test]
fn a_user_without_cgroups_is_told_why() {
    if !is_root() {
        return;
    }
    let world = World::of(User::Plain);
    let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN echo has-run\n");
    world
        .build()
        .args(["--build-arg", &base(), "--memory", "64m", "--cpus", "1"])
        .arg(&context)
        .run()
        .code(5)
        .stderr_has("cgroup v2: ")
        .stderr_has("cgroup v1: ")
        .stderr_has("systemd-run --user --scope -p Delegate=yes")
        .lacks("has-run");
}

#[test]
fn a_step_that_takes_too_long_has_failed() {
    for (number, user) in users().into_iter().enumerate() {
        let world = World::of(user);
        let mark = format!("5{number}{:08}", std::process::id());
        let context = world
            .context("context", &format!("ARG BASE\nFROM $BASE\nRUN trap '' INT TERM; sleep {mark}; :\n"));
        world
            .build()
            .args(["--build-arg", &base(), "--step-timeout", "1s"])
            .arg(&context)
            .run()
            .code(1)
            .stderr_has("it ran longer than the 1.0s of --step-timeout")
            .stderr_has(native_platform())
            .stderr_has("Dockerfile:3");
        HostState::no_process(&mark);
    }
}

#[test]
fn a_build_that_takes_too_long_ends_in_order() {
    for (number, user) in users().into_iter().enumerate() {
        let world = World::of(user);
        let mark = format!("4{number}{:08}", std::process::id());
        let context = world.context("context", &format!("ARG BASE\nFROM $BASE\nRUN sleep {mark}; :\n"));
        let out = world.path("out/layout");
        world
            .build()
            .args(["--build-arg", &base(), "--timeout", "2s", "-o", &support::layout(&out)])
            .arg(&context)
            .run()
            .code(75)
            .stderr_has("the build took longer than the 2.0s of --timeout, with this step running for ")
            .stderr_has(native_platform())
            .stderr_has("Dockerfile:3");
        HostState::no_process(&mark);
        assert!(!out.join("index.json").exists());
    }
}

#[test]
fn rlimits_are_those_of_the_caller_unless_asked() {
    for user in users() {
        let world = World::of(user);
        let mut command = world.command("grep");
        command.args(["^Max", "/proc/self/limits"]);
        let outside = support::Run::new(command).run().success().stdout;
        let run = "grep ^Max /proc/self/limits; echo nofile-$(ulimit -n)-$(ulimit -H -n)";
        let context = world.context("context", &format!("ARG BASE\nFROM $BASE\nRUN {run}\n"));
        let build = || world.build().env("FANFOLD_PROGRESS", "json").args(["--build-arg", &base()]);
        // A build makes no core dumps, whoever calls it.
        let of = |lines: Vec<String>| -> Vec<String> {
            lines.into_iter().filter(|line| line.starts_with("Max ") && !line.contains("core")).collect()
        };
        let lines = build().arg(&context).run().success().output_lines();
        let inside = of(lines.into_iter().map(|(_, line)| line).collect());
        assert_eq!(inside, of(outside.lines().map(str::to_owned).collect()), "{user:?}");
        let asked = build().args(["--no-cache", "--ulimit", "nofile=100:200"]).arg(&context).run().success();
        assert_eq!(asked.printed("nofile-100-200"), 1, "{}", asked.report());
    }
    let world = World::of(User::Plain);
    let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN echo has-run\n");
    world
        .build()
        .args(["--build-arg", &base(), "--ulimit", "nofile=1000000000:2000000000"])
        .arg(&context)
        .run()
        .code(2)
        .stderr_has("--ulimit nofile: 2000000000 is above the hard limit")
        .lacks("has-run");
}

/// A program for arm64 of one instruction that no processor knows.
fn undefined_instruction() -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0".to_vec();
    for number in [0x40_0078_u64, 64, 0] {
        file.extend(number.to_le_bytes());
    }
    // Flags; sizes and counts of headers; one segment to load, read and execute.
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0]);
    for number in [0_u64, 0x40_0000, 0x40_0000, 124, 124, 0x1_0000] {
        file.extend(number.to_le_bytes());
    }
    file.extend([0; 4]);
    file
}

#[test]
fn a_crash_under_emulation_names_the_emulator() {
    if native_platform() == "linux/arm64" {
        return;
    }
    let world = World::new();
    world.write("context/crash", undefined_instruction());
    let lines = "ARG BASE\nFROM $BASE\nCOPY --chmod=755 crash /crash\nRUN echo first; /crash; exit $?\n";
    let context = world.context("context", lines);
    world
        .build()
        .args(["--platform", "linux/arm64", "--build-arg", &base()])
        .arg(&context)
        .run()
        .code(1)
        .stderr_has("exit code: 132")
        .stderr_has("hint: RUN failed with status 132 under qemu-aarch64")
        .stderr_has("or build this stage on $BUILDPLATFORM");
}
