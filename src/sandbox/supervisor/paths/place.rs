//! Where something is in the root of a command.

use std::collections::VecDeque;

/// A path from the root without links, `.`, `..` and doubled slashes. That of the root itself is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(in crate::sandbox) struct Place(Vec<u8>);

impl Place {
    /// Takes a path as it is written; `..` drops the name before it.
    pub(in crate::sandbox) fn written(path: &[u8]) -> Self {
        let mut place = Self::default();
        for name in names(path) {
            if name == b".." {
                place.pop();
            } else {
                place.push(&name);
            }
        }
        place
    }

    /// Goes down to `name`.
    pub(super) fn push(&mut self, name: &[u8]) {
        self.0.push(b'/');
        self.0.extend_from_slice(name);
    }

    /// Goes up; above the root is the root.
    pub(super) fn pop(&mut self) {
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.0.truncate(end);
    }

    /// This place and further names.
    pub(super) fn with<'a>(&self, names: impl IntoIterator<Item = &'a Vec<u8>>) -> Self {
        let mut place = self.clone();
        for name in names {
            place.push(name);
        }
        place
    }

    /// The directory and the name in it; the root has none.
    pub(super) fn split(&self) -> Option<(Self, Vec<u8>)> {
        let end = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some((Self(self.0[..end].to_vec()), self.0[end + 1..].to_vec()))
    }

    /// The way from `above` to here, without leading slash, empty at `above` itself; `None` elsewhere.
    pub(super) fn below(&self, above: &Self) -> Option<&[u8]> {
        let rest = self.0.strip_prefix(above.0.as_slice())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
    }

    /// The directories on the way, the root first, without the place itself.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = Self> {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.map(|end| Self(self.0[..end].to_vec()))
    }

    /// As a command writes it.
    pub(in crate::sandbox) fn path(&self) -> Vec<u8> {
        if self.0.is_empty() { b"/".to_vec() } else { self.0.clone() }
    }

    /// Bytes of the path.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The names of a path; `.` and empty ones mean nothing.
pub(super) fn names(path: &[u8]) -> VecDeque<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    names.map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_normal() {
        for (written, normal) in [
            ("/", "/"),
            ("", "/"),
            ("//a/./b/", "/a/b"),
            ("/a/../../b", "/b"),
            ("a\nb/c", "/a\nb/c"),
            ("/../..", "/"),
        ] {
            assert_eq!(Place::written(written.as_bytes()).path(), normal.as_bytes(), "{written}");
        }
    }

    #[test]
    fn what_is_below_is_told_by_whole_names() {
        let above = Place::written(b"/dev");
        assert_eq!(Place::written(b"/dev").below(&above), Some(&b""[..]));
        assert_eq!(Place::written(b"/dev/null").below(&above), Some(&b"null"[..]));
        assert_eq!(Place::written(b"/devices").below(&above), None);
        assert_eq!(Place::written(b"/a").below(&Place::default()), Some(&b"a"[..]));
        assert_eq!(Place::written(b"/a/b").split(), Some((Place::written(b"/a"), b"b".to_vec())));
        assert_eq!(Place::default().split(), None);
        let ancestors: Vec<_> = Place::written(b"/a/b").ancestors().map(|place| place.path()).collect();
        assert_eq!(ancestors, [b"/".to_vec(), b"/a".to_vec()]);
    }
}
