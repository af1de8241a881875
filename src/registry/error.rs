//! What went wrong with a registry, for people and for exit codes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::image::Digest;

use super::retry::Advice;
use super::transport::host_of;

/// Sort of a failure: decides the exit code and whether the same command may work later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Credentials are missing, rejected or not sufficient.
    Authentication,
    /// What was to be pulled does not exist.
    NotFound,
    /// The registry said no, for good.
    Refused,
    /// The registry broke the protocol, sent wrong content, or its certificate is not accepted.
    Protocol,
    /// Network, 5xx or 429 after all tries; the same command may work later.
    Retryable,
    /// A file could not be read or written here, e.g. because the disk is full.
    Local,
    /// A credential file, a CA file or the client's settings cannot be used.
    Configuration,
}

/// A failed operation on a registry, or a failed download.
///
/// `Display` says what failed, where and why, in one line without secrets; server text in it is
/// escaped and cut.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct RegistryError(Arc<Inner>);

#[derive(Debug, thiserror::Error)]
#[error("failed to {}: {cause}{}", operation.at(place), history(earlier))]
struct Inner {
    host: String,
    place: String,
    operation: Operation,
    cause: Cause,
    earlier: Vec<String>,
}

/// What was being done, e.g. `push blob sha256:…`.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// Reading from the registry.
    Pull(String),
    /// Writing to the registry.
    Push(String),
    /// Reading the URL, which is shown without its secrets, from a web server.
    Download(String),
}

impl Operation {
    /// What failed, and where.
    fn at(&self, place: &str) -> String {
        match self {
            Self::Pull(what) => format!("pull {what} from `{place}`"),
            Self::Push(what) => format!("push {what} to `{place}`"),
            Self::Download(_) => self.to_string(),
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pull(what) => write!(f, "pull {what}"),
            Self::Push(what) => write!(f, "push {what}"),
            Self::Download(url) => write!(f, "download `{url}`"),
        }
    }
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    /// An answer with a status that is not a success.
    #[error("HTTP {status}{}", colon(.code, .message))]
    Status {
        /// HTTP status.
        status: u16,
        /// Error code of the registry's first error, e.g. `NAME_UNKNOWN`; may be empty.
        code: String,
        /// Its message; may be empty.
        message: String,
    },
    /// The host's name has no address; why.
    #[error("the host name cannot be resolved: {0}")]
    Name(String),
    /// No answer or a broken one.
    #[error("{0}")]
    Network(String),
    /// The certificate cannot be verified.
    #[error("the certificate is not accepted: {0}")]
    Certificate(String),
    /// Something else than TLS on a port where TLS was expected.
    #[error("the server does not speak TLS")]
    NotTls,
    /// An answer against the rules, or wrong content.
    #[error("{0}")]
    Protocol(String),
    /// Content that is not what was asked for.
    #[error("digest mismatch {got}: {wanted}")]
    Mismatch {
        /// Digest of what came.
        got: Digest,
        /// Digest of what was asked for.
        wanted: Digest,
    },
    /// No usable credentials.
    #[error("{0}")]
    Credentials(String),
    /// Unusable settings.
    #[error("{0}")]
    Configuration(String),
    /// A file here.
    #[error("{what}: {source}")]
    Local {
        /// What was done with which file.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// A failed attempt: why, and whether another one makes sense.
#[derive(Debug)]
pub(super) struct Failure {
    /// Why it failed.
    pub(super) cause: Box<Cause>,
    /// Whether and when to try again.
    pub(super) advice: Advice,
    /// The tries of this request that failed before, in a few words each.
    pub(super) earlier: Vec<String>,
}

fn colon(code: &str, message: &str) -> String {
    [code, message]
        .iter()
        .filter(|part| !part.is_empty())
        .fold(String::new(), |text, part| text + ": " + part)
}

fn history(earlier: &[String]) -> String {
    if earlier.is_empty() {
        return String::new();
    }
    let groups = earlier.chunk_by(|one, other| one == other).map(|group| match group {
        [once] => once.clone(),
        often => format!("{} times {}", often.len(), often[0]),
    });
    let groups = groups.collect::<Vec<_>>().join(", ");
    format!(" (after {} tries; before: {groups})", earlier.len() + 1)
}

impl Cause {
    fn kind(&self, operation: &Operation) -> ErrorKind {
        match self {
            Self::Status { status: 401 | 403 | 407, .. } | Self::Credentials(_) => ErrorKind::Authentication,
            Self::Status { status: 404, .. } if !matches!(operation, Operation::Push(_)) => {
                ErrorKind::NotFound
            }
            Self::Status { status: 408 | 429 | 500 | 502..=504, .. } | Self::Network(_) | Self::Name(_) => {
                ErrorKind::Retryable
            }
            Self::Status { .. } => ErrorKind::Refused,
            Self::Certificate(_) | Self::NotTls | Self::Protocol(_) | Self::Mismatch { .. } => {
                ErrorKind::Protocol
            }
            Self::Configuration(_) => ErrorKind::Configuration,
            Self::Local { .. } => ErrorKind::Local,
        }
    }

    /// A few words for a list of tries.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Status { status, .. } => format!("HTTP {status}"),
            other => other.to_string(),
        }
    }
}

impl Failure {
    /// A failure that another attempt may heal.
    pub(super) fn passing(cause: Cause) -> Self {
        Self { cause: Box::new(cause), advice: Advice::Backoff, earlier: Vec::new() }
    }

    /// A failure that stays.
    pub(super) fn lasting(cause: Cause) -> Self {
        Self { cause: Box::new(cause), advice: Advice::Never, earlier: Vec::new() }
    }

    /// An answer against the rules.
    pub(super) fn protocol(text: impl Into<String>) -> Self {
        Self::lasting(Cause::Protocol(text.into()))
    }

    /// A connection that broke or was silent too long.
    pub(super) fn network(text: impl Into<String>) -> Self {
        Self::passing(Cause::Network(text.into()))
    }

    /// A file that cannot be read or written.
    pub(super) fn local(what: impl Into<String>, source: io::Error) -> Self {
        Self::lasting(Cause::Local { what: what.into(), source })
    }

    /// The HTTP status, where the server answered with one.
    pub(super) fn status(&self) -> Option<u16> {
        match *self.cause {
            Cause::Status { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Whether the registry's error code is one of `codes`.
    pub(super) fn has_code(&self, codes: &[&str]) -> bool {
        matches!(&*self.cause, Cause::Status { code, .. } if codes.contains(&code.as_str()))
    }

    /// Whether credentials are missing, rejected or not sufficient.
    pub(super) fn is_authentication(&self) -> bool {
        matches!(*self.cause, Cause::Status { status: 401 | 403, .. } | Cause::Credentials(_))
    }
}

impl RegistryError {
    /// The failure that ends `operation` at `place`.
    pub(super) fn new(host: &str, place: String, operation: Operation, failure: Failure) -> Self {
        let Failure { cause, earlier, .. } = failure;
        Self(Arc::new(Inner { host: host.to_owned(), place, operation, cause: *cause, earlier }))
    }

    /// A failure before any registry was asked.
    pub(super) fn configuration(text: String) -> Self {
        let failure = Failure::lasting(Cause::Configuration(text));
        Self::new("", String::new(), Operation::Pull("anything".to_owned()), failure)
    }

    /// Sort of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.cause.kind(&self.0.operation)
    }

    /// Host and port of the registry or web server.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// The file error of [`ErrorKind::Local`].
    pub fn io_error(&self) -> Option<&io::Error> {
        match &self.0.cause {
            Cause::Local { source, .. } => Some(source),
            _ => None,
        }
    }

    /// HTTP status of the last answer, where there was one.
    pub fn status(&self) -> Option<u16> {
        match self.0.cause {
            Cause::Status { status, .. } => Some(status),
            _ => None,
        }
    }

    /// How many times the request was sent in vain.
    pub fn tries(&self) -> usize {
        self.0.earlier.len() + 1
    }

    /// What the user can do about it, in one line.
    pub fn hint(&self) -> Option<String> {
        let host = &self.0.host;
        let pulls = matches!(self.0.operation, Operation::Pull(_));
        if matches!(self.0.operation, Operation::Download(_))
            && let Some(hint) = self.download_hint()
        {
            return Some(hint);
        }
        Some(match (&self.0.cause, self.kind()) {
            (Cause::Status { status: 403, .. }, _) if !pulls => {
                format!("check that the credentials for {host} may push to this repository")
            }
            (_, ErrorKind::Authentication) if pulls => {
                format!("the image may not exist, or needs credentials: log in with `docker login {host}`")
            }
            (_, ErrorKind::Authentication) => format!("log in with `docker login {host}`"),
            (_, ErrorKind::NotFound) => "check the image's name and tag".to_owned(),
            (Cause::Name(_), _) => {
                "check the name, /etc/hosts and the DNS servers in /etc/resolv.conf".to_owned()
            }
            (Cause::NotTls, _) => {
                format!("pass --insecure-registry {host} if it speaks plain HTTP")
            }
            (Cause::Certificate(_), _) => {
                format!(
                    "name a file with the server's CA in SSL_CERT_FILE, or pass --insecure-registry {host} to skip verification"
                )
            }
            (Cause::Status { status: 429, .. }, _) => {
                format!("{host} limits the number of requests: retry later, or log in for a higher limit")
            }
            (_, ErrorKind::Retryable) => "retry later".to_owned(),
            (Cause::Local { source, .. }, _) if source.kind() == io::ErrorKind::StorageFull => {
                "free some disk space".to_owned()
            }
            _ => return None,
        })
    }
}

impl RegistryError {
    /// What to do about a failed download, where it is not the same as for a registry.
    fn download_hint(&self) -> Option<String> {
        // Secrets are found by the host without its port.
        let host = host_of(&self.0.host).trim_start_matches('[').trim_end_matches(']');
        Some(match (&self.0.cause, self.kind()) {
            (_, ErrorKind::Authentication) => format!(
                "give the server's credentials as a secret with the id HTTP_AUTH_TOKEN_{host} or HTTP_AUTH_HEADER_{host}"
            ),
            (_, ErrorKind::NotFound) => "check the URL".to_owned(),
            (Cause::Mismatch { got, .. }, _) => {
                format!("the server sent {got}: check the URL, and the checksum that was asked for")
            }
            (Cause::NotTls, _) => "write http:// if the server speaks plain HTTP".to_owned(),
            (Cause::Status { status: 429, .. }, _) => {
                format!("{} limits the number of requests: retry later", self.0.host)
            }
            _ => return None,
        })
    }
}

/// Text for a wait that is too long.
pub(super) fn come_back(wait: Duration) -> String {
    format!("the server asks to come back in {} s, which is beyond the retry budget", wait.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, operation: Operation) -> RegistryError {
        let cause = Cause::Status { status, code: "DENIED".into(), message: "no".into() };
        let failure = Failure { earlier: vec!["HTTP 503".into()], ..Failure::lasting(cause) };
        RegistryError::new("r.io", "r.io/a".into(), operation, failure)
    }

    #[test]
    fn reads_well() {
        let error = error(403, Operation::Push("manifest `v1`".into()));
        let want = "failed to push manifest `v1` to `r.io/a`: HTTP 403: DENIED: no (after 2 tries; before: HTTP 503)";
        assert_eq!(error.to_string(), want);
        assert_eq!(history(&["a".into(), "a".into(), "b".into()]), " (after 4 tries; before: 2 times a, b)");
        assert_eq!(error.hint().unwrap(), "check that the credentials for r.io may push to this repository");
    }

    #[test]
    fn kinds() {
        use ErrorKind::{Authentication, NotFound, Refused, Retryable};
        let pull = || Operation::Pull(String::new());
        let push = || Operation::Push(String::new());
        for (status, on_pull, on_push) in [
            (401, Authentication, Authentication),
            (404, NotFound, Refused),
            (400, Refused, Refused),
            (429, Retryable, Retryable),
            (501, Refused, Refused),
            (503, Retryable, Retryable),
        ] {
            assert_eq!(error(status, pull()).kind(), on_pull);
            assert_eq!(error(status, push()).kind(), on_push);
        }
    }
}
