//! [`GitRemote`]: where a git repository is, as the program `git` takes it, without its password.

use std::fmt;

use super::git_address::GitAddressError;

/// Longest address, in bytes.
const LONGEST: usize = 4096;

/// How a git server is spoken to. No other transport is ever used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitScheme {
    /// Without encryption.
    Http,
    /// HTTP over TLS.
    Https,
    /// Git's own protocol, without encryption.
    Git,
    /// Through `ssh`; also `user@host:path`.
    Ssh,
}

impl GitScheme {
    fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "https" => Self::Https,
            "git" => Self::Git,
            "ssh" => Self::Ssh,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Git => "git",
            Self::Ssh => "ssh",
        }
    }

    /// Whether credentials are sent in HTTP headers.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// A name and password, or a token, that stood in an address. It never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct GitLogin {
    user: String,
    password: String,
}

impl GitLogin {
    /// The name, without URL escapes.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password, without URL escapes; empty where there was none.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for GitLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a git repository is.
///
/// No part of it is an option, an escape sequence or a command to any of the programs that it is
/// handed to. `Display` and [`GitRemote::url`] are without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRemote {
    scheme: GitScheme,
    /// Without credentials.
    url: String,
    host: String,
    /// Bytes of `url` before the path.
    path_at: usize,
    login: Option<GitLogin>,
}

impl GitRemote {
    /// Reads `http://`, `https://`, `git://` and `ssh://` URLs and `user@host:path`.
    ///
    /// # Errors
    ///
    /// Fails for every other transport, e.g. `file://` and `ext::`, for control characters, also as
    /// URL escapes, for parts that begin with `-`, and for queries and fragments.
    pub fn parse(text: &str) -> Result<Self, GitAddressError> {
        check_characters(text)?;
        if text.contains(['#', '?']) {
            return Err(GitAddressError::Part { part: "path", reason: "it must not hold `#` or `?`" });
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let known = GitScheme::parse(scheme);
            return Self::url_form(known.ok_or_else(|| GitAddressError::Transport(scheme.to_owned()))?, rest);
        }
        if let Some((helper, _)) = text.split_once("::") {
            return Err(GitAddressError::Transport(helper.to_owned()));
        }
        let (user, host, path) = scp_parts(text).ok_or(GitAddressError::NotRemote)?;
        check_word("user", user)?;
        check_word("host", host)?;
        check_path(path)?;
        Ok(Self {
            scheme: GitScheme::Ssh,
            url: text.to_owned(),
            host: host.to_ascii_lowercase(),
            path_at: text.len() - path.len(),
            login: None,
        })
    }

    fn url_form(scheme: GitScheme, rest: &str) -> Result<Self, GitAddressError> {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (userinfo, place) = match authority.rsplit_once('@') {
            Some((userinfo, place)) => (Some(userinfo), place),
            None => (None, authority),
        };
        let host = host_of(place)?;
        if path.len() < 2 {
            return Err(GitAddressError::Part { part: "path", reason: "it is missing" });
        }
        check_path(path.trim_start_matches('/'))?;
        let (mut user, mut login) = (String::new(), None);
        match userinfo {
            None => {}
            Some(userinfo) if scheme.is_http() => {
                let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
                login = Some(GitLogin { user: unescape(user)?, password: unescape(password)? });
            }
            Some(name) if scheme == GitScheme::Ssh => {
                if name.contains(':') {
                    let reason = "ssh takes no password from an address; use an agent or a key";
                    return Err(GitAddressError::Part { part: "user", reason });
                }
                check_word("user", name)?;
                user = format!("{name}@");
            }
            Some(_) => {
                let reason = "the git protocol knows no users; use https or ssh";
                return Err(GitAddressError::Part { part: "user", reason });
            }
        }
        let before = format!("{}://{user}{}", scheme.name(), place.to_ascii_lowercase());
        Ok(Self { scheme, path_at: before.len(), url: before + path, host, login })
    }

    /// How the server is spoken to.
    pub fn scheme(&self) -> GitScheme {
        self.scheme
    }

    /// The address for `git`, without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's name or address, in lower case, without a port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Scheme, host and port of an HTTP server, e.g. `https://example.com/`: what credentials are
    /// bound to.
    pub fn origin(&self) -> Option<String> {
        self.scheme.is_http().then(|| format!("{}/", &self.url[..self.path_at]))
    }

    /// Credentials that stood in the address.
    pub fn login(&self) -> Option<&GitLogin> {
        self.login.as_ref()
    }

    /// The address that `relative`, which begins with `./` or `../`, means seen from here, as in
    /// `.gitmodules`. Credentials go along, since the server is the same.
    ///
    /// # Errors
    ///
    /// Fails where it leads above the server's root.
    ///
    /// Source: gitmodules(5), `submodule.<name>.url`.
    pub fn join(&self, relative: &str) -> Result<Self, GitAddressError> {
        let mut path = self.url[self.path_at..].trim_end_matches('/');
        let mut rest = relative;
        loop {
            if let Some(after) = rest.strip_prefix("../") {
                let above =
                    GitAddressError::Part { part: "path", reason: "it leads above the server's root" };
                path = match path.rfind('/') {
                    Some(end) => &path[..end],
                    None if path.is_empty() => return Err(above),
                    None => "",
                };
                rest = after;
            } else if let Some(after) = rest.strip_prefix("./") {
                rest = after;
            } else {
                break;
            }
        }
        // Only `user@host:name` has a path without a slash.
        let slash = if path.is_empty() && self.url.as_bytes()[self.path_at] != b'/' { "" } else { "/" };
        let joined = format!("{}{path}{slash}{}", &self.url[..self.path_at], rest.trim_end_matches('/'));
        let mut remote = Self::parse(&joined)?;
        remote.login.clone_from(&self.login);
        Ok(remote)
    }
}

impl fmt::Display for GitRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// The parts of `user@host:path`, where the text has that form.
pub(super) fn scp_parts(text: &str) -> Option<(&str, &str, &str)> {
    let (user, rest) = text.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    let word = |text: &str, also: &str| {
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || also.contains(letter))
    };
    (word(user, "-_") && word(host, "-.")).then_some((user, host, path))
}

/// The host of `host`, `host:port`, `[address]` or `[address]:port`, checked.
fn host_of(place: &str) -> Result<String, GitAddressError> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let bad = GitAddressError::Part { part: "host", reason: "its `[` has no `]`" };
        let (address, after) = rest.split_once(']').ok_or(bad)?;
        if address.is_empty()
            || !address.chars().all(|letter| letter.is_ascii_hexdigit() || ":.".contains(letter))
        {
            return Err(GitAddressError::Part { part: "host", reason: "it is not an IPv6 address" });
        }
        (address, after.strip_prefix(':').or((!after.is_empty()).then_some("?")))
    } else {
        let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
        check_word("host", host)?;
        (host, port)
    };
    if port
        .is_some_and(|port| !port.bytes().all(|digit| digit.is_ascii_digit()) || port.parse::<u16>().is_err())
    {
        return Err(GitAddressError::Part { part: "port", reason: "it is not a number up to 65535" });
    }
    Ok(host.to_ascii_lowercase())
}

fn check_word(part: &'static str, text: &str) -> Result<(), GitAddressError> {
    let reason = if text.is_empty() {
        "it is missing"
    } else if text.starts_with('-') {
        "it must not begin with `-`"
    } else if !text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.~+".contains(letter)) {
        "it may hold letters, digits and `-_.~+` only"
    } else {
        return Ok(());
    };
    Err(GitAddressError::Part { part, reason })
}

fn check_path(path: &str) -> Result<(), GitAddressError> {
    let reason = if path.is_empty() {
        "it is missing"
    } else if path.starts_with('-') || path.starts_with("%2d") || path.starts_with("%2D") {
        "it must not begin with `-`"
    } else {
        return Ok(());
    };
    Err(GitAddressError::Part { part: "path", reason })
}

/// Refuses what could end a line, hide text on a terminal or reach a server as such.
pub(super) fn check_characters(text: &str) -> Result<(), GitAddressError> {
    if text.len() > LONGEST {
        return Err(GitAddressError::TooLong);
    }
    let bad = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.chars().any(bad) {
        return Err(GitAddressError::Character);
    }
    let escaped = |at: usize| {
        let digits = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        digits.is_some_and(|byte| byte.is_ascii_control())
    };
    if text.match_indices('%').any(|(at, _)| escaped(at)) {
        return Err(GitAddressError::Character);
    }
    Ok(())
}

/// The text without URL escapes.
pub(super) fn unescape(text: &str) -> Result<String, GitAddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or(GitAddressError::Escape)?);
        rest = &after[2..];
    }
    let text = String::from_utf8(bytes).map_err(|_| GitAddressError::Escape)?;
    check_characters_only(&text)?;
    Ok(text)
}

/// As [`check_characters`], for text whose `%` are no escapes any more.
fn check_characters_only(text: &str) -> Result<(), GitAddressError> {
    check_characters(&text.replace('%', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_addresses() {
        for (base, relative, want) in [
            ("https://h/a/b.git", "../c.git", Some("https://h/a/c.git")),
            ("https://h/a/b.git", "./c", Some("https://h/a/b.git/c")),
            ("https://h/a/b.git", "../../c/d", Some("https://h/c/d")),
            ("https://h/a/b.git", "../../../c", None),
            ("https://h/a/b.git", "../../../evil.example/c", None),
            ("git@h:a/b.git", "../c", Some("git@h:a/c")),
            ("git@h:b.git", "../c", Some("git@h:c")),
            ("git@h:b.git", "../../c", None),
            ("git@h:b.git", "../-c", None),
            ("ssh://git@h:22/b.git/", "../c/", Some("ssh://git@h:22/c")),
            ("git://h/b", "../c\r", None),
        ] {
            let joined = GitRemote::parse(base).unwrap().join(relative);
            assert_eq!(joined.as_ref().ok().map(GitRemote::url), want, "{base} {relative}: {joined:?}");
        }
        let remote = GitRemote::parse("https://me:secret@h/a.git").unwrap().join("../b.git").unwrap();
        assert_eq!((remote.url(), remote.login().unwrap().password()), ("https://h/b.git", "secret"));
    }

    #[test]
    fn parts_of_an_address() {
        let remote = GitRemote::parse("HTTPS://Us%40er:p%3Aw@Example.com:8443/a/B").unwrap();
        assert_eq!(remote.url(), "https://example.com:8443/a/B");
        assert_eq!(remote.host(), "example.com");
        assert_eq!(remote.origin().unwrap(), "https://example.com:8443/");
        let login = remote.login().unwrap();
        assert_eq!((login.user(), login.password()), ("Us@er", "p:w"));
        assert!(!format!("{remote:?}{remote}").contains("p:w"));
        assert_eq!(GitRemote::parse("http://[::1]:80/a").unwrap().host(), "::1");
        assert_eq!(GitRemote::parse("git@h:a").unwrap().origin(), None);
    }
}
