//! A distribution's image: packages from its archive, native and emulated.

mod support;

use support::{HostState, Index, User, World, debian, elf_machine};

/// Installs curl for two platforms and looks at every program of the result.
fn install_curl(user: User) {
    let base = debian();
    let world = World::of(user);
    let host = HostState::now();
    let context = world.context(
        "context",
        &format!(
            "FROM {base}\n\
             RUN apt-get update && apt-get install -y --no-install-recommends curl\n\
             RUN curl --version && rm -rf /var/lib/apt/lists/*\n"
        ),
    );
    let out = world.path("out/layout");
    world
        .build()
        .args(["--platform", "linux/amd64,linux/arm64"])
        .args(["-o", &format!("type=oci,tar=false,dest={}", out.display())])
        .arg(&context)
        .run()
        .success()
        .stderr_has("curl 7.");
    host.unchanged();
    for (platform, machine, arch) in [("linux/amd64", 62, "amd64"), ("linux/arm64", 183, "arm64")] {
        let image = Index::layout(&out);
        let tree = image.image(platform).tree();
        assert!(tree.get("/usr/bin/curl").is_some(), "{platform}: no curl");
        let mut programs = 0;
        for (path, node) in tree.iter() {
            if let Some(found) = elf_machine(node.head()) {
                assert_eq!(found, machine, "{platform}: {}", support::escape(path));
                programs += 1;
            }
        }
        assert!(programs > 200, "{platform}: only {programs} ELF files");
        assert!(
            tree.get(format!("/var/lib/dpkg/info/libcurl4:{arch}.list")).is_some(),
            "{platform}: no libcurl4"
        );
        // Setuid programs and owners are those of the packages.
        let su = tree.get("/usr/bin/su").or_else(|| tree.get("/bin/su")).expect("su");
        assert_eq!(su.mode, 0o4755, "{platform}");
        assert_eq!(tree.get("/etc/shadow").expect("shadow").gid, 42, "{platform}");
        // What the step mounted or wrote over is not in the image.
        assert!(
            !image
                .image(platform)
                .layers
                .last()
                .expect("a layer")
                .entries
                .iter()
                .any(|entry| entry.name.starts_with(b"proc/"))
        );
    }
}

#[test]
fn packages_for_two_platforms() {
    install_curl(World::new().user());
}

#[test]
fn packages_for_two_platforms_as_plain_user() {
    if support::is_root() {
        install_curl(User::Plain);
    }
}
