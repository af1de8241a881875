//! The text of a shell command, read as far as the build checks need it.
//!
//! Owns: which variables a text uses and sets, and whether a heredoc's failing middle line would be missed.
//! Refuses nothing: a text that no shell would take gives what was read up to the fault.
//!
//! Invariants: the time is linear in the size of the text; nothing recurses.
//!
//! Sources: POSIX, "Shell Command Language"; bash's `$'…'`.

mod assigned;
mod scan;

use std::ops::Range;

pub use assigned::assigned_variables;
use scan::{Event, Operator, Scanner};

/// The variables that a shell text uses: `$NAME` and `${NAME…}`, not in single quotes, not behind an
/// escape, not in comments or in heredocs with a quoted name. Each comes with the bytes of its name,
/// in the order of the text; one that is used twice comes twice.
#[must_use]
pub fn shell_variables(text: &str) -> Vec<(String, Range<usize>)> {
    let events = Scanner::new(text);
    let names = events.filter_map(|event| match event {
        Event::Variable(range) => Some((text[range.clone()].to_owned(), range)),
        _ => None,
    });
    names.collect()
}

/// Whether the body of a heredoc that is the whole script of a RUN would miss a failure in its
/// middle: it has more than one command and no `#!`, nothing in it sets `errexit`, and neither does
/// `shell`, the words of the stage's SHELL.
///
/// Commands joined by `&&`, `||` or `|` count as one, since their failure is seen; conditions,
/// assignments and `set` do not count. A `shell` that is not of the Bourne family has no `errexit`
/// to miss.
#[must_use]
pub fn lacks_errexit(body: &str, shell: &[String]) -> bool {
    if body.starts_with("#!") || !is_bourne_without_errexit(shell) {
        return false;
    }
    let mut script = Script {
        text: body,
        commands: 0,
        sets_errexit: false,
        words: Vec::new(),
        state: State::Start,
        joined: false,
    };
    for event in Scanner::new(body) {
        match event {
            Event::Word(range) => script.word(range),
            Event::Operator(operator) => script.operator(operator),
            Event::Variable(_) => {}
        }
    }
    script.operator(Operator::End);
    script.commands > 1 && !script.sets_errexit
}

/// What has been read of a script.
struct Script<'t> {
    text: &'t str,
    commands: usize,
    sets_errexit: bool,
    /// The words of the simple command that is being read.
    words: Vec<&'t str>,
    state: State,
    /// Whether the last thing read is an operator that lets the command go on in the next line.
    joined: bool,
}

/// Where in a list of commands the next word stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At its beginning.
    Start,
    /// Behind a command that counted already.
    Counted,
    /// In a condition, which may fail.
    Condition,
    /// Between `case` and `in`.
    Case,
    /// Between `for` and `do`, or behind `function`.
    Header,
}

impl<'t> Script<'t> {
    fn word(&mut self, range: Range<usize>) {
        self.joined = false;
        let word = &self.text[range];
        if !self.words.is_empty() {
            self.words.push(word);
            return;
        }
        self.state = match (word, self.state) {
            ("in", State::Case) | ("do" | "{", State::Header) => State::Start,
            (_, state @ (State::Case | State::Header)) => state,
            ("if" | "elif" | "while" | "until", _) => State::Condition,
            ("case", _) => State::Case,
            ("for" | "select" | "function", _) => State::Header,
            ("then" | "do" | "else" | "{", _) => State::Start,
            ("fi" | "done" | "esac" | "}", _) => State::Counted,
            ("!", state) => state,
            (_, state) => {
                self.words.push(word);
                state
            }
        };
    }

    fn operator(&mut self, operator: Operator) {
        if operator == Operator::Line && self.joined {
            return;
        }
        self.joined = operator == Operator::Join;
        match operator {
            // What stands before `)` alone is a pattern of `case`; before `()`, a function's name.
            Operator::Close { open: false } | Operator::Open => self.words.clear(),
            _ => self.command(),
        }
        self.state = match (operator, self.state) {
            (Operator::Join | Operator::Open, state) | (_, state @ (State::Condition | State::Case)) => state,
            (Operator::End | Operator::Close { .. }, State::Header) => State::Header,
            (Operator::Close { open: true }, _) => State::Counted,
            _ => State::Start,
        };
    }

    /// Ends a simple command.
    fn command(&mut self) {
        let words = std::mem::take(&mut self.words);
        let is_assignment = |word: &&&str| {
            let (name, value) = word.split_once('=').unwrap_or(("", ""));
            let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            named && !value.contains("$(") && !value.contains('`')
        };
        let skipped = words.iter().take_while(is_assignment).count();
        match &words[skipped..] {
            [] => {}
            ["set", options @ ..] => self.sets_errexit |= sets_errexit(options),
            _ if self.state == State::Start => {
                self.commands += 1;
                self.state = State::Counted;
            }
            _ => {}
        }
    }
}

/// Whether SHELL is of the Bourne family and is called without `-e`.
fn is_bourne_without_errexit(shell: &[String]) -> bool {
    // The second one for `busybox sh` and `/usr/bin/env bash`.
    let names_bourne = shell.iter().take(2).any(|word| {
        let name = word.rsplit('/').next().unwrap_or_default();
        matches!(name, "sh" | "ash" | "bash" | "dash" | "ksh" | "ksh93" | "mksh" | "oksh" | "yash" | "zsh")
    });
    let options: Vec<&str> = shell.iter().skip(1).map(String::as_str).collect();
    names_bourne && !sets_errexit(&options)
}

/// Whether the options of a shell or of `set` have `-e`, by itself or among others, or `-o errexit`.
/// Words that are no options are skipped, so `busybox sh -e -c` has it.
fn sets_errexit(options: &[&str]) -> bool {
    let mut options = options.iter().map(|word| word.trim_matches(['"', '\'']));
    while let Some(word) = options.next() {
        let Some(letters) = word.strip_prefix('-') else {
            continue;
        };
        if letters == "-" {
            return false;
        }
        if letters.starts_with('-') {
            continue;
        }
        if letters.contains('e') || (letters.ends_with('o') && options.next() == Some("errexit")) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
