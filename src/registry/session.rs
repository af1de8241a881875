//! One repository at one registry, with all that is shared between its requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::image::Repository;

use super::auth::Authenticator;
use super::config::Config;
use super::credentials::CredentialStore;
use super::endpoint::Endpoint;
use super::error::{Failure, Operation, RegistryError};
use super::flight::Flights;
use super::known::Known;
use super::limiter::Limiter;
use super::records::LookUps;
use super::retry::{Bucket, RetryNotice, RetryPolicy};
use super::transport::Transport;

/// Time for the answer to a look-up.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(5);

/// What all requests of a client share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    look_up: RetryPolicy,
    pub(super) transport: Transport,
    pub(super) store: CredentialStore,
    pub(super) flights: Flights,
    pub(super) known: Known,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

/// What all requests to one registry share.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) endpoint: Endpoint,
    pub(super) auth: Authenticator,
    /// For requests that carry a blob.
    pub(super) limiter: Arc<Limiter>,
    /// For all others.
    pub(super) small: Arc<Limiter>,
    /// For blobs that are read from here to be sent elsewhere.
    pub(super) copies: Arc<Limiter>,
    pub(super) look_ups: LookUps,
    pub(super) bucket: Bucket,
}

/// A repository that requests are made to.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) host: Arc<Host>,
    repository: Repository,
    manner: Manner,
}

/// How requests are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Each waits for a slot, and is tried as often as the settings say.
    Usual,
    /// Not worth much time. Their slot is held by the caller.
    LookUp,
    /// As usual, without a slot of their own.
    Slotless,
}

impl Shared {
    /// Connects to nothing and reads no file.
    pub(super) fn new(config: Config) -> Self {
        Self {
            transport: Transport::new(&config),
            store: CredentialStore::new(config.credentials.clone(), config.timeouts.helper),
            flights: Flights::default(),
            known: Known::default(),
            hosts: Mutex::default(),
            look_up: look_up_policy(&config.retry),
            config,
        }
    }

    /// The session for `repository`.
    pub(super) fn session(self: &Arc<Self>, repository: &Repository) -> Session {
        let host = self.host(repository.registry());
        Session { shared: Arc::clone(self), host, repository: repository.clone(), manner: Manner::Usual }
    }

    /// What requests to the host named `name` (`host[:port]`) share.
    pub(super) fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Host {
                endpoint: Endpoint::new(name),
                auth: Authenticator::new(name),
                limiter: Limiter::new(self.config.parallel),
                small: Limiter::new(self.config.parallel_small),
                copies: Limiter::new(self.config.parallel),
                look_ups: LookUps::default(),
                bucket: Bucket::default(),
            })
        });
        Arc::clone(host)
    }
}

/// What requests are made to, and tried again: a repository at a registry, or a web server.
pub(super) trait Server: std::fmt::Debug {
    /// What all requests share.
    fn shared(&self) -> &Shared;

    /// What all requests to the host share.
    fn host(&self) -> &Host;

    /// Host and port.
    fn name(&self) -> &str;

    /// What stands in errors for the place: the repository or the URL, without secrets.
    fn place(&self) -> String;

    /// How often to try.
    fn retry_policy(&self) -> &RetryPolicy {
        &self.shared().config.retry
    }

    /// The retry budget of the host.
    fn bucket(&self) -> &Bucket {
        &self.host().bucket
    }

    /// Tells of a retry.
    fn notify(&self, notice: &RetryNotice) {
        if let Some(callback) = &self.shared().config.on_retry {
            callback(notice);
        }
    }

    /// The final error of an operation.
    fn error(&self, operation: Operation, failure: Failure) -> RegistryError {
        RegistryError::new(self.name(), self.place(), operation, failure)
    }
}

impl Server for Session {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn host(&self) -> &Host {
        &self.host
    }

    fn name(&self) -> &str {
        self.registry()
    }

    fn place(&self) -> String {
        self.repository.to_string()
    }

    fn retry_policy(&self) -> &RetryPolicy {
        match self.manner {
            Manner::LookUp => &self.shared.look_up,
            Manner::Usual | Manner::Slotless => &self.shared.config.retry,
        }
    }
}

impl Session {
    /// The same session with requests made otherwise.
    pub(super) fn with(&self, manner: Manner) -> Self {
        Self { manner, ..self.clone() }
    }

    /// How requests are made.
    pub(super) fn manner(&self) -> Manner {
        self.manner
    }

    /// Time for the head of an answer to a request without a streamed body.
    pub(super) fn patience(&self) -> Duration {
        let idle = self.shared.transport.timeouts().idle;
        match self.manner {
            Manner::LookUp => idle.min(LOOK_UP_PATIENCE),
            Manner::Usual | Manner::Slotless => idle,
        }
    }

    /// The repository.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Host and port, as in references.
    pub(super) fn registry(&self) -> &str {
        self.repository.registry()
    }
}

/// Two tries and a few seconds: what a look-up finds is worth the time that it saves, not more.
fn look_up_policy(usual: &RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        tries: usual.tries.min(2),
        base: usual.base.min(Duration::from_millis(250)),
        cap: usual.cap.min(Duration::from_secs(1)),
        budget: usual.budget.min(LOOK_UP_PATIENCE),
    }
}
