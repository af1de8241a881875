use proptest::prelude::*;

use super::*;

/// The variables of every row below.
fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "v" | "V" => "val",
        "e" => "",
        "A" => "old",
        "words" => "a  b",
        "path" => "/usr/local/lib/libx.so.1",
        "stars" => "a*b?c\\d",
        "slash" => "a/b}c",
        "lines" => "one\ntwo",
        "\u{e9}t\u{e9}" => "summer",
        "12" => "twelve",
        "quoted" => "'$v'",
        _ => return None,
    };
    Some(value.to_owned())
}

fn text(word: &str) -> String {
    expand(word, '\\', &lookup).map_or_else(|fault| fault.kind().to_string(), |expanded| expanded.text)
}

#[test]
fn values() {
    for (word, want) in [
        ("", ""),
        ("plain", "plain"),
        ("$v", "val"),
        ("${v}", "val"),
        ("$vx", ""),
        ("${v}x", "valx"),
        ("$v.$e.$no", "val.."),
        ("$\u{e9}t\u{e9}", "summer"),
        ("$12a", "twelvea"),
        ("$@$*$#$?$-$$$!$0", ""),
        ("${@}x", "x"),
        ("$", "$"),
        ("a$", "a$"),
        ("$ $.$\\v", "$ $.$v"),
        ("$quoted", "'$v'"),
        ("/o/$NOPE/x/", "/o//x/"),
        // Unset, or unset and empty.
        ("${v:-w}", "val"),
        ("${e:-w}", "w"),
        ("${no:-w}", "w"),
        ("${v-w}", "val"),
        ("${e-w}", ""),
        ("${no-w}", "w"),
        ("${no-}", ""),
        ("${v:+w}", "w"),
        ("${e:+w}", ""),
        ("${no:+w}", ""),
        ("${v+w}", "w"),
        ("${e+w}", "w"),
        ("${no+w}", ""),
        ("${v:?w}", "val"),
        ("${v?w}", "val"),
        ("${e?w}", ""),
        // Nested, quoted, escaped.
        ("${no:-$v}", "val"),
        ("${no:-${no:-${v}}}", "val"),
        ("${no:-'$v'}", "$v"),
        ("${no:-\"$v }\"}", "val }"),
        ("${no:-a\\}b}", "a}b"),
        ("\"${no:-a b}\"", "a b"),
        ("${v:+${e:+x}y}", "y"),
        // Prefixes and suffixes.
        ("${path#*/}", "usr/local/lib/libx.so.1"),
        ("${path##*/}", "libx.so.1"),
        ("${path%/*}", "/usr/local/lib"),
        ("${path%%/*}", ""),
        ("${path%%.*}", "/usr/local/lib/libx"),
        ("${path%.*}", "/usr/local/lib/libx.so"),
        ("${path#/usr}", "/local/lib/libx.so.1"),
        ("${path#usr}", "/usr/local/lib/libx.so.1"),
        ("${path%?}", "/usr/local/lib/libx.so."),
        ("${path##$no/*/}", "libx.so.1"),
        ("${v#}", "val"),
        ("${v#v*}", "al"),
        ("${v##v*}", ""),
        ("${no#x}", ""),
        ("${stars#a\\*}", "b?c\\d"),
        ("${stars%\\?*}", "a*b"),
        ("${stars%\\\\d}", "a*b?c"),
        ("${slash%\\}c}", "a/b"),
        ("${slash#a\\/}", "b}c"),
        ("${lines##*}", "\ntwo"),
        ("${path#[/]}", "/usr/local/lib/libx.so.1"),
        // Replacements.
        ("${path/l/L}", "/usr/Local/lib/libx.so.1"),
        ("${path//l/L}", "/usr/LocaL/Lib/Libx.so.1"),
        ("${path/l*\\//-}", "/usr/-libx.so.1"),
        ("${path//\\//:}", ":usr:local:lib:libx.so.1"),
        ("${path//l?/<$v>}", "/usr/<val>ca<val><val>b/<val>bx.so.1"),
        ("${v/x/y}", "val"),
        ("${v//*/x}", "x"),
        ("${e//*/x}", "x"),
        ("${v//a/}", "vl"),
        ("${v/a/\\$1}", "v\\$1l"),
        ("${v///-}", "-v-a-l-"),
        ("${no/x/y}", ""),
        // Quotes and escapes.
        ("'$v \\'", "$v \\"),
        ("\"$v '$v'\"", "val 'val'"),
        ("\"\\$v \\\" \\\\ \\n\"", "$v \" \\ \\n"),
        ("\\$v \\' \\\" \\\\ \\n", "$v ' \" \\ n"),
        ("a\\", "a"),
        ("a\"b\"c''", "abc"),
        ("a  b", "a  b"),
    ] {
        assert_eq!(text(word), want, "{word}");
    }
}

#[test]
fn the_sample_of_the_reference() {
    for (value, want) in [
        ("\"a b\"", "a b"),
        ("'c d'", "c d"),
        ("e\\ f", "e f"),
        ("$Q", ""),
        ("\"${Q}x\"", "x"),
        ("'$A'", "$A"),
        ("\\$A", "$A"),
        ("\"q\\\"q\"", "q\"q"),
        ("a\"b\"c", "abc"),
    ] {
        assert_eq!(text(value), want, "{value}");
    }
}

#[test]
fn faults() {
    let open = "unexpected end of statement while looking for matching ";
    for (word, want) in [
        ("${}", "syntax error: bad substitution"),
        ("${:", "syntax error: bad substitution"),
        ("${:-x}", "syntax error: bad substitution"),
        ("${{v}}", "syntax error: bad substitution"),
        ("${", "syntax error: missing '}'"),
        ("a${v", "syntax error: missing '}'"),
        ("${v:", "syntax error: missing '}'"),
        ("${v:-w", "syntax error: missing '}'"),
        ("${v:-'w}", "syntax error: missing '}'"),
        ("${v/a/b", "syntax error: missing '}'"),
        ("${v/a}", "syntax error: missing '/' in ${}"),
        ("${v//", "syntax error: missing '/' in ${}"),
        ("${v^}", "unsupported modifier (^) in substitution"),
        ("${v:^}", "unsupported modifier (:^) in substitution"),
        ("${v:#a}", "unsupported modifier (:#) in substitution"),
        ("${v:%a}", "unsupported modifier (:%) in substitution"),
        ("${^}", "unsupported modifier (^) in substitution"),
        ("${no:-${v^}}", "unsupported modifier (^) in substitution"),
        ("${no:?}", "no: is not allowed to be unset"),
        ("${no?}", "no: is not allowed to be unset"),
        ("${e:?}", "e: is not allowed to be empty"),
        ("${e:?give $v}", "e: give val"),
        ("${no?w}", "no: w"),
        ("${v#\\x}", "invalid pattern (\\x) in substitution: invalid escape '\\x'"),
        ("${v/\\x/y}", "invalid pattern (\\x) in substitution: invalid escape '\\x'"),
        ("\"a", &format!("{open}double-quote")),
        ("\"a\\", &format!("{open}double-quote")),
        ("'a\\", &format!("{open}single-quote")),
    ] {
        assert_eq!(text(word), want, "{word}");
    }
    let fault = expand("a\"b", '\\', &lookup).unwrap_err();
    assert_eq!(fault.to_string(), format!(r#"failed to process "a\"b": {open}double-quote"#));
}

#[test]
fn another_escape_character() {
    let text = |word| expand(word, '`', &lookup).unwrap().text;
    assert_eq!(text("`$v \\$v \"`$v``\\\" c:\\x"), "$v \\val $v`\\ c:\\x");
    assert_eq!(text("a`"), "a");
}

#[test]
fn undefined_names() {
    let undefined = |word| expand(word, '\\', &lookup).unwrap().undefined;
    assert_eq!(undefined("$x$v${y:-$z}$x${w+a}${u%a}"), ["x", "z", "u"]);
    assert_eq!(undefined("\\$x'$y'$v$e"), [""; 0]);
}

#[test]
fn words() {
    for (word, want) in [
        ("$words", &["a", "b"] as &[&str]),
        ("\"$words\"", &["a  b"]),
        ("x$words", &["xa", "b"]),
        ("${no:-1 2}3", &["1", "23"]),
        (" a\tb\\ c 'd e'f ", &["a", "b c", "d ef"]),
        ("$no", &[]),
        ("'' a \"\"", &["a"]),
        ("${words#a}", &["b"]),
    ] {
        assert_eq!(expand_words(word, '\\', &lookup).unwrap().0, want, "{word}");
    }
}

#[test]
fn heredocs() {
    let text = |body| expand_heredoc(body, &lookup).unwrap().text;
    assert_eq!(text("hello $V \\$V ${V:-z} \"q\"\n"), "hello val $V val \"q\"\n");
    assert_eq!(text("it's '$v' ${no:-\"x'}\n\\\\"), "it's 'val' \"x'\n\\");
}

#[test]
fn neither_stack_nor_memory_is_exhausted() {
    assert!(text(&"${a:-".repeat(100_000)).starts_with("substitutions are nested"));
    let big = |_: &str| Some("x".repeat(1 << 20));
    assert_eq!(*expand(&"$a".repeat(100), '\\', &big).unwrap_err().kind(), ExpandErrorKind::TooLong);
    let fault = expand("${a//x/$a}", '\\', &big).unwrap_err();
    assert_eq!(*fault.kind(), ExpandErrorKind::TooLong);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_word(word in r#"[${}:/#%?*+\\'"`v -]{0,24}|.{0,12}"#) {
        for escape in ['\\', '`'] {
            let _ = expand(&word, escape, &lookup);
            let _ = expand_words(&word, escape, &lookup);
        }
        let _ = expand_heredoc(&word, &lookup);
    }

    #[test]
    fn text_without_special_characters_stays(word in "[^$'\"\\\\]{0,20}") {
        prop_assert_eq!(expand(&word, '\\', &lookup).unwrap().text, word);
    }

    #[test]
    fn trimming_agrees_with_trying_all_cuts(pattern in r"[ab*?]{0,5}", value in "[ab]{0,8}") {
        let find = |word: &str| expand(word, '\\', &|_| Some(value.clone())).unwrap().text;
        let whole = |part: &str| expand(&format!("${{v##{pattern}}}"), '\\', &|_| Some(part.to_owned())).unwrap().text.is_empty()
            && (!part.is_empty() || pattern.chars().all(|c| c == '*'));
        let cuts: Vec<usize> = (0..=value.len()).filter(|cut| whole(&value[*cut..])).collect();
        let shortest = cuts.last().map_or(value.as_str(), |cut| &value[..*cut]);
        let longest = cuts.first().map_or(value.as_str(), |cut| &value[..*cut]);
        prop_assert_eq!(find(&format!("${{v%{pattern}}}")), shortest);
        prop_assert_eq!(find(&format!("${{v%%{pattern}}}")), longest);
    }
}
