//! Why git failed, as far as its own words tell.

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The server wants credentials, or refuses those that it got.
    Denied(&'static str),
    /// The server has no such repository.
    Missing,
    /// This machine lacks something, or does not trust the server.
    Unprepared(&'static str),
    /// Anything else: the network, the server, a damaged file. It may work later.
    Other(Option<&'static str>),
}

/// Words of git and ssh that tell what has happened, and what that is.
const SIGNS: [(&[&str], Cause); 8] = [
    (
        &[
            "could not read Username",
            "could not read Password",
            "Authentication failed",
            "error: 401",
            "error: 403",
        ],
        Cause::Denied("give a token as secret `GIT_AUTH_TOKEN` or `GIT_AUTH_TOKEN.<host>`"),
    ),
    (
        &["error: 301", "error: 302", "error: 307", "error: 308"],
        Cause::Unprepared(
            "with credentials no redirection is followed; write the address that the server redirects to",
        ),
    ),
    (
        &["Host key verification failed"],
        Cause::Unprepared(
            "add the server's key to the file of known hosts, e.g. with `ssh-keyscan`, after checking it",
        ),
    ),
    (&["Permission denied (publickey"], Cause::Denied("give an SSH agent that holds a key for this server")),
    (
        &["cannot run ssh", "ssh: not found"],
        Cause::Unprepared("install ssh, e.g. `apt-get install openssh-client`"),
    ),
    (
        &["Could not resolve host", "unable to look up"],
        Cause::Other(Some("is the host name right, and is there a network?")),
    ),
    (
        &["SSL certificate", "certificate verif", "CAfile"],
        Cause::Unprepared(
            "install the server's authority, e.g. `apt-get install ca-certificates`, or set SSL_CERT_FILE",
        ),
    ),
    (&["repository not exported", "not found", "error: 404", "does not appear to be a git"], Cause::Missing),
];

impl Cause {
    /// What git's last lines tell.
    pub(super) fn of(detail: &str) -> Self {
        let told = SIGNS.iter().find(|(signs, _)| signs.iter().any(|sign| detail.contains(sign)));
        told.map_or(Self::Other(None), |(_, cause)| *cause)
    }

    /// What to do.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::Denied(hint) | Self::Unprepared(hint) => Some(hint),
            Self::Missing => Some("look at the address for a mistake"),
            Self::Other(hint) => hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_git() {
        for (detail, want) in [
            ("fatal: could not read Username for 'http://h': terminal prompts disabled", "Denied"),
            ("remote error: access denied or repository not exported: /x.git", "Missing"),
            ("fatal: repository 'http://h/x.git/' not found", "Missing"),
            ("fatal: unable to look up h (port 9418) (Name or service not known)", "Other(Some"),
            ("fatal: unable to connect to h: Connection refused", "Other(None"),
            ("Host key verification failed.", "Unprepared"),
        ] {
            let cause = format!("{:?}", Cause::of(detail));
            assert!(cause.starts_with(want), "{detail}: {cause}");
        }
    }
}
