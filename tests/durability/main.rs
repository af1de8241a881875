//! Builds that are killed at any instant, many builds at once on one store, disks that are full, bits that
//! have flipped: the store stays whole, or what is damaged is dropped with a warning and made again. The image
//! is always that of an undisturbed build.

mod damaged;
mod full;
mod killed;
#[path = "../support/mod.rs"]
mod support;
mod together;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use support::{Registry, Run, World, base, shared_registry};

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

/// Where the registry keeps what it knows of a repository.
fn repository(registry: &Registry, name: &str) -> PathBuf {
    let blob = registry.blob_path(&format!("sha256:{}", "0".repeat(64)));
    blob.ancestors().nth(5).expect("the registry's data").join("repositories").join(name)
}
