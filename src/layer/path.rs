//! [`LayerPath`]: where an entry stands below a layer's root.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::error::{LayerError, shown};

/// Longest path, in bytes.
const LONGEST_PATH: usize = 4096;
/// Longest component, in bytes: `NAME_MAX` of every file system a layer is unpacked on.
const LONGEST_COMPONENT: usize = 255;

/// A path relative to a layer's root: bytes, without `.`, `..`, empty components or NUL.
///
/// Components have at most 255 bytes, paths at most 4096. The root itself is the empty path.
/// Paths are ordered by component, bytewise: a directory stands directly before everything below
/// it, so `a`, `a/b`, `a.txt` is sorted. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LayerPath(Arc<[u8]>);

impl LayerPath {
    /// The root directory.
    pub fn root() -> Self {
        Self(Arc::from(&b""[..]))
    }

    /// Reads a relative path as it stands; the empty path is the root.
    ///
    /// # Errors
    ///
    /// Fails for leading, trailing or doubled slashes, `.` and `..` components, NUL and excess length.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, LayerError> {
        let path = path.as_ref();
        if !path.is_empty() {
            check(path)?;
        }
        Ok(Self(Arc::from(path)))
    }

    /// Reads a name from an archive: leading `/` and `./` and a trailing `/` are dropped first.
    ///
    /// # Errors
    ///
    /// As [`LayerPath::new`]; also for an empty name. `.` and `/` are the root.
    ///
    /// Rules: OCI image-spec, `layer.md`.
    pub fn from_archive(name: &[u8]) -> Result<Self, LayerError> {
        if name.is_empty() {
            return Err(invalid(name, "it is empty"));
        }
        let mut rest = name;
        loop {
            if let Some(after) = rest.strip_prefix(b"/").or_else(|| rest.strip_prefix(b"./")) {
                rest = after;
            } else if rest == b"." {
                rest = b"";
            } else {
                break;
            }
        }
        if let Some(before) = rest.strip_suffix(b"/") {
            rest = before;
        }
        Self::new(rest).map_err(|error| match error {
            LayerError::InvalidPath { reason, .. } => invalid(name, reason),
            other => other,
        })
    }

    /// This path with `below` (one or more components) after it.
    ///
    /// # Errors
    ///
    /// As [`LayerPath::new`].
    pub fn join(&self, below: impl AsRef<[u8]>) -> Result<Self, LayerError> {
        let below = below.as_ref();
        if self.is_root() || below.is_empty() {
            return if self.is_root() { Self::new(below) } else { Ok(self.clone()) };
        }
        Self::new([&self.0, &b"/"[..], below].concat())
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        Some(Self(Arc::from(&self.0[..end])))
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        if self.is_root() { None } else { self.0.rsplit(|&byte| byte == b'/').next() }
    }

    /// The components from the root down; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// Every proper ancestor from the root down: for `a/b/c` the root, `a`, `a/b`.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        let root = (!self.is_root()).then(Self::root);
        let inner = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        root.into_iter().chain(inner.map(|(end, _)| Self(Arc::from(&self.0[..end]))))
    }

    /// Whether this is `ancestor` or something below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self.0.strip_prefix(&*ancestor.0).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// The bytes of this path below `ancestor`, without a leading slash; `None` when it is not below.
    pub fn strip_prefix(&self, ancestor: &Self) -> Option<&[u8]> {
        if ancestor.is_root() {
            return Some(&self.0);
        }
        match self.0.strip_prefix(&*ancestor.0)? {
            [] => Some(b""),
            [b'/', rest @ ..] => Some(rest),
            _ => None,
        }
    }

    /// Whether this is the root directory.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The raw bytes; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative path of the operating system; empty for the root.
    pub fn as_os_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    pub(super) fn shared(&self) -> Arc<[u8]> {
        Arc::clone(&self.0)
    }
}

fn invalid(name: &[u8], reason: &'static str) -> LayerError {
    LayerError::InvalidPath { name: shown(name), reason }
}

fn check(path: &[u8]) -> Result<(), LayerError> {
    if path.len() > LONGEST_PATH {
        return Err(invalid(path, "it is longer than 4096 bytes"));
    }
    for component in path.split(|&byte| byte == b'/') {
        let reason = match component {
            b"" => "it has an empty component or a slash at its end",
            b"." => "it has a `.` component",
            b".." => "it has a `..` component",
            _ if component.len() > LONGEST_COMPONENT => "a component is longer than 255 bytes",
            _ if component.contains(&0) => "it has a NUL byte",
            _ => continue,
        };
        return Err(invalid(path, reason));
    }
    Ok(())
}

impl Ord for LayerPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // NUL occurs in no path, so a slash that ranks as NUL makes the order one by component.
        let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
        match self.0.iter().zip(&*other.0).find(|(left, right)| left != right) {
            Some((&left, &right)) => rank(left).cmp(&rank(right)),
            None => self.0.len().cmp(&other.0.len()),
        }
    }
}

impl PartialOrd for LayerPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Default for LayerPath {
    fn default() -> Self {
        Self::root()
    }
}

impl AsRef<[u8]> for LayerPath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Shows the path with a leading slash and control characters escaped.
impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", shown(&self.0))
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.escape_ascii().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_names() {
        for (name, want) in [
            ("./", ""),
            (".", ""),
            ("/", ""),
            ("a", "a"),
            ("./a/", "a"),
            ("//a/b", "a/b"),
            (".//./a", "a"),
            (".hidden", ".hidden"),
            ("...", "..."),
        ] {
            assert_eq!(LayerPath::from_archive(name.as_bytes()).unwrap().as_bytes(), want.as_bytes());
        }
        let long = "n".repeat(256);
        let deep = "d/".repeat(2049);
        for name in ["", "..", "../x", "a/../b", "a//b", "a/./b", "a\0b", "./..", "a//", &long, &deep] {
            assert!(LayerPath::from_archive(name.as_bytes()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn order_is_by_component() {
        let sorted = ["", "a", "a/b", "a/b/c", "a!", "a.txt", "a0", "b"];
        let mut paths: Vec<_> = sorted.iter().rev().map(|path| LayerPath::new(path).unwrap()).collect();
        paths.sort();
        assert_eq!(paths, sorted.map(|path| LayerPath::new(path).unwrap()));
    }

    #[test]
    fn parts() {
        let path = LayerPath::new("a/b/c").unwrap();
        assert_eq!(path.parent().unwrap().as_bytes(), b"a/b");
        assert_eq!(path.file_name(), Some(&b"c"[..]));
        assert_eq!(path.components().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        let ancestors: Vec<_> = path.ancestors().map(|path| path.to_string()).collect();
        assert_eq!(ancestors, ["/", "/a", "/a/b"]);
        assert!(path.starts_with(&LayerPath::new("a/b").unwrap()));
        assert!(!path.starts_with(&LayerPath::new("a/b/c/d").unwrap()));
        assert!(!LayerPath::new("ab").unwrap().starts_with(&LayerPath::new("a").unwrap()));
        assert_eq!(path.strip_prefix(&LayerPath::new("a").unwrap()), Some(&b"b/c"[..]));
        assert!(LayerPath::root().parent().is_none());
        assert_eq!(LayerPath::root().components().count(), 0);
        assert_eq!(LayerPath::root().join("a").unwrap().join("b/c").unwrap(), path);
        assert!(path.join("..").is_err());
    }
}
