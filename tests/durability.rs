//! Builds that are killed at any instant, many builds at once on one store, disks that are full, bits that
//! have flipped: the store stays whole, or what is damaged is dropped with a warning and made again. The image
//! is always that of an undisturbed build.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::slice;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use support::{
    HostState, HttpServer, Index, Outcome, Page, Registry, Run, User, World, base, is_root, layout,
    shared_registry, tool, users,
};

const PLATFORMS: &str = "linux/amd64,linux/arm64";
const TIME: &str = "1700000000";

/// Of every kind of step something: a stage for the build's own platform, a cache mount, links, a bind mount.
const DOCKERFILE: &str = "ARG BASE=base\n\
    FROM --platform=$BUILDPLATFORM $BASE AS native\n\
    RUN seq 1 2000 > /numbers\n\
    FROM $BASE AS tools\n\
    WORKDIR /w\n\
    RUN --mount=type=cache,target=/c seq 1 300 > /w/a && cp /w/a /c/kept\n\
    COPY --link noise /w/noise\n\
    FROM $BASE\n\
    COPY --from=native /numbers /\n\
    RUN --mount=type=bind,from=tools,source=/w,target=/t cat /t/a /numbers > /both\n\
    COPY --from=tools --link /w /tools\n\
    COPY text /text\n\
    RUN wc -l /both > /count\n";

/// How many commands are run for two platforms, when none is run twice.
const RUNS: usize = 1 + 2 + 2 + 2;

/// Bytes that no compression makes less of.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// The usual context.
fn context(world: &World, dockerfile: &str) -> PathBuf {
    // A file that is written again is a new one to who remembers files, and empty for a moment.
    if !world.path("context/noise").exists() {
        world.write("context/noise", noise(1 << 20));
        world.write("context/text", "text\n");
    }
    let file = world.path("context/Dockerfile");
    if fs::read(&file).is_ok_and(|text| text == dockerfile.as_bytes()) {
        return world.path("context");
    }
    world.context("context", dockerfile)
}

/// A build with a fixed time, and JSON to read; output and context are the caller's.
fn command(world: &World) -> Command {
    let mut command = world.command(world.binary());
    command.args(["build", "--root"]).arg(world.root());
    command.args(["--progress", "json", "--timestamp", TIME, "--build-arg", &base()]);
    command
}

/// A build of the usual context for two platforms that is pushed as `name`.
fn push(world: &World, name: &str) -> Command {
    let mut command = command(world);
    command.args(["--platform", PLATFORMS, "--push", "-t", name]).arg(context(world, DOCKERFILE));
    command
}

/// What `push` gives when nothing disturbs it, and how long that takes.
fn undisturbed() -> &'static (String, Duration) {
    static DIGEST: OnceLock<(String, Duration)> = OnceLock::new();
    DIGEST.get_or_init(|| {
        let registry = shared_registry();
        let world = World::new();
        let outcome = Run::new(push(&world, &registry.name("durability/undisturbed"))).run().success();
        assert_eq!(outcome.runs("finished"), RUNS, "{}", outcome.report());
        (registry.index("durability/undisturbed", "latest").digest, outcome.took)
    })
}

fn cache(world: &World, words: &[&str]) -> Run {
    let root = world.root();
    world.fanfold(["cache"]).args(words).args(["--root", root.to_str().expect("UTF-8")])
}

/// Asserts that all that is in the store is what it should be.
#[track_caller]
fn store_is_whole(world: &World) {
    cache(world, &["verify"]).run().success().stdout_has("none of them damaged");
}

#[track_caller]
fn until(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !there() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Names in a folder; none where it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found.sort();
    found
}

// ---- killed ------------------------------------------------------------------------------------------

/// Which processes of a build are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// All that were started with it.
    Group,
    /// The one that was started; it waits for the next.
    Original,
    /// The one that builds, in namespaces of its own.
    Inner,
}

/// When they are killed.
#[derive(Debug, Clone)]
enum Moment {
    /// After this time.
    After(Duration),
    /// At the n-th event of this name.
    Event(&'static str, usize),
    /// When so many files are below this folder of the store.
    Files(&'static str, usize),
    /// When the registry has begun to receive a blob.
    Upload,
}

/// The only child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.try_into().expect("a pid")).expect("not zero")
}

fn kill(child: &mut Child, victim: Victim) {
    // What has ended is still there until it is waited for, so its numbers are nobody else's.
    let _ = match victim {
        Victim::Group => rustix::process::kill_process_group(pid(child.id()), Signal::KILL),
        Victim::Original => rustix::process::kill_process(pid(child.id()), Signal::KILL),
        Victim::Inner => {
            let mut inner = None;
            until("nothing is started", || {
                inner = child_of(child.id());
                inner.is_some() || matches!(child.try_wait(), Ok(Some(_)))
            });
            inner.map_or(Ok(()), |inner| rustix::process::kill_process(pid(inner), Signal::KILL))
        }
    };
}

/// Where the registry keeps what it knows of a repository.
fn repository(registry: &Registry, name: &str) -> PathBuf {
    let blob = registry.blob_path(&format!("sha256:{}", "0".repeat(64)));
    blob.ancestors().nth(5).expect("the registry's data").join("repositories").join(name)
}

/// Whether the registry holds a part of a blob for a repository.
fn receives(registry: &Registry, name: &str) -> bool {
    !names(&repository(registry, name).join("_uploads")).is_empty()
}

/// Builds, kills, and gives whether the build was over before.
fn killed(world: &World, name: &str, moment: &Moment, victim: Victim) -> bool {
    let registry = shared_registry();
    let mut command = push(world, &registry.name(name));
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("a build");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    let ended = |child: &mut Child| matches!(child.try_wait(), Ok(Some(_)));
    match moment {
        Moment::After(time) => std::thread::sleep(*time),
        Moment::Event(event, number) => {
            let begin = format!("{{\"event\":\"{event}\"");
            let mut seen = 0;
            while seen < *number && lines.read_line(&mut line).expect("a line") > 0 {
                seen += usize::from(line.starts_with(&begin));
                line.clear();
            }
        }
        Moment::Files(folder, number) => {
            while files(&world.root().join(folder)).len() < *number && !ended(&mut child) {}
        }
        Moment::Upload => while !receives(registry, name) && !ended(&mut child) {},
    }
    kill(&mut child, victim);
    // Whoever still has the pipe keeps this from ending.
    let _ = std::io::copy(&mut lines, &mut std::io::sink());
    child.wait().expect("wait").success()
}

/// Asserts that no process of a build in this world is there any more, and with that no mount.
#[track_caller]
fn nothing_runs(world: &World) {
    let dir = world.path("");
    let dir = dir.to_str().expect("UTF-8").trim_end_matches('/');
    HostState::no_process(dir);
    until("a mount of the build is left", || {
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        !processes.into_iter().any(|process| {
            let mounts = fs::read(process.path().join("mountinfo")).unwrap_or_default();
            String::from_utf8_lossy(&mounts).contains(dir)
        })
    });
    until("somebody holds a lock of the build", || {
        let scratch = world.root().join("scratch");
        names(&scratch).iter().filter(|name| name.ends_with(".lock")).all(|name| {
            let Ok(file) = File::options().write(true).open(scratch.join(name)) else { return true };
            file.try_lock().is_ok()
        })
    });
}

/// Kills a build in a new store, and looks at what is left and at what the same command gives then.
fn killed_and_built_again(label: &str, moment: &Moment, victim: Victim, user: User) {
    let (digest, _) = undisturbed();
    let registry = shared_registry();
    let world = World::of(user);
    let name = format!("durability/{label}");
    let shown = format!("{user:?}, {victim:?}, {moment:?}");
    let finished = killed(&world, &name, moment, victim);
    nothing_runs(&world);
    match registry.tag(&name, "latest") {
        // It may have been killed after that.
        Some(tag) => assert_eq!(tag, *digest, "{shown}"),
        None => assert!(!finished, "{shown}: the build has ended well, but moved no tag"),
    }
    store_is_whole(&world);
    let again = Run::new(push(&world, &registry.name(&name))).run().success();
    assert_eq!(registry.index(&name, "latest").digest, *digest, "{shown}");
    assert!(!again.stdout.contains("\"event\":\"warning\""), "{shown}\n{}", again.report());
    until("scratch space is not removed", || names(&world.root().join("scratch")).is_empty());
    store_is_whole(&world);
}

/// Kills at moments spread over the time that a build takes, as often as said, from `first` on.
fn killed_at_any_moment(victim: Victim, count: u32) {
    let (_, took) = undisturbed();
    let users = users();
    for at in 0..count {
        let moment = Moment::After(*took * (2 * at + 1) / (2 * count));
        let user = users[at as usize % users.len()];
        let label = format!("{victim:?}-{at}").to_lowercase();
        killed_and_built_again(&label, &moment, victim, user);
    }
}

#[test]
fn killed_with_all_that_it_started() {
    killed_at_any_moment(Victim::Group, 9);
}

#[test]
fn killed_without_those_that_it_started() {
    killed_at_any_moment(Victim::Original, 9);
}

#[test]
fn killed_within_its_namespaces() {
    killed_at_any_moment(Victim::Inner, 8);
}

#[test]
fn killed_where_it_hurts() {
    let moments = [
        Moment::Files("scratch", 2),
        Moment::Files("blobs", 2),
        Moment::Files("layers", 1),
        Moment::Event("started", 1),
        Moment::Event("finished", 1),
        Moment::Files("steps", 1),
        Moment::Event("finished", 6),
        Moment::Files("steps", 9),
        Moment::Upload,
        Moment::Event("pushed", 1),
        Moment::Event("pushed", 4),
    ];
    let users = users();
    for (at, moment) in moments.iter().enumerate() {
        let victim = [Victim::Group, Victim::Original, Victim::Inner][at % 3];
        killed_and_built_again(&format!("event-{at}"), moment, victim, users[at % users.len()]);
    }
}

// ---- many at once ------------------------------------------------------------------------------------

#[test]
fn ten_builds_of_the_same() {
    let (digest, _) = undisturbed();
    let registry = shared_registry();
    for user in users() {
        let world = World::of(user);
        let name = |number: usize| format!("durability/same-{number}");
        let builds: Vec<_> =
            (0..10).map(|number| Run::new(push(&world, &registry.name(&name(number)))).start()).collect();
        let outcomes: Vec<Outcome> = builds.into_iter().map(|build| build.finish().success()).collect();
        for number in 0..10 {
            assert_eq!(registry.index(&name(number), "latest").digest, *digest, "{user:?}, {number}");
        }
        // Whoever comes second waits, and takes what was made.
        let runs: usize = outcomes.iter().map(|outcome| outcome.runs("finished")).sum();
        assert_eq!(runs, RUNS, "{user:?}: commands were run more than once");
        store_is_whole(&world);
    }
}

/// Another last step for each number, after a stage that all have.
fn variant(world: &World, number: usize) -> PathBuf {
    let dockerfile = format!(
        "ARG BASE=base\nFROM $BASE AS shared\nRUN seq 1 5000 > /shared && sleep 0.3\nCOPY text /text\n\
         FROM shared AS other\nRUN wc -l /shared > /lines && sleep 0.2\n\
         FROM shared\nCOPY --from=other /lines /lines\nRUN echo {number} > /number\n"
    );
    world.write(&format!("variant-{number}/text"), "text\n");
    world.context(&format!("variant-{number}"), &dockerfile)
}

fn build_variant(world: &World, number: usize) -> Run {
    let out = world.path(&format!("out/variant-{number}"));
    Run::new(command(world)).args(["--output", &layout(&out)]).arg(variant(world, number))
}

fn variant_digest(world: &World, number: usize) -> String {
    Index::layout(&world.path(&format!("out/variant-{number}"))).digest
}

#[test]
fn ten_builds_with_a_stage_in_common() {
    let alone: Vec<String> = {
        let world = World::new();
        let build = |number| {
            build_variant(&world, number).run().success();
            variant_digest(&world, number)
        };
        (0..10).map(build).collect()
    };
    for user in users() {
        let world = World::of(user);
        let builds: Vec<_> = (0..10).map(|number| build_variant(&world, number).start()).collect();
        let runs = |outcome: &Outcome| outcome.runs("finished");
        let runs: usize = builds.into_iter().map(|build| runs(&build.finish().success())).sum();
        assert_eq!(runs, 2 + 10, "{user:?}: what they have in common was run more than once");
        for (number, digest) in alone.iter().enumerate() {
            assert_eq!(variant_digest(&world, number), *digest, "{user:?}, {number}");
        }
        store_is_whole(&world);

        // One is killed while the others wait for it, or for each other.
        for pause in [150, 400] {
            let world = World::of(user);
            let mut builds: Vec<_> =
                (0..10).map(|number| Some(build_variant(&world, number).start())).collect();
            std::thread::sleep(Duration::from_millis(pause));
            let victim = builds[0].take().expect("it was started");
            victim.kill();
            victim.finish();
            for (number, build) in builds.into_iter().enumerate() {
                let Some(build) = build else { continue };
                build.finish().success();
                assert_eq!(variant_digest(&world, number), alone[number], "{user:?}, {number}, {pause}");
            }
            build_variant(&world, 0).run().success();
            assert_eq!(variant_digest(&world, 0), alone[0], "{user:?}, {pause}");
            store_is_whole(&world);
        }

        // The store is cleaned up and read meanwhile.
        let world = World::of(user);
        let builds: Vec<_> = (0..10)
            .map(|number| {
                let build = build_variant(&world, number).start();
                cache(&world, if number % 2 == 0 { &["prune", "--all"] } else { &["verify"] })
                    .run()
                    .success();
                build
            })
            .collect();
        for (number, build) in builds.into_iter().enumerate() {
            build.finish().success();
            assert_eq!(variant_digest(&world, number), alone[number], "{user:?}, {number}, cleaned");
        }
        store_is_whole(&world);
    }
}

// ---- full --------------------------------------------------------------------------------------------

/// Mounts a small disk as the store, builds, notes what is left, makes the disk large, builds again, and
/// reads the store. Mounts and processes end with the shell.
const ON_A_SMALL_DISK: &str = r#"
root=$1 options=$2 notes=$3 tags=$4
shift 4
mkdir -p "$notes"
mount -t tmpfs -o "$options" none "$root" || exit 99
"$@" >"$notes/first.out" 2>"$notes/first.err"
echo $? >"$notes/first.code"
ls -A "$root/scratch" >"$notes/scratch" 2>/dev/null
ls -A "$tags" >"$notes/tags" 2>/dev/null
mount -o remount,rw,size=256m,nr_inodes=100000 "$root" || exit 99
"$@" >"$notes/second.out" 2>"$notes/second.err"
echo $? >"$notes/second.code"
umount "$root" || exit 99
"#;

/// The shell of a test with mounts of its own, and the words that make a command the world's user's.
fn apart(world: &World, script: &str) -> (Command, Vec<String>) {
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).stdin(Stdio::null());
    let owner = fs::metadata(world.root()).expect("the store");
    let user = [format!("--reuid={}", owner.uid()), format!("--regid={}", owner.gid())];
    let user = if world.user() == User::Root { Vec::new() } else { user.to_vec() };
    let become_user = if user.is_empty() {
        Vec::new()
    } else {
        [vec!["setpriv".to_owned(), "--clear-groups".to_owned()], user].concat()
    };
    (shell, become_user)
}

/// Gives a command's variables and nothing else to a shell that will execute it, and its words.
fn hand_over(shell: &mut Command, command: &Command) {
    shell.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell.arg(command.get_program()).args(command.get_args());
}

/// Builds on a disk with these options, and asserts what must hold. Gives whether it was large enough.
fn on_a_small_disk(user: User, name: &str, options: &str) -> bool {
    let (digest, _) = undisturbed();
    let registry = shared_registry();
    let world = World::of(user);
    let owner = fs::metadata(world.root()).expect("the store");
    let options = format!("{options},mode=755,uid={},gid={}", owner.uid(), owner.gid());
    let (mut shell, become_user) = apart(&world, ON_A_SMALL_DISK);
    let tags = repository(registry, name).join("_manifests/tags");
    shell.arg(world.root()).arg(&options).arg(world.path("notes")).arg(tags).args(become_user);
    hand_over(&mut shell, &push(&world, &registry.name(name)));
    let outcome = Run::new(shell).run().success();
    let note = |name: &str| fs::read_to_string(world.path(&format!("notes/{name}"))).unwrap_or_default();
    let report = |which: &str| {
        let (out, err) = (note(&format!("{which}.out")), note(&format!("{which}.err")));
        format!("{user:?}, {options}, {which}\n{}{out}{err}", outcome.stderr)
    };
    let first = note("first.code").trim().to_owned();
    let said = report("first");
    match first.as_str() {
        "0" => {}
        "75" => {
            assert!(said.contains("hint") && said.contains("free some space"), "{said}");
            assert_eq!(note("tags"), "", "{said}");
        }
        // A command that cannot write has failed as any other that has. Without an inode for its own
        // directory the kernel mounts an overlay, but only to be read.
        "1" => assert!(
            ["No space left", "Read-only file system", "mounted read-only", "exit code: 255"]
                .iter()
                .any(|reason| said.contains(reason)),
            "{said}"
        ),
        other => panic!("exit code {other}\n{said}"),
    }
    assert_eq!(note("scratch"), "", "{said}");
    assert_eq!(note("second.code").trim(), "0", "{}\nbefore: {said}", report("second"));
    assert_eq!(registry.index(name, "latest").digest, *digest, "{}", report("second"));
    first == "0"
}

#[test]
fn disk_without_space_or_inodes() {
    if !is_root() {
        return;
    }
    for (user, sizes) in [
        (User::Root, &[600, 1200, 3000, 3800, 5800, 6600, 7400, 8000, 8500, 9000, 9300, 12000][..]),
        (User::Plain, &[900, 2600, 4600, 6200, 7700, 8300, 8800, 12000]),
    ] {
        let space = |size: &i32| {
            let name = format!("durability/full-{user:?}-{size}").to_lowercase();
            on_a_small_disk(user, &name, &format!("size={size}k,nr_inodes=100000"))
        };
        let fitted: Vec<bool> = sizes.iter().map(space).collect();
        assert!(!fitted[0] && fitted.ends_with(&[true]), "{user:?}: {fitted:?}");
    }
    for (user, numbers) in [
        (User::Root, &[20, 110, 220, 300, 400, 430, 450, 470, 600][..]),
        (User::Plain, &[30, 160, 310, 410, 440, 460, 600]),
    ] {
        let inodes = |number: &i32| {
            let name = format!("durability/inodes-{user:?}-{number}").to_lowercase();
            on_a_small_disk(user, &name, &format!("size=256m,nr_inodes={number}"))
        };
        let fitted: Vec<bool> = numbers.iter().map(inodes).collect();
        assert!(!fitted[0] && fitted.ends_with(&[true]), "{user:?}: {fitted:?}");
    }
}

/// Builds, makes the disk read-only, and builds again.
const ON_A_READ_ONLY_DISK: &str = r#"
root=$1 options=$2 notes=$3
shift 3
mkdir -p "$notes"
mount -t tmpfs -o "$options" none "$root" || exit 99
"$@" >"$notes/first.out" 2>"$notes/first.err"
echo $? >"$notes/first.code"
mount -o remount,ro "$root" || exit 99
"$@" >"$notes/second.out" 2>"$notes/second.err"
echo $? >"$notes/second.code"
mount -o remount,rw "$root" || exit 99
"$@" >"$notes/third.out" 2>"$notes/third.err"
echo $? >"$notes/third.code"
umount "$root" || exit 99
"#;

#[test]
fn disk_that_has_become_read_only() {
    if !is_root() {
        return;
    }
    let (digest, _) = undisturbed();
    let registry = shared_registry();
    for user in users() {
        let world = World::of(user);
        let name = format!("durability/readonly-{user:?}").to_lowercase();
        let owner = fs::metadata(world.root()).expect("the store");
        let options = format!("size=64m,mode=755,uid={},gid={}", owner.uid(), owner.gid());
        let (mut shell, become_user) = apart(&world, ON_A_READ_ONLY_DISK);
        shell.arg(world.root()).arg(&options).arg(world.path("notes")).args(become_user);
        hand_over(&mut shell, &push(&world, &registry.name(&name)));
        Run::new(shell).run().success();
        let note = |name: &str| fs::read_to_string(world.path(&format!("notes/{name}"))).unwrap_or_default();
        let second = note("second.out") + &note("second.err");
        assert_eq!(note("first.code").trim(), "0", "{user:?}: {}", note("first.out"));
        assert!(["2", "75"].contains(&note("second.code").trim()), "{user:?}: {second}");
        let root = world.root();
        assert!(second.contains(root.to_str().expect("UTF-8")), "{user:?}: {second}");
        assert!(second.contains("Read-only file system"), "{user:?}: {second}");
        assert_eq!(note("third.code").trim(), "0", "{user:?}: {}", note("third.out"));
        assert_eq!(registry.index(&name, "latest").digest, *digest);
    }
}

// ---- damaged -----------------------------------------------------------------------------------------

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Flipped,
    Half,
    Empty,
    Zeroed,
    Gone,
}

const DAMAGES: [Damage; 5] = [Damage::Flipped, Damage::Half, Damage::Empty, Damage::Zeroed, Damage::Gone];

fn damage(path: &Path, how: Damage) {
    if how == Damage::Gone {
        return fs::remove_file(path).expect("remove");
    }
    let file = File::options().read(true).write(true).open(path).expect("open");
    let length = file.metadata().expect("metadata").len();
    match how {
        Damage::Flipped if length > 0 => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, length / 2).expect("read");
            file.write_all_at(&[byte[0] ^ 4], length / 2).expect("write");
        }
        Damage::Half => file.set_len(length / 2).expect("truncate"),
        Damage::Empty => file.set_len(0).expect("truncate"),
        Damage::Zeroed => file.write_all_at(&vec![0; length as usize], 0).expect("write"),
        Damage::Flipped | Damage::Gone => {}
    }
}

/// What is built with a store that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// The same, to a registry that has nothing of it, nor of the base.
    Push,
    /// One command more.
    More,
    /// The same as a layout.
    Layout,
    /// A stage whose layers nobody has wanted as blobs yet.
    Stage,
}

const NEXT: [Next; 4] = [Next::Push, Next::More, Next::Layout, Next::Stage];

/// A store in which a build was made, of which every damage gets a copy.
struct Damaged {
    world: World,
    server: HttpServer,
    registry: Registry,
    pristine: PathBuf,
    expected: BTreeMap<Next, String>,
    tries: usize,
}

impl Damaged {
    fn new(user: User) -> Self {
        let server = HttpServer::start();
        server.put("/file", Page::new("from afar\n").etag("one").modified("Tue, 14 Nov 2023 22:13:20 GMT"));
        let mut made = Self {
            world: World::of(user),
            pristine: PathBuf::new(),
            server,
            registry: Registry::start(),
            expected: BTreeMap::new(),
            tries: 0,
        };
        made.pristine = made.world.path("pristine");
        // What is right was made by builds that had a new store each.
        for next in NEXT {
            let (outcome, digest) = made.build(next);
            outcome.success();
            made.expected.insert(next, digest.expect("an image"));
            made.renew(None);
        }
        // What has changed a moment ago may change again without a trace, and is not remembered.
        std::thread::sleep(Duration::from_secs(3));
        made.build(Next::Layout).0.success();
        fs::rename(made.world.root(), &made.pristine).expect("rename");
        made
    }

    /// Makes the store new: empty, or a copy.
    fn renew(&self, from: Option<&Path>) {
        let run = |words: &[&str]| match is_root() {
            true => tool(words[0], &words[1..]).success(),
            false => tool("unshare", [&["--user", "--map-root-user", "--map-auto", "--"], words].concat())
                .success(),
        };
        let root = self.world.root();
        run(&["rm", "-rf", root.to_str().expect("UTF-8")]);
        match from {
            None => drop(self.world.folder("root")),
            Some(from) => {
                run(&["cp", "-a", from.to_str().expect("UTF-8"), root.to_str().expect("UTF-8")]);
            }
        }
    }

    fn context(&self, dockerfile: &str) -> PathBuf {
        context(&self.world, &dockerfile.replace("URL", &self.server.url("/file")))
    }

    /// Builds, and gives the digest of what was made, where that is whole.
    fn build(&mut self, next: Next) -> (Outcome, Option<String>) {
        self.tries += 1;
        let out = self.world.path(&format!("out/{}", self.tries));
        let name = format!("damaged/{}", self.tries);
        let mut command = command(&self.world);
        match next {
            Next::Push => command.args(["--push", "-t", &self.registry.name(&name)]),
            Next::Stage => command.args(["--target", "tools", "--output", &layout(&out)]),
            Next::More | Next::Layout => command.args(["--output", &layout(&out)]),
        };
        let more = format!("{DOWNLOADS}RUN echo more > /more\n");
        let context = self.context(if next == Next::More { &more } else { DOWNLOADS });
        let outcome = Run::new(command).arg(context).run();
        if outcome.exit() != 0 {
            return (outcome, None);
        }
        let (registry, read) = (&self.registry, out.clone());
        let digest = std::panic::catch_unwind(|| {
            if next == Next::Push {
                // What another reader of registries finds.
                let copy = format!("dir:{}", read.display());
                let words = ["--insecure-policy", "copy", "--quiet", "--all", "--src-tls-verify=false"];
                tool(
                    "skopeo",
                    [&words[..], &[&format!("docker://{}", registry.name(&name)), &copy]].concat(),
                )
                .success();
                registry.index(&name, "latest").digest
            } else {
                Index::layout(&read).digest
            }
        });
        let _ = fs::remove_dir_all(out);
        (outcome, digest.ok())
    }

    /// Damages files of a copy of the store and builds. Gives what is wrong with that, if anything is.
    fn try_with(&mut self, what: &str, paths: &[PathBuf], how: Damage, next: Next) -> Option<String> {
        self.renew(Some(&self.pristine));
        for path in paths {
            damage(&self.world.root().join(path), how);
        }
        let (outcome, digest) = self.build(next);
        let shown = format!("{what}, {how:?}, {next:?}: {paths:?}");
        if outcome.exit() != 0 {
            return Some(format!("{shown}\n{}", outcome.report()));
        }
        if digest.as_ref() != self.expected.get(&next) {
            return Some(format!("{shown}: another image\n{}", outcome.report()));
        }
        let again = self.build(next);
        if again.0.exit() != 0 || again.1.as_ref() != self.expected.get(&next) {
            return Some(format!("{shown}: the second time\n{}", again.0.report()));
        }
        None
    }

    /// Files of the store by what they are, as paths below the store.
    fn kinds(&self) -> BTreeMap<&'static str, Vec<PathBuf>> {
        let base = shared_registry().index("busybox", "latest");
        let of_base: BTreeSet<String> = base
            .images
            .iter()
            .flat_map(|image| &image.layers)
            .flat_map(|layer| [&layer.digest, &layer.diff_id])
            .map(|digest| digest.trim_start_matches("sha256:").to_owned())
            .collect();
        let mut kinds: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
        for path in files(&self.pristine) {
            let place = path.strip_prefix(&self.pristine).expect("below").to_owned();
            let parts: Vec<&str> = place.iter().map(|part| part.to_str().unwrap_or_default()).collect();
            let is_base = |hex: &str| of_base.contains(hex);
            let first = || {
                let mut first = [0];
                let file = File::open(&path).expect("open");
                file.read_exact_at(&mut first, 0).map_or(0, |()| first[0])
            };
            let kind = match &parts[..] {
                ["blobs", "sha256", hex] if is_base(hex) => "blob of a base",
                ["blobs", "sha256", _] if first() == b'{' => "manifest or config",
                ["blobs", "sha256", _] => "blob of a layer",
                ["layers", hex, "index"] if is_base(hex) => "index of a base",
                ["layers", _, "index"] => "index of a layer",
                ["layers", _, name] if name.ends_with(".json") => "record of a blob",
                ["steps", _] => "record of a step",
                ["refs", _] => "record of a name",
                ["downloads", _] => "record of a download",
                ["contexts", ..] => "facts of a context",
                _ => continue,
            };
            kinds.entry(kind).or_default().push(place);
        }
        kinds
    }
}

/// The usual Dockerfile, with something from a web server.
const DOWNLOADS: &str = "ARG BASE=base\n\
    FROM $BASE AS tools\n\
    WORKDIR /w\n\
    RUN seq 1 300 > /w/a\n\
    COPY --link noise /w/noise\n\
    FROM $BASE\n\
    RUN --mount=type=bind,from=tools,source=/w,target=/t cat /t/a /t/a > /both\n\
    ADD URL /added\n\
    COPY --from=tools --link /w /tools\n\
    COPY text /text\n\
    RUN wc -l /both > /count\n";

/// Fails with all that was found at once.
#[track_caller]
fn none(found: Vec<String>) {
    assert!(found.is_empty(), "{} are wrong:\n{}", found.len(), found.join("\n----\n"));
}

#[test]
fn damage_in_one_file() {
    for user in users() {
        let mut store = Damaged::new(user);
        let kinds = store.kinds();
        let expected = [
            "blob of a base",
            "manifest or config",
            "blob of a layer",
            "index of a base",
            "index of a layer",
            "record of a blob",
            "record of a step",
            "record of a name",
            "record of a download",
            "facts of a context",
        ];
        assert_eq!(kinds.keys().copied().collect::<BTreeSet<_>>(), expected.into(), "{user:?}");
        let mut found = Vec::new();
        let mut number = 0;
        for (kind, paths) in &kinds {
            // What a build reads is damaged more often than what it only looks up. None of these numbers has
            // a divisor in common with those of the damages and of the builds, which so meet in all ways.
            let is_read = kind.starts_with("blob") || kind.starts_with("index");
            for path in paths {
                for next in NEXT {
                    number += 1;
                    let is_due = match (user != User::Root && is_root(), is_read) {
                        (true, _) => number % 9 == 0,
                        (false, true) => number % 3 != 0,
                        (false, false) => number % 7 == 0,
                    };
                    if is_due {
                        let how = DAMAGES[number % DAMAGES.len()];
                        found.extend(store.try_with(kind, slice::from_ref(path), how, next));
                    }
                }
            }
        }
        none(found);
    }
}

#[test]
fn damage_in_all_files_of_a_kind() {
    let mut store = Damaged::new(if is_root() { User::Root } else { User::Plain });
    let mut found = Vec::new();
    for (at, (kind, paths)) in store.kinds().into_iter().enumerate() {
        for (number, how) in DAMAGES.into_iter().enumerate() {
            found.extend(store.try_with(kind, &paths, how, NEXT[(at + number) % NEXT.len()]));
        }
    }
    none(found);
}

#[test]
fn damage_is_told_and_mended_once() {
    for user in users() {
        let mut store = Damaged::new(user);
        let kinds = store.kinds();
        let warnings = |outcome: &Outcome| {
            let events = outcome.events();
            let texts = events.iter().filter(|event| event["event"] == "warning");
            texts.map(|event| event["text"].to_string()).collect::<Vec<_>>()
        };
        // The usual build says nothing of the kind.
        store.renew(Some(&store.pristine));
        let usual = warnings(&store.build(Next::Push).0);
        for path in kinds["blob of a layer"].clone() {
            store.renew(Some(&store.pristine));
            damage(&store.world.root().join(&path), Damage::Flipped);
            let before = warnings(&store.build(Next::Push).0.success());
            let hex = path.file_name().expect("a name").to_str().expect("hex");
            // A download's blob is not part of an image.
            let is_used = before.len() > usual.len();
            assert!(before.len() <= usual.len() + 1, "{user:?}: {before:?}");
            assert!(!is_used || before.iter().any(|text| text.contains(&hex[..12])), "{user:?}: {before:?}");
            let after = warnings(&store.build(Next::Push).0.success());
            assert_eq!(after, usual, "{user:?}: {path:?} was not made again");
            store_is_whole(&store.world);
        }
    }
}

/// The first file with this end in the store's directory forms.
fn in_a_directory(root: &Path, end: &str) -> PathBuf {
    let found = files(&root.join("layers"))
        .into_iter()
        .find(|path| path.to_str().is_some_and(|path| path.ends_with(end)));
    let found = found.unwrap_or_else(|| panic!("no layer has a file {end} in a directory"));
    found.strip_prefix(root).expect("below").to_owned()
}

/// Commands are given a layer's directory as it is: to read all of it before each would cost more than the
/// command. A bit that has flipped in it is found when the layer becomes a blob, and by `cache verify`.
#[test]
fn damage_in_directories() {
    for user in users() {
        let mut store = Damaged::new(user);
        let mut found = Vec::new();
        // No command reads this any more, once the first that did is cached.
        let file = in_a_directory(&store.pristine, "/w/a");
        for how in [Damage::Flipped, Damage::Half, Damage::Gone] {
            for next in NEXT {
                found.extend(store.try_with("file of a directory", slice::from_ref(&file), how, next));
            }
            store.renew(Some(&store.pristine));
            damage(&store.world.root().join(&file), how);
            cache(&store.world, &["verify"]).run().code(1);
            let (outcome, digest) = store.build(Next::Stage);
            outcome.success();
            assert_eq!(digest.as_ref(), store.expected.get(&Next::Stage), "{user:?}, {how:?}");
            store_is_whole(&store.world);
        }
        none(found);

        // A directory that is gone, with or without the layer's other forms.
        let form = file.iter().take(3).collect::<PathBuf>();
        let layer = file.iter().take(2).collect::<PathBuf>();
        for gone in [form, layer] {
            for next in NEXT {
                store.renew(Some(&store.pristine));
                let gone = store.world.root().join(&gone);
                fs::remove_dir_all(&gone).expect("remove");
                let (outcome, digest) = store.build(next);
                let outcome = outcome.success();
                assert_eq!(
                    digest.as_ref(),
                    store.expected.get(&next),
                    "{user:?}, {next:?}\n{}",
                    outcome.report()
                );
                store_is_whole(&store.world);
            }
        }
    }
}
