//! Which steps have a result that can be used: from earlier builds here, or from remote caches.
//!
//! A result fits where what it was made on is what is found below it now. A command that was run again
//! may have given something else under the same key; what was made on its earlier result must then not
//! be laid over the new one.

use std::collections::{BTreeMap, BTreeSet};

use crate::cache;
use crate::engine::{Layer, State};
use crate::image::Digest;
use crate::plan::{Graph, Op, Step, StepId};
use crate::store::{Grounds, LayerId, StepRecord};

/// A step's result that is known.
#[derive(Debug, Clone)]
pub(super) struct Hit {
    /// What is known of it.
    pub(super) record: StepRecord,
    /// The layer, here or elsewhere.
    pub(super) layer: Layer,
}

impl From<cache::Found> for Hit {
    fn from(found: cache::Found) -> Self {
        Self { layer: Layer::from_elsewhere(found.blob, found.origin), record: found.record }
    }
}

/// What was found under a step's key.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// The record of this store, also where its layer is no more here.
    pub(super) record: Option<StepRecord>,
    /// Results that can be used, the best first.
    pub(super) hits: Vec<Hit>,
}

/// The steps whose results can be used. A result on top of something that would be made anew could
/// contradict it, so that it is not used; nor is one that was made of files of a step that has to be
/// carried out anew, or that is known to have another result by now. What is not known is no obstacle:
/// nobody has to carry out a stage, or to keep it, whose files are in a result already.
pub(super) fn known(graph: &Graph, found: &mut BTreeMap<StepId, Found>) -> BTreeMap<StepId, Hit> {
    let mut chosen: BTreeMap<StepId, Hit> = BTreeMap::new();
    let mut layers: BTreeMap<StepId, LayerId> = BTreeMap::new();
    let mut anew = BTreeSet::new();
    for id in graph.ids() {
        let step = graph.step(id);
        if step.anew || step.below.into_iter().chain(step.inputs()).any(|id| anew.contains(&id)) {
            anew.insert(id);
            continue;
        }
        let Some(found) = found.remove(&id) else { continue };
        let usable = |id: StepId| is_usable(graph, id, &chosen);
        let is_whole = graph.chain(step.below).into_iter().all(usable);
        let fits = |record: &StepRecord| fit(graph, step, &record.grounds, &layers);
        let hit = found.hits.into_iter().find(|hit| is_whole && fits(&hit.record));
        let layer = hit.as_ref().map(|hit| hit.layer.id);
        let remembered = || found.record.filter(|record| fits(record)).map(|record| record.layer);
        layers.extend(layer.or_else(remembered).map(|layer| (id, layer)));
        chosen.extend(hit.map(|hit| (id, hit)));
    }
    chosen
}

/// Whether a step has a result without being carried out.
fn is_usable(graph: &Graph, id: StepId, chosen: &BTreeMap<StepId, Hit>) -> bool {
    match &graph.step(id).op {
        Op::Base(_) => true,
        Op::Merge(merge) => chosen.contains_key(&merge.layer),
        _ => chosen.contains_key(&id),
    }
}

/// Whether results stand below a step and in its inputs that are not known to be others.
fn fit(graph: &Graph, step: &Step, grounds: &Grounds, layers: &BTreeMap<StepId, LayerId>) -> bool {
    let inputs = step.inputs();
    identity(graph, step.below, layers) == Some(grounds.below)
        && inputs.len() == grounds.inputs.len()
        && inputs
            .into_iter()
            .zip(&grounds.inputs)
            .all(|(id, recorded)| identity(graph, Some(id), layers).is_none_or(|known| known == *recorded))
}

/// The identity of the stack up to a step, where all of its layers are known.
fn identity(graph: &Graph, tip: Option<StepId>, layers: &BTreeMap<StepId, LayerId>) -> Option<Digest> {
    let mut ids: Vec<LayerId> = Vec::new();
    for id in graph.chain(tip) {
        match &graph.step(id).op {
            Op::Base(base) => ids.extend(base.image.config.diff_ids.iter().map(LayerId::of)),
            Op::Merge(merge) => ids.push(*layers.get(&merge.layer)?),
            _ => ids.push(*layers.get(&id)?),
        }
    }
    Some(State::identity_of(ids.iter()))
}
