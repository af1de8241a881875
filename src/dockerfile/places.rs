//! Finds words, references to variables, and names that are set, in the lines of an instruction.
//!
//! A variable is often called as something else in the same lines, so its bare name is not enough to
//! find where it is used.

use std::ops::Range;

use super::ast::Span;
use super::excerpt::lines;

/// Finds a word in the lines of a span: the line, counted from 1, and the columns, counted in
/// characters from 1, the end excluded.
///
/// The first place where it is a word of its own is preferred to one inside another word, and text
/// to comments. `None` if it is nowhere, or empty.
pub fn columns_of(source: &str, span: Span, word: &str) -> Option<(u32, (u32, u32))> {
    columns_where(source, span, |line| {
        let range = find_word(line, word)?;
        let whole = is_whole(line, &range);
        Some((range, whole))
    })
}

/// Finds something in the lines of a span. `find` gives its bytes in a line, and whether there is no
/// doubt about it; without doubt is preferred, and text to comments.
pub(super) fn columns_where(
    source: &str,
    span: Span,
    find: impl Fn(&str) -> Option<(Range<usize>, bool)>,
) -> Option<(u32, (u32, u32))> {
    let mut second = None;
    for (line, number) in lines(source, span) {
        let Some((range, certain)) = find(line) else {
            continue;
        };
        let count = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX - 1);
        let column = count(&line[..range.start]).saturating_add(1);
        let found = (number, (column, column.saturating_add(count(&line[range]))));
        if certain && !line.trim_start().starts_with('#') {
            return Some(found);
        }
        second = second.or(Some(found));
    }
    second
}

/// The bytes of the first place where `word` stands by itself in a text, else of the first where it
/// stands at all.
pub(super) fn find_word(text: &str, word: &str) -> Option<Range<usize>> {
    if word.is_empty() {
        return None;
    }
    let mut places = text.match_indices(word).map(|(at, _)| at..at + word.len());
    let first = places.next()?;
    if is_whole(text, &first) {
        return Some(first);
    }
    places.find(|place| is_whole(text, place)).or(Some(first))
}

/// Whether no letter, digit or joining sign touches the ends of a range.
fn is_whole(text: &str, range: &Range<usize>) -> bool {
    let joins = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let word = &text[range.clone()];
    let before = word.starts_with(joins) && text[..range.start].ends_with(joins);
    let after = word.ends_with(joins) && text[range.end..].starts_with(joins);
    !before && !after
}

/// The first reference to a variable in the lines of a span, as `$NAME` or `${NAME…}`: the line, and the
/// columns as [`columns_of`] gives them.
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
/// and the columns as [`columns_of`] gives them.
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

    fn span(first: u32, last: u32) -> Span {
        Span { first, last }
    }

    #[test]
    fn words_in_spans() {
        let source =
            "\u{feff}FROM é-a\nRUN --mount=type=bind,target=/target \\\n# target2 x\n   target2 xtarget\n";
        for (range, word, want) in [
            (span(1, 1), "a", Some((1, (8, 9)))),
            (span(1, 1), "é-a", Some((1, (6, 9)))),
            (span(1, 9), "target", Some((2, (23, 29)))),
            (span(1, 9), "target=/target", Some((2, (23, 37)))),
            (span(1, 9), "target2", Some((4, (4, 11)))),
            (span(3, 3), "target2", Some((3, (3, 10)))),
            (span(4, 4), "xtarg", Some((4, (12, 17)))),
            (span(4, 4), "nope", None),
            (span(1, 4), "", None),
            (span(7, 9), "a", None),
            (span(0, 0), "a", None),
        ] {
            assert_eq!(columns_of(source, range, word), want, "{word}");
        }
    }

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
