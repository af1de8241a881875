//! The build checks that need more than the text: variables, platforms, the base, `.dockerignore`.
//!
//! Those that the text alone decides are found by the parser.

use std::collections::BTreeSet;

use super::instruction::StageBuilder;
use super::onbuild::naming_trigger;
use super::planner::Planner;
use super::platform_args::is_platform_arg;
use super::survey::MOST_FOUND;
use super::{CopyFrom, CopyPart, PlanError, Request, Warning, stage};
use crate::dockerfile::{Command, Run, Script, Span, expand, ports, shell, suggest};
use crate::image::Reference;

/// The check that a heredoc stops at its first failing command.
const HEREDOC: &str = "HeredocWithoutErrexit";
/// The check that variables have values.
const UNDEFINED: &str = "UndefinedVar";

impl Planner<'_> {
    /// Notes the finding of a build check, once for all platforms. `word` is the text that it is about.
    pub(super) fn warn(
        &mut self,
        rule: &'static str,
        message: String,
        span: Span,
        word: Option<&str>,
        hint: Option<String>,
    ) {
        if self.dockerfile.checks.reports(rule, span) {
            let word = word.map(str::to_owned);
            self.note(Warning { rule: Some(rule), message, span: Some(span), word, hint });
        }
    }

    /// Notes a warning, once.
    pub(super) fn note(&mut self, warning: Warning) {
        if self.graph.warnings.len() > MOST_FOUND || !self.noted.insert(warning.clone()) {
            return;
        }
        if self.graph.warnings.len() == MOST_FOUND {
            let message = format!("there are more than {MOST_FOUND} warnings; the others are not listed");
            let last = Warning { rule: None, message, span: None, word: None, hint: None };
            self.graph.warnings.push(last);
            return;
        }
        self.graph.warnings.push(warning);
    }

    /// A fault, with the variables of its instruction that have no value: most often they are why.
    pub(super) fn blame_variables(&self, fault: PlanError) -> PlanError {
        let same = |warning: &&Warning| warning.rule == Some(UNDEFINED) && warning.span == fault.span;
        let mut hints: Vec<String> = fault.hint.iter().cloned().collect();
        for warning in self.graph.warnings.iter().filter(same) {
            let reference = warning.word.as_deref().unwrap_or_default();
            let why = warning.hint.as_deref().unwrap_or("no ARG or ENV of the stage sets it");
            hints.push(format!("{reference} is empty here: {why}"));
        }
        PlanError { hint: (!hints.is_empty()).then(|| hints.join("; ")), ..fault }
    }

    /// Checks the FROM lines of all stages, also of those that are not built.
    ///
    /// The same names are defined on all platforms, so one of them is looked at.
    pub(super) fn lint_from_lines(&mut self) {
        let (dockerfile, request) = (self.dockerfile, self.request);
        let Some(target) = request.platforms.first() else { return };
        let defaults = Request { build_args: Default::default(), ..request.clone() };
        // What is wrong with the declarations themselves is said when a stage is planned.
        let Ok(globals) = stage::globals(dockerfile, request, target) else { return };
        let Ok(defaults) = stage::globals(dockerfile, &defaults, target) else { return };
        for (index, stage) in dockerfile.stages.iter().enumerate() {
            for word in [Some(&stage.base), stage.platform.as_ref()].into_iter().flatten() {
                let found = expand::expand(word, dockerfile.escape, &|name| globals.get(name));
                let undefined = found.map(|found| found.undefined).unwrap_or_default();
                for name in undefined {
                    if globals.arguments().iter().any(|(declared, _)| *declared == name) {
                        continue;
                    }
                    let nearest = suggest::nearest(&name, globals.names());
                    let advice = nearest.map(|known| format!(" (did you mean {known}?)")).unwrap_or_default();
                    let message = format!("FROM argument '{name}' is not declared{advice}");
                    let hint = format!("declare it before the first FROM: `ARG {name}=…`");
                    self.warn("UndefinedArgInFrom", message, stage.span, Some(&reference(&name)), Some(hint));
                }
            }
            let Ok(base) = expand::expand(&stage.base, dockerfile.escape, &|name| defaults.get(name)) else {
                continue;
            };
            if stage::find_by_name(dockerfile, &base.text, index).is_none()
                && base.text.parse::<Reference>().is_err()
            {
                let message = format!(
                    "Default value for ARG {} results in empty or invalid base image name",
                    stage.base
                );
                let hint = "give the ARG a default that makes the Dockerfile build without --build-arg";
                let hint = Some(hint.to_owned()).filter(|_| stage.base.contains('$'));
                self.warn("InvalidDefaultArgInFrom", message, stage.span, Some(&stage.base), hint);
            }
        }
    }
}

impl StageBuilder<'_, '_> {
    /// Notes the finding of a build check about a word of an instruction.
    fn warn(&mut self, rule: &'static str, message: String, span: Span, word: &str, hint: Option<String>) {
        let message = naming_trigger(self.trigger.as_deref().unwrap_or_default(), message);
        self.planner.warn(rule, message, span, Some(word), hint);
    }

    /// Notes something that no build check has a name for.
    pub(super) fn remark(&mut self, message: String, span: Span, word: &str, hint: String) {
        let message = naming_trigger(self.trigger.as_deref().unwrap_or_default(), message);
        let word = Some(word.to_owned());
        self.planner.note(Warning { rule: None, message, span: Some(span), word, hint: Some(hint) });
    }

    /// Checks the variables that an expansion looked up in vain.
    pub(super) fn note_undefined(&mut self, names: &[String], span: Span) {
        for name in names {
            let declared = self.state.scope.arguments().iter().any(|(known, _)| known == name);
            if declared {
                continue;
            }
            let (advice, hint) = if self.is_global(name) {
                let hint = format!(
                    "it is defined outside this stage: add `ARG {name}` to the stage, before this line"
                );
                (String::new(), Some(hint))
            } else {
                let nearest = suggest::nearest(name, self.state.scope.names());
                let advice = nearest.map(|known| format!(" (did you mean ${known}?)"));
                let hint = match advice {
                    Some(_) => None,
                    None => Some(self.global_hint(name).unwrap_or_else(|| {
                        "no ARG or ENV of the stage sets it: declare it above this line".to_owned()
                    })),
                };
                (advice.unwrap_or_default(), hint)
            };
            let message = format!("Usage of undefined variable '${name}'{advice}");
            self.warn(UNDEFINED, message, span, &reference(name), hint);
        }
    }

    /// Whether a variable has a value for FROM, but not in a stage that does not declare it.
    fn is_global(&self, name: &str) -> bool {
        self.globals.get(name).is_some()
    }

    /// Advice where a variable is called nearly as one that is defined outside the stage.
    fn global_hint(&self, name: &str) -> Option<String> {
        let known = suggest::nearest(name, self.globals.names())?;
        Some(format!(
            "if {known} is meant, which is defined outside this stage: add `ARG {known}` to the stage"
        ))
    }

    /// Checks that a command gets signals: a shell does not pass them on.
    pub(super) fn lint_command(&mut self, instruction: &str, command: &Command, span: Span) {
        if let Command::Shell(text) = command
            && self.state.config.config.shell.is_none()
        {
            let message = format!(
                "JSON arguments recommended for {instruction} to prevent unintended behavior related to OS signals"
            );
            let hint = "write it as a JSON array, e.g. `[\"program\", \"argument\"]`".to_owned();
            self.warn("JSONArgsRecommended", message, span, text, Some(hint));
        }
    }

    /// Checks that the first WORKDIR of a stage, with those below it, is absolute.
    pub(super) fn lint_workdir(&mut self, path: &str, span: Span) {
        if !self.state.workdir_set && !path.starts_with('/') {
            let message =
                format!("Relative workdir \"{path}\" can have unexpected results if the base image changes");
            let hint = format!("write it from the root: `WORKDIR /{}`", path.trim_start_matches("./"));
            self.warn("WorkdirRelativePath", message, span, path, Some(hint));
        }
        self.state.workdir_set = true;
    }

    /// Checks the form of EXPOSE's words.
    pub(super) fn lint_ports(&mut self, words: &[String], span: Span) {
        for word in words {
            if ports::has_upper_case_protocol(word) {
                let message = format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
                self.warn("ExposeProtoCasing", message, span, word, None);
            }
            if ports::names_host(word) {
                let message = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
                );
                let hint = "name the container's port alone; where it is published is said when it is run";
                self.warn("ExposeInvalidFormat", message, span, word, Some(hint.to_owned()));
            }
        }
    }

    /// Checks that no source of a copy is hidden from it.
    pub(super) fn lint_sources(&mut self, instruction: &str, parts: &[CopyPart], span: Span) {
        for part in parts {
            let CopyFrom::Files(files) = &part.from else { continue };
            for source in &part.selection.sources {
                if let Some(rule) = self.planner.resolver.ignored(files, source) {
                    let verb = if instruction == "ADD" { "Add" } else { "Copy" };
                    let message =
                        format!("Attempting to {verb} file \"{source}\" that is excluded by .dockerignore");
                    let hint = format!("the rule is {rule}");
                    self.warn("CopyIgnoredFile", message, span, source, Some(hint));
                }
            }
        }
    }

    /// Checks the script of a RUN: variables that the builder has but the stage does not, and failures
    /// in the middle that nobody sees.
    pub(super) fn lint_script(&mut self, run: &Run, span: Span) {
        let (text, is_body) = match run.script() {
            Script::Exec(_) => return,
            Script::Text(text) => {
                let is_body = matches!(run.heredocs.as_slice(), [lone] if lone.text() == text);
                (text, is_body)
            }
            Script::Shebang { body, .. } => (body, false),
        };
        if is_body && shell::lacks_errexit(&text, &self.shell()) {
            let message = "a heredoc goes on after a command that fails, and succeeds if the last one does";
            let hint = "begin it with `set -e`, or join the commands with `&&`";
            let name = run.heredocs.first().map(|heredoc| heredoc.name.as_str()).unwrap_or_default();
            self.warn(HEREDOC, message.to_owned(), span, name, Some(hint.to_owned()));
        }
        let assigned = shell::assigned_variables(&text);
        let mut names = BTreeSet::new();
        for (name, _) in shell::shell_variables(&text) {
            if self.state.scope.get(&name).is_some() || !names.insert(name.clone()) {
                continue;
            }
            let declared = self.state.scope.arguments().iter().any(|(known, _)| *known == name);
            if declared || !self.is_global(&name) || assigned.contains(name.as_str()) {
                continue;
            }
            let (rule, why) = if is_platform_arg(&name) {
                ("UndeclaredPlatformArg", "the builder knows but this stage does not declare")
            } else {
                ("UndeclaredGlobalArg", "is declared before the first FROM but not in this stage")
            };
            let message = format!("RUN uses ${name}, which {why}, so it is empty");
            let hint = format!("add `ARG {name}` to the stage, before this line");
            self.warn(rule, message, span, &reference(&name), Some(hint));
        }
    }
}

/// A variable as it is used, which tells its use from other text that is called the same.
fn reference(name: &str) -> String {
    format!("${name}")
}

#[cfg(test)]
mod tests;
