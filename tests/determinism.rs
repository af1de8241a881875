//! The same inputs give the same bytes.

mod support;

use std::time::Duration;

use support::{Index, World, base};

const DOCKERFILE: &str = "ARG BASE\n\
    FROM --platform=$BUILDPLATFORM $BASE AS build\n\
    RUN date > /date && echo constant > /constant && touch -d @1000000000 /constant\n\
    FROM $BASE\n\
    ENV A=1\n\
    WORKDIR /w/x\n\
    COPY . .\n\
    COPY --from=build /constant /\n\
    RUN for i in 3 1 2; do echo $i > /f$i; done && mkdir -p /d/e && ln /f1 /d/hard && rm /etc/group && seq 1 50000 > /big\n\
    RUN rm -r /d && mkdir /d && echo new > /d/new && chown 1000:1001 /f2 && chmod 4755 /f3\n\
    USER app\n\
    CMD [\"sh\"]\n";

/// Builds in a world of its own and gives back what came out.
fn build(time: (&str, &str), jobs: &str) -> Index {
    let world = World::new();
    let context = world.context("context", DOCKERFILE);
    world.write("context/a.txt", "alpha\n");
    world.write("context/sub/b.txt", "beta\n");
    let out = world.path("out/layout");
    let mut run = world.build();
    run = if time.0.starts_with("--") { run.args([time.0, time.1]) } else { run.env(time.0, time.1) };
    run.args(["--no-cache", "--platform", "linux/amd64,linux/arm64", "--jobs", jobs, "--build-arg", &base()])
        .args(["-o", &format!("type=oci,tar=false,dest={}", out.display())])
        .arg(&context)
        .run()
        .success();
    Index::layout(&out)
}

#[test]
fn separate_stores_give_the_same_index() {
    let first = build(("SOURCE_DATE_EPOCH", "1700000000"), "1");
    std::thread::sleep(Duration::from_millis(1100));
    let second = build(("SOURCE_DATE_EPOCH", "1700000000"), "4");
    for (one, two) in first.images.iter().zip(&second.images) {
        assert_eq!(one.tree().lines(), two.tree().lines());
        assert_eq!(one.config, two.config);
        assert_eq!(one.manifest, two.manifest);
    }
    assert_eq!(first.digest, second.digest);
    assert_eq!(build(("--timestamp", "1700000000"), "2").digest, first.digest);
}

#[test]
fn times_are_clamped_and_dates_fixed() {
    let index = build(("SOURCE_DATE_EPOCH", "1700000000"), "2");
    for image in &index.images {
        assert_eq!(image.config["created"], "2023-11-14T22:13:20Z");
        for entry in image.history() {
            assert_eq!(entry["created"], "2023-11-14T22:13:20Z", "{entry}");
        }
        for (path, node) in image.tree().iter() {
            assert!(node.mtime <= 1_700_000_000, "{} is of {}", support::escape(path), node.mtime);
        }
        assert_eq!(image.tree().get("/constant").expect("constant").mtime, 1_000_000_000);
    }
    // Another time gives another index.
    assert_ne!(build(("SOURCE_DATE_EPOCH", "1600000000"), "2").digest, index.digest);
}

#[test]
fn time_in_the_dockerfile_counts_where_none_is_given_otherwise() {
    let world = World::new();
    let context = world
        .context("context", "ARG BASE\nARG SOURCE_DATE_EPOCH=7\nFROM $BASE\nRUN touch /file\nLABEL a=b\n");
    let created = |name: &str, given: Option<&str>| {
        let out = world.path(&format!("out/{name}"));
        let mut run = world.build().args(["--build-arg", &base()]);
        if let Some(seconds) = given {
            run = run.env("SOURCE_DATE_EPOCH", seconds);
        }
        run.args(["-o", &format!("type=oci,tar=false,dest={}", out.display())]).arg(&context).run().success();
        Index::layout(&out).images[0].config["created"].clone()
    };
    assert_eq!(created("given", Some("9")), "1970-01-01T00:00:09Z");
    assert_eq!(created("default", None), "1970-01-01T00:00:07Z");
}
