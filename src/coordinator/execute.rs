//! Carries out the steps of a graph, as many at once as there are jobs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};

use super::answers::Answers;
use super::demand::Demand;
use super::known::Hit;
use super::pull::{self, Form};
use super::running::{self, Running};
use super::schedule::Schedule;
use super::seals::Seals;
use super::{BuildError, ErrorKind, Options, Recovery, Source, Stop};
use crate::cache::Imports;
use crate::engine::{Cancel, Engine, Layer, Programs, Publisher, State};
use crate::image::Digest;
use crate::plan::{Graph, Op, StepId};
use crate::progress::{Event, Progress, human};
use crate::registry::Client;
use crate::store::{Grounds, StepRecord};

/// What carrying out needs.
#[derive(Clone)]
pub(super) struct Executor {
    pub(super) graph: Arc<Graph>,
    pub(super) demand: Arc<Demand>,
    pub(super) engine: Arc<Engine>,
    pub(super) client: Client,
    pub(super) answers: Arc<Answers>,
    pub(super) options: Arc<Options>,
    pub(super) source: Arc<Source>,
    pub(super) progress: Progress,
    pub(super) cancel: Cancel,
    /// Remote caches.
    pub(super) imports: Arc<Imports>,
    /// What was made in this build, by content key.
    pub(super) made: Arc<Mutex<HashMap<Digest, Hit>>>,
    /// Takes layers of the images as soon as they are whole.
    pub(super) publish: Option<Publisher>,
}

/// The result of a step.
#[derive(Debug, Clone)]
pub(super) struct Done {
    /// The layers that it adds: one, or those of an image.
    pub(super) layers: Vec<Layer>,
    /// What is known of it from now on; `None` for an image.
    pub(super) record: Option<StepRecord>,
    /// Whether it was known before.
    pub(super) cached: bool,
    /// How long it took.
    pub(super) duration: Duration,
    /// The machines that copied programs are for, each with the first such program.
    pub(super) programs: Programs,
}

impl Done {
    /// When it was carried out, in seconds since 1970; `None` for an image.
    pub(super) fn created(&self) -> Option<i64> {
        self.record.as_ref().map(|record| record.created)
    }

    /// What is to be said of it.
    pub(super) fn notes(&self) -> &[String] {
        self.record.as_ref().map_or(&[], |record| &record.notes)
    }

    /// A result that is there without any work.
    fn known(layers: Vec<Layer>, record: Option<StepRecord>) -> Self {
        Self { layers, record, cached: true, duration: Duration::ZERO, programs: Programs::new() }
    }
}

/// The stacks that a step works on.
pub(super) struct States {
    pub(super) below: State,
    pub(super) inputs: BTreeMap<StepId, State>,
    /// Their identities.
    pub(super) grounds: Grounds,
    /// Whether none of them was made just now.
    pub(super) are_known: bool,
}

/// What came out of a task.
type Ended = (StepId, Result<Done, BuildError>);

impl Executor {
    /// Carries out everything that is demanded.
    ///
    /// Fails with all failures, the first one first. A stop ends the build: commands are
    /// killed, and this returns when they are gone.
    pub(super) async fn execute(
        self,
        mut interrupted: watch::Receiver<Option<Stop>>,
    ) -> Result<BTreeMap<StepId, Done>, Vec<BuildError>> {
        let mut results = self.known_results();
        let mut seals = Seals::new(&self);
        // Where nothing is to be done, what the registry holds may be this very result.
        if !self.demand.work.is_empty() {
            seals.ask();
            results.iter().for_each(|(id, done)| seals.begin(*id, &done.layers));
        }
        let wanted = self.demand.all_work();
        let mut schedule = Schedule::new(wanted.map(|id| (id, self.demand.dependencies(&self.graph, id))));
        let mut queue: VecDeque<StepId> = VecDeque::new();
        let mut running: JoinSet<Ended> = JoinSet::new();
        let mut busy = 0;
        let mut failures: Vec<BuildError> = Vec::new();
        let mut pulls: Vec<AbortHandle> = Vec::new();
        let mut begun = Running::default();
        let mut caught = Vec::new();
        let mut stop = *interrupted.borrow();
        if stop.is_some() {
            self.stop(&mut schedule, &mut queue, &pulls);
        }
        loop {
            while let Some(id) = schedule.take() {
                match self.demand.merges.get(&id).and_then(|layer| results.get(layer)) {
                    Some(done) => {
                        results.insert(id, done.clone());
                        schedule.done(id);
                    }
                    None => queue.push_back(id),
                }
            }
            // Fetching takes no job: it waits for the network, not for a core.
            let mut later = VecDeque::new();
            while let Some(id) = queue.pop_front() {
                let is_fetch = self.demand.fetches.contains_key(&id);
                if !is_fetch && busy >= self.options.jobs {
                    later.push_back(id);
                    continue;
                }
                busy += usize::from(!is_fetch);
                let state = self.states(id, &results);
                begun.begin(id);
                let task = running.spawn(self.clone().step(id, state));
                if is_fetch {
                    pulls.push(task);
                }
            }
            queue = later;
            let ended = tokio::select! {
                ended = running.join_next() => ended,
                error = seals.failure(), if !self.cancel.is_cancelled() => {
                    failures.push(error);
                    if !self.options.keep_going {
                        self.stop(&mut schedule, &mut queue, &pulls);
                    }
                    continue;
                }
                Ok(()) = interrupted.changed(), if stop.is_none() => {
                    stop = *interrupted.borrow();
                    caught = begun.times();
                    self.stop(&mut schedule, &mut queue, &pulls);
                    continue;
                }
            };
            let Some(ended) = ended else { break };
            let (id, result) = match ended {
                // A pull that was broken off.
                Err(error) if error.is_cancelled() => continue,
                ended => ended.expect("carrying out a step does not panic"),
            };
            begun.end(id);
            busy -= usize::from(!self.demand.fetches.contains_key(&id));
            match result {
                Ok(done) => {
                    seals.begin(id, &done.layers);
                    results.insert(id, done);
                    schedule.done(id);
                }
                Err(error) => {
                    let stopping = self.cancel.is_cancelled();
                    if !stopping {
                        failures.push(error);
                    }
                    if !self.options.keep_going && !stopping {
                        self.stop(&mut schedule, &mut queue, &pulls);
                    }
                }
            }
        }
        self.say_notes(&results);
        if stop.is_none() && failures.is_empty() {
            (stop, failures) = seals.finish(&mut interrupted).await;
        }
        if stop.is_some() || !failures.is_empty() {
            // What is still being sealed is for nothing.
            self.cancel.cancel();
        }
        if let Some(stop) = stop {
            return Err(running::failures(stop, &caught, &self.graph));
        }
        if failures.is_empty() { Ok(results) } else { Err(failures) }
    }

    /// Has everything end soon: commands are killed, pulls broken off, and nothing else begins.
    fn stop(&self, schedule: &mut Schedule, queue: &mut VecDeque<StepId>, pulls: &[AbortHandle]) {
        self.cancel.cancel();
        schedule.stop();
        queue.clear();
        pulls.iter().for_each(AbortHandle::abort);
    }

    /// The stack below a step, and the stacks of its inputs.
    fn states(&self, id: StepId, results: &BTreeMap<StepId, Done>) -> States {
        let step = self.graph.step(id);
        let stack = |tip| State {
            layers: self
                .graph
                .chain(tip)
                .into_iter()
                .filter_map(|id| results.get(&id))
                .flat_map(|done| done.layers.iter().cloned())
                .collect(),
        };
        let inputs: BTreeMap<_, _> = step.inputs().into_iter().map(|id| (id, stack(Some(id)))).collect();
        let below = stack(step.below);
        let identities = step.inputs().iter().filter_map(|id| inputs.get(id).map(State::identity)).collect();
        let grounds = Grounds { below: below.identity(), inputs: identities };
        let steps = step.below.into_iter().chain(step.inputs()).flat_map(|id| self.graph.chain(Some(id)));
        let are_known = steps.filter_map(|id| results.get(&id)).all(|done| done.cached);
        States { below, inputs, grounds, are_known }
    }

    /// The results that are there before anything is done. What is to be fetched is not.
    fn known_results(&self) -> BTreeMap<StepId, Done> {
        let is_here = |id: &StepId| !self.demand.fetches.contains_key(id);
        let hits = self.demand.cached.iter().filter(|(id, _)| is_here(id));
        let hits =
            hits.map(|(id, hit)| (*id, Done::known(vec![hit.layer.clone()], Some(hit.record.clone()))));
        let bases = self.demand.bases.iter().filter(|id| is_here(id)).filter_map(|id| {
            let Op::Base(base) = &self.graph.step(*id).op else { return None };
            Some((*id, Done::known(pull::layers(&base.image), None)))
        });
        hits.chain(bases).collect()
    }

    async fn step(self, id: StepId, states: States) -> Ended {
        let begun = Instant::now();
        let step = self.graph.step(id);
        if let Some(form) = self.demand.fetches.get(&id) {
            let result = self.fetch_in_time(id, *form, begun).await;
            return (id, result.map_err(|error| error.at(step.origin.span, &step.platform)));
        }
        self.progress.send(Event::StepStarted { id: shown(id) });
        let result = self.carried_out(id, states, begun).await;
        let result = match result {
            Ok(done) => {
                let duration = done.duration;
                self.progress.send(match done.cached {
                    true => Event::StepCached { id: shown(id) },
                    false => Event::StepFinished { id: shown(id), duration },
                });
                Ok(done)
            }
            Err(error) => {
                if self.cancel.is_cancelled() {
                    self.progress.send(Event::StepCancelled { id: shown(id) });
                } else {
                    self.progress.send(Event::StepFailed { id: shown(id), message: error.message.clone() });
                }
                let mut error = error.at(step.origin.span, &step.platform);
                error.message = step.origin.told(error.message);
                error.step = Some(step.origin.text.clone());
                Err(error)
            }
        };
        (id, result)
    }

    /// Carries out a step, and brings its layer here where that turned out to be elsewhere.
    async fn carried_out(&self, id: StepId, states: States, begun: Instant) -> Result<Done, BuildError> {
        let executor = self.clone();
        let carried_out = spawn_blocking(move || executor.carry_out(id, &states)).await;
        let mut done = carried_out.expect("carrying out a step does not panic")?;
        if let Some(form) = self.demand.form(id, &done.layers, self.options.blobs_here) {
            self.bring_result(id, &done.layers, form).await.map_err(|error| self.miss(&done, error))?;
            self.keep_fetched(id, &done)?;
        }
        done.duration = begun.elapsed();
        Ok(done)
    }

    /// Fetches layers, as long as a step may take.
    async fn fetch_in_time(&self, id: StepId, form: Form, begun: Instant) -> Result<Done, BuildError> {
        let Some(limit) = self.options.step_timeout else { return self.fetch(id, form, begun).await };
        tokio::time::timeout(limit, self.fetch(id, form, begun)).await.unwrap_or_else(|_| {
            let limit = human::duration(limit);
            let message = format!("the pull took longer than the {limit} of --step-timeout");
            self.progress.send(Event::StepFailed { id: shown(id), message: message.clone() });
            Err(BuildError::new(ErrorKind::Step, message)
                .with_hint("give it more time with --step-timeout; what was pulled is kept"))
        })
    }

    async fn fetch(&self, id: StepId, form: Form, begun: Instant) -> Result<Done, BuildError> {
        let known = match (&self.graph.step(id).op, self.demand.cached.get(&id)) {
            (Op::Base(base), _) => Done::known(pull::layers(&base.image), None),
            (_, Some(hit)) => Done::known(vec![hit.layer.clone()], Some(hit.record.clone())),
            _ => return Err(BuildError::new(ErrorKind::Step, "there is nothing to fetch")),
        };
        let is_hit = known.record.is_some();
        if !is_hit {
            self.progress.send(Event::StepStarted { id: shown(id) });
        }
        let brought = match is_hit {
            true => self.bring_result(id, &known.layers, form).await,
            false => self.bring(id, &known.layers, form).await,
        };
        match brought {
            // A known result stays one, however long its way is.
            Ok(was_here) if was_here || is_hit => self.progress.send(Event::StepCached { id: shown(id) }),
            Ok(_) => {
                let duration = begun.elapsed();
                self.progress.send(Event::StepFinished { id: shown(id), duration });
            }
            Err(error) if is_hit => return Err(self.miss(&known, error)),
            Err(error) => {
                self.progress.send(Event::StepFailed { id: shown(id), message: error.message.clone() });
                return Err(error);
            }
        }
        self.keep_fetched(id, &known)?;
        Ok(Done { duration: begun.elapsed(), ..known })
    }

    /// Brings layers here. True where there was nothing to do.
    async fn bring(&self, id: StepId, layers: &[Layer], form: Form) -> Result<bool, BuildError> {
        let fetch = |form| pull::fetch(&self.client, &self.engine, &self.progress, layers.to_vec(), form);
        let was_here = fetch(form).await?;
        // Where the files were here already, their blob need not be.
        if form != Form::Blob && self.demand.takes_blobs(id, layers, self.options.blobs_here) {
            return Ok(fetch(Form::Blob).await? && was_here);
        }
        Ok(was_here)
    }

    /// Brings layers of a remote cache here, and makes sure that they are what their records promise.
    async fn bring_result(&self, id: StepId, layers: &[Layer], form: Form) -> Result<bool, BuildError> {
        let was_here = self.bring(id, layers, form).await?;
        pull::check(&self.engine, layers).await?;
        Ok(was_here)
    }

    /// A result of a remote cache that cannot be had is a miss: the build begins again without it.
    fn miss(&self, done: &Done, mut error: BuildError) -> BuildError {
        let store = self.engine.store();
        let blobs = done.layers.iter().filter_map(|layer| Some(&layer.elsewhere.as_ref()?.blob.descriptor));
        let mut here = blobs.filter(|blob| store.has_blob(blob));
        // What was right when it came here is no fault of the cache's: the store is mended.
        let is_ours = error.recovery == Recovery::MendStore
            && tokio::task::block_in_place(|| here.any(|blob| !self.engine.has_whole_blob(blob)));
        if is_ours {
            let hint = "build again; `fanfold cache verify` looks at all of the store";
            return BuildError { kind: ErrorKind::Retryable, ..error }.with_hint(hint);
        }
        if error.kind == ErrorKind::Platform {
            error = error.with_hint("leave out the cache that has it, or write it anew with --cache-to");
        }
        let layers: Vec<_> = done.layers.iter().map(|layer| layer.id).collect();
        if !error.is_disk_full() && !self.cancel.is_cancelled() && self.imports.distrust(&layers, &error) {
            error.recovery = Recovery::BeginAgain;
        }
        error
    }

    /// Has a result of a remote cache that is here by now be found without the cache.
    fn keep_fetched(&self, id: StepId, done: &Done) -> Result<(), BuildError> {
        let Some(record) = &done.record else { return Ok(()) };
        let store = self.engine.store();
        store.put_step(&self.graph.step(id).key, record)?;
        Ok(store.put_step(&record.content, record)?)
    }
}

/// A step's name in progress events.
pub(super) fn shown(id: StepId) -> crate::progress::StepId {
    crate::progress::StepId(id.0)
}
