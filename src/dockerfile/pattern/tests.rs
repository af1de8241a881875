use proptest::prelude::*;

use super::*;

/// Pattern, paths that match, paths that do not.
const PATHS: &[(&str, &[&str], &[&str])] = &[
    ("a", &["a"], &["a/b", "b", "ab", ""]),
    ("*", &["a", ".git", ""], &["a/b"]),
    ("*.md", &["x.md", ".md"], &["s/x.md", "x.mdx"]),
    ("s/*.md", &["s/x.md"], &["x.md", "s/t/x.md"]),
    ("*/x", &["a/x"], &["x", "a/b/x"]),
    ("a?c", &["abc", "a\u{e9}c"], &["ac", "a/c", "abbc"]),
    ("**", &["a", "a/b", "a/b/c"], &[]),
    ("**/x", &["x", "a/x", "a/b/x"], &["ax", "a/bx", "x/a"]),
    ("**/*.o", &["x.o", "a/b/x.o"], &["x.oo", "x.o/a"]),
    ("a/**", &["a/b", "a/b/c"], &["a", "ab"]),
    ("a**", &["a", "ab", "ab/c", "a/b"], &["b"]),
    ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb", "ab", "a"]),
    ("a/**/b/**", &["a/b/c", "a/x/b/c/d"], &["a/b", "a/c"]),
    ("**/a/**", &["a/x", "q/a/x"], &["a", "q/a"]),
    ("**.md", &["x.md", "a/x.md", ".md"], &["x.mdx"]),
    ("**x?", &["xy", "a/xy"], &["axy"]),
    ("a**b", &["ab", "ax/b", "a/b"], &["axb"]),
    ("**/**/x", &["x", "a/x", "a/b/c/x"], &["ax"]),
    ("***", &["a", "a/b"], &[]),
    ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
    ("[^a-c]x", &["dx", "\u{e9}x"], &["ax"]),
    ("a[^b]c", &["a/c", "axc"], &["abc"]),
    ("[]-]", &[], &[]),
    ("[\\]\\-]x", &["]x", "-x"], &["\\x", "ax"]),
    ("[*?]", &["*", "?"], &["a"]),
    ("[!a]", &["!", "a"], &["b"]),
    ("[\u{3b1}-\u{3c9}]", &["\u{3b2}"], &["b", "\u{3b2}\u{3b2}"]),
    ("arr[[]0].txt", &["arr[0].txt"], &["arr0.txt"]),
    ("\\*", &["*"], &["a", "\\*"]),
    ("\\**", &["*", "*a"], &["a"]),
    ("a.c+(x)|{y}$^", &["a.c+(x)|{y}$^"], &["abc"]),
    ("*^x", &["a^x"], &["ax"]),
    ("\\d", &["d"], &["1", "\\d"]),
    ("a]", &["a]"], &["a"]),
    ("*a*a*a*b", &["aaab", "xaxaxab"], &["aaaa", "a/aab"]),
];

#[test]
fn paths() {
    for (pattern, yes, no) in PATHS {
        let Ok(compiled) = Pattern::compile(pattern) else {
            assert!(yes.is_empty() && no.is_empty(), "{pattern}");
            continue;
        };
        for path in *yes {
            assert!(compiled.matches(path.as_bytes()), "{pattern} must match {path}");
        }
        for path in *no {
            assert!(!compiled.matches(path.as_bytes()), "{pattern} must not match {path}");
        }
    }
}

#[test]
fn bytes_that_are_not_text() {
    let one = Pattern::compile("?").unwrap();
    assert!(one.matches(b"\xff") && one.matches("\u{20ac}".as_bytes()));
    assert!(!one.matches(b"\xff\xff") && !one.matches(b"\xe2\x82"));
    // A star never splits a character, so the class sees all of it.
    assert!(!Pattern::compile("*[^\u{e9}]").unwrap().matches("\u{e9}".as_bytes()));
    assert!(Glob::compile("*[^a]").unwrap().matches(b"x\xfe"));
}

#[test]
fn faults() {
    let rows = [
        ("[", r#"syntax error in pattern "[": the `[` has no `]`"#),
        ("[]", r#"syntax error in pattern "[]": the `[` has no `]`"#),
        ("[^]", r#"syntax error in pattern "[^]": the `[` has no `]`"#),
        ("[a-]", r#"syntax error in pattern "[a-]": the `-` in `[ ]` has no end"#),
        ("[z-a]", r#"syntax error in pattern "[z-a]": a range in `[ ]` ends before it begins"#),
        ("[a\\", r#"syntax error in pattern "[a\\": the `[` has no `]`"#),
        ("a\\", r#"syntax error in pattern "a\\": nothing follows the `\`"#),
    ];
    for (pattern, want) in rows {
        assert_eq!(Pattern::compile(pattern).unwrap_err().to_string(), want);
        assert_eq!(Glob::compile(pattern).unwrap_err().to_string(), want);
    }
}

#[test]
fn globs() {
    type Row = (&'static str, Option<&'static str>, &'static [&'static str], &'static [&'static str]);
    let rows: &[Row] = &[
        ("a", Some("a"), &["a"], &["b"]),
        ("", Some(""), &[""], &["a"]),
        ("a\\*\\\u{e9}", Some("a*\u{e9}"), &["a*\u{e9}"], &["ab"]),
        ("hom*", None, &["home.txt", "hom"], &["ho"]),
        ("*", None, &[".hidden"], &["a/b"]),
        ("**", None, &["a"], &["a/b"]),
        ("[a]", None, &["a"], &["b"]),
        ("d?", None, &["d1"], &["d", "d12"]),
    ];
    for (pattern, literal, yes, no) in rows {
        let glob = Glob::compile(pattern).unwrap();
        assert_eq!(glob.is_literal().as_deref(), *literal, "{pattern}");
        assert!(yes.iter().all(|name| glob.matches(name.as_bytes())), "{pattern}");
        assert!(!no.iter().any(|name| glob.matches(name.as_bytes())), "{pattern}");
    }
}

#[test]
fn below() {
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("a/b/c", &["", "a", "a/b"], &["a/b/c", "b", "ab"]),
        ("a/*", &["a"], &["a/b", "b"]),
        ("*/x", &["a", "b"], &["a/x"]),
        ("**/x", &["", "a", "a/x"], &[]),
        ("a/**", &["a", "a/b"], &["b"]),
        ("*.md", &[""], &["a"]),
        ("[ab]/c", &["a"], &["c"]),
    ];
    for (pattern, yes, no) in rows {
        let pattern = Pattern::compile(pattern).unwrap();
        assert!(yes.iter().all(|dir| pattern.may_match_below(dir.as_bytes())), "{pattern:?}");
        assert!(!no.iter().any(|dir| pattern.may_match_below(dir.as_bytes())), "{pattern:?}");
    }
}

#[test]
fn many_stars_stay_cheap() {
    let pattern = Pattern::compile(&"**/*a".repeat(200)).unwrap();
    assert!(!pattern.matches("a/".repeat(2000).as_bytes()));
}

proptest! {
    #[test]
    fn any_pattern_and_path(pattern in r"[ab/*?\[\]\\^é-]{0,12}", path in proptest::collection::vec(any::<u8>(), 0..12)) {
        if let Ok(pattern) = Pattern::compile(&pattern) {
            let _ = pattern.matches(&path);
            let _ = pattern.may_match_below(&path);
        }
        if let Ok(glob) = Glob::compile(&pattern) {
            let _ = glob.matches(&path);
        }
    }

    #[test]
    fn below_is_never_wrong(pattern in r"[ab/*?]{0,8}", dir in "[ab]{1,2}(/[ab])?", rest in "[ab]{1,2}(/[ab])?") {
        let pattern = Pattern::compile(&pattern).unwrap();
        if pattern.matches(format!("{dir}/{rest}").as_bytes()) {
            prop_assert!(pattern.may_match_below(dir.as_bytes()));
        }
    }
}
