//! Reads a shell text into words, operators and uses of variables.

use std::collections::VecDeque;
use std::ops::Range;

/// What stands in a text, in the order of its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The name of a variable that is used, wherever it stands.
    Variable(Range<usize>),
    /// A word outside substitutions, quotes kept.
    Word(Range<usize>),
    /// What separates commands outside substitutions.
    Operator(Operator),
}

/// What separates commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// A line break.
    Line,
    /// `;` or `&`: the failure of what stands before is not seen.
    End,
    /// `&&`, `||` or `|`.
    Join,
    /// `(`
    Open,
    /// `)`, and whether a `(` belongs to it.
    Close {
        /// Whether it belongs to one.
        open: bool,
    },
}

/// In what the next character stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// `"…"`
    Quotes,
    /// `$(…)`, also the parentheses in it.
    Parentheses,
    /// `$((…))`, one for each parenthesis, where `<<` is no heredoc.
    Arithmetic,
    /// `${…}`, and whether in double quotes, where single quotes are text.
    Braces { quoted: bool },
}

/// A heredoc whose body has not begun.
#[derive(Debug)]
struct Pending {
    name: String,
    strip_tabs: bool,
    /// Whether variables in the body are used.
    expands: bool,
}

/// The events of a text.
#[derive(Debug)]
pub(super) struct Scanner<'t> {
    text: &'t str,
    at: usize,
    /// Where the word that is being read begins.
    word: Option<usize>,
    inside: Vec<Inside>,
    /// The open parentheses that are no substitution.
    groups: usize,
    heredocs: VecDeque<Pending>,
    /// Found, but not given out.
    ready: VecDeque<Event>,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            word: None,
            inside: Vec::new(),
            groups: 0,
            heredocs: VecDeque::new(),
            ready: VecDeque::new(),
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Takes `start` off the front, if the text goes on with it.
    fn take(&mut self, start: &str) -> bool {
        let found = self.rest().starts_with(start);
        if found {
            self.at += start.len();
        }
        found
    }

    fn skip_character(&mut self) {
        self.at += self.rest().chars().next().map_or(0, char::len_utf8);
    }

    /// Moves behind the next `end`, or to the end of the text.
    fn skip_past(&mut self, end: char) {
        let rest = self.rest();
        self.at += rest.find(end).map_or(rest.len(), |at| at + end.len_utf8());
    }

    fn end_word(&mut self, end: usize) {
        if let Some(start) = self.word.take() {
            self.ready.push_back(Event::Word(start..end));
        }
    }

    /// Reads one character with what belongs to it.
    fn step(&mut self, character: char) {
        let start = self.at;
        let begins_word = self.word.is_none();
        let top = self.inside.last().copied();
        let is_plain = matches!(top, None | Some(Inside::Parentheses));
        if top.is_none() && self.separates(character) {
            return;
        }
        if top.is_none() && begins_word && character == '#' {
            self.skip_comment();
            return;
        }
        if top.is_none() && begins_word && self.take("\\\n") {
            return;
        }
        self.at += character.len_utf8();
        self.word = self.word.or(Some(start));
        match (character, top) {
            ('\\', _) => self.skip_character(),
            ('$', _) => self.dollar(top),
            ('"', Some(Inside::Quotes)) => _ = self.inside.pop(),
            ('"', _) => self.inside.push(Inside::Quotes),
            ('\'', Some(Inside::Quotes | Inside::Braces { quoted: true })) => {}
            ('\'', _) => self.skip_past('\''),
            ('}', Some(Inside::Braces { .. })) => _ = self.inside.pop(),
            (')', Some(Inside::Parentheses | Inside::Arithmetic)) => _ = self.inside.pop(),
            ('(', Some(same @ (Inside::Parentheses | Inside::Arithmetic))) => self.inside.push(same),
            ('<', _) if is_plain => self.redirection(),
            ('\n', Some(Inside::Parentheses)) => self.bodies(),
            ('#', Some(Inside::Parentheses)) if self.follows_blank(start) => self.skip_comment(),
            _ => {}
        }
    }

    /// Whether what stands before a byte lets a comment begin.
    fn follows_blank(&self, at: usize) -> bool {
        self.text[..at].ends_with([' ', '\t', '\n', ';', '(', '|', '&'])
    }

    fn skip_comment(&mut self) {
        let rest = self.rest();
        self.at += rest.find('\n').unwrap_or(rest.len());
    }

    /// Takes a blank or an operator.
    fn separates(&mut self, character: char) -> bool {
        let start = self.at;
        let operator = match character {
            ' ' | '\t' | '\r' => None,
            '\n' => Some(Operator::Line),
            ';' => Some(Operator::End),
            // In `2>&1` and `<&-` it is no operator, and in `&>file` it is as good as one of these.
            '&' if self.text[..start].ends_with(['>', '<']) || self.rest().starts_with("&>") => return false,
            '&' if self.rest().starts_with("&&") => Some(Operator::Join),
            '&' => Some(Operator::End),
            '|' if self.text[..start].ends_with('>') => return false,
            '|' => Some(Operator::Join),
            '(' => Some(Operator::Open),
            ')' => Some(Operator::Close { open: self.groups > 0 }),
            _ => return false,
        };
        self.end_word(start);
        self.at += 1;
        match operator {
            Some(Operator::Open) => self.groups += 1,
            Some(Operator::Close { .. }) => self.groups = self.groups.saturating_sub(1),
            Some(Operator::Join) => _ = self.take("&") || self.take("|"),
            _ => {}
        }
        self.ready.extend(operator.map(Event::Operator));
        if operator == Some(Operator::Line) {
            self.bodies();
        }
        true
    }

    /// Reads what follows a `$`.
    fn dollar(&mut self, top: Option<Inside>) {
        let quoted = matches!(top, Some(Inside::Quotes | Inside::Braces { quoted: true }));
        if self.take("{") {
            // `${#v}` is a length, `${!v}` the variable that v names.
            let _ = self.take("#") || self.take("!");
            self.name();
            self.inside.push(Inside::Braces { quoted });
        } else if self.take("((") {
            self.inside.extend([Inside::Arithmetic; 2]);
        } else if self.take("(") {
            self.inside.push(Inside::Parentheses);
        } else if !quoted && self.take("'") {
            while let Some(character) = self.rest().chars().next() {
                self.at += character.len_utf8();
                match character {
                    '\'' => return,
                    '\\' => self.skip_character(),
                    _ => {}
                }
            }
        } else {
            self.name();
        }
    }

    /// Reads the name of a variable, if there is one.
    fn name(&mut self) {
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return;
        }
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.ready.push_back(Event::Variable(self.at..self.at + length));
        self.at += length;
    }

    /// Reads what follows a `<`, as far as it belongs to a heredoc.
    fn redirection(&mut self) {
        if self.rest().starts_with("<<") || !self.take("<") {
            // `<<<` is followed by a word like others.
            while self.take("<") {}
            return;
        }
        let strip_tabs = self.take("-");
        while self.take(" ") || self.take("\t") {}
        let mut pending = Pending { name: String::new(), strip_tabs, expands: true };
        let mut quote = None;
        while let Some(character) = self.rest().chars().next() {
            if quote.is_none() && (character.is_ascii_whitespace() || ";&|()<>".contains(character)) {
                break;
            }
            self.at += character.len_utf8();
            match (character, quote) {
                (_, Some(open)) if open == character => quote = None,
                ('\'' | '"', None) => quote = Some(character),
                ('\\', None) => {
                    let escaped = self.rest().chars().next();
                    pending.name.extend(escaped);
                    self.skip_character();
                }
                _ => pending.name.push(character),
            }
            pending.expands &= !matches!(character, '\'' | '"' | '\\');
        }
        if !pending.name.is_empty() {
            self.heredocs.push_back(pending);
        }
    }

    /// Reads the bodies of the heredocs of the line that has ended.
    fn bodies(&mut self) {
        while let Some(pending) = self.heredocs.pop_front() {
            while !self.rest().is_empty() {
                let begin = self.at;
                self.skip_past('\n');
                let line = self.text[begin..self.at].trim_end_matches(['\r', '\n']);
                let line = if pending.strip_tabs { line.trim_start_matches('\t') } else { line };
                if line == pending.name {
                    break;
                }
                if pending.expands {
                    self.body_variables(begin, self.at);
                }
            }
        }
    }

    /// Finds the variables in a line of a heredoc, where quotes are text.
    fn body_variables(&mut self, begin: usize, end: usize) {
        self.at = begin;
        while self.at < end {
            let character = self.rest().chars().next().unwrap_or_default();
            self.at += character.len_utf8();
            match character {
                '\\' => self.skip_character(),
                '$' => {
                    if self.take("{") {
                        let _ = self.take("#") || self.take("!");
                    }
                    self.name();
                }
                _ => {}
            }
        }
        self.at = end;
    }
}

impl Iterator for Scanner<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.rest().chars().next() {
                Some(character) => self.step(character),
                None => {
                    self.end_word(self.text.len());
                    return self.ready.pop_front();
                }
            }
        }
    }
}
