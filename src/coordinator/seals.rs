//! Layers of the images become blobs, and go to the registries, while later steps run.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

use super::execute::Executor;
use super::options::Publish;
use super::{BuildError, Stop, stopped};
use crate::engine::{BuiltLayer, Layer};
use crate::plan::StepId;
use crate::store::LayerId;

/// Layers on their way out. Dropping it ends what is still being sent.
pub(super) struct Seals {
    executor: Executor,
    begun: HashSet<LayerId>,
    tasks: JoinSet<Result<(), BuildError>>,
}

impl Seals {
    pub(super) fn new(executor: &Executor) -> Self {
        Self { executor: executor.clone(), begun: HashSet::new(), tasks: JoinSet::new() }
    }

    /// Has the layers of a step sealed and sent, if the images hold them.
    pub(super) fn begin(&mut self, id: StepId, layers: &[Layer]) {
        if !self.executor.demand.finals.contains(&id) {
            return;
        }
        for layer in layers {
            if self.begun.insert(layer.id) {
                self.tasks.spawn(hand_over(self.executor.clone(), id, layer.clone()));
            }
        }
    }

    /// Waits for all of them. Gives what ended the wait early, and what has failed.
    pub(super) async fn finish(
        mut self,
        interrupted: &mut watch::Receiver<Option<Stop>>,
    ) -> (Option<Stop>, Vec<BuildError>) {
        let mut failures = Vec::new();
        loop {
            let ended = tokio::select! {
                ended = self.tasks.join_next() => ended,
                stop = stopped(interrupted) => return (Some(stop), failures),
            };
            match ended {
                None => return (None, failures),
                Some(result) => failures.extend(result.expect("sealing a layer does not panic").err()),
            }
        }
    }
}

/// Seals one layer and hands it over. What cannot be sent now is sent, or reported, with the image.
async fn hand_over(executor: Executor, id: StepId, layer: Layer) -> Result<(), BuildError> {
    let origin = layer.elsewhere.as_ref().and_then(|elsewhere| elsewhere.origin.repository().cloned());
    let (engine, sealed) = (Arc::clone(&executor.engine), layer.clone());
    let blob = spawn_blocking(move || engine.blob(&sealed)).await.expect("sealing a layer does not panic");
    let step = executor.graph.step(id);
    let blob = blob.map_err(|error| BuildError::from(error).at(step.origin.span, &step.platform))?;
    if let Some(Publish(publish)) = &executor.publish {
        publish(BuiltLayer { layer, blob, origin }).await;
    }
    Ok(())
}
