//! Which variables a shell text gives a value.

use std::collections::BTreeSet;

/// What ends a command, or begins one inside a word.
const SEPARATORS: [char; 7] = ['\n', ';', '&', '|', '(', ')', '`'];
/// Words that a command may follow.
const KEYWORDS: [&str; 12] =
    ["if", "elif", "while", "until", "then", "do", "else", "{", "!", "time", "\\", "command"];
/// Commands that take assignments as arguments.
const DECLARING: [&str; 5] = ["export", "local", "declare", "readonly", "typeset"];
/// Commands that set the variables that they are given the names of.
const SETTING: [&str; 7] = ["read", "mapfile", "readarray", "getopts", "printf", "for", "select"];

/// What the words read so far make of the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A command may begin.
    Command,
    /// An argument of one of [`DECLARING`].
    Declared,
    /// An argument of one of [`SETTING`].
    Set,
    /// An argument like others, which assigns nothing.
    Argument,
}

/// The variables that a shell text gives a value of their own: by an assignment where a command may
/// begin or behind `export` and its like, by `for` or `read`, by `${NAME:=…}`.
///
/// `NAME=$NAME` is none. Where quotes hide what stands where, a variable counts as set.
#[must_use]
pub fn assigned_variables(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut next = Next::Command;
    // Whether a double or single quote of an assignment's value is open.
    let mut open = None;
    for piece in text.split_inclusive(SEPARATORS) {
        for word in piece.trim_end_matches(SEPARATORS).split_whitespace() {
            let assignment = assignment(word);
            if open.is_some() {
                open = open_quote(word, open);
                found.extend(assignment.map(|(name, _)| name));
                continue;
            }
            next = match (next, assignment) {
                (Next::Command | Next::Declared, Some((name, value))) => {
                    if !is_itself(name, value) {
                        found.insert(name);
                    }
                    open = open_quote(value, None);
                    next
                }
                (Next::Command, None) => match word {
                    word if KEYWORDS.contains(&word) => Next::Command,
                    word if DECLARING.contains(&word) => Next::Declared,
                    word if SETTING.contains(&word) => Next::Set,
                    _ => Next::Argument,
                },
                (Next::Set, _) => {
                    found.insert(word);
                    next
                }
                (next, _) => next,
            };
        }
        // Behind a backslash the next line goes on with the command.
        if !piece.ends_with("\\\n") {
            next = Next::Command;
        }
    }
    for rest in text.split("${").skip(1) {
        let (name, rest) = rest.split_at(name_length(rest));
        if !name.is_empty() && (rest.starts_with(":=") || rest.starts_with('=')) {
            found.insert(name);
        }
    }
    found
}

/// The name and the value of `NAME=value` and `NAME+=value`.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, rest) = word.split_at(name_length(word));
    let value = rest.strip_prefix("+=").or_else(|| rest.strip_prefix('='))?;
    (!name.is_empty()).then_some((name, value))
}

fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Whether a value is nothing but the variable of this name.
fn is_itself(name: &str, value: &str) -> bool {
    let used = value.trim_matches(['"', '\'']).strip_prefix('$');
    used.is_some_and(|used| {
        used == name || used.strip_prefix('{').and_then(|used| used.strip_suffix('}')) == Some(name)
    })
}

/// The quote that is open behind a text, if one is.
fn open_quote(text: &str, before: Option<char>) -> Option<char> {
    text.chars().fold(before, |open, character| match (open, character) {
        (None, '"' | '\'') => Some(character),
        (Some(quote), character) if quote == character => None,
        (open, _) => open,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_set() {
        for (text, want) in [
            ("A=1; echo $A", &["A"][..]),
            ("A=1 B=2 c C=3", &["A", "B"]),
            ("echo A=$A", &[]),
            ("make -j A=1 \\\n B=2", &[]),
            ("export A=1 B", &["A"]),
            ("local -r A=1; readonly B=2", &["A", "B"]),
            ("if A=$(b); then C=d; fi", &["A", "C"]),
            ("for A in b; do c; done", &["A", "b", "in"]),
            ("read -r A B", &["-r", "A", "B"]),
            ("case x in y) A=1;; esac", &["A"]),
            ("b && A=1 || C+=2", &["A", "C"]),
            ("x=$(A=1; b)", &["A", "x"]),
            ("A=$A b", &[]),
            ("A=\"${A}\" b", &[]),
            ("A=${A:-b} c", &["A"]),
            (": \"${A:=b}\" ${C=d} ${E:-f}", &["A", "C"]),
            ("A=\"x y\" B=2 c", &["A", "B"]),
            ("A=\"x y\" c B=2", &["A"]),
            ("printf -v A b", &["-v", "A", "b"]),
            ("sh -c 'b A=1'", &[]),
            ("1A=2 =3 A-B=4", &[]),
        ] {
            assert_eq!(assigned_variables(text).into_iter().collect::<Vec<_>>(), want, "{text}");
        }
    }
}
