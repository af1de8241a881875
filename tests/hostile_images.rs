//! Hostile bases, hostile libraries in images, files that change while they are used, and commands that
//! take all there is: nothing outside of the root is read or written, and the next build works.

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{
    HostState, Index, Item, Run, Rung, Target, archive, base, found_nowhere, is_root, layout,
    native_platform, on_every_rung, sha256, tool,
};

/// A value that the builder holds, and nobody else may see.
const HELD: &str = "value-that-the-builder-holds";

// ---- configs of bases ----------------------------------------------------------------------------

/// Builds a base into the layout `hostile`, changes its config, and gives back the option that names it
/// `hostile`.
fn base_with_config(target: &Target, edit: impl Fn(&mut Value)) -> [String; 2] {
    let dir = target.world.path("out/hostile");
    let _ = std::fs::remove_dir_all(&dir);
    let context = target.world.context("hostile", "ARG BASE\nFROM $BASE\n");
    target
        .rung
        .build(&target.world)
        .args(["--build-arg", &base(), "--output", &layout(&dir)])
        .arg(context)
        .run()
        .success();
    let read = |path: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("a document")).expect("JSON")
    };
    let blob = |digest: &str| dir.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let put = |descriptor: &mut Value, content: &Value| {
        let bytes = serde_json::to_vec(content).expect("JSON");
        descriptor["digest"] = json!(sha256(&bytes));
        descriptor["size"] = json!(bytes.len());
        std::fs::write(blob(&sha256(&bytes)), bytes).expect("write");
    };
    let of = |descriptor: &Value| read(&blob(descriptor["digest"].as_str().expect("a digest")));
    let mut index = read(&dir.join("index.json"));
    let descriptor = &mut index["manifests"][0];
    let mut top = of(descriptor);
    let mut inner = top.pointer_mut("/manifests/0").map_or(Value::Null, Value::take);
    let mut image = if inner.is_null() { top.take() } else { of(&inner) };
    let mut config = of(&image["config"]);
    edit(&mut config["config"]);
    put(&mut image["config"], &config);
    if inner.is_null() {
        put(descriptor, &image);
    } else {
        put(&mut inner, &image);
        top["manifests"] = json!([inner]);
        put(descriptor, &top);
    }
    std::fs::write(dir.join("index.json"), index.to_string()).expect("write");
    ["--build-context".to_owned(), format!("hostile=oci-layout://{}", dir.display())]
}

#[test]
fn variables_of_a_base_take_nothing_from_the_builder() {
    // podman's CVE-2026-57231: an entry without `=` took the value of the engine's own environment.
    on_every_rung(|target| {
        for name in ["SECRET", "x", "*"] {
            target.variables.push((name, HELD.to_owned()));
        }
        for entries in [json!(["HOME", "SECRET", "*", "=x", ""]), json!(["SECRET"]), json!(["*"])] {
            let option = base_with_config(target, |config| config["Env"] = entries.clone());
            let outcome = target.lines("FROM hostile\nRUN env > /seen\n").args(option).run();
            let name = target.name();
            assert!([2, 4, 5].contains(&outcome.exit()), "{name}: {entries}: {}", outcome.report());
            outcome.stderr_has("environment").lacks(HELD);
            assert!(!target.world.path("out/layout/index.json").exists(), "{name}: {entries}");
        }
        // What looks like a reference is text.
        let entries = json!(["A=$SECRET", "B=${SECRET}", "C=*", "SECRET=", "D=%SECRET%"]);
        let option = base_with_config(target, |config| config["Env"] = entries.clone());
        target.lines("FROM hostile\nENV E=$A\nRUN env > /seen\n").args(option).run().success().lacks(HELD);
        assert!(target.image().tree().text("/seen").contains("A=$SECRET\n"), "{}", target.name());
        for folder in ["out", "root"] {
            found_nowhere(&target.world.path(folder), HELD);
        }
    });
}

#[test]
fn volumes_that_lead_out() {
    // containerd's CVE-2022-23648: what is under a volume's path was copied from the host.
    on_every_rung(|target| {
        let folder = target.folder();
        let up = format!("/../../../../../../../..{folder}");
        let links = format!("RUN ln -s {folder} /v && ln -s ../../../../../../../..{folder} /u\n");
        let volumes = ["/../../etc", "../../etc", &up, "/v", "/u/x", "/v/canary", "/proc/self/cwd", &folder];
        let lines: String = volumes.iter().map(|volume| format!("VOLUME [\"{volume}\"]\n")).collect();
        let look = "RUN ls -a /v/ /u/ 2>/dev/null | grep canary > /seen; cat /v/canary /u/canary >> /seen 2>/dev/null; true\n";
        target
            .lines(&format!("FROM $BASE AS volumes\n{links}{lines}FROM volumes\n{look}WORKDIR /\nCOPY Dockerfile /copied\n"))
            .run()
            .success();
        let tree = target.image().tree();
        assert_eq!(tree.text("/seen"), "", "{}", target.name());
        assert!(tree.get("/etc/shadow").is_none() && tree.get(&folder).is_none(), "{}", target.name());
        // The same in the config of a base.
        let option = base_with_config(target, |config| {
            config["Volumes"] = json!({"/../../etc": {}, (up.clone()): {}, "/v": {}, "": {}});
        });
        let outcome = target.lines(&format!("FROM hostile\n{links}{look}")).args(option).run();
        target.ended(&outcome);
    });
}

// ---- what changes while it is used ---------------------------------------------------------------

#[test]
fn folders_that_become_links_while_they_are_mounted() {
    // CVE-2024-11218, CVE-2024-23651, runc's CVE-2024-45310: between the look at a path and the mount, a
    // directory becomes a link to the host.
    on_every_rung(|target| {
        let folder = target.folder();
        let build = |target: &Target, context: &Path, name: &str| {
            let out = layout(&target.world.path(&format!("out/{name}")));
            target
                .rung
                .build(&target.world)
                .args(["--no-cache", "--build-arg", &base(), "--output", &out])
                .arg(context)
        };
        target.build("RUN true\n").success();
        let read = "RUN --mount=from=files,source=/d/sub,target=/s,rw cat /s/f >> /seen; touch /s/made\n";
        let flip = target.world.context(
            "flip",
            &format!(
                "ARG BASE\n\
                 FROM $BASE AS files\n\
                 RUN mkdir -p /d/sub && echo in > /d/sub/f\n\
                 FROM $BASE AS flip\n\
                 RUN --mount=type=cache,id=c,target=/c --mount=from=files,source=/d,target=/m,rw \
                 mkdir /c/sub; n=0; end=$(($(date +%s)+3)); while test $(date +%s) -lt $end; do for d in /c /m; do \
                 mv $d/sub $d/old; ln -s {folder} $d/sub; rm $d/sub; ln -s ../../../../../../../..{folder} $d/sub; \
                 rm $d/sub; mv $d/old $d/sub; done 2>/dev/null; n=$((n+1)); done; echo $n > /rounds\n\
                 FROM $BASE AS other\n{read}{read}{read}{read}\
                 FROM $BASE\n\
                 COPY --from=flip /rounds /\n\
                 COPY --from=other /seen /\n"
            ),
        );
        let steps = [
            "RUN --mount=type=cache,id=c,source=sub,target=/s ls -a /s > /seen; cat /s/canary >> /seen; touch /s/made; true\n",
            "RUN --mount=type=cache,id=c,target=/c --mount=type=tmpfs,target=/c/sub/t touch /c/sub/t/x; true\n",
            "RUN --mount=type=cache,id=c,target=/c --mount=type=cache,id=d,target=/c/sub/u/v touch /c/sub/u/v/x; true\n",
        ];
        let running = build(target, &flip, "flip").start();
        let started = Instant::now();
        for number in 0.. {
            let step = steps[number % steps.len()];
            let context =
                target.world.context("use", &format!("ARG BASE\nFROM $BASE\n{step}{step}{step}{step}"));
            let outcome = build(target, &context, "use").run();
            target.ended(&outcome);
            if started.elapsed() > Duration::from_secs(3) {
                break;
            }
        }
        running.finish().success();
        let tree = Index::layout(&target.world.path("out/flip")).images.remove(0).tree();
        let rounds: u32 = tree.text("/rounds").trim().parse().expect("a number");
        assert!(rounds > 20, "{}: {rounds} rounds", target.name());
        assert_eq!(tree.text("/seen"), "in\nin\nin\nin\n", "{}", target.name());
    });
}

#[test]
fn copy_from_a_stage_whose_daemon_swaps_a_link() {
    // moby's CVE-2018-15664. The daemon ends with its step, whatever it has left then.
    on_every_rung(|target| {
        let folder = target.folder();
        for _ in 0..3 {
            let outcome = target
                .lines(&format!(
                    "FROM $BASE AS a\n\
                     RUN mkdir -p /d/x && echo in > /d/x/canary && ln -s {folder} /l && \
                     (setsid sh -c 'while true; do mv /d/x /d/y; ln -s {folder} /d/x; rm /d/x; mv /d/y /d/x; done' \
                     >/dev/null 2>&1 &); sleep 0.2; true\n\
                     FROM $BASE\n\
                     COPY --from=a /d /copied\n\
                     COPY --from=a /d/x* /l* /links/\n"
                ))
                .arg("--no-cache")
                .run();
            target.ended(&outcome);
        }
    });
}

// ---- libraries and settings of an image ----------------------------------------------------------

/// A library that leaves a mark wherever it is loaded.
const LIBRARY: &str = r#"
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) {
    close(open(MARK, O_WRONLY | O_CREAT, 0666));
    close(open("/loaded", O_WRONLY | O_CREAT, 0666));
}
"#;

#[test]
fn libraries_of_an_image_are_not_loaded() {
    // moby's CVE-2019-14271: the engine looked up names with the image's name service.
    on_every_rung(|target| {
        let source = target.world.write("library.c", LIBRARY);
        let library = target.world.path("library.so");
        let mark = format!("-DMARK=\"{}/loaded\"", target.folder());
        let [source, shown] = [&source, &library].map(|path| path.to_str().expect("UTF-8"));
        tool("cc", ["-shared", "-fPIC", mark.as_str(), "-o", shown, source]).success();
        target.world.write("context/evil.so", std::fs::read(&library).expect("the library"));
        target
            .world
            .write("context/nsswitch.conf", "passwd: evil files\ngroup: evil files\nhosts: evil files\n");
        let mut lines = "COPY nsswitch.conf /etc/\n".to_owned();
        for name in ["libnss_evil.so.2", "libnss_files.so.2", "libnss_compat.so.2", "libc.so.6"] {
            for folder in ["lib", "lib64", "usr/lib", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"] {
                lines.push_str(&format!("COPY --chmod=755 evil.so /{folder}/{name}\n"));
            }
        }
        // Programs of the base are static, so that whoever loads it is not a program of the image.
        lines.push_str(
            "RUN [\"/usr/bin/busybox\", \"sh\", \"-c\", \"echo /lib/libc.so.6 > /etc/ld.so.preload\"]\n\
             ENV LD_PRELOAD=/lib/libc.so.6 LD_LIBRARY_PATH=/lib LD_AUDIT=/lib/libc.so.6 GCONV_PATH=/lib\n\
             COPY --chown=app:extra Dockerfile /by-name\n\
             USER app:extra\n\
             WORKDIR /home/app/made\n\
             RUN [\"/usr/bin/busybox\", \"touch\", \"/tmp/ran\"]\n",
        );
        target.build(&lines).success();
        let tree = target.image().tree();
        assert!(tree.get("/loaded").is_none(), "{}: a library was loaded", target.name());
        for path in ["/by-name", "/tmp/ran"] {
            let node = tree.get(path).unwrap_or_else(|| panic!("{}: no {path}", target.name()));
            assert_eq!((node.uid, node.gid), (1000, 2000), "{}: {path}", target.name());
        }
        // An account that only the library knows is not known.
        let outcome = target.build(&format!("{lines}USER evil\nRUN [\"/usr/bin/busybox\", \"true\"]\n"));
        assert!([1, 2].contains(&outcome.exit()), "{}: {}", target.name(), outcome.report());
    });
}

#[test]
fn working_directories_through_links_belong_to_the_user() {
    // podman's CVE-2026-55686: made, and given to the user, on the host.
    on_every_rung(|target| {
        let folder = target.folder();
        target
            .build(&format!(
                "RUN mkdir /real && ln -s /real /abs && ln -s ../../../../../../../real /up && ln -s {folder} /w && \
                 ln -s ../../../../../../../../..{folder} /x\n\
                 USER app\n\
                 WORKDIR /abs/a\n\
                 WORKDIR /up/b/c\n\
                 WORKDIR /w\n\
                 WORKDIR /w/made\n\
                 WORKDIR /x/other\n\
                 RUN pwd -P > /tmp/where && touch here\n"
            ))
            .success();
        let tree = target.image().tree();
        assert_eq!(tree.text("/tmp/where"), format!("{folder}/other\n"), "{}", target.name());
        let made = ["/real/a", "/real/b", "/real/b/c"].map(str::to_owned).into_iter();
        for path in made.chain(["", "/made", "/other", "/other/here"].map(|name| format!("{folder}{name}"))) {
            let node = tree.get(&path).unwrap_or_else(|| panic!("{}: no {path}", target.name()));
            assert_eq!((node.uid, node.gid), (1000, 1001), "{}: {path}", target.name());
        }
        let real = tree.get("/real").expect("a directory");
        assert_eq!((real.uid, real.gid), (0, 0), "{}", target.name());
    });
}

#[test]
fn places_of_what_is_generated_are_links_out() {
    // CVE-2024-9341. Links at /etc/hosts and the like are in the tests of attacks.
    on_every_rung(|target| {
        let folder = target.folder();
        let up = format!("../../../../../../..{folder}");
        target.variables.push(("TOKEN", "a-token".to_owned()));
        let mount = if target.rung.has_mounts() {
            "--mount=type=secret,id=s"
        } else {
            "--mount=type=tmpfs,target=/run/secrets"
        };
        let roots: [&[Item<'_>]; 4] = [
            &[Item::Link("run", &folder), Item::Link("etc", &up)],
            &[Item::Dir("run"), Item::Link("run/secrets", &folder)],
            &[Item::Link("run", "var/run"), Item::Dir("var"), Item::Link("var/run", &up)],
            &[Item::Link("run", "/proc/self/cwd"), Item::Link("etc", "/proc/1/root/etc")],
        ];
        for items in roots {
            let mut all = vec![Item::Link("bin", "usr/bin"), Item::Dir("tmp")];
            all.extend_from_slice(items);
            target.world.write("context/odd.tar", archive(&all));
            let outcome = target
                .lines(&format!(
                    "FROM $BASE AS base\nFROM scratch\nCOPY --from=base /usr /usr\nADD odd.tar /\n\
                     RUN {mount} ls /run/ /etc/ > /tmp/seen 2>/dev/null; cat /etc/canary /run/canary 2>/dev/null; touch /tmp/ran\n"
                ))
                .args(["--secret", "id=s,env=TOKEN"])
                .run();
            target.ended(&outcome);
            if outcome.exit() == 0 {
                assert!(!target.image().tree().text("/tmp/seen").contains("canary"), "{}", target.name());
            }
            found_nowhere(&target.world.path("root"), "a-token");
        }
    });
}

// ---- commands that crash, are killed, and say too much -------------------------------------------

#[test]
fn crashes_leave_no_core() {
    on_every_rung(|target| {
        let value = format!("core-{HELD}");
        target.variables.push(("TOKEN", value.clone()));
        let crash = "ulimit -c unlimited; sh -c 'ulimit -c unlimited; S=$T; kill -SEGV $$'; sh -c 'kill -QUIT $$'; \
                     ulimit -c > /tmp/limit-$(id -u); true";
        target
            .lines(&format!(
                "FROM $BASE\nRUN chmod 1777 /tmp\nWORKDIR /w\n\
                 RUN --mount=type=secret,id=s,env=T {crash}\n\
                 USER app\nWORKDIR /v\n\
                 RUN --mount=type=secret,id=s,env=T {crash}\n"
            ))
            .args(["--secret", "id=s,env=TOKEN"])
            .run()
            .success()
            .lacks(&value);
        let tree = target.image().tree();
        let cores: Vec<_> = tree.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
        let cores: Vec<_> =
            cores.iter().filter(|path| path.starts_with("/w/") || path.starts_with("/v/")).collect();
        assert!(cores.is_empty(), "{}: {cores:?}", target.name());
        for user in ["0", "1000"] {
            assert_eq!(tree.text(&format!("/tmp/limit-{user}")), "0\n", "{}", target.name());
        }
        for folder in ["out", "root", "tmp", "home"] {
            found_nowhere(&target.world.path(folder), &value);
        }
        let names = std::fs::read_dir(target.world.path("")).expect("the world").flatten();
        let cores: Vec<_> =
            names.filter(|entry| entry.file_name().to_string_lossy().contains("core")).collect();
        assert!(cores.is_empty(), "{}: {cores:?}", target.name());
    });
}

/// The parent of a process, and its command line.
fn process(pid: &str) -> Option<(String, String)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().to_owned();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some((parent, String::from_utf8_lossy(&line).replace('\0', " ")))
}

/// The process above the topmost one whose command line holds `mark`.
fn above(mark: &str) -> Option<String> {
    std::fs::read_dir("/proc").expect("/proc").flatten().find_map(|entry| {
        let (parent, line) = process(entry.file_name().to_str()?)?;
        let (_, line_above) = process(&parent)?;
        (line.contains(mark) && !line_above.contains(mark)).then_some(parent)
    })
}

#[test]
fn step_whose_supervisor_is_killed_has_failed() {
    if !is_root() {
        return;
    }
    on_every_rung(|target| {
        let mark = format!("5{:09}", std::process::id());
        // Only the first try waits to be killed.
        let lines = format!(
            "FROM $BASE\nRUN --mount=type=cache,id=k,target=/k if mkdir /k/once; then echo part >> /made; sleep {mark}; fi; echo whole >> /made\n"
        );
        let running = target.lines(&lines).start();
        let deadline = Instant::now() + Duration::from_secs(60);
        let sleeps = format!("sleep {mark}");
        let pid = loop {
            // The shell has the text on its command line before the command runs.
            if HostState::process_runs(&sleeps)
                && let Some(pid) = above(&mark)
            {
                std::thread::sleep(Duration::from_millis(300));
                break pid;
            }
            assert!(Instant::now() < deadline, "{}: the step did not begin", target.name());
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_ne!(pid, std::process::id().to_string());
        tool("kill", ["-9", &pid]).success();
        let outcome = running.finish();
        assert!([1, 75].contains(&outcome.exit()), "{}: {}", target.name(), outcome.report());
        assert!(outcome.took < Duration::from_secs(60), "{}", outcome.report());
        HostState::no_process(&mark);
        assert!(!target.world.path("out/layout/index.json").exists(), "{}", target.name());
        // What it had made is nowhere in the next try.
        target.lines(&lines).run().success();
        assert_eq!(target.image().tree().text("/made"), "whole\n", "{}", target.name());
    });
}

/// The most memory that a process of a build has had so far, in KiB.
fn most_memory(mark: &str) -> u64 {
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let sizes = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.to_owned();
        let (_, line) = process(&pid).filter(|(_, line)| pid != own && line.contains(mark))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let peak = status.lines().find_map(|text| text.strip_prefix("VmHWM:"))?;
        (!line.is_empty()).then(|| peak.trim().trim_end_matches(" kB").parse().unwrap_or(0))
    });
    sizes.max().unwrap_or(0)
}

#[test]
fn endless_line_takes_little_memory() {
    let target = Target::new(Rung::first());
    target.world.write(
        "context/bytes",
        b"\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m \x9b31m\x1bPq\x1b\\ \r\x08evil".as_slice(),
    );
    let context = target.world.context(
        "context",
        "ARG BASE\nFROM $BASE\nCOPY bytes /\n\
         RUN head -c 67108864 /dev/zero | tr '\\0' y; cat /bytes; head -c 1000000 /dev/urandom >&2; cat /bytes >&2; \
         exec >&- 2>&-; touch /after\n",
    );
    for progress in ["plain", "json"] {
        let running = target
            .rung
            .build(&target.world)
            .args(["--no-cache", "--progress", progress, "--build-arg", &base()])
            .args(["--output", &layout(&target.world.path(&format!("out/{progress}")))])
            .arg(&context)
            .start();
        let pid = running.id();
        let mark = target.world.root().to_str().expect("UTF-8").to_owned();
        let most = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut most = 0;
                let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                while !state().is_empty() {
                    most = most.max(most_memory(&mark));
                    std::thread::sleep(Duration::from_millis(50));
                }
                most
            });
            let outcome = running.finish().success();
            assert!(outcome.took < Duration::from_secs(60), "{progress}: {} s", outcome.took.as_secs());
            for bad in ['\x1b', '\x07', '\x08', '\u{9b}'] {
                assert!(
                    !outcome.stderr.contains(bad) && !outcome.stdout.contains(bad),
                    "{progress}: {bad:?}"
                );
            }
            let shown = outcome.stderr.len() + outcome.stdout.len();
            assert!(shown > 64 << 20, "{progress}: {shown} bytes are shown");
            watch.join().expect("no panic")
        });
        assert!(most > 1000 && most < 100 << 10, "{progress}: {most} KiB");
        let tree = Index::layout(&target.world.path(&format!("out/{progress}"))).images.remove(0).tree();
        assert!(tree.get("/after").is_some());
    }
    target.unharmed();
}

// ---- full disks ----------------------------------------------------------------------------------

/// Mounts a small store, and builds contexts in it one after the other as a user.
const ON_SMALL_DISK: &str = "set -e; root=$1; ids=$2; out=$3; contexts=$4; shift 4\n\
    mount -t tmpfs -o size=24m,nr_inodes=2500,mode=755 none $root; chown $ids $root\n\
    for name in $contexts; do code=0\n\
    setpriv --reuid ${ids%:*} --regid ${ids#*:} --clear-groups \"$@\" --output type=oci,tar=false,dest=$out/$name $name || code=$?\n\
    echo $name ended with $code; done\n";

#[test]
fn full_disk_fails_the_step_and_leaves_the_store_whole() {
    if !is_root() {
        return;
    }
    const FINE: &str = "RUN seq 1 1000 > /numbers && chown 5:6 /numbers\nRUN rm /numbers && echo x > /x\n";
    const CONTEXTS: [(&str, &str, &[&str]); 6] = [
        ("bytes", "RUN dd if=/dev/zero of=/big bs=1M count=64\n", &["1", "75"]),
        ("noise", "RUN dd if=/dev/urandom of=/big bs=1M count=64; true\n", &["75"]),
        ("inodes", "RUN mkdir /d && cd /d && seq 1 6000 | xargs touch 2>/dev/null\n", &["1", "75"]),
        (
            "cache",
            // A last page may be what the next build needs to begin.
            "RUN --mount=type=cache,target=/c dd if=/dev/zero of=/c/spare bs=64k count=4; \
             dd if=/dev/zero of=/c/big bs=1M count=64 || { rm /c/spare; exit 1; }\n",
            &["1", "75"],
        ),
        ("empty", "RUN --mount=type=cache,target=/c rm -rf /c/*\n", &["0"]),
        ("fine", FINE, &["0"]),
    ];
    for rung in [Rung::USERNS_ROOT, Rung::USERNS, Rung::ONE_ID] {
        let target = Target::new(rung);
        let world = &target.world;
        for (name, lines, _) in CONTEXTS {
            world.context(name, &format!("ARG BASE\nFROM $BASE\n{lines}"));
        }
        let owner = std::fs::metadata(world.root()).expect("the store");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", ON_SMALL_DISK, "sh"])
            .arg(world.root())
            .arg(format!("{}:{}", owner.uid(), owner.gid()))
            .arg(world.path("out"))
            .arg(CONTEXTS.map(|(name, _, _)| name).join(" "))
            .arg(world.binary())
            .args([
                "build",
                "--progress",
                "plain",
                "--platform",
                native_platform(),
                "--timestamp",
                "1700000000",
            ])
            .args(["--build-arg", &base(), "--root"])
            .arg(world.root())
            .current_dir(world.path(""))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", world.path("home"))
            .env("TMPDIR", world.path("tmp"));
        if rung == Rung::ONE_ID {
            command.args(["--isolation", "one-id"]);
        }
        let outcome = Run::new(command).run().success();
        for (name, _, codes) in CONTEXTS {
            let said = format!("{name} ended with ");
            let code = outcome.stdout.lines().find_map(|line| line.strip_prefix(&said)).unwrap_or("nothing");
            assert!(codes.contains(&code), "{}: {name} ended with {code}: {}", rung.name, outcome.report());
            let there = world.path(&format!("out/{name}/index.json")).exists();
            assert_eq!(there, code == "0", "{}: {name}", rung.name);
        }
        let outcome = outcome.stderr_has("No space left").stderr_has("free some space");
        assert!(!outcome.stderr.contains("panicked"), "{}: {}", rung.name, outcome.report());
        let found = Index::layout(&target.world.path("out/fine")).digest;
        let undisturbed = Target::new(rung);
        undisturbed.lines(&format!("FROM $BASE\n{FINE}")).run().success();
        assert_eq!(Index::layout(&undisturbed.world.path("out/layout")).digest, found, "{}", rung.name);
        target.unharmed();
    }
}
