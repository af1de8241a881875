//! Builds that are ended while they wait for others: nothing that they have started stays.

mod support;

use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use support::{Fault, HostState, Proxy, SshAgent, World, base, shared_registry};

/// A server that never answers, and where it is.
fn silent() -> (TcpListener, String) {
    let server = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = server.local_addr().expect("address");
    (server, format!("http://{address}/silent.git"))
}

#[track_caller]
fn until(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !there() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn git_ends_with_the_build() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        for (is_context, lines) in [
            (false, "FROM scratch\nADD URL /x\n"),
            (false, "FROM scratch AS a\nADD URL /x\nFROM a\nRUN x\n"),
            (true, "FROM scratch\n"),
        ] {
            let world = World::new();
            let (_server, url) = silent();
            let context = world.context("context", &lines.replace("URL", &url));
            let running = if is_context {
                world.build().arg(&url).start()
            } else {
                world.build().arg(&context).start()
            };
            let remote = format!("ls-remote --quiet --symref -- {url}");
            until("git does not begin", || HostState::process_runs(&remote));
            running.signal(signal);
            let outcome = running.finish().code(code);
            assert!(outcome.took < Duration::from_secs(20), "{lines}: {}", outcome.report());
            HostState::no_process(&url);
            let left = std::fs::read_dir(world.path("root/scratch")).expect("scratch").count();
            assert_eq!(left, 0, "{lines}");
        }
    }
}

/// The first socket below a folder.
fn socket(folder: &Path) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let kind = entry.file_type().ok()?;
        if kind.is_dir() { socket(&entry.path()) } else { kind.is_socket().then(|| entry.path()) }
    })
}

#[test]
fn no_agent_outlives_a_killed_build() {
    let world = World::new();
    let keys = SshAgent::start(&world);
    let (_server, url) = silent();
    let context = world.context("context", &format!("FROM scratch\nADD {url} /x\n"));
    let running =
        world.build().args(["--ssh", &format!("default={}", keys.key().display())]).arg(&context).start();
    let remote = format!("ls-remote --quiet --symref -- {url}");
    until("git does not begin", || HostState::process_runs(&remote));
    let agent = socket(&world.path("root/scratch")).expect("an agent of the build");
    assert!(UnixStream::connect(&agent).is_ok());
    running.kill();
    running.finish();
    until("the agent stays", || UnixStream::connect(&agent).is_err());
}

/// The blobs of a store, with their sizes.
fn blobs(world: &World) -> Vec<u64> {
    let entries = std::fs::read_dir(world.path("root/blobs/sha256")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).collect()
}

#[test]
fn a_wait_for_another_build_ends_with_the_build() {
    for command in ["RUN true\n", ""] {
        let world = World::new();
        let context =
            world.context("context", &format!("ARG BASE\nFROM $BASE\n{command}COPY Dockerfile /\n"));
        let out = support::layout(&world.path("out/image"));
        let build = || world.build().args(["--build-arg", &base(), "--output", &out]).arg(&context);
        // Its locks are those that the next build waits for.
        build().run().success();
        let locks = std::fs::read_dir(world.path("root/locks")).expect("locks");
        let held: Vec<_> = locks
            .flatten()
            .map(|entry| {
                let file = std::fs::File::options().write(true).open(entry.path()).expect("a lock");
                flock(&file, FlockOperation::LockExclusive).expect("flock");
                file
            })
            .collect();
        assert!(!held.is_empty());
        for folder in ["steps", "layers", "blobs"] {
            let removed = world.command("rm").arg("-rf").arg(world.path("root").join(folder)).status();
            assert!(removed.is_ok(), "{folder}");
        }
        std::fs::remove_dir_all(world.path("out/image")).expect("the first result");
        let running = build().start();
        std::thread::sleep(Duration::from_secs(2));
        running.signal(Signal::TERM);
        let outcome = running.finish().code(143);
        assert!(outcome.took < Duration::from_secs(30), "{}", outcome.report());
        drop(held);
    }
}

#[test]
fn a_failed_build_seals_no_further() {
    let world = World::new();
    let dockerfile = "ARG BASE\nFROM $BASE\nCOPY large /large\nRUN false\n";
    let context = world.context("context", dockerfile);
    let mut state = 1u64;
    let mut noise = vec![0u8; 200 << 20];
    for word in noise.chunks_exact_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.copy_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    world.write("context/large", noise);
    world.build().args(["--build-arg", &base()]).arg(&context).run().code(1);
    assert!(blobs(&world).iter().all(|size| *size < 100 << 20), "the layer was sealed to its end");
    assert_eq!(std::fs::read_dir(world.path("root/scratch")).expect("scratch").count(), 0);
}

#[test]
fn a_refused_push_ends_the_build_at_once() {
    let registry = shared_registry();
    let proxy = Proxy::start(registry.port(), Fault::Uploads(403));
    for lines in ["COPY Dockerfile /\nRUN sleep 300\n", "RUN sleep 300\n"] {
        let world = World::new();
        let context = world.context("context", &format!("ARG BASE\nFROM $BASE\n{lines}"));
        let build = world.build().args(["--build-arg", &base(), "--push", "-t", &proxy.name("early/never")]);
        let outcome = build.arg(&context).run().code(3).stderr_has("early/never");
        assert!(outcome.took < Duration::from_secs(200), "the command ran to its end: {}", outcome.report());
        assert_eq!(registry.tag("early/never", "latest"), None);
    }
}
