//! The same inputs give the same bytes.

mod support;

use std::time::Duration;

use support::{
    GitServer, HttpServer, Index, Item, Page, User, World, archive, base, compressed, layout, sha256, users,
};

const DOCKERFILE: &str = "ARG BASE\n\
    FROM --platform=$BUILDPLATFORM $BASE AS build\n\
    RUN date > /date && echo constant > /constant && touch -d @1000000000 /constant\n\
    FROM $BASE\n\
    ENV A=1\n\
    WORKDIR /w/x\n\
    COPY . .\n\
    COPY --from=build /constant /\n\
    RUN for i in 3 1 2; do echo $i > /f$i; done && mkdir -p /d/e && ln /f1 /d/hard && rm /etc/group && seq 1 50000 > /big\n\
    RUN rm -r /d && mkdir /d && echo new > /d/new && chown 1000:1001 /f2 && chmod 4755 /f3\n\
    USER app\n\
    CMD [\"sh\"]\n";

/// Builds in a world of its own and gives back what came out.
fn build(time: (&str, &str), jobs: &str) -> Index {
    let world = World::new();
    let context = world.context("context", DOCKERFILE);
    world.write("context/a.txt", "alpha\n");
    world.write("context/sub/b.txt", "beta\n");
    let out = world.path("out/layout");
    let mut run = world.build();
    run = if time.0.starts_with("--") { run.args([time.0, time.1]) } else { run.env(time.0, time.1) };
    run.args(["--no-cache", "--platform", "linux/amd64,linux/arm64", "--jobs", jobs, "--build-arg", &base()])
        .args(["-o", &format!("type=oci,tar=false,dest={}", out.display())])
        .arg(&context)
        .run()
        .success();
    Index::layout(&out)
}

#[test]
fn separate_stores_give_the_same_index() {
    let first = build(("SOURCE_DATE_EPOCH", "1700000000"), "1");
    std::thread::sleep(Duration::from_millis(1100));
    let second = build(("SOURCE_DATE_EPOCH", "1700000000"), "4");
    for (one, two) in first.images.iter().zip(&second.images) {
        assert_eq!(one.tree().lines(), two.tree().lines());
        assert_eq!(one.config, two.config);
        assert_eq!(one.manifest, two.manifest);
    }
    assert_eq!(first.digest, second.digest);
    assert_eq!(build(("--timestamp", "1700000000"), "2").digest, first.digest);
}

#[test]
fn times_are_clamped_and_dates_fixed() {
    let index = build(("SOURCE_DATE_EPOCH", "1700000000"), "2");
    for image in &index.images {
        assert_eq!(image.config["created"], "2023-11-14T22:13:20Z");
        for entry in image.history() {
            assert_eq!(entry["created"], "2023-11-14T22:13:20Z", "{entry}");
        }
        for (path, node) in image.tree().iter() {
            assert!(node.mtime <= 1_700_000_000, "{} is of {}", support::escape(path), node.mtime);
        }
        assert_eq!(image.tree().get("/constant").expect("constant").mtime, 1_000_000_000);
    }
    // Another time gives another index.
    assert_ne!(build(("SOURCE_DATE_EPOCH", "1600000000"), "2").digest, index.digest);
}

#[test]
fn time_in_the_dockerfile_counts_where_none_is_given_otherwise() {
    let world = World::new();
    let context = world
        .context("context", "ARG BASE\nARG SOURCE_DATE_EPOCH=7\nFROM $BASE\nRUN touch /file\nLABEL a=b\n");
    let created = |name: &str, given: Option<&str>| {
        let out = world.path(&format!("out/{name}"));
        let mut run = world.build().args(["--build-arg", &base()]);
        if let Some(seconds) = given {
            run = run.env("SOURCE_DATE_EPOCH", seconds);
        }
        run.args(["-o", &format!("type=oci,tar=false,dest={}", out.display())]).arg(&context).run().success();
        Index::layout(&out).images[0].config["created"].clone()
    };
    assert_eq!(created("given", Some("9")), "1970-01-01T00:00:09Z");
    assert_eq!(created("default", None), "1970-01-01T00:00:07Z");
}

/// Every kind of source, mount and trigger, for two platforms and a stage of the building machine.
const EVERYTHING: &str = r#"# syntax=docker/dockerfile:1
ARG BASE
FROM scratch AS files
COPY --link a.txt /f/
COPY --link --chmod=750 <<one <<"two" /f/
expanded ${PATH:+yes}
one
literal $PATH
two

FROM $BASE AS parent
RUN mkdir -p /o/old && ln -s /o /l && echo kept > /o/kept
ONBUILD ARG WHO=nobody
ONBUILD COPY --link --from=files /f /l/
ONBUILD RUN --mount=type=cache,target=/c echo $WHO > /who && rm -r /o/old && date > /c/date

FROM --platform=$BUILDPLATFORM $BASE AS tools
RUN --mount=target=/src,rw --mount=type=tmpfs,target=/t --mount=type=secret,id=word,required \
    cp -r /src/sub /t/ && touch /src/new && cp -r /t/sub /sub && date > /date && date > /sub/.date && rm /sub/.date

FROM parent
ARG WEB
ARG GIT
ARG SUM
ADD --chown=5:6 $WEB/file.txt tree.tar.gz a.txt $GIT#v1:sub /added/
ADD --link --checksum=$SUM $WEB/file.txt /summed
ADD --keep-git-dir $GIT /repository
ADD --unpack $WEB/tree.tar /unpacked/
COPY --parents --exclude=**/*.md ./*/./deep/** sub/./deep /parents/
COPY --link --chown=app --from=tools /sub /linked/sub
COPY --from=data --chmod=u=rwX,go= / /data/
WORKDIR /w/x
USER app
WORKDIR owned
RUN --mount=from=data,target=/mnt --mount=from=tools,source=/sub,target=/tools <<E
set -e
cp -r /mnt/. .
cp -r /tools .
ln -s a link && mkfifo fifo
E
USER root
COPY --link a.txt /l/
RUN rm -r /l && ln /added/a.txt /added/hard && chmod 4755 /who && find / -xdev -name a.txt | sort > /list
HEALTHCHECK --interval=5s CMD true
CMD ["sh"]
"#;

#[test]
fn everything_at_once_gives_the_same_index_for_everybody() {
    let (web, git) = (HttpServer::start(), GitServer::start());
    let repository = git.repository("app");
    repository.write("sub/in-git", "git\n");
    repository.write("a.txt", "first\n");
    repository.commit();
    repository.git(["tag", "v1"]);
    repository.write("a.txt", "second\n");
    repository.commit();
    let plain = archive(&[Item::File("tree/b.txt", "beta\n"), Item::File("c.txt", "gamma\n")]);
    web.put("/file.txt", Page::new("of the web\n").modified("Tue, 14 Nov 2023 22:13:20 GMT").etag("1"));
    web.put("/tree.tar", Page::new(plain.clone()));
    let packed = compressed(&plain)[1].1.clone();
    let sum = sha256(b"of the web\n");
    let mut results = Vec::new();
    for user in users() {
        let world = World::of(user);
        let context = world.context("context", EVERYTHING);
        world.write("context/a.txt", "alpha\n");
        world.write("context/sub/deep/b.txt", "beta\n");
        world.write("context/sub/deep/read.md", "");
        world.write("context/tree.tar.gz", &packed);
        world.write("data/a", "named\n");
        world.write("word", "secret\n");
        let named = format!("data={}", world.path("data").display());
        let secret = format!("id=word,src={}", world.path("word").display());
        for (name, extra) in
            [("first", ["--jobs", "1"]), ("cached", ["--jobs", "4"]), ("anew", ["--no-cache", "--pull"])]
        {
            let out = world.path(&format!("out/{name}"));
            world
                .build()
                .args(["--platform", "linux/amd64,linux/arm64", "--timestamp", "1700000000"])
                .args(["--build-arg", &base(), "--build-arg", "WHO=me"])
                .args(["--build-arg", &format!("WEB={}", web.url(""))])
                .args(["--build-arg", &format!("SUM={sum}")])
                .args(["--build-arg", &format!("GIT={}", git.url("app"))])
                .args(["--build-context", &named, "--secret", &secret, "--output", &layout(&out)])
                .args(extra)
                .arg(&context)
                .run()
                .success();
            results.push((user, name, Index::layout(&out)));
            std::thread::sleep(Duration::from_millis(1100));
        }
    }
    let (_, _, first) = &results[0];
    for image in &first.images {
        let tree = image.tree();
        assert_eq!(tree.text("/added/file.txt"), "of the web\n");
        assert_eq!(tree.text("/added/tree/b.txt") + &tree.text("/added/in-git"), "beta\ngit\n");
        assert_eq!(tree.text("/repository/a.txt"), "second\n");
        assert!(tree.get("/repository/.git/HEAD").is_some());
        assert!(tree.get("/parents/deep/b.txt").is_some() && tree.get("/parents/deep/read.md").is_none());
        assert!(tree.get("/l").is_none() && tree.get("/o/old").is_none());
        assert_eq!(tree.text("/o/kept") + &tree.text("/who"), "kept\nme\n");
        assert_eq!(tree.text("/w/x/owned/a") + &tree.text("/w/x/owned/tools/deep/b.txt"), "named\nbeta\n");
    }
    for (user, name, index) in &results {
        for (one, two) in first.images.iter().zip(&index.images) {
            assert_eq!(one.tree().lines(), two.tree().lines(), "{user:?} {name}");
            assert_eq!(one.config, two.config, "{user:?} {name}");
        }
        assert_eq!(index.digest, first.digest, "{user:?} {name}");
    }
}

#[test]
fn base_with_triggers_gives_what_its_instructions_would() {
    let world = World::of(User::Plain);
    let parent = support::shared_registry().name("determinism/parent:latest");
    let copy = "COPY --link a.txt /x/";
    let run = "RUN cp /x/a.txt /y";
    let heredoc = "COPY <<E /z\n$PATH\nE";
    let variable = "ENV WHO=$WHO";
    let build = |name: &str, dockerfile: &str, args: &[&str]| {
        let context = world.context(name, dockerfile);
        world.write(&format!("{name}/a.txt"), "alpha\n");
        let out = world.path(&format!("out/{name}"));
        let outcome = world
            .build()
            .args(["--platform", "linux/amd64,linux/arm64", "--timestamp", "1700000000"])
            .args(["--build-arg", &base(), "--output", &layout(&out)])
            .args(args)
            .arg(&context)
            .run()
            .success();
        (outcome, Index::layout(&out))
    };
    let lines = [copy, run, heredoc, "ARG WHO", variable];
    let triggers = lines.map(|line| format!("ONBUILD {line}\n")).concat();
    let dockerfile = format!("ARG BASE\nFROM $BASE\n{triggers}");
    build("parent", &dockerfile, &["--push", "-t", &parent]);
    let who = ["--build-arg", "WHO=me"];
    let (outcome, child) = build("child", &format!("FROM {parent}\nCOPY a.txt /own\n"), &who);
    // The argument is declared by the base, and what the base has left is counted.
    outcome
        .lacks("build argument WHO")
        .stderr_has("1/5] FROM")
        .stderr_has("2/5] ONBUILD COPY --link")
        .stderr_has("5/5] COPY a.txt /own");
    let dockerfile = format!("ARG BASE\nFROM $BASE\n{}\nCOPY a.txt /own\n", lines.join("\n"));
    let (_, plain) = build("plain", &dockerfile, &who);
    for (one, two) in child.images.iter().zip(&plain.images) {
        assert_eq!(one.config, two.config);
        assert_eq!(one.manifest, two.manifest);
    }
    assert_eq!(child.images[0].run_config()["OnBuild"], serde_json::Value::Null);
}
