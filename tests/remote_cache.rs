//! Remote caches: what machines have in common with no store between them.

mod support;

use std::path::PathBuf;

use serde_json::Value;
use support::{
    Fault, Image, Index, Outcome, Proxy, Registry, World, base, closed_port, layout, shared_registry,
};

const TIME: &str = "1700000000";
const TWO: &str = "linux/amd64,linux/arm64";
/// A stage that is only copied from, a native stage that all platforms share, and steps of each platform.
const DOCKERFILE: &str = "\
ARG BASE=busybox
FROM --platform=$BUILDPLATFORM $BASE AS tools
RUN echo shared && echo tool > /tool
FROM $BASE AS middle
RUN echo middle && echo middle > /m
FROM $BASE
RUN echo final && echo final > /f
COPY --from=tools /tool /tool
COPY --from=middle /m /m
COPY a.txt /
RUN cat /a.txt /tool /m > /all
";
/// How many RUN steps it has on one platform; the first is the same on all.
const RUNS: usize = 4;

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

    /// Builds into a layout, which is given back beside what was said.
    fn build(&self, platforms: &str, extra: &[&str]) -> Outcome {
        self.run(platforms, extra).success()
    }

    fn run(&self, platforms: &str, extra: &[&str]) -> Outcome {
        let out = layout(&self.world.path("out/image"));
        self.world
            .build()
            .args(["--progress", "json", "--timestamp", TIME, "--platform", platforms])
            .args(["--build-arg", &base(), "--build-arg", "BUILDKIT_MULTI_PLATFORM=1", "-o", &out])
            .args(extra)
            .arg(&self.context)
            .run()
    }

    fn image(&self, platform: &str) -> Image {
        let mut index = Index::layout(&self.world.path("out/image"));
        let at = index.platforms().iter().position(|known| *known == platform).expect("the platform");
        index.images.swap_remove(at)
    }
}

/// The tags of records in a repository of the shared registry.
fn record_tags(repository: &str) -> Vec<String> {
    let url = format!("http://{}/v2/{repository}/tags/list", shared_registry().host());
    let list = support::tool("curl", ["-sS", &url]).success();
    let list: Value = serde_json::from_str(&list.stdout).expect("JSON");
    let tags = list["tags"].as_array().expect("tags");
    tags.iter().map(|tag| tag.as_str().expect("text").to_owned()).collect()
}

/// Puts a manifest under a tag of the shared registry.
fn put(repository: &str, tag: &str, body: &str) {
    let url = format!("http://{}/v2/{repository}/manifests/{tag}", shared_registry().host());
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json";
    support::tool("curl", ["-fsS", "-X", "PUT", "-H", kind, "--data-binary", body, &url]).success();
}

fn get(repository: &str, tag: &str) -> String {
    let url = format!("http://{}/v2/{repository}/manifests/{tag}", shared_registry().host());
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
    support::tool("curl", ["-fsS", "-H", accept, &url]).success().stdout
}

#[test]
fn an_empty_store_builds_nothing_and_downloads_no_layer() {
    let cache = shared_registry().name("rc/whole:main");
    let to = format!("type=registry,ref={cache},mode=max,ignore-error=false");
    let first = Machine::new();
    let built = first.build(TWO, &["--cache-to", &to]);
    assert_eq!(built.runs("finished"), 2 * RUNS - 1, "{}", built.report());

    let second = Machine::new();
    let proxy = Proxy::start(shared_registry().port(), Fault::None);
    let context = second.context.clone();
    let cached = second
        .world
        .build()
        .args(["--progress", "json", "--timestamp", TIME, "--platform", TWO])
        .args(["--build-arg", &format!("BASE={}", proxy.name("busybox"))])
        .args(["--cache-from", &format!("type=registry,ref={}", proxy.name("rc/whole:main"))])
        .args(["--push", "-t", &proxy.name("rc/result:v1")])
        .arg(&context)
        .run()
        .success();
    assert_eq!(cached.runs("finished"), 0, "{}", cached.report());
    assert_eq!(cached.warnings(), Vec::<String>::new());
    let seen = proxy.seen();
    let index = shared_registry().index("rc/result", "v1");
    for layer in index.images.iter().flat_map(|image| &image.layers) {
        assert!(!proxy.was_read(&layer.digest), "{} was downloaded: {seen:#?}", layer.digest);
        assert!(!proxy.uploads().contains(&layer.digest), "{} was uploaded: {seen:#?}", layer.digest);
        let mounted = seen.iter().any(|line| line.starts_with("POST") && line.contains("mount="));
        assert!(mounted, "{seen:#?}");
    }
    for platform in ["linux/amd64", "linux/arm64"] {
        let (one, other) = (first.image(platform), index.image(platform));
        assert_eq!(one.tree().lines(), other.tree().lines());
        assert_eq!(one.tree().text("/all"), "alpha\ntool\nmiddle\n");
    }
}

#[test]
fn jobs_of_one_platform_each_share_one_cache() {
    let cache = shared_registry().name("rc/matrix:main");
    let from = format!("type=registry,ref={cache}");
    let to = format!("{from},mode=max,ignore-error=false");
    let amd = Machine::new().build("linux/amd64", &["--cache-to", &to]);
    assert_eq!(amd.runs("finished"), RUNS);
    // The native stage is the other job's, too.
    let arm = Machine::new().build("linux/arm64", &["--cache-from", &from, "--cache-to", &to]);
    assert_eq!(arm.printed("shared"), 0, "{}", arm.report());
    assert_eq!(arm.runs("finished"), RUNS - 1, "{}", arm.report());
    let both = Machine::new().build(TWO, &["--cache-from", &from]);
    assert_eq!(both.runs("finished"), 0, "{}", both.report());
}

#[test]
fn jobs_at_the_same_time_lose_nothing() {
    let cache = shared_registry().name("rc/race:main");
    let to = format!("type=registry,ref={cache},mode=max,ignore-error=false");
    std::thread::scope(|scope| {
        for platform in ["linux/amd64", "linux/arm64", "linux/386"] {
            let to = &to;
            scope.spawn(move || Machine::new().build(platform, &["--cache-to", to]));
        }
    });
    let all = Machine::new()
        .build("linux/amd64,linux/arm64,linux/386", &["--cache-from", &format!("type=registry,ref={cache}")]);
    assert_eq!(all.runs("finished"), 0, "{}", all.report());
}

#[test]
fn a_bad_record_is_a_miss_with_a_warning_and_the_image_is_right() {
    let cache = shared_registry().name("rc/bad:main");
    let from = format!("type=registry,ref={cache}");
    let first = Machine::new();
    first.build("linux/amd64", &["--cache-to", &format!("{from},mode=max,ignore-error=false")]);
    let tags = record_tags("rc/bad");
    let good: Vec<String> = tags.iter().map(|tag| get("rc/bad", tag)).collect();
    let foreign = |_: usize| {
        let value: Value = serde_json::from_str(&good[0]).expect("JSON");
        let mut value = value;
        value["artifactType"] = "application/vnd.example.other".into();
        value.to_string()
    };
    let swapped = |at: usize| good[(at + good.len() / 2) % good.len()].clone();
    let stripped = |at: usize| good[at].replace("\\\"created\\\":", "\\\"greated\\\":");
    let bad: [(&str, &dyn Fn(usize) -> String); 3] =
        [("foreign", &foreign), ("of another key", &swapped), ("without a member", &stripped)];
    for (what, bad) in bad {
        for (at, tag) in tags.iter().enumerate() {
            put("rc/bad", tag, &bad(at));
        }
        let machine = Machine::new();
        let outcome = machine.build("linux/amd64", &["--cache-from", &from]);
        assert_eq!(outcome.warnings().len(), 1, "{what}: {}", outcome.report());
        let (one, other) = (first.image("linux/amd64"), machine.image("linux/amd64"));
        assert_eq!(one.tree().lines(), other.tree().lines(), "{what}");
    }
    // The next export mends it.
    let mend = Machine::new();
    mend.build("linux/amd64", &["--cache-to", &format!("{from},mode=max,ignore-error=false")]);
    let outcome = Machine::new().build("linux/amd64", &["--cache-from", &from]);
    assert_eq!(outcome.runs("finished"), 0, "{}", outcome.report());
}

#[test]
fn a_cache_that_is_down_is_a_warning_unless_it_matters() {
    let machine = Machine::new();
    let down = format!("localhost:{}/cache:main", closed_port());
    let from = format!("type=registry,ref={down}");
    let outcome = machine.build("linux/amd64", &["--cache-from", &from, "--cache-to", &from]);
    assert_eq!(outcome.runs("finished"), RUNS);
    let said = outcome.warnings();
    assert_eq!(said.len(), 2, "{}", outcome.report());
    assert!(said.iter().all(|text| text.contains(&down)), "{said:?}");
    // The same command may work later.
    machine.run("linux/amd64", &["--cache-to", &format!("{from},ignore-error=false")]).code(75);

    let proxy = Proxy::start(shared_registry().port(), Fault::Uploads(403));
    let refusing = format!("type=registry,ref={}", proxy.name("rc/refused:main"));
    let outcome = machine.build("linux/amd64", &["--cache-to", &refusing]);
    assert_eq!(outcome.warnings().len(), 1, "{}", outcome.report());
    machine.run("linux/amd64", &["--cache-to", &format!("{refusing},ignore-error=false")]).code(3);
}

#[test]
fn a_directory_is_a_cache() {
    let first = Machine::new();
    let place = first.world.path("out/cache");
    let from = format!("type=local,src={}", place.display());
    let to = format!("type=local,dest={},mode=max,ignore-error=false", place.display());
    // What is not there yet is no mistake.
    let cold = first.build("linux/amd64", &["--cache-from", &from, "--cache-to", &to]);
    assert_eq!(cold.warnings(), Vec::<String>::new());
    assert_eq!(cold.runs("finished"), RUNS);
    first.build("linux/arm64", &["--cache-to", &to]);

    let second = Machine::new();
    support::tool(
        "cp",
        ["-r", place.to_str().expect("UTF-8"), second.world.path("copy").to_str().expect("UTF-8")],
    )
    .success();
    let from = format!("type=local,src={}", second.world.path("copy").display());
    let cached = second.build(TWO, &["--cache-from", &from]);
    assert_eq!(cached.runs("finished"), 0, "{}", cached.report());
    assert_eq!(second.image("linux/arm64").tree().text("/all"), "alpha\ntool\nmiddle\n");
}

#[test]
fn an_image_is_its_own_cache() {
    let name = shared_registry().name("rc/inline:v1");
    let push = ["--cache-to", "type=inline", "--push", "-t", &name];
    Machine::new().build(TWO, &push);
    let machine = Machine::new();
    let cached = machine.build(TWO, &["--cache-from", &name]);
    // What the image does not hold is not needed either: all its own layers are known.
    assert_eq!(cached.runs("finished"), 0, "{}", cached.report());
    assert_eq!(cached.warnings(), Vec::<String>::new());
    // A change makes anew what stands on it; the inner stages are not in the image.
    machine.world.write("context/a.txt", "beta\n");
    let fresh = Machine::new();
    fresh.world.write("context/a.txt", "beta\n");
    let changed = fresh.build("linux/amd64", &["--cache-from", &format!("type=registry,ref={name}")]);
    assert_eq!(changed.printed("final"), 0, "{}", changed.report());
    assert_eq!(fresh.image("linux/amd64").tree().text("/all"), "beta\ntool\nmiddle\n");
}

#[test]
fn min_has_the_layers_of_the_images_and_max_those_of_all_stages() {
    let of = |mode: &str| {
        let repository = format!("rc/mode-{mode}");
        let cache = shared_registry().name(&format!("{repository}:main"));
        let to = format!("type=registry,ref={cache},mode={mode},ignore-error=false");
        Machine::new().build("linux/amd64", &["--cache-to", &to]);
        let texts: Vec<String> = record_tags(&repository).iter().map(|tag| get(&repository, tag)).collect();
        texts.iter().any(|text| text.contains("echo middle"))
    };
    assert!(!of("min"));
    assert!(of("max"));
}

#[test]
fn wrong_values_are_usage_errors() {
    let machine = Machine::new();
    for (flag, value, why) in [
        (
            "--cache-from",
            "type=gha",
            "the cache type `gha` is not supported: the types are registry and local",
        ),
        ("--cache-to", "type=inline,mode=max", "an image can hold records of its own layers only"),
        ("--cache-to", "type=registry", "the cache type registry needs ref=REFERENCE"),
        ("--cache-to", "type=registry,ref=r.io/a,compression=zstd", "say it there"),
    ] {
        let outcome = machine.run("linux/amd64", &[flag, value]).code(2);
        let said = format!("{}{}", outcome.stderr, outcome.stdout);
        assert!(said.contains(&format!("{flag} {value}")) && said.contains(why), "{}", outcome.report());
    }
}

/// A layer of a cache that is gone or damaged is a miss, however the result leaves.
#[test]
fn a_layer_of_a_cache_that_cannot_be_had_is_made_again() {
    let right = Machine::new();
    right.build("linux/amd64", &[]);
    let right = right.image("linux/amd64").tree().lines();
    for kind in ["registry", "local"] {
        for damage in ["flipped", "gone"] {
            let registry = Registry::start();
            let first = Machine::new();
            let folder = first.world.path("out/cache");
            let (from, to) = match kind {
                "registry" => {
                    let reference = format!("type=registry,ref={}", registry.name("cache:main"));
                    (reference.clone(), reference)
                }
                _ => (
                    format!("type=local,src={}", folder.display()),
                    format!("type=local,dest={}", folder.display()),
                ),
            };
            let to = format!("{to},mode=max,ignore-error=false");
            let outcome = first.build("linux/amd64", &["--cache-to", &to]);
            assert_eq!(outcome.runs("finished"), RUNS);
            let base = shared_registry().index("busybox", "latest");
            let is_own = |digest: &str| {
                !base.images.iter().any(|image| image.layers.iter().any(|layer| layer.digest == digest))
            };
            for layer in first.image("linux/amd64").layers.iter().filter(|layer| is_own(&layer.digest)) {
                let hex = layer.digest.strip_prefix("sha256:").expect("sha256");
                let blob = match kind {
                    "registry" => registry.blob_path(&layer.digest),
                    _ => folder.join("blobs/sha256").join(hex),
                };
                if damage == "gone" {
                    std::fs::remove_file(&blob).expect("a blob");
                    continue;
                }
                let mut bytes = std::fs::read(&blob).expect("a blob");
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&blob, bytes).expect("write");
            }
            for pushed in [false, true] {
                let machine = Machine::new();
                let target = shared_registry().name(&format!("rc/{kind}-{damage}:v1"));
                let mut args = vec!["--cache-from", &from];
                if pushed {
                    args.extend(["--push", "-t", &target]);
                }
                let outcome = machine.build("linux/amd64", &args);
                assert!(!outcome.warnings().is_empty(), "{kind} {damage} {pushed}: {}", outcome.report());
                assert_eq!(machine.image("linux/amd64").tree().lines(), right, "{kind} {damage} {pushed}");
            }
            // Nothing but a push: the layers would go from one registry to the other.
            let machine = Machine::new();
            let target = shared_registry().name(&format!("rc/{kind}-{damage}:v2"));
            machine
                .world
                .build()
                .args(["--progress", "json", "--timestamp", TIME, "--platform", "linux/amd64"])
                .args(["--build-arg", &support::base(), "--cache-from", &from, "--push", "-t", &target])
                .arg(&machine.context)
                .run()
                .success();
            let tag = format!("rc/{kind}-{damage}");
            assert_eq!(
                shared_registry().index(&tag, "v2").images[0].tree().lines(),
                right,
                "{kind} {damage}"
            );
        }
    }
}
