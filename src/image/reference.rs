//! Names of images in registries: `registry/repository[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

use super::{Digest, DigestError};

/// The registry that short names mean.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The longest repository name that registries accept.
const MAX_REPOSITORY: usize = 255;

/// A repository in a registry, e.g. `docker.io/library/busybox`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: String,
    path: String,
}

/// An image in a repository, by tag, by digest, or both.
///
/// Short names are completed as everywhere: `busybox` is `docker.io/library/busybox:latest`.
///
/// Grammar: distribution's reference grammar; OCI distribution-spec 1.1, "Pulling manifests".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not of the grammar.
    #[error("`{0}` is not a valid image name: {1}")]
    Invalid(String, &'static str),
    /// The part behind `@` is no usable digest.
    #[error("`{0}` is not a valid image name: {1}")]
    Digest(String, DigestError),
}

impl Repository {
    /// Host and port, e.g. `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path within the registry, e.g. `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl Reference {
    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag; `latest` where neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which wins over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let shown = || text.chars().take(200).collect::<String>();
        let fail = |why| ReferenceError::Invalid(shown(), why);
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|error| ReferenceError::Digest(shown(), error))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(fail("the tag may hold only letters, digits, `_`, `.` and `-`, 128 at most"));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_host(first) => (first, path.to_owned()),
            _ => (DEFAULT_REGISTRY, name.to_owned()),
        };
        let registry = match registry {
            "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
            other => other,
        };
        if path.is_empty() {
            return Err(fail("the repository is missing"));
        }
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(fail("the repository must be lower-case"));
        }
        if path.len() > MAX_REPOSITORY || !path.split('/').all(is_component) {
            return Err(fail(
                "the repository may hold only a-z, 0-9 and single separators `.`, `_`, `__`, `-`, `/`",
            ));
        }
        if !is_authority(registry) {
            return Err(fail("the registry is not a host name with an optional port"));
        }
        let path = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}")
        } else {
            path
        };
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { repository: Repository { registry: registry.to_owned(), path }, tag, digest })
    }
}

/// Whether the part before the first slash names a host rather than the first path component.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("ipv6", port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// One path component: runs of `[a-z0-9]` joined by `.`, `_`, `__` or dashes.
fn is_component(text: &str) -> bool {
    let alnum = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().copied().is_some_and(alnum) && bytes.last().copied().is_some_and(alnum);
    ends && bytes.split(|byte| alnum(*byte)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completes_short_names() {
        let digest = Digest::of(b"");
        let table = [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("a/b:1", "docker.io/a/b:1".to_owned()),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest".to_owned()),
            ("localhost/x", "localhost/x:latest".to_owned()),
            ("localhost:5000/a/b__c:v1.2-rc", "localhost:5000/a/b__c:v1.2-rc".to_owned()),
            ("[::1]:5000/x", "[::1]:5000/x:latest".to_owned()),
            ("r.io/x@DIGEST", format!("r.io/x@{digest}")),
            ("r.io/x:t@DIGEST", format!("r.io/x:t@{digest}")),
        ];
        for (text, want) in table {
            let text = text.replace("DIGEST", &digest.to_string());
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn refuses_what_names_no_image() {
        for text in [
            "",
            ":",
            "busybox:",
            "Busybox",
            "r.io/Upper/x",
            "r.io/",
            "r.io/a//b",
            "a/../b",
            "a/.b",
            "a/b-",
            "x@sha256:12",
            "x@md5:00",
            "x:a b",
            "x:-a",
            "-h.io/x",
            "r.io:99999/x",
            "a b",
            "a___b",
            "https://r.io/x",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
