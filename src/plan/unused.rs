//! What the caller has given and nothing asks for: most likely it is misspelt.

use std::collections::BTreeSet;

use super::planner::Planner;
use super::platform_args::{is_builder_arg, is_platform_arg, is_proxy};
use super::{Request, Warning};
use crate::dockerfile::{Dockerfile, Kind, suggest};

/// The build argument that stands for `--timestamp`.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

impl Planner<'_> {
    /// Says which build arguments nobody declares, which contexts nobody names, which caches to be
    /// shared nobody has, and which checks to be skipped do not exist.
    pub(super) fn note_unused(&mut self) {
        let (dockerfile, request) = (self.dockerfile, self.request);
        let arguments = undeclared(dockerfile, request, &self.declared);
        let caches = request.shared_caches.iter().filter(|id| !self.caches.contains(*id)).map(|id| {
            format!("no cache mount has the id {id} of --shared-cache-mount{}", advice(id, &self.caches))
        });
        let messages: Vec<_> = arguments.chain(unnamed(dockerfile, request)).chain(caches).collect();
        for message in messages {
            self.note(Warning { rule: None, message, span: None, word: None, hint: None });
        }
        for (message, span) in dockerfile.checks.unknown() {
            self.note(Warning { rule: None, message, span, word: None, hint: None });
        }
    }
}

/// ` (did you mean X?)`, where there is something near.
fn advice(word: &str, known: &BTreeSet<impl AsRef<str>>) -> String {
    suggest::nearest(word, known).map(|known| format!(" (did you mean {known}?)")).unwrap_or_default()
}

/// Contexts that no FROM, no `--from` and no stage has the name of.
fn unnamed<'a>(dockerfile: &'a Dockerfile, request: &'a Request) -> impl Iterator<Item = String> + 'a {
    let mut names = BTreeSet::new();
    for stage in &dockerfile.stages {
        names.extend(stage.name.iter().chain([&stage.base]).cloned());
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Copy(copy) => names.extend(copy.from.iter().cloned()),
                Kind::Run(run) => names.extend(super::run::mount_sources(run)),
                // Triggers are for others to fire.
                _ => {}
            }
        }
    }
    // A variable may stand for any name.
    let is_open = names.iter().any(|name| name.contains('$'));
    request.contexts.iter().filter(move |_| !is_open).filter_map(move |context| {
        let is_named = names.iter().any(|name| context.is(name));
        let advice = advice(&context.name, &names);
        (!is_named).then(|| format!("nothing asks for the build context {}{advice}", context.name))
    })
}

/// Build arguments that no ARG declares: most likely they are misspelt.
fn undeclared<'a>(
    dockerfile: &'a Dockerfile,
    request: &'a Request,
    by_triggers: &'a BTreeSet<String>,
) -> impl Iterator<Item = String> + 'a {
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
        .chain(by_triggers.iter().map(String::as_str))
        .collect();
    let means_something =
        |name: &str| name == EPOCH || is_proxy(name) || is_platform_arg(name) || is_builder_arg(name);
    request.build_args.keys().filter(move |name| !means_something(name)).filter_map(move |name| {
        if declared.contains(name.as_str()) {
            return None;
        }
        Some(format!("no ARG declares the build argument {name}{}", advice(name, &declared)))
    })
}
