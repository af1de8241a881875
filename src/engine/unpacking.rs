//! Making the index and the directory of a layer out of its blob.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::{Cancel, Engine, EngineError, Layer};
use crate::image::media_type::layer_encoding;
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
        let (expected, found) = (self.existing_blob(layer)?.diff_id, fresh.unpacked.diff_id);
        if found != expected {
            return Err(EngineError::WrongDiffId { expected, found });
        }
        let index = fresh.unpacked.index;
        self.store().put_layer_index(&layer.id, &index.encode())?;
        if let Some((_scratch, tree)) = &fresh.tree {
            self.store().adopt_layer_directory(&layer.id, self.ownership(), tree)?;
        }
        Ok(self.remember(&layer.id, index))
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
