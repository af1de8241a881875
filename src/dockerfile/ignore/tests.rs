use proptest::prelude::*;

use super::super::properties;
use super::*;

mod table;

fn ignored(file: &str, path: &str) -> bool {
    Ignore::parse(file.as_bytes()).unwrap().verdict_of(path.as_bytes()).ignored
}

/// File, ignored paths, kept paths.
const FILES: &[(&str, &[&str], &[&str])] = &[
    ("", &[], &["a", "a/b"]),
    ("# a\n\n  \n", &[], &["a", "# a"]),
    (" #a", &["#a"], &["a"]),
    ("\u{feff}a", &["a"], &["b"]),
    ("\u{feff}# a", &[], &["a", "# a"]),
    ("a\r\nb\r\n", &["a", "b"], &["c"]),
    ("  a b\t", &["a b"], &["a", "b"]),
    ("\u{a0}a\u{2003}", &["a"], &[]),
    ("*.md", &["x.md", ".md", "x.md/y"], &["s/x.md"]),
    ("**/*.md", &["x.md", "s/x.md", "s/t/x.md"], &["x.mdx"]),
    ("**.md", &["x.md", "s/x.md"], &["x"]),
    ("foo/", &["foo", "foo/x", "foo/x/y"], &["s/foo", "foobar"]),
    ("/foo", &["foo", "foo/x"], &["s/foo"]),
    ("//foo", &["foo"], &[]),
    ("./foo", &["foo"], &["s/foo"]),
    ("x/../foo//y/.", &["foo/y", "foo/y/z"], &["foo", "foo/z"]),
    ("../foo", &[], &["foo"]),
    ("/../foo", &["foo"], &[]),
    (".", &[], &["a", "a/b"]),
    ("/", &[], &["a", "a/b"]),
    ("!.", &[], &["a"]),
    ("*", &["a", ".git", "a/b"], &[]),
    ("*\n!a", &["b", "b/a"], &["a", "a/b", "a/b/c"]),
    ("*\n!a/b", &["a", "a/c", "b"], &["a/b", "a/b/c"]),
    ("d\n!d/keep", &["d", "d/x", "d/keep2"], &["d/keep", "d/keep/x"]),
    ("d\n!d/keep\nd/keep/no", &["d", "d/keep/no", "d/keep/no/x"], &["d/keep", "d/keep/x"]),
    ("d/*", &["d/a", "d/a/b"], &["d"]),
    ("d/**", &["d/a", "d/a/b"], &["d"]),
    ("d/**\n!d/**/*.go", &["d/a", "d/a/b"], &["d", "d/x.go", "d/a/b/x.go"]),
    ("!a\na", &["a", "a/b"], &[]),
    ("a\n!a\na", &["a"], &[]),
    ("a\n!a", &[], &["a", "a/b"]),
    ("*\n!a/b\na", &["a", "a/b", "a/b/c"], &[]),
    ("\\a\n!a", &[], &["a"]),
    ("!a\n\\a", &["a"], &[]),
    ("!a", &[], &["a", "b"]),
    ("a\n! a", &[], &["a"]),
    ("a\n!/a", &[], &["a"]),
    ("a\n!./a/", &[], &["a"]),
    ("a\n./!a", &[], &["a"]),
    ("*\n!!a", &["a"], &["!a"]),
    ("\\!a", &["!a"], &["a"]),
    ("\\#a", &["#a"], &["a"]),
    ("a\\*", &["a*"], &["ab"]),
    ("[a-c].txt", &["a.txt", "c.txt"], &["d.txt", "s/a.txt"]),
    ("[^a-c].txt", &["d.txt"], &["a.txt"]),
    ("a?c", &["abc", "a\u{e9}c", "abc/x"], &["ac", "a/c"]),
    ("**/node_modules", &["node_modules", "a/node_modules", "a/node_modules/x"], &["a/node_modules2"]),
    ("**/a/b", &["a/b", "x/a/b", "x/a/b/c"], &["a", "xa/b"]),
    ("a/**/z", &["a/z", "a/b/z", "a/b/c/z", "a/z/q"], &["a", "z", "a/zz"]),
    ("**", &["a", "a/b"], &[]),
    ("**\n!src\n!*.toml", &["a", "a/src", "a/x.toml"], &["src", "src/a", "x.toml"]),
    ("*/temp*", &["a/temp", "a/temporary.txt", "a/temp/x"], &["temp", "a/b/temp"]),
    ("*/*/temp*", &["a/b/temp"], &["a/temp", "a/b/c/temp"]),
    ("*.md\n!README.md", &["x.md"], &["README.md"]),
    ("*.md\n!README*.md\nREADME-secret.md", &["x.md", "README-secret.md"], &["README.md", "README-a.md"]),
    ("*.md\nREADME-secret.md\n!README*.md", &["x.md"], &["README.md", "README-secret.md"]),
    ("Dockerfile\n.dockerignore", &["Dockerfile", ".dockerignore"], &["Dockerfile.dev"]),
    ("a/b/c", &["a/b/c", "a/b/c/d"], &["a", "a/b", "a/b/cc"]),
    ("A", &["A"], &["a"]),
    ("a.b", &["a.b"], &["axb"]),
];

#[test]
fn files() {
    for (file, drop, keep) in FILES {
        for path in *drop {
            assert!(ignored(file, path), "{file:?} must ignore {path}");
        }
        for path in *keep {
            assert!(!ignored(file, path), "{file:?} must keep {path}");
        }
    }
}

#[test]
fn names_the_rule() {
    let ignore = Ignore::parse(b"# all\n  *  \n\n! ./a\n").unwrap();
    assert_eq!(ignore.verdict_of(b"x").rule.map(|rule| ignore.rule(rule)), Some((2, "*")));
    assert_eq!(ignore.verdict_of(b"a/b").rule.map(|rule| ignore.rule(rule)), Some((4, "! ./a")));
    assert_eq!(Ignore::parse(b"y").unwrap().verdict_of(b"x"), Verdict::root());
    assert!(Ignore::none().is_empty() && Ignore::parse(b"#\n\n").unwrap().is_empty());
    assert!(!ignore.is_empty());
}

#[test]
fn faults_name_their_line() {
    for (file, line, want) in [
        ("a\n!", 2, r#"illegal exclusion pattern: "!""#),
        ("! \t", 1, r#"illegal exclusion pattern: "!""#),
        ("!/", 1, r#"illegal exclusion pattern: "!""#),
        ("#\n\n[a", 3, r#"syntax error in pattern "[a": the `[` has no `]`"#),
    ] {
        let fault = Ignore::parse(file.as_bytes()).unwrap_err();
        assert_eq!((fault.line(), fault.to_string().as_str()), (line, want), "{file:?}");
    }
}

#[test]
fn patterns_given_one_by_one() {
    let ignore = Ignore::from_patterns(&["#a", " *.md ", "!x.md", "s/skip"]).unwrap();
    let hit = |path: &str| ignore.verdict_of(path.as_bytes()).ignored;
    assert!(hit("#a") && hit("y.md") && hit("s/skip/x") && !hit("x.md") && !hit("s/r.md"));
    assert_eq!(Ignore::from_patterns(&["a", "!"]).unwrap_err().line(), 2);
}

#[test]
fn not_utf8() {
    let ignore = Ignore::parse(b" \xff*\nb\xfe\n").unwrap();
    assert!(ignore.verdict_of(b"\xffa").ignored && ignore.verdict_of(b"b\xfe").ignored);
    assert!(!ignore.verdict_of("\u{ff}a".as_bytes()).ignored);
}

#[test]
fn what_a_walk_may_leave_out() {
    let rows: &[(&str, &[&str], &[&str])] = &[
        // File, directories that must be walked, directories that need not.
        ("d", &["e"], &["d", "d/e"]),
        ("d\n!x", &["x"], &["d"]),
        ("d\n!d/keep", &["d"], &["d/other", "d/keeper"]),
        ("!d/keep\nd", &[], &["d"]),
        ("d\n!**/keep", &["d", "d/e/f"], &[]),
        ("*\n!*.md", &["x.md"], &["d"]),
        ("*\n!*/*.md", &["d"], &["d/e"]),
        ("*\n!d/e/*.md", &["d", "d/e"], &["e", "d/f"]),
        ("*\n!d/e*", &["d", "d/ex"], &["d/f", "dd"]),
        ("*\n!dd/x", &["dd"], &["d"]),
    ];
    for (file, walk, leave) in rows {
        let ignore = Ignore::parse(file.as_bytes()).unwrap();
        assert!(walk.iter().all(|dir| ignore.may_reinclude_below(dir.as_bytes())), "{file:?}");
        assert!(!leave.iter().any(|dir| ignore.may_reinclude_below(dir.as_bytes())), "{file:?}");
    }
}

#[test]
fn a_hundred_thousand_rules() {
    let mut file = String::from("**/*needle*\n*\n!keep\n");
    for n in 0..25_000 {
        file += &format!("dir{n}/x\n**/name{n}\nsub/pre{n}-*\n**/*q{n}z*\n");
    }
    let ignore = Ignore::parse(file.as_bytes()).unwrap();
    let begun = std::time::Instant::now();
    for n in 0..20_000 {
        let path = format!("keep/some/path/file-{n}.rs");
        assert!(!ignore.verdict_of(path.as_bytes()).ignored, "{path}");
    }
    assert!(ignore.verdict_of(b"keep/a/name24999").ignored);
    assert!(ignore.verdict_of(b"keep/a/aq24999zz").ignored);
    // Far above what an unoptimised build on a busy machine takes.
    assert!(begun.elapsed().as_secs() < 120, "{:?}", begun.elapsed());
}

/// The rules as documented, one by one, by trying everything.
fn model(file: &str, path: &str) -> bool {
    let mut verdict = false;
    for line in file.lines().filter(|line| !line.is_empty()) {
        let pattern = line.strip_prefix('!').unwrap_or(line);
        let parents = path.match_indices('/').map(|(end, _)| &path[..end]).chain([path]);
        if parents.into_iter().any(|path| model_match(pattern.as_bytes(), path.as_bytes())) {
            verdict = pattern == line;
        }
    }
    verdict
}

fn model_match(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        b"**" => true,
        [b'*', b'*', b'/', rest @ ..] => {
            model_match(rest, path)
                || (0..path.len()).any(|at| path[at] == b'/' && model_match(rest, &path[at + 1..]))
        }
        [b'*', rest @ ..] => (0..=path.len())
            .take_while(|end| !path[..*end].contains(&b'/'))
            .any(|end| model_match(rest, &path[end..])),
        [b'?', rest @ ..] => path.first().is_some_and(|byte| *byte != b'/') && model_match(rest, &path[1..]),
        [byte, rest @ ..] => path.first() == Some(byte) && model_match(rest, &path[1..]),
    }
}

fn rules() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("a"),
        Just("b"),
        Just("ab"),
        Just("*"),
        Just("**"),
        Just("a*"),
        Just("*b"),
        Just("?"),
        Just("a*b")
    ];
    let pattern = (any::<bool>(), proptest::collection::vec(part, 1..4))
        .prop_map(|(not, parts)| format!("{}{}", if not { "!" } else { "" }, parts.join("/")));
    proptest::collection::vec(pattern, 0..6).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_file(file in proptest::collection::vec(any::<u8>(), 0..40), path in "[a/!*.]{0,8}") {
        let data = [&file, b"\0".as_slice(), path.as_bytes()].concat();
        prop_assert_eq!(properties::ignore(&data), Ok(()));
    }

    #[test]
    fn any_lines(file in r"([ab!*?\[\]^\\/.# -]{0,8}\n){0,6}", path in "[ab]{1,3}(/[ab]{1,2}){0,3}") {
        prop_assert_eq!(properties::ignore(format!("{file}\0{path}").as_bytes()), Ok(()));
    }

    #[test]
    fn as_documented(file in rules(), path in "[ab]{1,3}(/[ab]{1,2}){0,3}") {
        let ignore = Ignore::parse(file.as_bytes()).unwrap();
        prop_assert_eq!(ignore.verdict_of(path.as_bytes()).ignored, model(&file, &path), "{:?} {}", file, path);
        // From the top, as a walk goes.
        let mut verdict = Verdict::root();
        let mut walked = String::new();
        for part in path.split('/') {
            walked += part;
            verdict = ignore.verdict(walked.as_bytes(), &verdict);
            prop_assert_eq!(verdict, ignore.verdict_of(walked.as_bytes()));
            prop_assert_eq!(verdict.ignored, model(&file, &walked));
            if walked != path && !ignore.verdict_of(path.as_bytes()).ignored {
                prop_assert!(ignore.may_reinclude_below(walked.as_bytes()), "{:?} {} {}", file, walked, path);
            }
            walked.push('/');
        }
    }
}
