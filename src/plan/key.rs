//! Cache keys: what a step is by itself, and what it is on top of others.

use crate::image::{Digest, Sha256};

/// Changes whenever the same step would be carried out differently, so that old records miss.
const FORMAT: &[u8] = b"fanfold step 3";

/// Collects the fields of a key, each with its length before it.
#[derive(Debug)]
pub(super) struct Key(Sha256);

impl Key {
    /// Begins a key of this kind.
    pub(super) fn new(kind: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.field(FORMAT);
        hasher.field(kind.as_bytes());
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

    /// A list of digests; its length is part of the key.
    fn digests<'a>(self, digests: impl ExactSizeIterator<Item = &'a Digest>) -> Self {
        let this = self.text(&digests.len().to_string());
        digests.fold(this, Self::digest)
    }

    pub(super) fn finish(self) -> Digest {
        self.0.finish()
    }
}

/// The key of a step by what the Dockerfile says: of its own definition, over the step with the key
/// `below`, with files of the steps with the keys `inputs`. It is known before anything is carried out.
pub(super) fn chain_key(own: &Digest, below: Option<&Digest>, inputs: &[Digest]) -> Digest {
    let key = Key::new("step").digest(own);
    let key = match below {
        Some(below) => key.text("on").digest(below),
        None => key.text("alone"),
    };
    key.digests(inputs.iter()).finish()
}

/// The key of a step by what it really works on: of its own definition, the identity of the stack below
/// and those of the stacks that it takes files from. Where other steps have led to equal results, it is
/// the same.
pub fn content_key(own: &Digest, below: &Digest, inputs: &[Digest]) -> Digest {
    Key::new("content").digest(own).digest(below).digests(inputs.iter()).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let key = |first: &[&str], second: &[&str]| {
            Key::new("x").list(first.iter().copied()).list(second.iter().copied()).finish()
        };
        assert_ne!(key(&["a"], &["b", "c"]), key(&["a", "b"], &["c"]));
        assert_ne!(key(&["a-b"], &["c"]), key(&["a"], &["b-c"]));
        assert_ne!(Key::new("x").option(Some("")).finish(), Key::new("x").option(None).finish());
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        assert_ne!(chain_key(&a, None, &[b]), chain_key(&a, Some(&b), &[]));
        assert_ne!(chain_key(&a, Some(&b), &[]), content_key(&a, &b, &[]));
        assert_ne!(content_key(&a, &b, &[a]), content_key(&a, &b, &[a, a]));
    }
}
