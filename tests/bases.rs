//! Bases of all kinds: indexes, Docker manifest lists, single manifests, and what is wrong with some.

mod support;

use support::{Index, World, base, shared_registry, tool};

/// Copies an image within the shared registry by skopeo, under another name and in another form.
fn convert(arguments: &[&str], name: &str) {
    let (from, to) = (format!("docker://{}", shared_registry().name("busybox")), format!("docker://{name}"));
    let common = ["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    tool("skopeo", common.iter().chain(arguments).copied().chain([from.as_str(), to.as_str()])).success();
}

/// What a build on `name` for `platforms` came to.
fn build_on(world: &World, name: &str, platforms: &str) -> support::Outcome {
    let context = world.context("context", "ARG FROM\nFROM $FROM\nRUN uname -m > /machine\n");
    world
        .build()
        .args(["--platform", platforms, "--build-arg", &format!("FROM={name}")])
        .args(["-o", &format!("type=oci,tar=false,dest={}", world.path("layout").display())])
        .arg(&context)
        .run()
}

#[test]
fn docker_manifest_list() {
    let world = World::new();
    let name = shared_registry().name("bases/list:latest");
    convert(&["--all", "--format", "v2s2"], &name);
    build_on(&world, &name, "linux/amd64,linux/arm64").success();
    let index = Index::layout(&world.path("layout"));
    for (platform, machine) in [("linux/amd64", "x86_64\n"), ("linux/arm64", "aarch64\n")] {
        let image = index.image(platform);
        assert_eq!(image.tree().text("/machine"), machine);
        // Docker and OCI types never stand in one manifest.
        for layer in image.manifest["layers"].as_array().expect("layers") {
            assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        }
    }
}

#[test]
fn single_manifest_is_for_the_platform_that_its_config_says() {
    let world = World::new();
    for (format, name) in [("oci", "bases/one-oci:latest"), ("v2s2", "bases/one-docker:latest")] {
        let name = shared_registry().name(name);
        convert(&["--override-arch", "arm64", "--format", format], &name);
        build_on(&world, &name, "linux/arm64").success();
        build_on(&world, &name, "linux/amd64")
            .code(5)
            .stderr_has("has no linux/amd64; it has: linux/arm64")
            .stderr_has("Dockerfile:2");
    }
}

#[test]
fn stage_pinned_to_another_platform_is_no_image_for_the_target() {
    let world = World::new();
    let context = world.context("context", "ARG BASE\nFROM --platform=linux/arm64 $BASE\nLABEL a=b\n");
    let base = base();
    let build =
        |platform: &[&str]| world.build().args(["--build-arg", &base]).args(platform).arg(&context).run();
    build(&["--platform", "linux/amd64"]).code(5).stderr_has("linux/arm64").stderr_has("Dockerfile:2");
    build(&["--platform", "linux/arm64"]).success();
    // Without a wish, the image is for what its stage is for.
    build(&[]).success().stderr_has("linux/arm64");
}

#[test]
fn base_that_holds_the_same_layer_twice_can_run() {
    let world = World::new();
    let name = shared_registry().name("bases/twice:latest");
    let context = world.context("base", "ARG BASE\nFROM $BASE\nRUN true\nRUN true\n");
    world.build().args(["--build-arg", &base(), "--tag", &name, "--push"]).arg(&context).run().success();
    build_on(&world, &name, support::native_platform()).success();
}
