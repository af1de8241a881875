//! What has to be done: every step of the wanted images that has no usable result, and what those
//! steps need in turn. Nothing below a hit is pulled, unpacked or run.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::Needs;
use crate::plan::{Graph, Op, StepId};
use crate::store::StepRecord;

/// The part of a graph that a build has to look at.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// Steps whose result is known from an earlier build.
    pub(super) cached: BTreeMap<StepId, StepRecord>,
    /// Steps to be carried out.
    pub(super) work: BTreeSet<StepId>,
    /// Images whose layers are needed.
    pub(super) bases: BTreeSet<StepId>,
    /// The forms in which each step's layers are needed.
    pub(super) needs: BTreeMap<StepId, Needs>,
    /// Images of which nothing but the blobs is needed.
    pub(super) sealed_bases: BTreeSet<StepId>,
}

impl Demand {
    /// Finds out what to do, given what the cache knows.
    pub(super) fn new(graph: &Graph, lookup: impl Fn(StepId) -> Option<StepRecord>) -> Self {
        let mut usable = BTreeMap::new();
        for id in graph.ids() {
            let step = graph.step(id);
            let grounded = step.below.is_none_or(|below| {
                matches!(graph.step(below).op, Op::Base(_)) || usable.contains_key(&below)
            });
            // A result on top of something that would be made anew could contradict it.
            if grounded
                && !matches!(step.op, Op::Base(_))
                && let Some(record) = lookup(id)
            {
                usable.insert(id, record);
            }
        }
        let mut demand = Self::default();
        let mut read = BTreeSet::new();
        let mut open = Vec::new();
        for target in &graph.targets {
            for id in graph.chain(target.tip) {
                demand.needs.entry(id).or_default().blob = true;
                open.push(id);
            }
        }
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let step = graph.step(id);
            match (&step.op, usable.get(&id)) {
                (Op::Base(_), _) => drop(demand.bases.insert(id)),
                (_, Some(record)) => drop(demand.cached.insert(id, *record)),
                (op, None) => {
                    demand.work.insert(id);
                    let below = graph.chain(step.below);
                    if matches!(op, Op::Run(_)) {
                        for id in &below {
                            demand.needs.entry(*id).or_default().directory = true;
                        }
                    }
                    let input = graph.chain(step.input());
                    read.extend(below.iter().chain(&input).copied());
                    open.extend(below);
                    open.extend(input);
                }
            }
        }
        demand.sealed_bases = demand.bases.difference(&read).copied().collect();
        demand
    }

    /// The steps that must have ended before this one can begin.
    pub(super) fn dependencies(&self, graph: &Graph, id: StepId) -> BTreeSet<StepId> {
        let step = graph.step(id);
        let below = graph.chain(step.below);
        let input = graph.chain(step.input());
        below
            .into_iter()
            .chain(input)
            .filter(|id| self.work.contains(id) || self.bases.contains(id))
            .collect()
    }

    /// The forms in which a step's layers are needed.
    pub(super) fn needs(&self, id: StepId) -> Needs {
        self.needs.get(&id).copied().unwrap_or_default()
    }
}
