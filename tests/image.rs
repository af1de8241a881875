//! The program is one static file that works in an empty root, and `image/Dockerfile` makes the images
//! with it. Linux containers are imitated: a root that is mounted read-only, a volume for the store, and
//! the files that an orchestrator puts over `/etc/hosts` and `/etc/resolv.conf`.

mod support;

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Registry, Run, User, World, busybox, debian, is_root, shared_registry, tool};

/// A file of the project.
fn project(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().expect("UTF-8").to_owned()
}

#[test]
fn program_is_static() {
    let binary = World::new().binary().to_str().expect("UTF-8");
    tool(&project("ci/release"), ["--check", binary]).success();
    // The check is one.
    tool(&project("ci/release"), ["--check", "/bin/sh"]).code(1).stderr_has("not static");
}

/// Builds a target of `image/Dockerfile` and unpacks it; gives the root.
fn image(world: &World, target: &str, arguments: &[&str]) -> PathBuf {
    let platform = support::native_platform();
    let program = world.folder(&format!("dist/{platform}")).join("fanfold");
    // Without what debuggers want, which is most of it.
    tool("strip", [Path::new("-o"), &program, world.binary()]).success();
    let archive = world.path(&format!("{target}.tar"));
    world
        .build()
        .args(["-f", &project("image/Dockerfile"), "--target", target, "--platform", platform])
        .args(["--build-context", &format!("dist={}", world.path("dist").display())])
        .args(["-o", &format!("type=tar,dest={}", archive.display())])
        .args(arguments.iter().copied())
        .arg(Path::new(&project("image")))
        .run()
        .success();
    let root = world.folder(target);
    tool("tar", [Path::new("-C"), &root, Path::new("--numeric-owner"), Path::new("-xpf"), &archive])
        .success();
    root
}

/// `fanfold ARGUMENTS` in `root`, by user 1000, with what a container has: the root read-only, `volume`
/// at the store's place, `hosts` and `resolv` as files of /etc.
fn container(world: &World, root: &Path, enter: &str, arguments: &[&str]) -> Run {
    let volume = world.folder("volume");
    std::os::unix::fs::chown(&volume, Some(1000), Some(1000)).expect("chown");
    for name in ["hosts", "resolv.conf"] {
        // Mount points, which an orchestrator makes.
        std::fs::write(root.join("etc").join(name), "").expect("write");
    }
    let script = format!(
        "set -e; root=$0; volume=$1; files=$2; shift 3\n\
         mount --bind \"$root\" \"$root\"\n\
         mount --bind \"$volume\" \"$root/var/lib/fanfold\"\n\
         for name in hosts resolv.conf; do mount --bind \"$files/$name\" \"$root/etc/$name\"; done\n\
         mount -o remount,bind,ro \"$root\"\n\
         {enter}"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    command.args([root, &volume, &world.path("files")]).args(["--", "/usr/bin/fanfold"]);
    command.args(arguments).env_clear();
    // What the image says, and where tools of the machine are.
    command
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/home/fanfold")
        .env("FANFOLD_ROOT", "/var/lib/fanfold")
        .env("TMPDIR", "/var/lib/fanfold")
        .env("FANFOLD_PROGRESS", "plain");
    Run::new(command)
}

/// Answers every question for an IPv4 address of `name` with 127.0.0.1, at port 53 of the address that
/// it gives; other names are not known.
fn serve_name(name: &'static str) -> String {
    // Addresses of this machine that nobody else serves.
    let (address, socket) = (1..250)
        .map(|last| format!("127.53.53.{last}"))
        .find_map(|address| Some((address.clone(), UdpSocket::bind((address.as_str(), 53)).ok()?)))
        .expect("port 53 of some loopback address");
    let wanted: Vec<u8> = name
        .split('.')
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .chain([0])
        .collect();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let mut reply = buffer[..length].to_vec();
            let known = reply[12..].starts_with(&wanted);
            (reply[2], reply[3]) = (0x81, if known { 0x80 } else { 0x83 });
            if known && reply[12 + wanted.len() + 1] == 1 {
                reply[7] = 1;
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&reply, peer);
        }
    });
    address
}

#[test]
fn slim_image_in_an_empty_root() {
    if !is_root() {
        return;
    }
    let (world, registry) = (World::of(User::Root), Registry::start());
    let root = image(&world, "slim", &[]);
    assert_eq!(
        ["etc", "home", "tmp", "usr", "var", "workspace"].map(|name| root.join(name).is_dir()),
        [true; 6]
    );
    assert!(!root.join("lib").exists() && !root.join("lib64").exists());

    // A pod's files: a name of the cluster, and one that the pod's own hosts file has.
    let server = serve_name("registry.team.svc.cluster.local");
    world.write("files/hosts", "127.0.0.1 localhost\n127.0.0.1 registry.hosts.example\n");
    world.write(
        "files/resolv.conf",
        format!(
            "search other.svc.cluster.local team.svc.cluster.local cluster.local\n\
             nameserver {server}\noptions ndots:5\n"
        ),
    );
    world.folder("volume");
    world.write("volume/context/Dockerfile", "FROM scratch\nCOPY file /file\n");
    world.write("volume/context/file", "of the context\n");
    let port = registry.port();
    let push = |host: &str| {
        let host = format!("{host}:{port}");
        let name = format!("{host}/app:{}", host.len());
        container(
            &world,
            &root,
            "exec chroot --userspec=1000:1000 \"$root\" \"$@\"",
            &["build", "--insecure-registry", &host, "--push", "-t", &name, "/var/lib/fanfold/context"],
        )
        .run()
    };
    for host in ["registry", "registry.team.svc", "registry.hosts.example", "localhost"] {
        push(host).success();
        let tag = format!("{host}:{port}").len().to_string();
        let tree = registry.index("app", &tag).image(support::native_platform()).tree();
        assert_eq!(tree.text("/file"), "of the context\n", "{host}");
    }
    push("nowhere")
        .code(75)
        .stderr_has("`nowhere` is not known to the DNS server 127.53.53.")
        .stderr_has("resolv.conf");
}

#[test]
fn full_image_with_a_read_only_root() {
    if !is_root() {
        return;
    }
    let world = World::of(User::Root);
    let base = format!("BASE={}", debian());
    // The test's base is Debian 12.
    let root = image(&world, "full", &["--build-arg", &base, "--build-arg", "INTERPRETERS=qemu-user-static"]);
    for program in
        ["usr/bin/fanfold", "usr/bin/git", "usr/bin/ssh", "usr/bin/newuidmap", "usr/bin/qemu-aarch64-static"]
    {
        assert!(root.join(program).exists(), "no {program}");
    }
    assert!(root.join("etc/ssl/certs/ca-certificates.crt").exists());

    world.write("files/hosts", "127.0.0.1 localhost\n");
    world.write("files/resolv.conf", "");
    world.folder("volume");
    // The base has no umount(8), and a program of the machine may find no libraries there.
    let tools = busybox().join("bin/busybox-amd64");
    std::fs::copy(tools, world.path("volume/busybox")).expect("a copy of busybox");
    let from = shared_registry().name("busybox");
    world.write("volume/context/Dockerfile", format!("FROM {from}\nRUN uname -m > /machine\n"));
    container(
        &world,
        &root,
        // Not only chroot(2), below which the kernel makes no user namespaces.
        "mount --rbind /proc \"$root/proc\"; mount --rbind /dev \"$root/dev\"; cd \"$root\"\n\
         pivot_root . .; /var/lib/fanfold/busybox umount -l .; cd /workspace\n\
         exec setpriv --reuid 1000 --regid 1000 --clear-groups \"$@\"",
        &[
            "build",
            "--platform",
            "linux/amd64,linux/arm64",
            "-o",
            "type=oci,tar=false,dest=/var/lib/fanfold/layout",
            "/var/lib/fanfold/context",
        ],
    )
    .run()
    .success();
    let index = support::Index::layout(&world.path("volume/layout"));
    for (platform, machine) in [("linux/amd64", "x86_64\n"), ("linux/arm64", "aarch64\n")] {
        assert_eq!(index.image(platform).tree().text("/machine"), machine);
    }
}
