//! Look-ups of cache records: many, small, and never worth a long wait.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::ACCEPT;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use crate::image::RawManifest;
use crate::image::media_type::ACCEPT_MANIFESTS;

use super::error::{ErrorKind, Failure, Operation, RegistryError};
use super::manifests::{self, Expected};
use super::redact::escape;
use super::retry::Retries;
use super::session::{Manner, Server as _, Session};

/// Time for one look-up, with all that it has to ask before.
const LONGEST: Duration = Duration::from_secs(10);
/// For so long a registry is not asked again where asking made no sense.
const REST: Duration = Duration::from_secs(30);

/// What the look-ups at one registry know of each other.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    /// The first goes alone: it finds out what the registry demands, and opens the connection that all
    /// others share where the registry speaks HTTP/2.
    first: OnceCell<()>,
    trouble: Mutex<Vec<Trouble>>,
}

#[derive(Debug)]
struct Trouble {
    /// A repository's path; `None` for all of them.
    path: Option<String>,
    until: Instant,
    error: RegistryError,
}

impl LookUps {
    /// Why a look-up in the repository at `path` makes no sense now.
    fn trouble(&self, path: &str) -> Option<RegistryError> {
        let mut all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|trouble| trouble.until > Instant::now());
        let fits = |trouble: &&Trouble| trouble.path.as_deref().is_none_or(|known| known == path);
        all.iter().find(fits).map(|trouble| trouble.error.clone())
    }

    fn note(&self, path: Option<&str>, error: &RegistryError) {
        let mut all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let (path, until) = (path.map(str::to_owned), Instant::now() + REST);
        all.push(Trouble { path, until, error: error.clone() });
    }
}

/// Fetches the manifest under `tag`, of at most `limit` bytes.
pub(super) async fn find(
    session: &Session,
    tag: &str,
    limit: u64,
) -> Result<Option<RawManifest>, RegistryError> {
    let look_ups = &session.host.look_ups;
    let mut first = None;
    look_ups
        .first
        .get_or_init(|| async {
            first = Some(look_up(session, tag, limit).await);
        })
        .await;
    match first {
        Some(found) => found,
        None => look_up(session, tag, limit).await,
    }
}

async fn look_up(session: &Session, tag: &str, limit: u64) -> Result<Option<RawManifest>, RegistryError> {
    let session = session.with(Manner::LookUp);
    let operation = Operation::Pull(format!("cache record `{}`", escape(tag)));
    manifests::check_tag(tag).map_err(|failure| session.error(operation.clone(), failure))?;
    let (look_ups, path) = (&session.host.look_ups, session.repository().path());
    // Before the clock runs: waiting for other look-ups is no sign of trouble.
    let _slot = session.host.small.acquire().await;
    if let Some(error) = look_ups.trouble(path) {
        return Err(error);
    }
    let begun = Instant::now();
    let longest = LONGEST.min(session.patience() * 2);
    let found = timeout(longest, fetch(&session, &operation, tag, limit)).await;
    let late = || Failure::network(format!("no answer within {} s", longest.as_secs_f32()));
    let found = found.unwrap_or_else(|_| Err(session.error(operation, late())));
    if let Err(error) = &found {
        let slow = begun.elapsed() >= session.patience();
        match error.kind() {
            ErrorKind::Authentication => look_ups.note(Some(path), error),
            ErrorKind::Retryable if slow || error.status() == Some(429) => look_ups.note(None, error),
            _ => {}
        }
    }
    found
}

async fn fetch(
    session: &Session,
    operation: &Operation,
    tag: &str,
    limit: u64,
) -> Result<Option<RawManifest>, RegistryError> {
    let mut tries = Retries::new(session, operation.clone());
    let expected = Expected { digest: None, size: None, limit };
    let mut wrong = false;
    loop {
        let call = manifests::call(session, Method::GET, tag, "pull").header(ACCEPT, ACCEPT_MANIFESTS);
        match manifests::fetch_once(&tries, call, expected, &mut wrong).await {
            Ok(manifest) => return Ok(Some(manifest)),
            Err(failure) if failure.status() == Some(404) => return Ok(None),
            Err(failure) => tries.after(failure).await?,
        }
    }
}
