//! Finds references to variables and names that are set, in the lines of an instruction.
//!
//! A variable is often called as something else in the same lines, so its bare name is not enough to
//! find where it is used.

use std::ops::Range;

use super::ast::Span;
use super::excerpt::columns_where;

/// The first reference to a variable in the lines of a span, as `$NAME` or `${NAME…}`: the line, and the
/// columns as [`columns_of`](super::columns_of) gives them.
///
/// One that is expanded is preferred to one that is escaped or between single quotes.
pub fn columns_of_variable(source: &str, span: Span, name: &str) -> Option<(u32, (u32, u32))> {
    columns_where(source, span, |line| {
        let dollars = line.match_indices('$').map(|(at, _)| at);
        let mut found = dollars.filter_map(|at| Some(at..at + reference(&line[at..], name)?));
        let first = found.next()?;
        let mut all = std::iter::once(first.clone()).chain(found);
        let plain = all.find(|range| is_expanded(line, range.start));
        Some((plain.clone().unwrap_or(first), plain.is_some()))
    })
}

/// The first place in the lines of a span where a name is set, as `NAME=…`, or stands alone: the line,
/// and the columns as [`columns_of`](super::columns_of) gives them.
pub fn columns_of_name(source: &str, span: Span, name: &str) -> Option<(u32, (u32, u32))> {
    columns_where(source, span, |line| {
        let places = line.match_indices(name).map(|(at, _)| at..at + name.len());
        let sets = |range: &Range<usize>| {
            let begins = line[..range.start].chars().next_back().is_none_or(char::is_whitespace);
            let ends = line[range.end..].chars().next().is_none_or(|c| c == '=' || c.is_whitespace());
            begins && ends && state_at(line, range.start).quote.is_none()
        };
        places.into_iter().find(sets).map(|range| (range, true))
    })
}

/// The length of a reference to a variable at the beginning of a text, in bytes.
fn reference(text: &str, name: &str) -> Option<usize> {
    let rest = text.strip_prefix('$')?;
    let joins = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let inside = rest.strip_prefix('{');
    let start = inside.map_or(rest, |inside| inside.trim_start_matches(['#', '!']));
    let after = start.strip_prefix(name).filter(|after| !after.starts_with(joins))?;
    let end = text.len() - after.len();
    if inside.is_none() {
        return Some(end);
    }
    let mut depth = 1;
    for (at, character) in after.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(end + at + 1);
        }
    }
    // It ends on a later line.
    Some(end)
}

/// Whether a `$` at this byte of a line begins a variable.
fn is_expanded(line: &str, at: usize) -> bool {
    let state = state_at(line, at);
    !state.escaped && state.quote != Some('\'')
}

/// What the text before some byte of a line makes of the byte.
#[derive(Default)]
struct State {
    /// The quote that is open.
    quote: Option<char>,
    escaped: bool,
}

fn state_at(line: &str, at: usize) -> State {
    line[..at].chars().fold(State::default(), |state, character| match (character, state.quote) {
        _ if state.escaped => State { escaped: false, ..state },
        ('\\', None | Some('"')) => State { escaped: true, ..state },
        ('"' | '\'', None) => State { quote: Some(character), ..state },
        (_, Some(open)) if open == character => State { quote: None, ..state },
        _ => state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_where_they_are_used() {
        for (line, name, want) in [
            ("ENV NOPE=$NOPE", "NOPE", Some((10, 15))),
            ("RUN echo FOO $FOOBAR $FOO", "FOO", Some((22, 26))),
            ("RUN echo ${FOOBAR} ${FOO:-a${B}c} x", "FOO", Some((20, 34))),
            ("RUN echo ${#FOO}", "FOO", Some((10, 17))),
            ("RUN echo '$FOO' \\$FOO \"it's $FOO\"", "FOO", Some((29, 33))),
            ("RUN echo '$FOO'", "FOO", Some((11, 15))),
            ("RUN echo ${FOO:-\\", "FOO", Some((10, 15))),
            ("RUN echo é $FOO", "FOO", Some((12, 16))),
            ("RUN FOO=1 $FOO_ $XFOO", "FOO", None),
            ("RUN $", "FOO", None),
        ] {
            let found = columns_of_variable(line, Span { first: 1, last: 1 }, name);
            assert_eq!(found.map(|(_, columns)| columns), want, "{line}");
        }
        let text = "RUN <<E\n# TARGETARCH $TARGETARCH\necho TARGETARCH is $TARGETARCH\nE\n";
        let found = columns_of_variable(text, Span { first: 1, last: 4 }, "TARGETARCH");
        assert_eq!(found, Some((3, (20, 31))));
    }

    #[test]
    fn names_are_found_where_they_are_set() {
        for (line, want) in [
            ("ARG X=MY_TOKEN MY_TOKEN=1", Some((16, 24))),
            ("ARG X=\"a MY_TOKEN b\" MY_TOKEN", Some((22, 30))),
            ("ENV MY_TOKEN MY_TOKEN", Some((5, 13))),
            ("ENV MY_TOKENS=1 NOT_MY_TOKEN=2", None),
        ] {
            let found = columns_of_name(line, Span { first: 1, last: 1 }, "MY_TOKEN");
            assert_eq!(found.map(|(_, columns)| columns), want, "{line}");
        }
    }
}
