//! URLs of files on web servers, with their secrets set apart.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;

use super::redact::{self, Secret};
use super::transport::authority;
use crate::image::Digest;

/// The URL of a file, `http` or `https`.
///
/// User and password are taken out of it when it is read. `Display` and `Debug` show neither them
/// nor the query, which may hold a signature.
#[derive(Clone)]
pub struct WebUrl {
    /// Without user, password and fragment.
    url: Url,
    login: Option<Authorization>,
    password: Option<Secret>,
}

/// Text that is not the URL of a file on a web server. The text itself is not told: it may hold a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not an http:// or https:// URL: {0}")]
pub struct WebUrlError(String);

/// The value of an `Authorization` header; never printed.
#[derive(Clone)]
pub struct Authorization(HeaderValue);

impl Authorization {
    /// The header's value as it is to be sent, e.g. `Basic dTpw`; `None` for what no header can carry.
    pub fn from_header(value: &[u8]) -> Option<Self> {
        let mut value = HeaderValue::from_bytes(value).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    /// A token that is enough by itself; `None` for what no header can carry.
    pub fn from_token(token: &[u8]) -> Option<Self> {
        Self::from_header(&[b"Bearer ", token].concat())
    }

    fn from_login(user: &[u8], password: &[u8]) -> Option<Self> {
        let pair = [user, b":", password].concat();
        Self::from_header(format!("Basic {}", STANDARD.encode(pair)).as_bytes())
    }

    /// The header's value.
    pub(super) fn value(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for WebUrl {
    type Err = WebUrlError;

    fn from_str(text: &str) -> Result<Self, WebUrlError> {
        let mut url = Url::parse(text).map_err(|error| WebUrlError(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(WebUrlError("it has another scheme".to_owned()));
        }
        let user = percent_decode(url.username());
        let password = url.password().map(percent_decode);
        let mut login = None;
        if !user.is_empty() || password.is_some() {
            login = Authorization::from_login(&user, password.as_deref().unwrap_or_default());
        }
        let unusable = |()| WebUrlError("its user and password cannot be taken out".to_owned());
        url.set_username("").map_err(unusable)?;
        url.set_password(None).map_err(unusable)?;
        url.set_fragment(None);
        let password = password.and_then(|password| String::from_utf8(password).ok()).map(Secret::new);
        Ok(Self { url, login, password })
    }
}

impl WebUrl {
    /// The host without its port, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// The host, with its port unless that is the scheme's own.
    pub fn authority(&self) -> String {
        authority(&self.url)
    }

    /// The last part of the path, percent-decoded; empty where the path ends with a slash.
    pub fn last_part(&self) -> Vec<u8> {
        percent_decode(self.url.path().rsplit('/').next().unwrap_or_default())
    }

    /// Stands for the URL where its text must not be kept. User, password and fragment do not count.
    pub fn key(&self) -> Digest {
        Digest::of(self.url.as_str().as_bytes())
    }

    /// The URL itself, for a request.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// User and password of the URL, where it has any.
    pub(super) fn login(&self) -> Option<&Authorization> {
        self.login.as_ref()
    }

    /// The password of the URL, to be hidden in texts of the server.
    pub(super) fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::url(&self.url))
    }
}

impl fmt::Debug for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for WebUrl {
    fn eq(&self, other: &Self) -> bool {
        let login = |url: &Self| url.login.as_ref().map(|login| login.0.clone());
        self.url == other.url && login(self) == login(other)
    }
}

impl Eq for WebUrl {}

/// The bytes that a percent-encoded text stands for. A `%` without two digits stands for itself.
fn percent_decode(text: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        if let (b'%', Some(high), Some(low)) =
            (first, after.first().and_then(digit), after.get(1).and_then(digit))
        {
            bytes.push(high << 4 | low);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> WebUrl {
        text.parse().unwrap()
    }

    #[test]
    fn secrets_are_set_apart() {
        let with = url("https://us%40er:hun%3Ater2@h.io:8443/a/b.tar?sig=abc#part");
        assert_eq!(with.to_string(), "https://h.io:8443/a/b.tar");
        assert_eq!(format!("{with:?} {:?}", with.login()), "https://h.io:8443/a/b.tar Some(***)");
        let value = with.login().unwrap().value();
        assert_eq!(value, &format!("Basic {}", STANDARD.encode("us@er:hun:ter2")));
        assert!(!format!("{value:?}").contains("Basic"));
        assert_eq!(with.key(), url("https://h.io:8443/a/b.tar?sig=abc").key());
        assert_ne!(with.key(), url("https://h.io:8443/a/b.tar?sig=abd").key());
        assert_ne!(with, url("https://h.io:8443/a/b.tar?sig=abc"));
        assert_eq!((with.host(), with.authority()), ("h.io", "h.io:8443".to_owned()));
        assert_eq!(url("http://[::1]:80/").host(), "::1");
        assert!(url("https://token@h.io/").login().is_some());
    }

    #[test]
    fn other_texts_are_refused_without_showing_them() {
        for text in ["ftp://u:hunter2@h/", "https://", "h.io/a", "https://u:hunter2@h:99999/", ""] {
            let error = text.parse::<WebUrl>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn percent_signs() {
        for (text, want) in
            [("a%20b", "a b"), ("%41%6a", "Aj"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("", "")]
        {
            assert_eq!(percent_decode(text), want.as_bytes(), "{text}");
        }
    }

    #[test]
    fn headers_hold_one_line() {
        assert!(Authorization::from_token(b"abc").is_some());
        assert!(Authorization::from_token(b"abc\nX: y").is_none());
        assert!(Authorization::from_header(b"Basic \0").is_none());
    }
}
