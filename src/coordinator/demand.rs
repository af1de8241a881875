//! What has to be done: every step of the wanted images that has no usable result, and what those
//! steps need in turn. Nothing below a hit is pulled, unpacked or run.

use std::collections::{BTreeMap, BTreeSet};

use super::grounds::grounds;
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
    /// Layers to be laid over others, with the step that makes each.
    pub(super) merges: BTreeMap<StepId, StepId>,
}

impl Demand {
    /// Finds out what to do, given what the cache knows of each step, and whether a layer is here in a
    /// form that can be used.
    pub(super) fn new(
        graph: &Graph,
        lookup: impl Fn(StepId) -> Option<StepRecord>,
        is_here: impl Fn(&StepRecord) -> bool,
    ) -> Self {
        let usable = usable(graph, lookup, is_here);
        let mut demand = Self::default();
        let mut read = BTreeSet::new();
        let mut open = Vec::new();
        for target in &graph.targets {
            for id in graph.chain(target.tip) {
                demand.want(graph, id, |needs| needs.blob = true);
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
                (Op::Merge(merge), _) => {
                    demand.merges.insert(id, merge.layer);
                    open.push(merge.layer);
                }
                (_, Some(record)) => drop(demand.cached.insert(id, record.clone())),
                (op, None) => {
                    demand.work.insert(id);
                    let inputs: Vec<_> =
                        step.inputs().into_iter().flat_map(|id| graph.chain(Some(id))).collect();
                    let below = graph.chain(step.below);
                    // A command runs on directories, and its mounts are directories.
                    if matches!(op, Op::Run(_)) {
                        for id in below.iter().chain(&inputs) {
                            demand.want(graph, *id, |needs| needs.directory = true);
                        }
                    }
                    for id in below.into_iter().chain(inputs) {
                        read.insert(id);
                        open.push(id);
                    }
                }
            }
        }
        demand.sealed_bases = demand.bases.difference(&read).copied().collect();
        demand
    }

    /// Asks for a form of a step's layers. Those of a merge are another step's.
    fn want(&mut self, graph: &Graph, id: StepId, ask: impl Fn(&mut Needs)) {
        ask(self.needs.entry(id).or_default());
        if let Op::Merge(merge) = &graph.step(id).op {
            ask(self.needs.entry(merge.layer).or_default());
        }
    }

    /// Everything that is carried out, pulled or put together.
    pub(super) fn all_work(&self) -> impl Iterator<Item = StepId> {
        self.bases.iter().chain(&self.work).chain(self.merges.keys()).copied()
    }

    /// The steps that must have ended before this one can begin.
    pub(super) fn dependencies(&self, graph: &Graph, id: StepId) -> BTreeSet<StepId> {
        let step = graph.step(id);
        if let Some(layer) = self.merges.get(&id) {
            return self.work.get(layer).copied().into_iter().collect();
        }
        let below = graph.chain(step.below);
        let inputs = step.inputs().into_iter().flat_map(|id| graph.chain(Some(id)));
        below
            .into_iter()
            .chain(inputs)
            .filter(|id| self.work.contains(id) || self.bases.contains(id) || self.merges.contains_key(id))
            .collect()
    }

    /// The forms in which a step's layers are needed.
    pub(super) fn needs(&self, id: StepId) -> Needs {
        self.needs.get(&id).copied().unwrap_or_default()
    }
}

/// The steps whose result is known from an earlier build. A result on top of something that would be
/// made anew could contradict it, so that it is not used; nor is one that was made of files of a step
/// that has to be carried out anew, or that was carried out anew since.
fn usable(
    graph: &Graph,
    lookup: impl Fn(StepId) -> Option<StepRecord>,
    is_here: impl Fn(&StepRecord) -> bool,
) -> BTreeMap<StepId, StepRecord> {
    let mut usable = BTreeMap::new();
    let mut records: BTreeMap<StepId, StepRecord> = BTreeMap::new();
    let mut known = BTreeSet::new();
    let mut anew = BTreeSet::new();
    for id in graph.ids() {
        let step = graph.step(id);
        if step.anew || step.below.into_iter().chain(step.inputs()).any(|id| anew.contains(&id)) {
            anew.insert(id);
            continue;
        }
        let grounded = step.below.is_none_or(|below| known.contains(&below));
        let is_known = match &step.op {
            Op::Base(_) => true,
            Op::Merge(merge) => grounded && known.contains(&merge.layer),
            _ => {
                let layer = |id: StepId| records.get(&id).map(|record| record.layer);
                let fits =
                    |record: &StepRecord| grounds(graph, step, &layer).as_ref() == Some(&record.grounds);
                let record = lookup(id).filter(fits);
                records.extend(record.clone().map(|record| (id, record)));
                let record = record.filter(|record| grounded && is_here(record));
                let is_usable = record.is_some();
                usable.extend(record.map(|record| (id, record)));
                is_usable
            }
        };
        if is_known {
            known.insert(id);
        }
    }
    usable
}
