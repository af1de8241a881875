//! Layers of bases that nobody reads stay where they are: mounted, or sent on without a file.

mod support;

use std::path::PathBuf;

use support::{Fault, Image, Index, Outcome, Proxy, Registry, World, layout, shared_registry};

const TIME: &str = "1700000000";
const TWO: &str = "linux/amd64,linux/arm64";
/// What does not look at the base.
const CONFIG: &str = "ARG BASE\nFROM $BASE\nENV A=1\nLABEL b=2\nCMD [\"/bin/sh\"]\n";
const LINKED: &str =
    "ARG BASE\nFROM $BASE\nENV A=1\nCOPY --link a.txt /x/\nCOPY --link --chmod=600 a.txt /y/\n";

struct Machine {
    world: World,
    context: PathBuf,
}

impl Machine {
    fn new(dockerfile: &str) -> Self {
        let world = World::new();
        let context = world.context("context", dockerfile);
        world.write("context/a.txt", "alpha\n");
        Self { world, context }
    }

    fn run(&self, base: &str, args: &[&str]) -> Outcome {
        self.world
            .build()
            .args(["--progress", "json", "--timestamp", TIME, "--platform", TWO])
            .args(["--build-arg", &format!("BASE={base}")])
            .args(args)
            .arg(&self.context)
            .run()
    }

    /// Whether the store holds a blob.
    fn holds(&self, digest: &str) -> bool {
        let hex = digest.strip_prefix("sha256:").expect("sha256");
        self.world.root().join("blobs/sha256").join(hex).exists()
    }
}

/// The layers of the base, of both platforms.
fn base_layers() -> Vec<String> {
    let index = shared_registry().index("busybox", "latest");
    let images = ["linux/amd64", "linux/arm64"].map(|platform| index.image(platform).layers.clone());
    images.into_iter().flatten().map(|layer| layer.digest).collect()
}

/// Asserts that an image is the base and what was put on it.
fn stands_on_base(image: &Image) {
    let index = shared_registry().index("busybox", "latest");
    assert!(image.is_built_on(index.image(&image.platform)), "{}", image.platform);
    assert!(image.run_config()["Env"].to_string().contains("A=1"));
}

#[test]
fn within_a_registry_layers_are_mounted() {
    for (dockerfile, name) in [(CONFIG, "lazy/config"), (LINKED, "lazy/linked")] {
        let machine = Machine::new(dockerfile);
        let proxy = Proxy::start(shared_registry().port(), Fault::None);
        machine.run(&proxy.name("busybox"), &["--push", "-t", &format!("{}:v1", proxy.name(name))]).success();
        for digest in base_layers() {
            assert!(!proxy.was_read(&digest), "{digest}: {:#?}", proxy.seen());
            assert!(!proxy.uploads().contains(&digest), "{digest}: {:#?}", proxy.seen());
            assert!(!machine.holds(&digest), "{digest}");
        }
        let index = shared_registry().index(name, "v1");
        assert_eq!(index.images.len(), 2);
        index.images.iter().for_each(stands_on_base);
    }
}

#[test]
fn to_another_registry_layers_are_sent_on_without_a_file() {
    let other = Registry::start();
    for (dockerfile, name) in [(CONFIG, "lazy/config"), (LINKED, "lazy/linked")] {
        let machine = Machine::new(dockerfile);
        let (from, to) =
            (Proxy::start(shared_registry().port(), Fault::None), Proxy::start(other.port(), Fault::None));
        let push = |tag: &str| {
            let name = format!("{}:{tag}", to.name(name));
            machine.run(&from.name("busybox"), &["--push", "-t", &name]).success();
        };
        push("v1");
        for digest in base_layers() {
            assert!(!machine.holds(&digest), "{digest}");
            if name == "lazy/config" {
                assert!(from.was_read(&digest), "{digest}: {:#?}", from.seen());
                assert!(to.uploads().contains(&digest), "{digest}: {:#?}", to.seen());
            }
        }
        let index = other.index(name, "v1");
        index.images.iter().for_each(stands_on_base);
        // Whoever knows nothing of all this takes it.
        let copy = format!("dir:{}", machine.world.path("out/copy").display());
        let source = format!("docker://{}:v1", other.name(name));
        support::tool(
            "skopeo",
            ["--insecure-policy", "copy", "--quiet", "--all", "--src-tls-verify=false", &source, &copy],
        )
        .success();
        // What the target holds is asked of nobody again.
        let reads = from.seen().len();
        push("v2");
        let again = from.seen().split_off(reads);
        assert!(
            !again.iter().any(|line| base_layers().iter().any(|digest| line.contains(digest))),
            "{again:#?}"
        );
    }
}

#[test]
fn an_output_of_files_gets_the_layers() {
    let machine = Machine::new(CONFIG);
    let proxy = Proxy::start(shared_registry().port(), Fault::None);
    let out = machine.world.path("out/image");
    machine.run(&proxy.name("busybox"), &["-o", &layout(&out)]).success();
    assert!(base_layers().iter().all(|digest| proxy.was_read(digest)), "{:#?}", proxy.seen());
    Index::layout(&out).images.iter().for_each(stands_on_base);
}

#[test]
fn only_the_platform_that_is_read_is_brought_here() {
    // The first image is copied from; nobody reads the second, but it is what the copy stands on.
    let machine = Machine::new(
        "ARG BASE\nFROM --platform=linux/386 $BASE AS tools\nFROM $BASE\nENV A=1\n\
         COPY --link --from=tools /bin/busybox /tool\n",
    );
    let proxy = Proxy::start(shared_registry().port(), Fault::None);
    machine.run(&proxy.name("busybox"), &["--push", "-t", &proxy.name("lazy/tools:v1")]).success();
    let index = shared_registry().index("busybox", "latest");
    let tools = &index.image("linux/386").layers;
    for digest in base_layers() {
        let is_shared = tools.iter().any(|layer| layer.digest == digest);
        assert_eq!(proxy.was_read(&digest), is_shared, "{digest}: {:#?}", proxy.seen());
    }
    shared_registry().index("lazy/tools", "v1").images.iter().for_each(stands_on_base);
}

#[test]
fn a_damaged_layer_at_its_source_moves_no_tag() {
    let (source, other) = (Registry::start(), Registry::start());
    let machine = Machine::new(CONFIG);
    machine.run(&shared_registry().name("busybox"), &["--push", "-t", &source.name("base:v1")]).success();
    let digest = base_layers().pop().expect("a layer");
    let path = source.blob_path(&digest);
    let mut bytes = std::fs::read(&path).expect("a blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("write");

    let fresh = Machine::new(CONFIG);
    let failed = fresh.run(&source.name("base:v1"), &["--push", "-t", &other.name("lazy/damaged:v1")]);
    assert_ne!(failed.exit(), 0, "{}", failed.report());
    let said = failed.stderr.contains(&digest[7..19]);
    assert!(said && !failed.stderr.contains("panicked"), "{}", failed.report());
    assert_eq!(other.tag("lazy/damaged", "v1"), None);
    assert!(!other.blob_path(&digest).exists());
    let failed = fresh.run(&source.name("base:v1"), &["-o", &layout(&fresh.world.path("out/image"))]);
    assert_ne!(failed.exit(), 0, "{}", failed.report());
    assert!(!fresh.world.path("out/image/index.json").exists());
}
