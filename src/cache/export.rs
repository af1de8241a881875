//! Writing results into the cache of a `--cache-to`.

use super::statement::Statement;
use super::{CacheError, CacheTarget, CacheTo, to_layout, to_registry};
use crate::image::{Digest, Origin, Repository};
use crate::progress::{Event, Progress, Warning};
use crate::registry::Client;
use crate::store::{BlobRecord, StepRecord, Store};

/// A result that is to be written.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is found by: its chain key and its content key.
    pub keys: Vec<Digest>,
    /// What was made, and on which grounds.
    pub record: StepRecord,
    /// The layer's blob.
    pub blob: BlobRecord,
    /// Who has the blob where the store has not.
    pub origin: Option<Origin>,
}

/// What an export did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Results that were written; each stands under all its keys.
    pub written: usize,
    /// Results that the cache had.
    pub known: usize,
    /// Layers whose bytes were sent or copied.
    pub sent: usize,
    /// Layers that the registry took from another of its repositories.
    pub mounted: usize,
    /// Layers that the cache had.
    pub present: usize,
    /// Results that the cache had, but whose layers it has lost and nobody else has.
    pub lost: usize,
}

/// How a layer came into a cache.
#[derive(Debug, Clone, Copy)]
pub(super) enum Brought {
    Sent,
    Mounted,
    Present,
}

impl Exported {
    pub(super) fn count(&mut self, brought: Brought) {
        match brought {
            Brought::Sent => self.sent += 1,
            Brought::Mounted => self.mounted += 1,
            Brought::Present => self.present += 1,
        }
    }

    /// One line for people.
    fn text(&self, cache: &CacheTo) -> String {
        let mut layers = Vec::new();
        for (count, how) in [(self.sent, "sent"), (self.mounted, "mounted"), (self.present, "there already")]
        {
            if count > 0 {
                layers.push(format!("{count} {how}"));
            }
        }
        let layers = match layers.as_slice() {
            [] => String::new(),
            layers => format!("; layers: {}", layers.join(", ")),
        };
        let known = match self.known {
            0 => String::new(),
            known => format!(", {known} were there already"),
        };
        format!("wrote {} results into the cache {cache}{known}{layers}", self.written)
    }
}

/// Writes results into a cache; what it has already is left as it is. `mount_from` names repositories that
/// may have the layers, as those that the images were pushed to.
///
/// A record is no proof of its layer: one that the cache has lost is brought again. A folder's layers are read
/// for that, and a damaged one is replaced; a registry is asked whether it has them, and nobody can make it
/// take the content of a digest that it holds already.
///
/// Others may write at the same time. An export that is interrupted leaves whole records. The inline target
/// is written with the image ([`super::inline::encode`]): nothing is left to do here.
///
/// # Errors
///
/// Fails where the cache cannot be written, unless such errors are to be ignored: then a warning is said.
pub async fn export(
    to: &CacheTo,
    entries: &[Entry],
    mount_from: &[Repository],
    store: &Store,
    client: &Client,
    progress: &Progress,
) -> Result<Exported, CacheError> {
    let mut exported = Exported::default();
    let result = match &to.target {
        CacheTarget::Inline => return Ok(exported),
        CacheTarget::Registry(reference) => {
            let target = to_registry::Target { reference, mount_from, patient: !to.ignore_error };
            to_registry::write(&target, entries, store, client, progress, &mut exported).await
        }
        CacheTarget::Local(directory) => {
            to_layout::write(directory, entries, store, client, progress, &mut exported).await
        }
    };
    if exported.lost > 0 {
        progress.send(Event::Warning(Warning {
            hint: Some("build once without --cache-from: their steps are carried out anew".to_owned()),
            ..Warning::new(format!(
                "{} results in the cache {to} have lost their layers, which are nowhere else",
                exported.lost
            ))
        }));
    }
    match result {
        Ok(()) => progress.send(Event::Note { text: exported.text(to) }),
        Err(error) if to.ignore_error => progress.send(Event::Warning(Warning {
            hint: error.hint(),
            ..Warning::new(format!(
                "the cache {to} was not written as a whole: {error} ({} of {} results are there)",
                exported.written + exported.known,
                entries.len()
            ))
        })),
        Err(error) => return Err(error),
    }
    Ok(exported)
}

/// The keys that an entry is written under.
pub(super) fn keys_of(entry: &Entry) -> Result<Vec<Digest>, CacheError> {
    Ok(Statement::of(entry)?.keys)
}
