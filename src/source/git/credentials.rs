//! Which credentials a server gets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::GitError;
use crate::dockerfile::{GitLogin, GitRemote, GitScheme};
use crate::secrets::{Mask, Secrets};

/// Secret that holds a whole `Authorization` value; `.host` at its end limits it to a server.
const HEADER: &str = "GIT_AUTH_HEADER";
/// Secret that holds a token; `.host` at its end limits it to a server.
const TOKEN: &str = "GIT_AUTH_TOKEN";
/// The user name that servers take with a token.
const TOKEN_USER: &str = "x-access-token";

/// Credentials for the servers of one source.
pub(super) struct Credentials<'a> {
    secrets: &'a Secrets,
    /// The server that the user named. Secrets without a host are for it alone, not for those that
    /// the repository names.
    main: Option<String>,
    mask: Mask,
}

impl<'a> Credentials<'a> {
    pub(super) fn new(secrets: &'a Secrets, main: &GitRemote) -> Self {
        let mut hidden = Secrets::default();
        for id in secrets.ids().filter(|id| id.starts_with(HEADER) || id.starts_with(TOKEN)) {
            if let Some(value) = secrets.get(id) {
                hidden.insert(format!("{id} as token"), basic(TOKEN_USER, value.trim_ascii()).into_bytes());
                hidden.insert(id, value.to_vec());
                // A header is a scheme and the credential itself.
                let word = value.trim_ascii().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
                hidden.insert(format!("{id} without scheme"), word.to_vec());
            }
        }
        if let Some(login) = main.login() {
            hidden.insert("password", login.password().as_bytes());
            hidden.insert("user", login.user().as_bytes());
            hidden.insert("login", of_login(login).into_bytes());
        }
        Self { secrets, main: main.origin(), mask: hidden.mask() }
    }

    /// Hides all of them in text.
    pub(super) fn mask(&self) -> &Mask {
        &self.mask
    }

    /// The value of the `Authorization` header for a server, if it gets one.
    ///
    /// Secrets go over plain HTTP only to the server that the user named so.
    pub(super) fn header(&self, remote: &GitRemote) -> Result<Option<String>, GitError> {
        let Some(origin) = remote.origin() else {
            return Ok(None);
        };
        if let Some(login) = remote.login() {
            return Ok(Some(format!("Basic {}", of_login(login))));
        }
        let is_main = self.main.as_deref() == Some(&origin);
        let hosts = [
            (remote.scheme() == GitScheme::Https || is_main).then(|| format!(".{}", remote.host())),
            is_main.then(String::new),
        ];
        for suffix in hosts.iter().flatten() {
            for name in [HEADER, TOKEN] {
                let id = format!("{name}{suffix}");
                if let Some(value) = self.secrets.get(&id) {
                    let value = value.trim_ascii();
                    if value.is_empty() || !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
                        let fault = format!("secret {id:?} is not one line of printable characters");
                        return Err(GitError::Invalid(fault));
                    }
                    return Ok(Some(match name {
                        TOKEN => format!("Basic {}", basic(TOKEN_USER, value)),
                        _ => String::from_utf8_lossy(value).into_owned(),
                    }));
                }
            }
        }
        Ok(None)
    }
}

fn of_login(login: &GitLogin) -> String {
    basic(login.user(), login.password().as_bytes())
}

/// Source: RFC 7617.
fn basic(user: &str, password: &[u8]) -> String {
    STANDARD.encode([user.as_bytes(), b":", password].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(secrets: &[(&str, &str)], main: &str, asked: &str) -> Option<String> {
        let mut all = Secrets::default();
        for (id, value) in secrets {
            all.insert(*id, value.as_bytes());
        }
        let main = GitRemote::parse(main).unwrap();
        Credentials::new(&all, &main).header(&GitRemote::parse(asked).unwrap()).unwrap()
    }

    #[test]
    fn credentials_reach_their_server_only() {
        let main = "https://h/a.git";
        let token = Some("Basic eC1hY2Nlc3MtdG9rZW46dG9r".to_owned());
        for (secrets, asked, want) in [
            (&[("GIT_AUTH_TOKEN", "tok\n")][..], main, token.clone()),
            (&[("GIT_AUTH_TOKEN", "tok")], "https://h/other.git", token.clone()),
            (&[("GIT_AUTH_TOKEN", "tok")], "https://other/a.git", None),
            (&[("GIT_AUTH_TOKEN", "tok")], "http://h/a.git", None),
            (&[("GIT_AUTH_TOKEN", "tok")], "https://h:444/a.git", None),
            (&[("GIT_AUTH_TOKEN.other", "tok")], "https://other/a.git", token.clone()),
            (&[("GIT_AUTH_TOKEN.other", "tok")], "http://other/a.git", None),
            (&[("GIT_AUTH_TOKEN.other", "tok")], main, None),
            (&[("GIT_AUTH_TOKEN", "tok")], "ssh://h/a.git", None),
            (&[("GIT_AUTH_TOKEN.h", "tok"), ("GIT_AUTH_HEADER", "Bearer x")], main, token.clone()),
            (
                &[("GIT_AUTH_TOKEN", "tok"), ("GIT_AUTH_HEADER", "Bearer x")],
                main,
                Some("Bearer x".to_owned()),
            ),
            (&[], "https://me:pw@h/a.git", Some("Basic bWU6cHc=".to_owned())),
        ] {
            assert_eq!(header(secrets, main, asked), want, "{asked}");
        }
    }

    #[test]
    fn second_lines_are_refused() {
        let mut secrets = Secrets::default();
        secrets.insert("GIT_AUTH_HEADER", &b"Bearer x\r\nX-Evil: 1"[..]);
        let remote = GitRemote::parse("https://h/a.git").unwrap();
        let error = Credentials::new(&secrets, &remote).header(&remote).unwrap_err();
        assert!(!error.to_string().contains("Evil"), "{error}");
    }

    #[test]
    fn every_form_is_hidden() {
        let mut secrets = Secrets::default();
        secrets.insert("GIT_AUTH_TOKEN", &b"token-of-mine"[..]);
        secrets.insert("GIT_AUTH_HEADER.h", &b"Bearer header-of-mine"[..]);
        let remote = GitRemote::parse("https://someone:password@h/a.git").unwrap();
        let credentials = Credentials::new(&secrets, &remote);
        let text = format!("token-of-mine header-of-mine password {}", of_login(remote.login().unwrap()));
        assert_eq!(credentials.mask().line(text.into_bytes()), b"*** *** *** ***");
    }
}
