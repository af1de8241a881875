//! Where the record of a key lies.

use crate::image::{Digest, Reference};

/// The tag that names an image rather than a cache, and the prefix that stands for it.
const LATEST: &str = "latest";
const CACHE: &str = "cache";
/// A tag has at most 128 characters; a dash and a key need 65 of them.
pub(super) const LONGEST_TAG: usize = 128 - 65;

/// The beginning of the tags of all records in the cache `reference`: its tag, or `cache` where it has none
/// or the tag `latest`. `None` for a reference by digest, which names an image and nothing beside it, and for
/// a tag that leaves no room for a key.
pub(super) fn prefix(reference: &Reference) -> Option<&str> {
    if reference.digest().is_some() {
        return None;
    }
    match reference.tag() {
        None | Some(LATEST) => Some(CACHE),
        Some(tag) => Some(tag).filter(|tag| tag.len() <= LONGEST_TAG),
    }
}

/// The tag of the record of `key`.
pub(super) fn tag(prefix: &str, key: &Digest) -> String {
    format!("{prefix}-{}", key.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stand_beside_the_reference() {
        let digest = Digest::of(b"");
        let long = "t".repeat(LONGEST_TAG);
        for (text, want) in [
            ("r.io/a".to_owned(), Some("cache")),
            ("r.io/a:latest".to_owned(), Some("cache")),
            ("r.io/a:main".to_owned(), Some("main")),
            (format!("r.io/a@{digest}"), None),
            (format!("r.io/a:main@{digest}"), None),
            (format!("r.io/a:{long}"), Some(long.as_str())),
            (format!("r.io/a:{long}x"), None),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(prefix(&reference), want, "{text}");
        }
        assert_eq!(tag(&long, &digest).len(), 128);
        assert!(format!("r.io/a:{}", tag(&long, &digest)).parse::<Reference>().is_ok());
    }
}
