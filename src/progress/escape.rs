//! Makes untrusted text safe to show on a terminal.
//!
//! A command, an image or a registry may print control sequences that move the
//! cursor, rename the window, paste, or hide what came before. They are taken
//! out; the readable text stays. Every function here takes time linear in its
//! input, whatever the input is.

use std::borrow::Cow;

/// One line of a command's output: invalid UTF-8 replaced, control sequences
/// removed, tabs kept.
///
/// A carriage return takes a terminal back to the start of the line, so of the
/// parts between them the last one with visible text is returned.
pub fn line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.rsplit('\r')
        .map(|part| strip(part, |c| c == '\t'))
        .find(|part| !part.trim().is_empty())
        .map(Cow::into_owned)
        .unwrap_or_default()
}

/// Text that must stay on one line: line breaks and tabs become single spaces.
pub fn one_line(text: &str) -> String {
    let mut flat = String::with_capacity(text.len());
    for part in text.split(['\n', '\r', '\t']).map(str::trim) {
        if !part.is_empty() {
            if !flat.is_empty() {
                flat.push(' ');
            }
            flat.push_str(&strip(part, |_| false));
        }
    }
    flat
}

/// Text of several lines, e.g. an error message: newlines and tabs stay.
pub fn text(text: &str) -> Cow<'_, str> {
    strip(text, |c| c == '\n' || c == '\t')
}

/// Whether a character acts on the terminal, or on the order in which text is
/// shown, rather than being shown itself.
pub(super) fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Removes control sequences (ECMA-48, sections 5.4 to 5.6) and lone control
/// characters but those that `keep` names.
fn strip(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|c| acts(c) && !keep(c)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    // Once no terminator is ahead there will be none later: without this a line
    // of introducers alone would take quadratic time.
    let mut terminators = true;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let introducer = match c {
            '\u{1b}' => match rest.chars().next() {
                Some(next @ ('[' | ']' | 'P' | 'X' | '^' | '_')) => {
                    rest = &rest[1..];
                    next
                }
                _ => {
                    rest = skip_short(rest);
                    continue;
                }
            },
            '\u{9b}' => '[',
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => ']',
            _ => {
                if !acts(c) || keep(c) {
                    safe.push(c);
                }
                continue;
            }
        };
        if introducer == '[' {
            rest = skip_control_sequence(rest);
        } else if terminators {
            match skip_string(rest) {
                Some(after) => rest = after,
                // Not terminated: the text is shown rather than lost.
                None => terminators = false,
            }
        }
    }
    Cow::Owned(safe)
}

/// After ESC: intermediate bytes and one final byte, e.g. `(B`.
fn skip_short(rest: &str) -> &str {
    let after = rest.trim_start_matches(|c| (' '..='/').contains(&c));
    after.strip_prefix(|c| ('0'..='~').contains(&c)).unwrap_or(after)
}

/// After CSI: parameter and intermediate bytes and one final byte.
fn skip_control_sequence(rest: &str) -> &str {
    let after = rest.trim_start_matches(|c| (' '..='?').contains(&c));
    after.strip_prefix(|c| ('@'..='~').contains(&c)).unwrap_or(after)
}

/// After OSC, DCS, SOS, PM or APC: everything to BEL or ST.
fn skip_string(rest: &str) -> Option<&str> {
    let mut previous = ' ';
    for (at, c) in rest.char_indices() {
        if matches!(c, '\u{7}' | '\u{9c}') || (previous == '\u{1b}' && c == '\\') {
            return Some(&rest[at + c.len_utf8()..]);
        }
        previous = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_what_acts_and_keep_what_shows() {
        for (bytes, want) in [
            (&b"plain text"[..], "plain text"),
            (b"tab\there", "tab\there"),
            (b"\x1b[31mred\x1b[0m", "red"),
            (b"\x1b[2J\x1b[1;1Hgone?", "gone?"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1b]0;never ended", "0;never ended"),
            (b"\x1bPq#0\x1b\\x", "x"),
            (b"\x1b(Bset", "set"),
            (b"\x1b", ""),
            (b"\x1b[", ""),
            (b"\x1b[12", ""),
            (b"bell\x07 nul\0 del\x7f bs\x08", "bell nul del bs"),
            ("c1 \u{9b}31m\u{85}x".as_bytes(), "c1 x"),
            ("\u{9d}0;t\u{9c}x".as_bytes(), "x"),
            ("a\u{202e}b\u{2066}c".as_bytes(), "abc"),
            (b"bad \xff\xfe utf", "bad \u{fffd}\u{fffd} utf"),
            (b"10%\r50%\r100%", "100%"),
            (b"100%\r", "100%"),
            (b"100%\r\x1b[K", "100%"),
            (b"crlf\r", "crlf"),
            (b"\r\r", ""),
            ("\u{1b}\u{e9}t\u{e9}".as_bytes(), "\u{e9}t\u{e9}"),
        ] {
            assert_eq!(line(bytes), want, "{bytes:?}");
        }
    }

    #[test]
    fn one_line_joins_and_text_keeps_newlines() {
        assert_eq!(one_line("RUN <<EOF\n\tmake\n\nEOF\n"), "RUN <<EOF make EOF");
        assert_eq!(one_line("a\x1b[31m b"), "a b");
        assert_eq!(text("a\n\tb\r\x1b[1mc"), "a\n\tbc");
    }

    #[test]
    fn hostile_lines_take_linear_time() {
        let megabyte = 1 << 20;
        for unit in ["\u{1b}]", "\u{1b}[", "\u{1b}", "\r", "\u{1b}P\u{1b}", "\u{9d}"] {
            let hostile = unit.repeat(megabyte / unit.len());
            let start = std::time::Instant::now();
            line(hostile.as_bytes());
            assert!(start.elapsed().as_secs() < 5, "{unit:?}");
        }
    }
}
