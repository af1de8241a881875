//! What has to be done: every step of the wanted images that has no usable result, and what those
//! steps need in turn. Nothing below a hit is pulled, unpacked or run.

use std::collections::{BTreeMap, BTreeSet};

use super::known::Hit;
use super::pull::{self, Form};
use crate::engine::{Layer, Needs};
use crate::image::Origin;
use crate::plan::{Graph, Op, StepId};

/// The part of a graph that a build has to look at.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// Steps whose result is known.
    pub(super) cached: BTreeMap<StepId, Hit>,
    /// Steps to be carried out.
    pub(super) work: BTreeSet<StepId>,
    /// Images whose layers are part of a result, or that a step stands on.
    pub(super) bases: BTreeSet<StepId>,
    /// Images and known results that have to be brought here, in this form.
    pub(super) fetches: BTreeMap<StepId, Form>,
    /// Layers to be laid over others, with the step that makes each.
    pub(super) merges: BTreeMap<StepId, StepId>,
    /// The steps whose layers the images hold.
    pub(super) finals: BTreeSet<StepId>,
    /// The forms in which each step's layers are needed.
    needs: BTreeMap<StepId, Needs>,
    /// Steps whose files others read.
    read: BTreeSet<StepId>,
}

impl Demand {
    /// Finds out what to do, given what is known. `blobs_here` says whether an output takes the images'
    /// blobs from the store: a registry takes them from wherever they are.
    pub(super) fn new(graph: &Graph, known: &BTreeMap<StepId, Hit>, blobs_here: bool) -> Self {
        let mut demand = Self::default();
        let mut open = Vec::new();
        for target in &graph.targets {
            for id in graph.chain(target.tip) {
                demand.want(graph, id, |needs| needs.blob = true);
                demand.finals.insert(id);
                open.push(id);
            }
        }
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let step = graph.step(id);
            match (&step.op, known.get(&id)) {
                (Op::Base(_), _) => drop(demand.bases.insert(id)),
                (Op::Merge(merge), _) => {
                    demand.merges.insert(id, merge.layer);
                    if demand.finals.contains(&id) {
                        demand.finals.insert(merge.layer);
                    }
                    open.push(merge.layer);
                }
                (_, Some(hit)) => drop(demand.cached.insert(id, hit.clone())),
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
                        demand.read.insert(id);
                        if let Op::Merge(merge) = &graph.step(id).op {
                            demand.read.insert(merge.layer);
                        }
                        open.push(id);
                    }
                }
            }
        }
        demand.fetches = demand.fetches(graph, blobs_here);
        demand
    }

    /// What has to be brought here, and in which form.
    fn fetches(&self, graph: &Graph, blobs_here: bool) -> BTreeMap<StepId, Form> {
        let bases = self.bases.iter().filter_map(|id| match &graph.step(*id).op {
            Op::Base(base) => Some((*id, pull::layers(&base.image))),
            _ => None,
        });
        let hits = self.cached.iter().map(|(id, hit)| (*id, vec![hit.layer.clone()]));
        bases.chain(hits).filter_map(|(id, layers)| Some((id, self.form(id, &layers, blobs_here)?))).collect()
    }

    /// The form in which layers have to be here; `None` where they may stay where they are.
    pub(super) fn form(&self, id: StepId, layers: &[Layer], blobs_here: bool) -> Option<Form> {
        match () {
            () if layers.iter().all(|layer| layer.elsewhere.is_none()) => None,
            () if self.needs(id).directory => Some(Form::Directory),
            () if self.read.contains(&id) => Some(Form::Index),
            // Nobody has verified that a cache's blob is the layer that its record promises.
            () if self.takes_blobs(id, layers, blobs_here) => {
                Some(if self.bases.contains(&id) { Form::Blob } else { Form::Index })
            }
            () => None,
        }
    }

    /// Whether the blobs of a step's layers have to be here, in whatever other form they are.
    pub(super) fn takes_blobs(&self, id: StepId, layers: &[Layer], blobs_here: bool) -> bool {
        let elsewhere = layers.iter().filter_map(|layer| layer.elsewhere.as_ref());
        // No registry takes a layer from a folder of this machine.
        let is_local = elsewhere.into_iter().any(|place| matches!(place.origin, Origin::Layout(_)));
        self.needs(id).blob && (blobs_here || is_local)
    }

    /// Asks for a form of a step's layers. Those of a merge are another step's.
    fn want(&mut self, graph: &Graph, id: StepId, ask: impl Fn(&mut Needs)) {
        ask(self.needs.entry(id).or_default());
        if let Op::Merge(merge) = &graph.step(id).op {
            ask(self.needs.entry(merge.layer).or_default());
        }
    }

    /// Everything that is carried out, fetched or put together.
    pub(super) fn all_work(&self) -> impl Iterator<Item = StepId> {
        self.fetches.keys().chain(&self.work).chain(self.merges.keys()).copied()
    }

    /// The steps that must have ended before this one can begin.
    pub(super) fn dependencies(&self, graph: &Graph, id: StepId) -> BTreeSet<StepId> {
        let step = graph.step(id);
        if self.fetches.contains_key(&id) {
            return BTreeSet::new();
        }
        let is_open = |id: &StepId| {
            self.work.contains(id) || self.fetches.contains_key(id) || self.merges.contains_key(id)
        };
        if let Some(layer) = self.merges.get(&id) {
            return std::iter::once(*layer).filter(is_open).collect();
        }
        let below = graph.chain(step.below);
        let inputs = step.inputs().into_iter().flat_map(|id| graph.chain(Some(id)));
        below.into_iter().chain(inputs).filter(is_open).collect()
    }

    /// The forms in which a step's layers are needed.
    pub(super) fn needs(&self, id: StepId) -> Needs {
        self.needs.get(&id).copied().unwrap_or_default()
    }
}
