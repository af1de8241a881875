//! The word forms of instructions: JSON arrays, words that may be quoted, words between blanks.

use super::lines::BLANKS;
use super::syntax_error::Fault;

/// Splits at runs of blanks, without regard to quotes.
pub(super) fn between_blanks(text: &str) -> impl Iterator<Item = &str> {
    text.split(BLANKS).filter(|word| !word.is_empty())
}

/// Splits at Unicode spaces outside quotes. Quotes and escapes stay in the words; only an escape
/// at the end of the text is dropped. Inside `'…'` an escape is not special.
pub(super) fn quoted(text: &str, escape: char) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut end = text.len();
    let mut chars = text.char_indices();
    while let Some((at, character)) = chars.next() {
        if start.is_none() {
            if character.is_whitespace() {
                continue;
            }
            start = Some(at);
        }
        if character == escape && quote != Some('\'') {
            if chars.next().is_none() {
                end = at;
            }
            continue;
        }
        match quote {
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if matches!(character, '\'' | '"') => quote = Some(character),
            None if character.is_whitespace() => {
                words.extend(start.take().map(|start| &text[start..at]));
            }
            None => {}
        }
    }
    words.extend(start.map(|start| &text[start..end]).filter(|word| !word.is_empty()));
    words
}

/// Reads a text that is one JSON array of strings and nothing else; `None` if it is another text.
///
/// # Errors
///
/// A valid array with something else than strings in it.
pub(super) fn json_array(text: &str) -> Result<Option<Vec<String>>, Fault> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text.trim()) else {
        return Ok(None);
    };
    let words = values.into_iter().map(|value| match value {
        serde_json::Value::String(word) => Ok(word),
        _ => Err(Fault::new("when using JSON array syntax, arrays must be comprised of strings only")),
    });
    words.collect::<Result<Vec<_>, _>>().map(Some)
}

/// Whether a text that is not a JSON array was probably meant as one.
///
/// `[` is also the shell's test command and a pattern of file names; an array is suspected where
/// quoted words follow each other between brackets.
pub(super) fn resembles_json(text: &str) -> bool {
    let Some(inner) = text.trim().strip_prefix('[') else {
        return false;
    };
    let words = inner.trim_start();
    let is_test = words.len() < inner.len() && !(inner.ends_with(']') && inner.contains(','));
    words.starts_with(['\'', '"', '\u{201c}', '\u{2018}']) && !is_test
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words() {
        for (text, want) in [
            ("a b\u{a0}c", vec!["a", "b", "c"]),
            ("A=\"a b\" B='c d' C=e\\ f", vec!["A=\"a b\"", "B='c d'", "C=e\\ f"]),
            ("'a\\' b'", vec!["'a\\'", "b'"]),
            ("\"a\\\" b\" c", vec!["\"a\\\" b\"", "c"]),
            ("a\\", vec!["a"]),
            ("a \\", vec!["a"]),
            ("'' \"\"", vec!["''", "\"\""]),
            ("\"open a", vec!["\"open a"]),
            ("", vec![]),
        ] {
            assert_eq!(quoted(text, '\\'), want, "{text}");
        }
        assert_eq!(quoted("a` b \\ c", '`'), ["a` b", "\\", "c"]);
    }

    #[test]
    fn words_between_blanks() {
        let words: Vec<_> = between_blanks("a\t\u{b} \"b c\"\u{a0}d").collect();
        assert_eq!(words, ["a", "\"b", "c\"\u{a0}d"]);
    }

    #[test]
    fn json_arrays() {
        for (text, want) in [
            (" [\"a\", \"b \\u00e9\"] ", Some(vec!["a", "b é"])),
            ("[]", Some(vec![])),
            ("['a']", None),
            ("[\"a\"", None),
            ("[\"a\"] b", None),
            ("[\"a\",]", None),
            ("a", None),
        ] {
            let want = want.map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
            assert_eq!(json_array(text).unwrap(), want, "{text}");
        }
        for text in ["[1]", "[\"a\", null]", "[[\"a\"]]", "[{}]"] {
            let message = json_array(text).unwrap_err().to_string();
            assert_eq!(message, "when using JSON array syntax, arrays must be comprised of strings only");
        }
    }

    #[test]
    fn suspected_arrays() {
        for (text, want) in [
            ("['echo', 'x']", true),
            ("[ \"echo\", \"x\", ]", true),
            ("[\"echo\" \"x\"]", true),
            ("[ -f x ] || y", false),
            ("[ \"$A\" = x ] && y", false),
            ("[a-z]* /x", false),
            ("echo [\"a\"]", false),
        ] {
            assert_eq!(resembles_json(text), want, "{text}");
        }
    }
}
