//! The steps that are being carried out, and since when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::BuildError;
use super::stop::Stop;
use crate::plan::{Graph, StepId};
use crate::progress;

/// Steps with the moment in which each began.
#[derive(Debug, Default)]
pub(super) struct Running(BTreeMap<StepId, Instant>);

impl Running {
    pub(super) fn begin(&mut self, id: StepId) {
        self.0.insert(id, Instant::now());
    }

    pub(super) fn end(&mut self, id: StepId) {
        self.0.remove(&id);
    }

    /// How long each has been running, the longest first.
    pub(super) fn times(&self) -> Vec<(StepId, Duration)> {
        let mut times: Vec<_> = self.0.iter().map(|(id, begun)| (*id, begun.elapsed())).collect();
        times.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        times
    }
}

/// The failures of a build that was ended from outside: where its time was over, one for each step that
/// was running then.
pub(super) fn failures(stop: Stop, running: &[(StepId, Duration)], graph: &Graph) -> Vec<BuildError> {
    if running.is_empty() || matches!(stop, Stop::Signal(_)) {
        return vec![stop.error("with no step running")];
    }
    let failure = |(id, time): &(StepId, Duration)| {
        let step = graph.step(*id);
        let doing = format!("with this step running for {}", progress::human::duration(*time));
        let error = stop.error(&doing).at(step.origin.span, &step.platform);
        let message = step.origin.told(error.message);
        BuildError { message, step: Some(step.origin.text.clone()), whole: true, ..error }
    };
    running.iter().map(failure).collect()
}
