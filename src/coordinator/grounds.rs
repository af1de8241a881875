//! What a result stands on: the very results below it and of its inputs, not only their keys.
//!
//! A command that is run again may give something else under the same key. What was made on its
//! earlier result must then not be laid over the new one.

use crate::image::{Digest, Sha256};
use crate::plan::{Graph, Op, Step, StepId};
use crate::store::{Grounds, LayerId};

/// The results that a step is made on and of; `None` where one of them is not known.
/// `layer` gives the layer that a step made.
pub(super) fn grounds(
    graph: &Graph,
    step: &Step,
    layer: &dyn Fn(StepId) -> Option<LayerId>,
) -> Option<Grounds> {
    let below = identity(graph, step.below, layer)?;
    let inputs =
        step.inputs().into_iter().map(|id| identity(graph, Some(id), layer)).collect::<Option<_>>()?;
    Some(Grounds { below, inputs })
}

/// The identity of the stack up to a step: a digest of its diff ids.
fn identity(graph: &Graph, tip: Option<StepId>, layer: &dyn Fn(StepId) -> Option<LayerId>) -> Option<Digest> {
    let mut hasher = Sha256::new();
    for id in graph.chain(tip) {
        match &graph.step(id).op {
            Op::Base(base) => base.image.config.diff_ids.iter().for_each(|id| hasher.field(id.0.raw())),
            Op::Merge(merge) => hasher.field(layer(merge.layer)?.digest().raw()),
            _ => hasher.field(layer(id)?.digest().raw()),
        }
    }
    Some(hasher.finish())
}
