//! Where results go: layouts, archives, folders, result files.

mod support;

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::Value;
use support::{Index, Run, World, base, shared_registry, tool};

const DOCKERFILE: &str = "ARG BASE\n\
    FROM $BASE\n\
    RUN uname -m > /machine && ln -s machine /l && mkfifo /p && echo s > /s && chmod 4755 /s && ln /s /h && rm /etc/group\n";

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

#[test]
fn several_outputs_of_one_build() {
    let world = World::new();
    let registry = shared_registry();
    let context = world.context("context", DOCKERFILE);
    let outcome = world
        .build()
        .args([
            "--platform",
            "linux/amd64,linux/arm64",
            "--build-arg",
            &base(),
            "-t",
            &registry.name("several:v1"),
        ])
        .args(["--progress", "json", "--push"])
        .args(["-o", &format!("type=oci,dest={}", world.path("out/image.tar").display())])
        .args(["-o", &format!("type=oci,dest={},tar=false", world.path("out/layout").display())])
        .args(["-o", &format!("type=local,dest={}", world.path("out/local").display())])
        .args(["-o", &format!("type=tar,dest={}", world.path("out/files.tar").display())])
        .args(["--metadata-file", text(&world.path("out/metadata.json"))])
        .args(["--iidfile", text(&world.path("out/iid"))])
        .arg(&context)
        .run()
        .success();
    let runs = outcome
        .events()
        .iter()
        .filter(|event| {
            event["event"] == "started" && event["step"].as_str().is_some_and(|step| step.starts_with("RUN"))
        })
        .count();
    assert_eq!(runs, 2, "each step runs once, whatever the number of outputs\n{}", outcome.report());

    let index = Index::layout(&world.path("out/layout"));
    assert_eq!(Index::layout_tar(&world.path("out/image.tar")).digest, index.digest);
    assert_eq!(registry.tag("several", "v1").as_deref(), Some(index.digest.as_str()));
    assert_eq!(std::fs::read_to_string(world.path("out/iid")).expect("iid").trim(), index.digest);

    let metadata = json(&world.path("out/metadata.json"));
    assert_eq!(metadata["containerimage.digest"], index.digest.as_str());
    assert_eq!(metadata["containerimage.descriptor"]["digest"], index.digest.as_str());
    assert_eq!(metadata["containerimage.descriptor"]["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(metadata["image.name"], registry.name("several:v1").as_str());

    // Several platforms: a folder for each, named as buildx names them.
    for (folder, machine) in [("linux_amd64", "x86_64\n"), ("linux_arm64", "aarch64\n")] {
        let found =
            std::fs::read_to_string(world.path(&format!("out/local/{folder}/machine"))).expect("machine");
        assert_eq!(found, machine);
        let list =
            tool("tar", ["-xOf", text(&world.path("out/files.tar")), &format!("{folder}/machine")]).success();
        assert_eq!(list.stdout, machine);
    }
}

#[test]
fn folder_of_one_platform() {
    let world = World::new();
    let context = world.context("context", DOCKERFILE);
    let out = world.path("out/local");
    world
        .build()
        .args([
            "--platform",
            "linux/arm64",
            "--build-arg",
            &base(),
            "-o",
            &format!("type=local,dest={}", out.display()),
        ])
        .arg(&context)
        .run()
        .success();
    assert_eq!(std::fs::read_to_string(out.join("machine")).expect("machine"), "aarch64\n");
    assert_eq!(std::fs::read_link(out.join("l")).expect("l"), Path::new("machine"));
    assert!(std::fs::metadata(out.join("p")).expect("p").file_type().is_fifo());
    let (file, link) =
        (std::fs::metadata(out.join("s")).expect("s"), std::fs::metadata(out.join("h")).expect("h"));
    assert_eq!(file.ino(), link.ino());
    assert_eq!(file.permissions().mode() & 0o777, 0o755);
    assert!(!out.join("etc/group").exists(), "a deleted file came back");
    assert!(out.join("usr/bin/busybox").exists());
}

#[test]
fn archive_of_files_on_standard_output() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nCOPY a.txt /d/\n");
    world.write("context/a.txt", "alpha\n");
    let outcome = world.build().args(["-o", "-"]).arg(&context).run().success();
    let mut archive = tar::Archive::new(outcome.stdout.as_bytes());
    let names: Vec<_> = archive
        .entries()
        .expect("a tar archive")
        .map(|entry| String::from_utf8_lossy(&entry.expect("an entry").path_bytes()).into_owned())
        .collect();
    assert_eq!(names, ["d/", "d/a.txt"]);
}

#[test]
fn docker_archive_is_read_by_skopeo() {
    let world = World::new();
    let context = world.context("context", DOCKERFILE);
    let out = world.path("out/docker.tar");
    world
        .build()
        .args([
            "--build-arg",
            &base(),
            "-t",
            "example.com/app:v1",
            "-o",
            &format!("type=docker,dest={}", out.display()),
        ])
        .arg(&context)
        .run()
        .success();
    let inspected = tool("skopeo", ["inspect", &format!("docker-archive:{}", out.display())]).success();
    let inspected: Value = serde_json::from_str(&inspected.stdout).expect("JSON");
    assert_eq!(inspected["Os"], "linux");
    let layout = world.path("copy");
    tool(
        "skopeo",
        [
            "--insecure-policy",
            "copy",
            &format!("docker-archive:{}:example.com/app:v1", out.display()),
            &format!("oci:{}:v1", layout.display()),
        ],
    )
    .success();
    assert!(Index::layout(&layout).images[0].tree().get("/machine").is_some());

    // Docker's archive holds one platform.
    world
        .build()
        .args(["--platform", "linux/amd64,linux/arm64", "--build-arg", &base()])
        .args(["-o", &format!("type=docker,dest={}", world.path("out/two.tar").display())])
        .arg(&context)
        .run()
        .code(2)
        .stderr_has("docker");
    assert!(!world.path("out/two.tar").exists());
}

#[test]
fn layout_takes_a_second_build() {
    let world = World::new();
    let out = world.path("out/layout");
    for text in ["one", "two"] {
        let context = world.context("context", &format!("FROM scratch\nLABEL a={text}\n"));
        world
            .build()
            .args(["-t", "app:latest", "-o", &format!("type=oci,dest={},tar=false", out.display())])
            .arg(&context)
            .run()
            .success();
        assert_eq!(Index::layout(&out).images[0].run_config()["Labels"]["a"], text);
    }
}

#[test]
fn result_files_of_a_single_platform() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nLABEL a=b\n");
    let out = world.path("out/layout");
    world
        .build()
        .args(["-o", &format!("type=oci,dest={},tar=false", out.display())])
        .args([
            "--metadata-file",
            text(&world.path("out/metadata.json")),
            "--iidfile",
            text(&world.path("out/iid")),
        ])
        .arg(&context)
        .run()
        .success();
    let index = Index::layout(&out);
    let metadata = json(&world.path("out/metadata.json"));
    let image = &index.images[0];
    assert_eq!(metadata["containerimage.config.digest"], image.manifest["config"]["digest"]);
    assert_eq!(metadata["containerimage.digest"], index.digest.as_str());
    // As docker's image id.
    assert_eq!(
        std::fs::read_to_string(world.path("out/iid")).expect("iid"),
        image.manifest["config"]["digest"]
    );
}

#[test]
fn path_that_cannot_be_written() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nLABEL a=b\n");
    let file = world.write("a-file", "x");
    for output in [
        "type=oci,dest=PATH",
        "type=oci,dest=PATH,tar=false",
        "type=docker,dest=PATH",
        "type=local,dest=PATH",
        "type=tar,dest=PATH",
    ] {
        // No privilege makes a file a folder.
        let path = file.join("below");
        let outcome = world
            .build()
            .args(["-o", &output.replace("PATH", text(&path))])
            .arg(&context)
            .run()
            .stderr_has(text(&path));
        assert!([1, 2].contains(&outcome.exit()), "{}", outcome.report());
    }
    for flag in ["--metadata-file", "--iidfile"] {
        let outcome = world
            .build()
            .args([flag, text(&file.join("below"))])
            .arg(&context)
            .run()
            .stderr_has("a-file/below");
        assert!([1, 2].contains(&outcome.exit()), "{}", outcome.report());
    }
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "x");
}

#[test]
fn failed_build_leaves_no_output() {
    let world = World::new();
    let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN exit 1\n");
    let (archive, metadata, iid) =
        (world.path("out/image.tar"), world.path("out/metadata.json"), world.path("out/iid"));
    world
        .build()
        .args(["--build-arg", &base(), "-o", &format!("type=oci,dest={}", archive.display())])
        .args(["--metadata-file", text(&metadata), "--iidfile", text(&iid)])
        .arg(&context)
        .run()
        .code(1);
    let left: Vec<_> =
        std::fs::read_dir(world.path("out")).expect("out").flatten().map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn builds_at_the_same_time_give_whole_outputs_to_one_place() {
    let world = World::new();
    let context =
        world.context("context", "ARG BASE\nFROM $BASE\nRUN head -c 20000000 /dev/urandom > /noise\n");
    let base = base();
    let build = |name: &str| {
        let archive = format!("type=oci,dest={}", world.path("out/image.tar").display());
        let layout = format!("type=oci,tar=false,dest={}", world.path("out/layout").display());
        world
            .build()
            .args(["--build-arg", &base, "-t", name, "-o", &archive, "-o", &layout])
            .args(["--iidfile", text(&world.path("out/iid"))])
            .arg(&context)
    };
    // The results are all the same, so whoever comes last must leave the same bytes.
    build("first:1").run().success();
    let names: Vec<_> = (0..6).map(|number| format!("name{number}:1")).collect();
    let running: Vec<_> = names.iter().map(|name| build(name).start()).collect();
    for build in running {
        build.finish().success();
    }
    let index = Index::layout(&world.path("out/layout"));
    assert_eq!(Index::layout_tar(&world.path("out/image.tar")).digest, index.digest);
    let config = &index.images[0].manifest["config"]["digest"];
    assert_eq!(std::fs::read_to_string(world.path("out/iid")).expect("iid"), config.as_str().expect("text"));
    // No build drops the names that another one has just added.
    let entries = json(&world.path("out/layout/index.json"))["manifests"].to_string();
    for name in &names {
        assert!(entries.contains(&format!("docker.io/library/{name}")), "{name} is not in {entries}");
    }
}

#[test]
fn links_beside_the_destination_are_not_followed() {
    let world = World::new();
    let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN true\n");
    let canary = world.write("canary", "alive");
    world.folder("shared");
    // A build with a RUN is process 1 of its namespace, so its process id is no secret.
    std::os::unix::fs::symlink(&canary, world.path("shared/.image.tar.fanfold-1")).expect("symlink");
    let archive = format!("type=oci,dest={}", world.path("shared/image.tar").display());
    world.build().args(["--build-arg", &base(), "-o", &archive]).arg(&context).run().success();
    assert_eq!(std::fs::read_to_string(&canary).expect("the canary"), "alive");
    Index::layout_tar(&world.path("shared/image.tar"));
}

#[test]
fn results_are_as_private_as_the_callers_umask() {
    let world = World::new();
    for (name, dockerfile) in
        [("commands", "ARG BASE\nFROM $BASE\nRUN true\n"), ("metadata", "ARG BASE\nFROM $BASE\nLABEL a=b\n")]
    {
        let context = world.context(name, dockerfile);
        let folder = world.folder(&format!("out/{name}"));
        let script = "umask 077 && exec \"$@\"";
        let mut command = world.command("sh");
        command.args(["-c", script, "sh"]).arg(world.binary()).args(["build", "--root"]).arg(world.root());
        command.args([
            "--build-arg",
            &base(),
            "-o",
            &format!("type=oci,dest={}/image.tar", folder.display()),
        ]);
        command.args(["-o", &format!("type=oci,tar=false,dest={}/layout", folder.display())]);
        command.args(["--iidfile".as_ref(), folder.join("iid").as_os_str()]).arg(&context);
        Run::new(command).run().success();
        for file in ["image.tar", "layout", "layout/index.json", "layout/blobs/sha256", "iid"] {
            let mode = std::fs::metadata(folder.join(file)).expect(file).permissions().mode();
            assert_eq!(mode & 0o077, 0, "{file} of the build with {name} has mode {mode:o}");
        }
    }
}

#[test]
fn pipe_as_destination_is_written_to_and_stays_a_pipe() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nLABEL a=b\n");
    let pipe = world.folder("out").join("pipe");
    tool("mkfifo", [&pipe]).success();
    let reader = {
        let pipe = pipe.clone();
        std::thread::spawn(move || std::fs::read(pipe).expect("the pipe"))
    };
    world.build().arg("-o").arg(format!("type=oci,dest={}", pipe.display())).arg(&context).run().success();
    assert!(std::fs::symlink_metadata(&pipe).expect("the pipe").file_type().is_fifo());
    let copy = world.write("out/copy.tar", reader.join().expect("reading"));
    Index::layout_tar(&copy);
}

#[test]
fn digest_that_cannot_be_written_is_no_success() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nCOPY a /\n");
    world.write("context/a", "a");
    let full = format!(
        "exec {} build --root {} -q {} > /dev/full",
        world.binary().display(),
        world.root().display(),
        context.display()
    );
    let run = Run::new(world.command("sh")).args(["-c", &full]).run();
    run.code(75).stderr_has("standard output");
}
