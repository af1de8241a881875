//! What a result stands on: the very results below it and of its inputs, not only their keys.
//!
//! A command that is run again may give something else under the same key. What was made on its
//! earlier result must then not be laid over the new one.

use crate::image::{Digest, Sha256};
use crate::plan::{Graph, Op, Step, StepId};
use crate::store::LayerId;

/// Digest of the results that a step is made on and of; `None` where one of them is not known.
/// `layer` gives the layer that a step made.
pub(super) fn grounds(
    graph: &Graph,
    step: &Step,
    layer: &dyn Fn(StepId) -> Option<LayerId>,
) -> Option<Digest> {
    let mut hasher = Sha256::new();
    hasher.field(&[u8::from(step.below.is_some())]);
    for id in step.below.into_iter().chain(step.inputs()) {
        hasher.field(identity(graph, id, layer)?.raw());
    }
    Some(hasher.finish())
}

/// What tells a step's result from others of the same step. An image's is its content.
fn identity(graph: &Graph, id: StepId, layer: &dyn Fn(StepId) -> Option<LayerId>) -> Option<Digest> {
    let step = graph.step(id);
    match &step.op {
        Op::Base(_) => Some(step.key),
        Op::Merge(_) => grounds(graph, step, layer),
        _ => layer(id).map(|layer| *layer.digest()),
    }
}
