//! Reading files out of a stack of layers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::{Engine, EngineError, State};
use crate::layer::{Content, LayerError, LayerPath, extract};
use crate::store::{LayerId, ScratchDir};

/// Contents of files of a stack: taken from unpacked layers where there are any, else copied out of
/// blobs into scratch space, which lives as long as this value.
#[derive(Debug)]
pub struct Contents {
    found: HashMap<(usize, LayerPath), Content>,
    _spool: Option<ScratchDir>,
}

impl Contents {
    /// The content of the file at `path` of the layer with this position.
    ///
    /// # Errors
    ///
    /// Fails for a file that was not asked for.
    pub fn get(&self, layer: usize, path: &LayerPath) -> Result<Content, EngineError> {
        self.found
            .get(&(layer, path.clone()))
            .cloned()
            .ok_or_else(|| EngineError::Layer(LayerError::Missing { path: path.to_string() }))
    }
}

impl Engine {
    /// Makes these files of a stack readable: pairs of a layer's position and a path in it.
    ///
    /// # Errors
    ///
    /// Fails where a layer has no content that can be read here, and where a blob that files are taken out
    /// of is not that of its layer.
    pub fn contents(
        &self,
        state: &State,
        wanted: impl IntoIterator<Item = (usize, LayerPath)>,
    ) -> Result<Contents, EngineError> {
        let mut by_layer: BTreeMap<usize, BTreeSet<LayerPath>> = BTreeMap::new();
        for (layer, path) in wanted {
            by_layer.entry(layer).or_default().insert(path);
        }
        let mut found = HashMap::new();
        let mut spool: Option<ScratchDir> = None;
        for (position, paths) in by_layer {
            let layer = &state.layers[position];
            let directory =
                self.store().layer_directory(&layer.id, self.ownership()).filter(|_| self.is_inside());
            if let Some(directory) = directory {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let root: OwnedFd = rustix::fs::open(&directory, flags, Mode::empty())
                    .map_err(|errno| EngineError::io("open a layer's directory")(errno.into()))?;
                let root = Arc::new(root);
                for path in paths {
                    let content =
                        Content::Beneath { root: Arc::clone(&root), path: path.as_os_path().to_owned() };
                    found.insert((position, path), content);
                }
                continue;
            }
            let record = self.existing_blob(layer)?;
            let (blob, encoding) = self.open_blob(&record)?;
            let scratch = match &spool {
                Some(scratch) => scratch,
                None => spool.insert(self.store().scratch_dir()?),
            };
            let path = scratch.path().join(position.to_string());
            let mut file = File::create(&path).map_err(EngineError::io("create a spool file"))?;
            let (taken, diff_id) =
                extract(blob, encoding, &paths, &mut file).map_err(|error| match error {
                    // Not the blob's fault.
                    LayerError::Io { .. } => error.into(),
                    error => EngineError::damaged(layer, error),
                })?;
            // Files of another layer must not become part of this one's results.
            if LayerId::of(&diff_id) != layer.id {
                return Err(EngineError::damaged(layer, format!("its blob holds {diff_id}")));
            }
            for (wanted, (offset, length)) in taken {
                found.insert((position, wanted), Content::Range { file: path.clone(), offset, length });
            }
        }
        Ok(Contents { found, _spool: spool })
    }
}
