use super::super::ast::{Add, Command, Copy, HealthTest, Healthcheck, Kind, Run, Script};
use super::*;

fn parsed(source: &str) -> Dockerfile {
    parse(source.as_bytes()).unwrap_or_else(|error| panic!("{source:?}: {error}"))
}

/// The instructions of the last stage, below a FROM that is put before them.
fn kinds(body: &str) -> Vec<Kind> {
    let file = parsed(&format!("FROM a\n{body}"));
    file.stages
        .into_iter()
        .next_back()
        .unwrap()
        .instructions
        .into_iter()
        .map(|instruction| instruction.kind)
        .collect()
}

fn kind(body: &str) -> Kind {
    let mut kinds = kinds(body);
    assert_eq!(kinds.len(), 1, "{body:?}");
    kinds.remove(0)
}

fn run(body: &str) -> Run {
    match kind(body) {
        Kind::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn copy(body: &str) -> Copy {
    match kind(body) {
        Kind::Copy(copy) => copy,
        other => panic!("{other:?}"),
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn own_pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn rules(source: &str) -> Vec<(&'static str, u32)> {
    parsed(source).warnings.iter().map(|warning| (warning.rule, warning.span.first)).collect()
}

#[test]
fn faults_of_files() {
    for (source, want) in [
        ("", "line 1: the Dockerfile cannot be empty"),
        ("# a\n\n# b\n", "line 3: file with no instructions"),
        ("\u{feff}", "line 1: file with no instructions"),
        ("\\\n", "line 1: file with no instructions"),
        ("ARG A\nARG B\n", "line 2: dockerfile contains no stages to build"),
        ("ARG A\nRUN x\nFROM a\n", "line 2: no build stage in current context"),
        ("FROM a\n\nFOO b\n", "line 3: unknown instruction: FOO (did you mean FROM?)"),
        ("form a\n", "line 1: unknown instruction: FORM (did you mean FROM?)"),
        ("FROM a\nWORKDIRECTORY /\n", "line 2: unknown instruction: WORKDIRECTORY"),
        ("FROM a\nRUN cat <<A <<B\na\nA\nb\n", "line 2: unterminated heredoc"),
        ("FROM a\nRUN cat <<A\nb\n A\n", "line 2: unterminated heredoc"),
        ("# escape=x\nFROM a\n", "line 1: invalid escape token 'x' does not match ` or \\"),
        ("# escape=\\\n# escape=`\nFROM a\n", "line 2: only one escape parser directive can be used"),
        ("#check=foo\nFROM a\n", "line 1: invalid check option \"foo\""),
        (
            "# syntax=foo/bar\nFROM a\n",
            "line 1: syntax directive names the frontend \"foo/bar\", but custom frontends are not run: only the language of docker/dockerfile:1 is read here",
        ),
    ] {
        let error = parse(source.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), format!("dockerfile parse error on {want}"), "{source:?}");
    }
}

#[test]
fn faults_of_instructions() {
    const NOT_STRINGS: &str = "when using JSON array syntax, arrays must be comprised of strings only";
    for (line, want) in [
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a IS b", "FROM requires either one or three arguments"),
        ("FROM a AS b c", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1a",
            "invalid name for build stage: \"1a\", name can't start with a number or contain symbols",
        ),
        (
            "FROM a AS B$",
            "invalid name for build stage: \"B$\", name can't start with a number or contain symbols",
        ),
        ("FROM --platfrom=x a", "unknown flag: --platfrom (did you mean platform?)"),
        ("FROM --platform a", "missing a value on flag: --platform"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG a =b", "ARG names can not be blank"),
        ("ARG --x a", "unknown flag: --x"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV =b", "ENV names can not be blank"),
        ("ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("ENV --x a=b", "unknown flag: --x"),
        ("LABEL", "LABEL requires at least one argument"),
        ("LABEL a", "LABEL must have two arguments"),
        ("LABEL =b", "LABEL names can not be blank"),
        ("LABEL a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("RUN", "RUN requires at least one argument"),
        ("RUN --network=none", "RUN requires at least one argument"),
        ("RUN []", "RUN requires at least one argument"),
        ("RUN [1]", NOT_STRINGS),
        ("RUN --network=foo x", "invalid network mode \"foo\""),
        ("RUN --security=x y", "security \"x\" is not valid"),
        ("RUN --mount x", "missing a value on flag: --mount"),
        ("RUN --mout=type=tmpfs x", "unknown flag: --mout (did you mean mount?)"),
        ("RUN --mount=type=cahce,target=/x y", "unsupported mount type \"cahce\" (did you mean cache?)"),
        ("RUN --mount=type=$T,tgt=/x y", "unexpected key 'tgt' in 'tgt=/x' (did you mean dst?)"),
        (
            "ONBUILD RUN --mount=from=$X,target=/x y",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        (
            "RUN --mount='type=secret,target=\\'/x' y",
            "failed to process \"'/x\": unexpected end of statement while looking for matching single-quote",
        ),
        ("RUN --network=none --network=host x", "duplicate flag specified: --network"),
        ("RUN <<a/b\n#!/bin/sh\na/b", "heredoc name \"a/b\" cannot be a file name"),
        (
            "COPY",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "ADD [\"a\"]",
            "ADD requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("COPY [\"a\", 1]", NOT_STRINGS),
        ("COPY --form=x a b", "unknown flag: --form (did you mean from?)"),
        ("COPY --checksum=x a b", "unknown flag: --checksum (ADD has it, COPY has not)"),
        ("COPY --link=x a b", "expecting boolean value for flag --link, not: x"),
        ("COPY --link= a b", "missing a value on flag: --link"),
        ("COPY a <<E\nE", "COPY cannot accept a heredoc as a destination"),
        ("ADD <<E <<F\nE\nF", "ADD cannot accept a heredoc as a destination"),
        ("COPY <<../x /y\n../x", "heredoc name \"../x\" cannot be a file name"),
        ("ADD --from=x a b", "unknown flag: --from (COPY has it, ADD has not)"),
        ("ADD --parents a b", "unknown flag: --parents (COPY has it, ADD has not)"),
        ("CMD", "CMD requires at least one argument"),
        ("CMD [1]", NOT_STRINGS),
        ("CMD --x", "unknown flag: --x"),
        ("ENTRYPOINT", "ENTRYPOINT requires at least one argument"),
        ("SHELL", "SHELL requires at least one argument"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("SHELL /bin/sh -c", "SHELL requires the arguments to be in JSON form"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ("VOLUME [\"/a\", \" \"]", "VOLUME specified can not be an empty string"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR ", "WORKDIR requires exactly one argument"),
        ("WORKDIR --x /a", "unknown flag: --x"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("STOPSIGNAL --x TERM", "unknown flag: --x"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD from a", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD MAINTAINER a", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RNU x", "unknown instruction: RNU (did you mean RUN?)"),
        ("ONBUILD ENV a", "ENV must have two arguments"),
        ("ONBUILD --x RUN a", "unknown flag: --x"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK --retries=1 NONE", "HEALTHCHECK NONE takes no flags"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK CMD []", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK x y", "Unknown type \"X\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        (
            "HEALTHCHECK --retries=x CMD y",
            "invalid value for flag --retries, expecting a whole number, not: x",
        ),
        ("HEALTHCHECK --timeout=1us CMD x", "Interval \"timeout\" cannot be less than 1ms"),
        ("HEALTHCHECK --interval=-1s CMD x", "Interval \"interval\" cannot be less than 1ms"),
    ] {
        let error = parse(format!("FROM a\n{line}\n").as_bytes()).unwrap_err();
        assert_eq!((error.full_message().as_str(), error.line), (want, 2), "{line:?}");
    }
    assert!(parse(b"FROM a\nHEALTHCHECK --timeout=x CMD y\n").is_err());
}

#[test]
fn faults_know_their_columns() {
    for (source, line, columns) in [
        ("FROM a\n  FORM b\n", 2, Some((3, 7))),
        ("FROM a\nCOPY --link \\\n  --form=x a b\n", 3, Some((3, 11))),
        ("FROM a\nENV a=b \\\n  c\n", 3, Some((3, 4))),
        ("FROM a AS 1a\n", 1, Some((11, 13))),
        ("FROM a\nHEALTHCHECK NOPE\n", 2, Some((13, 17))),
        ("FROM a\nONBUILD RNU x\n", 2, Some((9, 12))),
        ("FROM a\nUSER\n", 2, None),
        ("FROM a\nRUN --network=x y\n", 2, Some((5, 16))),
        ("FROM a\nRUN --mount=type=tmpfs \\\n --mount=type=tmpfs,id=x y\n", 3, Some((21, 25))),
        ("FROM a\nRUN --mount=\"type=ssh\",target,required y\n", 2, Some((24, 30))),
        ("FROM a\nRUN --mount=type=secret y\n", 2, Some((5, 24))),
        ("FROM a\nRUN --mount=type=tmpfs,\\\nid=x y\n", 3, Some((1, 5))),
        ("FROM a\nRUN --mount=type=tm\"p\"fss y\n", 2, Some((5, 26))),
    ] {
        let error = parse(source.as_bytes()).unwrap_err();
        assert_eq!((error.line, error.columns), (line, columns), "{source:?}");
    }
}

#[test]
fn stages_and_spans() {
    let file = parsed(
        "ARG V=1\n# app the program\nFROM --platform=$BUILDPLATFORM base:$V \\\n  as App\nRUN <<E\nx\nE\nfrom app\n",
    );
    assert_eq!(file.preamble.len(), 1);
    let [first, second] = file.stages.as_slice() else { panic!("{file:?}") };
    assert_eq!((first.name.as_deref(), first.base.as_str()), (Some("app"), "base:$V"));
    assert_eq!(first.platform.as_deref(), Some("$BUILDPLATFORM"));
    assert_eq!(first.span, Span { first: 3, last: 4 });
    assert_eq!(first.text, "FROM --platform=$BUILDPLATFORM base:$V as App");
    assert_eq!(first.description.as_deref(), Some("the program"));
    assert_eq!(first.instructions[0].span, Span { first: 5, last: 7 });
    assert_eq!(first.instructions[0].text, "RUN <<E");
    assert_eq!((second.name.as_deref(), second.base.as_str()), (None, "app"));
    assert!(second.instructions.is_empty());
}

#[test]
fn directives_are_given_back() {
    let file = parsed("# syntax=docker/dockerfile:1\n# check=skip=X\n# escape=`\nFROM a\nCOPY a c:\\\n");
    assert_eq!(file.escape, '`');
    assert_eq!(file.directives.syntax.as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(file.directives.check.as_deref(), Some("skip=X"));
    let Kind::Copy(copy) = &file.stages[0].instructions[0].kind else { panic!() };
    assert_eq!(copy.destination, "c:\\");
}

/// Rows that say exactly what one line of the reference says.
#[test]
fn lines_and_words() {
    let shell = |text: &str| Command::Shell(text.to_owned());
    for (source, want) in [
        // A comment ends no continuation, and is not continued itself.
        ("RUN a \\\n# b \\\n c", "a  c"),
        ("RUN a \\\n   # b\n c", "a  c"),
        ("RUN a # b", "a # b"),
        // A doubled escape character ends the line; blanks behind one do not matter.
        ("RUN a\\\\", "a\\\\"),
        ("RUN a \\  \t\n  b", "a   b"),
        ("RUN a \\\n  \\\n b", "a    b"),
        ("RUN a \\\n\n\n b", "a  b"),
        ("RUN a \\\r\n b\r\n", "a  b"),
        ("RUN a \\", "a"),
        // The word ends at any of these blanks.
        ("run\ta", "a"),
        ("RuN\u{b}\u{c}a", "a"),
        ("RUN -- --mount=x", "--mount=x"),
        ("RUN --network=none -- a", "a"),
        ("RUN - a", "- a"),
        ("RUN [\"a\", \"b\"", "[\"a\", \"b\""),
        ("RUN [\"a\"] b", "[\"a\"] b"),
        ("RUN ['echo','x']", "['echo','x']"),
    ] {
        assert_eq!(run(source).command, shell(want), "{source:?}");
    }
    assert_eq!(run("RUN \u{2003} [ \"a\" ,\t\"\\u0062\" ]  ").command, Command::Exec(owned(&["a", "b"])));
    // Quotes and escapes of flags, in both kinds of quotes.
    for (flag, want) in [
        ("--exclude=a\\ b", "a b"),
        ("--exclude='a b'", "a b"),
        ("--exclude=\"a\\\"b\"", "a\"b"),
        ("--exclude='a\\'b'", "a'b"),
        ("--ex\"clude=\"x", "x"),
        ("--exclude=\u{e9}*", "\u{e9}*"),
    ] {
        assert_eq!(copy(&format!("COPY {flag} a b")).exclude, owned(&[want]), "{flag}");
    }
    for (line, link, parents) in [
        ("COPY --link --parents a b", true, true),
        ("COPY --link=True --parents=FALSE a b", true, false),
        ("COPY --link=false a b", false, false),
    ] {
        let found = copy(line);
        assert_eq!((found.link, found.parents), (link, parents), "{line}");
    }
}

#[test]
fn heredocs_of_files() {
    for (source, names) in [
        ("COPY <<a <<b /d/\n1\na\n2\nb", vec![("a", "1\n"), ("b", "2\n")]),
        ("COPY <<-a /d\n\t\t1\n\t2\n\ta", vec![("a", "1\n2\n")]),
        ("COPY <<a /d\n\t1\n a\na ", vec![]),
        ("COPY <<a /d\n1\r\na\r\n", vec![("a", "1\r\n")]),
        ("COPY <<a /d\n# 1 \\\n\na", vec![("a", "# 1 \\\n\n")]),
        ("COPY <<a /d\na", vec![("a", "")]),
        ("COPY x <<\"a b\" \\\n  /d\n1\na b", vec![("a b", "1\n")]),
    ] {
        let text = format!("FROM a\n{source}");
        let Ok(file) = parse(text.as_bytes()) else {
            assert!(names.is_empty(), "{source:?}");
            continue;
        };
        let Kind::Copy(copy) = &file.stages[0].instructions[0].kind else { panic!("{source:?}") };
        let texts: Vec<_> = copy.heredocs.iter().map(|h| (h.name.as_str(), h.text())).collect();
        let found: Vec<_> = texts.iter().map(|(name, text)| (*name, text.as_ref())).collect();
        assert_eq!(found, names, "{source:?}");
        let heredoc_words = parse(text.replace("COPY", "ONBUILD ADD").as_bytes()).unwrap();
        assert!(matches!(&heredoc_words.stages[0].instructions[0].kind, Kind::Onbuild(_)), "{source:?}");
    }
}

#[test]
fn names_and_values() {
    let Kind::Arg(declarations) = kind("# B the second\nARG A B=\"x y\" C=") else { panic!() };
    let found: Vec<_> = declarations
        .iter()
        .map(|d| (d.name.as_str(), d.default.as_deref(), d.description.as_deref()))
        .collect();
    assert_eq!(found, [("A", None, None), ("B", Some("\"x y\""), Some("the second")), ("C", Some(""), None)]);
    for (line, want) in [
        (
            "ENV A=\"a b\" B='c d' C=e\\ f D=$A",
            own_pairs(&[("A", "\"a b\""), ("B", "'c d'"), ("C", "e\\ f"), ("D", "$A")]),
        ),
        ("ENV KEY some  value \"q\" $PATH # c", own_pairs(&[("KEY", "some  value \"q\" $PATH # c")])),
        ("ENV a \t b=c", own_pairs(&[("a", "b=c")])),
        ("ENV a=b=c d=", own_pairs(&[("a", "b=c"), ("d", "")])),
        ("ENV a=b \\\n    c=d", own_pairs(&[("a", "b"), ("c", "d")])),
    ] {
        assert_eq!(kind(line), Kind::Env(want.clone()), "{line}");
        assert_eq!(kind(&line.replace("ENV", "LABEL")), Kind::Label(want), "{line}");
    }
}

#[test]
fn commands() {
    let shell = |text: &str| Command::Shell(text.to_owned());
    let exec = |words: &[&str]| Command::Exec(owned(words));
    for (args, want) in [
        ("echo  \"a\"  $B ", shell("echo  \"a\"  $B")),
        ("[\"a\", \"b c\"]", exec(&["a", "b c"])),
        ("['echo','x']", shell("['echo','x']")),
        ("[ -f x ] && y", shell("[ -f x ] && y")),
        ("-- --x", shell("--x")),
    ] {
        assert_eq!(kind(&format!("CMD {args}")), Kind::Cmd(want.clone()), "{args}");
        assert_eq!(kind(&format!("ENTRYPOINT {args}")), Kind::Entrypoint(want.clone()), "{args}");
        assert_eq!(run(&format!("RUN {args}")).command, want, "{args}");
    }
    assert_eq!(kind("CMD []"), Kind::Cmd(exec(&[])));
    assert_eq!(kind("ENTRYPOINT []"), Kind::Entrypoint(exec(&[])));
    assert_eq!(kind("SHELL [\"/bin/sh\", \"-ec\"]"), Kind::Shell(owned(&["/bin/sh", "-ec"])));
    let run = run(
        "RUN --mount=type=bind,target=/x --network=none --mount='type=secret,id=a b' --security=insecure --device=d x",
    );
    assert_eq!(run.mounts, ["type=bind,target=/x", "type=secret,id=a b"]);
    assert_eq!((run.network.as_deref(), run.security.as_deref()), (Some("none"), Some("insecure")));
    assert_eq!(run.devices, ["d"]);
}

#[test]
fn scripts_of_heredocs() {
    let text = |text: &str| Script::Text(text.to_owned());
    for (source, want) in [
        ("RUN echo a", text("echo a")),
        ("RUN <<E\na\nb\nE", text("a\nb\n")),
        ("RUN --network=none <<\"A B\"\na\r\nA B\r", text("a\r\n")),
        ("RUN <<-E\n\t\ta\n \tb\n\tE", text("a\n \tb\n")),
        ("RUN 3<<E\na\nE", text("a\n")),
        (
            "RUN <<E\n#!/bin/x\na\nE",
            Script::Shebang { name: "E".to_owned(), body: "#!/bin/x\na\n".to_owned() },
        ),
        ("RUN cat <<A - 3<<'B' > /o\na $X\nA\n# b\\\nB", text("cat <<A - 3<<'B' > /o\na $X\nA\n# b\\\nB")),
        ("RUN python <<E\n#!/x\nE", text("python <<E\n#!/x\nE")),
        ("RUN cat \\\n<<E\nE", text("cat <<E\nE")),
        ("RUN cat <<-E\n\t\tx\n\tE", text("cat <<-E\n\t\tx\nE")),
        ("RUN <<-E\n\t#!/x\n\ty\n\tE", text("#!/x\ny\n")),
        ("RUN echo '<<E'", text("echo '<<E'")),
        ("RUN [\"a\", \"<<E\"]", Script::Exec(owned(&["a", "<<E"]))),
    ] {
        assert_eq!(run(source).script(), want, "{source:?}");
        let lone = run(source).lone_heredoc().map(|heredoc| heredoc.text().into_owned());
        let whole = match want {
            Script::Text(text) if text != source["RUN ".len()..] => Some(text),
            Script::Shebang { body, .. } => Some(body),
            _ => None,
        };
        assert!(lone.is_none() || lone == whole, "{source:?}: {lone:?}");
    }
    assert!(
        run("RUN <<E\na\nE").lone_heredoc().is_some() && run("RUN sh <<E\na\nE").lone_heredoc().is_none()
    );
    let heredocs = run("RUN cat <<A 3<<-'B'\nA\n\tx\n\tB").heredocs;
    assert_eq!((heredocs[0].expand, heredocs[0].fd, heredocs[0].body.as_str()), (true, None, ""));
    assert_eq!((heredocs[1].expand, heredocs[1].fd, heredocs[1].body.as_str()), (false, Some(3), "\tx\n"));
    assert_eq!(kinds("RUN <<E\nE\nUSER a\nCMD <<E").len(), 3);
}

#[test]
fn copies() {
    let found =
        copy("COPY --from=b --chown=1:2 --chmod=644 --link --parents=FALSE --exclude=a --exclude=b x y/ /z");
    assert_eq!((found.sources, found.destination), (owned(&["x", "y/"]), "/z".to_owned()));
    assert_eq!(found.from.as_deref(), Some("b"));
    assert_eq!((found.chown.as_deref(), found.chmod.as_deref()), (Some("1:2"), Some("644")));
    assert_eq!((found.link, found.parents, found.exclude), (true, false, owned(&["a", "b"])));
    let found = copy("COPY \"a b\" /x");
    assert_eq!((found.sources, found.destination), (owned(&["\"a", "b\""]), "/x".to_owned()));
    let found = copy("COPY [\"a b\", \"/x y\"]");
    assert_eq!((found.sources, found.destination), (owned(&["a b"]), "/x y".to_owned()));
    let found = copy("COPY a <<\"B C\" d <<E /x\nb\nB C\ne\nE");
    assert_eq!((found.sources, found.destination), (owned(&["a", "d"]), "/x".to_owned()));
    let names: Vec<_> = found.heredocs.iter().map(|h| (h.name.as_str(), h.body.as_str(), h.expand)).collect();
    assert_eq!(names, [("B C", "b\n", false), ("E", "e\n", true)]);
    let want = Add {
        sources: owned(&["https://x/y"]),
        destination: "/z".to_owned(),
        heredocs: Vec::new(),
        chown: None,
        chmod: None,
        link: false,
        exclude: Vec::new(),
        checksum: Some("sha256:0".to_owned()),
        keep_git_dir: true,
        unpack: Some(false),
    };
    assert_eq!(kind("ADD --checksum=sha256:0 --keep-git-dir --unpack=false https://x/y /z"), Kind::Add(want));
}

#[test]
fn settings() {
    for (line, want) in [
        ("EXPOSE 80 443/TCP $X", Kind::Expose(owned(&["80", "443/TCP", "$X"]))),
        ("VOLUME /a /b", Kind::Volume(owned(&["/a", "/b"]))),
        ("VOLUME [\"/a b\"]", Kind::Volume(owned(&["/a b"]))),
        ("USER a:b", Kind::User("a:b".to_owned())),
        ("WORKDIR /a b ", Kind::Workdir("/a b".to_owned())),
        ("STOPSIGNAL SIGTERM", Kind::Stopsignal("SIGTERM".to_owned())),
        ("MAINTAINER a <b>", Kind::Maintainer("a <b>".to_owned())),
        ("onbuild run  a", Kind::Onbuild("run  a".to_owned())),
        ("ONBUILD COPY <<-E /x\n\ta\n\tE", Kind::Onbuild("COPY <<-E /x\n\ta\nE".to_owned())),
    ] {
        assert_eq!(kind(line), want, "{line}");
    }
}

#[test]
fn health_checks() {
    let none = Healthcheck {
        test: HealthTest::None,
        interval: 0,
        timeout: 0,
        start_period: 0,
        start_interval: 0,
        retries: 0,
    };
    for (line, want) in [
        ("HEALTHCHECK none", none.clone()),
        ("HEALTHCHECK CMD a  b", Healthcheck { test: HealthTest::Shell("a  b".to_owned()), ..none.clone() }),
        (
            "HEALTHCHECK --interval=1m30s --timeout=2s --start-period=500ms --start-interval=1ms --retries=4 cmd [\"a\"]",
            Healthcheck {
                test: HealthTest::Exec(owned(&["a"])),
                interval: 90_000_000_000,
                timeout: 2_000_000_000,
                start_period: 500_000_000,
                start_interval: 1_000_000,
                retries: 4,
            },
        ),
        ("HEALTHCHECK --interval=0s CMD a", Healthcheck { test: HealthTest::Shell("a".to_owned()), ..none }),
    ] {
        assert_eq!(kind(line), Kind::Healthcheck(want), "{line}");
    }
}

#[test]
fn triggers() {
    let trigger = parse_trigger("COPY <<E /x\na\nE", '\\').unwrap();
    assert!(matches!(&trigger.kind, Kind::Copy(copy) if copy.heredocs[0].body == "a\n"));
    assert_eq!((trigger.text.as_str(), trigger.span), ("COPY <<E /x", Span { first: 1, last: 3 }));
    assert!(parse_trigger("RUN dir c:\\", '`').is_ok_and(|trigger| trigger.text == "RUN dir c:\\"));
    assert!(parse_trigger(&format!("RUN {}", "x".repeat(70_000)), '\\').is_ok());
    for (text, want) in [
        ("", "onbuild trigger should be a single expression"),
        ("RUN a\nRUN b", "onbuild trigger should be a single expression"),
        ("FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RUN a", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ENV a", "ENV must have two arguments"),
    ] {
        assert_eq!(parse_trigger(text, '\\').unwrap_err().message, want, "{text}");
    }
}

#[test]
fn build_checks() {
    for (source, want) in [
        ("FROM a AS Base", vec![("StageNameCasing", 1)]),
        ("FROM a as b", vec![("FromAsCasing", 1)]),
        ("from a as b", vec![]),
        ("FROM a\nRUN x \\\n\n y", vec![("NoEmptyContinuation", 2)]),
        ("FROM a\nrun x", vec![("ConsistentInstructionCasing", 2)]),
        (
            "from a\nrun x\nUSER y\nEnv a=b",
            vec![("ConsistentInstructionCasing", 3), ("ConsistentInstructionCasing", 4)],
        ),
        ("FROM a AS b\nFROM a AS b", vec![("DuplicateStageName", 2)]),
        ("FROM a AS scratch", vec![("ReservedStageName", 1)]),
        ("FROM a\nMAINTAINER b", vec![("MaintainerDeprecated", 2)]),
        ("FROM a\nENV b c\nLABEL d e", vec![("LegacyKeyValueFormat", 2), ("LegacyKeyValueFormat", 3)]),
        ("FROM a\nCMD b\nCMD c\nFROM d\nCMD e", vec![("MultipleInstructionsDisallowed", 2)]),
        ("FROM --platform=$TARGETPLATFORM a", vec![("RedundantTargetPlatform", 1)]),
        ("FROM --platform=linux/amd64 a", vec![("FromPlatformFlagConstDisallowed", 1)]),
        ("FROM --platform=linux/amd64 a AS b-amd64", vec![]),
        (
            "ARG MY_TOKEN\nFROM a\nENV public_key=1 auth=2",
            vec![("SecretsUsedInArgOrEnv", 1), ("SecretsUsedInArgOrEnv", 3)],
        ),
        ("FROM a\nRUN ['echo', 'x']", vec![("InvalidJSONForm", 2)]),
        ("# no\nFROM a AS b", vec![]),
        ("# check=experimental=all\n# no\nFROM a AS b", vec![("InvalidDefinitionDescription", 3)]),
        ("# check=experimental=all\n# b yes\nFROM a AS b", vec![]),
        ("# check=skip=all\nFROM a AS B", vec![]),
        ("# check=skip=StageNameCasing\nFROM a as B", vec![("FromAsCasing", 2)]),
        ("FROM a\n# check=skip=LegacyKeyValueFormat\nENV b c\nENV d e", vec![("LegacyKeyValueFormat", 4)]),
    ] {
        assert_eq!(rules(source), want, "{source:?}");
    }
    let messages: Vec<_> =
        parsed("FROM a as B\nenv TOKEN b").warnings.into_iter().map(|w| w.message).collect();
    assert_eq!(
        messages,
        [
            "Stage name 'B' should be lowercase",
            "'as' and 'FROM' keywords' casing do not match",
            "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            "Do not use ARG or ENV instructions for sensitive data (ENV \"TOKEN\")",
            "Command 'env' should match the case of the command majority (uppercase)",
        ]
    );
}
