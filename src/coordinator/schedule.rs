//! Which steps can begin: those whose dependencies have ended. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::StepId;

/// The steps of a build on their way from waiting to done.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    waiting: BTreeMap<StepId, BTreeSet<StepId>>,
    ready: BTreeSet<StepId>,
    dependents: BTreeMap<StepId, Vec<StepId>>,
}

impl Schedule {
    /// Steps, each with what must end before it.
    pub(super) fn new(steps: impl IntoIterator<Item = (StepId, BTreeSet<StepId>)>) -> Self {
        let mut schedule = Self::default();
        for (id, dependencies) in steps {
            if dependencies.is_empty() {
                schedule.ready.insert(id);
                continue;
            }
            for dependency in &dependencies {
                schedule.dependents.entry(*dependency).or_default().push(id);
            }
            schedule.waiting.insert(id, dependencies);
        }
        schedule
    }

    /// The next step that can begin.
    pub(super) fn take(&mut self) -> Option<StepId> {
        self.ready.pop_first()
    }

    /// A step has ended well.
    pub(super) fn done(&mut self, id: StepId) {
        for dependent in self.dependents.remove(&id).unwrap_or_default() {
            if let Some(dependencies) = self.waiting.get_mut(&dependent) {
                dependencies.remove(&id);
                if dependencies.is_empty() {
                    self.waiting.remove(&dependent);
                    self.ready.insert(dependent);
                }
            }
        }
    }

    /// Nothing else may begin.
    pub(super) fn stop(&mut self) {
        self.ready.clear();
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_wait_for_all_they_need() {
        let id = StepId;
        let mut schedule = Schedule::new([
            (id(0), BTreeSet::new()),
            (id(1), BTreeSet::from([id(0)])),
            (id(2), BTreeSet::from([id(0), id(1)])),
            (id(3), BTreeSet::new()),
        ]);
        assert_eq!(schedule.take(), Some(id(0)));
        assert_eq!(schedule.take(), Some(id(3)));
        assert_eq!(schedule.take(), None);
        schedule.done(id(0));
        assert_eq!(schedule.take(), Some(id(1)));
        assert_eq!(schedule.take(), None);
        schedule.done(id(1));
        assert_eq!(schedule.take(), Some(id(2)));
    }

    #[test]
    fn what_needs_a_failed_step_never_begins() {
        let mut schedule =
            Schedule::new([(StepId(0), BTreeSet::new()), (StepId(1), BTreeSet::from([StepId(0)]))]);
        schedule.take();
        assert_eq!(schedule.take(), None);
        schedule.stop();
        schedule.done(StepId(0));
        assert_eq!(schedule.take(), None);
    }
}
