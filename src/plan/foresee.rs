//! Which RUN instructions a build may carry out, known before anything is resolved.
//!
//! Whether a platform can be run on this machine must be known before anything is pulled.

use std::collections::BTreeMap;

use fanfold_platforms::Platform;

use super::planner::{DEEPEST, too_deep};
use super::stage::{self, BaseName};
use super::{PlanError, Request, onbuild};
use crate::dockerfile::{Copy, Dockerfile, Instruction, Kind, Span};

/// A RUN instruction that a build may have to carry out on a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSite {
    /// The platform of its stage.
    pub platform: Platform,
    /// Its place.
    pub span: Span,
    /// The instruction on one line.
    pub text: String,
}

/// The first RUN of each platform, among the stages that the targets need.
///
/// # Errors
///
/// Fails as [`super::plan`] does for faults in FROM lines and the target's name.
pub fn foresee_runs(dockerfile: &Dockerfile, request: &Request) -> Result<Vec<RunSite>, PlanError> {
    let target_stage = stage::target_stage(dockerfile, request)?;
    let mut sites = Vec::new();
    for target in &request.platforms {
        let mut walk =
            Walk { dockerfile, request, target, platforms: BTreeMap::new(), sites: &mut sites, depth: 0 };
        walk.visit(target_stage)?;
    }
    Ok(sites)
}

struct Walk<'a> {
    dockerfile: &'a Dockerfile,
    request: &'a Request,
    target: &'a Platform,
    platforms: BTreeMap<usize, Platform>,
    sites: &'a mut Vec<RunSite>,
    depth: usize,
}

impl Walk<'_> {
    /// Visits a stage and what it needs, and gives its platform.
    fn visit(&mut self, index: usize) -> Result<Platform, PlanError> {
        if let Some(platform) = self.platforms.get(&index) {
            return Ok(platform.clone());
        }
        if self.depth >= DEEPEST {
            return Err(too_deep(self.dockerfile, index));
        }
        self.depth += 1;
        let platform = self.visit_new(index);
        self.depth -= 1;
        platform
    }

    fn visit_new(&mut self, index: usize) -> Result<Platform, PlanError> {
        let stage = &self.dockerfile.stages[index];
        if let Some((_, platform)) = stage::replacement(self.dockerfile, self.request, index, self.target)? {
            return Ok(platform);
        }
        let from = stage::from_line(self.dockerfile, self.request, index, self.target)?;
        let platform = match &from.base {
            BaseName::Stage(base) => {
                let inherited = self.visit(*base)?;
                stage::inherited_platform(stage, &from, &inherited)?
            }
            _ => from.explicit.unwrap_or_else(|| self.target.clone()),
        };
        self.platforms.insert(index, platform.clone());
        let mut instructions = stage.instructions.clone();
        if let BaseName::Stage(base) = from.base {
            instructions.extend(self.triggers(base, stage.span)?);
        }
        for instruction in &instructions {
            match &instruction.kind {
                Kind::Run(run) => {
                    if self.sites.iter().all(|site| site.platform != platform) {
                        self.sites.push(RunSite {
                            platform: platform.clone(),
                            span: instruction.span,
                            text: instruction.text.clone(),
                        });
                    }
                    for name in super::run::mount_sources(run) {
                        self.visit_named(&name, index)?;
                    }
                }
                Kind::Copy(Copy { from: Some(name), .. }) => self.visit_named(name, index)?,
                _ => {}
            }
        }
        Ok(platform)
    }

    /// Visits the earlier stage of this name, if it is one.
    fn visit_named(&mut self, name: &str, before: usize) -> Result<(), PlanError> {
        if let Some(other) = stage::find(self.dockerfile, name, before) {
            self.visit(other)?;
        }
        Ok(())
    }

    /// What a stage leaves for the stages on it.
    fn triggers(&self, base: usize, span: Span) -> Result<Vec<Instruction>, PlanError> {
        if stage::replacement(self.dockerfile, self.request, base, self.target)?.is_some() {
            return Ok(Vec::new());
        }
        let texts = self.dockerfile.stages[base].instructions.iter().filter_map(|instruction| {
            match &instruction.kind {
                Kind::Onbuild(text) => Some(text),
                _ => None,
            }
        });
        texts.map(|text| onbuild::trigger(text, span)).collect()
    }
}
