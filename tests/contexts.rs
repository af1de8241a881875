//! Where a build's files come from: folders, archives, web and git servers, named contexts; and what
//! hostile ones must not reach.

mod support;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use support::{
    GitServer, HttpServer, Index, Item, Outcome, Page, Run, SshAgent, Tree, User, World, archive, base,
    basic, closed_port, compressed, found_nowhere, layout, shared_registry, tool, users,
};

/// Takes all of the context.
const TAKE_ALL: &str = "FROM scratch\nCOPY . /all/\n";

/// A build into the new layout `out/layout`; the context is the caller's.
fn build(world: &World) -> Run {
    // A layout keeps what was written into it before.
    let _ = std::fs::remove_dir_all(world.path("out/layout"));
    world.build().args(["--output", &layout(&world.path("out/layout"))])
}

/// What the only image in `out/layout` holds.
#[track_caller]
fn tree(world: &World) -> Tree {
    Index::layout(&world.path("out/layout")).images[0].tree()
}

/// Asserts a failure by the build's input, clear and not to be tried again.
#[track_caller]
fn refused(outcome: Outcome) -> Outcome {
    assert!([1, 2, 4, 5].contains(&outcome.exit()), "{}", outcome.report());
    outcome.stderr_has("error:")
}

/// A file of the host that nobody may see, in a folder of its own.
fn canary(world: &World) -> std::path::PathBuf {
    world.write("host/canary", "of-the-host\n")
}

/// Asserts that nothing of the host's canary is in what a build left.
#[track_caller]
fn canary_is_safe(world: &World) {
    for folder in ["out", "root", "tmp"] {
        found_nowhere(&world.path(folder), "of-the-host");
    }
    assert_eq!(std::fs::read_to_string(world.path("host/canary")).expect("the canary"), "of-the-host\n");
    assert_eq!(std::fs::read_dir(world.path("host")).expect("the folder").count(), 1);
}

// ---- folders -------------------------------------------------------------------------------------

#[test]
fn dockerfile_of_another_name_or_from_standard_input() {
    let world = World::new();
    world.write("context/a.txt", "alpha\n");
    world.write("context/sub/Other", "FROM scratch\nCOPY a.txt /other\n");
    let context = world.path("context");
    build(&world).arg("-f").arg(context.join("sub/Other")).arg(&context).run().success();
    assert_eq!(tree(&world).text("/other"), "alpha\n");
    build(&world).args(["-f", "-"]).arg(&context).input("FROM scratch\nCOPY a.txt /piped\n").run().success();
    assert_eq!(tree(&world).text("/piped"), "alpha\n");
    // Both cannot be the same stream.
    build(&world).args(["-f", "-", "-"]).input(TAKE_ALL).run().code(2);
}

#[test]
fn dockerfile_has_an_ignore_file_of_its_own() {
    let world = World::new();
    let context = world.context("context", TAKE_ALL);
    world.write("context/.dockerignore", "general\n");
    world.write("context/own.Dockerfile", TAKE_ALL);
    world.write("context/own.Dockerfile.dockerignore", "own\n");
    world.write("context/general", "");
    world.write("context/own", "");
    let has = |tree: &Tree| ["/all/general", "/all/own"].map(|path| tree.get(path).is_some());
    build(&world).arg(&context).run().success();
    assert_eq!(has(&tree(&world)), [false, true]);
    build(&world).arg("-f").arg(context.join("own.Dockerfile")).arg(&context).run().success();
    assert_eq!(has(&tree(&world)), [true, false]);
    // It lies beside the Dockerfile, which may be outside of the context.
    world.write("aside/own.Dockerfile", TAKE_ALL);
    world.write("aside/own.Dockerfile.dockerignore", "own\n");
    build(&world).arg("-f").arg(world.path("aside/own.Dockerfile")).arg(&context).run().success();
    assert_eq!(has(&tree(&world)), [true, false]);
    // An empty one of its own ignores nothing.
    world.write("context/own.Dockerfile.dockerignore", "");
    build(&world).arg("-f").arg(context.join("own.Dockerfile")).arg(&context).run().success();
    assert_eq!(has(&tree(&world)), [true, true]);
}

#[test]
fn ignored_files_are_never_read() {
    for user in users() {
        let world = World::of(user);
        let context = world.context("context", TAKE_ALL);
        world.write("context/kept", "kept\n");
        world.write("context/.dockerignore", "secret\nclosed\npipe\n");
        world.write("context/secret", "of-the-host\n");
        world.write("context/closed/inner", "of-the-host\n");
        for name in ["secret", "closed"] {
            // The files are root's where the tests run as root.
            std::fs::set_permissions(context.join(name), PermissionsExt::from_mode(0o000)).expect("chmod");
        }
        tool("mkfifo", [context.join("pipe")]).success();
        build(&world).arg(&context).run().success();
        let tree = tree(&world);
        assert_eq!(tree.text("/all/kept"), "kept\n");
        assert!(["/all/secret", "/all/closed", "/all/pipe"].iter().all(|path| tree.get(path).is_none()));
        for folder in ["out", "root"] {
            found_nowhere(&world.path(folder), "of-the-host");
        }
        std::fs::set_permissions(context.join("closed"), PermissionsExt::from_mode(0o700)).expect("chmod");
    }
}

#[test]
fn links_of_a_folder_do_not_leave_it() {
    let world = World::new();
    let canary = canary(&world);
    let context = world.context("context", TAKE_ALL);
    symlink(&canary, context.join("leak")).expect("symlink");
    symlink("/", context.join("slash")).expect("symlink");
    symlink("../../../../../../..", context.join("up")).expect("symlink");
    build(&world).arg(&context).run().success();
    assert!(tree(&world).get("/all/leak").is_some());
    let below_slash = format!("slash{}", canary.display());
    for source in ["leak", below_slash.as_str(), &below_slash.replacen("slash", "up", 1)] {
        world.write("context/Dockerfile", format!("FROM scratch\nCOPY {source} /x\n"));
        build(&world).arg(&context).run().code(1).stderr_has("not found").stderr_has("Dockerfile:2");
    }
    canary_is_safe(&world);
}

// ---- archives ------------------------------------------------------------------------------------

#[test]
fn archive_on_standard_input_or_in_a_file() {
    let world = World::new();
    let plain = archive(&[
        Item::File("Dockerfile", TAKE_ALL),
        Item::Dir("sub"),
        Item::File("sub/a.txt", "alpha\n"),
        Item::Link("sub/l", "a.txt"),
        Item::Hard("sub/h", "sub/a.txt"),
    ]);
    let mut digests = Vec::new();
    for (form, bytes) in compressed(&plain) {
        build(&world).arg("-").args(["--timestamp", "1700000000"]).input(bytes.clone()).run().success();
        let index = Index::layout(&world.path("out/layout"));
        let tree = index.images[0].tree();
        assert_eq!(tree.text("/all/sub/a.txt"), "alpha\n", "{form}");
        // Owners are not kept from a context.
        assert_eq!(tree.get("/all/sub/a.txt").expect("a file").uid, 0, "{form}");
        digests.push(index.digest);
        let file = world.write(&format!("context.{form}"), bytes);
        build(&world).args(["--timestamp", "1700000000"]).arg(file).run().success();
        digests.push(Index::layout(&world.path("out/layout")).digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "the form of an archive changes the image");
}

#[test]
fn names_in_an_archive_may_begin_with_a_dot_and_parents_may_be_missing() {
    let world = World::new();
    let bytes = archive(&[
        Item::Dir("./"),
        Item::File("./build/My.Dockerfile", "FROM scratch\nCOPY deep /deep\n"),
        Item::File("./deep/er/file", "found\n"),
    ]);
    build(&world).args(["-f", "build/My.Dockerfile", "-"]).input(bytes.clone()).run().success();
    assert_eq!(tree(&world).text("/deep/er/file"), "found\n");
    refused(build(&world).arg("-").input(bytes).run()).stderr_has("Dockerfile");
}

#[test]
fn lone_dockerfile_on_standard_input() {
    let world = World::new();
    build(&world).arg("-").input("FROM scratch\nCOPY <<EOF /made\nby itself\nEOF\n").run().success();
    assert_eq!(tree(&world).text("/made"), "by itself\n");
    build(&world)
        .arg("-")
        .input("FROM scratch\nCOPY a.txt /\n")
        .run()
        .code(1)
        .stderr_has("Dockerfile:2")
        .stderr_has("a.txt")
        .stderr_has("not found");
    refused(build(&world).arg("-").input("").run());
}

#[test]
fn damaged_archives_are_refused() {
    let world = World::new();
    let whole = archive(&[Item::File("Dockerfile", TAKE_ALL), Item::File("a", &"x".repeat(5000))]);
    for (form, bytes) in compressed(&whole) {
        // A tar archive is cut within a file's content.
        let cut = if form == "tar" { 4000 } else { bytes.len() / 2 };
        refused(build(&world).arg("-").input(&bytes[..cut]).run());
    }
}

#[test]
fn archive_does_not_leave_its_place() {
    let world = World::new();
    let canary = canary(&world);
    let host = world.path("host");
    let host = host.to_str().expect("UTF-8");
    let dockerfile = Item::File("Dockerfile", TAKE_ALL);
    let absolute = format!("{host}/made");
    let climbing = format!("../../../../../../../..{host}/made");
    for items in [
        vec![Item::File(&climbing, "made")],
        vec![Item::Link("a", host), Item::File("a/made", "made")],
        vec![Item::Link("a", "/"), Item::Link("b", "a"), Item::File("b/made", "made")],
        vec![Item::Link("a", ".."), Item::File("a/made", "made")],
        vec![Item::Hard("leak", canary.to_str().expect("UTF-8"))],
        vec![
            Item::Link("l", canary.to_str().expect("UTF-8")),
            Item::Hard("leak", "l"),
            Item::File("leak", "made"),
        ],
    ] {
        let items: Vec<_> = std::iter::once(dockerfile.clone()).chain(items).collect();
        let outcome = build(&world).arg("-").input(archive(&items)).run();
        // Either the archive is refused, or what it says is carried out within the context.
        assert!([0, 2].contains(&outcome.exit()), "{items:?}\n{}", outcome.report());
        canary_is_safe(&world);
    }
    // An absolute name is one below the context.
    build(&world).arg("-").input(archive(&[dockerfile, Item::File(&absolute, "made")])).run();
    canary_is_safe(&world);
}

#[test]
fn dockerfile_and_ignore_file_of_an_archive_are_no_links_to_the_host() {
    let world = World::new();
    let outside = world.write("host/canary", "of-the-host\n");
    let outside = outside.to_str().expect("UTF-8");
    refused(build(&world).arg("-").input(archive(&[Item::Link("Dockerfile", outside)])).run())
        .lacks("of-the-host");
    canary_is_safe(&world);
    let items = [
        Item::File("Dockerfile", "FROM scratch\nCOPY leak /leak\n"),
        Item::Link(".dockerignore", outside),
        Item::Link("leak", outside),
    ];
    build(&world).arg("-").input(archive(&items)).run().code(1).stderr_has("not found").lacks("of-the-host");
    canary_is_safe(&world);
}

// ---- web servers ---------------------------------------------------------------------------------

#[test]
fn archive_and_dockerfile_from_a_web_server() {
    let world = World::new();
    let server = HttpServer::start();
    let plain = archive(&[
        Item::File("Dockerfile", TAKE_ALL),
        Item::File("other", "FROM scratch\nCOPY a.txt /other\n"),
        Item::File("a.txt", "alpha\n"),
    ]);
    for (form, bytes) in compressed(&plain) {
        // What it is, is found in its bytes, not in its name.
        let path = format!("/{form}/context");
        server.put(&path, Page::new(bytes));
        build(&world).arg(server.url(&path)).run().success();
        assert_eq!(tree(&world).text("/all/a.txt"), "alpha\n", "{form}");
    }
    build(&world).args(["-f", "other"]).arg(server.url("/tar/context")).run().success();
    assert_eq!(tree(&world).text("/other"), "alpha\n");
    server.put("/moved", Page::redirect("/tar/context"));
    build(&world).arg(server.url("/moved")).run().success();
    server.put("/lone", Page::new("FROM scratch\nCOPY <<EOF /made\nby itself\nEOF\n"));
    build(&world).arg(server.url("/lone")).run().success();
    assert_eq!(tree(&world).text("/made"), "by itself\n");
    server.put("/lacking", Page::new("FROM scratch\nCOPY a.txt /\n"));
    build(&world).arg(server.url("/lacking")).run().code(1).stderr_has("not found");
}

#[test]
fn archive_over_tls() {
    let world = World::new();
    let server = HttpServer::start_tls();
    server.put("/context.tar", Page::new(archive(&[Item::File("Dockerfile", TAKE_ALL)])));
    let authority = world.write("ca.pem", std::fs::read(server.authority()).expect("the authority"));
    build(&world).arg(server.url("/context.tar")).env("SSL_CERT_FILE", authority).run().success();
    let outcome = build(&world).arg(server.url("/context.tar")).run();
    assert_ne!(outcome.exit(), 0, "an unknown authority was trusted");
}

#[test]
fn web_server_that_fails() {
    let world = World::new();
    let server = HttpServer::start();
    let bytes = archive(&[Item::File("Dockerfile", TAKE_ALL), Item::File("big", &"x".repeat(200_000))]);
    // What passes is tried again.
    server.put("/busy.tar", Page::new(bytes.clone()).unavailable(2));
    build(&world).arg(server.url("/busy.tar")).run().success();
    server.put("/cut.tar", Page::new(bytes.clone()).cut(1).etag("one"));
    build(&world).arg(server.url("/cut.tar")).run().success();
    server.put("/always-cut.tar", Page::new(bytes.clone()).cut(usize::MAX));
    build(&world).arg(server.url("/always-cut.tar")).run().code(75);
    refused(build(&world).arg(server.url("/missing.tar")).run()).stderr_has("404").stderr_has("missing.tar");
    let down = format!("http://localhost:{}/context.tar", closed_port());
    build(&world).arg(&down).run().code(75).stderr_has("localhost");
    server.put("/loop", Page::redirect("/loop"));
    assert_ne!(build(&world).arg(server.url("/loop")).run().exit(), 0);
    server.put("/private.tar", Page::new(bytes).basic("user", "password"));
    build(&world).arg(server.url("/private.tar")).run().code(3).stderr_has("401");
}

#[test]
fn credentials_in_an_address_reach_the_server_alone() {
    let token = "tok3n-8f3b2c71d9e64a05";
    let world = World::new();
    let (server, other) = (HttpServer::start(), HttpServer::start());
    let bytes = archive(&[Item::File("Dockerfile", TAKE_ALL), Item::File("a", "alpha\n")]);
    server.put("/private.tar", Page::new(bytes.clone()).basic("user", token));
    other.put("/public.tar", Page::new(bytes));
    server.put("/away", Page::redirect(other.url("/public.tar")));
    let address = |path: &str| server.url_with(&format!("user:{token}"), path);
    let metadata = world.path("out/metadata.json");
    build(&world)
        .arg(address("/private.tar"))
        .arg("--metadata-file")
        .arg(&metadata)
        .run()
        .success()
        .lacks(token);
    build(&world).arg(address("/away")).run().success().lacks(token);
    assert!(
        other.requests().iter().all(|request| !request.headers.contains_key("authorization")),
        "credentials went to another server"
    );
    build(&world).arg(address("/missing")).run().lacks(token);
    build(&world).arg(address("/private.tar")).args(["--progress", "json"]).run().success().lacks(token);
    for folder in ["out", "root", "tmp", "home"] {
        found_nowhere(&world.path(folder), token);
    }
}

// ---- git -----------------------------------------------------------------------------------------

/// A repository with two branches, a tag and a folder.
fn repository(server: &GitServer, name: &str) -> [String; 2] {
    let repository = server.repository(name);
    repository.write("Dockerfile", TAKE_ALL);
    repository.write("a.txt", "first\n");
    repository.write("sub/Dockerfile", "FROM scratch\nCOPY b.txt /sub\n");
    repository.write("sub/b.txt", "below\n");
    let first = repository.commit();
    repository.git(["tag", "-a", "-m", "test", "v1"]);
    repository.git(["branch", "feature/one"]);
    repository.write("a.txt", "second\n");
    let second = repository.commit();
    [first, second]
}

#[test]
fn git_repository_with_ref_and_folder() {
    for user in users() {
        let world = World::of(user);
        let (server, web) = (GitServer::start(), HttpServer::start());
        let [first, second] = repository(&server, "app");
        web.serve_git(&server.folder(), None);
        for address in [server.url("app"), web.url("/git/app.git")] {
            let full_ref = "#refs/tags/v1";
            let commits = [format!("#{first}"), format!("#{second}")];
            for (part, text) in [
                ("", "second\n"),
                ("#main", "second\n"),
                ("#v1", "first\n"),
                (full_ref, "first\n"),
                ("#feature/one", "first\n"),
                (&commits[0], "first\n"),
                (&commits[1], "second\n"),
            ] {
                build(&world).arg(format!("{address}{part}")).run().success();
                let tree = tree(&world);
                assert_eq!(tree.text("/all/a.txt"), text, "{user:?} {address}{part}");
                assert!(tree.get("/all/.git").is_none(), "{address}{part}");
                assert_eq!(tree.get("/all/a.txt").expect("a file").mode, 0o644, "{address}{part}");
            }
            for part in ["#main:sub", "#:sub", "#v1:sub/", "#main:/sub"] {
                let outcome = build(&world).arg(format!("{address}{part}")).run();
                if part == "#main:/sub" {
                    assert!([0, 2].contains(&outcome.exit()), "{}", outcome.report());
                    continue;
                }
                outcome.success();
                assert_eq!(tree(&world).text("/sub"), "below\n", "{address}{part}");
            }
            build(&world).args(["-f", "sub/Dockerfile"]).arg(&address).run().code(1).stderr_has("not found");
            refused(build(&world).arg(format!("{address}#nosuch")).run()).stderr_has("nosuch");
            refused(build(&world).arg(format!("{address}#main:nosuch")).run()).stderr_has("nosuch");
        }
        // A moved branch is noticed.
        let moved = server.repository("moved");
        moved.write("Dockerfile", TAKE_ALL);
        moved.write("a.txt", "one\n");
        moved.commit();
        build(&world).arg(server.url("moved")).run().success();
        moved.write("a.txt", "two\n");
        moved.commit();
        build(&world).arg(server.url("moved")).run().success();
        assert_eq!(tree(&world).text("/all/a.txt"), "two\n");
    }
}

#[test]
fn git_query_keys() {
    let world = World::new();
    let server = GitServer::start();
    let [first, second] = repository(&server, "app");
    let url = server.url("app");
    for (query, text) in [
        ("branch=feature/one".to_owned(), "first\n"),
        ("tag=v1".to_owned(), "first\n"),
        ("ref=main".to_owned(), "second\n"),
        (format!("commit={first}"), "first\n"),
        (format!("branch=main&commit={second}"), "second\n"),
    ] {
        build(&world).arg(format!("{url}?{query}")).run().success();
        assert_eq!(tree(&world).text("/all/a.txt"), text, "{query}");
    }
    build(&world).arg(format!("{url}?branch=main&subdir=sub")).run().success();
    assert_eq!(tree(&world).text("/sub"), "below\n");
    build(&world).arg(format!("{url}?brunch=main")).run().code(2).stderr_has("brunch");
    build(&world).arg(format!("{url}?branch=main&tag=v1")).run().code(2).stderr_has("conflict");
    // The branch has moved on from this commit.
    refused(build(&world).arg(format!("{url}?branch=main&commit={}", "0".repeat(40))).run());
}

#[test]
fn git_folder_of_a_context_is_kept_where_it_is_asked_for() {
    let world = World::new();
    let server = GitServer::start();
    repository(&server, "app");
    let url = server.url("app");
    for (value, kept) in [(None, false), (Some("0"), false), (Some("1"), true), (Some("TRUE"), true)] {
        let mut run = build(&world);
        if let Some(value) = value {
            run = run.args(["--build-arg", &format!("BUILDKIT_CONTEXT_KEEP_GIT_DIR={value}")]);
        }
        run.arg(&url).run().success().lacks("no ARG declares");
        assert_eq!(tree(&world).get("/all/.git/HEAD").is_some(), kept, "{value:?}");
    }
    let wrong = "BUILDKIT_CONTEXT_KEEP_GIT_DIR=yes";
    build(&world).args(["--build-arg", wrong]).arg(&url).run().code(2).stderr_has(wrong);
}

#[test]
fn git_submodules() {
    let world = World::new();
    let server = GitServer::start();
    let library = server.repository("library");
    library.write("lib.txt", "library\n");
    let commit = library.commit();
    let app = server.repository("app");
    app.write("Dockerfile", TAKE_ALL);
    app.submodule("vendor/library", &server.url("library"), &commit);
    app.commit();
    build(&world).arg(server.url("app")).run().success();
    assert_eq!(tree(&world).text("/all/vendor/library/lib.txt"), "library\n");
    // Its `.git` file is no more of the context than the repository's own.
    assert!(tree(&world).get("/all/vendor/library/.git").is_none());
    build(&world).arg(format!("{}?submodules=false", server.url("app"))).run().success();
    assert!(tree(&world).get("/all/vendor/library/lib.txt").is_none());
}

#[test]
fn git_repository_that_wants_a_token() {
    let token = "tok3n-0d5e7a92c1b84f36";
    let world = World::new();
    let (server, web) = (GitServer::start(), HttpServer::start());
    repository(&server, "app");
    web.serve_git(&server.folder(), Some(&basic("x-access-token", token)));
    let url = web.url("/git/app.git");
    let metadata = world.path("out/metadata.json");
    let with_token = || build(&world).env("TOKEN", token).args(["--secret", "id=GIT_AUTH_TOKEN,env=TOKEN"]);
    with_token().arg(&url).arg("--metadata-file").arg(&metadata).run().success().lacks(token);
    assert_eq!(tree(&world).text("/all/a.txt"), "second\n");
    with_token().args(["--progress", "json"]).arg(format!("{url}#nosuch")).run().lacks(token);
    let header = format!("GIT_AUTH_HEADER={}", basic("x-access-token", token));
    let file = world.write("header", header.split_once('=').expect("a value").1);
    let secret = format!("id=GIT_AUTH_HEADER,src={}", file.display());
    build(&world).args(["--secret", &secret]).arg(&url).run().success().lacks(token);
    // Without it, and with a wrong one; git must not ask on a terminal.
    build(&world).arg(&url).run().code(3);
    build(&world)
        .env("TOKEN", "wr0ng")
        .args(["--secret", "id=GIT_AUTH_TOKEN,env=TOKEN"])
        .arg(&url)
        .run()
        .code(3);
    // In the address.
    let address = web.url_with(&format!("x-access-token:{token}"), "/git/app.git");
    build(&world).arg(&address).run().success().lacks(token);
    build(&world).arg(format!("{address}#nosuch")).run().lacks(token);
    for folder in ["out", "root", "tmp", "home"] {
        found_nowhere(&world.path(folder), token);
    }
}

#[test]
fn git_server_that_is_down() {
    let world = World::new();
    let outcome = build(&world).arg(format!("git://localhost:{}/app.git", closed_port())).run();
    assert!([5, 75].contains(&outcome.exit()), "{}", outcome.report());
    outcome.stderr_has("localhost");
    let server = GitServer::start();
    refused(build(&world).arg(server.url("nosuch")).run()).stderr_has("nosuch");
}

#[test]
fn git_server_that_says_nothing_can_be_interrupted() {
    let world = World::new();
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/x.git", server.local_addr().expect("an address"));
    let context = world.context("context", &format!("FROM scratch\nADD {address} /x\n"));
    let running = world.build().arg(&context).start();
    // Once git is there, it waits for an answer that never comes.
    let _accepted = server.accept().expect("a connection");
    let begun = std::time::Instant::now();
    running.signal(rustix::process::Signal::INT);
    running.finish().code(130).stderr_has("interrupted");
    // git itself would wait for a minute.
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}

#[test]
fn git_references_are_no_options_and_folders_no_escape() {
    let world = World::new();
    let canary = canary(&world);
    let server = GitServer::start();
    let repository = server.repository("app");
    repository.write("Dockerfile", TAKE_ALL);
    repository.link("out", "/");
    repository.link("up", "../../../../../../..");
    repository.commit();
    let touched = canary.with_file_name("touched");
    let folder = canary.parent().expect("a parent").display();
    for part in [
        format!("#--upload-pack=touch {}", touched.display()),
        "#-h".to_owned(),
        "#main:..".to_owned(),
        "#main:../..".to_owned(),
        "#main:sub/../..".to_owned(),
        "#main:out".to_owned(),
        format!("#main:out{folder}"),
        format!("#main:up{folder}"),
        "#main\nx".to_owned(),
        "?ref=-x".to_owned(),
        "?subdir=../x".to_owned(),
    ] {
        let outcome = build(&world).arg(format!("{}{part}", server.url("app"))).run();
        assert!([1, 2, 5].contains(&outcome.exit()), "{part:?}\n{}", outcome.report());
        canary_is_safe(&world);
    }
    for address in [
        format!("ext::sh -c touch% {} .git", touched.display()),
        format!("git://-oProxyCommand=touch%20{}/app.git", touched.display()),
        format!("ssh://-oProxyCommand=touch%20{}/app.git", touched.display()),
        "--upload-pack=x".to_owned(),
    ] {
        let outcome = build(&world).arg("--").arg(&address).run();
        assert_ne!(outcome.exit(), 0, "{address}");
        canary_is_safe(&world);
    }
}

#[test]
fn git_repository_that_is_hostile() {
    let world = World::new();
    let canary = canary(&world);
    let server = GitServer::start();
    let outside = canary.to_str().expect("UTF-8");
    let links = server.repository("links");
    links.write("Dockerfile", TAKE_ALL);
    links.write("Leak", "FROM scratch\nCOPY leak /leak\n");
    links.link("Linked", outside);
    links.link("leak", outside);
    links.link(".dockerignore", outside);
    links.commit();
    build(&world).arg(server.url("links")).run().success();
    assert!(tree(&world).get("/all/leak").is_some(), "a link stays a link");
    build(&world).args(["-f", "Leak"]).arg(server.url("links")).run().code(1).stderr_has("not found");
    refused(build(&world).args(["-f", "Linked"]).arg(server.url("links")).run()).lacks("of-the-host");
    canary_is_safe(&world);

    // Submodules by protocols that reach the host: a local repository, a command.
    let local = server.repository("local");
    local.write("stolen", "of-the-host\n");
    let commit = local.commit();
    for (name, url) in [
        ("file", format!("file://{}", local.work().display())),
        ("path", local.work().display().to_string()),
        ("ext", format!("ext::sh -c touch% {outside}2")),
    ] {
        let app = server.repository(name);
        app.write("Dockerfile", TAKE_ALL);
        app.submodule("vendor", &url, &commit);
        app.commit();
        refused(build(&world).arg(server.url(name)).run());
        canary_is_safe(&world);
    }
}

#[test]
fn git_uses_nobodys_configuration() {
    let world = World::new();
    let server = GitServer::start();
    repository(&server, "app");
    let touched = canary(&world).with_file_name("touched");
    let port = closed_port();
    world.write(
        "home/.gitconfig",
        format!(
            "[url \"git://localhost:{port}/\"]\n\tinsteadOf = {}\n[core]\n\tfsmonitor = touch {touched}\n\
             \tgitProxy = /bin/false\n\thooksPath = /nonexistent\n[include]\n\tpath = /nonexistent/config\n",
            server.url("").trim_end_matches(".git"),
            touched = touched.display()
        ),
    );
    build(&world)
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "core.gitProxy")
        .env("GIT_CONFIG_VALUE_0", "/bin/false")
        .env("GIT_DIR", "/nonexistent")
        .arg(server.url("app"))
        .run()
        .success();
    canary_is_safe(&world);
}

#[test]
fn git_over_ssh_needs_ssh_to_be_given() {
    let world = World::new();
    let agent = SshAgent::start(&world);
    let port = closed_port();
    let url = format!("ssh://git@localhost:{port}/app.git");
    let outcome =
        build(&world).args(["--ssh", &format!("default={}", agent.socket().display())]).arg(&url).run();
    assert!([5, 75].contains(&outcome.exit()), "{}", outcome.report());
    outcome.stderr_has("localhost");
}

// ---- named contexts ------------------------------------------------------------------------------

#[test]
fn named_contexts_of_all_kinds() {
    let world = World::new();
    let (server, web) = (GitServer::start(), HttpServer::start());
    repository(&server, "app");
    web.put("/named.tar.gz", Page::new(compressed(&archive(&[Item::File("a.txt", "web\n")]))[1].1.clone()));
    world.write("named/a.txt", "folder\n");
    world.write("named/ignored.txt", "");
    world.write("named/.dockerignore", "ignored.txt\n");
    let image = world.context("image", "FROM scratch\nCOPY a.txt /\n");
    world.write("image/a.txt", "image\n");
    let pushed = shared_registry().name("contexts/named:latest");
    world.build().args(["--push", "-t", &pushed]).arg(&image).run().success();
    let oci = world.path("out/named");
    world.build().args(["-t", "named:latest", "--output", &layout(&oci)]).arg(&image).run().success();
    let oci_digest = Index::layout(&oci).digest;
    let registry_digest = shared_registry().index("contexts/named", "latest").digest;
    let context = world.context("context", "FROM scratch\nCOPY --from=data / /data/\n");
    let folder = world.path("named");
    let name = pushed.trim_end_matches(":latest");
    for (value, text) in [
        (folder.display().to_string(), "folder\n"),
        ("../named".to_owned(), "folder\n"),
        (format!("docker-image://{pushed}"), "image\n"),
        (format!("docker-image://{name}@{registry_digest}"), "image\n"),
        (format!("oci-layout://{}", oci.display()), "image\n"),
        (format!("oci-layout://{}:latest", oci.display()), "image\n"),
        (format!("oci-layout://{}@{oci_digest}", oci.display()), "image\n"),
        (web.url("/named.tar.gz"), "web\n"),
        (server.url("app"), "second\n"),
        (format!("{}#v1", server.url("app")), "first\n"),
    ] {
        build(&world)
            .dir(&context)
            .args(["--build-context", &format!("data={value}")])
            .arg(&context)
            .run()
            .success();
        let tree = tree(&world);
        assert_eq!(tree.text("/data/a.txt"), text, "{value}");
        assert!(tree.get("/data/ignored.txt").is_none(), "{value}");
    }
    for value in [
        "data=/nonexistent".to_owned(),
        "data".to_owned(),
        "=x".to_owned(),
        format!("data=oci-layout://{}:nosuch", oci.display()),
        format!("data=docker-image://{name}:nosuch"),
    ] {
        refused(build(&world).args(["--build-context", &value]).arg(&context).run());
    }
}

#[test]
fn named_context_replaces_images_and_stages() {
    let world = World::new();
    let image = world.context("image", "ARG BASE\nFROM $BASE\nRUN echo other > /which\nENV WHICH=other\n");
    let other = shared_registry().name("contexts/other:latest");
    world.build().args(["--push", "-t", &other, "--build-arg", &base()]).arg(&image).run().success();
    world.write("named/which", "folder\n");
    let context = world.path("context");
    let folder = format!("={}", world.path("named").display());
    let image = format!("=docker-image://{other}");
    let run = |dockerfile: &str, value: &str| {
        world.write("context/Dockerfile", dockerfile);
        build(&world).args(["--build-context", value, "--build-arg", &base()]).arg(&context).run().success();
        tree(&world)
    };
    // An image in FROM, by each form of its name, with its configuration.
    for name in ["alpine", "alpine:latest", "docker.io/library/alpine", "docker.io/library/alpine:latest"] {
        let tree = run("FROM alpine\nRUN echo $WHICH > /env\n", &format!("{name}{image}"));
        assert_eq!(tree.text("/which") + &tree.text("/env"), "other\nother\n", "{name}");
    }
    run("FROM alpine:3.20 AS x\n", &format!("alpine:3.20{image}"));
    // An image in COPY --from and in a mount.
    for value in [&image, &folder] {
        let text = if value == &image { "other\n" } else { "folder\n" };
        let value = format!("docker.io/library/tools:1{value}");
        assert_eq!(run("FROM scratch\nCOPY --from=tools:1 /which /w\n", &value).text("/w"), text);
        let mount = "ARG BASE\nFROM $BASE\nRUN --mount=from=tools:1,target=/t cat /t/which > /w\n";
        assert_eq!(run(mount, &value).text("/w"), text);
    }
    // A whole stage: what it would run is not run.
    let stages = "ARG BASE\nFROM $BASE AS made\nRUN false\nFROM scratch\nCOPY --from=made /which /w\n";
    assert_eq!(run(stages, &format!("made{folder}")).text("/w"), "folder\n");
    assert_eq!(run(stages, &format!("made{image}")).text("/w"), "other\n");
    let stages = "ARG BASE\nFROM $BASE AS made\nRUN false\nFROM made\nRUN echo $WHICH > /w\n";
    assert_eq!(run(stages, &format!("made{image}")).text("/w"), "other\n");
    // Nothing at all.
    assert!(run("FROM alpine\nCOPY Dockerfile /d\n", "alpine=docker-image://scratch").get("/d").is_some());
}

#[test]
fn file_of_a_web_server_that_changes() {
    let (world, web) = (World::new(), HttpServer::start());
    let dockerfile = format!("FROM scratch\nADD {} {} /\n", web.url("/tagged"), web.url("/bare"));
    let context = world.context("context", &dockerfile);
    let sizes = || {
        build(&world).arg(&context).run().success();
        let tree = tree(&world);
        tree.text("/tagged") + &tree.text("/bare")
    };
    web.put("/tagged", Page::new("1\n").etag("one"));
    web.put("/bare", Page::new("1\n"));
    assert_eq!(sizes(), "1\n1\n");
    web.put("/tagged", Page::new("2\n").etag("two"));
    assert_eq!(sizes(), "2\n1\n");
    web.put("/bare", Page::new("2\n"));
    assert_eq!(sizes(), "2\n2\n");
    // Back to what an earlier build has had.
    web.put("/tagged", Page::new("1\n").etag("one"));
    web.put("/bare", Page::new("1\n"));
    assert_eq!(sizes(), "1\n1\n");
}

#[test]
fn layout_of_two_platforms_replaces_a_stage_for_one() {
    let world = World::new();
    let image =
        world.context("image", "ARG BASE\nFROM $BASE\nARG TARGETARCH\nRUN echo layout $TARGETARCH > /who\n");
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    let oci = world.path("out/both");
    world
        .build()
        .args(platforms)
        .args(["--build-arg", &base(), "--output", &layout(&oci)])
        .arg(&image)
        .run()
        .success();
    let stages = "ARG BASE\nFROM $BASE AS made\nARG TARGETARCH\nRUN echo stage $TARGETARCH > /who\n\
                  FROM made\nRUN echo $(uname -m) >> /who\n";
    let context = world.context("context", stages);
    let named = format!("made::linux/arm64=oci-layout://{}", oci.display());
    build(&world)
        .args(platforms)
        .args(["--build-arg", &base(), "--build-context", &named])
        .arg(&context)
        .run()
        .success();
    let index = Index::layout(&world.path("out/layout"));
    assert_eq!(index.image("linux/amd64").tree().text("/who"), "stage amd64\nx86_64\n");
    assert_eq!(index.image("linux/arm64").tree().text("/who"), "layout arm64\naarch64\n");
}

#[test]
fn named_context_for_one_platform() {
    let world = World::new();
    let context = world.context("context", "FROM scratch\nCOPY --from=data /a.txt /\n");
    world.write("general/a.txt", "general\n");
    world.write("arm/a.txt", "arm\n");
    let value = |name: &str, folder: &str| format!("{name}={}", world.path(folder).display());
    build(&world)
        .args(["--platform", "linux/amd64,linux/arm64"])
        .args(["--build-context", &value("data", "general"), "--build-context"])
        .arg(value("data::linux/arm64", "arm"))
        .arg(&context)
        .run()
        .success();
    let index = Index::layout(&world.path("out/layout"));
    assert_eq!(index.image("linux/amd64").tree().text("/a.txt"), "general\n");
    assert_eq!(index.image("linux/arm64").tree().text("/a.txt"), "arm\n");
}

#[test]
fn images_of_a_named_context_are_for_the_platform_of_the_stage() {
    let world = World::new();
    let context = world.context("context", "FROM tools\nRUN uname -m > /machine\n");
    let image = format!("tools=docker-image://{}", shared_registry().name("busybox"));
    build(&world)
        .args(["--platform", "linux/amd64,linux/arm64", "--build-context", &image])
        .arg(&context)
        .run()
        .success();
    let index = Index::layout(&world.path("out/layout"));
    assert_eq!(index.image("linux/amd64").tree().text("/machine"), "x86_64\n");
    assert_eq!(index.image("linux/arm64").tree().text("/machine"), "aarch64\n");
}

// ---- the examples --------------------------------------------------------------------------------

#[test]
fn example_static_site() {
    let world = World::of(User::Plain);
    let context = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/static-site");
    // The project's folder may be closed to the plain user.
    tool("cp", ["-r", context.to_str().expect("UTF-8"), world.path("site").to_str().expect("UTF-8")])
        .success();
    build(&world)
        .args(["--platform", "linux/amd64,linux/arm64,linux/riscv64"])
        .arg(world.path("site"))
        .run()
        .success();
    let index = Index::layout(&world.path("out/layout"));
    let tree = index.images[0].tree();
    assert!(tree.text("/srv/www/index.html").contains("<title>"));
    assert!(tree.get("/srv/www/draft.html").is_none());
    // The files are the same on every platform, and so are the layers.
    let layers =
        |at: usize| index.images[at].layers.iter().map(|layer| layer.digest.clone()).collect::<Vec<_>>();
    assert!(layers(0) == layers(1) && layers(1) == layers(2));
}
