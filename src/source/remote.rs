//! Files of web servers as sources: their names, their credentials, and contexts of one file.

use super::{Context, SourceError};
use crate::layer::{Change, Content, Entry, EntryKind, LayerPath};
use crate::registry::{Authorization, WebUrl};
use crate::secrets::Secrets;

/// The name of a file whose URL has none.
const UNNAMED: &str = "__unnamed__";
/// Ids of secrets, before the host: a token, and a whole header.
const TOKEN: &str = "HTTP_AUTH_TOKEN_";
const HEADER: &str = "HTTP_AUTH_HEADER_";

/// Whether a source's word names a file on a web server. A git repository may be named so, too.
pub fn is_http(text: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// The name under which the file of a URL is added: the last part of the path, percent-decoded, or
/// `__unnamed__` where that is no name of a file.
///
/// Source of the semantics: BuildKit, ADD.
pub fn file_name(url: &WebUrl) -> String {
    match String::from_utf8(url.last_part()) {
        Ok(name) if !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']) => name,
        _ => UNNAMED.to_owned(),
    }
}

/// The credentials for the host of a URL: those of the secret `HTTP_AUTH_TOKEN_<host>`, sent as a
/// bearer token, else `HTTP_AUTH_HEADER_<host>`, sent as it is. The host stands there with or
/// without its port, and in any case; blanks around the value are no part of it.
///
/// # Errors
///
/// Fails for a value that no header can carry.
///
/// Source of the semantics: BuildKit, HTTP sources.
pub fn authorisation(secrets: &Secrets, url: &WebUrl) -> Result<Option<Authorization>, SourceError> {
    let find = |prefix: &str| {
        let authority = url.authority();
        let names =
            |host: &str| host.eq_ignore_ascii_case(url.host()) || host.eq_ignore_ascii_case(&authority);
        let named = |id: &&str| id.strip_prefix(prefix).is_some_and(names);
        let id = secrets.ids().find(named)?;
        Some((id, secrets.get(id)?.trim_ascii()))
    };
    let (id, header) = if let Some((id, token)) = find(TOKEN) {
        (id, Authorization::from_token(token))
    } else if let Some((id, value)) = find(HEADER) {
        (id, Authorization::from_header(value))
    } else {
        return Ok(None);
    };
    header.map(Some).ok_or_else(|| SourceError::Secret { id: id.to_owned() })
}

/// A context of one file at its root: readable by root alone, as a file that was downloaded.
///
/// `size` is in bytes, `mtime` in seconds since 1970: the server's `Last-Modified`, or what stands
/// in for it.
///
/// # Errors
///
/// Fails for a name that no layer can hold.
pub fn single_file(content: Content, size: u64, name: &str, mtime: i64) -> Result<Context, SourceError> {
    let path = LayerPath::new(name)?;
    let entry = Entry { mtime, ..Entry::new(path, EntryKind::File { size }, 0o600) };
    Context::gathered(vec![Change { entry, content }])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn url(text: &str) -> WebUrl {
        text.parse().unwrap()
    }

    #[test]
    fn schemes() {
        for (text, want) in [
            ("http://h/f", true),
            ("HTTPS://h/f", true),
            ("https:/h", false),
            ("git://h/r", false),
            ("http", false),
            ("häääääää", false),
            ("./http://h", false),
        ] {
            assert_eq!(is_http(text), want, "{text}");
        }
    }

    #[test]
    fn names() {
        for (path, want) in [
            ("/a/b.tar.gz", "b.tar.gz"),
            ("/a/b%20c?x=/y.z#/w", "b c"),
            ("/%C3%A4", "ä"),
            ("", UNNAMED),
            ("/", UNNAMED),
            ("/a/", UNNAMED),
            ("/a/..", UNNAMED),
            ("/a/%2e%2e", UNNAMED),
            ("/a%2Fb", UNNAMED),
            ("/a%00", UNNAMED),
            ("/%ff", UNNAMED),
            ("/...", "..."),
        ] {
            assert_eq!(file_name(&url(&format!("https://h.io{path}"))), want, "{path}");
        }
    }

    #[test]
    fn credentials_are_found_by_host() {
        let mut secrets = Secrets::default();
        secrets.insert("HTTP_AUTH_TOKEN_h.io", *b"abc\n");
        secrets.insert("HTTP_AUTH_HEADER_H.io", *b"Basic dTpw");
        secrets.insert("HTTP_AUTH_HEADER_::1", *b"Basic dTpw");
        secrets.insert("HTTP_AUTH_TOKEN", *b"everywhere");
        secrets.insert("HTTP_AUTH_TOKEN_bad", *b"two\nlines");
        for (text, found) in [
            ("https://h.io/f", true),
            ("https://H.IO:8443/f", true),
            ("http://[::1]:80/f", true),
            ("https://sub.h.io/f", false),
            ("https://h.io.evil/f", false),
        ] {
            assert_eq!(authorisation(&secrets, &url(text)).unwrap().is_some(), found, "{text}");
        }
        let error = authorisation(&secrets, &url("http://bad/")).unwrap_err().to_string();
        assert!(error.contains("HTTP_AUTH_TOKEN_bad") && !error.contains("two"), "{error}");
    }

    #[test]
    fn one_file_is_a_context() {
        let context = single_file(Content::Bytes(Arc::from(&b"abc"[..])), 3, "f", 77).unwrap();
        let path = LayerPath::new("f").unwrap();
        let entry = context.tree().get(&path).unwrap().entry;
        assert_eq!((entry.mode, entry.uid, entry.gid, entry.mtime), (0o600, 0, 0, 77));
        assert_eq!(std::io::read_to_string(context.content(&path).open().unwrap()).unwrap(), "abc");
        assert!(single_file(Content::Empty, 0, "a/../b", 0).is_err());
    }
}
