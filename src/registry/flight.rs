//! One upload at a time per blob and repository, shared by all who want it there.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use crate::image::{Descriptor, Digest, Repository};

use super::client::Pushed;
use super::error::RegistryError;

/// Failures that are shared with those who waited, rather than tried again: the leader's and one
/// follower's.
const SHARED_FAILURES: u32 = 2;

type Key = (Repository, Digest);

/// All uploads of this process.
#[derive(Debug, Default)]
pub(super) struct Flights {
    known: Mutex<HashMap<Key, Arc<AsyncMutex<Flight>>>>,
}

/// The upload of one blob to one repository.
#[derive(Debug, Default)]
struct Flight {
    done: bool,
    failures: u32,
    error: Option<RegistryError>,
    source: Option<(Descriptor, Source)>,
}

/// What a blob was uploaded from, and can be again.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A file.
    File(PathBuf),
    /// Another repository.
    Repository(Repository),
}

impl Flights {
    fn flight(&self, repository: &Repository, digest: Digest) -> Arc<AsyncMutex<Flight>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry((repository.clone(), digest)).or_default())
    }

    /// Runs `upload` unless another task has done so, or is at it; then waits for that.
    pub(super) async fn share(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        source: Source,
        upload: impl Future<Output = Result<Pushed, RegistryError>>,
    ) -> Result<Pushed, RegistryError> {
        let flight = self.flight(repository, descriptor.digest);
        let mut flight = match flight.try_lock() {
            Ok(mut free) => {
                free.failures = 0;
                free
            }
            Err(_) => flight.lock().await,
        };
        if flight.done {
            return Ok(Pushed::AlreadyThere);
        }
        if let Some(error) = flight.error.clone().filter(|_| flight.failures >= SHARED_FAILURES) {
            return Err(error);
        }
        let result = upload.await;
        match &result {
            Ok(_) => {
                flight.done = true;
                flight.source = Some((descriptor.clone(), source));
            }
            Err(error) => {
                flight.failures += 1;
                flight.error = Some(error.clone());
            }
        }
        result
    }

    /// Forgets that the blob is there; returns what it was uploaded from.
    pub(super) async fn forget(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> Option<(Descriptor, Source)> {
        let flight = self.flight(repository, digest);
        let mut flight = flight.lock().await;
        flight.done = false;
        flight.source.take()
    }
}
