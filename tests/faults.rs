//! Disks that are full, registries that misbehave, blobs that lie: the right
//! exit code, no tag moved, and a second try that comes to the same result.

mod support;

use std::process::Command;

use support::{Fault, Index, Proxy, Registry, Run, World, base, shared_registry};

const DOCKERFILE: &str = "ARG BASE\nFROM $BASE\nRUN seq 1 1000 > /numbers\nRUN echo x > /x\n";

/// A build of two platforms with a fixed time, pushed as `name`.
fn push(world: &World, base: &str, name: &str) -> Run {
    let context = world.context("context", DOCKERFILE);
    world
        .build()
        .args(["--platform", "linux/amd64,linux/arm64", "--timestamp", "1700000000", "--push", "-t", name])
        .args(["--build-arg", &format!("BASE={base}")])
        .arg(&context)
}

/// A registry of its own with the busybox base in it.
fn registry_with_base(world: &World) -> Registry {
    let registry = Registry::start();
    world
        .build()
        .args(["--platform", "linux/amd64,linux/arm64", "--timestamp", "1700000000", "--push"])
        .args(["-t", &registry.name("busybox")])
        .arg(support::busybox())
        .run()
        .success();
    registry
}

#[test]
fn registry_that_fails_every_second_request() {
    let registry = shared_registry();
    push(&World::new(), &registry.name("busybox"), &registry.name("faults/undisturbed")).run().success();
    for spared in [0, 1] {
        let name = format!("faults/second{spared}");
        let proxy = Proxy::start(registry.port(), Fault::EverySecond(spared));
        push(&World::new(), &proxy.name("busybox"), &proxy.name(&name)).run().success();
        let requests = proxy.seen();
        assert!(proxy.failed() > 5, "only {} failed of {requests:?}", proxy.failed());
        assert_eq!(registry.tag(&name, "latest"), registry.tag("faults/undisturbed", "latest"));
        registry.index(&name, "latest");
    }
}

#[test]
fn connections_that_are_cut() {
    let registry = shared_registry();
    let proxy = Proxy::start(registry.port(), Fault::CutFirst(3));
    push(&World::new(), &proxy.name("busybox"), &proxy.name("faults/cut")).run().success();
    assert_eq!(proxy.failed(), 3);
    registry.index("faults/cut", "latest");
}

#[test]
fn blobs_that_break_off_while_they_are_unpacked() {
    let registry = shared_registry();
    push(&World::new(), &registry.name("busybox"), &registry.name("faults/unbroken")).run().success();
    for ranges in [true, false] {
        let proxy = Proxy::start(registry.port(), Fault::BreakBlobs { after: 100_000, ranges });
        let name = format!("faults/broken-{ranges}");
        let world = World::new();
        push(&world, &proxy.name("busybox"), &registry.name(&name)).run().success();
        assert!(proxy.failed() >= 2, "{:?}", proxy.seen());
        assert_eq!(registry.tag(&name, "latest"), registry.tag("faults/unbroken", "latest"), "{ranges}");
    }
}

#[test]
fn statuses_that_do_not_go_away() {
    let registry = shared_registry();
    for (fault, code) in [
        (Fault::Always(503), 75),
        (Fault::Always(429), 75),
        (Fault::Always(403), 3),
        (Fault::Uploads(500), 75),
        (Fault::Uploads(403), 3),
        (Fault::Uploads(400), 4),
        (Fault::Uploads(405), 4),
    ] {
        let proxy = Proxy::start(registry.port(), fault);
        let world = World::new();
        // The base comes from the sound registry, so that it is the push that fails.
        let outcome = push(&world, &registry.name("busybox"), &proxy.name("faults/never")).run();
        assert_eq!(outcome.exit(), code, "{fault:?}\n{}", outcome.report());
        assert_eq!(registry.tag("faults/never", "latest"), None, "{fault:?}");
    }
}

#[test]
fn base_with_wrong_bytes() {
    let world = World::new();
    let registry = registry_with_base(&world);
    let layer = registry
        .index("busybox", "latest")
        .image("linux/arm64")
        .layers
        .last()
        .expect("a layer")
        .digest
        .clone();
    let path = registry.blob_path(&layer);
    let good = std::fs::read(&path).expect("the blob");
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&path, &bad).expect("write");

    let world = World::new();
    let name = registry.name("wrong");
    let outcome = push(&world, &registry.name("busybox"), &name).run().stderr_has("linux/arm64");
    assert!([4, 75].contains(&outcome.exit()), "{}", outcome.report());
    assert_eq!(registry.tag("wrong", "latest"), None);

    // Cut off instead of changed.
    std::fs::write(&path, &good[..middle]).expect("write");
    let outcome = push(&world, &registry.name("busybox"), &name).run();
    assert!([4, 75].contains(&outcome.exit()), "{}", outcome.report());

    // The same store gets over it.
    std::fs::write(&path, &good).expect("write");
    push(&world, &registry.name("busybox"), &name).run().success();
    registry.index("wrong", "latest");
}

#[test]
fn base_with_a_wrong_manifest() {
    let world = World::new();
    let registry = registry_with_base(&world);
    let digest = registry.tag("busybox", "latest").expect("a tag");
    let path = registry.blob_path(&digest);
    let text = std::fs::read_to_string(&path).expect("the index");
    std::fs::write(&path, text.replace("arm64", "arm46")).expect("write");
    let world = World::new();
    let outcome = push(&world, &registry.name("busybox"), &registry.name("wrong")).run();
    assert!([4, 5, 75].contains(&outcome.exit()), "{}", outcome.report());
    assert_eq!(registry.tag("wrong", "latest"), None);
}

/// Runs a build with a store on a disk of `size`.
fn on_small_disk(world: &World, size: &str, context: &std::path::Path, name: &str) -> support::Outcome {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs -o size=\"$1\",mode=755 none \"$2\" && root=$2 && shift 2 && exec \"$@\"")
        .args(["sh", size])
        .arg(world.root())
        .arg(world.binary())
        .args(["build", "--progress", "plain", "--push", "-t", name, "--root"])
        .arg(world.root())
        .args(["--build-arg", &base()])
        .arg(context)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", world.path("home"));
    Run::new(command).run()
}

#[test]
fn disk_that_is_full() {
    if !support::is_root() {
        return;
    }
    let registry = shared_registry();
    let world = World::new();
    let name = registry.name("faults/full");

    // Too small for the base.
    let context = world.context("context", DOCKERFILE);
    on_small_disk(&world, "2m", &context, &name).code(75).stderr_has("space");
    assert_eq!(registry.tag("faults/full", "latest"), None);

    // Too small for what a command writes: the command fails.
    let context =
        world.context("writes", "ARG BASE\nFROM $BASE\nRUN dd if=/dev/zero of=/big bs=1M count=64\n");
    let outcome = on_small_disk(&world, "16m", &context, &name).stderr_has("No space left");
    assert!([1, 75].contains(&outcome.exit()), "{}", outcome.report());
    assert_eq!(registry.tag("faults/full", "latest"), None);

    // Too small for what COPY brings.
    let context = world.context("copies", "ARG BASE\nFROM $BASE\nCOPY big /\n");
    let mut noise = vec![0_u8; 32 << 20];
    let mut state = 1_u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    world.write("copies/big", noise);
    on_small_disk(&world, "16m", &context, &name).code(75).stderr_has("space");
    assert_eq!(registry.tag("faults/full", "latest"), None);

    on_small_disk(&world, "256m", &context, &name).success();
    registry.index("faults/full", "latest");
}

#[test]
fn store_that_cannot_be_used() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nLABEL a=b\n");
    let file = world.write("file", "x");
    let root = file.join("below");
    let outcome = world
        .fanfold(["build", "--root", root.to_str().expect("UTF-8")])
        .arg(&context)
        .run()
        .stderr_has(root.to_str().expect("UTF-8"));
    assert!([2, 75].contains(&outcome.exit()), "{}", outcome.report());
}

#[test]
fn killed_in_the_middle_the_same_command_converges() {
    let registry = shared_registry();
    push(&World::new(), &registry.name("busybox"), &registry.name("faults/whole")).run().success();
    let world = World::new();
    // At ever later moments of the build.
    for pause in [5, 20, 50, 100, 200, 400, 800] {
        let running = push(&world, &registry.name("busybox"), &registry.name("faults/killed")).start();
        std::thread::sleep(std::time::Duration::from_millis(pause));
        running.kill();
        let _ = running.finish();
    }
    push(&world, &registry.name("busybox"), &registry.name("faults/killed")).run().success();
    assert_eq!(registry.tag("faults/killed", "latest"), registry.tag("faults/whole", "latest"));
    let _: Index = registry.index("faults/killed", "latest");
}
