//! A stage's file system at one instant: a stack of layers.

use crate::image::Origin;
use crate::store::{BlobRecord, LayerId};

/// A layer, in the store or elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub id: LayerId,
    /// Where else it can be had: layers of images and of remote caches are fetched when a step needs
    /// their files.
    pub elsewhere: Option<Elsewhere>,
}

/// A layer's blob that may not be here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// The blob.
    pub blob: BlobRecord,
    /// Who has it.
    pub origin: Origin,
}

impl Layer {
    /// A layer that a step made.
    pub fn made(id: LayerId) -> Self {
        Self { id, elsewhere: None }
    }

    /// A layer of an image or a remote cache.
    pub fn from_elsewhere(blob: BlobRecord, origin: Origin) -> Self {
        Self { id: LayerId::of(&blob.diff_id), elsewhere: Some(Elsewhere { blob, origin }) }
    }
}

/// A stack of layers, lowest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The layers.
    pub layers: Vec<Layer>,
}

impl State {
    /// This stack with another layer on top.
    pub fn with(&self, layer: Layer) -> Self {
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers }
    }
}
