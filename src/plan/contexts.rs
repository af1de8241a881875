//! Contexts that the caller gave names: what they stand for in FROM and `--from`.

use fanfold_platforms::Platform;

use super::{ImageName, Request};
use crate::image::Reference;

/// One `--build-context`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContext {
    /// The name, without the platform.
    pub name: String,
    /// The only platform that it stands for.
    pub platform: Option<Platform>,
    /// What it holds.
    pub holds: ContextKind,
}

/// What a named context holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextKind {
    /// Files: a folder, an archive or a repository.
    Files,
    /// An image.
    Image(ImageName),
    /// Nothing, as `FROM scratch`.
    Scratch,
}

impl NamedContext {
    /// Whether this is its name, for whatever platform.
    pub(super) fn is(&self, name: &str) -> bool {
        same(&self.name, name)
    }
}

/// The context of this name for a platform, with its place among the request's. One for the very
/// platform goes before one for all.
pub(super) fn find<'a>(
    request: &'a Request,
    name: &str,
    platform: &Platform,
) -> Option<(usize, &'a NamedContext)> {
    let fits = |context: &&NamedContext| context.platform.as_ref().is_none_or(|own| own == platform);
    let mut named: Vec<_> = request
        .contexts
        .iter()
        .enumerate()
        .filter(|(_, context)| fits(context) && context.is(name))
        .collect();
    named.sort_by_key(|(_, context)| context.platform.is_none());
    named.first().copied()
}

/// Whether two names mean one thing: `alpine` and `docker.io/library/alpine:latest` do.
fn same(left: &str, right: &str) -> bool {
    if left.eq_ignore_ascii_case(right) {
        return true;
    }
    match (left.parse::<Reference>(), right.parse::<Reference>()) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (left, right, want) in [
            ("base", "base", true),
            ("Base", "base", true),
            ("alpine", "docker.io/library/alpine:latest", true),
            ("alpine", "alpine:3", false),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1", true),
        ] {
            assert_eq!(same(left, right), want, "{left} {right}");
        }
    }
}
