//! Reads a text character by character and puts values in place of variables.
//!
//! Each `read_` function begins behind the character that called for it and
//! ends behind the last character that belongs to it.

use std::collections::HashSet;

use super::shell_pattern::ShellPattern;
use super::{ExpandError, ExpandErrorKind as Kind, MAX_DEPTH, MAX_LENGTH};

/// Collects a result twice: whole, and split into words.
#[derive(Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Output {
    /// Adds text that white space splits.
    fn push_split(&mut self, text: &str) {
        self.text.push_str(text);
        for c in text.chars() {
            if !c.is_whitespace() {
                self.word.push(c);
            } else if !self.word.is_empty() {
                self.words.push(std::mem::take(&mut self.word));
            }
        }
    }

    /// Adds text that stays in one word.
    fn push_whole(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn finish(mut self) -> (String, Vec<String>) {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        (self.text, self.words)
    }
}

pub(super) struct Lexer<'a> {
    source: &'a str,
    rest: &'a str,
    escape: char,
    /// Whether quotes mean anything.
    quotes: bool,
    /// Whether escapes stay in the result, as a pattern needs them.
    raw: bool,
    depth: u32,
    /// Bytes that substitutions gave so far.
    given: usize,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    undefined: Vec<String>,
    seen: HashSet<String>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(
        source: &'a str,
        escape: char,
        quotes: bool,
        lookup: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self {
            source,
            rest: source,
            escape,
            quotes,
            raw: false,
            depth: 0,
            given: 0,
            lookup,
            undefined: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// The result whole, the result split into words, and the names without value.
    pub(super) fn run(mut self) -> Result<(String, Vec<String>, Vec<String>), ExpandError> {
        match self.read_until(None, false) {
            Ok(output) => {
                let (text, words) = output.finish();
                Ok((text, words, self.undefined))
            }
            Err(kind) => Err(ExpandError { text: self.source.to_owned(), kind }),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Reads up to (and drops) `stop`, or up to the end.
    fn read_until(&mut self, stop: Option<char>, raw: bool) -> Result<Output, Kind> {
        let before = std::mem::replace(&mut self.raw, raw);
        let output = self.read_plain(stop);
        self.raw = before;
        output
    }

    fn read_plain(&mut self, stop: Option<char>) -> Result<Output, Kind> {
        let mut output = Output::default();
        while let Some(c) = self.next() {
            match c {
                _ if Some(c) == stop => return Ok(output),
                '$' => output.push_split(&self.read_dollar()?),
                '\'' if self.quotes => output.push_whole(self.read_single_quotes()?),
                '"' if self.quotes => output.push_whole(&self.read_double_quotes()?),
                _ if c == self.escape => {
                    if self.raw {
                        output.push_whole(c.encode_utf8(&mut [0; 4]));
                    }
                    if let Some(escaped) = self.next() {
                        output.push_whole(escaped.encode_utf8(&mut [0; 4]));
                    }
                }
                _ => output.push_split(c.encode_utf8(&mut [0; 4])),
            }
        }
        // The caller says which of the two closing characters is missing.
        if stop.is_some() { Err(Kind::MissingBrace) } else { Ok(output) }
    }

    fn read_single_quotes(&mut self) -> Result<&'a str, Kind> {
        let Some((quoted, rest)) = self.rest.split_once('\'') else {
            self.rest = "";
            return Err(Kind::OpenQuote("single-quote"));
        };
        self.rest = rest;
        Ok(quoted)
    }

    fn read_double_quotes(&mut self) -> Result<String, Kind> {
        let mut text = String::new();
        while let Some(mut c) = self.next() {
            match c {
                '"' => return Ok(text),
                '$' => {
                    text.push_str(&self.read_dollar()?);
                    continue;
                }
                _ if c == self.escape => {
                    if self.raw {
                        text.push(c);
                    }
                    match self.peek() {
                        Some(escaped) if escaped == '"' || escaped == '$' || escaped == self.escape => {
                            c = escaped;
                            self.next();
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
            text.push(c);
        }
        Err(Kind::OpenQuote("double-quote"))
    }

    /// Reads what follows a `$`.
    fn read_dollar(&mut self) -> Result<String, Kind> {
        let value = if self.peek() == Some('{') {
            self.next();
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(Kind::TooDeep);
            }
            let value = self.read_braces()?;
            self.depth -= 1;
            value
        } else {
            let name = self.read_name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            self.value(name).unwrap_or_default()
        };
        self.given += value.len();
        if self.given > MAX_LENGTH { Err(Kind::TooLong) } else { Ok(value) }
    }

    /// Reads what follows `${`, with the closing brace.
    fn read_braces(&mut self) -> Result<String, Kind> {
        match self.peek() {
            None => return Err(Kind::MissingBrace),
            Some('{' | '}' | ':') => return Err(Kind::BadSubstitution),
            Some(_) => {}
        }
        let name = self.read_name();
        match self.next() {
            None => Err(Kind::MissingBrace),
            Some('}') => Ok(self.value(name).unwrap_or_default()),
            Some('/') => self.read_replacement(name),
            Some(':') => {
                let modifier = self.next().ok_or(Kind::MissingBrace)?;
                self.read_modifier(name, modifier, true)
            }
            Some(modifier @ ('+' | '-' | '?' | '#' | '%')) => self.read_modifier(name, modifier, false),
            Some(other) => Err(Kind::UnsupportedModifier(other.to_string())),
        }
    }

    /// Reads a part of a substitution up to `stop`. A fault that reaches the end
    /// of the text is a missing `stop`: nothing before it can be told apart.
    fn read_part(&mut self, stop: char, raw: bool, missing: Kind) -> Result<String, Kind> {
        match self.read_until(Some(stop), raw) {
            Ok(output) => Ok(output.text),
            Err(kind @ (Kind::TooDeep | Kind::TooLong)) => Err(kind),
            Err(_) if self.rest.is_empty() => Err(missing),
            Err(kind) => Err(kind),
        }
    }

    /// `colon`: an empty value counts as unset.
    fn read_modifier(&mut self, name: &str, modifier: char, colon: bool) -> Result<String, Kind> {
        let raw = matches!(modifier, '#' | '%');
        let word = self.read_part('}', raw, Kind::MissingBrace)?;
        // Whoever says what stands in for a missing value knows that it may be missing.
        let value = if raw { self.value(name) } else { (self.lookup)(name) };
        let usable = value.as_ref().is_some_and(|value| !colon || !value.is_empty());
        match modifier {
            '-' if usable => Ok(value.unwrap_or_default()),
            '-' => Ok(word),
            '+' if usable => Ok(word),
            '+' => Ok(String::new()),
            '?' if usable => Ok(value.unwrap_or_default()),
            '?' => {
                let missing = if value.is_some() { "empty" } else { "unset" };
                let message = if word.is_empty() { format!("is not allowed to be {missing}") } else { word };
                Err(Kind::Required { name: name.to_owned(), message })
            }
            '#' | '%' if !colon => {
                let doubled = word.strip_prefix(modifier);
                let pattern = compile(doubled.unwrap_or(&word))?;
                let value = value.unwrap_or_default();
                Ok(if modifier == '#' {
                    pattern.trim_prefix(&value, doubled.is_some())
                } else {
                    pattern.trim_suffix(&value, doubled.is_some())
                })
            }
            _ => {
                let colon = if colon { ":" } else { "" };
                Err(Kind::UnsupportedModifier(format!("{colon}{modifier}")))
            }
        }
    }

    fn read_replacement(&mut self, name: &str) -> Result<String, Kind> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.read_part('/', true, Kind::MissingSlash)?;
        let replacement = self.read_part('}', true, Kind::MissingBrace)?;
        let value = self.value(name).unwrap_or_default();
        compile(&pattern)?.replace(&value, &replacement, all, MAX_LENGTH).ok_or(Kind::TooLong)
    }

    /// Reads a name; empty if there is none.
    fn read_name(&mut self) -> &'a str {
        let source = self.rest;
        let length = match self.peek() {
            Some(first) if first.is_numeric() => prefix(source, char::is_numeric),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => prefix(source, |c| c.is_alphanumeric() || c == '_'),
        };
        let (name, rest) = source.split_at(length);
        self.rest = rest;
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        if value.is_none() && self.seen.insert(name.to_owned()) {
            self.undefined.push(name.to_owned());
        }
        value
    }
}

/// Length in bytes of the longest start of `text` that is all accepted.
fn prefix(text: &str, accept: impl Fn(char) -> bool) -> usize {
    text.find(|c| !accept(c)).unwrap_or(text.len())
}

fn compile(pattern: &str) -> Result<ShellPattern, Kind> {
    ShellPattern::compile(pattern).map_err(|escaped| Kind::InvalidEscape {
        pattern: pattern.to_owned(),
        escaped: escaped.map(String::from).unwrap_or_default(),
    })
}
