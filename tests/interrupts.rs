//! Builds that are ended while they wait for others: nothing that they have started stays.

mod support;

use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{HostState, SshAgent, World};

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
