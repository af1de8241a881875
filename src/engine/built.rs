//! What a build has made, as the outputs take it.

use fanfold_platforms::Platform;

use super::Layer;
use crate::image::{Descriptor, RawManifest, Repository};
use crate::store::BlobRecord;

/// One platform's image, all of it in the store.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// The platform that its config says.
    pub platform: Platform,
    /// The manifest.
    pub manifest: RawManifest,
    /// The manifest's descriptor as the index holds it, with platform and annotations.
    pub descriptor: Descriptor,
    /// The config's bytes.
    pub config: Vec<u8>,
    /// The config's descriptor.
    pub config_descriptor: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<BuiltLayer>,
}

/// A layer of a finished image.
#[derive(Debug, Clone)]
pub struct BuiltLayer {
    /// The layer.
    pub layer: Layer,
    /// Its blob.
    pub blob: BlobRecord,
    /// The repository that a base's layer was pulled from: a registry may mount it from there.
    pub origin: Option<Repository>,
}

/// The result of a build.
#[derive(Debug, Clone)]
pub struct Built {
    /// The images, in the order in which the platforms were asked for.
    pub images: Vec<BuiltImage>,
    /// The index; `None` for a single image.
    pub index: Option<RawManifest>,
}

impl Built {
    /// The document that the names stand for: the index, or the only manifest.
    pub fn top(&self) -> &RawManifest {
        self.index.as_ref().unwrap_or_else(|| &self.images[0].manifest)
    }

    /// The top document's descriptor; a single image's says its platform.
    pub fn descriptor(&self) -> Descriptor {
        match &self.index {
            Some(index) => index.descriptor(),
            None => self.images[0].descriptor.clone(),
        }
    }
}
