//! `RUN --mount`: every type with its keys and defaults, what stays and what does not, and what a
//! mount must not reach.

mod support;

use std::path::{Path, PathBuf};

use support::{
    HostState, Image, Index, Outcome, Run, SshAgent, Tree, User, World, base, debian, is_root, layout, users,
};

const TIME: &str = "1700000000";

/// A build into the new layout `out/layout` on the busybox base; the context is the caller's.
fn build(world: &World) -> Run {
    // A layout keeps what was written into it before.
    let _ = std::fs::remove_dir_all(world.path("out/layout"));
    world.build().args([
        "--timestamp",
        TIME,
        "--build-arg",
        &base(),
        "--output",
        &layout(&world.path("out/layout")),
    ])
}

/// The only image in `out/layout`.
#[track_caller]
fn image(world: &World) -> Image {
    Index::layout(&world.path("out/layout")).images.remove(0)
}

/// Builds `FROM $BASE` and these lines with the files `a.txt` and `sub/b.txt` in the context.
fn built(world: &World, lines: &str) -> Outcome {
    built_with(world, lines, &[])
}

fn built_with(world: &World, lines: &str, args: &[&str]) -> Outcome {
    let context = context(world, lines);
    build(world).args(args).arg(context).run()
}

fn context(world: &World, lines: &str) -> PathBuf {
    let context = world.context("context", &format!("ARG BASE\nFROM $BASE\n{lines}"));
    world.write("context/a.txt", "alpha\n");
    world.write("context/sub/b.txt", "beta\n");
    context
}

/// The files of what such a build made.
#[track_caller]
fn tree_of(world: &World, lines: &str) -> Tree {
    built(world, lines).success();
    image(world).tree()
}

/// Names of the entries of the last layer.
fn last_names(image: &Image) -> Vec<String> {
    let layer = image.layers.last().expect("a layer");
    layer.entries.iter().map(|entry| support::escape(&entry.name)).collect()
}

// ---- bind ----------------------------------------------------------------------------------------

#[test]
fn bind_is_the_default_and_read_only() {
    for user in users() {
        let world = World::of(user);
        for mount in [
            "target=/m",
            "type=bind,target=/m",
            "dst=/m",
            "destination=/m,ro",
            "target=/m,readonly",
            "TYPE=bind,Target=/m,ro=true",
            "target=/m,rw=false",
            "target=/m,source=.",
            "target=/m,src=/",
            "target=/m,source=../..",
            "type=bind,\\\"target=/m\\\"",
        ] {
            let lines = format!(
                "RUN --mount={mount} cat /m/a.txt /m/sub/b.txt > /seen; ! touch /m/x 2>/dev/null && ! rm /m/a.txt 2>/dev/null\n",
                mount = mount.replace("\\\"", "\"")
            );
            built(&world, &lines).success();
            let image = image(&world);
            assert_eq!(image.tree().text("/seen"), "alpha\nbeta\n", "{user:?} {mount}");
            assert_eq!(last_names(&image), ["seen"], "{user:?} {mount}");
        }
    }
}

#[test]
fn bind_of_a_folder_or_a_file() {
    let world = World::new();
    let tree = tree_of(
        &world,
        "WORKDIR /w\n\
         RUN --mount=source=sub,target=/m ls /m > /folder\n\
         RUN --mount=source=a.txt,target=/m/deep/file cat /m/deep/file > /file; ! echo x > /m/deep/file\n\
         RUN --mount=source=a.txt,target=rel.txt cat /w/rel.txt > /relative\n\
         RUN echo x > hidden\n\
         RUN --mount=source=sub ls > /workdir\n\
         RUN ls > /after\n",
    );
    assert_eq!(tree.text("/folder"), "b.txt\n");
    assert_eq!(tree.text("/file"), "alpha\n");
    assert_eq!(tree.text("/relative"), "alpha\n");
    assert_eq!(tree.text("/workdir"), "b.txt\n", "a mount without a target hides the WORKDIR");
    assert_eq!(tree.text("/after"), "hidden\n");
    built(&world, "RUN --mount=source=nosuch,target=/m true\n")
        .code(1)
        .stderr_has("not found")
        .stderr_has("nosuch")
        .stderr_has("Dockerfile:3");
}

#[test]
fn bind_of_an_ignored_file_is_not_found() {
    let world = World::new();
    world.write("context/.dockerignore", "sub\n");
    built(&world, "RUN --mount=source=sub/b.txt,target=/m true\n").code(1).stderr_has("not found");
    let tree = tree_of(&world, "RUN --mount=target=/m ls /m > /seen\n");
    assert!(!tree.text("/seen").contains("sub"));
}

#[test]
fn writes_to_a_bind_are_thrown_away() {
    for user in users() {
        let world = World::of(user);
        for option in ["rw", "readwrite", "rw=true", "ro=false"] {
            let lines = format!(
                "RUN --mount=target=/m,{option} echo new > /m/a.txt && rm -r /m/sub && echo y > /m/y && cat /m/* > /seen\n\
                 RUN --mount=target=/m ls /m > /after && cat /m/a.txt >> /after\n"
            );
            built(&world, &lines).success();
            let image = image(&world);
            assert!(image.tree().text("/seen").contains("new\ny\n"), "{user:?} {option}");
            assert_eq!(image.tree().text("/after"), "Dockerfile\na.txt\nsub\nalpha\n", "{user:?} {option}");
            assert_eq!(last_names(&image), ["after"], "{user:?} {option}");
            let names = std::fs::read_dir(world.path("context")).expect("the context").count();
            assert_eq!(names, 3, "{user:?} {option}: the context has changed");
            let text = std::fs::read_to_string(world.path("context/a.txt")).expect("a.txt");
            assert_eq!(text, "alpha\n", "{user:?} {option}");
        }
        // Nor does a stage change by what a later one writes into it.
        let tree = tree_of(
            &world,
            "RUN mkdir /o && echo old > /o/f\n\
             FROM $BASE AS writer\n\
             RUN --mount=from=0,source=/o,target=/o,rw echo new > /o/f && cat /o/f > /seen\n\
             FROM $BASE\n\
             COPY --from=writer /seen /\n\
             COPY --from=0 /o/f /f\n\
             RUN --mount=from=0,source=/o,target=/o cat /o/f > /mounted\n",
        );
        assert_eq!(tree.text("/seen"), "new\n", "{user:?}");
        assert_eq!(tree.text("/f") + &tree.text("/mounted"), "old\nold\n", "{user:?}");
    }
}

#[test]
fn bind_from_stage_image_and_named_context() {
    let world = World::new();
    let busybox = support::shared_registry().name("busybox");
    world.write("named/n.txt", "named\n");
    world.write("named/deep/d.txt", "deep\n");
    let named = format!("data={}", world.path("named").display());
    let lines = format!(
        "AS First\n\
         RUN mkdir -p /o/p && echo one > /o/p/f && chown -R 1000:1001 /o && chmod 600 /o/p/f\n\
         FROM $BASE\n\
         RUN --mount=from=first,target=/m cat /m/o/p/f > /stage && stat -c '%a %u:%g' /m/o/p/f >> /stage\n\
         RUN --mount=from=0,source=o/p,target=/m cat /m/f > /index\n\
         RUN --mount=type=bind,from=FIRST,source=/o/p/f,target=/one cat /one > /file\n\
         RUN --mount=from={busybox},target=/m ls /m/etc/passwd > /image\n\
         RUN --mount=from=data,target=/m cat /m/n.txt > /named\n\
         RUN --mount=from=data,source=deep/d.txt,target=/m cat /m > /deep\n"
    );
    let context = context(&world, "");
    world.write("context/Dockerfile", format!("ARG BASE\nFROM $BASE {lines}"));
    build(&world).args(["--build-context", &named]).arg(context).run().success();
    let tree = image(&world).tree();
    for (path, text) in [
        ("/stage", "one\n600 1000:1001\n"),
        ("/index", "one\n"),
        ("/file", "one\n"),
        ("/image", "/m/etc/passwd\n"),
        ("/named", "named\n"),
        ("/deep", "deep\n"),
    ] {
        assert_eq!(tree.text(path), text, "{path}");
    }
    let later =
        "RUN --mount=from=later,target=/m true\nFROM $BASE AS later\nFROM $BASE\nCOPY --from=0 /m /m\n";
    built(&world, later)
        .code(2)
        .stderr_has("cannot mount from stage \"later\" to \"/m\"")
        .stderr_has("defined before");
}

#[test]
fn bind_is_in_the_key_by_its_content() {
    let world = World::new();
    let context = context(&world, "RUN --mount=source=sub,target=/m cat /m/b.txt\n");
    let runs = || build(&world).args(["--progress", "json"]).arg(&context).run().success().runs("started");
    assert_eq!(runs(), 1);
    assert_eq!(runs(), 0);
    world.write("context/a.txt", "changed, but not mounted\n");
    assert_eq!(runs(), 0);
    world.write("context/sub/b.txt", "changed\n");
    assert_eq!(runs(), 1);
}

#[test]
fn mounts_apply_in_order() {
    let world = World::new();
    let tree = tree_of(
        &world,
        "RUN --mount=type=tmpfs,target=/t --mount=source=sub,target=/t/in ls /t /t/in > /seen && touch /t/x\n\
         RUN --mount=source=sub,target=/t/in --mount=type=tmpfs,target=/t test ! -e /t/in/b.txt\n\
         RUN --mount=target=/m --mount=type=tmpfs,target=/m/sub touch /m/sub/x && ls /m/sub > /nested\n\
         RUN --mount=target=/m --mount=source=a.txt,target=/m/sub/b.txt cat /m/sub/b.txt > /covered\n\
         RUN --mount=type=cache,target=/c --mount=target=/c/d/e ls /c/d/e/a.txt && touch /c/d/x\n",
    );
    assert_eq!(tree.text("/seen"), "/t:\nin\n\n/t/in:\nb.txt\n");
    assert_eq!(tree.text("/nested"), "x\n");
    assert_eq!(tree.text("/covered"), "alpha\n");
    assert!(tree.get("/t").is_none() && tree.get("/m").is_none() && tree.get("/c").is_none());
}

#[test]
fn layer_is_as_without_mounts() {
    for user in users() {
        let world = World::of(user);
        let mounts = "--mount=type=cache,target=/deep/er/cache --mount=type=tmpfs,target=/t/m/p --mount=target=/b \
                      --mount=source=a.txt,target=/f/i/le --mount=type=cache,target=/usr/share/x/y \
                      --mount=type=tmpfs,target=/etc/conf.d --mount=type=tmpfs,target=/kept/new";
        let before = "RUN mkdir /kept && echo k > /kept/k\n";
        let work = "mkdir /made && echo x > /made/x && rm /etc/group";
        built(&world, &format!("{before}RUN {work}\n")).success();
        let without = image(&world);
        built(&world, &format!("{before}RUN {mounts} {work}\n")).success();
        let with = image(&world);
        assert_eq!(last_names(&with), last_names(&without), "{user:?}");
        let diff_id = |image: &Image| image.layers.last().expect("a layer").diff_id.clone();
        assert_eq!(diff_id(&with), diff_id(&without), "{user:?}");
        // A step that does nothing changes nothing.
        built(&world, &format!("RUN {mounts} true\n")).success();
        assert_eq!(last_names(&image(&world)), Vec::<String>::new(), "{user:?}");
        // What the step itself puts beside a mount point stays.
        let tree = tree_of(&world, "RUN --mount=type=tmpfs,target=/p/q/r echo x > /p/q/own\n");
        assert_eq!(tree.text("/p/q/own"), "x\n", "{user:?}");
        assert!(tree.get("/p/q/r").is_none(), "{user:?}");
    }
}

// ---- cache ---------------------------------------------------------------------------------------

/// Prints how often the cache was used before.
const COUNT: &str = "echo x >> /c/n; echo count $(wc -l < /c/n)";

#[test]
fn cache_survives_builds_and_is_of_one_platform() {
    for user in users() {
        let world = World::of(user);
        let context = context(&world, &format!("RUN --mount=type=cache,target=/c {COUNT}\n"));
        let run = |args: &[&str]| {
            build(&world).args(["--progress", "json", "--no-cache"]).args(args).arg(&context).run().success()
        };
        let both = ["--platform", "linux/amd64,linux/arm64"];
        assert_eq!(run(&both).printed("count 1"), 2, "{user:?}: platforms share a cache");
        assert_eq!(run(&both).printed("count 2"), 2, "{user:?}: a cache is lost");
        assert_eq!(run(&["--platform", "linux/arm64"]).printed("count 3"), 1, "{user:?}");
        let image = image(&world);
        assert!(image.tree().get("/c").is_none(), "{user:?}");
        assert_eq!(last_names(&image), Vec::<String>::new(), "{user:?}");
    }
}

#[test]
fn cache_is_shared_by_platforms_where_that_is_asked_for() {
    let world = World::new();
    // Locked: counting is no atomic thing.
    let step = format!("RUN --mount=type=cache,id=all,target=/c,sharing=locked {COUNT}\n");
    let run = |id: &str| {
        let args = ["--progress", "json", "--no-cache", "--platform", "linux/amd64,linux/arm64"];
        built_with(&world, &step, &[&args[..], &["--shared-cache-mount", id]].concat()).success()
    };
    let outcome = run("all");
    assert_eq!((outcome.printed("count 1"), outcome.printed("count 2")), (1, 1));
    // Another id has no effect on this one, and is told of.
    let outcome = run("al");
    assert_eq!(outcome.printed("count 1"), 2);
    outcome.stdout_has("no cache mount has the id al").stdout_has("did you mean all?");
}

#[test]
fn cache_is_found_by_its_id() {
    let world = World::new();
    let outcome = built_with(
        &world,
        &format!(
            "RUN --mount=type=cache,target=/c {COUNT}\n\
             RUN --mount=type=cache,target=/c/../c/ {COUNT}\n\
             RUN --mount=type=cache,id=/c,target=/other ln -s /other /c && {COUNT} && rm /c\n\
             RUN --mount=type=cache,id=mine,target=/c {COUNT}\n\
             RUN --mount=type=cache,id=mine,target=/c sh -c '{COUNT}; echo again'\n\
             RUN --mount=type=cache,target=/d test ! -e /d/n\n"
        ),
        &["--progress", "json"],
    )
    .success();
    let counts: Vec<_> = outcome
        .output_lines()
        .into_iter()
        .map(|(_, line)| line)
        .filter(|line| line.starts_with("count"))
        .collect();
    assert_eq!(counts, ["count 1", "count 2", "count 3", "count 1", "count 2"]);
}

#[test]
fn cache_has_a_name_space() {
    let world = World::new();
    let step = format!("RUN --mount=type=cache,target=/c {COUNT}\n");
    let count = |namespace: &str| {
        let argument = format!("BUILDKIT_CACHE_MOUNT_NS={namespace}");
        let args = ["--no-cache", "--progress", "json", "--build-arg", &argument];
        let lines = built_with(&world, &step, &args).success().lacks("no ARG declares").output_lines();
        lines.into_iter().map(|(_, line)| line).find(|line| line.starts_with("count")).expect("a count")
    };
    let counts = ["one", "one", "two", "one", "two"].map(count);
    assert_eq!(counts, ["count 1", "count 2", "count 1", "count 3", "count 2"]);
}

#[test]
fn cache_owner_and_mode() {
    for user in users() {
        let world = World::of(user);
        let tree = tree_of(
            &world,
            "RUN --mount=type=cache,target=/c stat -c '%a %u:%g' /c > /default\n\
             RUN --mount=type=cache,target=/o,uid=1000,gid=1001,mode=0700 stat -c '%a %u:%g' /o > /given\n\
             USER app\n\
             RUN --mount=type=cache,target=/o,uid=1000,gid=1001,mode=0700 touch /o/mine && ls /o > /tmp/mine\n\
             RUN --mount=type=cache,target=/r,ro ! touch /r/x 2>/dev/null\n",
        );
        assert_eq!(tree.text("/default"), "755 0:0\n", "{user:?}");
        assert_eq!(tree.text("/given"), "700 1000:1001\n", "{user:?}");
        assert_eq!(tree.text("/tmp/mine"), "mine\n", "{user:?}");
    }
}

#[test]
fn cache_read_only() {
    let world = World::new();
    built(
        &world,
        "RUN --mount=type=cache,id=c,target=/c echo x > /c/f\n\
         RUN --mount=type=cache,id=c,target=/c,ro test -e /c/f && ! touch /c/y 2>/dev/null\n\
         RUN --mount=type=cache,id=c,target=/c,readonly ! rm /c/f 2>/dev/null\n",
    )
    .success();
}

#[test]
fn cache_begins_with_what_from_holds() {
    let world = World::new();
    let lines = "AS seed\n\
        RUN mkdir /o && echo seed > /o/f && chown 1000:1001 /o/f\n\
        FROM $BASE\n\
        RUN --mount=type=cache,id=s,target=/c,from=seed,source=/o cat /c/f && stat -c '%u:%g' /c/f && echo more >> /c/f\n";
    let context = context(&world, "");
    world.write("context/Dockerfile", format!("ARG BASE\nFROM $BASE {lines}"));
    let run = || build(&world).args(["--progress", "json", "--no-cache"]).arg(&context).run().success();
    let first = run();
    assert_eq!((first.printed("seed"), first.printed("more"), first.printed("1000:1001")), (1, 0, 1));
    let second = run();
    assert_eq!((second.printed("seed"), second.printed("more")), (1, 1));
}

/// Starts two builds that run at the same time, each with its name in `$WHO`.
fn two_at_once(world: &World, step: &str) -> [Outcome; 2] {
    // The base is fetched before, so that both come to the step at about the same time.
    built(world, "RUN true\n").success();
    let context = context(world, &format!("ARG WHO\n{step}\n"));
    let start = |who: &str| {
        let out = layout(&world.path(&format!("out/{who}")));
        world
            .build()
            .args(["--build-arg", &base(), "--build-arg", &format!("WHO={who}"), "--progress", "json"])
            .args(["--output", &out])
            .arg(&context)
            .start()
    };
    ["a", "b"].map(start).map(|running| running.finish().success())
}

/// Waits until both builds have made a file of this name.
fn meet(folder: &str, name: &str) -> String {
    format!(
        "touch {folder}/{name}-$WHO; n=0; until test -e {folder}/{name}-a -a -e {folder}/{name}-b; do \
         n=$((n+1)); test $n -lt 600 || exit 9; sleep 0.1; done"
    )
}

#[test]
fn shared_cache_is_seen_by_both() {
    for option in ["", ",sharing=shared"] {
        let world = World::new();
        let step = format!("RUN --mount=type=cache,id=s,target=/c{option} {}", meet("/c", "here"));
        two_at_once(&world, &step);
    }
}

#[test]
fn private_cache_is_a_copy_of_its_own() {
    let world = World::new();
    let step = format!(
        "RUN --mount=type=cache,id=meet,target=/meet --mount=type=cache,id=p,target=/p,sharing=private \
         {}; touch /p/$WHO; {}; echo sees $(ls /p); {}",
        meet("/meet", "begin"),
        meet("/meet", "written"),
        meet("/meet", "read")
    );
    let [a, b] = two_at_once(&world, &step);
    assert_eq!((a.printed("sees a"), b.printed("sees b")), (1, 1), "{}\n{}", a.report(), b.report());
}

#[test]
fn locked_cache_is_for_one_at_a_time() {
    let world = World::new();
    // The first one stays until it has waited long enough for the other to come.
    let step = "RUN --mount=type=cache,id=l,target=/c,sharing=locked mkdir /c/inside || exit 8; \
                sleep 1; rmdir /c/inside; echo $WHO >> /c/order; echo order $(wc -l < /c/order)";
    let outcomes = two_at_once(&world, step);
    for order in ["order 1", "order 2"] {
        assert_eq!(outcomes.iter().map(|outcome| outcome.printed(order)).sum::<usize>(), 1, "{order}");
    }
    // Also for stages of one build.
    let world = World::new();
    let stage = "RUN --mount=type=cache,id=l,target=/c,sharing=locked mkdir /c/inside || exit 8; sleep 1; rmdir /c/inside";
    built(
        &world,
        &format!("{stage}\nFROM $BASE AS b\n{stage}; true\nFROM $BASE\nCOPY --from=0 /etc/group /a\nCOPY --from=b /etc/group /b\n"),
    )
    .success();
}

#[test]
fn failed_step_leaves_its_cache_usable() {
    let world = World::new();
    built(&world, "RUN --mount=type=cache,id=l,target=/c,sharing=locked echo x > /c/f && exit 3\n").code(1);
    let tree = tree_of(&world, "RUN --mount=type=cache,id=l,target=/c,sharing=locked cat /c/f > /seen\n");
    assert_eq!(tree.text("/seen"), "x\n");
}

#[test]
fn killed_build_leaves_its_cache_usable() {
    let world = World::new();
    let mark = "86297";
    let context = context(
        &world,
        &format!("RUN --mount=type=cache,id=l,target=/c,sharing=locked echo x > /c/f && sleep {mark}\n"),
    );
    let running = build(&world).arg(&context).start();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    // The shell of the step has the mark in its command line too; `sleep` comes after the file.
    while !HostState::process_runs(&format!("sleep {mark}")) {
        assert!(std::time::Instant::now() < deadline, "the step did not begin");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    running.kill();
    running.finish();
    HostState::no_process(&format!("sleep {mark}"));
    let tree = tree_of(&world, "RUN --mount=type=cache,id=l,target=/c,sharing=locked cat /c/f > /seen\n");
    assert_eq!(tree.text("/seen"), "x\n");
}

// ---- tmpfs ---------------------------------------------------------------------------------------

#[test]
fn tmpfs_has_a_size_and_is_gone() {
    for user in users() {
        let world = World::of(user);
        let tree = tree_of(
            &world,
            "RUN --mount=type=tmpfs,target=/t,size=1m df -k /t | tail -n 1 | awk '{print $2}' > /size; \
             ! head -c 2097152 /dev/zero > /t/big 2>/dev/null\n\
             RUN --mount=type=tmpfs,target=/t,size=65536 df -k /t | tail -n 1 | awk '{print $2}' >> /size\n\
             RUN --mount=type=tmpfs,target=/t,size=64K df -k /t | tail -n 1 | awk '{print $2}' >> /size\n\
             RUN --mount=type=tmpfs,target=/t head -c 2097152 /dev/zero > /t/big && stat -c %s /t/big >> /size\n\
             RUN --mount=type=tmpfs,target=/etc ls /etc | wc -l > /hidden\n\
             RUN test ! -e /t && test -e /etc/passwd\n",
        );
        assert_eq!(tree.text("/size"), "1024\n64\n64\n2097152\n", "{user:?}");
        assert!(tree.get("/t").is_none(), "{user:?}");
        assert!(tree.get("/etc/passwd").is_some(), "{user:?}");
    }
}

// ---- errors --------------------------------------------------------------------------------------

#[test]
fn wrong_mounts_are_errors_with_their_line() {
    let world = World::new();
    for (mount, text) in [
        ("target=/", "invalid mount target \"/\""),
        ("type=tmpfs", "invalid mount target \"/\""),
        ("type=cache,tgt=/x", "unexpected key 'tgt'"),
        ("type=bind,target=/m,x", "must be a key=value pair"),
        ("type=foo,target=/m", "unsupported mount type \"foo\""),
        ("type=cache,target=/m,sharing=x", "unsupported sharing value \"x\""),
        ("type=bind,target=/m,size=1m", "unexpected key 'size'"),
        ("type=bind,target=/m,required", "unexpected key 'required'"),
        ("type=bind,target=/m,mode=0700", "mode not allowed for \"bind\" type mounts"),
        ("type=bind,target=/m,uid=1", "uid not allowed for \"bind\" type mounts"),
        ("type=bind,target=/m,gid=1", "gid not allowed for \"bind\" type mounts"),
        ("type=bind,target=/m,sharing=shared", "invalid cache sharing set for bind mount"),
        ("type=bind,target=/m,id=x", "id"),
        ("type=tmpfs,target=/m,source=x", "source"),
        ("type=tmpfs,target=/m,from=x", "from"),
        ("type=bind,target=/m,env=X", "env"),
        ("type=secret,id=a,from=x", "secret mount should not have a from"),
        ("type=secret,id=a,sharing=shared", "secret mount should not define sharing"),
        ("type=secret", "one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=ssh,source=x", "ssh does not support source"),
        ("target=/m,ro=x", "invalid value for ro: x"),
        ("type=cache,target=/m,mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/m,uid=x", "invalid value x for uid"),
        ("type=cache,target=/m,gid=-1", "invalid value -1 for gid"),
        ("type=bind,target=/m,bind-propagation=shared", "unexpected key 'bind-propagation'"),
    ] {
        built(&world, &format!("RUN true\nRUN --mount={mount} true\n"))
            .code(2)
            .stderr_has(text)
            .stderr_has("Dockerfile:4");
    }
}

#[test]
fn what_was_not_given_is_a_warning_or_an_error() {
    let world = World::new();
    built(&world, "RUN --mount=type=secret,id=nope test ! -e /run/secrets/nope\n")
        .success()
        .stderr_has("secret \"nope\" was not given");
    built(&world, "RUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\"\n").success().stderr_has("was not given");
    for mount in ["type=secret,id=nope,required", "type=ssh,required", "type=ssh,id=nope,required=true"] {
        let outcome = built_with(
            &world,
            &format!("RUN echo first\nRUN --mount={mount} true\n"),
            &["--progress", "json", "--no-cache"],
        )
        .code(2);
        assert_eq!(outcome.runs("started"), 0, "{}", outcome.report());
        assert!(outcome.report().contains("Dockerfile:4"), "{}", outcome.report());
    }
}

// ---- ssh -----------------------------------------------------------------------------------------

/// Speaks the agent's protocol: tells the keys, has something signed, and tries what must be refused.
const AGENT_CLIENT: &str = r#"
use strict; use Socket;
sub ask {
    my ($message) = @_;
    socket(my $agent, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
    connect($agent, sockaddr_un($ENV{SSH_AUTH_SOCK})) or die "connect: $!";
    syswrite($agent, pack("N/a*", $message));
    my $answer = "";
    while (length($answer) < 4 || length($answer) < 4 + unpack("N", $answer)) {
        sysread($agent, $answer, 65536, length($answer)) or return "closed";
    }
    return substr($answer, 4);
}
my $keys = ask(pack("C", 11));
my ($type, $count) = unpack("CN", $keys);
print "answer $type with $count keys\n";
my ($blob) = unpack("x5 N/a", $keys);
print "key ", unpack("H*", $blob), "\n";
my $signed = ask(pack("C N/a* N/a* N", 13, $blob, "text", 0));
print "signature ", unpack("C", $signed), "\n";
my %refused = (remove => pack("C N/a*", 18, $blob), "remove all" => pack("C", 19),
    lock => pack("C N/a*", 22, "x"), add => pack("C N/a*", 17, "ssh-ed25519"),
    "add card" => pack("C N/a* N/a*", 20, "/x", ""));
for my $name (sort keys %refused) {
    my $answer = ask($refused{$name});
    print "$name ", ($answer eq "closed" || unpack("C", $answer) == 5) ? "refused" : "taken", "\n";
}
"#;

/// Base64 as hexadecimal: Debian's small perl knows no base64.
fn hex(base64: &str) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).expect("base64");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn ssh_agent_is_forwarded_for_signing_alone() {
    let base = debian();
    for user in users() {
        let world = World::of(user);
        let agent = SshAgent::start(&world);
        let context = world.context(
            "context",
            &format!(
                "FROM {base}\n\
                 RUN --mount=type=ssh --mount=target=/m echo $SSH_AUTH_SOCK && perl /m/client.pl && stat -c 'socket %a %u:%g' $SSH_AUTH_SOCK\n\
                 RUN test -z \"$SSH_AUTH_SOCK\" && test ! -e /run/buildkit\n"
            ),
        );
        world.write("context/client.pl", AGENT_CLIENT);
        for value in [
            format!("default={}", agent.socket().display()),
            format!("default={}", agent.key().display()),
            "default".to_owned(),
        ] {
            let outcome = world
                .build()
                .env("SSH_AUTH_SOCK", agent.socket())
                .args(["--ssh", &value, "--progress", "json", "--no-cache"])
                .arg(&context)
                .run()
                .success();
            for line in [
                "/run/buildkit/ssh_agent.0",
                "answer 12 with 1 keys",
                &format!("key {}", hex(agent.public())),
                "signature 14",
                "socket 600 0:0",
                "add refused",
                "add card refused",
                "lock refused",
                "remove refused",
                "remove all refused",
            ] {
                assert_eq!(outcome.printed(line), 1, "{user:?} {value}: {line}\n{}", outcome.report());
            }
        }
    }
}

#[test]
fn ssh_keys_of_the_mount() {
    let base = debian();
    let world = World::new();
    let agent = SshAgent::start(&world);
    let context = world.context(
        "context",
        &format!(
            "FROM {base}\n\
             RUN --mount=type=ssh,id=git,target=/s/agent,mode=0666,uid=1000,gid=1001 --mount=target=/m \
             echo $SSH_AUTH_SOCK && stat -c 'socket %a %u:%g' /s/agent && perl /m/client.pl\n\
             USER 1000\n\
             RUN --mount=type=ssh,id=git,uid=1000 --mount=target=/m perl /m/client.pl\n\
             RUN --mount=type=ssh,id=git --mount=target=/m ! perl /m/client.pl 2>/dev/null\n"
        ),
    );
    world.write("context/client.pl", AGENT_CLIENT);
    let outcome = world
        .build()
        .args(["--ssh", &format!("git={}", agent.socket().display()), "--progress", "json"])
        .arg(&context)
        .run()
        .success();
    assert_eq!(outcome.printed("/s/agent"), 1, "{}", outcome.report());
    assert_eq!(outcome.printed("socket 666 1000:1001"), 1, "{}", outcome.report());
    assert_eq!(outcome.printed("signature 14"), 2, "{}", outcome.report());
}

// ---- attacks -------------------------------------------------------------------------------------

/// Asserts that the host's canary is as it was, and that nobody saw it.
#[track_caller]
fn unharmed(world: &World, canary: &Path) {
    assert_eq!(std::fs::read_to_string(canary).expect("the canary"), "of-the-host\n");
    let names = std::fs::read_dir(canary.parent().expect("a parent")).expect("the folder");
    assert_eq!(names.count(), 1, "something was made beside the canary");
    for folder in ["out", "root"] {
        support::found_nowhere(&world.path(folder), "of-the-host");
    }
}

#[test]
fn links_in_sources_and_targets_stay_inside() {
    for user in users() {
        let world = World::of(user);
        let host = HostState::now();
        // A folder that the world's user may write, so that only fanfold's care protects it.
        world.folder("host");
        let canary = world.write("host/canary", "of-the-host\n");
        let folder = canary.parent().expect("a parent").display().to_string();
        let lines = format!(
            "AS evil\n\
             RUN echo here > /mark && ln -s / /link && ln -s ../../../../../../.. /up && ln -s {folder} /host && ln -s /a/../b /loop && ln -s loop /b\n\
             FROM $BASE AS sources\n\
             RUN --mount=from=evil,source=/link,target=/m,rw cat /m/mark > /seen && touch /m/x\n\
             RUN --mount=from=evil,source=/up,target=/m cat /m/mark >> /seen\n\
             RUN --mount=from=evil,source=../../../up/../mark,target=/m cat /m >> /seen\n\
             FROM evil\n\
             RUN --mount=type=tmpfs,target=/link/t touch /t/x && ls /t >> /targets\n\
             RUN --mount=type=tmpfs,target=/up/t touch /t/x && ls /t >> /targets\n\
             RUN --mount=type=cache,target=/host/made touch {folder}/made/x && ls {folder}/made >> /targets\n\
             RUN test ! -e /t && test ! -e {folder}/made\n\
             COPY --from=sources /seen /seen\n"
        );
        let context = context(&world, "");
        world.write("context/Dockerfile", format!("ARG BASE\nFROM $BASE {lines}"));
        build(&world).arg(&context).run().success();
        let tree = image(&world).tree();
        assert_eq!(tree.text("/seen"), "here\nhere\nhere\n", "{user:?}");
        assert_eq!(tree.text("/targets"), "x\nx\nx\n", "{user:?}");
        unharmed(&world, &canary);
        // A link that leads out of what it is in leads nowhere; one that leads to itself is an error.
        for lines in [
            format!(
                "RUN ln -s {folder} /host\nFROM $BASE\nRUN --mount=from=0,source=/host,target=/m ls /m\n"
            ),
            format!(
                "RUN ln -s {folder} /host\nFROM $BASE\nRUN --mount=from=0,source=/host/canary,target=/m cat /m\n"
            ),
            "RUN ln -s /b /a && ln -s /a /b\nFROM $BASE\nRUN --mount=from=0,source=/a,target=/m ls /m\n"
                .to_owned(),
            "RUN ln -s /b /a && ln -s /a /b\nRUN --mount=type=tmpfs,target=/a/x true\n".to_owned(),
        ] {
            let outcome = built(&world, &lines);
            assert!([1, 2].contains(&outcome.exit()), "{user:?} {lines}\n{}", outcome.report());
            unharmed(&world, &canary);
        }
        host.unchanged();
    }
}

#[test]
fn links_in_the_context_stay_inside() {
    let world = World::new();
    let canary = world.write("host/canary", "of-the-host\n");
    let context = context(&world, "RUN --mount=source=leak,target=/m cat /m > /seen\n");
    std::os::unix::fs::symlink(&canary, context.join("leak")).expect("symlink");
    build(&world).arg(&context).run().code(1).stderr_has("not found");
    world.write(
        "context/Dockerfile",
        "ARG BASE\nFROM $BASE\nRUN --mount=target=/m cat /m/leak > /seen || true\n",
    );
    build(&world).arg(&context).run().success();
    unharmed(&world, &canary);
}

#[test]
fn cache_folder_that_became_a_link_stays_inside() {
    for user in users() {
        let world = World::of(user);
        world.folder("host");
        let canary = world.write("host/canary", "of-the-host\n");
        let folder = canary.parent().expect("a parent").display().to_string();
        for target in ["/", folder.as_str()] {
            let outcome = built(
                &world,
                &format!(
                    "RUN --mount=type=cache,id=c,target=/c ln -sfn {target} /c/sub\n\
                     RUN --mount=type=cache,id=c,source=sub,target=/s ls -R /s > /seen; touch /s/made\n\
                     RUN --mount=type=cache,id=c,target=/c --mount=type=tmpfs,target=/c/sub/made true\n"
                ),
            );
            assert!([0, 1, 2].contains(&outcome.exit()), "{user:?}\n{}", outcome.report());
            unharmed(&world, &canary);
        }
    }
}

#[test]
fn parent_of_a_mount_point_that_became_a_link() {
    for user in users() {
        let world = World::of(user);
        world.folder("host");
        let canary = world.write("host/canary", "of-the-host\n");
        let folder = canary.parent().expect("a parent").display().to_string();
        let tree = tree_of(
            &world,
            &format!(
                "RUN mkdir -p /victim/q/m {folder}\n\
                 RUN --mount=type=tmpfs,target=/p/q/m mv /p /old && ln -s /victim /p\n\
                 RUN --mount=type=tmpfs,target=/h/canary mv /h /gone && ln -s {folder} /h\n\
                 RUN --mount=type=tmpfs,target=/r/s mv /r /r2 && echo file > /r\n"
            ),
        );
        // What the step made in the stub's place is the step's, and what it points at is left alone.
        assert!(tree.get("/victim/q/m").is_some(), "{user:?}");
        assert_eq!(tree.text("/r"), "file\n", "{user:?}");
        unharmed(&world, &canary);
    }
}

#[test]
fn mounts_do_not_reach_the_host() {
    let world = World::of(if is_root() { User::Root } else { User::Plain });
    let host = HostState::now();
    let tree = tree_of(
        &world,
        "RUN --mount=type=cache,target=/c --mount=target=/m,rw --mount=type=tmpfs,target=/t \
         cat /proc/self/mountinfo > /mounts; ! umount /m 2>/dev/null && ! mount -o remount,rw /m 2>/dev/null && \
         ls -a /c/.. > /above\n",
    );
    assert_eq!(tree.text("/above").lines().next(), Some("."));
    // `..` of a mount is the image's root.
    assert!(tree.text("/above").contains("etc"));
    host.unchanged();
}
