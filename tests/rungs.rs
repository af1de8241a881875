//! The same Dockerfiles on every rung of the ladder: trees, owners, modes and configs are those of
//! the first rung, and the host is as it was.

mod support;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;
use support::{
    HostState, Image, Index, Kind, Node, Outcome, Rung, World, base, debian_with_packages, escape, is_root,
    layout, native_platform, shared_registry,
};

const BOTH: &str = "linux/amd64,linux/arm64";

/// Owners, modes and kinds of files, made by commands and by copies; what programs say of them.
const OWNERS: &str = "ARG BASE\n\
    FROM --platform=$BUILDPLATFORM $BASE AS build\n\
    RUN mkdir -p /out/d && echo b > /out/b && chown 3:4 /out/b && chmod 4750 /out/b && ln /out/b /out/h\n\
    FROM $BASE\n\
    COPY --from=build /out /o\n\
    COPY --chown=app:extra --chmod=2711 Dockerfile /home/app/\n\
    WORKDIR /w\n\
    RUN id -u > who && mkfifo p && ln -s who l && mkdir -m 2770 g && chown 1000:2000 g && chown 65534:65534 p \
     && chown -h 5:6 l && echo x > f && chown 7:8 f && chmod 6755 f && ln f hard && cp -p f copy && ln f third && mv third moved\n\
    RUN stat -c '%u:%g %a %F %n' /w/* /o/* /home/* > /listed-1 && stat -c '%h %s' f moved hard >> /listed-1\n\
    RUN chown 0:0 g && chmod 1777 g && mkdir -p a/b/c && chown -R 33:34 a && cp who a/b/i && chown 9:10 a/b/i && chmod 640 a/b/i\n\
    RUN rm -r /o/d && mkdir /o/d && echo new > /o/d/n && rm -rf /home/app && mkdir /home/app && mv /o /moved\n\
    RUN find /w /moved | sort | xargs stat -c '%u:%g %a %F %N' > /listed-2 && chmod 0 /w/who && cat /w/who >> /listed-2\n\
    RUN printf 'late:x:44:55::/:/bin/sh\\n' >> /etc/passwd && su late -s /bin/sh -c 'id; umask; stat -c %u:%g:%a /w/g' > /su\n";

/// A step of a user is that user's: what it makes, what it must not do, what it sees.
const USER: &str = "ARG BASE\n\
    FROM $BASE\n\
    RUN mkdir /shared /private && chmod 1777 /shared && chmod 700 /private && echo s > /private/s && chown app /home/app\n\
    USER app\n\
    WORKDIR /home/app\n\
    RUN id > id && echo mine > mine && mkdir -m 750 d && ln -s mine l && mkfifo p && touch /shared/app && stat -c '%u:%g %a %F %n' * > listed\n\
    RUN if echo x > /etc/passwd; then exit 1; fi; if cat /private/s; then exit 1; fi; \
        if chown 0 mine; then exit 1; fi; if rm -r /private; then exit 1; fi; if mkdir /made; then exit 1; fi; true\n\
    RUN chmod 600 mine && chgrp extra mine && stat -c '%u:%g %a' mine > stat\n\
    USER 4321:8765\n\
    RUN id -u > /shared/n && id -g >> /shared/n && if rm /shared/app; then exit 1; fi; touch /shared/number\n\
    USER nobody:nogroup\n\
    RUN id > /shared/nobody\n\
    USER root\n\
    RUN cat /private/s > /seen && chown 4321 /seen && su app -s /bin/sh -c 'cat /home/app/mine' >> /seen\n\
    CMD [\"id\"]\n";

/// Mounts of each kind: what stays and what does not is the same without mount(2).
const MOUNTS: &str = "ARG BASE\n\
    FROM $BASE AS files\n\
    RUN mkdir /files && echo f > /files/f && chown 11:12 /files/f && ln -s f /files/l\n\
    FROM $BASE\n\
    RUN --mount=from=files,source=/files,target=/m,rw ls -ln /m | sed 's/.* //' > /seen && cat /m/l >> /seen && touch /m/made\n\
    RUN --mount=target=/context cat /context/text >> /seen\n\
    RUN --mount=source=text,target=/in/f --mount=from=files,source=/files/f,target=/in/g,rw cat /in/f >> /seen && echo x >> /in/g && cat /in/g >> /seen\n\
    RUN --mount=type=tmpfs,target=/t echo x > /t/x && cat /t/x >> /seen\n\
    RUN --mount=type=cache,id=c,target=/var/c,uid=1000,mode=0750 echo one > /var/c/n\n\
    RUN --mount=type=cache,id=c,target=/d/e/f cat /d/e/f/n >> /seen\n\
    RUN --mount=type=cache,id=c,target=/x --mount=type=cache,id=c,target=/y echo two > /x/n && cat /y/n >> /seen\n\
    RUN --mount=type=secret,id=s,env=S echo ${#S} >> /seen\n\
    RUN --network=none if wget -T 3 -qO - http://192.0.2.1/; then exit 1; fi; true\n\
    RUN test -c /dev/null && echo x > /dev/null && head -c 4 /dev/zero | od -An -tx1 >> /seen\n\
    RUN cat /etc/hosts | grep -c localhost > /hosts; echo generated > /etc/hosts || true\n";

/// What only a mount can do: be read-only, be in memory, and show the kernel's files.
const MOUNTED: &str = "ARG BASE\n\
    FROM $BASE\n\
    RUN --mount=target=/context if touch /context/made; then exit 1; fi; ls /context > /seen\n\
    RUN --mount=type=secret,id=s cat /run/secrets/s | wc -c >> /seen\n\
    RUN ls /dev/fd/0 >> /seen && readlink /proc/self/exe >> /seen\n";

/// A distribution's packages with a setgid program, a setuid program and accounts of their own.
const PACKAGES: &str = "ARG DEBIAN\n\
    FROM $DEBIAN\n\
    RUN export DEBIAN_FRONTEND=noninteractive SOURCE_DATE_EPOCH=1700000000 \
     && apt-get update \
     && apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io openssh-client cron dbus\n\
    RUN stat -c '%u:%g %a %n' /usr/bin/crontab /usr/bin/ssh-agent /var/spool/cron/crontabs \
        /usr/lib/dbus-1.0/dbus-daemon-launch-helper /etc/shadow > /stat && id messagebus >> /stat && dpkg --audit >> /stat\n\
    USER messagebus\n\
    RUN id > /tmp/id && touch /tmp/mine && if ls /var/spool/cron/crontabs; then exit 1; fi; ssh -V 2> /tmp/ssh\n";

/// Files of [`PACKAGES`] whose content depends on when or where, not on how it was built. Their
/// sizes, owners and modes are compared as all others.
const BY_TIME: [(&str, &str); 6] = [
    ("/var/cache/apt/pkgcache.bin", "a dump of apt's memory"),
    ("/var/cache/apt/srcpkgcache.bin", "a dump of apt's memory"),
    ("/var/log/apt/history.log", "when packages were installed"),
    ("/var/log/dpkg.log", "when packages were installed"),
    ("/var/cache/ldconfig/aux-cache", "inode numbers and times of libraries"),
    ("/var/lib/dbus/machine-id", "a random number"),
];

/// When packages were installed, and what dpkg printed: that only where there is a /dev/pts, since apt reads
/// it from a terminal of its own. Its size is no more the same than its content.
const TERMINAL_LOG: &str = "/var/log/apt/term.log";

/// What one rung made of a Dockerfile.
struct Built {
    rung: Rung,
    index: Index,
    seconds: f64,
}

fn run(rung: Rung, world: &World, platforms: &str, dockerfile: &str) -> Outcome {
    world.write("context/text", "text\n");
    let context = world.context("context", dockerfile);
    let secret = world.write("secret", "four");
    rung.build(world)
        .args(["--platform", platforms, "--timestamp", "1700000000"])
        .args(["--secret", &format!("id=s,src={}", secret.display())])
        .args(["--output", &layout(&world.path("out/layout"))])
        .args(if dockerfile.contains("$DEBIAN") {
            ["--build-arg".to_owned(), format!("DEBIAN={}", debian_with_packages())]
        } else {
            ["--build-arg".to_owned(), base()]
        })
        .arg(context)
        .run()
}

/// Builds on a rung, and looks at the host afterwards.
fn built(rung: Rung, platforms: &str, dockerfile: &str) -> Built {
    let world = rung.world();
    let host = HostState::now();
    let outcome = run(rung, &world, platforms, dockerfile).success();
    host.unchanged();
    HostState::no_process(world.root().to_str().expect("UTF-8"));
    for folder in ["home", "tmp"] {
        let left: Vec<_> = std::fs::read_dir(world.path(folder)).expect("a folder").flatten().collect();
        assert!(left.is_empty(), "{}: {left:?} is left in {folder}", rung.name);
    }
    Built { rung, index: Index::layout(&world.path("out/layout")), seconds: outcome.took.as_secs_f64() }
}

/// A file without its content.
fn shown(node: &Node) -> String {
    let kind = match &node.kind {
        Kind::File { size, digest, head } if *size > 80 => {
            format!("{size} bytes {}, {} known", &digest[..19], head.len())
        }
        Kind::File { head, .. } => format!("{:?}", String::from_utf8_lossy(head)),
        other => format!("{other:?}"),
    };
    format!("{:04o} {}:{} of {} {:?} {kind}", node.mode, node.uid, node.gid, node.mtime, node.xattrs)
}

/// Where two images of one platform differ.
fn differences(first: &Image, other: &Image) -> Vec<String> {
    let mut found = Vec::new();
    let config = |image: &Image| {
        let mut config = image.config.clone();
        // The trees are compared file by file.
        config["rootfs"] = Value::Null;
        config
    };
    if config(first) != config(other) {
        found.push(format!("config {} is {}", config(first), config(other)));
    }
    let masked = |path: &[u8], node: &Node| {
        let mut node = node.clone();
        if let Kind::File { size, digest, head } = &mut node.kind {
            let terminal = path == TERMINAL_LOG.as_bytes();
            if terminal || BY_TIME.iter().any(|(name, _)| name.as_bytes() == path) {
                (*digest, *head) = ("by time".to_owned(), Vec::new());
            }
            if terminal {
                *size = 0;
            }
        }
        node
    };
    let (tree, other_tree) = (first.tree(), other.tree());
    for (path, node) in tree.iter() {
        match other_tree.get(path) {
            None => found.push(format!("{} is missing", escape(path))),
            Some(other) if masked(path, other) != masked(path, node) => {
                found.push(format!("{} is {}, not {}", escape(path), shown(other), shown(node)));
            }
            Some(_) => {}
        }
    }
    let more = other_tree.iter().filter(|(path, _)| tree.get(path).is_none());
    found.extend(more.map(|(path, _)| format!("{} is too much", escape(path))));
    // Names that are one file on one rung have to be one on the other.
    let twins = |image: &Image| image.tree().lines().iter().filter(|line| line.contains(" = /")).count();
    if twins(first) != twins(other) {
        found.push(format!("{} hard links instead of {}", twins(other), twins(first)));
    }
    found
}

/// Builds a Dockerfile on all rungs, each with its platforms; prints a table and compares.
fn same_on_every_rung(title: &str, dockerfile: &str, platforms: impl Fn(Rung) -> String) {
    same_on(&Rung::all(), title, dockerfile, platforms);
}

/// The same on some rungs.
fn same_on(rungs: &[Rung], title: &str, dockerfile: &str, platforms: impl Fn(Rung) -> String) {
    let mut table = format!("\n{title}\n{:<20} {:>8} {:>6}  result\n", "rung", "seconds", "ratio");
    let mut first: Option<Built> = None;
    let mut failures = String::new();
    for rung in rungs.iter().copied() {
        let platforms = platforms(rung);
        let result = std::panic::catch_unwind(|| built(rung, &platforms, dockerfile));
        let Ok(built) = result else {
            let _ = writeln!(table, "{:<20} {:>8} {:>6}  failed", rung.name, "", "");
            let _ = writeln!(failures, "{}: see above", rung.name);
            continue;
        };
        let Some(first) = &first else {
            let _ = writeln!(
                table,
                "{:<20} {:>8.1} {:>6.2}  {}",
                rung.name,
                built.seconds,
                1.0,
                &built.index.digest[..19]
            );
            first = Some(built);
            continue;
        };
        let found: Vec<_> = built
            .index
            .images
            .iter()
            .flat_map(|image| {
                let found = differences(first.index.image(&image.platform), image);
                found.into_iter().map(|text| format!("{}: {text}", image.platform))
            })
            .collect();
        let result = match found.len() {
            0 if built.index.digest == first.index.digest => "the same digest".to_owned(),
            0 => "the same trees and configs".to_owned(),
            number => format!("{number} differences"),
        };
        let ratio = built.seconds / first.seconds;
        let _ = writeln!(table, "{:<20} {:>8.1} {:>6.2}  {result}", built.rung.name, built.seconds, ratio);
        if !found.is_empty() {
            let shown: Vec<_> = found.iter().take(20).map(String::as_str).collect();
            let _ = writeln!(failures, "{}:\n  {}", built.rung.name, shown.join("\n  "));
        }
    }
    // Past the harness, which shows the output of failing tests alone.
    let _ = std::io::stdout().write_all(table.as_bytes());
    assert!(failures.is_empty(), "{title}\n{failures}");
}

#[test]
fn owners_modes_and_kinds() {
    same_on_every_rung("busybox: owners, modes and kinds of files", OWNERS, |_| BOTH.to_owned());
}

#[test]
fn steps_of_users() {
    same_on_every_rung("busybox: steps of users", USER, |_| BOTH.to_owned());
}

#[test]
fn mounts_of_each_kind() {
    same_on_every_rung("busybox: mounts", MOUNTS, |_| BOTH.to_owned());
}

#[test]
fn mounts_that_only_mounts_can_be() {
    let rungs: Vec<_> = Rung::all().into_iter().filter(Rung::has_mounts).collect();
    same_on(&rungs, "busybox: read-only mounts, secrets, /proc", MOUNTED, |_| native_platform().to_owned());
}

#[test]
fn without_mounts_a_secret_is_in_memory_or_refused() {
    for rung in Rung::built().into_iter().filter(|rung| !rung.has_mounts()) {
        let world = rung.world();
        let lines = |lines: &str| format!("ARG BASE\nFROM $BASE\n{lines}");
        let secret = lines("RUN true\nRUN --mount=type=secret,id=s cat /run/secrets/s | wc -c > /seen\n");
        run(rung, &world, native_platform(), &secret)
            .code(1)
            .stderr_has("Dockerfile:4:1")
            .stderr_has("a secret is never written to a disk")
            .stderr_has("env=")
            .stderr_has("--isolation=ptrace");
        support::found_nowhere(&world.root(), "four");
        // What is read-only is a copy: the context stays what it is.
        let copied = lines("RUN --mount=target=/context rm /context/text && touch /context/made\n");
        run(rung, &world, native_platform(), &copied).success().stderr_has("is a copy");
        assert!(world.path("context/text").exists() && !world.path("context/made").exists());
        // What a filter takes away with the network is said.
        let alone = lines("RUN --network=none ! ifconfig lo\n");
        run(rung, &world, native_platform(), &alone).success().stderr_has("loopback");
    }
}

#[test]
fn packages_with_accounts_of_their_own() {
    same_on_every_rung("Debian: apt-get install openssh-client cron dbus", PACKAGES, |_| BOTH.to_owned());
}

#[test]
fn each_rung_is_found_by_itself() {
    let mut digests = Vec::new();
    for rung in Rung::all() {
        digests.push((rung.name, built(rung.found_by_itself(), native_platform(), USER).index.digest));
    }
    let first = digests[0].1.clone();
    assert!(digests.iter().all(|(_, digest)| *digest == first), "{digests:?}");
}

#[test]
fn each_rung_can_be_asked_for() {
    let world = Rung::first().world();
    let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN true\n");
    let ask = |rung: &str| {
        let build = world.build().args(["--isolation", rung, "--build-arg", &base()]);
        build.arg(&context).run()
    };
    for rung in ["auto", "userns", "one-id"] {
        ask(rung).success();
    }
    ask("best").code(2).stderr_has("userns");
    if !is_root() {
        // What a place does not have is not replaced by something weaker.
        let outcome = ask("chroot");
        assert_ne!(outcome.exit(), 0, "{}", outcome.report());
    }
}

#[test]
fn without_any_way_to_run_commands_the_rest_is_built() {
    let plain = "ARG BASE\nFROM $BASE AS base\nFROM scratch\nCOPY --from=base / /\nCOPY --chown=7:8 text /t\n\
                 ADD --chmod=0600 text /home/\nWORKDIR /w\nUSER app\nLABEL a=b\nVOLUME /v\nCMD [\"sh\"]\n";
    let platforms = support::BASE_PLATFORMS;
    let mut digests = vec![built(Rung::first(), platforms, plain).index.digest];
    if is_root() {
        digests.push(built(Rung::NONE, platforms, plain).index.digest);
        assert_eq!(digests.first(), digests.last());
        // A command is refused with its line, before anything is built.
        let world = Rung::NONE.world();
        let outcome = run(Rung::NONE, &world, native_platform(), "ARG BASE\nFROM $BASE\nRUN true\n");
        assert_ne!(outcome.exit(), 0, "{}", outcome.report());
        outcome.stderr_has("Dockerfile:3").stderr_has("isolation");
        assert!(!Path::new(&world.path("out/layout/index.json")).exists());
    }
}

#[test]
fn image_without_commands_is_built_and_pushed_from_a_restricted_container() {
    if !is_root() {
        return;
    }
    let host = HostState::now();
    let mut digests = Vec::new();
    for (number, rung) in [Rung::USERNS_ROOT, Rung::PTRACE].into_iter().enumerate() {
        let world = rung.world();
        world.write("context/file", "x");
        let context = world.context(
            "context",
            "ARG BASE\nFROM $BASE AS base\nFROM scratch\nCOPY --from=base /etc /etc\nCOPY --chown=7:8 --chmod=4755 file /f\n\
             WORKDIR /w\nUSER 9\nENV A=b\nCMD [\"/f\"]\n",
        );
        let name = format!("without-commands-{number}");
        rung.found_by_itself()
            .build(&world)
            .args(["--platform", "linux/amd64,linux/arm64,linux/s390x", "--timestamp", "1700000000"])
            .args(["--build-arg", &base(), "--push", "--tag", &shared_registry().name(&name)])
            .args(["--output", &layout(&world.path("out/layout"))])
            .arg(context)
            .run()
            .success();
        digests.push(Index::layout(&world.path("out/layout")).digest);
        assert_eq!(shared_registry().tag(&name, "latest").as_ref(), digests.last(), "{}", rung.name);
    }
    assert_eq!(digests[0], digests[1]);
    host.unchanged();
}
