//! Plans all targets into one graph.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use fanfold_platforms::Platform;

use super::instruction::StageBuilder;
use super::key::chain_key;
use super::platform_args::refuse_unsupported;
use super::stage::{self, BaseName};
use super::survey::Faults;
use super::{
    Graph, HistoryLine, Op, Origin, PlanError, PlanErrorKind, Request, ResolvedImage, Resolver, Step, StepId,
    Target, Wanted, Warning, contexts,
};
use crate::dockerfile::{Dockerfile, Kind, Span};
use crate::image::{Digest, ImageConfig};

/// What planning led to.
#[derive(Debug)]
pub enum Outcome {
    /// Everything is known.
    Ready(Graph),
    /// These images have to be resolved first; then plan again.
    Wanted(Vec<Wanted>),
}

/// Plans the Dockerfile for all platforms of the request.
///
/// # Errors
///
/// Fails for a fault in the Dockerfile or the request, and for a copy whose sources the build
/// context does not have.
pub fn plan(
    dockerfile: &Dockerfile,
    request: &Request,
    resolver: &dyn Resolver,
) -> Result<Outcome, PlanError> {
    refuse_unsupported(request)?;
    let target_stage = stage::target_stage(dockerfile, request)?;
    let mut planner = Planner::new(dockerfile, request, resolver);
    planner.anew = stage::without_cache(dockerfile, request)?;
    planner.lint_from_lines();
    for target in &request.platforms {
        match planner.stage(target_stage, target) {
            Ok(state) => {
                let finished = planner.target(target_stage, target, &state)?;
                planner.graph.targets.push(finished);
            }
            Err(Stop::Waiting) => {}
            Err(Stop::Fault(error)) => return Err(planner.blame_variables(error).with_platform(target)),
        }
    }
    if planner.wanted.is_empty() {
        planner.note_unused();
        let mut graph = planner.graph;
        attribute(&mut graph);
        Ok(Outcome::Ready(graph))
    } else {
        Ok(Outcome::Wanted(planner.wanted))
    }
}

/// How deep stages may be based on stages. No Dockerfile that people write comes near it.
pub(super) const DEEPEST: usize = 128;

/// The fault of a stage that is based on too many others.
pub(super) fn too_deep(dockerfile: &Dockerfile, index: usize) -> PlanError {
    let text = format!("more than {DEEPEST} stages are needed one for the other");
    PlanError::at(dockerfile.stages[index].span, text).with_hint("make fewer stages of them")
}

/// Tells each step which targets need it.
pub(super) fn attribute(graph: &mut Graph) {
    let needs: Vec<_> = graph
        .targets
        .iter()
        .map(|target| {
            let mut seen = BTreeSet::new();
            let mut open: Vec<_> = target.tip.into_iter().collect();
            while let Some(id) = open.pop() {
                if seen.insert(id) {
                    let step = graph.step(id);
                    open.extend(step.below);
                    open.extend(step.inputs());
                }
            }
            (target.platform.clone(), seen)
        })
        .collect();
    for (platform, seen) in needs {
        for id in seen {
            graph.steps[id.0 as usize].targets.push(platform.clone());
        }
    }
}

/// Why planning a stage did not come to its end.
#[derive(Debug, Clone)]
pub(super) enum Stop {
    /// An image has to be resolved first; it is on the list.
    Waiting,
    /// The Dockerfile cannot be built.
    Fault(PlanError),
}

impl From<PlanError> for Stop {
    fn from(error: PlanError) -> Self {
        Self::Fault(error)
    }
}

/// A stage after its last instruction, for one target.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    pub(super) platform: Platform,
    /// The step that the stage itself began on.
    pub(super) begun: Option<StepId>,
    pub(super) tip: Option<StepId>,
    pub(super) config: ImageConfig,
    pub(super) history: Vec<HistoryLine>,
    pub(super) scope: super::scope::Scope,
    pub(super) base: Option<Arc<ResolvedImage>>,
    /// Whether the stage, or one below it, has a WORKDIR.
    pub(super) workdir_set: bool,
}

/// Planning in progress.
pub(super) struct Planner<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) request: &'a Request,
    pub(super) resolver: &'a dyn Resolver,
    pub(super) graph: Graph,
    /// The warnings of the graph, to note each once.
    pub(super) noted: HashSet<Warning>,
    by_key: HashMap<Digest, StepId>,
    pub(super) stages: HashMap<(usize, Platform), Result<Rc<StageState>, Stop>>,
    pub(super) wanted: Vec<Wanted>,
    /// Stages whose earlier results are not used.
    anew: BTreeSet<usize>,
    /// Arguments that triggers of bases have declared, beside those of the Dockerfile itself.
    pub(super) declared: BTreeSet<String>,
    /// Ids of the cache mounts that were met.
    pub(super) caches: BTreeSet<String>,
    /// How many stages wait for the one that is planned.
    depth: usize,
    /// Where this is set, faults are collected here and planning goes on behind them.
    pub(super) faults: Option<Faults>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(dockerfile: &'a Dockerfile, request: &'a Request, resolver: &'a dyn Resolver) -> Self {
        Self {
            dockerfile,
            request,
            resolver,
            graph: Graph::default(),
            noted: HashSet::new(),
            by_key: HashMap::new(),
            stages: HashMap::new(),
            wanted: Vec::new(),
            anew: BTreeSet::new(),
            declared: BTreeSet::new(),
            caches: BTreeSet::new(),
            depth: 0,
            faults: None,
        }
    }

    /// A failed part of the plan: the end of it, or where faults are collected, one of them.
    fn or_collect(&mut self, stop: Stop, target: &Platform) -> Result<(), Stop> {
        match (stop, &mut self.faults) {
            (Stop::Fault(fault), Some(faults)) => {
                faults.add(fault, target);
                Ok(())
            }
            (stop, _) => Err(stop),
        }
    }

    /// Plans a stage, once for each target.
    pub(super) fn stage(&mut self, index: usize, target: &Platform) -> Result<Rc<StageState>, Stop> {
        let memo = (index, target.clone());
        if let Some(known) = self.stages.get(&memo) {
            return known.clone();
        }
        if self.depth >= DEEPEST {
            return Err(too_deep(self.dockerfile, index).into());
        }
        self.depth += 1;
        let result = self.plan_stage(index, target);
        self.depth -= 1;
        self.stages.insert(memo, result.clone());
        result
    }

    fn plan_stage(&mut self, index: usize, target: &Platform) -> Result<Rc<StageState>, Stop> {
        let stage = &self.dockerfile.stages[index];
        if let Some((place, platform)) = stage::replacement(self.dockerfile, self.request, index, target)? {
            return Ok(Rc::new(self.on_context(place, platform, index)?));
        }
        let from = match stage::from_line(self.dockerfile, self.request, index, target) {
            Ok(from) => from,
            Err(fault) => {
                self.or_collect(fault.into(), target)?;
                stage::unreadable(self.dockerfile, self.request, target)
            }
        };
        let platform = from.explicit.clone().unwrap_or_else(|| target.clone());
        let begun = match &from.base {
            BaseName::Stage(base) => self.stage(*base, target).and_then(|below| {
                let platform = stage::inherited_platform(stage, &from, &below.platform)?;
                let mut state = StageState { platform, ..(*below).clone() };
                state.scope.begin(&state.config.config.env);
                Ok(state)
            }),
            BaseName::Scratch => Ok(super::image::on_nothing(platform)),
            BaseName::Context(place) => self.on_context(*place, platform, index),
            BaseName::Image(name) => {
                self.image(name, &platform, stage.span).map(|image| self.on_image(&image, platform, index))
            }
        };
        let begun = match begun {
            Err(stop @ Stop::Fault(_)) => {
                self.or_collect(stop, target)?;
                Ok(super::image::on_nothing(target.clone()))
            }
            begun => begun,
        };
        match begun {
            Ok(mut state) => {
                state.begun = state.tip;
                let mut builder = StageBuilder::new(self, index, target.clone(), from.globals, state);
                if let Err(stop) = builder.fire_triggers() {
                    builder.planner.or_collect(stop, target)?;
                }
                for instruction in &stage.instructions {
                    if let Err(stop) = builder.apply(instruction) {
                        builder.planner.or_collect(stop, target)?;
                    }
                }
                Ok(Rc::new(builder.finish()))
            }
            Err(Stop::Waiting) => {
                // Whatever else the stage needs is asked for in the same round. What is wrong with it
                // is said when the stage itself is planned.
                for instruction in &stage.instructions {
                    let names = match &instruction.kind {
                        Kind::Copy(copy) => copy.from.iter().cloned().collect(),
                        Kind::Run(run) => super::run::mount_sources(run),
                        _ => Vec::new(),
                    };
                    for name in names {
                        self.foresee(&name, index, target, instruction.span);
                    }
                }
                Err(Stop::Waiting)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Asks for what `--from` of a stage names, before the stage itself can be planned.
    fn foresee(&mut self, name: &str, index: usize, target: &Platform, span: Span) {
        match stage::find(self.dockerfile, name, self.dockerfile.stages.len()) {
            Some(other) if other < index => drop(self.stage(other, target)),
            Some(_) => {}
            // A number is a stage or nothing.
            None if name == "scratch" || name.parse::<usize>().is_ok() => {}
            None if contexts::find(self.request, name, target).is_some() => {}
            None => drop(self.copy_image(name, target, span)),
        }
    }

    /// The step with this key: the one that is there, or a new one.
    pub(super) fn intern(
        &mut self,
        own: Digest,
        op: Op,
        below: Option<StepId>,
        platform: Platform,
        origin: Origin,
    ) -> StepId {
        let key_of = |id: StepId| self.graph.step(id).key;
        let inputs: Vec<_> = op.inputs().into_iter().map(key_of).collect();
        let key = chain_key(&own, below.map(key_of).as_ref(), &inputs);
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let id =
            StepId(u32::try_from(self.graph.steps.len()).expect("a Dockerfile has fewer than 2^32 steps"));
        self.graph.steps.push(Step {
            key,
            own,
            op,
            below,
            platform,
            anew: false,
            targets: Vec::new(),
            origin,
        });
        self.by_key.insert(key, id);
        id
    }

    /// Has a step of a stage carried out anew if the stage's earlier results are not to be used. A step
    /// that other stages share is carried out once, so it is made anew for all of them.
    pub(super) fn renew(&mut self, id: StepId, stage: usize) {
        if self.anew.contains(&stage) {
            self.graph.steps[id.0 as usize].anew = true;
        }
    }

    pub(super) fn target(
        &self,
        index: usize,
        target: &Platform,
        state: &StageState,
    ) -> Result<Target, PlanError> {
        let stage = &self.dockerfile.stages[index];
        let platform = if state.platform == *target {
            target.clone()
        } else if self.request.explicit_platforms {
            return Err(PlanError::at(
                stage.span,
                format!("this stage is for {}, so it cannot be the image for {target}", state.platform),
            )
            .with_hint(format!("drop --platform on this FROM, or build with --platform {}", state.platform))
            .with_word("--platform")
            .with_platform(target)
            .with_kind(PlanErrorKind::Platform));
        } else {
            state.platform.clone()
        };
        let mut config = state.config.clone();
        config.platform = platform.clone();
        config.config.labels.extend(self.request.labels.iter().cloned());
        Ok(Target {
            platform,
            tip: state.tip,
            config,
            history: state.history.clone(),
            base: state.base.clone(),
        })
    }
}
