//! Caches against a scripted registry and real directories.

mod layout;
mod registry;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::{CacheTo, Entry, Found};
use crate::image::media_type::OCI_LAYER_GZIP;
use crate::image::{Descriptor, DiffId, Digest};
use crate::progress::{Event, Progress};
use crate::registry::{Client, Config, RetryPolicy, Timeouts};
use crate::store::{BlobRecord, Grounds, LayerId, StepRecord, Store};

/// The bytes of the layer of [`entry`].
pub(super) fn layer(name: &str) -> Vec<u8> {
    format!("the layer of {name}").into_bytes()
}

/// A result, the same for the same name.
pub(super) fn entry(name: &str) -> Entry {
    let digest = |of: &str| Digest::of(format!("{of} of {name}").as_bytes());
    let diff_id = DiffId(digest("tar"));
    Entry {
        keys: vec![digest("chain"), digest("content")],
        record: StepRecord {
            layer: LayerId::of(&diff_id),
            grounds: Grounds { below: digest("below"), inputs: vec![digest("input")] },
            content: digest("content"),
            created: 1_700_000_000,
            notes: vec!["no file matches \"x*\"".to_owned()],
            platform: "linux/arm64".to_owned(),
            text: format!("RUN {name}"),
        },
        blob: BlobRecord { diff_id, descriptor: Descriptor::of(OCI_LAYER_GZIP, &layer(name)) },
        origin: None,
    }
}

/// What is written of [`entry`].
pub(super) fn statement(name: &str) -> Value {
    json!(super::statement::Statement::of(&entry(name)).unwrap())
}

/// A machine: a store, a client, and what people were told.
struct Machine {
    _dir: tempfile::TempDir,
    store: Store,
    client: Client,
    progress: Progress,
    told: Arc<Mutex<Vec<String>>>,
}

impl Machine {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let milliseconds = Duration::from_millis;
        let config = Config {
            retry: RetryPolicy { base: milliseconds(4), cap: milliseconds(40), ..RetryPolicy::default() },
            timeouts: Timeouts {
                connect: milliseconds(500),
                idle: milliseconds(300),
                answer: milliseconds(600),
                helper: Duration::from_secs(5),
            },
            ..Config::default()
        };
        let told = Arc::new(Mutex::new(Vec::new()));
        let telling = Arc::clone(&told);
        let progress = Progress::observe(move |event| match event {
            Event::Note { text } => telling.lock().unwrap().push(format!("note: {text}")),
            Event::Warning(warning) => telling.lock().unwrap().push(format!("warning: {}", warning.text)),
            _ => {}
        });
        Self { _dir: dir, store, client: Client::new(config).unwrap(), progress, told }
    }

    /// With the layers of these results in its store.
    fn with(names: &[&str]) -> Self {
        let machine = Self::new();
        for name in names {
            machine.store.put_blob(&layer(name)).unwrap();
        }
        machine
    }

    async fn export(&self, to: &str, entries: &[Entry]) -> Result<super::Exported, super::CacheError> {
        let to = CacheTo::parse(to).unwrap();
        super::export(&to, entries, &[], &self.store, &self.client, &self.progress).await
    }

    fn imports(&self, from: &[&str]) -> super::Imports {
        let caches = from.iter().map(|text| super::CacheFrom::parse(text).unwrap()).collect();
        super::Imports::new(caches, self.client.clone(), self.progress.clone())
    }

    /// What was said so far; nothing is said afterwards.
    fn told(&self) -> Vec<String> {
        self.progress.finish();
        self.told.lock().unwrap().clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.told().into_iter().filter(|text| text.starts_with("warning: ")).collect()
    }
}

/// All keys of these results.
fn keys(names: &[&str]) -> Vec<Digest> {
    names.iter().flat_map(|name| entry(name).keys).collect()
}

/// Whether the only result is that of `name`.
fn is_of(found: &[Found], name: &str) -> bool {
    let entry = entry(name);
    matches!(found, [one] if one.record == entry.record && one.blob == entry.blob)
}
