//! Instruction flags: the words that start `--` directly after the instruction word.

use std::ops::Range;

use super::suggest;
use super::syntax_error::Fault;

/// How a flag takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `--f=value`, once.
    Text,
    /// `--f=value`, any number of times.
    List,
    /// `--f`, `--f=true` or `--f=false`, once.
    Switch,
}

/// A flag word, its quotes and escapes removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawFlag {
    /// What follows the two dashes.
    text: String,
    range: Range<usize>,
}

impl RawFlag {
    /// The name, without the dashes and the value.
    pub(super) fn name(&self) -> &str {
        self.text.split_once('=').map_or(self.text.as_str(), |(name, _)| name)
    }

    /// The place in the instruction's text.
    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// The flags of one instruction, checked against those it knows.
#[derive(Debug)]
pub(super) struct Flags {
    values: Vec<(&'static str, String, Range<usize>)>,
}

/// Cuts the flag words off `text` from byte `from` on, and gives back where the arguments begin.
///
/// The first word that does not start with two dashes ends them. A bare `--` ends them too, and
/// belongs to neither.
pub(super) fn split(text: &str, from: usize, escape: char) -> (Vec<RawFlag>, usize) {
    let mut flags = Vec::new();
    let mut start = from;
    loop {
        let rest = &text[start..];
        start += rest.len() - rest.trim_start().len();
        if !text[start..].starts_with("--") {
            return (flags, start);
        }
        let (word, end) = word(text, start, escape);
        match word.strip_prefix("--") {
            None | Some("") => return (flags, end),
            Some(flag) => flags.push(RawFlag { text: flag.to_owned(), range: start..end }),
        }
        start = end;
    }
}

/// Reads the word at `start`, and gives back its end.
fn word(text: &str, start: usize, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text[start..].char_indices();
    while let Some((at, character)) = chars.next() {
        if character == escape {
            word.extend(chars.next().map(|(_, next)| next));
            continue;
        }
        match quote {
            Some(open) if character == open => quote = None,
            None if character.is_whitespace() => return (word, start + at),
            None if matches!(character, '\'' | '"') => quote = Some(character),
            _ => word.push(character),
        }
    }
    (word, text.len())
}

/// Checks flags against those that an instruction knows.
pub(super) fn read(raw: &[RawFlag], known: &[(&'static str, Shape)]) -> Result<Flags, Fault> {
    let mut values = Vec::new();
    let mut seen: Vec<&'static str> = Vec::new();
    for flag in raw {
        let fault = |message: String| Fault::new(message).at(flag.range());
        let (name, value) = match flag.text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag.text.as_str(), None),
        };
        let Some(&(name, shape)) = known.iter().find(|(known, _)| *known == name) else {
            let suggestion = suggest::nearest(name, known.iter().map(|(known, _)| known));
            return Err(fault(format!("unknown flag: --{name}")).suggest(suggestion));
        };
        if seen.contains(&name) {
            if shape != Shape::List {
                return Err(fault(format!("duplicate flag specified: --{name}")));
            }
        } else {
            seen.push(name);
        }
        let value = match (shape, value) {
            (_, Some("")) | (Shape::Text | Shape::List, None) => {
                return Err(fault(format!("missing a value on flag: --{name}")));
            }
            (Shape::Switch, None) => "true".to_owned(),
            (Shape::Switch, Some(value)) => match value.to_lowercase() {
                value if matches!(value.as_str(), "true" | "false") => value,
                _ => {
                    return Err(fault(format!("expecting boolean value for flag --{name}, not: {value}")));
                }
            },
            (Shape::Text | Shape::List, Some(value)) => value.to_owned(),
        };
        values.push((name, value, flag.range()));
    }
    Ok(Flags { values })
}

impl Flags {
    /// The value of a [`Shape::Text`] flag.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.placed(name).next().map(|(value, _)| value.to_owned())
    }

    /// The values of a [`Shape::List`] flag, in order.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.placed(name).map(|(value, _)| value.to_owned()).collect()
    }

    /// The value of a [`Shape::Switch`] flag, if it was given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value == "true")
    }

    /// The values of a flag, in order, each with the place of its whole word.
    pub(super) fn placed(&self, name: &str) -> impl Iterator<Item = (&str, Range<usize>)> {
        let named = self.values.iter().filter(move |(known, ..)| *known == name);
        named.map(|(_, value, range)| (value.as_str(), range.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (text, want, rest) in [
            ("--a=b c", vec!["a=b"], "c"),
            ("  --a  --b=\"x y\" z", vec!["a", "b=x y"], "z"),
            ("--a='x \"y' --b=p\\ q r", vec!["a=x \"y", "b=p q"], "r"),
            ("--a=\"x\\\"y\" --b='x\\'y' z", vec!["a=x\"y", "b=x'y"], "z"),
            ("--a -- --b", vec!["a"], " --b"),
            ("-a --b", vec![], "-a --b"),
            ("--a=\"open z", vec!["a=open z"], ""),
            ("--a\\", vec!["a"], ""),
            ("--é=ü\u{a0}--b", vec!["é=ü", "b"], ""),
            ("", vec![], ""),
        ] {
            let (flags, end) = split(text, 0, '\\');
            let flags: Vec<_> = flags.iter().map(|flag| flag.text.as_str()).collect();
            assert_eq!((flags, &text[end..]), (want, rest), "{text}");
        }
        let (flags, _) = split("--a=`\"\\", 0, '`');
        assert_eq!(flags[0].text, "a=\"\\");
    }

    #[test]
    fn shapes_and_faults() {
        const KNOWN: &[(&str, Shape)] =
            &[("from", Shape::Text), ("mount", Shape::List), ("link", Shape::Switch)];
        let read = |text| read(&split(text, 0, '\\').0, KNOWN);
        let flags = read("--mount=a --from=x=y --mount=b --link=TRUE").unwrap();
        assert_eq!(flags.text("from").as_deref(), Some("x=y"));
        assert_eq!(flags.list("mount"), ["a", "b"]);
        assert_eq!(flags.switch("link"), Some(true));
        assert_eq!(read("--link").unwrap().switch("link"), Some(true));
        assert_eq!(read("--link=false").unwrap().switch("link"), Some(false));
        assert_eq!(read("x").unwrap().switch("link"), None);
        for (text, want) in [
            ("--from", "missing a value on flag: --from"),
            ("--from=", "missing a value on flag: --from"),
            ("--mount", "missing a value on flag: --mount"),
            ("--link=", "missing a value on flag: --link"),
            ("--link=x", "expecting boolean value for flag --link, not: x"),
            ("--from=a --from=b", "duplicate flag specified: --from"),
            ("--link --link", "duplicate flag specified: --link"),
            ("--form=a", "unknown flag: --form (did you mean from?)"),
            ("--zzz=a", "unknown flag: --zzz"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), want, "{text}");
        }
    }
}
