//! What the steps of a build have come to, for caches elsewhere.

use std::collections::BTreeMap;

use super::BuildError;
use super::demand::Demand;
use super::execute::Done;
use super::known::Hit;
use crate::cache::{CacheMode, Entry};
use crate::engine::{Engine, Layer};
use crate::image::Digest;
use crate::plan::{Graph, StepId, Target};
use crate::store::{LayerId, StepRecord, Store};

/// Results of all steps that have one, whether or not this build had to look at them.
#[derive(Debug, Default)]
pub struct Results(BTreeMap<StepId, StepResult>);

#[derive(Debug)]
struct StepResult {
    key: Digest,
    record: StepRecord,
    layer: Layer,
    /// Whether an image holds the layer.
    is_final: bool,
}

impl Results {
    pub(super) fn new(
        graph: &Graph,
        demand: &Demand,
        known: &BTreeMap<StepId, Hit>,
        done: &BTreeMap<StepId, Done>,
    ) -> Self {
        let found = known.iter().map(|(id, hit)| (*id, hit.record.clone(), hit.layer.clone()));
        let made = done.iter().filter_map(|(id, done)| {
            let has_own = !demand.merges.contains_key(id);
            Some((*id, done.record.clone().filter(|_| has_own)?, done.layers.first()?.clone()))
        });
        let result = |(id, record, layer): (StepId, _, _)| {
            let (key, is_final) = (graph.step(id).key, demand.finals.contains(&id));
            (id, StepResult { key, record, layer, is_final })
        };
        Self(found.chain(made).map(result).collect())
    }

    /// What a cache is to hold: the results that are in the images, or all. Layers that are no blobs yet
    /// become some.
    ///
    /// # Errors
    ///
    /// Fails where a layer cannot be sealed.
    pub fn entries(&self, engine: &Engine, mode: CacheMode) -> Result<Vec<Entry>, BuildError> {
        let wanted = self.0.values().filter(|result| result.is_final || mode == CacheMode::Max);
        wanted.map(|result| result.entry(engine)).collect()
    }

    /// Whether the images hold layers of remote caches in another encoding than layers of this build have.
    pub fn keep_encodings(&self, engine: &Engine) -> bool {
        self.0.values().any(|result| result.is_final && engine.keeps_encoding(&result.layer))
    }

    /// Layers of remote caches that nobody here has read.
    pub fn unread(&self, store: &Store) -> Vec<LayerId> {
        let layers = self.0.values().map(|result| &result.layer);
        let elsewhere = layers.filter_map(|layer| Some((layer.id, layer.elsewhere.as_ref()?)));
        elsewhere.filter(|(_, place)| !store.has_blob(&place.blob.descriptor)).map(|(id, _)| id).collect()
    }

    /// The results whose layers are in the image of a target, lowest first.
    pub(super) fn of_target(
        &self,
        graph: &Graph,
        demand: &Demand,
        target: &Target,
        engine: &Engine,
    ) -> Result<Vec<Entry>, BuildError> {
        let steps = graph.chain(target.tip).into_iter().map(|id| *demand.merges.get(&id).unwrap_or(&id));
        steps.filter_map(|id| self.0.get(&id)).map(|result| result.entry(engine)).collect()
    }
}

impl StepResult {
    fn entry(&self, engine: &Engine) -> Result<Entry, BuildError> {
        let origin = self.layer.elsewhere.as_ref().map(|elsewhere| elsewhere.origin.clone());
        let blob = engine.blob(&self.layer)?;
        Ok(Entry { keys: vec![self.key, self.record.content], record: self.record.clone(), blob, origin })
    }
}
