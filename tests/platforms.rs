//! `fanfold platforms`, and builds where an emulator is missing.

mod support;

use std::os::unix::fs::symlink;

use serde_json::Value;
use support::{Container, HostState, Index, User, World, base, is_root, native_platform, users};

/// A PATH with everything but emulators.
fn path_without_emulators(world: &World) -> String {
    let bin = world.folder("bin");
    for name in ["newuidmap", "newgidmap", "sh", "id"] {
        for folder in ["/usr/bin", "/bin", "/usr/sbin"] {
            let program = std::path::Path::new(folder).join(name);
            if program.exists() && !bin.join(name).exists() {
                symlink(program, bin.join(name)).expect("a link");
            }
        }
    }
    bin.to_str().expect("UTF-8").to_owned()
}

/// A platform that this machine cannot run by itself.
fn foreign() -> &'static str {
    if native_platform() == "linux/riscv64" { "linux/s390x" } else { "linux/riscv64" }
}

#[test]
fn table_says_native_and_emulated() {
    for user in users() {
        let world = World::of(user);
        let host = HostState::now();
        let outcome = world.fanfold(["platforms"]).run().success();
        let line = |platform: &str| {
            outcome
                .stdout
                .lines()
                .find(|line| line.split_whitespace().next() == Some(platform))
                .unwrap_or_else(|| panic!("no line of {platform}\n{}", outcome.report()))
        };
        assert!(line(native_platform()).contains("native"), "{}", outcome.report());
        assert!(line(foreign()).contains("emulated"), "{}", outcome.report());
        assert!(line(foreign()).contains("qemu"), "{}", outcome.report());
        host.unchanged();
    }
}

#[test]
fn json_holds_the_same() {
    let world = World::new();
    let outcome = world.fanfold(["platforms", "--json"]).run().success();
    let all: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let entries = all.as_array().or_else(|| all["platforms"].as_array()).expect("a list of platforms");
    let entry = |platform: &str| {
        entries
            .iter()
            .find(|entry| entry["platform"] == platform)
            .unwrap_or_else(|| panic!("no {platform} in {all}"))
    };
    assert!(entry(native_platform()).to_string().contains("native"));
    assert!(entry(foreign()).to_string().contains("emulated"));
}

#[test]
fn missing_emulators_are_explained() {
    let world = World::new();
    let path = path_without_emulators(&world);
    world
        .fanfold(["platforms"])
        .env("PATH", &path)
        .run()
        .success()
        .stdout_has("unavailable")
        .stdout_has("qemu-user");
}

#[test]
fn run_without_emulator_fails_before_anything_is_pulled() {
    let world = World::new();
    let path = path_without_emulators(&world);
    let context = world.context("context", "ARG BASE\nFROM $BASE\nLABEL a=b\nRUN echo ran\n");
    world
        .build()
        .env("PATH", &path)
        .args(["--platform", foreign(), "--build-arg", &base()])
        .arg(&context)
        .run()
        .code(5)
        .stderr_has(foreign())
        .stderr_has("Dockerfile:4")
        .stderr_has("qemu-user")
        .lacks("exec format error")
        .lacks("pull");
}

#[test]
fn build_without_run_needs_no_emulator() {
    for user in users() {
        let world = World::of(user);
        let path = path_without_emulators(&world);
        let context = world.context(
            "context",
            "ARG BASE\n\
             FROM --platform=$BUILDPLATFORM $BASE AS build\n\
             RUN echo native > /made\n\
             FROM $BASE\n\
             WORKDIR /w\n\
             COPY --from=build --chown=app /made .\n\
             COPY --chmod=600 Dockerfile /etc/\n\
             CMD [\"sh\"]\n",
        );
        let out = world.path("out/layout");
        world
            .build()
            .env("PATH", &path)
            .args(["--platform", foreign(), "--build-arg", &base()])
            .args(["-o", &format!("type=oci,tar=false,dest={}", out.display())])
            .arg(&context)
            .run()
            .success();
        let tree = Index::layout(&out).images[0].tree();
        assert_eq!(tree.text("/w/made"), "native\n");
        assert_eq!(tree.get("/w/made").expect("made").uid, 1000);
    }
}

#[test]
fn emulators_of_a_folder() {
    let world = World::new();
    let path = path_without_emulators(&world);
    let qemu = world.folder("qemu");
    for entry in std::fs::read_dir("/usr/bin").expect("/usr/bin").flatten() {
        if entry.file_name().to_string_lossy().starts_with("qemu-") {
            symlink(entry.path(), qemu.join(entry.file_name())).expect("a link");
        }
    }
    let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN uname -m\n");
    world
        .build()
        .env("PATH", &path)
        .args(["--qemu-dir", qemu.to_str().expect("UTF-8"), "--platform", foreign(), "--build-arg", &base()])
        .arg(&context)
        .run()
        .success()
        .stderr_has(foreign().strip_prefix("linux/").expect("linux"));
}

#[test]
fn index_of_a_single_platform_where_it_is_asked_for() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nCOPY Dockerfile /\n");
    let build = |name: &str, platforms: &str, args: &[&str]| {
        let out = world.path(&format!("out/{name}"));
        let output = format!("type=oci,tar=false,dest={}", out.display());
        let run = world.build().args(["--platform", platforms, "--output", &output]).args(args);
        (run.arg(&context).run(), out)
    };
    let argument = |value: &str| format!("BUILDKIT_MULTI_PLATFORM={value}");
    for (value, is_index) in [("1", true), ("true", true), ("0", false), ("False", false)] {
        let (outcome, out) = build(value, "linux/arm64", &["--build-arg", &argument(value)]);
        outcome.success().lacks("no ARG declares");
        let index = Index::layout(&out);
        assert_eq!(index.json["manifests"].is_array(), is_index, "{value}");
        assert_eq!(index.platforms(), ["linux/arm64"]);
    }
    let annotated = ["--annotation", "index:a=b", "--build-arg", &argument("1")];
    let (outcome, out) = build("annotated", "linux/arm64", &annotated);
    outcome.success();
    assert_eq!(Index::layout(&out).json["annotations"]["a"], "b");
    let (outcome, _) = build("wrong", "linux/arm64", &["--build-arg", &argument("maybe")]);
    outcome.code(2).stderr_has("BUILDKIT_MULTI_PLATFORM=maybe");
    let (outcome, _) = build("several", "linux/arm64,linux/amd64", &["--build-arg", &argument("0")]);
    outcome.code(2).stderr_has("several platforms make an index");
}

/// What the doctor looks at, whatever the machine. Interpreters come on top.
const TOPICS: [&str; 33] = [
    "fanfold",
    "kernel",
    "user namespaces",
    "network namespaces",
    "isolation userns",
    "isolation one-id",
    "isolation chroot",
    "isolation ptrace",
    "subordinate ids",
    "capabilities",
    "no_new_privs",
    "seccomp",
    "seccomp listener",
    "ptrace",
    "chroot",
    "Landlock",
    "security modules",
    "/proc",
    "/dev",
    "cgroups",
    "store",
    "space",
    "overlay",
    "attributes",
    "whiteouts",
    "reflinks",
    "programs",
    "private handlers",
    "host handlers",
    "names",
    "proxies",
    "certificates",
    "git",
];

/// What `--doctor --json` says, whole.
fn examined(run: support::Run) -> Value {
    let outcome = run.args(["--json"]).run().success();
    let all: Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}\n{}", outcome.report()));
    for finding in all["findings"].as_array().expect("findings") {
        let text = |name: &str| finding[name].as_str().is_some_and(|text| !text.is_empty());
        let is_good = finding["verdict"] == "good";
        assert!(
            is_good || ["degraded", "missing"].iter().any(|name| finding["verdict"] == *name),
            "{finding}"
        );
        assert!(text("topic") && text("fact"), "{finding}");
        // Whatever costs something says what, and how to mend it.
        assert_eq!([text("cost"), text("fix")], [!is_good; 2], "{finding}");
    }
    all
}

fn finding<'a>(all: &'a Value, topic: &str) -> &'a Value {
    let findings = all["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["topic"] == topic);
    found.unwrap_or_else(|| panic!("nothing is said of {topic}: {all:#}"))
}

/// The doctor, with this world's store.
fn doctor(world: &World) -> support::Run {
    let root = world.root();
    world.fanfold(["platforms", "--doctor", "--root", root.to_str().expect("UTF-8")])
}

/// Every file below the world's folder.
fn files(world: &World) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![world.path("")];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.file_type().expect("a type").is_dir() {
                left.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

#[test]
fn doctor_explains_every_topic_and_leaves_no_trace() {
    for user in users() {
        let world = World::of(user);
        let (host, before) = (HostState::now(), files(&world));
        let outcome = doctor(&world).run().success();
        for topic in TOPICS {
            let is_about = |line: &str| line.starts_with(&format!("{topic}  "));
            assert!(outcome.stdout.lines().any(is_about), "nothing of {topic}\n{}", outcome.report());
        }
        assert!(outcome.stdout.contains("PLATFORM "), "{}", outcome.report());
        let all = examined(doctor(&world));
        for topic in TOPICS {
            finding(&all, topic);
        }
        assert_eq!(all["rung"], "userns", "{all:#}");
        assert_eq!(finding(&all, "isolation userns")["verdict"], "good");
        assert_eq!(finding(&all, "overlay")["verdict"], "good");
        assert!(finding(&all, "store")["fact"].as_str().expect("text").contains("/root"));
        assert!(all["platforms"].as_array().is_some_and(|platforms| platforms.len() > 5));
        assert_eq!(files(&world), before);
        host.unchanged();
        HostState::no_process(world.root().to_str().expect("UTF-8"));
    }
}

#[test]
fn doctor_knows_how_to_mend_a_bare_machine() {
    let world = World::new();
    let empty = world.folder("empty");
    let all = examined(
        doctor(&world)
            .env("PATH", empty.to_str().expect("UTF-8"))
            .env("SSL_CERT_FILE", "/nonexistent/ca.pem")
            .env("HTTPS_PROXY", "http://name:password@proxy.example"),
    );
    let said = |topic: &str, part: &str, word: &str| {
        let found = finding(&all, topic);
        assert!(found[part].as_str().is_some_and(|text| text.contains(word)), "{found}");
    };
    let processor = foreign().strip_prefix("linux/").expect("linux");
    said(&format!("interpreter {processor}"), "fix", "qemu-user");
    said("git", "fix", "install");
    said("ssh", "fact", "ssh-agent");
    said("certificates", "fix", "SSL_CERT_FILE");
    said("proxies", "fact", "HTTPS_PROXY");
    assert!(!all.to_string().contains("password"), "{all}");
    if !is_root() {
        said("subordinate ids", "fix", "uidmap");
    }
}

#[test]
fn doctor_of_a_user_without_subordinate_ids() {
    if !is_root() {
        return;
    }
    let world = World::of(User::Unknown { uid: 20_111, gid: 20_112 });
    let all = examined(doctor(&world));
    let ids = finding(&all, "subordinate ids");
    assert_eq!(ids["verdict"], "missing");
    assert!(ids["fix"].as_str().is_some_and(|fix| fix.contains("--add-subuids")), "{ids}");
    assert_eq!(finding(&all, "isolation userns")["verdict"], "missing");
    assert_eq!(all["rung"], "one-id", "{all:#}");
    assert_eq!(finding(&all, "isolation one-id")["verdict"], "degraded");
    assert!(all["refused"][0].as_str().is_some_and(|refused| refused.starts_with("userns: ")), "{all:#}");
}

#[test]
fn doctor_where_nothing_can_be_run() {
    let world = World::new();
    let all = examined(doctor(&world).args(["--isolation", "none"]));
    assert!(all["rung"].is_null());
    assert_ne!(finding(&all, "overlay")["verdict"], "good");
    for platform in all["platforms"].as_array().expect("platforms") {
        assert_eq!(platform["how"], "unavailable");
    }
    for topic in TOPICS {
        finding(&all, topic);
    }
}

#[test]
fn doctor_of_a_store_that_cannot_be_written_to() {
    let world = World::new();
    let all = examined(world.fanfold(["platforms", "--doctor", "--root", "/proc/none"]));
    let store = finding(&all, "store");
    assert_eq!(store["verdict"], "missing");
    assert!(store["fix"].as_str().is_some_and(|fix| fix.contains("--root")), "{store}");
    let native = all["platforms"].as_array().expect("platforms").iter();
    assert!(native.into_iter().any(|entry| entry["how"] == "native"), "{all:#}");
}

#[test]
fn doctor_in_containers_that_grant_little() {
    if !is_root() {
        return;
    }
    let restricted = User::Unknown { uid: 1000, gid: 0 };
    for (user, container, rung) in
        [(User::Root, Container::new(), "chroot"), (restricted, Container::restricted(), "ptrace")]
    {
        let world = World::of(user);
        let text = |name: &str| world.path(name).to_str().expect("UTF-8").to_owned();
        let container = container.volume(&world.path("")).dir(&world.path(""));
        let run = container.env("HOME", &text("home")).env("TMPDIR", &text("tmp")).fanfold();
        let all = examined(run.args(["platforms", "--doctor", "--root", &text("root")]));
        assert_eq!(all["rung"], rung, "{all:#}");
        assert_eq!(finding(&all, &format!("isolation {rung}"))["verdict"], "degraded", "{all:#}");
        for topic in TOPICS {
            finding(&all, topic);
        }
        assert_eq!(finding(&all, "user namespaces")["verdict"], "missing");
        assert_eq!(finding(&all, "overlay")["verdict"], "degraded");
        assert_eq!(finding(&all, "private handlers")["verdict"], "missing");
        let seccomp = finding(&all, "seccomp")["fact"].as_str().expect("text");
        assert!(seccomp.contains("already"), "{seccomp}");
    }
}
