//! The places that other tests build in are as narrow as those tests say.

mod support;

use support::{Container, HostState, Rung, World, is_root};

/// Tries what a builder would like to do; one word for each that works.
const TRIES: &str = "id -u; \
    unshare -U true 2>/dev/null && echo userns; \
    unshare -m true 2>/dev/null && echo mountns; \
    mount -t tmpfs none /tmp 2>/dev/null && echo mount; \
    chroot / true 2>/dev/null && echo chroot; \
    mknod /dev/made c 1 3 2>/dev/null && echo mknod; \
    touch /made 2>/dev/null && echo write; \
    (echo 1 > /proc/sys/vm/drop_caches) 2>/dev/null && echo sysctl; \
    grep -e CapEff -e NoNewPrivs -e Seccomp: /proc/self/status | tr -d '\\t'; ls -d /proc/[0-9]* | wc -l";

fn tried(container: Container) -> Vec<String> {
    let outcome = container.command("sh").args(["-c", TRIES]).run().success();
    let mut lines: Vec<_> = outcome.stdout.lines().map(str::to_owned).collect();
    let processes: usize = lines.pop().and_then(|line| line.trim().parse().ok()).expect("a number");
    assert!(processes < 6, "a container sees {processes} processes");
    lines
}

#[test]
fn containers_are_as_narrow_as_they_should_be() {
    if !is_root() {
        return;
    }
    let host = HostState::now();
    assert_eq!(
        tried(Container::new()),
        ["0", "chroot", "mknod", "write", "CapEff:00000000a80425fb", "NoNewPrivs:0", "Seccomp:2"]
    );
    assert_eq!(
        tried(Container::restricted()),
        ["1000", "CapEff:0000000000000000", "NoNewPrivs:1", "Seccomp:2"]
    );
    // Neither has an account with subordinate ids, nor the programs that would use them.
    for container in [Container::new(), Container::restricted()] {
        container
            .command("sh")
            .args([
                "-c",
                "! test -e /etc/subuid && ! which newuidmap && ! test -e /proc/sys/fs/binfmt_misc/register",
            ])
            .run()
            .success();
    }
    host.unchanged();
}

#[test]
fn worlds_of_unknown_users_are_theirs() {
    if !is_root() {
        return;
    }
    let world = Rung::ONE_ID.world();
    let shown =
        support::Run::new(world.command("sh")).args(["-c", "id -u; id -g; touch out/made"]).run().success();
    assert_eq!(shown.stdout, "20011\n20012\n");
    let plain = World::new();
    assert_ne!(plain.root(), world.root());
}
