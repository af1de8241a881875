//! Making the index and the directory of a layer out of its blob.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::{Cancel, Engine, EngineError, Layer};
use crate::image::media_type::layer_encoding;
use crate::image::{Descriptor, HashingReader};
use crate::layer::{LayerIndex, Limits, Unpacked, unpack};
use crate::store::ScratchDir;

/// What was made of a blob, before anybody has compared it with what the blob should hold. Dropped, it
/// leaves nothing behind.
#[derive(Debug)]
pub struct FreshLayer {
    unpacked: Unpacked,
    /// Where the directory is, where one was wanted.
    tree: Option<(ScratchDir, PathBuf)>,
}

impl Engine {
    /// Reads the blob of an image's layer to its end, and makes its index and, if `directory` is set, its
    /// directory in scratch space.
    ///
    /// `blob` may still be arriving, and wrong: [`Engine::keep_unpacked`] is for when it has arrived. It
    /// is given up soon after the build was asked to stop.
    ///
    /// # Errors
    ///
    /// Fails where the blob cannot be read or is damaged, and where files cannot be created. What was
    /// made is removed.
    pub fn unpack_from(
        &self,
        layer: &Layer,
        blob: impl Read + Send + 'static,
        directory: bool,
    ) -> Result<FreshLayer, EngineError> {
        let media_type = self.existing_blob(layer)?.descriptor.media_type;
        let encoding = layer_encoding(&media_type).ok_or(EngineError::UnknownLayerType(media_type))?;
        let tree = directory.then(|| self.fresh_directory()).transpose()?;
        let into = tree.as_ref().map(|(_, tree)| (&**tree, self.ownership()));
        let blob = Stoppable { inner: blob, cancel: self.cancel.clone() };
        let unpacked = unpack(blob, encoding, into, &Limits::default());
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        Ok(FreshLayer { unpacked: unpacked.map_err(EngineError::BadLayer)?, tree })
    }

    /// Gives what was made of a verified blob its place in the store, if it has the diff id that the
    /// image promises. For the one who holds the layer's lock.
    ///
    /// # Errors
    ///
    /// Fails where the blob holds something else, and where the store cannot be written.
    pub fn keep_unpacked(&self, layer: &Layer, fresh: FreshLayer) -> Result<Arc<LayerIndex>, EngineError> {
        let record = self.existing_blob(layer)?;
        let (expected, found) = (record.diff_id, fresh.unpacked.diff_id);
        if found != expected {
            return Err(EngineError::WrongDiffId { expected, found });
        }
        let index = fresh.unpacked.index;
        self.store().put_layer_index(&layer.id, &index.encode())?;
        if let Some((_scratch, tree)) = &fresh.tree {
            self.store().adopt_layer_directory(&layer.id, self.ownership(), tree)?;
        }
        if let Ok(mut checked) = self.checked.lock() {
            checked.insert((layer.id, record.descriptor.digest));
        }
        Ok(self.remember(&layer.id, index))
    }

    /// Makes sure that the blob of a result of a remote cache, which is here by now, holds the layer that the
    /// record promises, and that the layer has an index: from now on the result is found without the cache.
    ///
    /// The blob is read once in its life here; nothing is done for layers from nowhere else.
    ///
    /// # Errors
    ///
    /// Fails where the blob holds something else, and where the store cannot be written.
    pub fn check_blob(&self, layer: &Layer) -> Result<(), EngineError> {
        let Some(blob) = layer.elsewhere.as_ref().map(|elsewhere| &elsewhere.blob) else { return Ok(()) };
        let name = (layer.id, blob.descriptor.digest);
        if self.checked.lock().is_ok_and(|checked| checked.contains(&name)) {
            return Ok(self.store().put_fetched_blob(&layer.id, blob)?);
        }
        let store = self.store();
        let known = [store.layer_blob(&layer.id, self.settings.compression), store.fetched_blob(&layer.id)];
        if known.iter().flatten().any(|known| known == blob) {
            return self.prepare_index(layer);
        }
        let _lock = self.lock(layer.id.digest())?;
        let (file, _) = self.open_blob(blob)?;
        let fresh = self.unpack_from(layer, file, false)?;
        self.keep_unpacked(layer, fresh)?;
        Ok(store.put_fetched_blob(&layer.id, blob)?)
    }

    /// Whether a blob of the store has the bytes that its digest says.
    pub fn has_whole_blob(&self, descriptor: &Descriptor) -> bool {
        let Ok(file) = File::open(self.store().blob_path(&descriptor.digest)) else { return false };
        let mut reader = HashingReader::new(file);
        io::copy(&mut reader, &mut io::sink()).is_ok() && reader.finish().1 == descriptor.digest
    }

    fn fresh_directory(&self) -> Result<(ScratchDir, PathBuf), EngineError> {
        let scratch = self.store().scratch_dir()?;
        let tree = scratch.path().join("fs");
        fs::create_dir(&tree).map_err(EngineError::io("create a layer's directory"))?;
        Ok((scratch, tree))
    }
}

/// A stream that ends with an error when the build is asked to stop.
pub(super) struct Stoppable<R> {
    pub(super) inner: R,
    pub(super) cancel: Cancel,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("the build was asked to stop"));
        }
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_stops_reads_no_further() {
        let cancel = Cancel::default();
        let mut stream = Stoppable { inner: io::repeat(1), cancel: cancel.clone() };
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 8);
        cancel.cancel();
        assert!(stream.read(&mut [0; 8]).is_err());
    }
}
