//! Content keys: what a step really read decides whether it is carried out, not how that came about.

mod support;

use std::path::PathBuf;

use support::{Index, Outcome, World, base, layout, shared_registry};

const TIME: &[&str] = &["--timestamp", "1700000000"];
/// A name that is another one each time: whoever copies it shows which run of the command it saw.
const RANDOM: &str = "cat /proc/sys/kernel/random/uuid";

/// A store and a context.
struct Machine {
    world: World,
    context: PathBuf,
}

impl Machine {
    fn new(dockerfile: &str) -> Self {
        let world = World::new();
        let context = world.context("context", dockerfile);
        Self { world, context }
    }

    fn write(&self, name: &str, content: &str) {
        self.world.write(&format!("context/{name}"), content);
    }

    fn build(&self, args: &[&str]) -> Outcome {
        self.build_on(&base(), args)
    }

    /// Builds into a layout on `base`, as `BASE=REFERENCE`.
    fn build_on(&self, base: &str, args: &[&str]) -> Outcome {
        let out = self.world.path("out/image");
        let _ = std::fs::remove_dir_all(&out);
        self.world
            .build()
            .args(["--progress", "json", "--build-arg", base, "-o", &layout(&out)])
            .args(args)
            .arg(&self.context)
            .run()
            .success()
    }

    fn index(&self) -> Index {
        Index::layout(&self.world.path("out/image"))
    }
}

const TWO_STAGES: &str = "\
ARG BASE
FROM $BASE AS builder
COPY src /src
RUN sh /src/make
FROM $BASE
COPY --from=builder /out /out
RUN cat /out/main > /copy
";

#[test]
fn a_rebuilt_stage_with_equal_output_invalidates_nothing() {
    for time in [TIME, &[]] {
        let machine = Machine::new(TWO_STAGES);
        machine.write("src/make", "mkdir /out && cp /src/main /out/main # one\n");
        machine.write("src/main", "alpha\n");
        let first = machine.build(time);
        assert_eq!(first.runs("finished"), 2, "{}", first.report());
        let before = machine.index();
        machine.write("src/make", "mkdir /out && cp /src/main /out/main # two\n");
        let second = machine.build(time);
        // Only the builder itself.
        assert_eq!(second.steps("finished", "RUN sh"), 1, "{}", second.report());
        assert_eq!(second.steps("cached", "COPY --from"), 1, "{}", second.report());
        assert_eq!(second.steps("cached", "RUN cat"), 1, "{}", second.report());
        assert_eq!((second.runs("finished"), second.steps("finished", "COPY --from")), (1, 0));
        let after = machine.index();
        let layers = |index: &Index| -> Vec<String> {
            index.images[0].layers.iter().map(|layer| layer.digest.clone()).collect()
        };
        assert_eq!(layers(&before), layers(&after));
        // The next build knows it by its chain key.
        assert_eq!(machine.build(time).steps("started", "RUN"), 0);

        machine.write("src/main", "beta\n");
        let third = machine.build(time);
        assert_eq!(third.runs("finished"), 2, "{}", third.report());
        assert_eq!(machine.index().images[0].tree().text("/copy"), "beta\n");
    }
}

#[test]
fn whatever_can_be_seen_of_a_copy_invalidates_it() {
    const MAKE: &str =
        "mkdir /out && cd /out && echo alpha > main && echo x > a && ln a b && ln -s main l && mkdir d";
    let changes = [
        ("content", "echo beta > main"),
        ("size", "echo alphabet > main"),
        ("mode", "chmod 600 main"),
        ("mode of a folder", "chmod 700 d"),
        ("set-id bit", "chmod u+s main"),
        ("owner", "chown 5 main"),
        ("group", "chown :6 main"),
        ("hard links", "rm b && cp a b"),
        ("target of a link", "ln -sfn a l"),
        ("a file more", "touch c"),
        ("a file less", "rm a"),
        ("a name", "mv b c"),
        ("kind", "rm l && cp main l"),
        ("fifo", "mkfifo p"),
    ];
    let machine = Machine::new(TWO_STAGES);
    let make = |machine: &Machine, change: &str| {
        machine.write("src/make", &format!("{MAKE} && {change}\n"));
        let outcome = machine.build(TIME);
        (outcome, machine.index())
    };
    let (_, first) = make(&machine, "true");
    for (what, change) in changes {
        let (outcome, warm) = make(&machine, change);
        assert_eq!(outcome.steps("finished", "COPY --from"), 1, "{what}: {}", outcome.report());
        assert_eq!(outcome.steps("finished", "RUN cat"), 1, "{what}: {}", outcome.report());
        assert_ne!(warm.digest, first.digest, "{what}");
        // A store that knows nothing gives the same.
        let (_, cold) = make(&Machine::new(TWO_STAGES), change);
        assert_eq!(warm.digest, cold.digest, "{what}");
    }
    // The first result is still known, whatever came between.
    let (outcome, last) = make(&machine, "true");
    assert_eq!(outcome.steps("finished", "RUN"), 0, "{}", outcome.report());
    assert_eq!(last.digest, first.digest);
}

#[test]
fn options_and_attributes_of_a_copy_invalidate_it() {
    let attribute = |context: &std::path::Path, value: &str| {
        let file = context.join("a.txt");
        support::tool("setfattr", ["-n", "user.note", "-v", value, file.to_str().expect("UTF-8")]).success();
    };
    let dockerfile =
        |options: &str| format!("ARG BASE\nFROM $BASE\nCOPY {options} a.txt /d/\nRUN ls -ln /d\n");
    let machine = Machine::new("");
    machine.write("a.txt", "alpha\n");
    let mut seen: Vec<String> = Vec::new();
    for (options, value) in [
        ("", "one"),
        ("--chown=5", "one"),
        ("--chown=5:6", "one"),
        ("--chmod=600", "one"),
        ("--chmod=600", "two"),
        ("", "two"),
    ] {
        let cold = Machine::new("");
        cold.write("a.txt", "alpha\n");
        let mut digests = [&machine, &cold].map(|machine| {
            machine.write("Dockerfile", &dockerfile(options));
            attribute(&machine.context, value);
            let outcome = machine.build(TIME);
            assert_eq!(outcome.runs("finished"), 1, "{options} {value}: {}", outcome.report());
            machine.index().digest
        });
        digests.sort();
        assert_eq!(digests[0], digests[1], "{options} {value}");
        assert!(!seen.contains(&digests[0]), "{options} {value}");
        seen.push(digests[0].clone());
    }
}

#[test]
fn one_layer_serves_all_platforms_in_any_order() {
    let platforms = ["linux/amd64", "linux/arm64", "linux/arm/v7"];
    let new = || {
        let machine = Machine::new("ARG BASE\nFROM $BASE\nCOPY data /data\nWORKDIR /w\n");
        machine.write("data/a.txt", "alpha\n");
        machine.write("data/b/c.txt", &"gamma\n".repeat(1000));
        machine
    };
    let build = |machine: &Machine, platforms: &[&str]| {
        let wanted = platforms.join(",");
        let outcome = machine.build(&[TIME, &["--platform", &wanted]].concat());
        (outcome, machine.index())
    };
    let (outcome, joint) = build(&new(), &platforms);
    assert_eq!(outcome.steps("finished", "COPY"), 1, "{}", outcome.report());
    assert_eq!(outcome.steps("cached", "COPY"), 2, "{}", outcome.report());
    let top = |index: &Index, at: usize| -> Vec<String> {
        let layers = index.images[at].layers.iter().rev().take(2);
        layers.map(|layer| layer.digest.clone()).collect()
    };
    assert_eq!(top(&joint, 0), top(&joint, 1));
    assert_eq!(top(&joint, 0), top(&joint, 2));
    let bottom = |at: usize| joint.images[at].layers[1].digest.clone();
    assert_ne!(bottom(0), bottom(1));

    let (_, reverse) = build(&new(), &["linux/arm/v7", "linux/arm64", "linux/amd64"]);
    let same_store = new();
    for platform in platforms {
        let digest = &joint.image(platform).digest;
        assert_eq!(&reverse.image(platform).digest, digest, "{platform}");
        // Alone in a store of its own, and one after the other in the same.
        assert_eq!(&build(&new(), &[platform]).1.image(platform).digest, digest, "{platform}");
        let (outcome, alone) = build(&same_store, &[platform]);
        assert_eq!(&alone.image(platform).digest, digest, "{platform}");
        let made = usize::from(platform == platforms[0]);
        assert_eq!(outcome.steps("finished", "COPY"), made, "{platform}: {}", outcome.report());
    }
}

#[test]
fn nothing_old_is_laid_over_what_was_made_anew() {
    let machine = Machine::new(&format!(
        "ARG BASE\nFROM $BASE AS one\nRUN {RANDOM} > /id\n\
         FROM $BASE\nCOPY --from=one /id /id\nRUN cp /id /copy\nRUN --mount=from=one,target=/m cmp /m/id /copy\n"
    ));
    let build = |args: &[&str]| {
        let outcome = machine.build(args);
        let tree = machine.index().images[0].tree();
        assert_eq!(tree.text("/id"), tree.text("/copy"), "{}", outcome.report());
        (outcome.runs("finished"), tree.text("/id"))
    };
    let (runs, first) = build(&[]);
    assert_eq!(runs, 3);
    let (runs, second) = build(&["--no-cache"]);
    assert_eq!(runs, 3);
    assert_ne!(first, second);
    assert_eq!(build(&[]), (0, second.clone()));
    let (runs, third) = build(&["--no-cache-filter", "one"]);
    assert_eq!(runs, 3);
    assert!(third != first && third != second);
    assert_eq!(build(&[]), (0, third.clone()));
    // Only a stage that the image is made of.
    machine
        .world
        .build()
        .args(["--build-arg", &base(), "--target", "one", "--no-cache"])
        .arg(&machine.context)
        .run()
        .success();
    let (runs, fourth) = build(&[]);
    assert_eq!(runs, 2);
    assert!(fourth != first && fourth != second && fourth != third);
    assert_eq!(build(&[]), (0, fourth));
}

#[test]
fn a_base_with_another_config_runs_what_can_see_it() {
    let world = World::new();
    let name = shared_registry().name("content/base:latest");
    let push = |line: &str| {
        let context = world.context("base", &format!("ARG BASE\nFROM $BASE\n{line}\n"));
        let build = world.build().args(["--push", "-t", &name, "--build-arg", &base()]).args(TIME);
        build.arg(&context).run().success();
    };
    let machine = Machine::new(&format!("ARG BASE\nFROM $BASE\nCOPY a.txt /\nRUN {RANDOM} > /id\n"));
    machine.write("a.txt", "alpha\n");
    let build = || {
        let outcome = machine.build_on(&format!("BASE={name}"), &["--pull"]);
        let index = machine.index();
        let config = index.images[0].run_config().clone();
        (outcome, config, index.images[0].tree().text("/id"))
    };
    push("LABEL version=1");
    let (outcome, config, first) = build();
    assert_eq!((outcome.runs("finished"), &config["Labels"]["version"]), (1, &"1".into()));
    push("LABEL version=2");
    let (outcome, config, second) = build();
    assert_eq!((outcome.runs("finished"), &config["Labels"]["version"]), (0, &"2".into()));
    assert_eq!(outcome.runs("cached"), 1, "{}", outcome.report());
    assert_eq!(first, second);
    // A command sees the environment.
    push("ENV VERSION=3");
    let (outcome, config, third) = build();
    assert_eq!(outcome.runs("finished"), 1, "{}", outcome.report());
    assert!(config["Env"].to_string().contains("VERSION=3") && config["Labels"]["version"].is_null());
    assert_ne!(third, first);
    // And so it does the files.
    push("RUN echo > /more");
    assert_eq!(build().0.runs("finished"), 1);
}

#[test]
fn equal_commands_on_equal_files_run_once() {
    // The last two stages have different keys, and the same files.
    let machine = Machine::new(&format!(
        "ARG BASE\nFROM $BASE AS one\nRUN {RANDOM} > /id\n\
         FROM $BASE AS two\nRUN {RANDOM} > /id\n\
         FROM $BASE AS left\nCOPY a /f\nRUN {RANDOM} > /id\n\
         FROM $BASE AS right\nCOPY b /f\nRUN {RANDOM} > /id\n\
         FROM scratch\nCOPY --from=one /id /one\nCOPY --from=two /id /two\n\
         COPY --from=left /id /left\nCOPY --from=right /id /right\n"
    ));
    machine.write("a", "same\n");
    machine.write("b", "same\n");
    let outcome = machine.build(&[]);
    let tree = machine.index().images[0].tree();
    assert_eq!(tree.text("/one"), tree.text("/two"), "{}", outcome.report());
    assert_eq!(tree.text("/left"), tree.text("/right"), "{}", outcome.report());
    assert_ne!(tree.text("/one"), tree.text("/left"));
    assert_eq!(outcome.runs("finished"), 2, "{}", outcome.report());
}
