//! The format of Docker's and Podman's credential files.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use super::credentials::Login;
use super::redact::Secret;

/// A credential file.
pub(super) struct AuthFile {
    /// Path or variable that it came from.
    pub(super) origin: String,
    content: Content,
}

impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Content {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl AuthFile {
    /// The helper program that this file names for `registry/path`.
    pub(super) fn helper(&self, registry: &str, path: &str) -> Option<&str> {
        let own = matching(self.content.cred_helpers.iter().flatten(), registry, path);
        let name = own.first().copied().or(self.content.creds_store.as_ref())?;
        Some(name.as_str()).filter(|name| !name.is_empty())
    }

    /// The login that this file holds for `registry/path`.
    ///
    /// # Errors
    ///
    /// Fails for an entry that cannot be read.
    pub(super) fn login(&self, registry: &str, path: &str) -> Result<Option<Login>, String> {
        for entry in matching(self.content.auths.iter().flatten(), registry, path) {
            let Some(entry) = entry else { continue };
            let login = entry.login().map_err(|why| format!("failed to read {}: {why}", self.origin))?;
            if login.is_some() {
                return Ok(login);
            }
        }
        Ok(None)
    }
}

impl Entry {
    /// The login of this entry; `None` for the empty entries that stand beside a `credsStore`.
    fn login(&self) -> Result<Option<Login>, &'static str> {
        let text = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = text(&self.registrytoken) {
            return Ok(Some(Login::Bearer(Secret::new(token))));
        }
        let (user, password) = match text(&self.auth) {
            Some(auth) => {
                let auth = auth.trim();
                let raw = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth));
                let plain =
                    raw.ok().and_then(|raw| String::from_utf8(raw).ok()).ok_or("an `auth` is not base64")?;
                let (user, password) = plain.split_once(':').ok_or("an `auth` holds no `user:password`")?;
                // Old clients pad the password with NUL.
                (user.to_owned(), Some(password.trim_end_matches('\0').to_owned()))
            }
            None => (self.username.clone().unwrap_or_default(), text(&self.password)),
        };
        if let Some(token) = text(&self.identitytoken) {
            return Ok(Some(Login::Identity(user, Secret::new(token))));
        }
        Ok(password.filter(|_| !user.is_empty()).map(|password| Login::Password(user, Secret::new(password))))
    }
}

/// Reads a credential file; a missing one holds nothing.
///
/// Of the `usual` places, one that may not be read belongs to somebody else (a build under another
/// user id with an inherited `$HOME`) and holds nothing for us either.
pub(super) fn read(path: &Path, usual: bool) -> Result<Option<AuthFile>, String> {
    match std::fs::read(path) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => Ok(None),
        Ok(bytes) => parse(path.display().to_string(), &bytes).map(Some),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) if usual && error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(format!("failed to read the credential file {}: {error}", path.display())),
    }
}

/// Reads the content of a credential file.
pub(super) fn parse(origin: String, bytes: &[u8]) -> Result<AuthFile, String> {
    // Only the place of a mistake is told: serde's own text may quote a secret.
    let content = serde_json::from_slice(bytes).map_err(|error| {
        format!(
            "the credential file {origin} is not valid at line {} column {}",
            error.line(),
            error.column()
        )
    })?;
    Ok(AuthFile { origin, content })
}

/// The values whose keys are prefixes, by path segments, of `registry/path`; the longest first.
fn matching<'a, T>(
    entries: impl Iterator<Item = (&'a String, &'a T)>,
    registry: &str,
    path: &str,
) -> Vec<&'a T> {
    let wanted = format!("{registry}/{path}");
    let fits = |(key, value): (&String, &'a T)| {
        let key = normalise(key);
        let behind = wanted.strip_prefix(key.as_str())?;
        let whole = !key.is_empty() && (behind.is_empty() || behind.starts_with('/'));
        whole.then_some((key.len(), value))
    };
    let mut found: Vec<_> = entries.filter_map(fits).collect();
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, value)| value).collect()
}

/// A key without scheme and API version, with one name for Docker Hub.
fn normalise(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = key.split_once('/').map_or((key, None), |(host, path)| (host, Some(path)));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(pair: &str) -> String {
        format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(pair))
    }

    fn login(text: &str, registry: &str, path: &str) -> Option<String> {
        let file = parse("x".to_owned(), text.as_bytes()).unwrap();
        file.login(registry, path).unwrap().map(|login| match login {
            Login::Password(user, password) => format!("{user}:{}", password.expose()),
            Login::Identity(user, token) => format!("{user}:identity {}", token.expose()),
            Login::Bearer(token) => format!("bearer {}", token.expose()),
        })
    }

    #[test]
    fn longest_prefix_by_segments() {
        let text = format!(
            r#"{{"auths":{{"https://r.io/v2/":{},"r.io/ns":{},"r.io/ns/repo":{},"https://index.docker.io/v1/":{},
               "r.io/n":{{}},"r.io/other":{{}},"x.io":null,"bad.io":{{"auth":"junk!"}}}}}}"#,
            auth("host:a"),
            auth("ns:b:c"),
            auth("repo:d"),
            auth("hub:e"),
        );
        for (registry, path, want) in [
            ("r.io", "other/x", Some("host:a")),
            ("r.io", "ns/x", Some("ns:b:c")),
            ("r.io", "nsx/x", Some("host:a")),
            ("r.io", "ns/repo", Some("repo:d")),
            ("r.io", "ns/repo/sub", Some("repo:d")),
            ("docker.io", "library/busybox", Some("hub:e")),
            ("r.io:5000", "ns/repo", None),
            ("x.io", "a", None),
        ] {
            assert_eq!(login(&text, registry, path).as_deref(), want, "{registry}/{path}");
        }
    }

    #[test]
    fn entry_forms() {
        let text = format!(
            r#"{{"auths":{{"a.io":{{"username":"u","password":"p"}},"b.io":{{"auth":"{}","identitytoken":"it"}},
               "c.io":{{"registrytoken":"rt"}}}}}}"#,
            STANDARD.encode("u:"),
        );
        assert_eq!(login(&text, "a.io", "x").as_deref(), Some("u:p"));
        assert_eq!(login(&text, "b.io", "x").as_deref(), Some("u:identity it"));
        assert_eq!(login(&text, "c.io", "x").as_deref(), Some("bearer rt"));
    }

    #[test]
    fn helpers_per_registry_and_for_all() {
        let text = r#"{"credHelpers":{"a.io":"a","https://index.docker.io/v1/":"hub"},"credsStore":"all"}"#;
        let file = parse("x".to_owned(), text.as_bytes()).unwrap();
        assert_eq!(file.helper("a.io", "x"), Some("a"));
        assert_eq!(file.helper("docker.io", "library/x"), Some("hub"));
        assert_eq!(file.helper("b.io", "x"), Some("all"));
    }

    #[test]
    fn broken_files_are_errors_without_secrets() {
        let broken = parse("x".to_owned(), br#"{"auths":{"r.io":{"auth":["c2VjcmV0"]}}}"#);
        assert!(!broken.unwrap_err().contains("c2VjcmV0"));
        let entry = parse("x".to_owned(), br#"{"auths":{"r.io":{"auth":"c2VjcmV0!"}}}"#).unwrap();
        assert_eq!(entry.login("r.io", "x").unwrap_err(), "failed to read x: an `auth` is not base64");
    }
}
