//! Settings of the client.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::CredentialFiles;
use super::retry::{RetryNotice, RetryPolicy};

/// Called before each wait for another try.
pub type RetryCallback = Arc<dyn Fn(&RetryNotice) + Send + Sync>;

/// Settings of a [`super::Client`].
#[derive(Clone)]
pub struct Config {
    /// Hosts (`host:port`, or `host` for all its ports) whose certificates are not verified and
    /// that may speak plain HTTP.
    pub insecure: Vec<String>,
    /// Where credentials are looked for.
    pub credentials: CredentialFiles,
    /// PEM file with certificate authorities that are trusted beside the machine's,
    /// or beside the built-in ones where the machine has none.
    pub ca_file: Option<PathBuf>,
    /// Folders with PEM files of more certificate authorities.
    pub ca_dirs: Vec<PathBuf>,
    /// Requests in flight per host that carry a blob.
    pub parallel: usize,
    /// Other requests in flight per host: questions, manifests, cache look-ups.
    pub parallel_small: usize,
    /// How often failed requests are tried again.
    pub retry: RetryPolicy,
    /// `User-Agent` of all requests.
    pub user_agent: String,
    /// How long the network and helper programs may be silent.
    pub timeouts: Timeouts,
    /// Told of each retry.
    pub on_retry: Option<RetryCallback>,
}

/// How long to wait for others.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Without a byte, in either direction.
    pub idle: Duration,
    /// For the answer to a request whose body has been sent: registries move large blobs then.
    pub answer: Duration,
    /// For a credential helper.
    pub helper: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            answer: Duration::from_secs(120),
            helper: Duration::from_secs(30),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            credentials: CredentialFiles::default(),
            ca_file: None,
            ca_dirs: Vec::new(),
            parallel: 4,
            parallel_small: 32,
            retry: RetryPolicy::default(),
            user_agent: concat!("fanfold/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeouts: Timeouts::default(),
            on_retry: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("insecure", &self.insecure)
            .field("credentials", &self.credentials)
            .field("ca_file", &self.ca_file)
            .field("ca_dirs", &self.ca_dirs)
            .field("parallel", &self.parallel)
            .field("parallel_small", &self.parallel_small)
            .field("retry", &self.retry)
            .field("user_agent", &self.user_agent)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}
