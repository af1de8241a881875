//! `fanfold build`: fan-out over platforms, cache, failures, what is shown.

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Index, Run, World, base, layout, native_platform, shared_registry};

/// A build of `context` with JSON progress.
fn json_build(world: &World, context: &Path) -> Run {
    world.build().args(["--progress", "json", "--build-arg", &base()]).arg(context)
}

#[test]
fn stage_on_the_build_platform_runs_once_for_all_targets() {
    let world = World::new();
    let context = world.context(
        "context",
        "ARG BASE\n\
         FROM --platform=$BUILDPLATFORM $BASE AS build\n\
         RUN echo shared && echo 1 > /shared\n\
         RUN echo shared-too\n\
         ARG TARGETARCH\n\
         RUN echo own-$TARGETARCH && echo $TARGETARCH > /own\n\
         FROM $BASE\n\
         COPY --from=build /shared /own /\n\
         RUN echo target\n",
    );
    let out = world.path("out/layout");
    let outcome = json_build(&world, &context)
        .args(["--platform", "linux/amd64,linux/arm64,linux/riscv64", "--output", &layout(&out)])
        .run()
        .success();
    assert_eq!(outcome.printed("shared"), 1, "{}", outcome.report());
    assert_eq!(outcome.printed("shared-too"), 1, "{}", outcome.report());
    for arch in ["amd64", "arm64", "riscv64"] {
        assert_eq!(outcome.printed(&format!("own-{arch}")), 1, "{}", outcome.report());
    }
    let mut targets: Vec<_> = outcome
        .output_lines()
        .into_iter()
        .filter(|(_, text)| text == "target")
        .map(|(platform, _)| platform)
        .collect();
    targets.sort();
    assert_eq!(targets, ["linux/amd64", "linux/arm64", "linux/riscv64"]);
    let index = Index::layout(&out);
    for (platform, arch) in
        [("linux/amd64", "amd64\n"), ("linux/arm64", "arm64\n"), ("linux/riscv64", "riscv64\n")]
    {
        assert_eq!(index.image(platform).tree().text("/own"), arch);
    }
}

#[test]
fn variables_hold_one_value_a_line() {
    let world = World::new();
    let context = world.context("context", "ARG BASE\nFROM $BASE\nARG A\nARG B\nRUN echo \"$A-$B\"\n");
    let build = || {
        let arguments = format!("A=1 2\n\nB=3\n{}\n", base());
        let build = world.build().env("FANFOLD_BUILD_ARG", arguments).env("FANFOLD_PROGRESS", "json");
        build.env("FANFOLD_PLATFORM", "").env("FANFOLD_FILE", " ").arg(&context)
    };
    let outcome = build().run().success();
    assert_eq!(outcome.printed("1 2-3"), 1, "{}", outcome.report());
    // The command line goes before the variable.
    let outcome = build().args(["--build-arg", "B=4", "--build-arg", &base()]).run().success();
    assert_eq!(outcome.printed("-4"), 1, "{}", outcome.report());
}

#[test]
fn hello_example_for_four_platforms() {
    let world = World::new();
    let example = world.path("hello");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello");
    support::tool("cp", ["-r", source.to_str().expect("UTF-8"), example.to_str().expect("UTF-8")]).success();
    let out = world.path("out/layout");
    let platforms = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/riscv64"];
    world
        .build()
        .args(["--platform", &platforms.join(","), "--build-arg", &base(), "--output", &layout(&out)])
        .arg(&example)
        .run()
        .success();
    let index = Index::layout(&out);
    assert_eq!(index.platforms(), platforms);
    for (platform, machine) in platforms.into_iter().zip(["x86_64", "aarch64", "armv7l", "riscv64"]) {
        let tree = index.image(platform).tree();
        assert_eq!(tree.text("/arch"), format!("{machine}\n"));
        assert!(tree.text("/usr/bin/greet").contains("Hello from"));
        assert_eq!(tree.get("/usr/bin/greet").expect("greet").mode, 0o755);
    }
    // In the index an architecture of several kinds says which one.
    assert_eq!(index.json["manifests"][2]["platform"]["variant"], "v7");
}

#[test]
fn every_platform_of_the_base_runs_its_own_machine() {
    let world = World::new();
    let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN uname -m > /machine\n");
    let out = world.path("out/layout");
    world
        .build()
        .args(["--platform", support::BASE_PLATFORMS, "--build-arg", &base(), "--output", &layout(&out)])
        .arg(&context)
        .run()
        .success();
    let index = Index::layout(&out);
    for (platform, machine, elf) in [
        ("linux/amd64", "x86_64", 62),
        ("linux/arm64", "aarch64", 183),
        ("linux/arm/v7", "armv7l", 40),
        ("linux/arm/v5", "armv5tel", 40),
        ("linux/386", "i686", 3),
        ("linux/ppc64le", "ppc64le", 21),
        ("linux/s390x", "s390x", 22),
        ("linux/riscv64", "riscv64", 243),
    ] {
        let tree = index.image(platform).tree();
        assert_eq!(tree.text("/machine").trim(), machine, "{platform}");
        let busybox = tree.get("/usr/bin/busybox").expect("busybox");
        assert_eq!(support::elf_machine(busybox.head()), Some(elf), "{platform}");
    }
}

/// A Dockerfile whose second RUN fails on arm64 alone, while others take longer.
const FAILS_ON_ARM: &str = "ARG BASE\n\
    FROM $BASE AS app\n\
    RUN true\n\
    RUN if test $(uname -m) = aarch64; then echo the reason; exit 3; fi; sleep 2; echo survived\n";

#[test]
fn failing_platform_is_named_and_nothing_is_tagged() {
    let world = World::new();
    let context = world.context("context", FAILS_ON_ARM);
    let name = shared_registry().name("failing:latest");
    world
        .build()
        .args([
            "--platform",
            "linux/amd64,linux/arm64",
            "--jobs",
            "4",
            "--build-arg",
            &base(),
            "--push",
            "-t",
            &name,
        ])
        .arg(&context)
        .run()
        .code(1)
        .stderr_has("linux/arm64")
        .stderr_has("Dockerfile:4")
        .stderr_has("exit code: 3")
        .stderr_has("the reason");
    assert_eq!(shared_registry().tag("failing", "latest"), None);
}

#[test]
fn keep_going_lets_the_others_finish() {
    let world = World::new();
    let context = world.context("context", FAILS_ON_ARM);
    let outcome = json_build(&world, &context)
        .args(["--platform", "linux/amd64,linux/arm64,linux/riscv64", "--jobs", "4", "--keep-going"])
        .run()
        .code(1);
    let lines = outcome.output_lines();
    for platform in ["linux/amd64", "linux/riscv64"] {
        assert!(lines.iter().any(|(on, text)| on == platform && text == "survived"), "{}", outcome.report());
    }
    let last = outcome.events().pop().expect("a last line");
    assert_eq!(last["error"]["code"], 1, "{last}");
    assert_eq!(last["error"]["platform"], "linux/arm64", "{last}");
    assert_eq!(last["error"]["line"], 4, "{last}");
    assert_eq!(last["error"]["retryable"], false, "{last}");
}

#[test]
fn json_progress_is_one_object_a_line() {
    let world = World::new();
    let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN echo some words\n");
    let outcome = json_build(&world, &context).args(["--platform", "linux/arm64"]).run().success().stdout_has(
        "{\"event\":\"output\",\"platform\":\"linux/arm64\",\"step\":\"RUN echo some words\",\"text\":\"some words\"}\n",
    );
    for event in outcome.events() {
        assert!(event["event"].is_string(), "{event}");
    }
    assert!(outcome.stdout.lines().all(|line| line.starts_with("{\"event\":")), "{}", outcome.report());
    let result = outcome.events().pop().expect("a last line");
    assert_eq!(result["event"], "result");
    assert_eq!(result["platforms"][0]["platform"], "linux/arm64");
    assert!(result["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{result}");
}

#[test]
fn plain_progress_names_the_platform_of_each_line() {
    let world = World::new();
    let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN echo machine $(uname -m)\n");
    let outcome = world
        .build()
        .args(["--platform", "linux/amd64,linux/arm64", "--build-arg", &base()])
        .arg(&context)
        .run()
        .success();
    for (platform, machine) in [("linux/amd64", "x86_64"), ("linux/arm64", "aarch64")] {
        let said = outcome
            .stderr
            .lines()
            .any(|line| line.contains(platform) && line.contains(&format!("machine {machine}")));
        assert!(said, "{}", outcome.report());
    }
    // Standard output is for results.
    assert!(!outcome.stdout.contains("machine"), "{}", outcome.report());
}

#[test]
fn quiet_prints_the_digest_alone() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nLABEL a=b\n");
    let out = world.path("out/layout");
    let outcome = world.build().args(["--quiet", "--output", &layout(&out)]).arg(&context).run().success();
    assert_eq!(outcome.stdout.trim(), Index::layout(&out).digest);
    assert_eq!(outcome.stderr, "");
}

#[test]
fn default_platform_is_the_machines() {
    let world = World::new();
    let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN uname -m\n");
    let out = world.path("out/layout");
    world.build().args(["--build-arg", &base(), "--output", &layout(&out)]).arg(&context).run().success();
    assert_eq!(Index::layout(&out).platforms(), [native_platform()]);
}

#[test]
fn platforms_are_normalised_and_said_once() {
    let world = World::new();
    let context = world.context("context", "ARG BASE\nFROM $BASE\nLABEL a=b\n");
    let out = world.path("out/layout");
    world
        .build()
        .args([
            "--platform",
            "aarch64,linux/arm64/v8",
            "--platform",
            "armhf,linux/arm",
            "--platform",
            "x86_64",
        ])
        .args(["--build-arg", &base(), "--output", &layout(&out)])
        .arg(&context)
        .run()
        .success();
    assert_eq!(Index::layout(&out).platforms(), ["linux/arm64", "linux/arm/v7", "linux/amd64"]);
}

#[test]
fn lower_variant_of_the_base_may_stand_in() {
    let world = World::new();
    let context = world.context("context", "ARG BASE\nFROM $BASE\nLABEL a=b\n");
    let out = world.path("out/layout");
    world
        .build()
        .args(["--platform", "linux/arm/v6", "--build-arg", &base(), "--output", &layout(&out)])
        .arg(&context)
        .run()
        .success();
    let index = Index::layout(&out);
    assert_eq!(index.platforms(), ["linux/arm/v6"]);
    // The v5 one, not the v7 one.
    let v5 = shared_registry().index("busybox", "latest").image("linux/arm/v5").layers.clone();
    assert_eq!(index.images[0].layers.last().expect("a layer").diff_id, v5.last().expect("a layer").diff_id);
}

#[test]
fn missing_platform_of_the_base_is_found_before_anything_is_built() {
    let world = World::new();
    let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN echo ran\n");
    let name = shared_registry().name("unbuilt:latest");
    world
        .build()
        .args(["--platform", "linux/amd64,linux/mips64le", "--build-arg", &base(), "--push", "-t", &name])
        .arg(&context)
        .run()
        .code(5)
        .stderr_has("linux/mips64le")
        .stderr_has("linux/amd64")
        .stderr_has("linux/riscv64")
        .lacks("ran\n");
    assert_eq!(shared_registry().tag("unbuilt", "latest"), None);
}

#[test]
fn labels_and_annotations() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nLABEL a=b c=d\n");
    let out = world.path("out/layout");
    world
        .build()
        .args(["--platform", "linux/amd64,linux/arm64", "--label", "c=line", "--output", &layout(&out)])
        .args(["--annotation", "plain=1", "--annotation", "index:top=2"])
        .args(["--annotation", "manifest:own=3", "--annotation", "manifest-descriptor:entry=4"])
        .args(["--annotation", "manifest[linux/arm64]:only=arm"])
        .arg(&context)
        .run()
        .success();
    let index = Index::layout(&out);
    assert_eq!(index.json["annotations"]["top"], "2");
    for (number, image) in index.images.iter().enumerate() {
        assert_eq!(image.run_config()["Labels"], serde_json::json!({"a": "b", "c": "line"}));
        assert_eq!(image.manifest["annotations"]["plain"], "1");
        assert_eq!(image.manifest["annotations"]["own"], "3");
        assert_eq!(index.json["manifests"][number]["annotations"]["entry"], "4");
    }
    assert_eq!(index.image("linux/arm64").manifest["annotations"]["only"], "arm");
    assert_eq!(index.image("linux/amd64").manifest["annotations"]["only"], Value::Null);
}

#[test]
fn file_capabilities_and_other_attributes_survive() {
    let world = World::new();
    // cap_net_raw+ep, revision 2, as `setcap` writes it.
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut archive = tar::Builder::new(Vec::new());
    archive
        .append_pax_extensions([
            ("SCHILY.xattr.security.capability", capability.as_slice()),
            ("SCHILY.xattr.user.note", b"kept".as_slice()),
        ])
        .expect("PAX records");
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    archive.append_data(&mut header, "ping", b"abc".as_slice()).expect("an entry");
    let archive = archive.into_inner().expect("an archive");
    let context = world.context(
        "context",
        "ARG BASE\n\
         FROM $BASE AS one\n\
         ADD caps.tar /o/\n\
         RUN chmod 750 /o/ping\n\
         FROM $BASE\n\
         COPY --from=one /o /p\n",
    );
    world.write("context/caps.tar", archive);
    for (target, path) in [("one", "/o/ping"), ("1", "/p/ping")] {
        let out = world.path(&format!("out/{target}"));
        world
            .build()
            .args(["--build-arg", &base(), "--target", target, "--output", &layout(&out)])
            .arg(&context)
            .run()
            .success();
        let tree = Index::layout(&out).images[0].tree();
        let node = tree.get(path).expect("the file");
        assert_eq!(node.mode, 0o750);
        assert_eq!(node.xattrs["security.capability"], capability);
        assert_eq!(node.xattrs["user.note"], b"kept");
        assert_eq!(node.xattrs.len(), 2, "{:?}", node.xattrs);
    }
}

#[test]
fn dockerfile_may_lie_elsewhere() {
    let world = World::new();
    let file = world.write("elsewhere/My.file", "FROM scratch\nCOPY a.txt /\n");
    world.write("context/a.txt", "alpha\n");
    world.write("elsewhere/My.file.dockerignore", "b.txt\n");
    let out = world.path("out/layout");
    world
        .build()
        .arg("--file")
        .arg(&file)
        .args(["--output", &layout(&out)])
        .arg(world.path("context"))
        .run()
        .success();
    assert_eq!(Index::layout(&out).images[0].tree().text("/a.txt"), "alpha\n");
}

#[test]
fn usage_errors_end_with_code_2() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nLABEL a=b\n");
    let context = context.to_str().expect("UTF-8");
    for (args, said) in [
        (vec!["--platform", "linux/", context], "linux/"),
        (vec!["--no-such-flag", context], "--no-such-flag"),
        (vec!["--load", context], "--load"),
        (vec!["--builder", "x", context], "--builder"),
        (vec!["--output", "type=wrong,dest=x", context], "wrong"),
        (vec!["--push", context], "-t NAME"),
        (vec!["/no/such/context"], "/no/such/context"),
        (vec!["--file", "/no/such/file", context], "/no/such/file"),
        (vec!["--jobs", "none", context], "--jobs"),
        (vec!["--tag", "localhost/Upper", "--push", context], "localhost/Upper"),
    ] {
        world.build().args(args).run().code(2).stderr_has(said);
    }
}

#[test]
fn undeclared_build_argument_is_a_warning() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nARG VERSION\nLABEL v=$VERSION\n");
    world
        .build()
        .args(["--build-arg", "VERSIN=1"])
        .arg(&context)
        .run()
        .success()
        .stderr_has("VERSIN")
        .stderr_has("VERSION");
}

#[test]
fn build_without_output_says_where_the_result_is() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nLABEL a=b\n");
    world.build().arg(&context).run().success().stderr_has("--push").stderr_has("store");
}

#[test]
fn without_arguments_shows_how_to_build() {
    let world = World::new();
    world.fanfold([]).run().success().stdout_has("fanfold build").stdout_has("fanfold platforms");
    world.fanfold(["build", "--help"]).run().success().stdout_has("--platform").stdout_has("--metadata-file");
}
