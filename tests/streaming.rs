//! Layers leave while later steps run, and the forms that they can leave in.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Fault, Index, Outcome, Proxy, World, base, layout, shared_registry};

const TIME: &str = "1700000000";
/// No wait of these tests is longer.
const LIMIT: Duration = Duration::from_secs(30);

struct Machine {
    world: World,
    context: PathBuf,
}

impl Machine {
    /// With a file `big` that nobody else has.
    fn new(dockerfile: &str) -> Self {
        let world = World::new();
        let context = world.context("context", dockerfile);
        let mut bytes = vec![0; 3 << 20];
        std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("random");
        world.write("context/big", bytes);
        Self { world, context }
    }

    fn build(&self, args: &[&str]) -> support::Run {
        self.world
            .build()
            .args(["--progress", "json", "--timestamp", TIME, "--build-arg", &base()])
            .args(args)
            .arg(&self.context)
    }

    fn run(&self, args: &[&str]) -> Outcome {
        self.build(args).run()
    }

    /// The images of a layout that is built with these options.
    fn layout(&self, options: &str) -> Index {
        let out = self.world.path("out/image");
        let _ = std::fs::remove_dir_all(&out);
        self.run(&["-o", &format!("{},{options}", layout(&out))]).success();
        self.copied(&format!("oci:{}", out.display()));
        Index::layout(&out)
    }

    /// Has skopeo take all of an image and check its digests.
    fn copied(&self, image: &str) {
        let copy = self.world.path("out/copy");
        let _ = std::fs::remove_dir_all(&copy);
        let copy = format!("dir:{}", copy.display());
        let flags = ["--insecure-policy", "copy", "--quiet", "--all", "--src-tls-verify=false"];
        support::tool("skopeo", flags.into_iter().chain([image, &copy])).success();
    }
}

fn until(mut there: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + LIMIT;
    while !there() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// A server on a free port that answers one command when `condition` holds, and says whether it does.
fn gate(condition: impl FnMut() -> bool + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let holds = until(condition);
        let _ = client.read(&mut [0; 4096]);
        let body = if holds { "seen" } else { "never" };
        let length = body.len();
        let _ = write!(client, "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    });
    port
}

#[test]
fn a_layer_is_uploaded_while_later_steps_run() {
    let machine = Machine::new("");
    let proxy = std::sync::Arc::new(Proxy::start(shared_registry().port(), Fault::None));
    let seen = std::sync::Arc::clone(&proxy);
    // The command ends when a layer is there: base layers are mounted.
    let port = gate(move || !seen.uploads().is_empty());
    let dockerfile = format!(
        "ARG BASE\nFROM $BASE\nCOPY big /big\nRUN wget -q -O /answer http://127.0.0.1:{port}/ && cat /answer\n\
         RUN cp /answer /again\n"
    );
    machine.world.write("context/Dockerfile", dockerfile);
    let base = format!("BASE={}", proxy.name("busybox"));
    let outcome =
        machine.run(&["--build-arg", &base, "--push", "-t", &proxy.name("streaming/early:v1")]).success();
    assert_eq!(outcome.printed("seen"), 1, "{}", outcome.report());
    let image = &shared_registry().index("streaming/early", "v1").images[0];
    let big = &image.layers[image.layers.len() - 3];
    assert!(big.entries.iter().any(|entry| entry.name.ends_with(b"big")));
    // Once, and first.
    let uploads = proxy.uploads();
    assert_eq!(uploads[0], big.digest);
    assert_eq!(uploads.iter().filter(|digest| **digest == big.digest).count(), 1, "{uploads:?}");
}

#[test]
fn an_upload_that_was_refused_early_is_made_later() {
    let machine = Machine::new("ARG BASE=busybox\nFROM $BASE\nCOPY big /big\nRUN sleep 0.5\n");
    for status in [500, 503] {
        let proxy = Proxy::start(shared_registry().port(), Fault::FirstUploads { count: 1, status });
        let name = format!("streaming/refused-{status}");
        let outcome =
            machine.run(&["--no-cache", "--push", "-t", &format!("{}:v1", proxy.name(&name))]).success();
        assert_eq!(proxy.failed(), 1, "{}", outcome.report());
        assert_eq!(outcome.warnings(), Vec::<String>::new());
        shared_registry().index(&name, "v1");
    }
    // One that refuses for good is the build's failure at once, and no tag moves.
    let proxy = Proxy::start(shared_registry().port(), Fault::Uploads(403));
    machine.run(&["--no-cache", "--push", "-t", &proxy.name("streaming/never:v1")]).code(3);
    assert_eq!(shared_registry().tag("streaming/never", "v1"), None);
}

#[test]
fn a_build_that_is_ended_while_it_sends_moves_no_tag() {
    for (name, last) in [("waiting", "RUN true"), ("running", "RUN sleep 60")] {
        let machine = Machine::new(&format!("ARG BASE\nFROM $BASE\nCOPY big /big\n{last}\n"));
        let proxy = Proxy::start(shared_registry().port(), Fault::HoldUploads);
        let name = format!("streaming/ended-{name}");
        let running = machine.build(&["--push", "-t", &format!("{}:v1", proxy.name(&name))]).start();
        assert!(until(|| proxy.failed() > 0), "nothing is sent: {:#?}", proxy.seen());
        running.signal(Signal::INT);
        let outcome = running.finish().code(130);
        assert!(outcome.took < LIMIT, "{}", outcome.report());
        assert_eq!(shared_registry().tag(&name, "v1"), None);
        let left = std::fs::read_dir(machine.world.path("root/scratch")).expect("scratch").count();
        assert_eq!(left, 0);
        // The same again, where nothing is held up.
        machine.world.context("context", "ARG BASE\nFROM $BASE\nCOPY big /big\n");
        let name = shared_registry().name(&format!("{name}:v1"));
        machine.run(&["--push", "-t", &name]).success();
    }
}

#[test]
fn layers_are_compressed_as_is_asked() {
    const MEDIA: &str = "application/vnd.oci.image.layer.v1.tar";
    let machine = Machine::new("ARG BASE\nFROM $BASE\nCOPY big text /\nRUN echo > /ran\n");
    machine.world.write("context/text", "the same line again\n".repeat(50_000));
    let usual = machine.layout("compression=gzip");
    let base_layers = usual.images[0].layers.len() - 2;
    let mut digests = vec![usual.digest.clone()];
    for (options, kind) in [
        ("compression=zstd", "+zstd"),
        ("compression=zstd,compression-level=19", "+zstd"),
        ("compression=gzip,compression-level=9", "+gzip"),
        ("compression=gzip,compression-level=0", "+gzip"),
        ("compression=uncompressed", ""),
        ("compression=zstd,force-compression=true", "+zstd"),
        ("compression=uncompressed,force-compression=true", ""),
    ] {
        let index = machine.layout(options);
        let (made, usual) = (&index.images[0], &usual.images[0]);
        for (at, (layer, before)) in made.layers.iter().zip(&usual.layers).enumerate() {
            assert_eq!(layer.diff_id, before.diff_id, "{options}");
            let is_kept = at < base_layers && !options.contains("force");
            let wanted = format!("{MEDIA}{}", if is_kept { "+gzip" } else { kind });
            assert_eq!(layer.media_type, wanted, "{options}: layer {at}");
            assert_eq!(layer.digest == before.digest, is_kept, "{options}: layer {at}");
        }
        assert!(!digests.contains(&index.digest), "{options}");
        digests.push(index.digest.clone());
        // A store of its own gives the same bytes.
        let fresh = Machine::new("ARG BASE\nFROM $BASE\nCOPY big text /\nRUN echo > /ran\n");
        for name in ["big", "text"] {
            std::fs::copy(machine.context.join(name), fresh.context.join(name)).expect("copy");
        }
        assert_eq!(fresh.layout(options).digest, index.digest, "{options}");
    }
    // And back again, out of the same store.
    assert_eq!(machine.layout("compression=gzip").digest, usual.digest);
}

#[test]
fn registries_get_the_form_that_is_asked_for() {
    let machine = Machine::new("ARG BASE\nFROM $BASE\nCOPY big /\nRUN echo > /ran\n");
    for (tag, options) in [
        ("zstd", "compression=zstd"),
        ("forced", "compression=zstd,force-compression=true"),
        ("level", "compression-level=1"),
        ("tar", "compression=uncompressed"),
    ] {
        let name = shared_registry().name(&format!("streaming/forms:{tag}"));
        let platforms = ["--platform", "linux/amd64,linux/arm64"];
        machine
            .run(&[&platforms[..], &["-t", &name, "-o", &format!("type=registry,{options}")]].concat())
            .success();
        machine.copied(&format!("docker://{name}"));
        let index = shared_registry().index("streaming/forms", tag);
        for layer in index.images.iter().flat_map(|image| &image.layers) {
            let is_zstd = layer.media_type.ends_with("+zstd");
            assert!(tag != "forced" || is_zstd, "{}", layer.media_type);
        }
        let top = index.images[0].layers.last().expect("a layer");
        let ending = top.media_type.rsplit("tar").next().expect("an ending");
        assert_eq!(
            ending,
            match tag {
                "level" => "+gzip",
                "tar" => "",
                _ => "+zstd",
            },
            "{tag}"
        );
    }
}

#[test]
fn outputs_that_disagree_are_a_usage_error() {
    let machine = Machine::new("ARG BASE\nFROM $BASE\n");
    let out = layout(&machine.world.path("out/image"));
    let zstd = format!("{out},compression=zstd");
    let outcome =
        machine.run(&["-o", &zstd, "-o", "type=registry", "-t", &shared_registry().name("streaming/no:v1")]);
    outcome.code(2).stderr_has("want layers compressed in different ways");
    assert!(!machine.world.path("out/image").exists());
    for (options, why) in [
        ("compression=estargz", "estargz"),
        ("compression=gzip,compression-level=10", "gzip has no compression level 10"),
        ("compression=uncompressed,compression-level=1", "no compression level"),
    ] {
        machine.run(&["-o", &format!("{out},{options}")]).code(2).stderr_has(why);
    }
}
