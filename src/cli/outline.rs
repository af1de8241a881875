//! What is in a Dockerfile, and how it would be built: stages, arguments, secrets, caches, platforms.

use std::collections::{BTreeMap, BTreeSet};

use fanfold_platforms::Platform;
use serde_json::{Value, json};

use super::args::InputArgs;
use super::environment::Environment;
use super::errors::{Failure, Kind};
use super::host::{Execution, Machine};
use super::report;
use super::table::table;
use crate::coordinator::BuildError;
use crate::dockerfile::mount::{Mount, MountType};
use crate::dockerfile::{ArgDecl, Dockerfile, Kind as Instruction, Stage};
use crate::plan::{Op, Request, StageOn, StepId, Survey};
use crate::sandbox::{self, Ended, Entered, Isolation};

/// The facts of a Dockerfile.
#[derive(Debug)]
pub(super) struct Outline<'a> {
    file: &'a str,
    dockerfile: &'a Dockerfile,
    survey: &'a Survey,
    request: &'a Request,
}

/// How platforms run, and why that is a guess where it is one.
#[derive(Debug)]
struct Host {
    executions: BTreeMap<Platform, Execution>,
    unproven: Option<String>,
}

/// A mount that a RUN asks for.
struct Use {
    kind: MountType,
    id: String,
    required: bool,
    stage: String,
    line: u32,
}

/// What people call a stage.
fn name(index: usize, stage: &Stage) -> String {
    stage.name.clone().unwrap_or_else(|| format!("stage-{index}"))
}

/// Lists the stages. The one that is built by default is marked.
pub(super) fn targets(dockerfile: &Dockerfile, wanted: Option<&str>, as_json: bool) -> String {
    let last = dockerfile.stages.len().saturating_sub(1);
    let is_wanted = |index: usize, name: &str| match wanted {
        Some(wanted) => wanted.eq_ignore_ascii_case(name) || wanted.parse() == Ok(index),
        None => index == last,
    };
    let stages = dockerfile.stages.iter().enumerate();
    if as_json {
        let targets: Vec<Value> = stages
            .map(|(index, stage)| {
                json!({
                    "name": stage.name,
                    "index": index,
                    "default": is_wanted(index, &name(index, stage)),
                    "description": stage.description,
                    "base": stage.base,
                    "platform": stage.platform,
                    "line": stage.span.first,
                })
            })
            .collect();
        return json!({ "targets": targets }).to_string();
    }
    let mut rows = vec![["TARGET", "BASE", "DESCRIPTION"].map(str::to_owned).to_vec()];
    rows.extend(stages.map(|(index, stage)| {
        let name = name(index, stage);
        let mark = if is_wanted(index, &name) { " (default)" } else { "" };
        vec![format!("{name}{mark}"), stage.base.clone(), stage.description.clone().unwrap_or_default()]
    }));
    table(&rows).trim_end().to_owned()
}

/// Prints the outline, and gives the exit code. Emulators are tried where namespaces can be had.
pub(super) fn show(
    outline: &Outline<'_>,
    input: &InputArgs,
    environment: &Environment,
    as_json: bool,
) -> Result<u8, Failure> {
    let scratch = tempfile::tempdir()
        .map_err(|error| Failure::new(Kind::Retryable, format!("no temporary folder: {error}")))?;
    let path = environment.search_path();
    let machine = |isolation| Machine::new(&input.host, &path, scratch.path().to_owned(), isolation);
    let unproven = machine(Isolation::Userns);
    let platforms = outline.run_platforms();
    let (executions, unproven) = if platforms.iter().all(|platform| unproven.is_native(platform)) {
        (platforms.into_iter().map(|platform| (platform, Execution::Native)).collect(), None)
    } else {
        let isolation = input.host.isolation.chosen().unwrap_or_default();
        let config = sandbox::Config { path: path.clone(), isolation, scratch: scratch.path().to_owned() };
        match sandbox::enter(&config) {
            Ok(Entered::Outside(Ended::Exited(code))) => return Ok(u8::try_from(code).unwrap_or(1)),
            Ok(Entered::Outside(Ended::Signaled(signal))) => return Ok(Kind::Interrupted(signal).code()),
            Ok(Entered::Inside(sandbox)) => {
                let mut machine = machine(sandbox.isolation());
                let each =
                    platforms.into_iter().map(|platform| (platform.clone(), machine.execution(&platform)));
                (each.collect(), None)
            }
            Err(error) => {
                let each =
                    platforms.into_iter().map(|platform| (platform.clone(), unproven.expected(&platform)));
                (each.collect(), Some(BuildError::describe(&error)))
            }
        }
    };
    let host = Host { executions, unproven };
    report::result(&if as_json { outline.json(&host).to_string() } else { outline.text(&host) })?;
    Ok(0)
}

impl<'a> Outline<'a> {
    pub(super) fn new(
        file: &'a str,
        dockerfile: &'a Dockerfile,
        survey: &'a Survey,
        request: &'a Request,
    ) -> Self {
        Self { file, dockerfile, survey, request }
    }

    /// The platforms on which commands run.
    fn run_platforms(&self) -> BTreeSet<Platform> {
        let running = self.survey.stages.iter().filter(|on| self.runs(on).next().is_some());
        running.map(|on| on.platform.clone()).collect()
    }

    fn runs(&self, on: &'a StageOn) -> impl Iterator<Item = &'a StepId> {
        let graph = &self.survey.graph;
        on.steps.iter().filter(|id| matches!(graph.step(**id).op, Op::Run(_)))
    }

    fn on(&self, stage: usize, target: &Platform) -> Option<&'a StageOn> {
        self.survey.stages.iter().find(|on| on.stage == stage && on.target == *target)
    }

    /// How many of a stage's steps another target has too, and the targets that have all of them.
    fn shared(&self, on: &StageOn) -> (usize, Vec<String>) {
        let others =
            || self.survey.stages.iter().filter(|other| other.stage == on.stage && other.target != on.target);
        let elsewhere: BTreeSet<StepId> = others().flat_map(|other| other.steps.iter().copied()).collect();
        let count = on.steps.iter().filter(|id| elsewhere.contains(id)).count();
        let same = |other: &&StageOn| !on.steps.is_empty() && other.steps == on.steps;
        (count, others().filter(same).map(|other| other.target.to_string()).collect())
    }

    /// Every ARG, with the stage that it stands in.
    fn arguments(&self) -> Vec<(Option<String>, u32, &'a ArgDecl)> {
        let globals = self.dockerfile.preamble.iter().map(|instruction| (None, instruction));
        let stages = self.dockerfile.stages.iter().enumerate().flat_map(|(index, stage)| {
            stage.instructions.iter().map(move |instruction| (Some(name(index, stage)), instruction))
        });
        let mut found = Vec::new();
        for (stage, instruction) in globals.chain(stages) {
            if let Instruction::Arg(declarations) = &instruction.kind {
                let line = instruction.span.first;
                found.extend(declarations.iter().map(|declaration| (stage.clone(), line, declaration)));
            }
        }
        found
    }

    /// The secrets, agents and caches that RUN instructions name. Variables stay as written.
    fn uses(&self) -> Vec<Use> {
        let mut found = Vec::new();
        for (index, stage) in self.dockerfile.stages.iter().enumerate() {
            for instruction in &stage.instructions {
                let Instruction::Run(run) = &instruction.kind else { continue };
                let mut keep = |word: &str| Ok(word.to_owned());
                let mounts = run.mounts.iter().filter_map(|raw| Mount::parse(raw, &mut keep).ok());
                for mount in mounts {
                    let (kind, id, required) = match mount {
                        Mount::Secret { id, required, .. } => (MountType::Secret, id, required),
                        Mount::Ssh { id, required, .. } => (MountType::Ssh, id, required),
                        Mount::Cache { id, target, .. } => {
                            let id = id.or(target).unwrap_or_else(|| "the working directory".to_owned());
                            (MountType::Cache, id, false)
                        }
                        Mount::Bind { .. } | Mount::Tmpfs { .. } => continue,
                    };
                    let (stage, line) = (name(index, stage), instruction.span.first);
                    found.push(Use { kind, id, required, stage, line });
                }
            }
        }
        found
    }

    fn text(&self, host: &Host) -> String {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let stages = || self.dockerfile.stages.iter().enumerate();
        let mut tables = Vec::new();

        let mut rows = vec![words(&["STAGE", "BASE", "PLATFORM", "DESCRIPTION"])];
        rows.extend(stages().map(|(index, stage)| {
            let first = self.request.platforms.first().and_then(|target| self.on(index, target));
            let mark = if self.survey.target == Some(index) { " (target)" } else { "" };
            vec![
                format!("{}{mark}", name(index, stage)),
                first.map_or_else(|| stage.base.clone(), |on| on.base.clone()),
                stage.platform.clone().unwrap_or_else(|| "target's".to_owned()),
                stage.description.clone().unwrap_or_default(),
            ]
        }));
        tables.push(rows);

        let mut rows = vec![words(&["ARGUMENT", "DEFAULT", "DECLARED", "DESCRIPTION"])];
        rows.extend(self.arguments().into_iter().map(|(stage, line, declaration)| {
            vec![
                declaration.name.clone(),
                declaration.default.clone().unwrap_or_else(|| "-".to_owned()),
                format!("line {line}, {}", stage.unwrap_or_else(|| "for all FROM".to_owned())),
                declaration.description.clone().unwrap_or_default(),
            ]
        }));
        tables.push(rows);

        let uses = self.uses();
        for (kind, head) in
            [(MountType::Secret, "SECRET"), (MountType::Ssh, "SSH AGENT"), (MountType::Cache, "CACHE MOUNT")]
        {
            let mut rows = vec![words(&[head, "USED", "NEEDED"])];
            rows.extend(uses.iter().filter(|mount| mount.kind == kind).map(|mount| {
                let needed = match (kind, mount.required) {
                    (MountType::Cache, _) => "",
                    (_, true) => "required",
                    (_, false) => "optional",
                };
                vec![mount.id.clone(), format!("line {}, {}", mount.line, mount.stage), needed.to_owned()]
            }));
            tables.push(rows);
        }

        let mut head = words(&["RUNS"]);
        head.extend(self.request.platforms.iter().map(ToString::to_string));
        let mut rows = vec![head];
        rows.extend(stages().map(|(index, stage)| {
            let cells = self.request.platforms.iter().map(|target| match self.on(index, target) {
                Some(on) => self.cell(on, host),
                None => "unknown".to_owned(),
            });
            std::iter::once(name(index, stage)).chain(cells).collect()
        }));
        tables.push(rows);

        let shown: Vec<String> =
            tables.iter().filter(|rows| rows.len() > 1).map(|rows| table(rows)).collect();
        let mut text = shown.join("\n");
        let mut told = BTreeSet::new();
        for (platform, execution) in &host.executions {
            if let Execution::Unavailable { reasons, fix } = execution
                && told.insert(platform)
            {
                text.push_str(&format!("\n{platform} cannot run here: {}\nfix: {fix}\n", reasons.join("; ")));
            }
        }
        if let Some(reason) = &host.unproven {
            text.push_str(&format!("\nEmulators were looked for but not tried: {reason}\n"));
        }
        text.trim_end().to_owned()
    }

    /// How a stage runs, in a few words.
    fn cell(&self, on: &'a StageOn, host: &Host) -> String {
        let how = if self.runs(on).next().is_none() {
            "no RUN".to_owned()
        } else {
            match host.executions.get(&on.platform) {
                Some(Execution::Native) => "native".to_owned(),
                Some(Execution::Emulated(emulator)) => format!("emulated by {}", emulator.label()),
                Some(Execution::Unavailable { .. }) | None => "cannot run".to_owned(),
            }
        };
        let for_other =
            if on.platform == on.target { String::new() } else { format!(" for {}", on.platform) };
        let (shared, same) = self.shared(on);
        let sharing = match (shared, on.steps.len()) {
            (0, _) => String::new(),
            _ if !same.is_empty() => ", shared".to_owned(),
            (shared, all) => format!(", {shared} of {all} steps shared"),
        };
        let unused = if on.needed { "" } else { ", not needed" };
        format!("{how}{for_other}{sharing}{unused}")
    }

    fn json(&self, host: &Host) -> Value {
        let stages: Vec<Value> = self
            .dockerfile
            .stages
            .iter()
            .enumerate()
            .map(|(index, stage)| {
                let on = self.survey.stages.iter().filter(|on| on.stage == index);
                let platforms: Vec<Value> = on.clone().map(|on| self.on_json(on, host)).collect();
                json!({
                    "name": name(index, stage),
                    "index": index,
                    "base": on.clone().next().map_or(&stage.base, |on| &on.base),
                    "platform": stage.platform,
                    "description": stage.description,
                    "line": stage.span.first,
                    "needed": on.clone().any(|on| on.needed),
                    "platforms": platforms,
                })
            })
            .collect();
        let arguments: Vec<Value> = self
            .arguments()
            .into_iter()
            .map(|(stage, line, declaration)| {
                json!({
                    "name": declaration.name,
                    "default": declaration.default,
                    "description": declaration.description,
                    "stage": stage,
                    "line": line,
                })
            })
            .collect();
        let uses = self.uses();
        let list = |kind: MountType| -> Vec<Value> {
            let of_kind = uses.iter().filter(|mount| mount.kind == kind);
            of_kind
                .map(|mount| {
                    let mut value = json!({ "id": mount.id, "stage": mount.stage, "line": mount.line });
                    if kind != MountType::Cache {
                        value["required"] = mount.required.into();
                    }
                    value
                })
                .collect()
        };
        let target = self.survey.target.map(|index| name(index, &self.dockerfile.stages[index]));
        json!({
            "file": self.file,
            "target": target,
            "platforms": self.request.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "stages": stages,
            "arguments": arguments,
            "secrets": list(MountType::Secret),
            "ssh": list(MountType::Ssh),
            "caches": list(MountType::Cache),
            "unproven": host.unproven,
        })
    }

    fn on_json(&self, on: &'a StageOn, host: &Host) -> Value {
        let (shared, same) = self.shared(on);
        let mut value = json!({
            "target": on.target.to_string(),
            "platform": on.platform.to_string(),
            "needed": on.needed,
            "steps": on.steps.len(),
            "shared_steps": shared,
            "shared_with": same,
            "execution": "none",
        });
        if self.runs(on).next().is_some() {
            let (how, more) = match host.executions.get(&on.platform) {
                Some(Execution::Native) => ("native", None),
                Some(Execution::Emulated(emulator)) => {
                    ("emulated", Some(("emulated_by", json!(emulator.label()))))
                }
                Some(Execution::Unavailable { reasons, fix }) => {
                    value["fix"] = json!(fix);
                    ("unavailable", Some(("reasons", json!(reasons))))
                }
                None => ("unavailable", None),
            };
            value["execution"] = how.into();
            if let Some((key, more)) = more {
                value[key] = more;
            }
        }
        value
    }
}
