//! A stage's file system at one instant: a stack of layers.

use crate::store::{BlobRecord, LayerId};

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub id: LayerId,
    /// The blob of a base's layer, known before it is here.
    pub base: Option<BlobRecord>,
}

impl Layer {
    /// A layer that a step made.
    pub fn made(id: LayerId) -> Self {
        Self { id, base: None }
    }

    /// A layer of an image.
    pub fn of_base(blob: BlobRecord) -> Self {
        Self { id: LayerId::of_base(&blob.diff_id), base: Some(blob) }
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
