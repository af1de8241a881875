//! The base images: made once by `ci/fixtures` and the binary under test, then
//! served by a registry that all tests of one program share.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use super::registry::Registry;
use super::run::tool;
use super::world::World;

/// The platforms of the busybox base.
pub(crate) const BASE_PLATFORMS: &str = "linux/amd64,linux/arm64,linux/arm/v7,linux/arm/v5,linux/386,linux/ppc64le,\
                                         linux/s390x,linux/riscv64";

/// The registry that the tests of this program share, with the busybox base at
/// `busybox:latest`.
pub(crate) fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let registry = Registry::start();
        push_busybox(&registry.name("busybox:latest"));
        registry
    })
}

/// `BASE=localhost:PORT/busybox`, to be given to `--build-arg`.
pub(crate) fn base() -> String {
    format!("BASE={}", registry().name("busybox"))
}

/// The context of the busybox base.
pub(crate) fn busybox() -> PathBuf {
    fixture("busybox")
}

/// Pushes the busybox base of all platforms as `name`.
fn push_busybox(name: &str) {
    World::new()
        .build()
        .args(["--timestamp", "1700000000", "--platform", BASE_PLATFORMS, "--push", "--tag", name])
        .arg(busybox())
        .run()
        .success();
}

/// Puts the Debian base (amd64 and arm64) into the shared registry as
/// `debian:latest`, and gives back `localhost:PORT/debian`. Its second stage is
/// a build of minutes, so the result is kept beside the fixture.
pub(crate) fn debian() -> String {
    static PUSHED: Mutex<bool> = Mutex::new(false);
    let mut pushed = PUSHED.lock().expect("no panic before");
    let name = registry().name("debian");
    if !*pushed {
        let layout = debian_layout();
        tool(
            "skopeo",
            [
                "--insecure-policy",
                "copy",
                "--quiet",
                "--all",
                "--dest-tls-verify=false",
                &format!("oci:{}:latest", layout.display()),
                &format!("docker://{name}:latest"),
            ],
        )
        .success();
        *pushed = true;
    }
    name
}

/// Puts the Debian base with a package archive inside into the shared registry, and gives back its
/// name there. `apt-get install openssh-client cron dbus` in it needs no network.
pub(crate) fn debian_with_packages() -> String {
    static NAME: OnceLock<String> = OnceLock::new();
    let push = || {
        let name = registry().name("debian-with-packages");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/packages");
        let context = tool(script.to_str().expect("UTF-8"), [""; 0]).success().stdout;
        World::new()
            .build()
            .args(["--platform", "linux/amd64,linux/arm64", "--timestamp", "1700000000", "--push"])
            .args(["--build-arg", &format!("BASE={}", debian()), "--tag", &name])
            .arg(context.trim())
            .run()
            .success();
        name
    };
    NAME.get_or_init(push).clone()
}

fn debian_layout() -> PathBuf {
    let context = fixture("debian").canonicalize().expect("the Debian context");
    let layout = context.with_file_name(format!("image-{}", context.file_name().expect("a name").display()));
    let lock = File::create(context.with_file_name(".image.lock")).expect("a lock file");
    lock.lock().expect("flock");
    if !layout.exists() {
        // Only a whole layout may stand under its final name.
        let partial = layout.with_extension("partial");
        let _ = std::fs::remove_dir_all(&partial);
        World::new()
            .build()
            .args([
                "--platform",
                "linux/amd64,linux/arm64",
                "--timestamp",
                "1700000000",
                "--tag",
                "debian:latest",
            ])
            .arg("--output")
            .arg(format!("type=oci,tar=false,dest={}", partial.display()))
            .arg(&context)
            .run()
            .success();
        std::fs::rename(&partial, &layout).expect("rename");
    }
    layout
}

/// A fixture's folder, made if it is missing.
fn fixture(name: &str) -> PathBuf {
    static MADE: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().expect("no panic before");
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !made.iter().any(|other| other == name) {
        tool(project.join("ci/fixtures").to_str().expect("UTF-8"), [name]).success();
        made.push(name.to_owned());
    }
    project.join("target/fixtures").join(name)
}
