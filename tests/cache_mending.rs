//! Remote caches that lost what their records promise, and layers whose compression is another.

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Index, Outcome, Registry, Run, World, base, layout, shared_registry};

const TIME: &str = "1700000000";
const DOCKERFILE: &str = "\
ARG BASE=busybox
FROM $BASE
RUN echo first && head -c 5000 /dev/zero > /zeros
COPY a.txt /
RUN echo last && cat /a.txt /a.txt > /twice
";
const RUNS: usize = 2;

/// A machine of its own: an empty store, the same context.
struct Machine {
    world: World,
    context: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let world = World::new();
        let context = world.context("context", DOCKERFILE);
        world.write("context/a.txt", "alpha\n");
        Self { world, context }
    }

    fn command(&self, extra: &[&str]) -> Run {
        self.world
            .build()
            .args(["--progress", "json", "--timestamp", TIME, "--platform", "linux/amd64"])
            .args(["--build-arg", &base()])
            .args(extra)
            .arg(&self.context)
    }

    /// Builds into a layout; `extra` may change its compression.
    fn build(&self, compression: &str, extra: &[&str]) -> Outcome {
        let out = format!("{}{compression}", layout(&self.image_path()));
        self.command(&["-o", &out]).args(extra).run().success()
    }

    fn image_path(&self) -> PathBuf {
        self.world.path("out/image")
    }

    /// What the manifest of the image says of its layers' types.
    fn layer_types(&self) -> Vec<String> {
        let index = Index::layout(&self.image_path());
        index.images[0].layers.iter().map(|layer| layer.media_type.clone()).collect()
    }
}

fn said(outcome: &Outcome, event: &str) -> Vec<String> {
    let events = outcome.events();
    let fitting = events.iter().filter(|found| found["event"] == event);
    fitting.map(ToString::to_string).collect()
}

/// The digests of the layers that the records of a repository name.
fn layers_of_records(registry: &Registry, repository: &str) -> Vec<String> {
    let get = |path: String| {
        let url = format!("http://{}/v2/{repository}/{path}", registry.host());
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        let text = support::tool("curl", ["-fsS", "-H", accept, &url]).success().stdout;
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let tags = get("tags/list".to_owned());
    let tags =
        tags["tags"].as_array().expect("tags").iter().map(|tag| tag.as_str().expect("text").to_owned());
    let layer = |tag: String| {
        let manifest = get(format!("manifests/{tag}"));
        manifest["layers"][0]["digest"].as_str().expect("a digest").to_owned()
    };
    let mut layers: Vec<String> = tags.map(layer).collect();
    layers.sort();
    layers.dedup();
    layers
}

/// Changes a byte in every layer of a folder; says how many there were.
fn spoil_layers(place: &Path) -> usize {
    let mut count = 0;
    for blob in std::fs::read_dir(place.join("blobs/sha256")).expect("blobs").flatten() {
        let mut bytes = std::fs::read(blob.path()).expect("a blob");
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(blob.path(), bytes).expect("write");
            count += 1;
        }
    }
    count
}

/// A cache that is as good as on its first day.
fn is_whole(from: &str) {
    let machine = Machine::new();
    let outcome = machine.build("", &["--cache-from", from]);
    assert_eq!(outcome.runs("started"), 0, "{}", outcome.report());
    assert_eq!(said(&outcome, "warning"), Vec::<String>::new());
    let index = Index::layout(&machine.image_path());
    assert_eq!(index.images[0].tree().text("/twice"), "alpha\nalpha\n");
}

#[test]
fn a_registry_that_lost_layers_has_them_again_after_the_next_export() {
    // Its own: in another repository of the same registry a test may send the same layers.
    let registry = Registry::start();
    let from = format!("type=registry,ref={}", registry.name("mend/lost:main"));
    let to = format!("{from},mode=max,ignore-error=false");
    Machine::new().build("", &["--cache-to", &to]);
    let layers = layers_of_records(&registry, "mend/lost");
    assert_eq!(layers.len(), RUNS + 1);
    let lose = || {
        for layer in &layers {
            std::fs::remove_file(registry.blob_path(layer)).expect("a layer");
        }
    };
    // By a build that knows nothing of the cache.
    lose();
    Machine::new().build("", &["--cache-to", &to]);
    is_whole(&from);
    // By the build that found out.
    lose();
    let found_out = Machine::new().build("", &["--cache-from", &from, "--cache-to", &to]);
    assert!(said(&found_out, "warning")[0].contains("brings a lost layer again"), "{}", found_out.report());
    is_whole(&from);
}

#[test]
fn a_folder_with_damaged_layers_is_whole_after_the_next_export() {
    let keeper = World::new();
    let place = keeper.path("cache");
    let from = format!("type=local,src={}", place.display());
    let to = format!("type=local,dest={},mode=max,ignore-error=false", place.display());
    Machine::new().build("", &["--cache-to", &to]);
    assert_eq!(spoil_layers(&place), RUNS + 1);
    let outcome = Machine::new().build("", &["--cache-to", &to]);
    let notes = said(&outcome, "note").join("\n");
    assert!(notes.contains(&format!("{} sent", RUNS + 1)), "{}", outcome.report());
    is_whole(&from);
    spoil_layers(&place);
    Machine::new().build("", &["--cache-from", &from, "--cache-to", &to]);
    is_whole(&from);
}

#[test]
fn layers_of_caches_keep_their_compression_and_a_note_says_so() {
    let from = format!("type=registry,ref={}", shared_registry().name("mend/compression:main"));
    Machine::new().build("", &["--cache-to", &format!("{from},ignore-error=false")]);
    let told = |outcome: &Outcome| {
        said(outcome, "note").iter().filter(|text| text.contains("keep their compression")).count()
    };
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    for (compression, notes, all_zstd) in [
        ("", 0, false),
        (",compression=zstd", 1, false),
        (",compression=zstd,force-compression=true", 0, true),
    ] {
        let machine = Machine::new();
        let outcome = machine.build(compression, &["--cache-from", &from]);
        assert_eq!(told(&outcome), notes, "{compression}: {}", outcome.report());
        let types = machine.layer_types();
        assert_eq!(types.iter().all(|kind| kind == zstd), all_zstd, "{compression}: {types:?}");
    }
    // Without a cache only the base keeps its own, which is nothing new.
    let machine = Machine::new();
    assert_eq!(told(&machine.build(",compression=zstd", &[])), 0);
    assert_eq!(machine.layer_types().iter().filter(|kind| *kind == zstd).count(), RUNS + 1);
}

#[test]
fn the_argument_that_asks_for_an_inline_cache_names_the_option() {
    let machine = Machine::new();
    let outcome = machine.command(&["--build-arg", "BUILDKIT_INLINE_CACHE=1"]).run().code(2);
    let said = format!("{}{}", outcome.stderr, outcome.stdout);
    assert!(said.contains("the build argument BUILDKIT_INLINE_CACHE is not supported"), "{said}");
    assert!(said.contains("use --cache-to type=inline"), "{said}");
}
