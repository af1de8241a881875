//! One repository at one registry, with all that is shared between its requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::image::Repository;

use super::auth::Authenticator;
use super::config::Config;
use super::credentials::CredentialStore;
use super::endpoint::Endpoint;
use super::error::{Failure, Operation, RegistryError};
use super::flight::Flights;
use super::known::Known;
use super::limiter::Limiter;
use super::retry::{Bucket, RetryNotice, RetryPolicy};
use super::transport::Transport;

/// What all requests of a client share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
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
    pub(super) limiter: Arc<Limiter>,
    pub(super) bucket: Bucket,
}

/// A repository that requests are made to.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) host: Arc<Host>,
    repository: Repository,
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
            config,
        }
    }

    /// The session for `repository`.
    pub(super) fn session(self: &Arc<Self>, repository: &Repository) -> Session {
        let registry = repository.registry();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry(registry.to_owned()).or_insert_with(|| {
            Arc::new(Host {
                endpoint: Endpoint::new(registry),
                auth: Authenticator::new(registry),
                limiter: Limiter::new(self.config.parallel),
                bucket: Bucket::default(),
            })
        });
        Session { shared: Arc::clone(self), host: Arc::clone(host), repository: repository.clone() }
    }
}

impl Session {
    /// The repository.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Host and port, as in references.
    pub(super) fn registry(&self) -> &str {
        self.repository.registry()
    }

    /// How often to try.
    pub(super) fn retry_policy(&self) -> &RetryPolicy {
        &self.shared.config.retry
    }

    /// The retry budget of the host.
    pub(super) fn bucket(&self) -> &Bucket {
        &self.host.bucket
    }

    /// Tells of a retry.
    pub(super) fn notify(&self, notice: &RetryNotice) {
        if let Some(callback) = &self.shared.config.on_retry {
            callback(notice);
        }
    }

    /// The final error of an operation.
    pub(super) fn error(&self, operation: Operation, failure: Failure) -> RegistryError {
        RegistryError::new(self.registry(), self.repository.to_string(), operation, failure)
    }
}
