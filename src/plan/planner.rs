//! Plans all targets into one graph.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use fanfold_platforms::Platform;

use super::instruction::StageBuilder;
use super::key::Key;
use super::platform_args::{is_platform_arg, is_proxy, is_unsupported};
use super::stage::{self, BaseName};
use super::{
    BaseOp, Graph, HistoryLine, Op, Origin, PlanError, PlanErrorKind, Request, ResolvedImage, Resolver, Step,
    StepId, Target, Wanted,
};
use crate::dockerfile::{Dockerfile, Kind, Span, suggest};
use crate::image::{Digest, ImageConfig, Reference};

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
    if let Some(name) = request.build_args.keys().find(|name| is_unsupported(name)) {
        return Err(PlanError::request(format!("the build argument {name} is not supported")));
    }
    let target_stage = stage::target_stage(dockerfile, request)?;
    let mut planner = Planner {
        dockerfile,
        request,
        resolver,
        graph: Graph::default(),
        by_key: HashMap::new(),
        stages: HashMap::new(),
        wanted: Vec::new(),
    };
    for target in &request.platforms {
        match planner.stage(target_stage, target) {
            Ok(state) => {
                let finished = planner.target(target_stage, target, &state)?;
                planner.graph.targets.push(finished);
            }
            Err(Stop::Waiting) => {}
            Err(Stop::Fault(error)) => return Err(error.with_platform(target)),
        }
    }
    if planner.wanted.is_empty() {
        let mut graph = planner.graph;
        graph.warnings.extend(undeclared(dockerfile, request).map(|text| (text, None)));
        attribute(&mut graph);
        Ok(Outcome::Ready(graph))
    } else {
        Ok(Outcome::Wanted(planner.wanted))
    }
}

/// Build arguments that no ARG declares: most likely they are misspelt.
fn undeclared<'a>(dockerfile: &'a Dockerfile, request: &'a Request) -> impl Iterator<Item = String> + 'a {
    let stages = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    let declared: BTreeSet<&str> = dockerfile
        .preamble
        .iter()
        .chain(stages)
        .filter_map(|instruction| match &instruction.kind {
            Kind::Arg(declarations) => Some(declarations),
            _ => None,
        })
        .flatten()
        .map(|declaration| declaration.name.as_str())
        .collect();
    let means_something = |name: &str| name == EPOCH || is_proxy(name) || is_platform_arg(name);
    request.build_args.keys().filter(move |name| !means_something(name)).filter_map(move |name| {
        if declared.contains(name.as_str()) {
            return None;
        }
        let advice = suggest::nearest(name, &declared).map(|known| format!(" (did you mean {known}?)"));
        Some(format!("no ARG declares the build argument {name}{}", advice.unwrap_or_default()))
    })
}

/// The build argument that stands for `--timestamp`.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Tells each step which targets need it.
fn attribute(graph: &mut Graph) {
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
#[derive(Debug)]
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
    pub(super) tip: Option<StepId>,
    pub(super) config: ImageConfig,
    pub(super) history: Vec<HistoryLine>,
    pub(super) scope: super::scope::Scope,
    pub(super) base: Option<Arc<ResolvedImage>>,
}

/// Planning in progress.
pub(super) struct Planner<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) request: &'a Request,
    pub(super) resolver: &'a dyn Resolver,
    pub(super) graph: Graph,
    by_key: HashMap<Digest, StepId>,
    stages: HashMap<(usize, Platform), Option<Rc<StageState>>>,
    wanted: Vec<Wanted>,
}

impl Planner<'_> {
    /// Plans a stage, once for each target.
    pub(super) fn stage(&mut self, index: usize, target: &Platform) -> Result<Rc<StageState>, Stop> {
        let memo = (index, target.clone());
        if let Some(known) = self.stages.get(&memo) {
            return known.clone().ok_or(Stop::Waiting);
        }
        let result = self.plan_stage(index, target);
        match &result {
            Ok(state) => drop(self.stages.insert(memo, Some(Rc::clone(state)))),
            Err(Stop::Waiting) => drop(self.stages.insert(memo, None)),
            Err(Stop::Fault(_)) => {}
        }
        result
    }

    fn plan_stage(&mut self, index: usize, target: &Platform) -> Result<Rc<StageState>, Stop> {
        let stage = &self.dockerfile.stages[index];
        let from = stage::from_line(self.dockerfile, self.request, index, target)?;
        let begun = match &from.base {
            BaseName::Stage(base) => self.stage(*base, target).and_then(|below| {
                let platform = stage::inherited_platform(stage, &from, &below.platform)?;
                Ok(StageState { platform, ..(*below).clone() })
            }),
            BaseName::Scratch => {
                Ok(super::image::on_nothing(from.explicit.clone().unwrap_or_else(|| target.clone())))
            }
            BaseName::Image(reference) => {
                let platform = from.explicit.clone().unwrap_or_else(|| target.clone());
                self.image(reference, &platform, from.explicit.is_some(), stage.span)
                    .and_then(|image| self.on_image(&image, platform, index))
            }
        };
        match begun {
            Ok(state) => {
                let mut builder = StageBuilder::new(self, index, target.clone(), from.globals, state);
                for instruction in &stage.instructions {
                    builder.apply(instruction)?;
                }
                Ok(Rc::new(builder.finish()))
            }
            Err(Stop::Waiting) => {
                // Whatever else the stage needs is asked for in the same round. What is wrong with it
                // is said when the stage itself is planned.
                for instruction in &stage.instructions {
                    if let Kind::Copy(copy) = &instruction.kind
                        && let Some(name) = &copy.from
                    {
                        let platform = from.explicit.as_ref().unwrap_or(target);
                        match stage::find(self.dockerfile, name, self.dockerfile.stages.len()) {
                            Some(other) if other < index => drop(self.stage(other, target)),
                            Some(_) => {}
                            None => drop(self.copy_image(name, platform, instruction.span)),
                        }
                    }
                }
                Err(Stop::Waiting)
            }
            Err(fault) => Err(fault),
        }
    }

    /// The image of a `--from`.
    pub(super) fn copy_image(
        &mut self,
        name: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<Arc<ResolvedImage>, Stop> {
        let reference: Reference = name.parse().map_err(|error| {
            PlanError::at(span, format!("--from={name} is neither a stage nor an image: {error}"))
        })?;
        self.image(&reference, platform, false, span)
    }

    fn image(
        &mut self,
        reference: &Reference,
        platform: &Platform,
        explicit: bool,
        span: Span,
    ) -> Result<Arc<ResolvedImage>, Stop> {
        if let Some(image) = self.resolver.image(reference, platform) {
            return Ok(image);
        }
        let known = |wanted: &Wanted| wanted.reference == *reference && wanted.platform == *platform;
        if !self.wanted.iter().any(known) {
            self.wanted.push(Wanted {
                reference: reference.clone(),
                platform: platform.clone(),
                explicit,
                span,
            });
        }
        Err(Stop::Waiting)
    }

    /// A stage that begins with an image.
    fn on_image(
        &mut self,
        image: &Arc<ResolvedImage>,
        platform: Platform,
        index: usize,
    ) -> Result<StageState, Stop> {
        let stage = &self.dockerfile.stages[index];
        if let Some(trigger) = image.config.config.on_build.first() {
            return Err(PlanError::unsupported(
                stage.span,
                &format!("the ONBUILD trigger `{trigger}` of the base image"),
            )
            .into());
        }
        let origin = Origin {
            stage: stage::display_name(self.dockerfile, index),
            text: stage.text.clone(),
            span: stage.span,
            number: 1,
            of: super::instruction::count_steps(stage),
        };
        let tip = self.base(image, platform.clone(), origin);
        Ok(super::image::on_image(image, platform, tip))
    }

    /// The step that takes an image's layers.
    pub(super) fn base(&mut self, image: &Arc<ResolvedImage>, platform: Platform, origin: Origin) -> StepId {
        let key = Key::new("base", None).digest(&image.manifest.digest).finish();
        self.intern(key, Op::Base(BaseOp { image: Arc::clone(image) }), None, platform, origin)
    }

    /// The step with this key: the one that is there, or a new one.
    pub(super) fn intern(
        &mut self,
        key: Digest,
        op: Op,
        below: Option<StepId>,
        platform: Platform,
        origin: Origin,
    ) -> StepId {
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let id =
            StepId(u32::try_from(self.graph.steps.len()).expect("a Dockerfile has fewer than 2^32 steps"));
        self.graph.steps.push(Step { key, op, below, platform, targets: Vec::new(), origin });
        self.by_key.insert(key, id);
        id
    }

    fn target(&self, index: usize, target: &Platform, state: &StageState) -> Result<Target, PlanError> {
        let stage = &self.dockerfile.stages[index];
        let platform = if state.platform == *target {
            target.clone()
        } else if self.request.explicit_platforms {
            return Err(PlanError::at(
                stage.span,
                format!("this stage is for {}, so it cannot be the image for {target}", state.platform),
            )
            .with_hint(format!("drop --platform on this FROM, or build with --platform {}", state.platform))
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
