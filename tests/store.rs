//! `fanfold cache`: the store is listed, cleaned up beside builds, and read again; bits that have flipped
//! are found, and made again by the next build.

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Index, Run, World, base, flip, layout, native_platform, shared_registry, users};

const TIME: &str = "1700000000";
const DOCKERFILE: &str =
    "ARG BASE\nFROM $BASE\nRUN seq 1 1000 > /numbers && chown 5:6 /numbers\nCOPY text /t/\n";

fn cache(world: &World, words: &[&str]) -> Run {
    let root = world.root();
    world.fanfold(["cache"]).args(words).args(["--root", root.to_str().expect("UTF-8")])
}

fn json(world: &World, words: &[&str]) -> Value {
    let outcome = cache(world, words).arg("--json").run().success();
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}\n{}", outcome.report()))
}

fn kinds(listed: &Value) -> Vec<&str> {
    let entries = listed["entries"].as_array().expect("entries");
    entries.iter().map(|entry| entry["kind"].as_str().expect("a kind")).collect()
}

/// A build of the usual Dockerfile into a layout, and the layout's digest.
fn build(world: &World, name: &str) -> (support::Outcome, String) {
    world.write("context/text", "text\n");
    let context = world.context("context", DOCKERFILE);
    let out = world.path(&format!("out/{name}"));
    let outcome = world
        .build()
        .args(["--progress", "json", "--timestamp", TIME, "--build-arg", &base()])
        .args(["--output", &layout(&out)])
        .arg(&context)
        .run()
        .success();
    (outcome, Index::layout(&out).digest)
}

/// Files below a folder of the store.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(files(&path)),
            Ok(metadata) if metadata.is_file() => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

#[test]
fn what_builds_leave_is_listed_and_removed() {
    for user in users() {
        let world = World::of(user);
        cache(&world, &["ls"]).run().success().stdout_has("the store is empty");
        let (_, digest) = build(&world, "one");
        let listed = json(&world, &["ls"]);
        let found = kinds(&listed);
        for kind in ["layer", "base", "image"] {
            assert!(found.contains(&kind), "{user:?}: no {kind} in {listed}");
        }
        for entry in listed["entries"].as_array().expect("entries") {
            assert_eq!(entry["whole"], true, "{user:?}: {entry}");
            assert_eq!(entry["in_use"], false, "{user:?}: {entry}");
            assert!(entry["size"].as_u64().expect("a size") > 0, "{user:?}: {entry}");
        }
        cache(&world, &["ls"]).run().success().stdout_has("RUN seq 1 1000").stdout_has(native_platform());
        cache(&world, &["ls", "--platform", "linux/s390x"])
            .run()
            .success()
            .stdout_has("nothing in the store");
        cache(&world, &["du"]).run().success().stdout_has("total: ").stdout_has("KIND");
        let used = json(&world, &["du"]);
        assert_eq!(used["freeable"], used["size"], "{user:?}: {used}");

        cache(&world, &["prune"]).run().code(2).stderr_has("--older-than 7d");
        cache(&world, &["prune", "--filter", "type=x"]).run().code(2).stderr_has("until=DURATION");
        assert_eq!(json(&world, &["prune", "--older-than", "1h"])["freed"], 0);
        let dry = json(&world, &["prune", "--all", "--dry-run"]);
        assert_eq!(dry["freed"], used["size"], "{user:?}");
        assert_eq!(kinds(&json(&world, &["ls"])).len(), found.len(), "{user:?}");
        let pruned = json(&world, &["prune", "--max-size", "0"]);
        assert_eq!(pruned["freed"], used["size"], "{user:?}: {pruned}");
        cache(&world, &["ls"]).run().success().stdout_has("the store is empty");
        for folder in ["layers", "blobs/sha256", "steps", "refs", "scratch"] {
            let left: Vec<_> = std::fs::read_dir(world.root().join(folder)).expect("a folder").collect();
            assert!(left.is_empty(), "{user:?}: {folder} has {left:?}");
        }
        assert_eq!(build(&world, "again").1, digest, "{user:?}");
    }
}

#[test]
fn a_running_build_keeps_what_it_uses() {
    for user in users() {
        let world = World::of(user);
        build(&world, "before");
        let context = world.context(
            "slow",
            "ARG BASE\nFROM $BASE\nRUN seq 1 1000 > /numbers && chown 5:6 /numbers\n\
             RUN --mount=type=cache,target=/c echo kept > /c/file && touch /begun && sleep 3 && cat /c/file /numbers\n\
             RUN wc -l /numbers\n",
        );
        let out = world.path("out/slow");
        let running = world
            .build()
            .args(["--timestamp", TIME, "--build-arg", &base(), "--output", &layout(&out)])
            .arg(&context)
            .start();
        // The command has begun when its cache has a file.
        let begun = Instant::now();
        while !files(&world.root().join("caches")).iter().any(|path| path.ends_with("file")) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the build does not begin");
            std::thread::sleep(Duration::from_millis(10));
        }
        for criteria in [&["--all"][..], &["--older-than", "0d"], &["--max-size", "0"]] {
            let pruned = json(&world, &[&["prune"][..], criteria].concat());
            assert!(pruned["in_use"].as_u64() > Some(1), "{user:?}: {pruned}");
        }
        running.finish().success();
        Index::layout(&out);
        // What it has kept is whole, and goes now.
        cache(&world, &["verify"]).run().success();
        assert_eq!(json(&world, &["prune", "--all"])["size"], 0);
    }
}

#[test]
fn ten_builds_and_a_cleaner_on_one_store() {
    let world = World::new();
    world.write("context/text", "text\n");
    let context = world.context("context", DOCKERFILE);
    let start = |number: usize| {
        world
            .build()
            .args(["--timestamp", TIME, "--platform", "linux/amd64,linux/arm64", "--build-arg", &base()])
            .args(["--output", &layout(&world.path(&format!("out/{number}")))])
            .arg(&context)
            .start()
    };
    let running: Vec<_> = (0..10)
        .map(|number| {
            let build = start(number);
            cache(&world, &["prune", "--all"]).run().success();
            build
        })
        .collect();
    for build in running {
        build.finish().success();
    }
    let digests: std::collections::BTreeSet<String> =
        (0..10).map(|number| Index::layout(&world.path(&format!("out/{number}"))).digest).collect();
    assert_eq!(digests.len(), 1);
    cache(&world, &["verify"]).run().success().stdout_has("none of them damaged");
}

#[test]
fn flipped_bits_are_found_and_made_again() {
    for user in users() {
        let world = World::of(user);
        let (_, digest) = build(&world, "whole");
        let verified = json(&world, &["verify"]);
        assert_eq!(verified["damaged"], serde_json::json!([]), "{user:?}");
        assert!(verified["blobs"].as_u64() > Some(3) && verified["layers"].as_u64() > Some(1), "{verified}");
        let below = |folder: &str| files(&world.root().join(folder));
        let largest = |folder: &str| {
            below(folder).into_iter().max_by_key(|path| path.metadata().map_or(0, |file| file.len()))
        };
        let of_layers = |end: &str| {
            below("layers").into_iter().find(|path| path.to_str().is_some_and(|path| path.ends_with(end)))
        };
        let table = [
            ("blob", largest("blobs")),
            ("record", largest("steps")),
            ("record", largest("refs")),
            ("record", of_layers(".json")),
            ("index", of_layers("/index")),
            ("directory", of_layers("fs/numbers")),
            ("directory", of_layers("bin/busybox")),
        ];
        for (at, (kind, path)) in table.into_iter().enumerate() {
            let path = path.unwrap_or_else(|| panic!("{user:?}: nothing to damage for {kind}, {at}"));
            flip(&path);
            let found = cache(&world, &["verify", "--json"]).run().code(1);
            let found: Value = serde_json::from_str(&found.stdout).expect("JSON");
            let damaged = found["damaged"].as_array().expect("a list");
            let is_it = |damage: &&Value| damage["kind"] == kind && damage["dropped"] == true;
            assert_eq!(damaged.iter().filter(is_it).count(), 1, "{user:?}: {path:?}: {found}");
            cache(&world, &["verify"]).run().success();
            assert_eq!(build(&world, &format!("after-{at}")).1, digest, "{user:?}: {path:?}");
        }
    }
}

#[test]
fn damaged_records_are_misses() {
    let world = World::new();
    let (_, digest) = build(&world, "one");
    assert_eq!(build(&world, "two").0.runs("started"), 0);
    for path in files(&world.root().join("steps")).into_iter().chain(files(&world.root().join("refs"))) {
        flip(&path);
    }
    let (outcome, again) = build(&world, "three");
    assert_eq!(outcome.runs("started"), 1, "{}", outcome.report());
    assert_eq!(again, digest);
}

#[test]
fn warm_images_are_neither_pulled_nor_unpacked_again() {
    for user in users() {
        let world = World::of(user);
        let name = shared_registry().name("busybox");
        let words = ["warm", &name, "--platform", "linux/amd64,linux/arm64"];
        let first = json(&world, &words);
        let images = first["images"].as_array().expect("images");
        assert_eq!(images.len(), 2, "{first}");
        assert!(images.iter().all(|image| image["was_here"] == false), "{first}");
        let again = json(&world, &words);
        assert!(again["images"].as_array().expect("images").iter().all(|image| image["was_here"] == true));
        cache(&world, &words).run().success().stdout_has("linux/arm64").stdout_has("was here");
        let listed = cache(&world, &["ls", "--platform", "linux/arm64"]).run().success();
        listed.stdout_has("busybox").stdout_has("base");

        let context = world.context("context", &format!("FROM {name}\nRUN echo x > /x\n"));
        let outcome = world
            .build()
            .args(["--progress", "json", "--platform", "linux/amd64,linux/arm64"])
            .arg(&context)
            .run()
            .success();
        let pulled = |event: &&Value| matches!(event["event"].as_str(), Some("pulled" | "unpacked"));
        assert_eq!(outcome.events().iter().filter(pulled).count(), 0, "{}", outcome.report());
    }
    let world = World::new();
    let missing = shared_registry().name("nothing/here");
    cache(&world, &["warm", &missing]).run().code(5).stderr_has("not found");
    cache(&world, &["warm"]).run().code(2);
    cache(&world, &["warm", "UPPER"]).run().code(2).stderr_has("names no image");
}
