//! The local store as a cache: what is done again, what is asked again, who shares it.

mod support;

use support::{Index, World, base, layout, shared_registry};

const TIME: &str = "1700000000";

#[test]
fn second_build_runs_no_step() {
    let world = World::new();
    let context =
        world.context("context", "ARG BASE\nFROM $BASE\nRUN echo one\nCOPY a.txt /\nRUN cat /a.txt\n");
    world.write("context/a.txt", "alpha\n");
    let build = |extra: &[&str]| {
        world
            .build()
            .args(["--progress", "json", "--build-arg", &base()])
            .arg(&context)
            .args(["--platform", "linux/amd64,linux/arm64", "--timestamp", TIME])
            .args(extra)
            .run()
            .success()
    };
    let digest = |outcome: &support::Outcome| {
        outcome.events().iter().find(|event| event["event"] == "result").expect("a result")["digest"].clone()
    };
    let first = build(&[]);
    assert_eq!(first.runs("started"), 4, "{}", first.report());
    let second = build(&[]);
    assert_eq!(second.runs("started"), 0, "{}", second.report());
    assert_eq!(second.runs("cached"), 4, "{}", second.report());
    assert_eq!(digest(&first), digest(&second));

    // A changed file makes anew what stands on it, and nothing before it.
    world.write("context/a.txt", "beta\n");
    let third = build(&[]);
    assert_eq!(third.runs("started"), 2, "{}", third.report());
    assert_eq!(third.printed("beta"), 2);
    assert_eq!(third.printed("one"), 0);

    // Times and owners of files in the context are no change.
    support::tool("touch", ["-d", "@1600000000", context.join("a.txt").to_str().expect("UTF-8")]).success();
    assert_eq!(build(&[]).runs("started"), 0);

    assert_eq!(build(&["--no-cache"]).runs("started"), 4);
}

#[test]
fn remarks_are_said_once_and_again_by_a_cached_step() {
    let world = World::new();
    let context = world.context("context", "ARG BASE\nFROM $BASE\nWORKDIR /d\nCOPY a.txt nothing* /d/\n");
    world.write("context/a.txt", "alpha\n");
    let remarks = |platforms: &str| {
        let build = world.build().args(["--progress", "plain", "--build-arg", &base()]);
        let outcome =
            build.arg(&context).args(["--platform", platforms, "--timestamp", TIME]).run().success();
        let lines = outcome.stderr.lines().filter(|line| line.contains("no file matches"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let first = remarks("linux/amd64,linux/arm64");
    assert!(matches!(&first[..], [one] if !one.contains("linux/")), "{first:?}");
    assert_eq!(remarks("linux/amd64,linux/arm64"), first);
    let alone = remarks("linux/arm64");
    assert!(matches!(&alone[..], [one] if one.contains("(linux/arm64)")), "{alone:?}");
}

#[test]
fn chosen_stages_are_made_anew() {
    let world = World::new();
    let context = world.context(
        "context",
        "ARG BASE\n\
         FROM $BASE AS one\n\
         RUN echo one > /a\n\
         FROM $BASE AS other\n\
         RUN echo other > /b\n\
         FROM $BASE\n\
         RUN echo last\n\
         COPY --from=one /a /\n\
         COPY --from=other /b /\n\
         RUN echo end\n",
    );
    let build = |extra: &[&str]| {
        let build = world.build().args(["--progress", "json", "--build-arg", &base()]);
        build.arg(&context).args(extra).run()
    };
    assert_eq!(build(&[]).success().runs("started"), 4);
    // What is made of a stage is made anew as well, and what stands below it is not.
    for (stages, want) in [("ONE", 2), ("one,other", 3), ("2", 2), ("stage-2", 2), ("other", 2)] {
        let outcome = build(&["--no-cache-filter", stages]).success();
        assert_eq!(outcome.runs("started"), want, "{stages}: {}", outcome.report());
    }
    build(&["--no-cache-filter", "otter"]).code(2).stderr_has("did you mean other?");
}

#[test]
fn two_builds_on_one_store() {
    let world = World::new();
    let context = world.context(
        "context",
        "ARG BASE\nFROM $BASE\nRUN seq 1 2000 > /numbers\nRUN mkdir /d && cp /numbers /d && rm /numbers\n",
    );
    let start = |name: &str| {
        world
            .build()
            .args(["--platform", "linux/amd64,linux/arm64", "--timestamp", TIME, "--build-arg", &base()])
            .args(["--output", &layout(&world.path(&format!("out/{name}")))])
            .arg(&context)
            .start()
    };
    let running: Vec<_> = ["a", "b", "c"].map(start).into_iter().collect();
    for build in running {
        build.finish().success();
    }
    let digests: Vec<_> =
        ["a", "b", "c"].map(|name| Index::layout(&world.path(&format!("out/{name}"))).digest).into();
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
}

#[test]
fn base_is_asked_for_again_with_pull_alone() {
    let world = World::new();
    let name = shared_registry().name("cache/moving:latest");
    let push = |text: &str| {
        let context =
            world.context(&format!("base-{text}"), &format!("ARG BASE\nFROM $BASE\nENV WHICH={text}\n"));
        world.build().args(["--push", "-t", &name, "--build-arg", &base()]).arg(&context).run().success();
    };
    let context = world.context("context", "ARG MOVING\nFROM $MOVING\nRUN echo $WHICH\n");
    let prints = |extra: &[&str], text: &str| {
        let outcome = world
            .build()
            .args(["--progress", "json", "--no-cache", "--build-arg", &format!("MOVING={name}")])
            .args(extra)
            .arg(&context)
            .run()
            .success();
        assert_eq!(outcome.printed(text), 1, "{}", outcome.report());
    };
    push("old");
    prints(&[], "old");
    push("new");
    // The store knows what the name stood for.
    prints(&[], "old");
    prints(&["--pull"], "new");
    // What was found is known from now on.
    prints(&[], "new");
}

#[test]
fn filter_makes_stages_anew_and_what_takes_from_them() {
    let world = World::new();
    let context = world.context(
        "context",
        "ARG BASE\nFROM $BASE AS one\nRUN echo one > /one\nFROM $BASE\nRUN echo unnamed > /unnamed\n\
         FROM $BASE AS other\nRUN echo other > /other\n\
         FROM $BASE\nCOPY --from=one /one /\nCOPY --link --from=1 /unnamed /\n\
         RUN --mount=from=other,target=/m cp /m/other /\nRUN echo last > /last\n",
    );
    let build = |extra: &[&str]| {
        world
            .build()
            .args(["--progress", "json", "--timestamp", TIME, "--build-arg", &base()])
            .args(extra)
            .arg(&context)
            .run()
            .success()
            .runs("started")
    };
    assert_eq!(build(&[]), 5);
    assert_eq!(build(&[]), 0);
    // The stage's own, and what stands on the copy.
    assert_eq!(build(&["--no-cache-filter", "one"]), 3);
    assert_eq!(build(&["--no-cache-filter", "0"]), 3);
    // A linked layer does not depend on what is below it, but the commands above it depend on it.
    assert_eq!(build(&["--no-cache-filter", "STAGE-1"]), 3);
    assert_eq!(build(&["--no-cache-filter", "other", "--no-cache-filter", "one,"]), 4);
    assert_eq!(build(&["--no-cache-filter", "stage-3"]), 2);
    assert_eq!(build(&["--no-cache-filter", ""]), 0);
    // Written, though not read.
    assert_eq!(build(&[]), 0);
    world
        .build()
        .args(["--build-arg", &base(), "--no-cache-filter", "othre"])
        .arg(&context)
        .run()
        .code(2)
        .stderr_has("stage \"othre\" could not be found")
        .stderr_has("did you mean other?");
}

#[test]
fn linked_layer_stays_when_its_base_changes() {
    let world = World::new();
    let context = world.path("context");
    world.write("context/a.txt", "alpha\n");
    let build = |name: &str, line: &str| {
        let dockerfile =
            format!("ARG BASE\nFROM $BASE\n{line}\nCOPY --link a.txt /x/\nRUN cat /x/a.txt > /y\n");
        world.write("context/Dockerfile", dockerfile);
        let out = world.path(&format!("out/{name}"));
        let outcome = world
            .build()
            .args(["--progress", "json", "--timestamp", TIME, "--build-arg", &base()])
            .args(["--platform", "linux/amd64,linux/arm64", "--output", &layout(&out)])
            .arg(&context)
            .run()
            .success();
        (outcome, Index::layout(&out))
    };
    let copies = |outcome: &support::Outcome, kind: &str| {
        let is_copy =
            |event: &&serde_json::Value| event["event"] == kind && event["step"] == "COPY --link a.txt /x/";
        outcome.events().iter().filter(is_copy).count()
    };
    let (first, one) = build("one", "LABEL a=1");
    // One layer for both platforms.
    assert_eq!((copies(&first, "started"), copies(&first, "cached")), (1, 0), "{}", first.report());
    let (second, two) = build("two", "RUN mkdir -p /x/old && ln -s /x /z");
    assert_eq!((copies(&second, "started"), copies(&second, "cached")), (0, 1), "{}", second.report());
    for (one, two) in one.images.iter().zip(&two.images) {
        let at = one.layers.len() - 2;
        assert_eq!(one.layers[at].digest, two.layers[at + 1].digest);
        assert!(two.tree().get("/x/old").is_some() && two.tree().text("/y") == "alpha\n");
    }
}

#[test]
fn result_on_another_result_is_not_used() {
    let world = World::new();
    let context = world.context(
        "context",
        "ARG BASE\nFROM $BASE AS side\nRUN cat /proc/sys/kernel/random/uuid > /id\n\
         FROM $BASE AS main\nRUN cat /proc/sys/kernel/random/uuid > /id\n\
         FROM main\nRUN cp /id /copy\nCOPY --from=side /id /side\n\
         RUN --mount=from=side,target=/m cmp /m/id /side\n",
    );
    let build = |extra: &[&str]| {
        let out = world.path(&format!("out/{}", extra.len()));
        let _ = std::fs::remove_dir_all(&out);
        let outcome = world
            .build()
            .args(["--progress", "json", "--timestamp", TIME, "--build-arg", &base()])
            .args(["--output", &layout(&out)])
            .args(extra)
            .arg(&context)
            .run()
            .success();
        (outcome.runs("started"), Index::layout(&out).images[0].tree())
    };
    build(&[]);
    // Only these stages, and only they, are made anew.
    assert_eq!(build(&["--target", "main", "--no-cache"]).0, 1);
    assert_eq!(build(&["--target", "side", "--no-cache"]).0, 1);
    let (started, tree) = build(&[]);
    assert_eq!(tree.text("/id"), tree.text("/copy"));
    assert_eq!(started, 2);
    assert_eq!(build(&[]).0, 0);
}
