//! Secrets reach commands and nothing else: they are looked for in all that a build leaves.

mod support;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::{HostState, Index, Outcome, Run, World, base, found_nowhere, layout, sha256, users};

/// A value that nobody has seen before.
fn random() -> String {
    let half = || format!("{:016x}", RandomState::new().build_hasher().finish());
    format!("s3cret-{}{}", half(), half())
}

/// A build into the new layout `out/layout` with a metadata file; the context is the caller's.
fn build(world: &World) -> Run {
    // A layout keeps what was written into it before.
    let _ = std::fs::remove_dir_all(world.path("out/layout"));
    world
        .build()
        .args(["--build-arg", &base(), "--output", &layout(&world.path("out/layout"))])
        .arg("--metadata-file")
        .arg(world.path("out/metadata.json"))
}

fn context(world: &World, lines: &str) -> PathBuf {
    world.context("context", &format!("ARG BASE\nFROM $BASE\n{lines}"))
}

/// Asserts that a value is nowhere: not in the output, the image, the metadata, the store, the
/// temporary folder or the home.
#[track_caller]
fn gone(world: &World, outcome: Outcome, value: &str) {
    outcome.lacks(value);
    for folder in ["out", "root", "tmp", "home"] {
        found_nowhere(&world.path(folder), value);
    }
}

#[test]
fn file_and_variable() {
    for user in users() {
        let world = World::of(user);
        let (by_file, by_variable) = (random(), random());
        let source = world.write("given/token", &by_file);
        let context = context(
            &world,
            "RUN --mount=type=secret,id=a cat /run/secrets/a && sha256sum < /run/secrets/a > /a && \
             stat -c '%a %u:%g' /run/secrets/a > /mode\n\
             RUN --mount=type=secret,id=dir/b cat /run/secrets/b | sha256sum > /b\n\
             RUN --mount=type=secret,id=a,target=/root/.token cat /root/.token | sha256sum > /target\n\
             RUN --mount=type=secret,target=/t/dir/b sha256sum < /t/dir/b > /by-target\n\
             RUN --mount=type=secret,source=a,target=/x sha256sum < /x > /by-source\n\
             RUN --mount=type=secret,id=a,env=TOKEN echo $TOKEN && printf %s \"$TOKEN\" | sha256sum > /variable; test ! -e /run/secrets/a\n\
             RUN --mount=type=secret,id=a,env printf %s \"$a\" | sha256sum > /own-name\n\
             RUN --mount=type=secret,id=a,env=T,target=/both test \"$T\" = \"$(cat /both)\"\n\
             RUN --mount=type=secret,id=a,uid=1000,gid=1001,mode=0440 stat -c '%a %u:%g' /run/secrets/a >> /mode\n\
             WORKDIR /w\n\
             RUN --mount=type=secret,id=a,target=rel sha256sum < /w/rel > /relative\n\
             RUN test ! -e /run/secrets && ! env | grep -i -e token -e s3cret && test ! -e /root/.token\n\
             USER app\n\
             RUN --mount=type=secret,id=a ! cat /run/secrets/a 2>/dev/null\n\
             RUN --mount=type=secret,id=a,uid=1000 cat /run/secrets/a | sha256sum > /tmp/app\n",
        );
        let outcome = build(&world)
            .env("VALUE", &by_variable)
            .env("b", &by_variable)
            .args(["--secret", &format!("id=a,src={}", source.display())])
            .args(["--secret", "id=dir/b,env=VALUE", "--secret", "id=b"])
            .arg(&context)
            .run()
            .success()
            // What commands print of it is covered.
            .stderr_has("***");
        std::fs::remove_file(source).expect("remove");
        let image = &Index::layout(&world.path("out/layout")).images[0];
        let tree = image.tree();
        let sum = |value: &str| format!("{}  -\n", &sha256(value.as_bytes())[7..]);
        for path in ["/a", "/target", "/by-source", "/variable", "/own-name", "/relative", "/tmp/app"] {
            assert_eq!(tree.text(path), sum(&by_file), "{user:?} {path}");
        }
        for path in ["/b", "/by-target"] {
            assert_eq!(tree.text(path), sum(&by_variable), "{user:?} {path}");
        }
        assert_eq!(tree.text("/mode"), "400 0:0\n440 1000:1001\n", "{user:?}");
        for stub in ["/run/secrets", "/root/.token", "/t", "/both", "/x", "/w/rel"] {
            assert!(tree.get(stub).is_none(), "{user:?} {stub}");
        }
        let shown = image.config.to_string();
        assert!(!shown.contains("TOKEN=s3cret") && !shown.contains(&by_file), "{shown}");
        gone(&world, outcome, &by_file);
        found_nowhere(&world.path("root"), &by_variable);
        found_nowhere(&world.path("out"), &by_variable);
    }
}

#[test]
fn printed_values_are_covered() {
    let world = World::new();
    let (value, second) = (random(), random());
    let source = world.write("given/key", format!("-----BEGIN-----\n{value}\n{second}\n-----END-----\n"));
    let context = context(
        &world,
        "RUN --mount=type=secret,id=key cat /run/secrets/key; cat /run/secrets/key >&2; \
         printf 'x%sy\\n' \"$(sed -n 2p /run/secrets/key)\"; \
         head -c 5 /run/secrets/key; sleep 0.2; tail -c +6 /run/secrets/key; \
         seq 1 20000 | tr '\\n' ' '; sed -n 2p /run/secrets/key\n",
    );
    for progress in ["plain", "json"] {
        let outcome = build(&world)
            .args(["--progress", progress, "--no-cache", "--secret"])
            .arg(format!("id=key,src={}", source.display()))
            .arg(&context)
            .run()
            .success();
        assert!(outcome.report().contains("x***y"), "{}", outcome.report());
        outcome.lacks(&value).lacks(&second);
    }
}

#[test]
fn step_that_fails_or_crashes() {
    for user in users() {
        let world = World::of(user);
        for end in ["exit 7", "kill -SEGV $$", "kill -KILL $$"] {
            let value = random();
            let context = context(
                &world,
                &format!(
                    "RUN --mount=type=secret,id=a --mount=type=secret,id=a,env=TOKEN ulimit -c unlimited; cat /run/secrets/a; echo $TOKEN; {end}\n"
                ),
            );
            let outcome = build(&world)
                .env("VALUE", &value)
                .args(["--secret", "id=a,env=VALUE"])
                .arg(&context)
                .run()
                .code(1)
                .stderr_has("Dockerfile:3");
            gone(&world, outcome, &value);
        }
    }
}

#[test]
fn build_that_is_killed() {
    for (user, mark) in users().into_iter().zip(["73911", "73912"]) {
        let world = World::of(user);
        let value = random();
        let context = context(
            &world,
            &format!(
                "RUN --mount=type=secret,id=a,target=/deep/stub --mount=type=secret,id=a,env=TOKEN cat /deep/stub && echo x > /made && sleep {mark}\n"
            ),
        );
        let running =
            build(&world).env("VALUE", &value).args(["--secret", "id=a,env=VALUE"]).arg(&context).start();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !HostState::process_runs(&format!("sleep {mark}")) {
            assert!(Instant::now() < deadline, "the step did not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
        // The shell that runs the step has the same text in its command line.
        std::thread::sleep(Duration::from_millis(700));
        running.kill();
        let outcome = running.finish();
        HostState::no_process(&format!("sleep {mark}"));
        gone(&world, outcome, &value);
        // What was left over is no hindrance, and holds nothing either.
        world.write("context/Dockerfile", "ARG BASE\nFROM $BASE\nRUN test ! -e /deep && echo fine > /fine\n");
        let outcome = build(&world).arg(&context).run().success();
        assert!(Index::layout(&world.path("out/layout")).images[0].tree().get("/deep").is_none());
        gone(&world, outcome, &value);
    }
}

#[test]
fn key_holds_the_id_and_not_the_value() {
    let world = World::new();
    let lines =
        |id: &str| format!("RUN --mount=type=secret,id={id},target=/s cat /s > /dev/null; echo x > /x\n");
    let run = |id: &str, value: &str| {
        let context = context(&world, &lines(id));
        build(&world)
            .env("VALUE", value)
            .args(["--timestamp", "1700000000", "--progress", "json"])
            .args(["--secret", &format!("id={id},env=VALUE")])
            .arg(context)
            .run()
            .success()
    };
    assert_eq!(run("a", &random()).runs("started"), 1);
    let first = Index::layout(&world.path("out/layout")).digest;
    let other = run("a", &random());
    assert_eq!((other.runs("started"), other.runs("cached")), (0, 1), "{}", other.report());
    assert_eq!(Index::layout(&world.path("out/layout")).digest, first);
    assert_eq!(run("b", &random()).runs("started"), 1);
}

#[test]
fn wrong_secrets_on_the_command_line() {
    let world = World::new();
    let context = context(&world, "RUN true\n");
    let value = random();
    for secret in [
        "",
        "id=",
        "src=/nonexistent",
        "id=a,src=/nonexistent",
        "id=a,env=NOT_SET_ANYWHERE",
        "id=a,src=/",
        "id=a,sauce=/x",
        "id=a,type=cake",
    ] {
        let outcome =
            build(&world).env("VALUE", &value).args(["--secret", secret]).arg(&context).run().code(2);
        outcome.stderr_has("--secret").lacks(&value);
    }
    // The same id twice is a mistake of the caller's that must not pass in silence, or the later one counts.
    let outcome = build(&world)
        .env("VALUE", &value)
        .args(["--secret", "id=a,env=VALUE", "--secret", "id=a,env=VALUE"])
        .arg(&context)
        .run();
    assert!([0, 2].contains(&outcome.exit()), "{}", outcome.report());
}

#[test]
fn secret_for_a_web_server() {
    use support::{HttpServer, Page};
    let value = random();
    let world = World::new();
    let (server, other) = (HttpServer::start(), HttpServer::start());
    server.put("/private", Page::new("content\n").authorization(&format!("Bearer {value}")));
    other.put("/public", Page::new("content\n"));
    server.put("/away", Page::redirect(other.url("/public")));
    let port = server.port();
    for (id, given) in [("TOKEN", value.clone()), ("HEADER", format!("Bearer {value}"))] {
        for path in ["private", "away"] {
            let context = context(&world, &format!("ADD {} /file\n", server.url(&format!("/{path}"))));
            let outcome = build(&world)
                .env("VALUE", given.clone())
                .args(["--no-cache", "--secret", &format!("id=HTTP_AUTH_{id}_localhost:{port},env=VALUE")])
                .arg(&context)
                .run()
                .success();
            assert_eq!(Index::layout(&world.path("out/layout")).images[0].tree().text("/file"), "content\n");
            gone(&world, outcome, &value);
        }
    }
    assert!(other.requests().iter().all(|request| !request.headers.contains_key("authorization")));
}

#[test]
fn over_a_device_and_as_the_path() {
    let world = World::new();
    let value = random();
    let context = context(
        &world,
        "RUN --mount=type=secret,id=a,target=/dev/null test -z \"$(cat)\"\n\
         RUN --mount=type=secret,id=p,env=PATH [\"busybox\", \"true\"]\n\
         ENV PATH=/nowhere\n\
         RUN --mount=type=secret,id=p,env=PATH [\"busybox\", \"true\"]\n",
    );
    let outcome = build(&world)
        .env("VALUE", &value)
        .env("PLACES", "/usr/bin")
        .args(["--secret", "id=a,env=VALUE", "--secret", "id=p,env=PLACES"])
        .arg(&context)
        .run()
        .success();
    gone(&world, outcome, &value);
}

#[test]
fn password_of_an_address_that_fails() {
    let world = World::new();
    let value = random();
    let port = support::closed_port();
    let context = context(&world, &format!("ADD http://me:{value}@127.0.0.1:{port}/x.git /x\n"));
    let outcome = build(&world).arg(&context).run();
    outcome.lacks(&value);
}
