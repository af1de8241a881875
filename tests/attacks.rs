//! Hostile steps and hostile images on every rung: nothing outside of the root is read or written,
//! and nothing stays behind. What archives, contexts, mounts and secrets could do is in the tests of
//! those.

mod support;

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;

use support::{HostState, Item, Rung, Target, archive, base, layout, on_every_rung, sha256, tool};

// ---- what a command can reach --------------------------------------------------------------------

#[test]
fn program_that_tries_every_door() {
    // Of the chroot rung, too: a command there is root of the container, but without SYS_CHROOT it does
    // not leave its root, without MKNOD it makes no device, and without /proc it sees no process to go to.
    // It has fewer capabilities than other processes of root in the container, so that it cannot trace
    // those. What it can is send them signals, share the container's network with its abstract sockets,
    // and use its System V memory and message queues.
    let work = tempfile::tempdir().expect("a folder");
    let program = work.path().join("escape");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/escape.c");
    let flags = ["-static", "-O1", "-pthread", "-o", program.to_str().expect("UTF-8"), source];
    tool("cc", flags).success();
    for rung in Rung::built() {
        let target = Target::new(rung);
        let folder = target.folder();
        // A socket of the host, in a file that is gone before anything is counted.
        let socket = target.canary.with_file_name("socket");
        let listener = UnixListener::bind(&socket).expect("a socket");
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).expect("chmod");
        target.world.write("context/escape", std::fs::read(&program).expect("the program"));
        target
            .build(&format!(
                "COPY --chmod=755 escape /\n\
                 RUN /escape {folder} > /log-root; rm -rf /x /way /hard /moved; tail -n 1 /log-root\n\
                 USER app\n\
                 WORKDIR /tmp\n\
                 RUN /escape {folder} > /tmp/log-app; tail -n 1 /tmp/log-app\n"
            ))
            .success();
        drop(listener);
        std::fs::remove_file(&socket).expect("rm");
        let tree = target.image().tree();
        for log in ["/log-root", "/tmp/log-app"] {
            assert_eq!(tree.text(log), "done\n", "{}: {log}", target.name());
        }
        target.unharmed();
    }
}

#[test]
fn own_binary_cannot_be_written() {
    on_every_rung(|target| {
        // A copy that the builder owns: in a container it lies on the writable volume.
        let copy = target.world.path("fanfold-copy");
        std::fs::copy(target.world.binary(), &copy).expect("copy");
        let owner = std::fs::metadata(target.folder()).expect("metadata");
        chown(&copy, Some(owner.uid()), Some(owner.gid())).expect("chown");
        let before = sha256(&std::fs::read(&copy).expect("the copy"));
        let shown = copy.display();
        let tries = format!(
            "RUN for f in /proc/self/exe /proc/1/exe /proc/$PPID/exe /proc/[0-9]*/exe {shown} /proc/1/root{shown}; do \
             case $(readlink $f) in */busybox) continue;; esac; \
             if (echo x >> $f) 2>/dev/null; then echo wrote $f; fi; \
             if (dd if=/bin/busybox of=$f bs=1 count=9 conv=notrunc,nocreat) 2>/dev/null; then echo wrote $f; fi; \
             done > /tried\n"
        );
        let context = target.world.context("context", &format!("ARG BASE\nFROM $BASE\n{tries}"));
        target
            .rung
            .build_by(&target.world, Some(&copy), &[])
            .args(["--build-arg", &base(), "--output", &layout(&target.world.path("out/layout"))])
            .arg(context)
            .run()
            .success();
        assert_eq!(target.image().tree().text("/tried"), "", "{}", target.name());
        assert_eq!(sha256(&std::fs::read(&copy).expect("the copy")), before, "{}", target.name());
    });
}

#[test]
fn descriptors_of_a_command_are_three() {
    on_every_rung(|target| {
        target
            .build(
                "RUN open=; for n in $(seq 0 255); do if test -e /proc/$$/fd/$n; then open=$open$n,; fi; done; \
                 echo $open > /descriptors\n\
                 RUN for f in /proc/[0-9]*/fd/*; do readlink $f; done | sort -u > /all; true\n\
                 RUN for n in $(seq 3 9); do if (eval \"true <&$n\") 2>/dev/null; then echo $n; fi; done > /more\n",
            )
            .success();
        let tree = target.image().tree();
        let open = if target.rung.has_proc() { "0,1,2,\n" } else { "\n" };
        assert_eq!(tree.text("/descriptors"), open, "{}", target.name());
        assert_eq!(tree.text("/more"), "", "{}", target.name());
        let world = target.world.path("").display().to_string();
        assert!(!tree.text("/all").contains(&world), "{}: {}", target.name(), tree.text("/all"));
    });
}

#[test]
fn environment_of_the_builder_is_not_seen() {
    on_every_rung(|target| {
        for name in
            ["SECRET_OF_THE_HOST", "CI_JOB_TOKEN", "AWS_SECRET_ACCESS_KEY", "OTEL_EXPORTER_OTLP_HEADERS"]
        {
            target.variables.push((name, "marker-of-the-builder".to_owned()));
        }
        target
            .build(
                "RUN cat /proc/[0-9]*/environ /proc/self/environ /proc/thread-self/environ /proc/[0-9]*/cmdline \
                 2>/dev/null | tr '\\0' '\\n' > /seen; env >> /seen\n\
                 USER app\n\
                 RUN cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' > /tmp/seen; env >> /tmp/seen\n",
            )
            .success()
            .lacks("marker-of-the-builder");
        support::found_nowhere(&target.world.path("out"), "marker-of-the-builder");
        support::found_nowhere(&target.world.root(), "marker-of-the-builder");
    });
}

#[test]
fn credentials_of_the_builder_are_not_reached() {
    on_every_rung(|target| {
        let file = target.world.write(
            "home/.docker/config.json",
            r#"{"auths":{"registry.invalid":{"auth":"dXNlcjptYXJrZXItb2YtYS1wYXNzd29yZA=="}}}"#,
        );
        let file = file.display();
        target
            .build(&format!(
                "RUN find / -name config.json 2>/dev/null > /found; \
                 cat {file} /proc/[0-9]*/root{file} /proc/[0-9]*/cwd/home/.docker/config.json 2>/dev/null >> /found; true\n"
            ))
            .success();
        assert_eq!(target.image().tree().text("/found"), "", "{}", target.name());
        support::found_nowhere(&target.world.root(), "marker-of-a-password");
    });
}

#[test]
fn kernel_settings_cannot_be_written() {
    on_every_rung(|target| {
        target
            .build(
                "RUN for f in /proc/sys/kernel/domainname /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches \
                 /proc/sysrq-trigger /proc/irq/default_smp_affinity /proc/bus/pci/devices \
                 /sys/kernel/uevent_helper /sys/fs/cgroup/made /sys/fs/cgroup/memory/release_agent; do \
                 if (echo 1 > $f) 2>/dev/null; then echo wrote $f; fi; done > /written\n\
                 RUN for f in /proc/kcore /proc/keys /proc/timer_list /proc/latency_stats /proc/sched_debug; do \
                 if test -e $f && head -c 1 $f 2>/dev/null | grep -q .; then echo read $f; fi; done > /read\n\
                 RUN for f in /dev/mem /dev/kmsg /dev/kvm /dev/vda /dev/sda /dev/fuse /dev/net/tun; do \
                 if test -e $f; then echo $f; fi; done > /devices\n",
            )
            .success();
        let tree = target.image().tree();
        if target.rung.has_proc() {
            assert_eq!(tree.text("/written"), "", "{}", target.name());
        } else {
            // Files of the root's own, in empty directories that are thrown away with the command.
            let outcome = target.build("RUN test -z \"$(ls -A /proc /sys | grep -v :)\" && echo 1 > /proc/made\nRUN test ! -e /proc/made\n");
            outcome.success();
            assert!(target.image().tree().get("/proc/made").is_none(), "{}", target.name());
        }
        assert_eq!(tree.text("/read"), "", "{}", target.name());
        assert_eq!(tree.text("/devices"), "", "{}", target.name());
    });
}

// ---- images --------------------------------------------------------------------------------------

/// A base of busybox alone, with these entries where the engine wants to put something.
fn odd_root(target: &Target, items: &[Item<'_>]) -> String {
    let mut all = vec![Item::Link("bin", "usr/bin"), Item::Dir("tmp")];
    all.extend_from_slice(items);
    target.world.write("context/odd.tar", archive(&all));
    "FROM $BASE AS base\nFROM scratch\nCOPY --from=base /usr /usr\nADD odd.tar /\n".to_owned()
}

#[test]
fn devices_and_generated_files_as_something_else() {
    on_every_rung(|target| {
        let folder = target.folder();
        let canary = target.canary.display().to_string();
        let roots: [(&str, Vec<Item<'_>>); 12] = [
            ("/dev is a link", vec![Item::Link("dev", &folder)]),
            ("/dev/null is a link", vec![Item::Dir("dev"), Item::Link("dev/null", &canary)]),
            ("/dev/null is a directory", vec![Item::Dir("dev"), Item::Dir("dev/null")]),
            ("/dev/console is a link", vec![Item::Dir("dev"), Item::Link("dev/console", &canary)]),
            ("/dev/pts is a link", vec![Item::Dir("dev"), Item::Link("dev/pts", &folder)]),
            ("/proc is a link", vec![Item::Link("proc", &folder)]),
            ("/proc is a file", vec![Item::File("proc", "x")]),
            ("/sys is a link", vec![Item::Link("sys", &folder)]),
            ("/etc is a link", vec![Item::Link("etc", &folder)]),
            (
                "generated files are links",
                vec![
                    Item::Dir("etc"),
                    Item::Link("etc/resolv.conf", &canary),
                    Item::Link("etc/hosts", "../../../../../../../../proc/self/cwd/canary"),
                    Item::Link("etc/hostname", &canary),
                ],
            ),
            (
                "generated files are directories",
                vec![Item::Dir("etc"), Item::Dir("etc/resolv.conf"), Item::Dir("etc/hosts")],
            ),
            (
                "generated files are pipes",
                vec![Item::Dir("etc"), Item::Fifo("etc/resolv.conf"), Item::Fifo("etc/hosts")],
            ),
        ];
        for (what, items) in roots {
            let lines = odd_root(target, &items);
            let outcome = target
                .lines(&format!(
                    "{lines}RUN (echo written > /dev/null; echo written > /dev/console; echo 1 > /proc/sys/kernel/domainname; \
                     timeout 5 cat /etc/hosts /etc/resolv.conf /proc/canary /sys/canary /dev/canary) 2>/dev/null; touch /ran\n"
                ))
                .run();
            target.ended(&outcome);
            if outcome.exit() == 0 {
                let tree = target.image().tree();
                assert!(tree.get("/ran").is_some(), "{}: {what}", target.name());
                // What a link was, it is in the result.
                for item in &items {
                    if let Item::Link(name, to) = item {
                        let node =
                            tree.get(format!("/{name}")).unwrap_or_else(|| panic!("{what}: no {name}"));
                        assert_eq!(
                            node.kind,
                            support::Kind::Symlink(to.as_bytes().to_vec()),
                            "{}: {what}",
                            target.name()
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn accounts_that_are_no_plain_file() {
    on_every_rung(|target| {
        target.world.write("accounts/passwd", "evil:x:0:0::/:/bin/sh\n");
        let accounts = target.world.path("accounts/passwd");
        let accounts = accounts.display();
        let files = [
            format!("ln -s {accounts} /etc/passwd"),
            format!("ln -s ../../../../../../../../..{accounts} /etc/passwd"),
            "ln -s /proc/1/root/etc/passwd /etc/passwd".to_owned(),
            "mkfifo /etc/passwd".to_owned(),
            "mkdir /etc/passwd".to_owned(),
            "yes 'x:x:1:1::/:/bin/sh' | head -c 20000000 > /etc/passwd".to_owned(),
            "head -c 1500000 /dev/zero | tr '\\0' x > /etc/passwd".to_owned(),
        ];
        for file in files {
            for use_of_it in ["USER evil\nRUN id -u > /tmp/id\n", "COPY --chown=evil Dockerfile /copied\n"] {
                let outcome = target.build(&format!("RUN rm /etc/passwd && {file}\n{use_of_it}"));
                assert!(
                    [1, 2].contains(&outcome.exit()),
                    "{}: {file}, {use_of_it}: {}",
                    target.name(),
                    outcome.report()
                );
                target.ended(&outcome);
            }
            // Numbers need no account, but a home is looked for: nobody waits for a pipe.
            let outcome = target.build(&format!("RUN rm /etc/passwd && {file}\nUSER 77:78\nRUN true\n"));
            target.ended(&outcome);
        }
        // Groups are read by the same rules.
        let outcome =
            target.build("RUN rm /etc/group && mkfifo /etc/group\nUSER app\nRUN id -G > /tmp/groups\n");
        target.ended(&outcome);
    });
}

#[test]
fn user_numbers_do_not_wrap_around() {
    on_every_rung(|target| {
        for user in
            ["4294967296", "-1", "4294967295", "0x0", "1e3", "1:4294967296", "18446744073709551616", "+0"]
        {
            let outcome = target.build(&format!("USER {user}\nRUN id -u > /tmp/id\n"));
            assert!([1, 2].contains(&outcome.exit()), "{}: {user}: {}", target.name(), outcome.report());
        }
    });
}

// ---- working directories -------------------------------------------------------------------------

#[test]
fn working_directories_stay_inside() {
    on_every_rung(|target| {
        let folder = target.folder();
        // What is seen from there; a canary's name must not be.
        let look = "RUN pwd -P; ls . .. ../.. ../../.. 2>/dev/null; cat canary ../canary 2>/dev/null; touch here; true\n";
        for dir in [
            "/proc/self/fd/7",
            "/proc/self/fd/3/..",
            "/proc/1/cwd",
            "/proc/1/root",
            "/proc/self/cwd/..",
            "/dev/fd/3",
            "../../../../../../../..",
            "/w",
            "/w/x",
            "/up",
            "/up/x/y",
            "/loop/x",
        ] {
            for user in ["", "USER app\n"] {
                let outcome = target.build(&format!(
                    "RUN ln -s {folder} /w && ln -s ../../../../../../../../../../..{folder} /up && ln -s loop /loop\n\
                     {user}WORKDIR {dir}\n{look}"
                ));
                target.ended(&outcome);
                assert!(
                    !outcome.stderr.lines().any(|line| line.ends_with(" canary")),
                    "{}: {dir}: {}",
                    target.name(),
                    outcome.report()
                );
            }
        }
        // What a link in the way makes is inside the image.
        target.build(&format!("RUN ln -s {folder} /w\nWORKDIR /w/x\nRUN touch here\n")).success();
        assert!(
            target.image().tree().get(format!("{folder}/x/here")).is_some(),
            "{}: {:?}",
            target.name(),
            target.image().tree().lines().last()
        );
    });
}

// ---- mount points --------------------------------------------------------------------------------

#[test]
fn mount_points_that_move_away() {
    on_every_rung(|target| {
        let folder = target.folder();
        target.world.write("context/file", "x");
        for mount in [
            "type=tmpfs,target=/h/canary",
            "type=cache,id=c,target=/h/canary",
            "target=/h/canary,rw",
            "source=file,target=/h/canary",
        ] {
            // Some rungs can move what is mounted, others cannot.
            let outcome = target.build(&format!(
                "RUN mkdir /h\n\
                 RUN --mount={mount} (mv /h /gone && ln -s {folder} /h) 2>/dev/null; true\n\
                 RUN --mount={mount} (rm -rf /h; ln -s {folder} /h) 2>/dev/null; true\n"
            ));
            target.ended(&outcome);
        }
        // Targets that lead out by a link are made inside.
        let outcome = target.build(&format!(
            "RUN ln -s {folder} /l && ln -s ../../../../../../../../../..{folder} /m\n\
             RUN --mount=type=tmpfs,target=/l/made --mount=type=cache,target=/m/cached touch /l/made/x /m/cached/x; true\n"
        ));
        target.ended(&outcome);
        assert!(target.world.path("context/file").exists(), "{}: the context was written", target.name());
    });
}

// ---- destruction ---------------------------------------------------------------------------------

#[test]
fn root_directory_is_emptied() {
    on_every_rung(|target| {
        target.world.write("context/file", "x");
        let outcome = target
            .build(
                "RUN --mount=target=/context --mount=type=cache,id=c,target=/cache --mount=type=tmpfs,target=/t \
                 busybox rm -rf /* /.[!.]* 2>/dev/null; echo gone\n\
                 COPY file /after\n",
            )
            .success();
        assert!(outcome.stderr.contains("gone"), "{}", outcome.report());
        let tree = target.image().tree();
        assert_eq!(tree.text("/after"), "x", "{}", target.name());
        for path in ["/usr/bin/busybox", "/home/app", "/etc/passwd"] {
            assert!(tree.get(path).is_none(), "{}: {path} is still there", target.name());
        }
        assert!(target.world.path("context/file").exists(), "{}: the context was written", target.name());
        // The store's copy of the base is whole: the next build begins with it.
        target.build("RUN test -x /usr/bin/busybox && test -e /etc/passwd\n").success();
    });
}

#[test]
fn modes_without_any_permission() {
    on_every_rung(|target| {
        target
            .build(
                "RUN mkdir -p /d/e && echo x > /d/e/f && chmod 000 /d/e/f /d/e /d\n\
                 RUN chmod 000 /\n\
                 RUN cat /d/e/f > /seen && chmod 755 /\n\
                 COPY Dockerfile /d/e/g\n\
                 USER app\n\
                 RUN if ls /d 2>/dev/null || cat /d/e/f 2>/dev/null; then exit 1; fi; id -u > /tmp/id\n",
            )
            .success();
        let tree = target.image().tree();
        for path in ["/d", "/d/e", "/d/e/f"] {
            assert_eq!(tree.get(path).expect("there").mode, 0, "{}: {path}", target.name());
        }
        assert_eq!(tree.text("/seen"), "x\n", "{}", target.name());
        assert_eq!(tree.text("/tmp/id"), "1000\n", "{}", target.name());
        assert!(tree.get("/d/e/g").is_some(), "{}", target.name());
    });
}

// ---- processes -----------------------------------------------------------------------------------

#[test]
fn daemons_end_with_their_step() {
    on_every_rung(|target| {
        let mark = format!("6{:09}", std::process::id());
        let mut count = format!(
            "n=0; for f in /proc/[0-9]*/cmdline; do \
             if (tr '\\0' ' ' < $f | grep -q '^sleep {mark}') 2>/dev/null; then n=$((n+1)); fi; done; echo $n"
        );
        if !target.rung.has_proc() {
            // A step sees nobody; that nobody is left is seen from outside, below.
            count = "if test -e /running; then echo 0; else touch /running; echo 3; fi".to_owned();
        }
        let outcome = target
            .build(&format!(
                "RUN sleep {mark} & (setsid sleep {mark} &); (trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM; sleep {mark}; sleep {mark}' &) ; \
                 sleep 0.2; test $({count}) -ge 3\n\
                 RUN {count} > /left\n"
            ))
            .success();
        assert!(outcome.took.as_secs() < 60, "{}: {}", target.name(), outcome.report());
        assert_eq!(target.image().tree().text("/left"), "0\n", "{}", target.name());
        HostState::no_process(&mark);
    });
}

#[test]
fn fork_bomb_under_a_limit_ends_with_its_step() {
    on_every_rung(|target| {
        let mark = format!("bomb-{}", std::process::id());
        target.world.write("context/bomb", "f() { f 2>/dev/null | f 2>/dev/null & }\nf\nsleep 1\n");
        let lines = format!(
            "FROM $BASE\nCOPY bomb /{mark}\nUSER app\nRUN sh /{mark} 2>/dev/null; true\nUSER root\nRUN true\n"
        );
        let outcome = target.lines(&lines).args(["--ulimit", "nproc=200"]).run();
        target.ended(&outcome);
        HostState::no_process(&mark);
    });
}

#[test]
fn step_that_kills_all_it_sees() {
    on_every_rung(|target| {
        let outcome = target.build("RUN kill -9 -1; kill -9 1; kill -9 $PPID; true\nRUN echo next > /next\n");
        // Without process ids of its own a step can end its own builder, and no other.
        if target.rung.has_own_processes() {
            assert!([0, 1].contains(&outcome.exit()), "{}: {}", target.name(), outcome.report());
        }
        // The store serves the next build.
        target.build("RUN echo next > /next\n").success();
    });
}

#[test]
fn output_without_end_and_terminal_escapes() {
    on_every_rung(|target| {
        let mut bytes = Vec::new();
        write!(bytes, "\x1b]0;title\x07\x1b[2J\x1b[31mred\r\nevil\x08\x08").expect("a vector takes all");
        target.world.write("context/bytes", bytes);
        let outcome = target
            .build(
                "COPY bytes /\n\
                 RUN cat /bytes; head -c 3000000 /dev/zero | tr '\\0' y; head -c 100000 /dev/urandom; exec >&- 2>&-; true\n",
            )
            .success();
        assert!(!outcome.stderr.contains('\x1b') && !outcome.stderr.contains('\x07'), "{}", target.name());
    });
}
