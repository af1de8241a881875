//! `fanfold build --push` against a real registry: what others make of the
//! result, credentials, TLS, and what happens when it cannot be.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use support::{Fault, Proxy, Registry, RegistryOptions, World, base, shared_registry, tool};

const DOCKERFILE: &str =
    "ARG BASE\nFROM $BASE\nRUN echo x > /x && ln -s x /l && mkdir -m 1777 /t && rm /etc/group\n";
const PLATFORMS: &str = "linux/amd64,linux/arm64,linux/arm/v7";

/// A folder to be used as DOCKER_CONFIG, with one registry's credentials.
fn docker_config(world: &World, registry: &Registry, user: &str, password: &str) -> PathBuf {
    let secret = base64(format!("{user}:{password}").as_bytes());
    world.write(
        "docker/config.json",
        format!(r#"{{"auths":{{"{}":{{"auth":"{secret}"}}}}}}"#, registry.host()),
    );
    world.path("docker")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place)) as usize & 63];
            text.push(if place > group.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[test]
fn pushed_index_is_accepted_by_skopeo_and_umoci() {
    let world = World::new();
    let registry = shared_registry();
    let context = world.context("context", DOCKERFILE);
    let name = registry.name("accepted:v1");
    world
        .build()
        .args(["--platform", PLATFORMS, "--build-arg", &base(), "--push", "-t", &name])
        .arg(&context)
        .run()
        .success();
    let index = registry.index("accepted", "v1");
    assert_eq!(index.platforms(), ["linux/amd64", "linux/arm64", "linux/arm/v7"]);
    assert_eq!(index.json["mediaType"], "application/vnd.oci.image.index.v1+json");

    let raw =
        tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).success();
    assert_eq!(support::sha256(raw.stdout.as_bytes()), index.digest);
    let copy = world.folder("copy");
    tool(
        "skopeo",
        [
            "--insecure-policy",
            "copy",
            "--all",
            "--src-tls-verify=false",
            &format!("docker://{name}"),
            &format!("oci:{}:all", copy.display()),
        ],
    )
    .success();
    assert_eq!(support::Index::layout(&copy).digest, index.digest);

    for (number, image) in index.images.iter().enumerate() {
        let single = world.path(&format!("single{number}"));
        tool(
            "skopeo",
            [
                "--insecure-policy",
                "copy",
                "--src-tls-verify=false",
                &format!("docker://{}@{}", registry.name("accepted"), image.digest),
                &format!("oci:{}:one", single.display()),
            ],
        )
        .success();
        let bundle = world.path(&format!("bundle{number}"));
        let mut args = vec!["unpack".to_owned()];
        if !support::is_root() {
            args.push("--rootless".to_owned());
        }
        args.extend([
            "--image".to_owned(),
            format!("{}:one", single.display()),
            bundle.display().to_string(),
        ]);
        tool("umoci", &args).success();
        assert_eq!(std::fs::read_to_string(bundle.join("rootfs/x")).expect("x"), "x\n");
        assert!(!bundle.join("rootfs/etc/group").exists(), "a whiteout was not applied");
        let mode = std::fs::metadata(bundle.join("rootfs/t")).expect("t").permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
    }
}

#[test]
fn layers_of_the_base_are_mounted_not_sent() {
    let world = World::new();
    let context = world.context("context", DOCKERFILE);
    let outcome = world
        .build()
        .args([
            "--progress",
            "json",
            "--build-arg",
            &base(),
            "--push",
            "-t",
            &shared_registry().name("mounts:v1"),
        ])
        .arg(&context)
        .run()
        .success();
    let mounted = outcome
        .events()
        .iter()
        .filter(|event| {
            event["event"] == "pushed" && (event["how"] == "mounted" || event["how"] == "already there")
        })
        .count();
    assert!(mounted >= 2, "{}", outcome.report());
}

#[test]
fn several_names_of_one_result() {
    let world = World::new();
    let context = world.context("context", DOCKERFILE);
    let registry = shared_registry();
    world
        .build()
        .args(["--platform", "linux/amd64,linux/arm64", "--build-arg", &base(), "--push"])
        .args([
            "-t",
            &registry.name("names:v1"),
            "-t",
            &registry.name("names:latest"),
            "-t",
            &registry.name("other/place:v1"),
        ])
        .arg(&context)
        .run()
        .success();
    let digest = registry.tag("names", "v1");
    assert!(digest.is_some());
    assert_eq!(registry.tag("names", "latest"), digest);
    assert_eq!(registry.tag("other/place", "v1"), digest);
    registry.index("other/place", "v1");
}

#[test]
fn pushed_image_is_a_base_of_the_next() {
    let world = World::new();
    let registry = shared_registry();
    let context =
        world.context("first", "ARG BASE\nFROM $BASE\nENV FROM_FIRST=yes\nRUN echo first > /first\n");
    let name = registry.name("chain");
    world
        .build()
        .args(["--platform", "linux/amd64,linux/arm64", "--build-arg", &base(), "--push", "-t", &name])
        .arg(&context)
        .run()
        .success();
    let digest = registry.tag("chain", "latest").expect("a tag");
    let context =
        world.context("second", &format!("FROM {name}@{digest}\nRUN cat /first && echo env $FROM_FIRST\n"));
    world
        .build()
        .args(["--platform", "linux/amd64,linux/arm64", "--push", "-t", &registry.name("chain:second")])
        .arg(&context)
        .run()
        .success()
        .stderr_has("env yes");
    registry.index("chain", "second");
}

#[test]
fn credentials() {
    let registry = RegistryOptions::default().credentials("someone", "open-sesame").start();
    let world = World::new();
    let context = world.context("context", "FROM scratch\nCOPY a.txt /\n");
    world.write("context/a.txt", "alpha\n");
    let name = registry.name("private:v1");
    let build = || world.build().args(["--push", "-t", &name]).arg(&context);

    build().run().code(3).stderr_has(&registry.host());
    assert_eq!(registry.tag("private", "v1"), None);

    let config = docker_config(&world, &registry, "someone", "wrong-password");
    build().env("DOCKER_CONFIG", &config).run().code(3).stderr_has(&registry.host()).lacks("wrong-password");
    assert_eq!(registry.tag("private", "v1"), None);

    let config = docker_config(&world, &registry, "someone", "open-sesame");
    build().env("DOCKER_CONFIG", &config).run().success().lacks("open-sesame");
    registry.index("private", "v1");

    // As a base.
    let context = world.context("child", &format!("FROM {name}\nLABEL a=b\n"));
    world.build().arg(&context).run().code(3).stderr_has("private");
    world.build().env("DOCKER_CONFIG", &config).arg(&context).run().success();
}

#[test]
fn tokens() {
    let registry = RegistryOptions::default().credentials("someone", "open-sesame").tokens().start();
    let world = World::new();
    let config = docker_config(&world, &registry, "someone", "open-sesame");
    let context = world.context("base", "FROM scratch\nCOPY a.txt /\n");
    world.write("base/a.txt", "alpha\n");
    let base = registry.name("public/base:v1");
    let scopes_of = |from: usize| -> Vec<(bool, Vec<String>)> {
        let requests = registry.token_requests().into_iter().skip(from);
        requests.map(|request| (request.user.is_some(), request.scopes)).collect()
    };

    // A push asks for what it needs, once, and the token is not shown.
    let outcome = world
        .build()
        .env("DOCKER_CONFIG", &config)
        .args(["--progress", "json", "--platform", "linux/amd64,linux/arm64", "--push", "-t", &base])
        .arg(&context)
        .run()
        .success();
    outcome.lacks("open-sesame").lacks("eyJ");
    registry.index("public/base", "v1");
    let own = "repository:public/base:pull,push".to_owned();
    assert_eq!(scopes_of(0), [(true, vec![own])]);

    // A mount needs two scopes at once. The base can be pulled without credentials, but they are there.
    let asked = registry.token_requests().len();
    let context = world.context("child", &format!("FROM {base}\nCOPY b.txt /\n"));
    world.write("child/b.txt", "beta\n");
    let child = || {
        world
            .build()
            .args(["--progress", "json", "--platform", "linux/amd64,linux/arm64", "--push"])
            .args(["-t", &registry.name("apps/child:v1")])
            .arg(&context)
    };
    let outcome = child().env("DOCKER_CONFIG", &config).run().success();
    let mounted = outcome.events().iter().filter(|event| event["how"] == "mounted").count();
    assert_eq!(mounted, 1, "{}", outcome.report());
    let (pull, push) = ("repository:public/base:pull", "repository:apps/child:pull,push");
    let scopes = scopes_of(asked);
    for (want, times) in [(vec![pull], 1), (vec![push], 1), (vec![push, pull], 1)] {
        let found = scopes.iter().filter(|(user, scopes)| *user && *scopes == want).count();
        assert_eq!(found, times, "{want:?} of {scopes:?}");
    }
    assert_eq!(scopes.len(), 3, "{scopes:?}");
    let pushed = registry.tag("apps/child", "v1");
    registry.index("apps/child", "v1");

    // Without credentials the base can be had, and the push is refused.
    let world = World::new();
    let context = world.context("child", &format!("FROM {base}\nCOPY c.txt /\n"));
    world.write("child/c.txt", "gamma\n");
    world.build().arg(&context).run().success();
    let name = registry.name("apps/child:v1");
    let build = || world.build().args(["--push", "-t", &name]).arg(&context);
    build().run().code(3).stderr_has("apps/child").stderr_has("docker login");

    // With a wrong password not even that; it is not tried for long.
    let asked = registry.token_requests().len();
    let config = docker_config(&world, &registry, "someone", "wrong-password");
    build().env("DOCKER_CONFIG", &config).run().code(3).stderr_has(&registry.host()).lacks("wrong-password");
    let statuses: Vec<u16> =
        registry.token_requests()[asked..].iter().map(|request| request.status).collect();
    assert_eq!(statuses, [401]);
    assert_eq!(registry.tag("apps/child", "v1"), pushed);
}

#[test]
fn what_is_there_is_not_sent_again() {
    let registry = shared_registry();
    let world = World::new();
    let context = world.context("context", DOCKERFILE);
    let proxy = Proxy::start(registry.port(), Fault::None);
    let name = proxy.name("unchanged:v1");
    let build = |tag: &str| {
        world
            .build()
            .args(["--platform", PLATFORMS, "--build-arg", &base(), "--timestamp", "1700000000", "--push"])
            .args(["-t", tag])
            .arg(&context)
            .run()
            .success()
    };
    let writes = |from: usize| -> Vec<String> {
        let read = |request: &String| request.starts_with("GET ") || request.starts_with("HEAD ");
        proxy.seen().into_iter().skip(from).filter(|request| !read(request)).collect()
    };
    build(&name);
    assert!(!writes(0).is_empty());
    let before = proxy.seen().len();
    build(&name);
    assert_eq!(writes(before), [""; 0], "of {:?}", &proxy.seen()[before..]);
    // Another tag is one request that writes.
    let before = proxy.seen().len();
    build(&proxy.name("unchanged:v2"));
    assert_eq!(writes(before), ["PUT /v2/unchanged/manifests/v2"]);
    assert_eq!(registry.tag("unchanged", "v2"), registry.tag("unchanged", "v1"));
    registry.index("unchanged", "v2");
}

#[test]
fn credential_helper() {
    let registry = RegistryOptions::default().credentials("helped", "by-a-program").start();
    let world = World::new();
    let context = world.context("context", "FROM scratch\nLABEL a=b\n");
    let helper = world.write(
        "bin/docker-credential-tests",
        "#!/bin/sh\nread -r server\ntest \"$1\" = get || exit 1\n\
         printf '{\"ServerURL\":\"%s\",\"Username\":\"helped\",\"Secret\":\"by-a-program\"}' \"$server\"\n",
    );
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).expect("chmod");
    world.write("docker/config.json", format!(r#"{{"credHelpers":{{"{}":"tests"}}}}"#, registry.host()));
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", world.path("bin").display());
    world
        .build()
        .env("PATH", path)
        .env("DOCKER_CONFIG", world.path("docker"))
        .args(["--push", "-t", &registry.name("helped:v1")])
        .arg(&context)
        .run()
        .success()
        .lacks("by-a-program");
    assert!(registry.tag("helped", "v1").is_some());
}

#[test]
fn auth_file() {
    let registry = RegistryOptions::default().credentials("pod", "man").start();
    let world = World::new();
    let context = world.context("context", "FROM scratch\nLABEL a=b\n");
    let config = docker_config(&world, &registry, "pod", "man");
    world
        .build()
        .env("REGISTRY_AUTH_FILE", config.join("config.json"))
        .args(["--push", "-t", &registry.name("auth:v1")])
        .arg(&context)
        .run()
        .success();
    assert!(registry.tag("auth", "v1").is_some());
}

#[test]
fn tls() {
    let registry = RegistryOptions::default().tls().credentials("someone", "open-sesame").start();
    let world = World::new();
    let context = world.context("context", "FROM scratch\nLABEL a=b\n");
    let config = docker_config(&world, &registry, "someone", "open-sesame");
    let authority = world.write("ca.pem", std::fs::read(registry.authority()).expect("the authority"));
    let build = |tag: &str| {
        world.build().env("DOCKER_CONFIG", &config).args(["--push", "-t", &registry.name(tag)]).arg(&context)
    };

    build("tls:v1").run().code(4).stderr_has("certificate").stderr_has("--insecure-registry");
    assert_eq!(registry.tag("tls", "v1"), None, "an unknown authority was trusted");
    build("tls:v1").args(["--insecure-registry", "localhost:1"]).run().code(4);

    build("tls:v1").env("SSL_CERT_FILE", &authority).run().success();
    registry.index("tls", "v1");
    // A folder may hold other things, too.
    world.write("authorities/ca.pem", std::fs::read(&authority).expect("the authority"));
    world.write("authorities/README", "Certificates.\n");
    build("tls:v3").env("SSL_CERT_DIR", world.path("authorities")).run().success();
    registry.index("tls", "v3");
    build("tls:v4").env("SSL_CERT_DIR", world.path("nowhere")).run().code(2).stderr_has("the CA folder");
    build("tls:v2").args(["--insecure-registry", &registry.host()]).run().success();
    registry.index("tls", "v2");

    // Pulls, each into an empty store.
    let from = format!("FROM {}\nLABEL c=d\n", registry.name("tls:v1"));
    let pull = |world: &World| {
        let context = world.context("child", &from);
        world.build().env("DOCKER_CONFIG", &config).arg(&context)
    };
    pull(&World::new()).run().code(4).stderr_has("certificate").stderr_has("Dockerfile:1");
    pull(&World::new()).env("SSL_CERT_FILE", &authority).run().success();
    pull(&World::new()).args(["--insecure-registry", &registry.host()]).run().success();
}

#[test]
fn registry_that_is_down_is_worth_a_retry() {
    let registry = Registry::start();
    let name = registry.name("gone:v1");
    drop(registry);
    let world = World::new();
    let context = world.context("context", "FROM scratch\nLABEL a=b\n");
    world.build().args(["--push", "-t", &name]).arg(&context).run().code(75).stderr_has("localhost");
    let context = world.context("child", &format!("FROM {name}\nLABEL a=b\n"));
    world.build().arg(&context).run().code(75).stderr_has("localhost");
}

#[test]
fn missing_base_ends_with_code_5() {
    let world = World::new();
    for name in ["no-such-repository", "busybox:no-such-tag"] {
        let context = world.context("context", &format!("FROM {}\nRUN true\n", shared_registry().name(name)));
        world.build().arg(&context).run().code(5).stderr_has(name).stderr_has("Dockerfile:1");
    }
}
