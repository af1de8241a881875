//! `fanfold check`: findings, exit codes, the outline, and what builds say of the same.

mod support;

use serde_json::Value;
use support::{Run, User, World, base, native_platform};

/// `fanfold check` of a context, with this world's store.
fn check(world: &World, context: &str) -> Run {
    let root = world.root();
    world.fanfold([
        "check",
        "--root",
        root.to_str().expect("UTF-8"),
        world.path(context).to_str().expect("UTF-8"),
    ])
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Rule, severity, line and column of each finding.
fn findings(report: &Value) -> Vec<(String, String, u64, u64)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let each = report["findings"].as_array().expect("a list").iter();
    each.map(|f| (text(&f["rule"]), text(&f["severity"]), number(&f["line"]), number(&f["column"]))).collect()
}

const FLAWED: &str = "\
FROM scratch AS Build
COPY app.log gone.txt /
EXPOSE 443/TCP

FROM scratch
LABEL v=$VERSION
STOPSIGNAL SIGFOO
CMD run this
";

#[test]
fn text_has_place_source_caret_and_advice() {
    let world = World::new();
    world.context("a", FLAWED);
    world.write("a/.dockerignore", "# logs\n*.log\n");
    world.write("a/app.log", "x");
    let outcome = check(&world, "a").run();
    assert_eq!(outcome.exit(), 1, "{}", outcome.report());
    let want = "\
warning: StageNameCasing: Stage name 'Build' should be lowercase
 --> Dockerfile:1:17
  |
1 | FROM scratch AS Build
  |                 ^^^^^
hint: write stage names in lower case

warning: CopyIgnoredFile: Attempting to Copy file \"app.log\" that is excluded by .dockerignore
 --> Dockerfile:2:6
  |
2 | COPY app.log gone.txt /
  |      ^^^^^^^
hint: the rule is .dockerignore:2: *.log

error: \"/app.log\": not found
 --> Dockerfile:2:6
  |
2 | COPY app.log gone.txt /
  |      ^^^^^^^
hint: it is ignored by .dockerignore:2: *.log

warning: ExposeProtoCasing: Defined protocol '443/TCP' in EXPOSE instruction should be lowercase
 --> Dockerfile:3:8
  |
3 | EXPOSE 443/TCP
  |        ^^^^^^^

warning: UndefinedVar: Usage of undefined variable '$VERSION'
 --> Dockerfile:6:9
  |
6 | LABEL v=$VERSION
  |         ^^^^^^^^
hint: no ARG or ENV of the stage sets it: declare it above this line

error: invalid signal: SIGFOO
 --> Dockerfile:7:12
  |
7 | STOPSIGNAL SIGFOO
  |            ^^^^^^

warning: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
 --> Dockerfile:8:5
  |
8 | CMD run this
  |     ^^^^^^^^
hint: write it as a JSON array, e.g. `[\"program\", \"argument\"]`

Dockerfile: 2 errors, 5 warnings
";
    assert_eq!(outcome.stdout, want);
    assert_eq!(outcome.stderr, "");
}

#[test]
fn json_has_the_same_and_so_has_build() {
    let world = World::new();
    world.context("a", FLAWED);
    world.write("a/app.log", "x");
    world.write("a/gone.txt", "x");
    let outcome = check(&world, "a").args(["--format", "json"]).run();
    assert_eq!(outcome.exit(), 1, "{}", outcome.report());
    let report = json(&outcome.stdout);
    let own = |rule: &str, severity: &str, line, column| (rule.to_owned(), severity.to_owned(), line, column);
    let want = [
        own("StageNameCasing", "warning", 1, 17),
        own("ExposeProtoCasing", "warning", 3, 8),
        own("UndefinedVar", "warning", 6, 9),
        own("-", "error", 7, 12),
        own("JSONArgsRecommended", "warning", 8, 5),
    ];
    assert_eq!(findings(&report), want);
    assert_eq!(report["file"], "Dockerfile");
    assert_eq!((&report["errors"], &report["failed"]), (&Value::from(1), &Value::from(true)));
    let context = world.path("a");
    for arguments in [&["--check"][..], &["--call", "check"], &["--call=check,format=json"]] {
        let again = world.build().args(arguments).arg(&context).run();
        assert_eq!(again.exit(), 1, "{}", again.report());
        if arguments[0].ends_with("json") {
            assert_eq!(json(&again.stdout), report);
        } else {
            again.stdout_has("--> Dockerfile:7:12");
        }
    }
}

#[test]
fn exit_codes() {
    let world = World::new();
    for (name, dockerfile, code) in [
        ("clean", "FROM scratch\nCMD [\"/a\"]\n", 0),
        ("warning", "FROM scratch\nCMD a\n", 0),
        ("strict", "# check=error=true\nFROM scratch\nCMD a\n", 1),
        ("strict-and-clean", "# check=error=true\nFROM scratch\n", 0),
        ("strict-and-skipped", "# check=error=true;skip=JSONArgsRecommended\nFROM scratch\nCMD a\n", 0),
        ("plan", "FROM scratch\nCOPY --from=7 a b\n", 1),
        ("unreached", "FROM scratch\nCOPY --from=7 a b\nFROM scratch\n", 1),
        ("syntax", "FROM scratch\nRUM a\n", 1),
        ("empty", "", 1),
    ] {
        world.context(name, dockerfile);
        let outcome = check(&world, name).run();
        assert_eq!(outcome.exit(), code, "{name}: {}", outcome.report());
        let outcome = check(&world, name).args(["--format", "json"]).run();
        assert_eq!(outcome.exit(), code, "{name}: {}", outcome.report());
        assert_eq!(json(&outcome.stdout)["failed"], Value::from(code == 1), "{name}");
    }
    check(&world, "clean").run().stdout_has("Dockerfile: no findings");
    check(&world, "strict").run().stdout_has("error: lint violation found for rules: JSONArgsRecommended");
    for (context, arguments) in [
        ("nowhere", &[][..]),
        ("clean", &["--platform", "x/y/z/w"]),
        ("clean", &["--format", "xml"]),
        ("clean", &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip"]),
    ] {
        let outcome = check(&world, context).args(arguments.iter().copied()).run();
        assert_eq!(outcome.exit(), 2, "{context} {arguments:?}: {}", outcome.report());
    }
    let outcome = world.build().args(["--call", "outlne"]).arg(world.path("clean")).run();
    assert_eq!(outcome.exit(), 2, "{}", outcome.report());
    outcome.stderr_has("did you mean outline?");
}

#[test]
fn a_parse_error_has_the_form_of_a_finding() {
    let world = World::new();
    world.context("a", "FROM scratch\n  RUN --nework=none a\n");
    let outcome = check(&world, "a").args(["--format", "json"]).run();
    let report = json(&outcome.stdout);
    assert_eq!(findings(&report), [("SyntaxError".to_owned(), "error".to_owned(), 2, 7)]);
    assert_eq!(report["findings"][0]["message"], "unknown flag: --nework (did you mean network?)");
}

#[test]
fn bases_count_and_one_that_is_out_of_reach_is_no_error() {
    let world = World::new();
    world.context("a", "ARG BASE\nFROM $BASE\nFROM localhost:9/nowhere/app:1 AS app\nCOPY --from=ap /a /b\n");
    let run = || {
        let run = check(&world, "a").args(["--format", "json", "--build-arg", &base()]);
        run.args(["--platform", "linux/amd64,linux/mips64le"])
    };
    let outcome = run().run();
    assert_eq!(outcome.exit(), 1, "{}", outcome.report());
    let report = json(&outcome.stdout);
    let found = findings(&report);
    let has = |rule: &str, severity: &str, line| {
        found.iter().any(|(r, s, l, _)| (r.as_str(), s.as_str(), *l) == (rule, severity, line))
    };
    assert!(has("InvalidBaseImagePlatform", "error", 2), "{report}");
    assert!(has("-", "info", 3), "{report}");
    assert!(report.to_string().contains("did you mean the stage app?"), "{report}");
    assert_eq!(report["errors"], 1, "{report}");
    // Nothing that a check could not look at is an error.
    world.context("b", "# check=error=true\nFROM localhost:9/nowhere/app:1\n");
    let outcome = check(&world, "b").run();
    assert_eq!(outcome.exit(), 0, "{}", outcome.report());
    outcome.stdout_has("info: the base could not be looked at").stdout_has("Dockerfile: 1 info");
}

const OUTLINED: &str = "\
# VERSION is what is built
ARG VERSION=1
ARG BASE

# build compiles it
FROM --platform=$BUILDPLATFORM $BASE AS build
ARG GOFLAGS
RUN --mount=type=cache,target=/cache --mount=type=secret,id=token,required=true true
RUN --mount=type=ssh,id=git --mount=type=secret,id=note true

FROM scratch AS files
COPY a.txt /

FROM $BASE AS final
COPY --from=build /etc/passwd /p
COPY --from=files / /
RUN true

FROM scratch AS unused
";

fn outlined(world: &World) -> Run {
    world.context("a", OUTLINED);
    world.write("a/a.txt", "a");
    let run = check(world, "a").args(["--outline", "--target", "final", "--build-arg", &base()]);
    run.args(["--platform", "linux/amd64,linux/arm64,linux/s390x"])
}

#[test]
fn outline_as_text() {
    for user in support::users() {
        let world = World::of(user);
        let outcome = outlined(&world).run().success();
        let line = |start: &str| {
            let mut lines = outcome.stdout.lines().filter(|line| line.starts_with(start));
            lines.next_back().unwrap_or_else(|| panic!("no line {start}\n{}", outcome.report())).to_owned()
        };
        assert!(line("VERSION").contains("is what is built"), "{}", outcome.report());
        assert!(line("token").ends_with("required"), "{}", outcome.report());
        assert!(line("note").ends_with("optional"), "{}", outcome.report());
        assert!(line("git").contains("line 9, build"), "{}", outcome.report());
        assert!(line("/cache").contains("line 8"), "{}", outcome.report());
        assert_eq!(line("build").matches("native").count(), 3, "{}", outcome.report());
        assert_eq!(line("build").matches("shared").count(), 3, "{}", outcome.report());
        assert_eq!(line("files").matches("no RUN, shared").count(), 3, "{}", outcome.report());
        assert_eq!(line("final").matches("emulated by qemu-").count(), 2, "{}", outcome.report());
        assert_eq!(line("unused").matches("not needed").count(), 3, "{}", outcome.report());
        outcome.stdout_has("final (target)").stdout_has("compiles it");
    }
}

#[test]
fn outline_as_json_and_what_cannot_run() {
    let world = World::new();
    let outcome = outlined(&world).args(["--format", "json"]).run().success();
    let outline = json(&outcome.stdout);
    assert_eq!(outline["target"], "final");
    let stage = |name: &str| {
        let stages = outline["stages"].as_array().expect("stages");
        stages
            .iter()
            .find(|stage| stage["name"] == name)
            .unwrap_or_else(|| panic!("{name}: {outline}"))
            .clone()
    };
    let build = stage("build");
    assert_eq!(build["description"], "compiles it");
    for on in build["platforms"].as_array().expect("platforms") {
        assert_eq!((&on["platform"], &on["execution"]), (&native_platform().into(), &"native".into()));
        assert_eq!(on["shared_with"].as_array().expect("a list").len(), 2, "{on}");
    }
    let last = &stage("final")["platforms"][2];
    assert_eq!((&last["target"], &last["execution"]), (&"linux/s390x".into(), &"emulated".into()), "{last}");
    // Root and the copies are the platform's own.
    assert_eq!(last["shared_with"], Value::Array(Vec::new()));
    assert_eq!(stage("unused")["needed"], false);
    assert_eq!(outline["arguments"][0]["name"], "VERSION");
    assert_eq!(outline["arguments"][2]["stage"], "build");
    let secrets: Vec<_> =
        outline["secrets"].as_array().expect("secrets").iter().map(|s| &s["required"]).collect();
    assert_eq!(secrets, [&Value::Bool(true), &Value::Bool(false)]);
    // Without emulators it says why, and what to do.
    let empty = world.folder("empty");
    let outcome = outlined(&world).env("PATH", &empty).run().success();
    outcome.stdout_has("cannot run").stdout_has("qemu-user");
}

#[test]
fn targets() {
    let world = World::new();
    world.context("a", OUTLINED);
    let build = |call: &str| world.build().args(["--call", call]).arg(world.path("a")).run().success();
    build("targets").stdout_has("unused (default)").stdout_has("compiles it");
    let list = json(&build("targets,format=json").stdout);
    assert_eq!(list["targets"].as_array().expect("a list").len(), 4);
    assert_eq!(list["targets"][3]["default"], true);
    build("outline").stdout_has("unused (target)");
}

#[test]
fn a_build_stops_where_warnings_are_errors() {
    let world = World::new();
    world.context("a", "FROM scratch AS B\nCOPY a.txt /\nENV K v\n");
    world.write("a/a.txt", "a");
    let build = || world.build().args(["--platform", "linux/amd64,linux/arm64"]).arg(world.path("a"));
    let outcome = build().run().success();
    assert_eq!(outcome.stderr.matches("warning: StageNameCasing").count(), 1, "{}", outcome.report());
    outcome.stderr_has(" --> Dockerfile:1:17\n  |\n1 | FROM scratch AS B\n  |                 ^\n");
    let strict = "BUILDKIT_DOCKERFILE_CHECK=error=true";
    let outcome = build().args(["--no-cache", "--build-arg", strict]).run();
    assert_eq!(outcome.exit(), 1, "{}", outcome.report());
    assert!(!outcome.stderr.contains("COPY a.txt"), "{}", outcome.report());
    outcome
        .stderr_has("error: lint violation found for rules: LegacyKeyValueFormat, StageNameCasing")
        .stderr_has("warning: LegacyKeyValueFormat");
    build().args(["--build-arg", &format!("{strict};skip=all")]).run().success();
    let outcome = build().args(["--progress", "json"]).run().success();
    let warnings: Vec<Value> = outcome.stdout.lines().map(json).filter(|e| e["event"] == "warning").collect();
    assert_eq!(warnings[0]["rule"], "StageNameCasing", "{warnings:?}");
    assert_eq!((&warnings[0]["file"], &warnings[0]["column"]), (&"Dockerfile".into(), &17.into()));
}

#[test]
fn build_checks_in_json_too() {
    let world = World::new();
    let context = world.path("context");
    world.write("context/Dockerfile", "FROM scratch\nMAINTAINER me\n");
    let outcome = world.build().args(["--check", "--format", "json"]).arg(&context).run().success();
    let found: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(found["findings"][0]["rule"], "MaintainerDeprecated");
    world.build().args(["--format", "json"]).arg(&context).run().code(2).stderr_has("add --check");
}

#[test]
fn base_that_does_not_exist_fails_a_check() {
    let world = World::new();
    let registry = support::shared_registry();
    world.write("context/Dockerfile", format!("FROM {}\n", registry.name("nosuch")));
    check(&world, "context").run().code(1).stdout_has("not found");
    world.write("context/Dockerfile", "FROM base\n");
    let layout = ["--build-context", "base=oci-layout:///nosuch"];
    check(&world, "context").args(layout).run().code(1).stdout_has("/nosuch");
}

#[test]
fn an_outline_of_no_stage_is_an_error() {
    let world = World::new();
    world.write("context/Dockerfile", "FROM scratch AS one\n");
    let outcome = check(&world, "context").args(["--outline", "--target", "on"]).run().code(2);
    outcome.stderr_has("\"on\" could not be found").stderr_has("did you mean one?");
}

#[test]
fn a_check_needs_no_home_and_no_namespace() {
    let world = World::of(User::Plain);
    world.context("a", "FROM scratch\nRUN true\n");
    let outcome = world
        .fanfold(["check", "--platform", "linux/s390x"])
        .arg(world.path("a"))
        .env("HOME", "/nowhere")
        .env("PATH", world.folder("empty"))
        .run()
        .success();
    outcome.stdout_has("no findings");
}

#[test]
fn a_named_context_is_meant_where_an_image_is_called_nearly_so() {
    let world = World::new();
    let context = world.context("a", "FROM scratch\nCOPY --from=localhost:9/nowhere/nam /a /b\n");
    let named = format!("name={}", context.display());
    let outcome = check(&world, "a").args(["--format", "json", "--build-context", &named]).run();
    let report = json(&outcome.stdout);
    assert!(report.to_string().contains("did you mean the build context name?"), "{report}");
}
