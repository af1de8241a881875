//! Keeps secrets and hostile bytes out of texts that people see.

use std::fmt;

use reqwest::Url;

/// Longest text of a server that is shown, in bytes.
const SHOWN: usize = 1024;
/// Words shorter than this are not taken for credentials in a helper's output.
const SHORT_WORD: usize = 8;

/// A password or token: no `Debug` text, overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(Vec<u8>);

impl Secret {
    /// Takes the text over.
    pub(super) fn new(text: String) -> Self {
        Self(text.into_bytes())
    }

    /// The secret itself, for a request.
    pub(super) fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a secret is made of text")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from dropping the write to memory that is freed next.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Makes a server's text safe to print: control and direction characters escaped, 1 KiB at most.
pub(super) fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(SHOWN));
    for character in text.trim().chars() {
        if shown.len() + character.len_utf8() > SHOWN {
            shown.push('…');
            break;
        }
        match character {
            '\n' | '\t' => shown.push(' '),
            // Direction marks can make a terminal show the text in another order.
            character if character.is_control() || is_direction_mark(character) => {
                shown.extend(character.escape_unicode());
            }
            character => shown.push(character),
        }
    }
    shown
}

const fn is_direction_mark(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A URL without user, password, query and fragment: these carry signatures and tokens.
pub(super) fn url(url: &Url) -> String {
    let mut shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        shown.push_str(&format!(":{port}"));
    }
    shown.push_str(url.path());
    escape(&shown)
}

/// Replaces `secret` in `text`.
pub(super) fn mask(text: &str, secret: &str) -> String {
    if secret.len() < 4 { text.to_owned() } else { text.replace(secret, "***") }
}

/// Replaces words that may be credentials: long ones with a digit in them.
///
/// For the output of helper programs, where the secret itself is not known.
pub(super) fn mask_words(text: &str) -> String {
    let word = |word: &str| {
        let suspicious = word.len() >= SHORT_WORD && word.bytes().any(|byte| byte.is_ascii_digit());
        if suspicious { "***".to_owned() } else { word.to_owned() }
    };
    escape(&text.split_whitespace().map(word).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_harmless() {
        assert_eq!(escape("a\x1b[31mb\u{202e}\nc "), "a\\u{1b}[31mb\\u{202e} c");
        assert!(escape(&"ä".repeat(4000)).len() < 1040);
    }

    #[test]
    fn secrets_are_not_shown() {
        let signed = "https://u:p@h.io:8443/blob?X-Amz-Signature=abc#f".parse().unwrap();
        assert_eq!(url(&signed), "https://h.io:8443/blob");
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "***");
        assert_eq!(mask("bad token abcdef!", "abcdef"), "bad token ***!");
        assert_eq!(mask_words("no such key:\nhunter2hunter2"), "no such key: ***");
    }
}
