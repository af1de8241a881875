//! All stages for all platforms, whether a target needs them or not: for checks, which build nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use fanfold_platforms::Platform;

use super::planner::{Planner, Stop, attribute};
use super::platform_args::refuse_unsupported;
use super::stage::{self, BaseName};
use super::{Graph, Op, PlanError, Request, Resolver, StepId, Wanted};
use crate::dockerfile::{Dockerfile, Kind, Span};

/// What planning all stages found.
#[derive(Debug)]
pub struct Survey {
    /// Steps and warnings of all stages. It is not to be carried out: it may have gaps.
    pub graph: Graph,
    /// What keeps the Dockerfile from being built, each once, in the order of the lines. A platform is
    /// named where not all have the fault.
    pub faults: Vec<PlanError>,
    /// Each stage on each platform, as far as it could be planned, in order.
    pub stages: Vec<StageOn>,
    /// The stage that would be built, by its place in the file.
    pub target: Option<usize>,
    /// What is not known yet. With images missing, plan again when they are resolved; missing files
    /// change nothing here.
    pub wanted: Vec<Wanted>,
    /// Whether more was found than the [`MOST_FOUND`] faults and as many warnings that are listed.
    pub cut: bool,
}

/// A stage for one target platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageOn {
    /// Its place in the file, from 0.
    pub stage: usize,
    /// The platform of the image that is asked for.
    pub target: Platform,
    /// The platform that the stage itself is for.
    pub platform: Platform,
    /// What it is based on, with variables filled in.
    pub base: String,
    /// Its own steps, without those of its base.
    pub steps: Vec<StepId>,
    /// Whether the target needs it.
    pub needed: bool,
}

/// As many faults and as many warnings are listed: nobody mends more at once, and each costs time to show.
pub const MOST_FOUND: usize = 1000;

/// Faults that were found so far, each once, in the order of the lines.
#[derive(Debug, Default)]
pub(super) struct Faults {
    found: BTreeMap<(u32, String), (PlanError, BTreeSet<Platform>)>,
    /// Whether some were left out.
    cut: bool,
}

impl Faults {
    /// Adds a fault that was found for a target.
    pub(super) fn add(&mut self, fault: PlanError, target: &Platform) {
        let place = fault.span.map_or(0, |span| span.first);
        if self.found.len() >= MOST_FOUND && !self.found.contains_key(&(place, fault.message.clone())) {
            self.cut = true;
            return;
        }
        let known = self.found.entry((place, fault.message.clone())).or_insert((fault, BTreeSet::new()));
        known.1.insert(target.clone());
    }

    fn finish(self, platforms: &[Platform]) -> Vec<PlanError> {
        let each = self.found.into_values().map(|(fault, targets)| match targets.first() {
            Some(first) if targets.len() < platforms.len() => fault.with_platform(first),
            _ => PlanError { platform: None, ..fault },
        });
        each.collect()
    }
}

/// Plans all stages for all platforms of the request, and goes on behind every fault.
pub fn survey(dockerfile: &Dockerfile, request: &Request, resolver: &dyn Resolver) -> Survey {
    let mut planner = Planner::new(dockerfile, request, resolver);
    planner.lint_from_lines();
    let mut faults = Faults::default();
    let mut add = |fault: PlanError| request.platforms.iter().for_each(|on| faults.add(fault.clone(), on));
    if let Err(fault) = refuse_unsupported(request) {
        add(fault);
    }
    let target = stage::target_stage(dockerfile, request).map_err(add).ok();
    planner.faults = Some(faults);
    for platform in &request.platforms {
        let Some(index) = target else { break };
        let planned = planner.stage(index, platform).and_then(|state| {
            let image = planner.target(index, platform, &state)?;
            planner.graph.targets.push(image);
            Ok(())
        });
        planner.collect(planned.err(), platform);
    }
    // Whatever is planned by now is what the target needs.
    let needed: HashSet<_> = planner.stages.keys().cloned().collect();
    let mut stages = Vec::new();
    for index in 0..dockerfile.stages.len() {
        for platform in &request.platforms {
            match planner.stage(index, platform) {
                Ok(state) => stages.push(StageOn {
                    stage: index,
                    target: platform.clone(),
                    platform: state.platform.clone(),
                    base: base_name(dockerfile, request, index, platform),
                    steps: own_steps(&planner.graph, state.tip, state.begun),
                    needed: needed.contains(&(index, platform.clone())),
                }),
                Err(stop) => planner.collect(Some(stop), platform),
            }
        }
    }
    planner.note_unused();
    if let Some(target) = target {
        planner.lint_build_stages(&stages, target);
    }
    let faults = planner.faults.take().unwrap_or_default();
    let cut = faults.cut || planner.graph.warnings.len() > MOST_FOUND;
    let faults = faults.finish(&request.platforms);
    let mut graph = planner.graph;
    attribute(&mut graph);
    Survey { graph, faults, stages, target, wanted: planner.wanted, cut }
}

/// The steps of a chain above the one that it began on, lowest first.
fn own_steps(graph: &Graph, tip: Option<StepId>, begun: Option<StepId>) -> Vec<StepId> {
    let below = |id: &StepId| graph.step(*id).below;
    let mut steps: Vec<_> = std::iter::successors(tip, below).take_while(|id| Some(*id) != begun).collect();
    steps.reverse();
    steps
}

fn base_name(dockerfile: &Dockerfile, request: &Request, index: usize, target: &Platform) -> String {
    match stage::from_line(dockerfile, request, index, target).map(|from| from.base) {
        Ok(BaseName::Scratch) => "scratch".to_owned(),
        Ok(BaseName::Stage(base)) => stage::display_name(dockerfile, base),
        Ok(BaseName::Context(place)) => request.contexts[place].name.clone(),
        Ok(BaseName::Image(name)) => name.to_string(),
        Err(_) => dockerfile.stages[index].base.clone(),
    }
}

impl Planner<'_> {
    fn collect(&mut self, stop: Option<Stop>, target: &Platform) {
        if let (Some(Stop::Fault(fault)), Some(faults)) = (stop, &mut self.faults) {
            faults.add(fault, target);
        }
    }

    /// Checks for stages that run for the target's platform although only files are taken from them:
    /// most could run on the build platform, which takes no emulation.
    fn lint_build_stages(&mut self, stages: &[StageOn], target: usize) {
        let (dockerfile, request) = (self.dockerfile, self.request);
        let Some(platform) = request.platforms.first() else { return };
        let bases: Vec<Option<BaseName>> = (0..dockerfile.stages.len())
            .map(|index| stage::from_line(dockerfile, request, index, platform).ok().map(|from| from.base))
            .collect();
        let chain = |from: usize| {
            std::iter::successors(Some(from), |index| match bases.get(*index) {
                Some(Some(BaseName::Stage(base))) => Some(*base),
                _ => None,
            })
        };
        let kept: BTreeSet<usize> = chain(target).collect();
        let mut copied = BTreeSet::new();
        for index in stages.iter().filter(|on| on.needed).map(|on| on.stage).collect::<BTreeSet<_>>() {
            for instruction in &dockerfile.stages[index].instructions {
                let names = match &instruction.kind {
                    Kind::Copy(copy) => copy.from.iter().cloned().collect(),
                    Kind::Run(run) => super::run::mount_sources(run),
                    _ => Vec::new(),
                };
                copied.extend(names.iter().filter_map(|name| stage::find(dockerfile, name, index)));
            }
        }
        let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for index in copied {
            let Some(root) = chain(index).last().filter(|root| !kept.contains(root)) else { continue };
            let from_image = matches!(bases.get(root), Some(Some(BaseName::Image(_))));
            if !from_image || chain(index).any(|at| dockerfile.stages[at].platform.is_some()) {
                continue;
            }
            let members: BTreeSet<usize> = chain(index).collect();
            let runs = |id: &StepId| matches!(self.graph.step(*id).op, Op::Run(_));
            let foreign = stages.iter().filter(|on| {
                let build = &request.build_platform;
                let same =
                    on.platform.os() == build.os() && on.platform.architecture() == build.architecture();
                members.contains(&on.stage) && on.needed && !same && on.steps.iter().any(runs)
            });
            let platforms: Vec<String> = foreign.map(|on| on.platform.to_string()).collect();
            if !platforms.is_empty() {
                let known = found.entry(root).or_default();
                for platform in platforms {
                    if !known.contains(&platform) {
                        known.push(platform);
                    }
                }
            }
        }
        for (root, platforms) in found {
            let from = &dockerfile.stages[root];
            let name = stage::display_name(dockerfile, root);
            let platforms = platforms.join(", ");
            let message = format!(
                "Stage '{name}' runs its commands for {platforms}, although only its files are taken; on the build platform they need no emulation"
            );
            let hint = format!(
                "write `FROM --platform=$BUILDPLATFORM {}` and have its tools build for $TARGETPLATFORM",
                from.base
            );
            let span: Span = from.span;
            self.warn("EmulatedBuildStage", message, span, Some(&from.base), Some(hint));
        }
    }
}
