//! The forms of a layer: index, directory, blob. Each is made when somebody needs it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use super::{Engine, EngineError, Layer, Needs, State};
use crate::image::media_type::{LayerEncoding, layer_encoding, oci_layer};
use crate::image::{Descriptor, DiffId};
use crate::layer::{
    Change, Content, EntryKind, LayerIndex, Limits, Seal, Tree, diff_id, seal, unpack, write_directory,
};
use crate::store::{BlobRecord, LayerId};

impl Engine {
    /// The merged view of a stack.
    ///
    /// # Errors
    ///
    /// Fails where a layer's blob is damaged, or is not the layer that it is said to be.
    pub fn tree(&self, state: &State) -> Result<Tree, EngineError> {
        let indexes = state.layers.iter().map(|layer| self.index(layer)).collect::<Result<Vec<_>, _>>()?;
        Ok(Tree::new(indexes))
    }

    /// A layer's index.
    pub(super) fn index(&self, layer: &Layer) -> Result<Arc<LayerIndex>, EngineError> {
        if let Some(known) = self.remembered(&layer.id) {
            return Ok(known);
        }
        if let Some(index) = self.stored_index(&layer.id) {
            return Ok(self.remember(&layer.id, index));
        }
        let _lock = self.store().lock(layer.id.digest())?;
        match self.stored_index(&layer.id) {
            Some(index) => Ok(self.remember(&layer.id, index)),
            None => self.unpack_blob(layer, None),
        }
    }

    /// Makes a layer's index, where it is not there yet.
    ///
    /// # Errors
    ///
    /// As [`Engine::tree`].
    pub fn prepare_index(&self, layer: &Layer) -> Result<(), EngineError> {
        self.index(layer).map(drop)
    }

    /// An index in the store; a damaged one is made again.
    fn stored_index(&self, layer: &LayerId) -> Option<LayerIndex> {
        LayerIndex::decode(&self.store().layer_index(layer)?).ok()
    }

    fn remembered(&self, layer: &LayerId) -> Option<Arc<LayerIndex>> {
        self.indexes.lock().ok()?.get(layer).cloned()
    }

    pub(super) fn remember(&self, layer: &LayerId, index: LayerIndex) -> Arc<LayerIndex> {
        let index = Arc::new(index);
        if let Ok(mut indexes) = self.indexes.lock() {
            indexes.insert(*layer, Arc::clone(&index));
        }
        index
    }

    /// A layer as a lower directory for an overlay.
    ///
    /// # Errors
    ///
    /// As [`Engine::tree`]; also where files cannot be created.
    pub fn directory(&self, layer: &Layer) -> Result<PathBuf, EngineError> {
        if let Some(path) = self.store().layer_directory(&layer.id, self.ownership()) {
            return Ok(path);
        }
        let _lock = self.store().lock(layer.id.digest())?;
        if let Some(path) = self.store().layer_directory(&layer.id, self.ownership()) {
            return Ok(path);
        }
        let scratch = self.store().scratch_dir()?;
        let tree = scratch.path().join("fs");
        fs::create_dir(&tree).map_err(EngineError::io("create a layer's directory"))?;
        self.unpack_blob(layer, Some(&tree))?;
        Ok(self.store().adopt_layer_directory(&layer.id, self.ownership(), &tree)?)
    }

    /// The blob that a layer is unpacked from.
    fn blob_record(&self, layer: &Layer) -> Result<BlobRecord, EngineError> {
        let elsewhere = layer.elsewhere.as_ref().map(|elsewhere| elsewhere.blob.clone());
        elsewhere.or_else(|| self.store().layer_blob(&layer.id)).ok_or(EngineError::NoContent)
    }

    /// A layer's blob, open, with its encoding.
    pub(super) fn open_blob(&self, record: &BlobRecord) -> Result<(File, LayerEncoding), EngineError> {
        let media_type = &record.descriptor.media_type;
        let encoding =
            layer_encoding(media_type).ok_or_else(|| EngineError::UnknownLayerType(media_type.clone()))?;
        let path = self.store().blob_path(&record.descriptor.digest);
        let file = File::open(path).map_err(EngineError::io("open a layer's blob"))?;
        Ok((file, encoding))
    }

    /// The blob form of a layer that is already in the store.
    pub(super) fn existing_blob(&self, layer: &Layer) -> Result<BlobRecord, EngineError> {
        self.blob_record(layer)
    }

    /// Reads a blob to its end: index, diff id, and the directory where one is wanted.
    fn unpack_blob(
        &self,
        layer: &Layer,
        into: Option<&std::path::Path>,
    ) -> Result<Arc<LayerIndex>, EngineError> {
        let record = self.blob_record(layer)?;
        let (file, encoding) = self.open_blob(&record)?;
        let into = into.map(|into| (into, self.ownership()));
        let unpacked = unpack(file, encoding, into, &Limits::default()).map_err(EngineError::BadLayer)?;
        if unpacked.diff_id != record.diff_id {
            self.store().drop_blob(&record.descriptor.digest);
            return Err(EngineError::WrongDiffId { expected: record.diff_id, found: unpacked.diff_id });
        }
        self.store().put_layer_index(&layer.id, &unpacked.index.encode())?;
        Ok(self.remember(&layer.id, unpacked.index))
    }

    /// A layer as a blob.
    ///
    /// # Errors
    ///
    /// Fails where the layer's files cannot be read or the blob cannot be written.
    pub fn blob(&self, layer: &Layer) -> Result<BlobRecord, EngineError> {
        if let Some(elsewhere) = &layer.elsewhere {
            return Ok(elsewhere.blob.clone());
        }
        if let Some(record) = self.store().layer_blob(&layer.id) {
            return Ok(record);
        }
        let _lock = self.store().lock(layer.id.digest())?;
        if let Some(record) = self.store().layer_blob(&layer.id) {
            return Ok(record);
        }
        let directory =
            self.store().layer_directory(&layer.id, self.ownership()).ok_or(EngineError::NoContent)?;
        let index = match self.remembered(&layer.id) {
            Some(index) => index,
            None => Arc::new(self.stored_index(&layer.id).ok_or(EngineError::NoContent)?),
        };
        let changes: Vec<Change> = index
            .entries()
            .map(|entry| {
                let content = match entry.kind {
                    EntryKind::File { .. } => Content::File(directory.join(entry.path.as_os_path())),
                    _ => Content::Empty,
                };
                Change { entry, content }
            })
            .collect();
        let record = self.seal(&changes)?;
        if LayerId::of(&record.diff_id) != layer.id {
            return Err(EngineError::WrongDiffId {
                expected: DiffId(*layer.id.digest()),
                found: record.diff_id,
            });
        }
        self.store().put_layer_blob(&layer.id, &record)?;
        Ok(record)
    }

    /// Writes changes as a blob and remembers it.
    fn seal(&self, changes: &[Change]) -> Result<BlobRecord, EngineError> {
        let file = self.store().scratch_file();
        let encoding = LayerEncoding::Gzip;
        let options = Seal { clamp: self.settings.epoch, encoding, pool: &self.pool };
        let sealed = seal(changes, &options, file.path())?;
        self.store().adopt_blob(file.path(), &sealed.digest)?;
        let descriptor = Descriptor::new(oci_layer(encoding), sealed.digest, sealed.size);
        Ok(BlobRecord { diff_id: sealed.diff_id, descriptor })
    }

    /// Keeps the result of a step that works on the tree, in the forms that are needed. A blob of a layer
    /// that is needed as a directory, too, is made by whoever wants it: what comes next need not wait.
    pub(super) fn keep(&self, changes: &[Change], needs: Needs) -> Result<Layer, EngineError> {
        let index = LayerIndex::from_changes(changes, self.settings.epoch)?;
        let new = self.store().begin_layer()?;
        let (diff_id, blob) = if needs.directory {
            let tree = new.directory(self.ownership());
            fs::create_dir(&tree).map_err(EngineError::io("create a layer's directory"))?;
            write_directory(changes, self.settings.epoch, &tree, self.ownership())?;
            (diff_id(changes, self.settings.epoch)?, None)
        } else {
            let record = self.seal(changes)?;
            (record.diff_id, Some(record))
        };
        let id = LayerId::of(&diff_id);
        self.store().finish_layer(&id, &new, &index.encode())?;
        if let Some(record) = blob {
            self.store().put_layer_blob(&id, &record)?;
        }
        self.remember(&id, index);
        Ok(Layer::made(id))
    }
}
