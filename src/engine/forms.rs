//! The forms of a layer: index, directory, blob. Each is made when somebody needs it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Engine, EngineError, Layer, Needs, State};
use crate::image::Descriptor;
use crate::image::media_type::{LayerEncoding, layer_encoding, oci_layer};
use crate::layer::{
    Change, Content, EntryKind, LayerIndex, Seal, Sealed, Tree, diff_id, recompress, seal, write_directory,
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
        let _lock = self.lock(layer.id.digest())?;
        match self.stored_index(&layer.id) {
            Some(index) => Ok(self.remember(&layer.id, index)),
            None => self.unpack_blob(layer, false),
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
        let _lock = self.lock(layer.id.digest())?;
        if let Some(path) = self.store().layer_directory(&layer.id, self.ownership()) {
            return Ok(path);
        }
        self.unpack_blob(layer, true)?;
        self.store().layer_directory(&layer.id, self.ownership()).ok_or(EngineError::NoContent)
    }

    /// The blob that a layer is unpacked from.
    fn blob_record(&self, layer: &Layer) -> Result<BlobRecord, EngineError> {
        let elsewhere = layer.elsewhere.as_ref().map(|elsewhere| elsewhere.blob.clone());
        elsewhere.or_else(|| self.store().any_layer_blob(&layer.id)).ok_or(EngineError::NoContent)
    }

    /// A layer's blob, open, with its encoding.
    pub(super) fn open_blob(&self, record: &BlobRecord) -> Result<(File, LayerEncoding), EngineError> {
        let media_type = &record.descriptor.media_type;
        let encoding =
            layer_encoding(media_type).ok_or_else(|| EngineError::UnknownLayerType(media_type.clone()))?;
        let path = self.store().blob_path(&record.descriptor.digest);
        let file = File::open(path).map_err(|error| EngineError::Damaged {
            layer: record.diff_id.0,
            reason: format!("its blob cannot be opened: {error}"),
        })?;
        Ok((file, encoding))
    }

    /// The blob form of a layer that is already in the store.
    pub(super) fn existing_blob(&self, layer: &Layer) -> Result<BlobRecord, EngineError> {
        self.blob_record(layer)
    }

    /// Makes the index of a layer whose blob is in the store, and the directory where one is wanted.
    fn unpack_blob(&self, layer: &Layer, directory: bool) -> Result<Arc<LayerIndex>, EngineError> {
        let record = self.blob_record(layer)?;
        let (file, _) = self.open_blob(&record)?;
        let unpacked = self.unpack_from(layer, file, directory);
        unpacked.and_then(|fresh| self.keep_unpacked(layer, fresh)).map_err(|error| error.of_stored(layer))
    }

    /// A layer as a blob.
    ///
    /// # Errors
    ///
    /// Fails where the layer's files cannot be read or the blob cannot be written.
    pub fn blob(&self, layer: &Layer) -> Result<BlobRecord, EngineError> {
        let compression = self.settings.compression;
        let elsewhere = layer.elsewhere.as_ref().map(|elsewhere| &elsewhere.blob);
        if let Some(blob) = elsewhere.filter(|blob| !self.must_change(blob)) {
            return Ok(blob.clone());
        }
        let known = || {
            let fetched = || self.store().fetched_blob(&layer.id).filter(|blob| !self.differs(blob));
            self.store().layer_blob(&layer.id, compression).or_else(fetched)
        };
        if let Some(record) = known() {
            return Ok(record);
        }
        let _lock = self.lock(layer.id.digest())?;
        if let Some(record) = known() {
            return Ok(record);
        }
        if let Ok(other) = self.blob_record(layer) {
            return self.recompress(layer, &other);
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
            let reason = format!("its directory holds {}", record.diff_id);
            return Err(EngineError::damaged(layer, reason));
        }
        self.store().put_layer_blob(&layer.id, compression, &record)?;
        Ok(record)
    }

    /// Writes changes as a blob and remembers it.
    fn seal(&self, changes: &[Change]) -> Result<BlobRecord, EngineError> {
        let file = self.store().scratch_file();
        let options = self.options(self.settings.epoch);
        let sealed = seal(changes, &options, file.path())?;
        self.adopt_blob(file.path(), &sealed)
    }

    /// Whether a layer from elsewhere goes on in its own encoding although this build makes blobs of another.
    pub fn keeps_encoding(&self, layer: &Layer) -> bool {
        let elsewhere = layer.elsewhere.as_ref().map(|elsewhere| &elsewhere.blob);
        elsewhere.is_some_and(|blob| self.differs(blob) && !self.must_change(blob))
    }

    /// How blobs are written.
    fn options(&self, clamp: Option<i64>) -> Seal<'_> {
        let (compression, halt) = (self.settings.compression, self.cancel.halt());
        Seal { clamp, compression, pool: &self.pool, halt }
    }

    /// Whether the blob of a layer from elsewhere is to be replaced by one of another encoding.
    fn must_change(&self, blob: &BlobRecord) -> bool {
        self.settings.force_compression && self.differs(blob)
    }

    /// Whether a blob has another encoding than blobs of this build.
    fn differs(&self, blob: &BlobRecord) -> bool {
        layer_encoding(&blob.descriptor.media_type) != Some(self.settings.compression.encoding())
    }

    /// Makes a blob of a layer out of one with another compression.
    fn recompress(&self, layer: &Layer, record: &BlobRecord) -> Result<BlobRecord, EngineError> {
        let (blob, encoding) = self.open_blob(record)?;
        let file = self.store().scratch_file();
        let sealed = recompress(blob, encoding, &self.options(None), file.path())?;
        if sealed.diff_id != record.diff_id {
            let (expected, found) = (record.diff_id, sealed.diff_id);
            return Err(EngineError::WrongDiffId { expected, found }.of_stored(layer));
        }
        let record = self.adopt_blob(file.path(), &sealed)?;
        self.store().put_layer_blob(&layer.id, self.settings.compression, &record)?;
        Ok(record)
    }

    /// Takes a blob that was written into the store.
    fn adopt_blob(&self, path: &Path, sealed: &Sealed) -> Result<BlobRecord, EngineError> {
        self.store().adopt_blob(path, &sealed.digest)?;
        let media_type = oci_layer(self.settings.compression.encoding());
        let descriptor = Descriptor::new(media_type, sealed.digest, sealed.size);
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
            write_directory(changes, self.settings.epoch, &tree, self.ownership(), self.cancel.halt())?;
            (diff_id(changes, self.settings.epoch, self.cancel.halt())?, None)
        } else {
            let record = self.seal(changes)?;
            (record.diff_id, Some(record))
        };
        let id = LayerId::of(&diff_id);
        self.store().finish_layer(&id, &new, &index.encode())?;
        if let Some(record) = blob {
            self.store().put_layer_blob(&id, self.settings.compression, &record)?;
        }
        self.remember(&id, index);
        Ok(Layer::made(id))
    }
}
