//! One build, from the parsed Dockerfile to the images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfold_platforms::{Machine, Platform};
use futures::future::try_join_all;
use tokio::sync::watch;

use super::answers::Answers;
use super::bases::{Bases, or_stage};
use super::demand::Demand;
use super::execute::{Done, Executor, shown};
use super::known::{Found, Hit, known};
use super::results::Results;
use super::{BuildError, ErrorKind, Options, Remotes, Source, Stop, fold, stopped};
use crate::cache::Imports;
use crate::dockerfile::Dockerfile;
use crate::engine::{Built, Cancel, Engine, Layer, Publisher};
use crate::image::Digest;
use crate::plan::{self, Graph, Op, RunSite, StepId, Wanted, plan};
use crate::progress::{Event, Execution, PlatformSummary, Progress, Step, Warning};
use crate::registry::Client;

/// All that a build works with.
#[derive(Debug)]
pub struct Build {
    /// The Dockerfile.
    pub dockerfile: Dockerfile,
    /// Its text.
    pub source: Arc<Source>,
    /// What was asked for.
    pub options: Arc<Options>,
    /// Carries out steps.
    pub engine: Arc<Engine>,
    /// Stops commands.
    pub cancel: Cancel,
    /// Speaks with registries.
    pub client: Client,
    /// Fetches files from elsewhere.
    pub remotes: Remotes,
    /// Hears what happens.
    pub progress: Progress,
    /// Remote caches.
    pub imports: Arc<Imports>,
    /// Takes layers of the images as soon as they are whole.
    pub publish: Option<Publisher>,
    /// What is to be said before anything is done.
    pub remarks: Vec<Event>,
}

/// What a build came to.
#[derive(Debug)]
pub enum Outcome {
    /// The images are there.
    Built(Finished),
    /// Bases have left commands to run (ONBUILD), and there are no namespaces to run them in. Nothing
    /// was done.
    NeedsSandbox(Vec<RunSite>),
}

/// A finished build.
#[derive(Debug)]
pub struct Finished {
    /// The images.
    pub built: Built,
    /// What is said of each platform at the end.
    pub platforms: Vec<PlatformSummary>,
    /// What caches elsewhere can be told.
    pub results: Results,
}

impl Build {
    /// Builds. `interrupted` says when and why the build is to end early.
    ///
    /// # Errors
    ///
    /// Gives all failures, the first one first: several only with `keep_going`.
    pub async fn run(
        mut self,
        interrupted: watch::Receiver<Option<Stop>>,
    ) -> Result<Outcome, Vec<BuildError>> {
        let begun = Instant::now();
        let mut stop = interrupted.clone();
        let prepared = tokio::select! {
            prepared = self.prepare() => prepared,
            stop = stopped(&mut stop) => {
                Err(vec![stop.error("before any step: base images, contexts and files of others were asked for")])
            }
        };
        // The end of a build waits for all of its threads: one that reads a repository must not go on.
        let prepared = prepared.inspect_err(|_| self.cancel.cancel())?;
        let (graph, answers) = (Arc::new(prepared.0), Arc::new(prepared.1));
        let known = self.look_up(&graph).await;
        let demand = Arc::new(Demand::new(&graph, &known, self.options.blobs_here));
        let warnings = self.warnings(&graph);
        if let Some(violation) = self.violation(&warnings) {
            self.say(warnings);
            return Err(vec![violation]);
        }
        let sites = run_sites(&graph, &demand);
        if !sites.is_empty() && !self.engine.can_run() {
            return Ok(Outcome::NeedsSandbox(sites));
        }
        self.say(warnings);
        self.announce(&graph, &demand);
        if !sites.is_empty() {
            self.warm_up();
        }
        let executor = Executor {
            graph: Arc::clone(&graph),
            demand: Arc::clone(&demand),
            engine: Arc::clone(&self.engine),
            client: self.client.clone(),
            answers,
            options: Arc::clone(&self.options),
            source: Arc::clone(&self.source),
            progress: self.progress.clone(),
            cancel: self.cancel.clone(),
            imports: Arc::clone(&self.imports),
            made: Arc::default(),
            publish: self.publish.clone(),
        };
        let results = executor.execute(interrupted).await?;
        let all = Results::new(&graph, &demand, &known, &results);
        let folding = fold::Folding {
            graph: &graph,
            demand: &demand,
            results: &results,
            all: &all,
            engine: &self.engine,
            options: &self.options,
        };
        let built = tokio::task::block_in_place(|| folding.fold()).map_err(|error| vec![error])?;
        self.warn_of_foreign_programs(&graph, &results);
        let platforms = self.summarise(&graph, &demand, &results, &built, begun.elapsed());
        Ok(Outcome::Built(Finished { built, platforms, results: all }))
    }

    /// All warnings on the Dockerfile, in the order of its lines.
    fn warnings(&self, graph: &Graph) -> Vec<Warning> {
        let found = self.dockerfile.warnings.iter().map(|warning| self.source.of_parser(warning));
        let mut all: Vec<_> =
            found.chain(graph.warnings.iter().map(|warning| self.source.of_plan(warning))).collect();
        all.sort_by_key(|warning| warning.place.as_ref().map_or(u32::MAX, |place| place.line));
        all
    }

    /// The failure that warnings are where the Dockerfile asks for that.
    fn violation(&self, warnings: &[Warning]) -> Option<BuildError> {
        let rules: BTreeSet<&str> = warnings.iter().filter_map(|warning| warning.rule.as_deref()).collect();
        if rules.is_empty() || !self.dockerfile.checks.is_error() {
            return None;
        }
        let rules = rules.into_iter().collect::<Vec<_>>().join(", ");
        let error = BuildError::new(ErrorKind::Step, format!("lint violation found for rules: {rules}"));
        Some(error.with_hint("mend what the warnings say, or leave a check out with `# check=skip=RULE`"))
    }

    /// Says what is to be said before anything is done.
    fn say(&mut self, warnings: Vec<Warning>) {
        for remark in std::mem::take(&mut self.remarks) {
            self.progress.send(remark);
        }
        for warning in warnings {
            self.progress.send(Event::Warning(warning));
        }
    }

    /// Plans, and resolves images, until nothing is missing.
    async fn prepare(&self) -> Result<(Graph, Answers), Vec<BuildError>> {
        let mut answers = Answers::new(&self.options, self.engine.store());
        let bases = Bases { client: &self.client, store: self.engine.store(), ask_always: self.options.pull };
        loop {
            let planned =
                tokio::task::block_in_place(|| plan(&self.dockerfile, &self.options.request, &answers));
            match planned.map_err(|error| vec![error.into()])? {
                plan::Outcome::Ready(graph) => {
                    answers.keep_stats();
                    return Ok((graph, answers));
                }
                plan::Outcome::Wanted(wanted) => {
                    let mut images = Vec::new();
                    let mut files = Vec::new();
                    for item in wanted {
                        match item {
                            Wanted::Image(image) => images.push(image),
                            Wanted::Files(item) => files.push(item),
                        }
                    }
                    let resolved = bases
                        .resolve(images)
                        .await
                        .map_err(|error| vec![or_stage(error, &self.dockerfile, &self.options.request)])?;
                    for (wanted, image) in resolved {
                        if image.platform != wanted.platform {
                            self.progress.send(Event::Note {
                                text: format!(
                                    "{} has no {}; its {} stands in",
                                    wanted.name, wanted.platform, image.platform
                                ),
                            });
                        }
                        answers.learn(wanted.name, wanted.platform, image);
                    }
                    let fetched = files.into_iter().map(|item| self.remotes.files(item, &self.options));
                    for (source, context) in try_join_all(fetched).await.map_err(|error| vec![error])? {
                        answers.learn_files(source, context);
                    }
                }
            }
        }
    }

    /// The results of earlier builds: all keys are looked up before anything is done, first here, then
    /// all others at once in the remote caches.
    async fn look_up(&self, graph: &Graph) -> BTreeMap<StepId, Hit> {
        if self.options.no_cache {
            return BTreeMap::new();
        }
        let has_record = |id: &StepId| !matches!(graph.step(*id).op, Op::Base(_) | Op::Merge(_));
        let mut found: BTreeMap<StepId, Found> =
            graph.ids().filter(has_record).map(|id| (id, self.look_up_here(&graph.step(id).key))).collect();
        if !self.imports.is_empty() {
            let missing: Vec<_> = found.iter().filter(|(_, found)| found.hits.is_empty()).collect();
            let keys: Vec<_> = missing.into_iter().map(|(id, _)| graph.step(*id).key).collect();
            let mut elsewhere = self.imports.look_up(&keys).await;
            for (id, found) in &mut found {
                let hits = elsewhere.remove(&graph.step(*id).key).unwrap_or_default();
                found.hits.extend(hits.into_iter().map(Hit::from));
            }
        }
        known(graph, &mut found)
    }

    fn look_up_here(&self, key: &Digest) -> Found {
        let record = self.engine.store().step(key);
        let here = record.clone().filter(|record| self.engine.can_use(&record.layer));
        let hits = here.map(|record| Hit { layer: Layer::made(record.layer), record });
        Found { record, hits: hits.into_iter().collect() }
    }

    /// Has the engine make itself ready for commands while bases are fetched.
    fn warm_up(&self) {
        let (engine, progress) = (Arc::clone(&self.engine), self.progress.clone());
        tokio::task::spawn_blocking(move || {
            // A failure is the first command's as well.
            if let Ok(Some(text)) = engine.warm_up() {
                progress.send(Event::Note { text });
            }
        });
    }

    fn announce(&self, graph: &Graph, demand: &Demand) {
        let wanted = |id: &StepId| {
            demand.cached.contains_key(id) || demand.work.contains(id) || demand.bases.contains(id)
        };
        let runs = |id: StepId| demand.work.contains(&id) && matches!(graph.step(id).op, Op::Run(_));
        let steps = graph.ids().filter(wanted).map(|id| {
            let step = graph.step(id);
            let emulated = runs(id).then(|| self.options.emulator(&step.platform)).flatten();
            Step {
                id: shown(id),
                platforms: step.targets.clone(),
                platform: step.platform.clone(),
                stage: step.origin.stage.clone(),
                text: step.origin.text.clone(),
                line: step.origin.span.first,
                number: step.origin.number,
                of: step.origin.of,
                emulated_by: emulated.map(|emulator| emulator.label().to_owned()),
            }
        });
        let platforms = graph.targets.iter().map(|target| target.platform.clone()).collect();
        self.progress.send(Event::Plan { platforms, steps: steps.collect() });
        for id in demand.cached.keys().chain(&demand.bases) {
            if !demand.fetches.contains_key(id) {
                self.progress.send(Event::StepCached { id: shown(*id) });
            }
        }
    }

    /// An image for one machine with programs for another is nearly always a mistake, and nothing
    /// else says so before it is run.
    fn warn_of_foreign_programs(&self, graph: &Graph, results: &BTreeMap<StepId, Done>) {
        for target in &graph.targets {
            let Some(own) = target.platform.elf_machine() else { continue };
            let steps = graph.chain(target.tip);
            let programs = steps.iter().filter_map(|id| results.get(id)).flat_map(|done| &done.programs);
            let runs = |machine: &Machine| {
                let halves = (own.architecture(), machine.architecture());
                *machine == own
                    || matches!(halves, (Some("amd64"), Some("386")) | (Some("arm64"), Some("arm")))
            };
            if let Some((machine, path)) = programs.into_iter().find(|(machine, _)| !runs(machine)) {
                let text = format!("{path} is a program for {machine}, in an image for {}", target.platform);
                let platform = Some(target.platform.clone());
                self.progress.send(Event::Warning(Warning { platform, ..Warning::new(text) }));
            }
        }
    }

    fn summarise(
        &self,
        graph: &Graph,
        demand: &Demand,
        results: &BTreeMap<StepId, Done>,
        built: &Built,
        elapsed: Duration,
    ) -> Vec<PlatformSummary> {
        let summary = |(target, image): (&plan::Target, &crate::engine::BuiltImage)| {
            let mine = |id: &&StepId| graph.step(**id).targets.contains(&target.platform);
            let is_cached = |id: &StepId| results.get(id).is_some_and(|done| done.cached);
            let steps = demand.cached.keys().chain(&demand.work).filter(mine);
            let (found, work): (Vec<&StepId>, Vec<&StepId>) = steps.partition(|id| is_cached(id));
            let cached = found.len();
            let runs: Vec<&Platform> = work
                .iter()
                .map(|id| graph.step(**id))
                .filter(|step| matches!(step.op, Op::Run(_)))
                .map(|step| &step.platform)
                .collect();
            let execution = match runs.iter().find_map(|platform| self.options.emulator(platform)) {
                Some(emulator) => Execution::Emulated(emulator.label().to_owned()),
                None if runs.is_empty() => Execution::NotNeeded,
                None => Execution::Native,
            };
            let steps_time: Duration = work.iter().filter_map(|id| Some(results.get(id)?.duration)).sum();
            let layers: u64 = image.layers.iter().map(|layer| layer.blob.descriptor.size).sum();
            PlatformSummary {
                platform: target.platform.clone(),
                digest: image.manifest.digest().to_string(),
                size: layers + image.config.len() as u64 + image.manifest.bytes.len() as u64,
                duration: steps_time.min(elapsed),
                cached: u32::try_from(cached).unwrap_or(u32::MAX),
                steps: u32::try_from(cached + work.len()).unwrap_or(u32::MAX),
                execution,
            }
        };
        graph.targets.iter().zip(&built.images).map(summary).collect()
    }
}

/// The first command of each platform that has to be run.
fn run_sites(graph: &Graph, demand: &Demand) -> Vec<RunSite> {
    let mut sites: Vec<RunSite> = Vec::new();
    for step in demand.work.iter().map(|id| graph.step(*id)) {
        let known = sites.iter().any(|site| site.platform == step.platform);
        if matches!(step.op, Op::Run(_)) && !known {
            sites.push(RunSite {
                platform: step.platform.clone(),
                span: step.origin.span,
                text: step.origin.text.clone(),
            });
        }
    }
    sites
}
