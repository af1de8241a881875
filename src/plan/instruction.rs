//! Carries a stage through its instructions: metadata is folded into the config, work becomes steps.

use fanfold_platforms::Platform;

use super::history;
use super::key::Key;
use super::onbuild;
use super::planner::{Planner, StageState, Stop};
use super::scope::Scope;
use super::stage::display_name;
use super::{HistoryLine, MergeOp, Op, Origin, PlanError, StepId, WorkdirOp};
use crate::dockerfile::{
    self, ArgDecl, Command, HealthTest, Instruction, Kind, Span, Stage, expand, ports, signal,
};
use crate::image::Digest;

/// SHELL where none is set.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A stage on its way from FROM to its last instruction.
pub(super) struct StageBuilder<'p, 'a> {
    pub(super) planner: &'p mut Planner<'a>,
    pub(super) index: usize,
    pub(super) target: Platform,
    pub(super) globals: Scope,
    pub(super) state: StageState,
    cmd_set: bool,
    /// The text of the base's trigger that is applied.
    pub(super) trigger: Option<String>,
    number: u32,
    of: u32,
}

/// How many steps a stage has: its FROM, what the triggers of its base do, and its own.
pub(super) fn count_steps(stage: &Stage, triggers: &[String]) -> u32 {
    let fired = triggers.iter().filter_map(|text| onbuild::trigger(text, stage.span).ok());
    let fired = fired.filter(works).count();
    let own = stage.instructions.iter().filter(|instruction| works(instruction)).count();
    1 + u32::try_from(fired + own).unwrap_or(u32::MAX / 2)
}

/// Whether an instruction becomes a step.
fn works(instruction: &Instruction) -> bool {
    matches!(instruction.kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

/// An absolute path without `.`, `..`, doubled or trailing slashes; `..` ends at the root.
pub(super) fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

impl<'p, 'a> StageBuilder<'p, 'a> {
    pub(super) fn new(
        planner: &'p mut Planner<'a>,
        index: usize,
        target: Platform,
        globals: Scope,
        state: StageState,
    ) -> Self {
        let of = count_steps(&planner.dockerfile.stages[index], &state.config.config.on_build);
        Self { planner, index, target, globals, state, cmd_set: false, trigger: None, number: 1, of }
    }

    pub(super) fn finish(self) -> StageState {
        self.state
    }

    /// Applies one instruction.
    pub(super) fn apply(&mut self, instruction: &Instruction) -> Result<(), Stop> {
        let span = instruction.span;
        match &instruction.kind {
            Kind::Arg(declarations) => self.arg(declarations, span)?,
            Kind::Env(pairs) => {
                let pairs = self.expand_pairs(pairs, span)?;
                for (name, value) in &pairs {
                    self.state.config.config.set_env(name, value);
                    self.state.scope.set(name, value);
                }
                self.metadata(history::pairs(
                    "ENV",
                    pairs.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))),
                ));
            }
            Kind::Label(pairs) => {
                let pairs = self.expand_pairs(pairs, span)?;
                self.state.config.config.labels.extend(pairs.iter().cloned());
                self.metadata(history::pairs(
                    "LABEL",
                    pairs.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))),
                ));
            }
            Kind::Run(run) => self.run(run, instruction)?,
            Kind::Copy(copy) => self.copy(copy, instruction)?,
            Kind::Add(add) => self.add(add, instruction)?,
            Kind::Cmd(command) => {
                self.lint_command("CMD", command, span);
                let words = self.command(command);
                self.metadata(history::quoted("CMD", &words));
                self.state.config.config.cmd = Some(words);
                self.state.config.config.args_escaped = true;
                self.cmd_set = true;
            }
            Kind::Entrypoint(command) => {
                self.lint_command("ENTRYPOINT", command, span);
                let words = self.command(command);
                self.metadata(history::quoted("ENTRYPOINT", &words));
                self.state.config.config.entrypoint = (!words.is_empty()).then_some(words);
                if !self.cmd_set {
                    self.state.config.config.cmd = None;
                }
            }
            Kind::Shell(words) => {
                self.state.config.config.shell = Some(words.clone());
                self.metadata(history::plain("SHELL", words));
            }
            Kind::Expose(words) => self.expose(words, span)?,
            Kind::Volume(words) => self.volume(words, span)?,
            Kind::User(word) => {
                let user = self.expand(word, span)?;
                self.metadata(format!("USER {user}"));
                self.state.config.config.user = user;
            }
            Kind::Workdir(word) => self.workdir(word, instruction)?,
            Kind::Healthcheck(check) => {
                self.metadata(history::healthcheck(check));
                self.state.config.config.healthcheck = Some(healthcheck(check));
            }
            Kind::Stopsignal(word) => {
                let text = self.expand(word, span)?;
                signal::check(&text).map_err(|error| PlanError::at(span, error).with_word(word))?;
                self.metadata(format!("STOPSIGNAL {text}"));
                self.state.config.config.stop_signal = Some(text);
            }
            Kind::Maintainer(text) => {
                self.metadata(format!("MAINTAINER {text}"));
                self.state.config.author = Some(text.clone());
            }
            Kind::Onbuild(trigger) => self.state.config.config.on_build.push(trigger.clone()),
        }
        Ok(())
    }

    /// Adds a history line of an instruction that makes no layer.
    fn metadata(&mut self, created_by: String) {
        self.state.history.push(HistoryLine { created_by, layer: None });
    }

    /// Fills in the variables of one word.
    pub(super) fn expand(&mut self, word: &str, span: Span) -> Result<String, PlanError> {
        let scope = &self.state.scope;
        let expanded = expand::expand(word, self.planner.dockerfile.escape, &|name| scope.get(name))
            .map_err(|error| PlanError::at(span, error.to_string()).with_word(word))?;
        self.note_undefined(&expanded.undefined, span);
        Ok(expanded.text)
    }

    /// Fills in all pairs of one instruction, which sees the values from before it.
    fn expand_pairs(
        &mut self,
        pairs: &[(String, String)],
        span: Span,
    ) -> Result<Vec<(String, String)>, PlanError> {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = self.expand(name, span)?;
                Ok((name, self.expand(value, span)?))
            })
            .collect()
    }

    fn arg(&mut self, declarations: &[ArgDecl], span: Span) -> Result<(), PlanError> {
        let mut shown = Vec::new();
        for declaration in declarations {
            let name = &declaration.name;
            let value = match (self.planner.request.build_args.get(name), &declaration.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default, span)?),
                (None, None) => self.globals.get(name),
            };
            self.state.scope.declare(name, value.as_deref());
            if self.trigger.is_some() {
                self.planner.declared.insert(name.clone());
            }
            shown.push((name.clone(), value));
        }
        self.metadata(history::pairs("ARG", shown.iter().map(|(k, v)| (k.as_str(), v.as_deref()))));
        Ok(())
    }

    pub(super) fn shell(&self) -> Vec<String> {
        let set = self.state.config.config.shell.clone();
        set.unwrap_or_else(|| DEFAULT_SHELL.map(str::to_owned).to_vec())
    }

    fn command(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => {
                let mut words = self.shell();
                words.push(text.clone());
                words
            }
        }
    }

    fn expose(&mut self, words: &[String], span: Span) -> Result<(), PlanError> {
        let mut sorted = words.to_vec();
        sorted.sort();
        let mut expanded = Vec::new();
        for word in &sorted {
            let scope = &self.state.scope;
            let (parts, undefined) =
                expand::expand_words(word, self.planner.dockerfile.escape, &|name| scope.get(name))
                    .map_err(|error| PlanError::at(span, error.to_string()).with_word(word))?;
            self.note_undefined(&undefined, span);
            self.lint_ports(&parts, span);
            expanded.extend(parts);
        }
        let ports = ports::parse(&expanded).map_err(|error| {
            let bad = expanded.iter().find(|word| ports::parse(std::slice::from_ref(word)).is_err());
            PlanError { word: bad.cloned(), ..PlanError::at(span, error.to_string()) }
        })?;
        self.metadata(history::plain("EXPOSE", &ports));
        self.state.config.config.exposed_ports.extend(ports);
        Ok(())
    }

    fn volume(&mut self, words: &[String], span: Span) -> Result<(), PlanError> {
        let mut volumes = Vec::new();
        for word in words {
            let volume = self.expand(word, span)?;
            if volume.is_empty() {
                return Err(PlanError::at(span, "VOLUME specified can not be an empty string"));
            }
            volumes.push(volume);
        }
        self.metadata(history::plain("VOLUME", &volumes));
        self.state.config.config.volumes.extend(volumes);
        Ok(())
    }

    /// The stage's working directory, absolute and clean.
    pub(super) fn cwd(&self) -> String {
        clean_path(&self.state.config.config.working_dir)
    }

    /// Adds a step on top of the stage, with its history line.
    pub(super) fn push(&mut self, own: Digest, op: Op, instruction: &Instruction, created_by: String) {
        let origin = self.next_origin(instruction);
        let platform = self.state.platform.clone();
        let id = self.planner.intern(own, op, self.state.tip, platform, origin);
        self.put_on_top(id, created_by);
    }

    /// Adds a step that does not depend on the stage, with its history line; its layer is laid over
    /// the stage's.
    pub(super) fn push_linked(&mut self, own: Digest, op: Op, instruction: &Instruction, created_by: String) {
        let origin = self.next_origin(instruction);
        let platform = self.state.platform.clone();
        let layer = self.planner.intern(own, op, None, platform.clone(), origin.clone());
        let id = match self.state.tip {
            None => layer,
            Some(_) => {
                let own = Key::new("merge").finish();
                self.planner.renew(layer, self.index);
                let op = Op::Merge(MergeOp { layer });
                self.planner.intern(own, op, self.state.tip, platform, origin)
            }
        };
        self.put_on_top(id, created_by);
    }

    fn put_on_top(&mut self, id: StepId, created_by: String) {
        self.planner.renew(id, self.index);
        self.state.tip = Some(id);
        self.state.history.push(HistoryLine { created_by, layer: Some(id) });
    }

    /// Where the next step of the stage comes from.
    fn next_origin(&mut self, instruction: &Instruction) -> Origin {
        self.number += 1;
        self.origin(instruction)
    }

    /// Where what belongs to the stage's latest step comes from.
    pub(super) fn origin(&self, instruction: &Instruction) -> Origin {
        Origin {
            stage: display_name(self.planner.dockerfile, self.index),
            text: dockerfile::without_userinfo(&instruction.text),
            span: instruction.span,
            number: self.number,
            of: self.of,
        }
    }

    fn workdir(&mut self, word: &str, instruction: &Instruction) -> Result<(), PlanError> {
        let value = self.expand(word, instruction.span)?;
        self.lint_workdir(&value, instruction.span);
        let shown = if value.starts_with('/') {
            value
        } else {
            clean_path(&format!("{}/{value}", self.state.config.config.working_dir))
        };
        let path = clean_path(&shown);
        self.state.config.config.working_dir = shown;
        let created_by = format!("WORKDIR {}", self.state.config.config.working_dir);
        if path == "/" {
            self.metadata(created_by);
            return Ok(());
        }
        let user = self.state.config.config.user.clone();
        let own = Key::new("workdir").text(&path).text(&user).number(self.planner.request.epoch).finish();
        self.push(own, Op::Workdir(WorkdirOp { path, user }), instruction, created_by);
        Ok(())
    }
}

fn healthcheck(check: &dockerfile::Healthcheck) -> crate::image::Healthcheck {
    let test = match &check.test {
        HealthTest::None => vec!["NONE".to_owned()],
        HealthTest::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
        HealthTest::Exec(words) => std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect(),
    };
    crate::image::Healthcheck {
        test,
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_stay_below_the_root() {
        for (path, want) in [
            ("", "/"),
            ("/", "/"),
            ("/a/b/", "/a/b"),
            ("/a//b/../c/", "/a/c"),
            ("/../../a", "/a"),
            ("a/./b", "/a/b"),
        ] {
            assert_eq!(clean_path(path), want, "{path}");
        }
    }
}
