//! Carries out the steps of a graph, as many at once as there are jobs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfold_platforms::Platform;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};

use super::answers::Answers;
use super::crash::Tail;
use super::demand::Demand;
use super::grounds::grounds;
use super::pull::{self, Form};
use super::running::{self, Running};
use super::schedule::Schedule;
use super::{BuildError, ErrorKind, Options, Source, Stop};
use crate::engine::{
    Cancel, Command, CopySource, Engine, EngineError, Layer, Needs, OutputLine, Programs, State,
};
use crate::plan::{CopyFrom, CopyOp, Graph, Op, RunOp, StepId, WorkdirOp};
use crate::progress::{Event, Progress, Stream, Warning, human};
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
}

/// The result of a step.
#[derive(Debug, Clone)]
pub(super) struct Done {
    /// The layers that it adds: one, or those of an image.
    pub(super) layers: Vec<Layer>,
    /// When it was carried out, in seconds since 1970; `None` for an image.
    pub(super) created: Option<i64>,
    /// How long it took.
    pub(super) duration: Duration,
    /// The machines that copied programs are for, each with the first such program.
    pub(super) programs: Programs,
    /// What is to be said of it.
    pub(super) notes: Vec<String>,
}

/// What carrying out a step gave.
struct Made {
    layer: Layer,
    programs: Programs,
    notes: Vec<String>,
}

/// The stacks that a step works on.
struct States {
    below: State,
    inputs: BTreeMap<StepId, State>,
    /// What tells them from others that the same steps have made; `None` where a step has no result.
    grounds: Option<Grounds>,
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
        let mut results: BTreeMap<StepId, Done> =
            self.demand.cached.iter().map(|(id, record)| (*id, cached(record))).collect();
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
            // Pulling a base takes no job: it waits for the network, not for a core.
            let mut later = VecDeque::new();
            while let Some(id) = queue.pop_front() {
                let is_base = matches!(self.graph.step(id).op, Op::Base(_));
                if !is_base && busy >= self.options.jobs {
                    later.push_back(id);
                    continue;
                }
                busy += usize::from(!is_base);
                let state = self.states(id, &results);
                begun.begin(id);
                let task = running.spawn(self.clone().step(id, state));
                if is_base {
                    pulls.push(task);
                }
            }
            queue = later;
            let ended = tokio::select! {
                ended = running.join_next() => ended,
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
            busy -= usize::from(!matches!(self.graph.step(id).op, Op::Base(_)));
            match result {
                Ok(done) => {
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
        let inputs = step.inputs().into_iter().map(|id| (id, stack(Some(id)))).collect();
        let layer = |id: StepId| results.get(&id)?.layers.first().map(|layer| layer.id);
        States { below: stack(step.below), inputs, grounds: grounds(&self.graph, step, &layer) }
    }

    async fn step(self, id: StepId, states: States) -> Ended {
        let begun = Instant::now();
        let step = self.graph.step(id);
        if let Op::Base(base) = &step.op {
            let result = self.base_in_time(id, base, begun).await;
            return (id, result.map_err(|error| error.at(step.origin.span, &step.platform)));
        }
        self.progress.send(Event::StepStarted { id: shown(id) });
        let executor = self.clone();
        let carried_out = spawn_blocking(move || executor.carry_out(id, &states)).await;
        let result = match carried_out.expect("carrying out a step does not panic") {
            Ok(Made { layer, programs, notes }) => {
                let duration = begun.elapsed();
                self.progress.send(Event::StepFinished { id: shown(id), duration });
                Ok(Done { layers: vec![layer], created: Some(self.engine.now()), duration, programs, notes })
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

    /// Pulls a base, as long as a step may take.
    async fn base_in_time(
        &self,
        id: StepId,
        base: &crate::plan::BaseOp,
        begun: Instant,
    ) -> Result<Done, BuildError> {
        let Some(limit) = self.options.step_timeout else { return self.base(id, base, begun).await };
        tokio::time::timeout(limit, self.base(id, base, begun)).await.unwrap_or_else(|_| {
            let limit = human::duration(limit);
            let message = format!("the pull took longer than the {limit} of --step-timeout");
            self.progress.send(Event::StepFailed { id: shown(id), message: message.clone() });
            Err(BuildError::new(ErrorKind::Step, message)
                .with_hint("give it more time with --step-timeout; what was pulled is kept"))
        })
    }

    async fn base(&self, id: StepId, base: &crate::plan::BaseOp, begun: Instant) -> Result<Done, BuildError> {
        let form = if self.demand.needs(id).directory {
            Form::Directory
        } else if self.demand.sealed_bases.contains(&id) {
            Form::Blob
        } else {
            Form::Index
        };
        self.progress.send(Event::StepStarted { id: shown(id) });
        match pull::fetch(&self.client, &self.engine, &self.progress, pull::layers(&base.image), form).await {
            Ok(true) => self.progress.send(Event::StepCached { id: shown(id) }),
            Ok(false) => {
                let duration = begun.elapsed();
                self.progress.send(Event::StepFinished { id: shown(id), duration });
            }
            Err(error) => {
                self.progress.send(Event::StepFailed { id: shown(id), message: error.message.clone() });
                return Err(error);
            }
        }
        Ok(Done {
            layers: pull::layers(&base.image),
            created: None,
            duration: begun.elapsed(),
            programs: Programs::new(),
            notes: Vec::new(),
        })
    }

    /// Carries out one step, on a thread that may wait.
    fn carry_out(&self, id: StepId, states: &States) -> Result<Made, BuildError> {
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled.into());
        }
        let step = self.graph.step(id);
        let needs = self.demand.needs(id);
        let made = match &step.op {
            Op::Run(op) => self.run(id, op, states, needs)?,
            Op::Copy(op) => self.copy(id, op, states, needs)?,
            Op::Workdir(op) => self.workdir(id, op, &states.below, needs)?,
            Op::Base(_) | Op::Merge(_) => {
                return Err(BuildError::new(ErrorKind::Step, "an image is pulled, not carried out"));
            }
        };
        if let Some(grounds) = states.grounds.clone() {
            let (layer, notes) = (made.layer.id, made.notes.clone());
            let record = StepRecord {
                layer,
                grounds,
                content: step.key,
                created: self.engine.now(),
                notes,
                platform: step.platform.to_string(),
                text: step.origin.text.clone(),
            };
            self.engine.store().put_step(&step.key, &record)?;
        }
        Ok(made)
    }

    fn workdir(&self, id: StepId, op: &WorkdirOp, below: &State, needs: Needs) -> Result<Made, BuildError> {
        let layer = self.engine.workdir(&self.graph.step(id).key, op, below, needs)?;
        Ok(Made { layer, programs: Programs::new(), notes: Vec::new() })
    }

    fn copy(&self, id: StepId, op: &CopyOp, states: &States, needs: Needs) -> Result<Made, BuildError> {
        let step = self.graph.step(id);
        let nothing = State::default();
        let contexts = op
            .parts
            .iter()
            .map(|part| match &part.from {
                CopyFrom::Files(files) => self.answers.files(files),
                CopyFrom::Step(_) | CopyFrom::Nothing => Ok(None),
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| BuildError {
                hint: error.hint.clone(),
                ..BuildError::new(ErrorKind::Step, error.message)
            })?;
        let sources: Vec<_> = op
            .parts
            .iter()
            .zip(&contexts)
            .map(|(part, context)| match context {
                Some(context) => CopySource::Context(context),
                None => {
                    let input = part.from.step().and_then(|id| states.inputs.get(&id));
                    CopySource::State(input.unwrap_or(&nothing))
                }
            })
            .collect();
        let copied = self.engine.copy(&step.key, op, &sources, &states.below, needs)?;
        Ok(Made { layer: copied.layer, programs: copied.programs, notes: copied.notes })
    }

    /// Says what there is to be said of steps, whether they were carried out or are from an earlier
    /// build: each remark on a line once, with its platform where it is of one platform alone.
    fn say_notes(&self, results: &BTreeMap<StepId, Done>) {
        let mut said: BTreeMap<(u32, String), (StepId, BTreeSet<Platform>)> = BTreeMap::new();
        for (id, done) in results {
            let step = self.graph.step(*id);
            for text in &done.notes {
                let place = (step.origin.span.first, step.origin.told(text.clone()));
                let platforms = &mut said.entry(place).or_insert((*id, BTreeSet::new())).1;
                platforms.extend(step.targets.iter().cloned());
            }
        }
        for ((_, text), (id, platforms)) in said {
            let step = self.graph.step(id);
            let platform = Some(step.platform.clone()).filter(|_| platforms.len() < 2);
            let warning = self.source.remark(&text, step.origin.span);
            self.progress.send(Event::Warning(Warning { platform, ..warning }));
        }
    }

    fn run(&self, id: StepId, op: &RunOp, states: &States, needs: Needs) -> Result<Made, BuildError> {
        let step = self.graph.step(id);
        let emulated = self.options.emulator(&step.platform).map(|emulator| (emulator, Tail::default()));
        let output = |line: OutputLine| {
            if let Some((_, tail)) = &emulated {
                tail.push(&line.text);
            }
            let stream = if line.stderr { Stream::Stderr } else { Stream::Stdout };
            self.progress.send(Event::StepOutput { id: shown(id), stream, text: line.text });
        };
        let command = Command {
            key: &step.key,
            op,
            platform: &step.platform,
            below: &states.below,
            inputs: &states.inputs,
            needs,
        };
        let (layer, notes) = self.engine.run(&command, &output).map_err(|error| {
            let hint = match (&error, &emulated) {
                (EngineError::Step(failure), Some((emulator, tail))) => tail.hint(step, emulator, failure),
                _ => None,
            };
            let mut error = BuildError::from(error);
            error.hint = hint.or(error.hint);
            error
        })?;
        if needs.blob {
            self.engine.blob(&layer)?;
        }
        Ok(Made { layer, programs: Programs::new(), notes })
    }
}

fn cached(record: &StepRecord) -> Done {
    Done {
        layers: vec![Layer::made(record.layer)],
        created: Some(record.created),
        duration: Duration::ZERO,
        programs: Programs::new(),
        notes: record.notes.clone(),
    }
}

/// A step's name in progress events.
pub(super) fn shown(id: StepId) -> crate::progress::StepId {
    crate::progress::StepId(id.0)
}
