//! Carrying out one step, unless what it would give is known.

use std::time::Duration;

use super::BuildError;
use super::ErrorKind;
use super::crash::Tail;
use super::execute::{Done, Executor, States, shown};
use super::known::Hit;
use crate::engine::{
    Command, CopySource, EngineError, Layer, Needs, OutputLine, PreparedCopy, Programs, State,
};
use crate::image::Digest;
use crate::plan::{CopyFrom, CopyOp, Op, RunOp, StepId, content_key};
use crate::progress::{Event, Stream};
use crate::store::StepRecord;

/// What carrying out a step gave.
struct Made {
    layer: Layer,
    programs: Programs,
    notes: Vec<String>,
}

impl Made {
    fn plain(layer: Layer) -> Self {
        Self { layer, programs: Programs::new(), notes: Vec::new() }
    }
}

impl Executor {
    /// Carries out one step, on a thread that may wait.
    pub(super) fn carry_out(&self, id: StepId, states: &States) -> Result<Done, BuildError> {
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled.into());
        }
        let step = self.graph.step(id);
        let needs = self.demand.needs(id);
        let content = || content_key(&step.own, &states.grounds.below, &states.grounds.inputs);
        match &step.op {
            Op::Run(op) => self.once(id, states, content(), None, || self.run(id, op, states, needs)),
            Op::Workdir(op) => self.once(id, states, content(), None, || {
                Ok(Made::plain(self.engine.workdir(op, &states.below, needs)?))
            }),
            Op::Copy(op) => {
                let nothing = State::default();
                let copy = self.prepare(op, states, &nothing)?;
                self.once(id, states, copy.content, Some(&copy), || {
                    Ok(Made::plain(self.engine.keep_copy(&copy, needs)?))
                })
            }
            Op::Base(_) | Op::Merge(_) => {
                Err(BuildError::new(ErrorKind::Step, "an image is pulled, not carried out"))
            }
        }
    }

    /// Makes a result, unless one is known under the content key, or somebody else is making it: another
    /// platform of this build, or another build. What was made in this build is known in any case. What is to
    /// be said of a `copy` is its own, whoever made its layer.
    fn once(
        &self,
        id: StepId,
        states: &States,
        content: Digest,
        copy: Option<&PreparedCopy>,
        make: impl FnOnce() -> Result<Made, BuildError>,
    ) -> Result<Done, BuildError> {
        let step = self.graph.step(id);
        let reuses = !self.options.no_cache && !step.anew;
        let _turn = self.engine.lock(&content)?;
        let just_made = || self.made.lock().ok()?.get(&content).cloned();
        let known = || if reuses { self.known(&content, &step.op, states) } else { None };
        let hit = just_made().or_else(known);
        let cached = hit.is_some();
        let (mut made, created) = match hit {
            Some(Hit { record, layer }) => {
                (Made { notes: record.notes, ..Made::plain(layer) }, record.created)
            }
            None => (make()?, self.engine.now()),
        };
        if let Some(copy) = copy {
            made = Made { layer: made.layer, programs: copy.programs.clone(), notes: copy.notes.clone() };
        }
        let record = StepRecord {
            layer: made.layer.id,
            grounds: states.grounds.clone(),
            content,
            created,
            notes: made.notes,
            platform: step.platform.to_string(),
            text: step.origin.text.clone(),
        };
        let store = self.engine.store();
        store.put_step(&step.key, &record)?;
        if !cached {
            store.put_step(&content, &record)?;
            if let Ok(mut results) = self.made.lock() {
                results.insert(content, Hit { record: record.clone(), layer: made.layer.clone() });
            }
        }
        let layers = vec![made.layer];
        Ok(Done { layers, record: Some(record), cached, duration: Duration::ZERO, programs: made.programs })
    }

    /// The result that is known under a content key, here or in a remote cache.
    fn known(&self, content: &Digest, op: &Op, states: &States) -> Option<Hit> {
        let store = self.engine.store();
        if let Some(record) = store.step(content).filter(|record| self.engine.can_use(&record.layer)) {
            return Some(Hit { layer: Layer::made(record.layer), record });
        }
        // A command that stands on what another one has just made has hardly a result anywhere, unless
        // commands give the same results at all times.
        let hopeful = matches!(op, Op::Copy(_)) || states.are_known || self.engine.epoch().is_some();
        if self.imports.is_empty() || !hopeful {
            return None;
        }
        let found = tokio::runtime::Handle::current().block_on(self.imports.look_up(&[*content]));
        found.into_values().flatten().next().map(Hit::from)
    }

    /// Finds out what a copy gives.
    fn prepare<'a>(
        &'a self,
        op: &'a CopyOp,
        states: &'a States,
        nothing: &'a State,
    ) -> Result<PreparedCopy, BuildError> {
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
                    CopySource::State(input.unwrap_or(nothing))
                }
            })
            .collect();
        Ok(self.engine.prepare_copy(op, &sources, &states.below)?)
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
        let command =
            Command { op, platform: &step.platform, below: &states.below, inputs: &states.inputs, needs };
        let (layer, notes) = self.engine.run(&command, &output).map_err(|error| {
            let hint = match (&error, &emulated) {
                (EngineError::Step(failure), Some((emulator, tail))) => tail.hint(step, emulator, failure),
                _ => None,
            };
            let mut error = BuildError::from(error);
            error.hint = hint.or(error.hint);
            error
        })?;
        Ok(Made { notes, ..Made::plain(layer) })
    }
}
