//! The engine: what all steps of a build share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fanfold_platforms::Platform;

use super::EngineError;
use super::cancel::Cancel;
use super::output::Masking;
use super::storage::Storage;
use super::working_root::WorkingRoot;
use crate::image::{Compression, Digest, Ownership};
use crate::layer::{LayerIndex, Pool};
use crate::sandbox::{Interpreter, Isolation, Sandbox};
use crate::secrets::Secrets;
use crate::store::{LayerId, Lock, ScratchDir, Store};

/// How steps are carried out.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespaces for commands; `None` where the build has no RUN.
    pub sandbox: Option<Arc<Sandbox>>,
    /// Threads that compress.
    pub workers: usize,
    /// How the layers of this build's steps are compressed.
    pub compression: Compression,
    /// Whether the layers of bases are written again where their encoding is another.
    pub force_compression: bool,
    /// Seconds since 1970 that no new file may be younger than.
    pub epoch: Option<i64>,
    /// Seconds since 1970: the time of what steps create.
    pub now: i64,
    /// Values of QEMU_CPU for emulated platforms that need one.
    pub cpu_models: Vec<(Platform, String)>,
    /// Interpreters of emulated platforms that the kernel has no handler for.
    pub interpreters: Vec<(Platform, Interpreter)>,
    /// How long a command may take.
    pub step_timeout: Option<Duration>,
    /// The host's resolver configuration.
    pub resolv_conf: PathBuf,
    /// The host's hosts file.
    pub hosts: PathBuf,
    /// What commands may mount as secrets; hidden in the output of all commands.
    pub secrets: Secrets,
    /// Sockets of the ssh agents that commands may use, by id.
    pub ssh: BTreeMap<String, PathBuf>,
}

/// Carries out steps.
#[derive(Debug)]
pub struct Engine {
    store: Arc<Store>,
    pub(super) settings: Settings,
    pub(super) pool: Pool,
    pub(super) cancel: Cancel,
    pub(super) masking: Masking,
    pub(super) indexes: Mutex<HashMap<LayerId, Arc<LayerIndex>>>,
    pub(super) mounts: Mutex<Option<ScratchDir>>,
    pub(super) storage: OnceLock<Storage>,
    /// Whole trees that no command uses at present.
    pub(super) roots: Mutex<Vec<WorkingRoot>>,
    /// Layers whose owners were compared with the ids that this build has.
    pub(super) looked_at: Mutex<HashSet<LayerId>>,
    /// Blobs of layers from elsewhere that were seen to hold their layers.
    pub(super) checked: Mutex<HashSet<(LayerId, Digest)>>,
}

/// The forms in which a step's layer will be needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// As a directory: a command runs on top of it.
    pub directory: bool,
    /// As a blob: it is part of an image.
    pub blob: bool,
}

impl Engine {
    /// An engine on a store.
    ///
    /// # Errors
    ///
    /// Fails where the threads that compress cannot be started.
    pub fn new(store: Arc<Store>, settings: Settings, cancel: Cancel) -> Result<Self, EngineError> {
        Ok(Self {
            pool: Pool::new(settings.workers).map_err(EngineError::io("start threads"))?,
            masking: Masking::new(&settings.secrets),
            store,
            settings,
            cancel,
            indexes: Mutex::default(),
            mounts: Mutex::default(),
            storage: OnceLock::new(),
            roots: Mutex::default(),
            looked_at: Mutex::default(),
            checked: Mutex::default(),
        })
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Waits until nobody else makes the thing named `digest`, or the build is asked to stop.
    ///
    /// # Errors
    ///
    /// Fails where the lock cannot be used, and with [`EngineError::Cancelled`].
    pub fn lock(&self, digest: &Digest) -> Result<Lock, EngineError> {
        let lock = self.store().lock_until(digest, &|| self.cancel.is_cancelled())?;
        lock.ok_or(EngineError::Cancelled)
    }

    /// Whether commands can be run.
    pub fn can_run(&self) -> bool {
        self.settings.sandbox.is_some()
    }

    /// How directories of layers hold owners in this build.
    pub fn ownership(&self) -> Ownership {
        let isolation = self.settings.sandbox.as_ref().map(|sandbox| sandbox.isolation());
        isolation.map_or(Ownership::Kernel, Isolation::ownership)
    }

    /// Whether this process can read the directories of layers, whoever the files in them belong to.
    pub(super) fn is_inside(&self) -> bool {
        self.settings.sandbox.is_some()
    }

    /// The time that a step's new files get.
    pub(super) fn file_time(&self) -> i64 {
        self.settings.epoch.map_or(self.settings.now, |epoch| epoch.min(self.settings.now))
    }

    /// When this build's steps are carried out, in seconds since 1970.
    pub fn now(&self) -> i64 {
        self.settings.now
    }

    /// The bound on file times, where there is one.
    pub fn epoch(&self) -> Option<i64> {
        self.settings.epoch
    }

    /// The date of what this build makes: the epoch, or now.
    pub fn time(&self) -> i64 {
        self.settings.epoch.unwrap_or(self.settings.now)
    }

    /// Whether the layer of an earlier build can be used as it is: it has a form that this build can read.
    pub fn can_use(&self, layer: &LayerId) -> bool {
        let store = self.store();
        store.layer_index(layer).is_some()
            && (store.any_layer_blob(layer).is_some()
                || (self.is_inside() && store.layer_directory(layer, self.ownership()).is_some()))
    }
}
