use proptest::prelude::*;

use super::*;

#[test]
fn variables() {
    for (text, want) in [
        ("echo $A ${B}c $_x1", vec!["A", "B", "_x1"]),
        (
            "echo ${A:-$B} ${C:+${D}} ${#E} ${!F} ${G%%/*} ${H[0]}",
            vec!["A", "B", "C", "D", "E", "F", "G", "H"],
        ),
        ("echo '$A' \"$B '$C'\" \\$D \"\\$E\" \\\\$F", vec!["B", "C", "F"]),
        ("echo $1 $@ $? $$ $! $# $- $* $ ${} ${1} $%", vec![]),
        ("echo $A$A", vec!["A", "A"]),
        ("echo \"$(echo '$A' \"$B\")\" $(echo '$C' $D)", vec!["B", "D"]),
        ("echo `echo $A '$B'`", vec!["A"]),
        ("echo $'a\\'$B' $C", vec!["C"]),
        ("echo \"$'\" $A", vec!["A"]),
        ("echo \"${A:-'$B'}\" ${C:-'$D'}", vec!["A", "B", "C"]),
        ("echo a#$A # $B don't\necho $C", vec!["A", "C"]),
        ("echo $((A << $B)) $C\necho $D", vec!["B", "C", "D"]),
        ("cat <<E $A\n$B '$C' \\$D ${E}\nE\necho $F", vec!["A", "B", "C", "E", "F"]),
        ("cat <<'E' $A\n$B don't\nE\necho $F", vec!["A", "F"]),
        ("cat <<-\\E <<F\n\t$A\n\tE\n$B\nF\necho $C", vec!["B", "C"]),
        ("x=$(cat <<'E'\n$A )\nE\n) $B", vec!["B"]),
        ("cat <<< $A\necho $B", vec!["A", "B"]),
        ("cat <<E\n$A\n", vec!["A"]),
        ("a=$A b=\"$B", vec!["A", "B"]),
        ("echo 'open $A", vec![]),
        ("echo é$É $é${à} $A", vec!["A"]),
        ("$A\\", vec!["A"]),
        ("(echo $A; { echo ${B}; })", vec!["A", "B"]),
        ("case $A in x) echo $B;; esac", vec!["A", "B"]),
    ] {
        let found = shell_variables(text);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, want, "{text}");
        assert!(found.iter().all(|(name, range)| text[range.clone()] == *name), "{text}");
    }
    assert_eq!(shell_variables("a ${BC}"), [("BC".to_owned(), 4..6)]);
}

fn shell(words: &str) -> Vec<String> {
    words.split(' ').map(str::to_owned).collect()
}

#[test]
fn bodies_that_miss_failures() {
    for (body, want) in [
        ("a\nb\n", true),
        ("a; b", true),
        ("a & b", true),
        ("a\n\n# c\nb", true),
        ("(a\nb)", true),
        ("{ a; b; }", true),
        ("{ a; b; } || exit 1", true),
        ("if x; then a; b; fi", true),
        ("for x in a b; do a; b; done", true),
        ("case x in\n a) b;;\n (c|d) e;;\nesac", true),
        ("f() { a; b; }\nf", true),
        ("function f {\n a\n}\nf", true),
        ("A=$(x)\nb", true),
        ("a || true\nb", true),
        ("echo 'set -e'\nb", true),
        ("# set -e\na\nb", true),
        ("echo set -e\nb", true),
        ("set -x\na\nb", true),
        ("set +e\na\nb", true),
        ("set -o pipefail\na\nb", true),
        ("set -- -e\na\nb", true),
        ("cat <<E > f\nset -e\nE\nb", true),
        ("! a\nb", true),
        ("a \\\n  -e\nb", true),
        ("", false),
        ("a\n", false),
        ("# a\n\na # b; c\n", false),
        ("a && b && c\n", false),
        ("a &&\n b |\n c", false),
        ("a \\\n  b \\\n  c", false),
        ("echo 'a\nb; c' \"$(d; e)\"", false),
        ("a > /x 2>&1 &>/y <&-", false),
        ("A=1\nB='2 3'\nx", false),
        ("A=1 a", false),
        ("set -x\na", false),
        ("for x in a b; do\n a\ndone", false),
        ("for ((i=0; i<3; i++)); do a; done", false),
        ("while read x; do a; done", false),
        ("if x; then a; fi && b", false),
        ("(a) && b", false),
        ("cat <<E > f\na\nb; c\nE\n", false),
        ("#!/bin/sh\na\nb", false),
        ("set -e\na\nb", false),
        ("set -eu; a; b", false),
        ("set -ex && a\nb", false),
        ("  set -euxo pipefail\na\nb", false),
        ("set -o errexit\na\nb", false),
        ("set -uo errexit\na\nb", false),
        ("set -o pipefail -o errexit\na\nb", false),
        ("set -x -e\na\nb", false),
        ("set -x; set \"-e\"\na\nb", false),
        ("A=1\nset -e\na\nb", false),
        ("if true; then set -e; fi\na\nb", false),
    ] {
        assert_eq!(lacks_errexit(body, &shell("/bin/sh -c")), want, "{body:?}");
    }
}

#[test]
fn shells_that_miss_failures() {
    for (words, want) in [
        ("/bin/sh -c", true),
        ("bash -c", true),
        ("/bin/bash -o pipefail -c", true),
        ("/bin/bash -xo pipefail -c", true),
        ("/usr/bin/env bash -c", true),
        ("/bin/busybox sh -c", true),
        ("bash --norc -c", true),
        ("/bin/sh -ec", false),
        ("/bin/sh -e -c", false),
        ("bash -euo pipefail -c", false),
        ("bash -o errexit -c", false),
        ("bash -o pipefail -o errexit -c", false),
        ("bash --norc -ec", false),
        ("busybox ash -ec", false),
        ("python3 -c", false),
        ("pwsh -Command", false),
        ("", false),
    ] {
        assert_eq!(lacks_errexit("a\nb", &shell(words)), want, "{words}");
    }
    assert!(!lacks_errexit("a\nb", &[]));
}

#[test]
fn large_texts_take_linear_time() {
    for text in [
        "${A:-".repeat(200_000),
        "$(".repeat(200_000),
        "\"$(".repeat(200_000),
        "a <<E ".repeat(100_000) + "\nE\n",
        "cat <<E\n".repeat(100_000),
        "'a'\"b\"".repeat(100_000),
        "a; b\n".repeat(100_000),
        "(".repeat(300_000),
        "\\\n".repeat(200_000),
        "case x in a) b;; ".repeat(50_000),
    ] {
        assert!(shell_variables(&text).len() < text.len());
        assert!(
            !lacks_errexit(&text, &shell("sh -ec")) && !lacks_errexit(&format!("#!{text}"), &shell("sh -c"))
        );
        let _ = lacks_errexit(&text, &shell("sh -c"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text(text in r#"[a${}()'"`\\<E#;&|!: \n-]{0,40}|.{0,20}"#) {
        let found = shell_variables(&text);
        for (name, range) in &found {
            prop_assert_eq!(&text[range.clone()], name.as_str());
            prop_assert!(text[..range.start].contains('$'));
        }
        prop_assert!(found.windows(2).all(|pair| pair[0].1.end <= pair[1].1.start));
        prop_assert!(text.contains([';', '&', '\n', '(', ')']) || !lacks_errexit(&text, &shell("sh -c")));
    }

    #[test]
    fn errexit_is_never_missed_behind_set(text in "[a-z ;|\n]{0,30}") {
        let body = format!("set -e\n{text}");
        prop_assert!(!lacks_errexit(&body, &shell("sh -c")));
    }
}
