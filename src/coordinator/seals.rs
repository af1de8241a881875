//! Layers of the images become blobs, and go to the registries, while later steps run.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet, spawn_blocking};

use super::execute::Executor;
use super::{BuildError, Stop, stopped};
use crate::engine::{BuiltLayer, Layer};
use crate::plan::StepId;
use crate::registry::RegistryError;
use crate::store::LayerId;

/// Layers on their way out. Dropping it ends what is still being sent.
pub(super) struct Seals {
    executor: Executor,
    begun: HashSet<LayerId>,
    tasks: JoinSet<Result<(), BuildError>>,
    /// Layers that are sealed at a time: a strong compression takes memory for each.
    room: Arc<Semaphore>,
    /// The question whether layers will be taken.
    question: Option<AbortHandle>,
}

impl Seals {
    pub(super) fn new(executor: &Executor) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            executor: executor.clone(),
            begun: HashSet::new(),
            tasks: JoinSet::new(),
            room: Arc::new(Semaphore::new(cores)),
            question: None,
        }
    }

    /// Asks whether the layers will be taken, for a build that has something to do before it has any.
    pub(super) fn ask(&mut self) {
        let Some(publish) = &self.executor.publish else { return };
        let (asked, executor) = ((publish.ask)(), self.executor.clone());
        self.question = Some(self.tasks.spawn(async move { executor.refusal(asked.await) }));
    }

    /// Has the layers of a step sealed and sent, if the images hold them.
    pub(super) fn begin(&mut self, id: StepId, layers: &[Layer]) {
        if !self.executor.demand.finals.contains(&id) {
            return;
        }
        for layer in layers {
            if self.begun.insert(layer.id) {
                let room = Arc::clone(&self.room);
                self.tasks.spawn(hand_over(self.executor.clone(), id, layer.clone(), room));
            }
        }
    }

    /// The next failure; waits forever where there is none.
    pub(super) async fn failure(&mut self) -> BuildError {
        loop {
            match self.tasks.join_next().await {
                None => std::future::pending().await,
                Some(ended) => {
                    if let Some(error) = failed(ended) {
                        return error;
                    }
                }
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
            if self.tasks.len() == 1 && self.question.as_ref().is_some_and(|asked| !asked.is_finished()) {
                // The image itself asks now. A token that is on its way serves it.
                self.tasks.detach_all();
            }
            let ended = tokio::select! {
                ended = self.tasks.join_next() => ended,
                stop = stopped(interrupted) => return (Some(stop), failures),
            };
            match ended {
                None => return (None, failures),
                Some(ended) => failures.extend(failed(ended)),
            }
        }
    }
}

/// The failure of a task that has ended.
fn failed(ended: Result<Result<(), BuildError>, JoinError>) -> Option<BuildError> {
    ended.expect("sealing a layer does not panic").err()
}

impl Executor {
    /// A refusal ends the build now, rather than when all is done, unless everything is to be tried.
    fn refusal(&self, published: Result<(), RegistryError>) -> Result<(), BuildError> {
        if self.options.keep_going { Ok(()) } else { Ok(published?) }
    }
}

/// Seals one layer and hands it over. What cannot be sent now is sent, or reported, with the image, unless it
/// was refused.
async fn hand_over(
    executor: Executor,
    id: StepId,
    layer: Layer,
    room: Arc<Semaphore>,
) -> Result<(), BuildError> {
    let origin = layer.elsewhere.as_ref().and_then(|elsewhere| elsewhere.origin.repository().cloned());
    let (engine, sealed) = (Arc::clone(&executor.engine), layer.clone());
    let room = room.acquire_owned().await.expect("the semaphore is never closed");
    let blob = spawn_blocking(move || {
        let _room = room;
        engine.blob(&sealed)
    });
    let blob = blob.await.expect("sealing a layer does not panic");
    let step = executor.graph.step(id);
    let blob = blob.map_err(|error| BuildError::from(error).at(step.origin.span, &step.platform))?;
    let Some(publish) = &executor.publish else { return Ok(()) };
    let published = (publish.send)(BuiltLayer { layer, blob, origin }).await;
    executor.refusal(published)
}
