//! Looking up results in the caches of `--cache-from`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use tokio::sync::OnceCell;

use super::from_layout::{self, Opened};
use super::statement::{Damage, Decoded};
use super::{CacheError, CacheFrom, from_registry};
use crate::image::{Digest, Origin};
use crate::progress::{Event, Progress, Warning};
use crate::registry::Client;
use crate::store::{BlobRecord, LayerId, StepRecord};

/// A result that a cache has. Whether it fits is for the caller to find out.
#[derive(Debug, Clone)]
pub struct Found {
    /// What was made, and on which grounds.
    pub record: StepRecord,
    /// The layer's blob.
    pub blob: BlobRecord,
    /// Who has the blob.
    pub origin: Origin,
}

/// Results by key.
pub(super) type Records = HashMap<Digest, Vec<Found>>;

/// The caches of a build.
#[derive(Debug)]
pub struct Imports {
    sources: Vec<Source>,
    /// Layers that could not be had where a cache said they were.
    distrusted: Mutex<HashSet<LayerId>>,
    client: Client,
    progress: Progress,
}

/// One cache, with what is known of it so far.
#[derive(Debug)]
pub(super) struct Source {
    from: CacheFrom,
    /// How often it was asked makes no difference to people: they are told of the first time.
    counted: AtomicBool,
    warned: AtomicBool,
    given_up: AtomicBool,
    progress: Progress,
    /// The inline records of the image that a registry's reference names.
    images: OnceCell<Records>,
    layout: OnceCell<Option<Arc<Opened>>>,
}

impl Imports {
    /// Nothing is asked before the first look-up.
    pub fn new(caches: Vec<CacheFrom>, client: Client, progress: Progress) -> Self {
        let source = |from| Source {
            from,
            counted: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            progress: progress.clone(),
            images: OnceCell::new(),
            layout: OnceCell::new(),
        };
        let sources = caches.into_iter().map(source).collect();
        Self { sources, distrusted: Mutex::default(), client, progress }
    }

    /// Whether there is no cache to ask.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Results with these layers are not found any more: their bytes cannot be had, or are others. False where
    /// there is nothing new in that.
    pub fn distrust(&self, layers: &[LayerId], reason: &dyn std::fmt::Display) -> bool {
        let mut distrusted = self.distrusted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = distrusted.len();
        distrusted.extend(layers);
        if distrusted.len() == before {
            return false;
        }
        self.progress.send(Event::Warning(Warning {
            hint: Some(
                "the build goes on without it; the next --cache-to brings a lost layer again".to_owned(),
            ),
            ..Warning::new(format!("a result of a cache is not used: {reason}"))
        }));
        true
    }

    /// Asks all caches for all keys at once; of several results for a key, those of the cache that was named
    /// first come first.
    ///
    /// This never fails. What cannot be read is a miss with a warning, once for each cache; a cache that
    /// cannot be reached is not asked again.
    pub async fn look_up(&self, keys: &[Digest]) -> HashMap<Digest, Vec<Found>> {
        let distinct: BTreeSet<Digest> = keys.iter().copied().collect();
        if distinct.is_empty() {
            return HashMap::new();
        }
        let answers =
            join_all(self.sources.iter().map(|source| source.look_up(&self.client, &distinct))).await;
        let mut all = HashMap::new();
        for (source, answer) in self.sources.iter().zip(answers) {
            if !source.given_up.load(Ordering::Relaxed) && !source.counted.swap(true, Ordering::Relaxed) {
                let (found, of) = (answer.len(), distinct.len());
                let text = format!("found {found} of {of} results in the cache {}", source.from);
                self.progress.send(Event::Note { text });
            }
            let distrusted = self.distrusted.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, found) in answer {
                let trusted = found.into_iter().filter(|found| !distrusted.contains(&found.record.layer));
                all.entry(key).or_insert_with(Vec::new).extend(trusted);
            }
        }
        all
    }
}

impl Source {
    async fn look_up(&self, client: &Client, keys: &BTreeSet<Digest>) -> Records {
        if self.given_up.load(Ordering::Relaxed) {
            return Records::new();
        }
        match &self.from {
            CacheFrom::Registry(reference) => {
                let images = self.images.get_or_init(|| from_registry::images(self, client, reference));
                let records = from_registry::records(self, client, reference, keys);
                let (images, mut records) = futures::join!(images, records);
                for key in keys {
                    if let Some(found) = images.get(key) {
                        records.entry(*key).or_default().extend(found.iter().cloned());
                    }
                }
                records
            }
            CacheFrom::Local { directory, image } => {
                let open = || from_layout::open(self, directory.clone(), image.clone());
                match self.layout.get_or_init(open).await {
                    Some(opened) => from_layout::records(self, Arc::clone(opened), keys.clone()).await,
                    None => Records::new(),
                }
            }
        }
    }

    /// Says once that something in the cache is not used.
    pub(super) fn warn(&self, what: &str, reason: &dyn std::fmt::Display) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            self.progress.send(Event::Warning(Warning {
                hint: Some("the build goes on without it; the next --cache-to writes it anew".to_owned()),
                ..Warning::new(format!("{what} in the cache {} is not used: {reason}", self.from))
            }));
        }
    }

    /// As [`Source::warn`], for the record of a key.
    pub(super) fn warn_of_record(&self, key: &Digest, reason: &dyn std::fmt::Display) {
        self.warn(&format!("the record {}", &key.hex()[..12]), reason);
    }

    /// Says something that is no mistake.
    pub(super) fn note(&self, text: String) {
        self.progress.send(Event::Note { text });
    }

    /// Asks this cache no more, and says so.
    pub(super) fn give_up(&self, error: &CacheError) {
        if !self.given_up.swap(true, Ordering::Relaxed) {
            self.progress.send(Event::Warning(Warning {
                hint: error.hint(),
                ..Warning::new(format!("the cache {} is not used: {error}", self.from))
            }));
        }
    }

    /// The inline records of an image, by their keys.
    pub(super) fn add_inline(
        &self,
        records: &mut Records,
        inline: (Vec<Decoded>, Option<Damage>),
        origin: &Origin,
    ) {
        let (good, damage) = inline;
        if let Some(damage) = damage {
            self.warn("a record of an image", &damage);
        }
        for decoded in good {
            for key in decoded.statement.keys.clone() {
                let found = found(decoded.clone(), origin.clone());
                // The images of several platforms tell of the same shared layers.
                let known = records.entry(key).or_default();
                if !known.iter().any(|other| other.record == found.record && other.blob == found.blob) {
                    known.push(found);
                }
            }
        }
    }
}

/// A decoded record from `origin`.
pub(super) fn found(decoded: Decoded, origin: Origin) -> Found {
    Found { record: decoded.statement.record, blob: decoded.blob, origin }
}
