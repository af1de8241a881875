//! What is said of steps beside their results.

use std::collections::{BTreeMap, BTreeSet};

use fanfold_platforms::Platform;

use super::execute::{Done, Executor};
use crate::plan::StepId;
use crate::progress::{Event, Warning};

impl Executor {
    /// Says what there is to be said of steps, whether they were carried out or are from an earlier
    /// build: each remark on a line once, with its platform where it is of one platform alone.
    pub(super) fn say_notes(&self, results: &BTreeMap<StepId, Done>) {
        let mut said: BTreeMap<(u32, String), (StepId, BTreeSet<Platform>)> = BTreeMap::new();
        for (id, done) in results {
            let step = self.graph.step(*id);
            for text in done.notes() {
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
}
