//! Cache keys.

use crate::image::{Digest, Sha256};

/// Changes whenever the same step would be carried out differently, so that old records miss.
const FORMAT: &[u8] = b"fanfold step 2";

/// Collects the fields of a step's key, each with its length before it.
#[derive(Debug)]
pub(super) struct Key(Sha256);

impl Key {
    /// Begins the key of a step of this kind over the result of the step with the key `below`.
    pub(super) fn new(kind: &str, below: Option<&Digest>) -> Self {
        let mut hasher = Sha256::new();
        hasher.field(FORMAT);
        hasher.field(kind.as_bytes());
        match below {
            Some(key) => hasher.field(key.raw()),
            None => hasher.field(b""),
        }
        Self(hasher)
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.field(text.as_bytes());
        self
    }

    pub(super) fn digest(mut self, digest: &Digest) -> Self {
        self.0.field(digest.raw());
        self
    }

    /// A field that may be absent; absent and empty differ.
    pub(super) fn option(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text("+").text(text),
            None => self.text("-"),
        }
    }

    pub(super) fn flag(self, flag: bool) -> Self {
        self.text(if flag { "yes" } else { "no" })
    }

    /// A list; its length is part of the key, so that lists never run into each other.
    pub(super) fn list<'a>(self, items: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let this = self.text(&items.len().to_string());
        items.fold(this, Self::text)
    }

    pub(super) fn number(self, number: Option<i64>) -> Self {
        self.option(number.map(|number| number.to_string()).as_deref())
    }

    pub(super) fn finish(self) -> Digest {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let key = |first: &[&str], second: &[&str]| {
            Key::new("x", None).list(first.iter().copied()).list(second.iter().copied()).finish()
        };
        assert_ne!(key(&["a"], &["b", "c"]), key(&["a", "b"], &["c"]));
        assert_ne!(key(&["a-b"], &["c"]), key(&["a"], &["b-c"]));
        assert_ne!(Key::new("x", None).option(Some("")).finish(), Key::new("x", None).option(None).finish());
        assert_ne!(Key::new("x", None).finish(), Key::new("x", Some(&Digest::of(b""))).finish());
    }
}
