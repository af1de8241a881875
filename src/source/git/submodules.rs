//! What `.gitmodules` says.

use std::collections::BTreeMap;

use super::error::{GitError, shown};
use super::repository::{Repository, SHORT};
use super::tree::{has_modules, refused};
use crate::dockerfile::GitRemote;
use crate::layer::LayerPath;

/// Where the submodules of a commit come from, by their paths. `None`: it is not to be fetched.
pub(super) type Modules = BTreeMap<LayerPath, Option<GitRemote>>;

/// Reads `.gitmodules` of a commit; empty where there is none.
pub(super) fn read(repository: &Repository<'_>, commit: &str) -> Result<Modules, GitError> {
    if !has_modules(repository, commit)? {
        return Ok(Modules::new());
    }
    let call = repository.local("read the submodules of")?;
    let blob = format!("--blob={commit}:.gitmodules");
    let text = call.args(["config", "--no-includes", &blob, "--null", "--list"]).output(SHORT)?;
    parse(&text, repository.remote()).map_err(|(what, reason)| refused(repository, &what, &reason))
}

/// Reads `submodule.NAME.KEY LF VALUE NUL`. A fault is what is wrong and why.
///
/// Names are not used: nothing of ours is called by them.
fn parse(text: &[u8], parent: &GitRemote) -> Result<Modules, (String, String)> {
    let mut sections: BTreeMap<&[u8], Section<'_>> = BTreeMap::new();
    for pair in text.split(|byte| *byte == 0) {
        let mut parts = pair.splitn(2, |byte| *byte == b'\n');
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        let Some(rest) = key.strip_prefix(b"submodule.") else {
            continue;
        };
        let Some(dot) = rest.iter().rposition(|byte| *byte == b'.') else {
            continue;
        };
        let section = sections.entry(&rest[..dot]).or_default();
        match &rest[dot + 1..] {
            b"path" => section.path = Some(value),
            b"url" => section.url = Some(value),
            b"update" => section.update = Some(value),
            _ => {}
        }
    }
    let mut modules = Modules::new();
    for section in sections.into_values() {
        let Some(path) = section.path else {
            continue;
        };
        let what = format!("submodule {}", shown(path));
        let fault = |reason: &str| (what.clone(), reason.to_owned());
        if path.iter().any(u8::is_ascii_control) || path.starts_with(b"-") {
            return Err(fault("its path holds control characters or begins with `-`"));
        }
        let path = LayerPath::new(path.strip_suffix(b"/").unwrap_or(path))
            .map_err(|_| fault("its path is absolute or leads out of the repository"))?;
        if path.is_root() {
            return Err(fault("its path is empty"));
        }
        if section.update == Some(b"none") {
            modules.insert(path, None);
            continue;
        }
        let url = section.url.ok_or_else(|| fault("it has no url"))?;
        let url = std::str::from_utf8(url).map_err(|_| fault("its url is not UTF-8"))?;
        let relative = url.starts_with("./") || url.starts_with("../");
        let remote = if relative { parent.join(url) } else { GitRemote::parse(url) };
        let remote = remote.map_err(|error| fault(&format!("its url cannot be used: {error}")))?;
        modules.insert(path, Some(remote));
    }
    Ok(modules)
}

#[derive(Default)]
struct Section<'a> {
    path: Option<&'a [u8]>,
    url: Option<&'a [u8]>,
    update: Option<&'a [u8]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(path: &str, url: &str) -> Result<Modules, (String, String)> {
        let text =
            format!("submodule.a.b.path\n{path}\0submodule.a.b.url\n{url}\0other.x\ny\0submodule.a.b.flag\0");
        parse(text.as_bytes(), &GitRemote::parse("https://h/a/main.git").unwrap())
    }

    #[test]
    fn honest_ones() {
        for (path, url, want) in [
            ("lib", "../lib.git", "https://h/a/lib.git"),
            ("lib/", "./lib", "https://h/a/main.git/lib"),
            ("a dir/é", "ssh://git@other/x", "ssh://git@other/x"),
        ] {
            let modules = modules(path, url).unwrap();
            let (found, remote) = modules.first_key_value().unwrap();
            assert_eq!(found.as_bytes(), path.trim_end_matches('/').as_bytes());
            assert_eq!(remote.as_ref().unwrap().url(), want);
        }
        let parent = GitRemote::parse("https://h/a").unwrap();
        let text = b"submodule.x.path\nx\0submodule.x.update\nnone\0submodule.x.url\nfile:///x\0submodule.y.url\nz\0";
        assert_eq!(parse(text, &parent).unwrap().into_values().collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn hostile_ones() {
        for (path, url, want) in [
            ("x", "file:///etc", "transport \"file\""),
            ("x", "ext::sh -c id", "transport \"ext\""),
            ("x", "/srv/x", "neither a URL"),
            ("x", "-u./payload", "neither a URL"),
            ("x", "--upload-pack=touch /tmp/x", "neither a URL"),
            ("x", "ssh://-oProxyCommand=id/x", "must not begin with `-`"),
            ("x", "git@h:-x", "must not begin with `-`"),
            ("x", "https://h/a\rb", "control characters"),
            ("x", "https://h/a%0a%0dhost=evil", "control characters"),
            ("x", "../../../../evil", "above the server's root"),
            ("../x", "https://h/x", "leads out of the repository"),
            ("/x", "https://h/x", "leads out of the repository"),
            ("a/../../x", "https://h/x", "leads out of the repository"),
            ("x\r", "https://h/x", "control characters"),
            ("-x", "https://h/x", "begins with `-`"),
            ("", "https://h/x", "empty"),
        ] {
            let (what, reason) = modules(path, url).unwrap_err();
            assert!(reason.contains(want), "{path} {url}: {what}: {reason}");
            assert!(!what.contains('\r'));
        }
    }
}
