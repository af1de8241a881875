//! Stages: what they are built on, for which platform, and by which names they are found.

use std::collections::BTreeSet;

use fanfold_platforms::Platform;

use super::platform_args::platform_args;
use super::scope::Scope;
use super::{ImageName, PlanError, PlanErrorKind, Request, contexts};
use crate::dockerfile::{Dockerfile, Kind, Stage, expand, suggest};
use crate::image::Reference;

/// What a FROM names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BaseName {
    /// Nothing at all.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// A context with a name, by its place in the request.
    Context(usize),
    /// An image.
    Image(ImageName),
}

/// A FROM line for one target platform, with its variables filled in.
#[derive(Debug, Clone)]
pub(super) struct From {
    /// What it names.
    pub(super) base: BaseName,
    /// `--platform`, where it stands on the line.
    pub(super) explicit: Option<Platform>,
    /// Arguments declared before the first FROM, and the platform arguments.
    pub(super) globals: Scope,
}

/// Index of the stage that is to be built.
pub(super) fn target_stage(dockerfile: &Dockerfile, request: &Request) -> Result<usize, PlanError> {
    let last = dockerfile.stages.len().checked_sub(1);
    let last = last.ok_or_else(|| PlanError::request("dockerfile contains no stages to build"))?;
    let Some(wanted) = &request.target else { return Ok(last) };
    if let Some(index) = find(dockerfile, wanted, dockerfile.stages.len()) {
        return Ok(index);
    }
    Err(unknown_stage(dockerfile, "target stage", wanted))
}

/// The name of no stage, where `what` was expected.
fn unknown_stage(dockerfile: &Dockerfile, what: &str, wanted: &str) -> PlanError {
    let error = PlanError::request(format!("{what} \"{wanted}\" could not be found"));
    let names: Vec<_> = dockerfile.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
    match suggest::nearest(wanted, &names) {
        Some(name) => error.with_hint(format!("did you mean {name}?")),
        None if names.is_empty() => {
            let last = dockerfile.stages.len().saturating_sub(1);
            error.with_hint(format!("the stages have no names, only numbers from 0 to {last}"))
        }
        None => error.with_hint(format!("the stages are {}", names.join(", "))),
    }
}

/// The stage of this name or number among the first `before` ones; the latest of equal names.
pub(super) fn find(dockerfile: &Dockerfile, name: &str, before: usize) -> Option<usize> {
    let lower = name.to_lowercase();
    let by_name =
        dockerfile.stages[..before].iter().rposition(|stage| stage.name.as_deref() == Some(lower.as_str()));
    by_name.or_else(|| name.parse().ok().filter(|index| *index < before))
}

/// The stages whose earlier results are not used: by name, number or `stage-N`, as they are shown.
///
/// # Errors
///
/// Fails for the name of no stage.
pub(super) fn without_cache(
    dockerfile: &Dockerfile,
    request: &Request,
) -> Result<BTreeSet<usize>, PlanError> {
    let mut stages = BTreeSet::new();
    for wanted in &request.no_cache_stages {
        let indexes = 0..dockerfile.stages.len();
        let named = |index: &usize| display_name(dockerfile, *index).eq_ignore_ascii_case(wanted);
        let named: Vec<_> = indexes.clone().filter(named).collect();
        if named.is_empty() {
            match find(dockerfile, wanted, indexes.end) {
                Some(index) => drop(stages.insert(index)),
                None => return Err(unknown_stage(dockerfile, "stage", wanted)),
            }
        }
        stages.extend(named);
    }
    Ok(stages)
}

/// The context that stands for a whole stage, by its place in the request, and the platform that the
/// stage is for.
///
/// # Errors
///
/// Fails for a `--platform` that means no platform.
pub(super) fn replacement(
    dockerfile: &Dockerfile,
    request: &Request,
    index: usize,
    target: &Platform,
) -> Result<Option<(usize, Platform)>, PlanError> {
    let stage = &dockerfile.stages[index];
    let Some(name) =
        stage.name.as_deref().filter(|name| request.contexts.iter().any(|context| context.is(name)))
    else {
        return Ok(None);
    };
    let globals = globals(dockerfile, request, target)?;
    let platform = explicit(dockerfile, stage, &globals)?.unwrap_or_else(|| target.clone());
    Ok(contexts::find(request, name, &platform).map(|(place, _)| (place, platform)))
}

/// What people call the stage.
pub(super) fn display_name(dockerfile: &Dockerfile, index: usize) -> String {
    dockerfile.stages[index].name.clone().unwrap_or_else(|| format!("stage-{index}"))
}

/// Arguments declared before the first FROM, as one target platform sees them.
pub(super) fn globals(
    dockerfile: &Dockerfile,
    request: &Request,
    target: &Platform,
) -> Result<Scope, PlanError> {
    let end = dockerfile.stages.len();
    let stage = match &request.target {
        Some(name) if find_by_name(dockerfile, name, end).is_some() => name.clone(),
        _ => {
            let wanted = &dockerfile.stages[target_stage(dockerfile, request)?];
            wanted.name.clone().unwrap_or_else(|| "default".to_owned())
        }
    };
    let mut scope = Scope::default();
    for (name, value) in platform_args(&request.build_platform, target, &stage) {
        let given = request.build_args.get(&name);
        scope.set(&name, given.unwrap_or(&value));
    }
    for instruction in &dockerfile.preamble {
        let Kind::Arg(declarations) = &instruction.kind else { continue };
        for declaration in declarations {
            let value = match (request.build_args.get(&declaration.name), &declaration.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => {
                    let expanded = expand::expand(default, dockerfile.escape, &|name| scope.get(name))
                        .map_err(|error| PlanError::at(instruction.span, error.to_string()))?;
                    Some(expanded.text)
                }
                (None, None) => None,
            };
            scope.declare(&declaration.name, value.as_deref());
        }
    }
    Ok(scope)
}

/// Fills in the variables of a stage's FROM line for one target platform.
pub(super) fn from_line(
    dockerfile: &Dockerfile,
    request: &Request,
    index: usize,
    target: &Platform,
) -> Result<From, PlanError> {
    let stage = &dockerfile.stages[index];
    let globals = globals(dockerfile, request, target)?;
    let explicit = explicit(dockerfile, stage, &globals)?;
    let expanded = expand::expand(&stage.base, dockerfile.escape, &|name| globals.get(name))
        .map_err(|error| PlanError::at(stage.span, error.to_string()).with_word(&stage.base))?;
    let (name, undefined) = (expanded.text, expanded.undefined.first());
    if name.is_empty() {
        let text = format!("base name ({}) should not be blank", stage.base);
        let mut error = PlanError::at(stage.span, text).with_word(&stage.base);
        if let Some(variable) = undefined {
            error = error.with_hint(undeclared_hint(variable, &globals));
        }
        return Err(error);
    }
    let base = match find_by_name(dockerfile, &name, index) {
        Some(stage) => BaseName::Stage(stage),
        None if name == "scratch" => BaseName::Scratch,
        None => match contexts::find(request, &name, explicit.as_ref().unwrap_or(target)) {
            Some((place, _)) => BaseName::Context(place),
            None => {
                let reference: Reference = name.parse().map_err(|error| {
                    let fault = not_a_base(dockerfile, stage, &name, &error);
                    match undefined {
                        Some(variable) => fault.with_hint(undeclared_hint(variable, &globals)),
                        None => fault,
                    }
                })?;
                BaseName::Image(ImageName::Registry(reference))
            }
        },
    };
    Ok(From { base, explicit, globals })
}

/// The platform that `--platform` of a FROM line names.
fn explicit(dockerfile: &Dockerfile, stage: &Stage, globals: &Scope) -> Result<Option<Platform>, PlanError> {
    let Some(word) = &stage.platform else { return Ok(None) };
    let fault = |text: String| PlanError::at(stage.span, text).with_word(word);
    let text = expand::expand(word, dockerfile.escape, &|name| globals.get(name))
        .map_err(|error| fault(error.to_string()))?
        .text;
    if text.is_empty() {
        return Err(fault(format!("empty platform value from expression {word}")));
    }
    let platform =
        text.parse().map_err(|error| fault(format!("failed to parse platform {text}: {error}")))?;
    Ok(Some(platform))
}

/// What stands for a FROM line that cannot be read, where planning goes on behind it.
pub(super) fn unreadable(dockerfile: &Dockerfile, request: &Request, target: &Platform) -> From {
    let globals = globals(dockerfile, request, target).unwrap_or_default();
    From { base: BaseName::Scratch, explicit: None, globals }
}

/// FROM takes names alone: a number is an image.
pub(super) fn find_by_name(dockerfile: &Dockerfile, name: &str, before: usize) -> Option<usize> {
    let lower = name.to_lowercase();
    dockerfile.stages[..before].iter().rposition(|stage| stage.name.as_deref() == Some(lower.as_str()))
}

fn not_a_base(
    dockerfile: &Dockerfile,
    stage: &Stage,
    name: &str,
    error: &crate::image::ReferenceError,
) -> PlanError {
    let fault = PlanError::at(
        stage.span,
        format!("failed to parse stage name \"{name}\": invalid reference format: {error}"),
    )
    .with_word(&stage.base);
    let names = dockerfile.stages.iter().filter_map(|stage| stage.name.as_deref());
    match suggest::nearest(name, names) {
        Some(known) => fault.with_hint(format!("did you mean the stage {known}?")),
        None => fault,
    }
}

fn undeclared_hint(variable: &str, globals: &Scope) -> String {
    match suggest::nearest(variable, globals.names()) {
        Some(known) => format!("`{variable}` has no value; did you mean ${known}?"),
        None => format!(
            "`{variable}` has no value: declare it with a default before the first FROM (`ARG {variable}=…`) or pass --build-arg {variable}=…"
        ),
    }
}

/// The platform of a stage on another one: that stage's, and `--platform` may only say the same.
pub(super) fn inherited_platform(
    stage: &Stage,
    from: &From,
    inherited: &Platform,
) -> Result<Platform, PlanError> {
    match &from.explicit {
        Some(explicit) if explicit != inherited => Err(PlanError::at(
            stage.span,
            format!(
                "--platform={explicit} has no effect on the stage `{}`, which is for {inherited}",
                stage.base
            ),
        )
        .with_hint("put --platform on the FROM that names the image, or drop it here")
        .with_word("--platform")
        .with_kind(PlanErrorKind::Invalid)),
        _ => Ok(inherited.clone()),
    }
}
