//! A stage's file system at one instant: a stack of layers.

use crate::image::{Digest, Origin, Sha256};
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
    /// What tells this stack from others, on all machines: a digest of its diff ids.
    pub fn identity(&self) -> Digest {
        Self::identity_of(self.layers.iter().map(|layer| &layer.id))
    }

    /// The identity of the stack of these layers, lowest first.
    pub fn identity_of<'a>(layers: impl Iterator<Item = &'a LayerId>) -> Digest {
        let mut hasher = Sha256::new();
        layers.for_each(|layer| hasher.field(layer.digest().raw()));
        hasher.finish()
    }

    /// This stack with another layer on top.
    pub fn with(&self, layer: Layer) -> Self {
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers }
    }
}
