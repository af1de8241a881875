//! What a command of a build can see and do, what stays behind on the host, and
//! that root and a plain user get the same result.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{HostState, Index, User, World, base, users};

fn layout(world: &World, name: &str) -> String {
    format!("type=oci,tar=false,dest={}", world.path(&format!("out/{name}")).display())
}

/// Builds for two platforms into the layout `out/layout`.
fn build_two(world: &World, context: &std::path::Path) -> support::Outcome {
    world
        .build()
        .args(["--platform", "linux/amd64,linux/arm64", "--build-arg", &base()])
        .args(["-o", &layout(world, "layout")])
        .arg(context)
        .run()
}

#[test]
fn commands_see_little_of_the_host() {
    for user in users() {
        let world = World::of(user);
        let context = world.context(
            "context",
            "ARG BASE\n\
             FROM $BASE\n\
             RUN grep -e ^Cap /proc/self/status > /capabilities\n\
             RUN open=; for n in $(seq 0 63); do if test -e /proc/$$/fd/$n; then open=$open$n,; fi; done; echo $open > /descriptors\n\
             RUN [\"/bin/sh\", \"-c\", \"env | sort > /environment\"]\n\
             RUN ls -d /proc/[0-9]* | wc -l > /processes\n\
             RUN cat /proc/self/mountinfo > /mounts\n\
             RUN ls /dev > /devices && test -c /dev/null && test -w /dev/null && echo x > /dev/null\n\
             RUN if echo x > /proc/sys/kernel/domainname; then exit 1; fi; if echo 0 > /proc/sysrq-trigger; then exit 1; fi\n\
             RUN if mount -t tmpfs none /tmp; then exit 1; fi; if mknod /blk b 8 0; then exit 1; fi\n\
             RUN if touch /sys/written; then exit 1; fi\n\
             RUN hostname > /hostname && umask > /umask && ulimit -n > /files\n",
        );
        world
            .build()
            .env("SECRET_OF_THE_HOST", "must-not-leak")
            .env("QEMU_CPU", "max")
            .args([
                "--platform",
                "linux/amd64,linux/arm64",
                "--build-arg",
                &base(),
                "-o",
                &layout(&world, "layout"),
            ])
            .arg(&context)
            .run()
            .success()
            .lacks("must-not-leak");
        for image in &Index::layout(&world.path("out/layout")).images {
            let tree = image.tree();
            let capabilities = tree.text("/capabilities");
            // Docker's fourteen; none inherited, none ambient.
            for (set, value) in [
                ("CapInh", "0000000000000000"),
                ("CapPrm", "00000000a80425fb"),
                ("CapEff", "00000000a80425fb"),
                ("CapBnd", "00000000a80425fb"),
                ("CapAmb", "0000000000000000"),
            ] {
                assert!(
                    capabilities.contains(&format!("{set}:\t{value}")),
                    "{user:?} {}: {capabilities}",
                    image.platform
                );
            }
            // An emulator may hold descriptors of its own; a native command holds three.
            if image.platform == support::native_platform() {
                assert_eq!(tree.text("/descriptors"), "0,1,2,\n", "{user:?}");
            }
            let environment = tree.text("/environment");
            let names: Vec<_> = environment.lines().filter_map(|line| line.split('=').next()).collect();
            assert!(
                names.iter().all(|name| ["HOME", "PATH", "PWD", "SHLVL", "OLDPWD"].contains(name)),
                "{user:?} {}: {environment}",
                image.platform
            );
            let processes: usize = tree.text("/processes").trim().parse().expect("a number");
            assert!(processes < 8, "{user:?}: {processes} processes are seen");
            assert!(!tree.text("/mounts").contains("fanfold-test-bin"), "{user:?}");
            let devices = tree.text("/devices");
            for device in ["null", "zero", "full", "random", "urandom", "tty"] {
                assert!(devices.lines().any(|line| line == device), "{user:?}: no /dev/{device}\n{devices}");
            }
            assert!(
                !devices.lines().any(|line| ["sda", "vda", "kmsg", "mem"].contains(&line)),
                "{user:?}: {devices}"
            );
            assert_eq!(tree.text("/umask"), "0022\n", "{user:?}");
            for stub in ["/etc/hosts", "/etc/resolv.conf", "/dev/null", "/proc/1", "/sys/kernel"] {
                assert!(tree.get(stub).is_none(), "{user:?}: {stub} is in the image");
            }
        }
    }
}

/// A Dockerfile with all that depends on who builds.
const MIXED: &str = "ARG BASE\n\
    FROM --platform=$BUILDPLATFORM $BASE AS build\n\
    RUN mkdir -p /out/d && echo b > /out/b && chown 3:4 /out/b && chmod 4750 /out/b && ln /out/b /out/h\n\
    FROM $BASE\n\
    COPY --from=build /out /o\n\
    COPY --chown=app:extra Dockerfile /home/app/\n\
    WORKDIR /w\n\
    RUN id -u > who && mkfifo p && ln -s who l && mkdir -m 2770 g && chown 1000:2000 g && chown 65534:65534 p\n\
    USER app\n\
    RUN id -G > /tmp/groups && touch /tmp/mine && if echo x > /etc/passwd; then exit 1; fi\n\
    USER root\n\
    RUN rm -r /o/d /etc/group && mv /o /moved && chmod 0 /w/who && su app -s /bin/sh -c 'id -u > /tmp/su'\n";

#[test]
fn root_and_plain_user_get_the_same_index() {
    let mut digests = Vec::new();
    let mut trees = Vec::new();
    for user in users() {
        let world = World::of(user);
        let host = HostState::now();
        let context = world.context("context", MIXED);
        world
            .build()
            .args(["--platform", "linux/amd64,linux/arm64,linux/riscv64", "--timestamp", "1700000000"])
            .args(["--build-arg", &base(), "-o", &layout(&world, "layout")])
            .arg(&context)
            .run()
            .success();
        host.unchanged();
        let index = Index::layout(&world.path("out/layout"));
        assert_eq!(index.images[0].tree().get("/moved/b").expect("b").mode, 0o4750);
        assert_eq!(index.images[0].tree().get("/moved/b").expect("b").uid, 3);
        assert_eq!(index.images[0].tree().text("/tmp/groups"), "1001 2000\n");
        assert_eq!(index.images[0].tree().text("/tmp/su"), "1000\n");
        trees.push(index.images.iter().map(|image| image.tree().lines()).collect::<Vec<_>>());
        digests.push(index.digest);
    }
    assert_eq!(trees.first(), trees.last());
    assert_eq!(digests.first(), digests.last());
}

#[test]
fn nothing_is_written_outside_the_store_and_the_outputs() {
    for user in users() {
        let world = World::of(user);
        let context = world.context("context", MIXED);
        build_two(&world, &context).success();
        for folder in ["home", "tmp"] {
            let left: Vec<_> = std::fs::read_dir(world.path(folder)).expect("a folder").flatten().collect();
            assert!(left.is_empty(), "{user:?}: {left:?}");
        }
        let names: Vec<_> = std::fs::read_dir(world.path("context"))
            .expect("context")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(names, ["Dockerfile"]);
        HostState::no_process(world.root().to_str().expect("UTF-8"));
    }
}

#[test]
fn processes_of_a_step_end_with_it() {
    let mark = format!("7{:09}", std::process::id());
    for user in users() {
        let world = World::of(user);
        let context = world.context(
            "context",
            &format!(
                "ARG BASE\nFROM $BASE\nRUN sleep {mark} & (setsid sleep {mark} &) ; true\nRUN echo after\n"
            ),
        );
        let outcome = world.build().args(["--build-arg", &base()]).arg(&context).run().success();
        assert!(outcome.took < Duration::from_secs(60));
        HostState::no_process(&mark);
    }
}

/// Waits until a process with `mark` on its command line runs.
fn wait_for(mark: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !HostState::process_runs(mark) {
        assert!(Instant::now() < deadline, "the step did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn signals_leave_nothing_behind() {
    for (number, user) in users().into_iter().enumerate() {
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::KILL, 137)] {
            let world = World::of(user);
            let host = HostState::now();
            let mark = format!("8{number}{code}{:07}", std::process::id());
            // The command ignores what it can; both platforms hang at once.
            let context = world.context(
                "context",
                &format!("ARG BASE\nFROM $BASE\nRUN trap '' INT TERM HUP; echo made > /x; sleep {mark}\nRUN cat /x\n"),
            );
            let out = world.path("out/layout");
            let running = world
                .build()
                .args(["--platform", "linux/amd64,linux/arm64", "--jobs", "2", "--build-arg", &base()])
                .args(["-o", &layout(&world, "layout")])
                .arg(&context)
                .start();
            wait_for(&mark);
            running.signal(signal);
            let outcome = running.finish().code(code);
            assert!(outcome.took < Duration::from_secs(90), "{}", outcome.report());
            HostState::no_process(&mark);
            HostState::no_process(world.root().to_str().expect("UTF-8"));
            host.unchanged();
            assert!(!out.join("index.json").exists());

            // The same store serves the next build.
            let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN echo made > /x\nRUN cat /x\n");
            build_two(&world, &context).success();
            assert_eq!(Index::layout(&out).images[1].tree().text("/x"), "made\n");
        }
    }
}

#[test]
fn failure_leaves_nothing_behind() {
    for user in users() {
        let world = World::of(user);
        let host = HostState::now();
        let mark = format!("9{:09}", std::process::id());
        let context = world.context(
            "context",
            &format!("ARG BASE\nFROM $BASE\nRUN if test $(uname -m) = aarch64; then sleep {mark}; else sleep 1; exit 9; fi\n"),
        );
        world
            .build()
            .args(["--platform", "linux/amd64,linux/arm64", "--jobs", "2", "--build-arg", &base()])
            .arg(&context)
            .run()
            .code(1)
            .stderr_has("linux/amd64")
            .stderr_has("exit code: 9");
        HostState::no_process(&mark);
        HostState::no_process(world.root().to_str().expect("UTF-8"));
        host.unchanged();
    }
}

#[test]
fn plain_user_without_subordinate_ids_is_told_what_to_do() {
    if !support::is_root() {
        return;
    }
    // The plain account exists, but the files say nothing of it.
    let world = World::of(User::Plain);
    let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN true\nUSER app\nRUN true\n");
    let empty = world.write("empty", "");
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]).arg(
        "mount --bind \"$1\" /etc/subuid && mount --bind \"$1\" /etc/subgid && shift && exec setpriv \
         --reuid fanfold-test --regid fanfold-test --clear-groups \"$@\"",
    );
    let binary = world.command(world.binary());
    command.arg("sh").arg(&empty).arg(binary.get_program()).args(["build", "--root"]).arg(world.root());
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", world.path("home"));
    let outcome = support::Run::new(command).args(["--build-arg", &base()]).arg(&context).run();
    // Either a single id is enough for this build, or the error says what helps.
    if outcome.exit() != 0 {
        outcome.stderr_has("subuid");
    }
}

#[test]
fn nobody_else_reaches_the_programs_of_an_image_in_the_store() {
    // In root's store a setuid program of an image is a setuid program of the host.
    for user in users() {
        let world = World::of(user);
        let context = world
            .context("context", "ARG BASE\nFROM $BASE\nRUN cp /usr/bin/busybox /evil && chmod 4755 /evil\n");
        world.build().args(["--build-arg", &base()]).arg(&context).run().success();
        for place in ["layers", "scratch"] {
            let mode = std::fs::metadata(world.root().join(place)).expect(place).permissions().mode();
            assert_eq!(mode & 0o077, 0, "{user:?}: others can enter {place}: {mode:o}");
        }
    }
}
