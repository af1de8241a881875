//! Bits that have flipped in the store, and caches that lie: no output has a wrong byte, and no result
//! that was made of one is kept.

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Index, Outcome, World, base, flip, layout, sha256, tool};

const TIME: &str = "1700000000";
/// No commands: layers are kept as blobs.
const COPIES: &str =
    "FROM scratch AS files\nCOPY big /big\nFROM scratch\nCOPY --from=files /big /copy\nCOPY text /text\n";
const RUNS: &str = "ARG BASE\nFROM $BASE\nRUN seq 1 5000 > /numbers\nCOPY text /text\n";

/// A context whose `big` neither compresses well nor fits into one piece.
fn context(world: &World, dockerfile: &str) -> PathBuf {
    let mut state = 1u32;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    let big: Vec<u8> = (0..200_000).flat_map(|_| random()).collect();
    let context = world.context("context", dockerfile);
    world.write("context/big", big);
    world.write("context/text", "text\n");
    context
}

fn build(world: &World, output: &str, extra: &[&str]) -> Outcome {
    world
        .build()
        .args(["--progress", "json", "--timestamp", TIME, "--build-arg", &base(), "-o", output])
        .args(extra)
        .arg(world.path("context"))
        .run()
        .success()
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").expect("a digest")
}

/// Warnings of what the store holds; not all Dockerfiles here name a base.
fn warnings(outcome: &Outcome) -> Vec<String> {
    outcome.warnings().into_iter().filter(|text| !text.contains("BASE")).collect()
}

fn started(outcome: &Outcome) -> usize {
    let is_step = |event: &&Value| {
        event["event"] == "started" && event["step"].as_str().is_some_and(|step| !step.starts_with("FROM"))
    };
    outcome.events().iter().filter(is_step).count()
}

/// Has another program compare all digests of an image.
fn check_digests(world: &World, source: &str) {
    let to = world.path("checked");
    drop(std::fs::remove_dir_all(&to));
    tool("skopeo", ["copy", "--insecure-policy", source, &format!("dir:{}", to.display())]).success();
}

#[test]
fn no_output_has_a_damaged_layer() {
    for dockerfile in [COPIES, RUNS] {
        let world = World::new();
        context(&world, dockerfile);
        let folder = world.path("out/whole");
        build(&world, &layout(&folder), &[]);
        let whole = Index::layout(&folder);
        let layers: Vec<String> = whole.images[0].layers.iter().map(|layer| layer.digest.clone()).collect();
        for (at, layer) in layers.iter().enumerate() {
            let blob = world.root().join("blobs/sha256").join(hex(layer));
            for kind in ["folder", "oci", "docker"] {
                flip(&blob);
                let out = world.path(&format!("out/{kind}-{at}"));
                let spec = match kind {
                    "folder" => layout(&out),
                    kind => format!("type={kind},dest={}", out.display()),
                };
                let outcome = build(&world, &spec, &[]);
                let said = warnings(&outcome);
                assert!(
                    said.len() == 1 && said[0].contains("was damaged"),
                    "{kind} {layer}: {}",
                    outcome.report()
                );
                match kind {
                    "folder" => {
                        assert_eq!(Index::layout(&out).digest, whole.digest);
                        check_digests(&world, &format!("oci:{}", out.display()));
                    }
                    "oci" => {
                        assert_eq!(Index::layout_tar(&out).digest, whole.digest);
                        check_digests(&world, &format!("oci-archive:{}", out.display()));
                    }
                    _ => check_digests(&world, &format!("docker-archive:{}", out.display())),
                }
                let left = std::fs::read_dir(world.path("out")).expect("a folder").flatten();
                let hidden =
                    left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".fanfold-"));
                assert_eq!(hidden.count(), 0, "{kind}");
            }
        }
    }
}

#[test]
fn files_and_streams_are_right_too() {
    let world = World::new();
    let context = context(&world, COPIES);
    let folder = world.path("out/whole");
    build(&world, &layout(&folder), &[]);
    let layer = Index::layout(&folder).images[0].layers[0].digest.clone();
    let blob = world.root().join("blobs/sha256").join(hex(&layer));
    let big = std::fs::read(context.join("big")).expect("big");
    flip(&blob);
    let local = world.path("out/local");
    let outcome = build(&world, &format!("type=local,dest={}", local.display()), &[]);
    assert_eq!(warnings(&outcome).len(), 1, "{}", outcome.report());
    assert!(std::fs::read(local.join("copy")).expect("copy") == big);

    // What went to a pipe cannot be taken back.
    let program = world.binary().display().to_string();
    for kind in ["oci", "docker", "tar"] {
        flip(&blob);
        let out = world.path(&format!("out/stream-{kind}"));
        let command = format!(
            "'{program}' build --root '{}' --timestamp {TIME} -o type={kind},dest=- '{}' > '{}'",
            world.root().display(),
            context.display(),
            out.display()
        );
        let outcome = support::Run::new({
            let mut shell = world.command("sh");
            shell.args(["-c", &command]);
            shell
        })
        .run()
        .success();
        outcome.stderr_has("was damaged");
        let shown = out.display().to_string();
        match kind {
            "oci" => check_digests(&world, &format!("oci-archive:{shown}")),
            "docker" => check_digests(&world, &format!("docker-archive:{shown}")),
            _ => {
                tool("tar", ["-xf", &shown, "-C", &world.folder("unpacked").display().to_string()]).success();
                assert!(std::fs::read(world.path("unpacked/copy")).expect("copy") == big);
            }
        }
    }
}

#[test]
fn a_layout_that_is_damaged_is_mended() {
    let world = World::new();
    context(&world, COPIES);
    let folder = world.path("out/whole");
    build(&world, &layout(&folder), &[]);
    let index = Index::layout(&folder);
    for layer in &index.images[0].layers {
        flip(&folder.join("blobs/sha256").join(hex(&layer.digest)));
    }
    let outcome = build(&world, &layout(&folder), &[]);
    assert_eq!(warnings(&outcome), Vec::<String>::new());
    check_digests(&world, &format!("oci:{}", folder.display()));
}

#[test]
fn nothing_is_made_of_damaged_files() {
    let world = World::new();
    let context = context(&world, "FROM scratch\nCOPY big /big\n");
    let folder = world.path("out/files");
    build(&world, &layout(&folder), &[]);
    let layer = Index::layout(&folder).images[0].layers[0].digest.clone();
    let blob = world.root().join("blobs/sha256").join(hex(&layer));
    let big = std::fs::read(context.join("big")).expect("big");
    // The stage's own result is known, and what is copied out of it is new each time.
    for (at, flags) in
        [[].as_slice(), &["compression=uncompressed"], &["compression=zstd"]].iter().enumerate()
    {
        world.write(
            "context/Dockerfile",
            format!(
                "FROM scratch AS files\nCOPY big /big\nFROM scratch\nCOPY --from=files /big /copy-{at}\n"
            ),
        );
        flip(&blob);
        let out = world.path(&format!("out/copied-{at}"));
        let spec = std::iter::once(layout(&out)).chain(flags.iter().map(|flag| (*flag).to_owned()));
        let outcome = build(&world, &spec.collect::<Vec<_>>().join(","), &[]);
        assert_eq!(warnings(&outcome).len(), 1, "{}", outcome.report());
        let tree = Index::layout(&out).images[0].tree();
        assert!(tree.get(format!("/copy-{at}")).is_some());
        let local = world.path(&format!("out/local-{at}"));
        build(&world, &format!("type=local,dest={}", local.display()), &[]);
        assert!(std::fs::read(local.join(format!("copy-{at}"))).expect("a copy") == big, "{at}");
        if !blob.exists() {
            build(
                &world,
                &layout(&folder),
                &["-f", &world.write("one", "FROM scratch\nCOPY big /big\n").display().to_string()],
            );
        }
    }
}

/// A store that knows nothing, with the same context.
fn other(world: &World) -> World {
    let other = World::new();
    context(&other, &std::fs::read_to_string(world.path("context/Dockerfile")).expect("a Dockerfile"));
    other
}

#[test]
fn what_came_from_a_cache_is_found_without_it() {
    for dockerfile in [COPIES, RUNS] {
        let world = World::new();
        context(&world, dockerfile);
        let cache = world.path("cache").display().to_string();
        let to = format!("type=local,dest={cache},mode=max,ignore-error=false");
        let folder = world.path("out/image");
        build(&world, &layout(&folder), &["--cache-to", &to]);
        let digest = Index::layout(&folder).digest;
        let other = other(&world);
        let from = format!("type=local,src={cache}");
        for extra in [&["--cache-from", &from][..], &[]] {
            let out = other.path("out/image");
            let outcome = build(&other, &layout(&out), extra);
            assert_eq!(started(&outcome), 0, "{}", outcome.report());
            assert_eq!(Index::layout(&out).digest, digest);
        }
    }
}

/// Replaces the layer of every record by another blob, with the digests that make it look right.
fn lie(cache: &Path, instead: &[u8]) {
    let place = |digest: &str| cache.join("blobs/sha256").join(hex(digest));
    let read = |path: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
    };
    let put = |bytes: &[u8]| {
        let digest = format!("sha256:{}", sha256(bytes).trim_start_matches("sha256:"));
        std::fs::write(place(&digest), bytes).expect("write");
        (digest, bytes.len())
    };
    let (digest, size) = put(instead);
    let mut index = read(&cache.join("index.json"));
    for entry in index["manifests"].as_array_mut().expect("manifests") {
        let mut manifest = read(&place(entry["digest"].as_str().expect("a digest")));
        manifest["layers"][0]["digest"] = digest.clone().into();
        manifest["layers"][0]["size"] = size.into();
        let (digest, size) = put(&serde_json::to_vec(&manifest).expect("JSON"));
        entry["digest"] = digest.into();
        entry["size"] = size.into();
    }
    std::fs::write(cache.join("index.json"), serde_json::to_vec(&index).expect("JSON")).expect("write");
}

#[test]
fn a_cache_that_lies_is_not_believed() {
    let world = World::new();
    context(&world, COPIES);
    let cache = world.path("cache");
    let to = format!("type=local,dest={},mode=max,ignore-error=false", cache.display());
    let folder = world.path("out/image");
    build(&world, &layout(&folder), &["--cache-to", &to]);
    let image = Index::layout(&folder);
    let last = image.images[0].layers.last().expect("a layer").digest.clone();
    let instead = std::fs::read(folder.join("blobs/sha256").join(hex(&last))).expect("a blob");
    let others = |cache: &Path| format!("type=local,src={}", cache.display());
    for (what, bytes) in [("another layer", instead), ("junk", b"junk".to_vec())] {
        lie(&cache, &bytes);
        let other = other(&world);
        let out = other.path("out/image");
        let outcome = build(&other, &layout(&out), &["--cache-from", &others(&cache)]);
        assert!(!warnings(&outcome).is_empty(), "{what}: {}", outcome.report());
        assert_eq!(Index::layout(&out).digest, image.digest, "{what}");
        check_digests(&other, &format!("oci:{}", out.display()));
        // It is not believed later either.
        let outcome = build(&other, &layout(&out), &["--cache-from", &others(&cache)]);
        assert_eq!(Index::layout(&out).digest, image.digest, "{what}: {}", outcome.report());
    }
}
