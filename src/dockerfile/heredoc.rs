//! Heredocs: which words of an instruction open one, and what they become in a script.

use std::fmt::Write as _;
use std::ops::Range;

use super::ast::Heredoc;

/// A heredoc and the word that opens it.
#[derive(Debug)]
pub(super) struct Found {
    /// The heredoc; its body is filled in by the lexer.
    pub(super) heredoc: Heredoc,
    /// The word's place in the instruction's text.
    pub(super) range: Range<usize>,
}

/// Finds the heredocs that `text` opens from byte `from` on, in order.
///
/// A text with an open quote has none: it is no list of shell words.
pub(super) fn find(text: &str, from: usize) -> Vec<Found> {
    if !text[from..].contains("<<") {
        return Vec::new();
    }
    let words = shell_words(text, from).unwrap_or_default();
    let found = words.into_iter().filter_map(|range| {
        let heredoc = parse_word(&text[range.clone()])?;
        Some(Found { heredoc, range })
    });
    found.collect()
}

/// Reads `[digits]<<[-]name`, where the name is one shell word without `<`.
pub(super) fn parse_word(word: &str) -> Option<Heredoc> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (digits, rest) = word.split_at(digits);
    let fd = match digits {
        "" => None,
        digits => Some(digits.parse().ok()?),
    };
    let rest = rest.strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let raw = rest.trim();
    if raw.is_empty() || raw.contains('<') || shell_words(raw, 0)?.len() != 1 {
        return None;
    }
    let name = unquote(raw);
    // A lone escape is no quote, although a shell takes it for one.
    let expand = !raw.contains(['\'', '"']);
    Some(Heredoc { name, body: String::new(), expand, strip_tabs, fd })
}

/// The text with the bodies of its heredocs and their ends below it, for a shell to read.
pub(super) fn append_bodies(text: &str, heredocs: &[Heredoc]) -> String {
    let mut script = text.to_owned();
    for heredoc in heredocs {
        // Writing to a string cannot fail.
        let _ = write!(script, "\n{}{}", heredoc.body, heredoc.name);
    }
    script
}

/// Splits into shell words, quotes kept; `None` if a quote stays open. The escape character is
/// always `\` here, as in the shell that reads the heredoc.
fn shell_words(text: &str, from: usize) -> Option<Vec<Range<usize>>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = text[from..].char_indices();
    while let Some((at, character)) = chars.next() {
        let at = from + at;
        match quote {
            Some(open) if character == open => quote = None,
            Some('"') if character == '\\' => _ = chars.next(),
            Some(_) => {}
            None if character.is_whitespace() => {
                words.extend(start.take().map(|start| start..at));
                continue;
            }
            None if matches!(character, '\'' | '"') => quote = Some(character),
            None if character == '\\' => _ = chars.next(),
            None => {}
        }
        start = start.or(Some(at));
    }
    words.extend(start.map(|start| start..text.len()));
    quote.is_none().then_some(words)
}

/// Removes the quotes and escapes of one shell word.
fn unquote(word: &str) -> String {
    let mut name = String::new();
    let mut quote = None;
    let mut chars = word.chars().peekable();
    while let Some(character) = chars.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '\\') => name.extend(chars.next()),
            (Some('"'), '\\') => {
                let escaped = chars.next_if(|next| matches!(next, '"' | '$' | '\\'));
                name.push(escaped.unwrap_or('\\'));
            }
            _ => name.push(character),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_open_a_heredoc() {
        for (word, want) in [
            ("<<EOF", Some(("EOF", true, false, None))),
            ("<<-EOF", Some(("EOF", true, true, None))),
            ("3<<F", Some(("F", true, false, Some(3)))),
            ("<<\"A B\"", Some(("A B", false, false, None))),
            ("<<-'E'", Some(("E", false, true, None))),
            ("<<E\"O\"F", Some(("EOF", false, false, None))),
            ("<<\\EOF", Some(("EOF", true, false, None))),
            ("<< EOF", Some(("EOF", true, false, None))),
            ("<<EOF cat", None),
            ("<<", None),
            ("<<-", None),
            ("<<<x", None),
            ("a<<EOF", None),
            ("<<'open", None),
            ("99999999999<<E", None),
        ] {
            let found = parse_word(word);
            let found = found.as_ref().map(|h| (h.name.as_str(), h.expand, h.strip_tabs, h.fd));
            assert_eq!(found, want, "{word}");
        }
    }

    #[test]
    fn heredocs_of_a_line() {
        for (line, want) in [
            ("cat <<A <<-\"B\" > /x", vec!["<<A", "<<-\"B\""]),
            ("cat <<\"A B\" 3<<C|sh", vec!["<<\"A B\"", "3<<C|sh"]),
            ("echo '<<A' \"x <<B\"", vec![]),
            ("echo don't <<A", vec![]),
            ("echo \\' <<A", vec!["<<A"]),
            ("echo a < b", vec![]),
            ("cat <<$X", vec!["<<$X"]),
        ] {
            let found: Vec<_> = find(line, 0).into_iter().map(|found| &line[found.range]).collect();
            assert_eq!(found, want, "{line}");
        }
    }
}
