//! A build and the handing over of what it made; begun again where the store turns out to be damaged.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::args::BuildArgs;
use super::deliver::Delivery;
use super::environment::Environment;
use super::errors::Failure;
use super::inputs;
use super::process::Umask;
use crate::cache::{CacheTo, Imports};
use crate::coordinator::{
    Build, BuildError, Finished, Options, Outcome, Recovery, Remotes, Source, Stop, stopped,
};
use crate::dockerfile::Dockerfile;
use crate::engine::{Cancel, Engine, Settings};
use crate::image::Reference;
use crate::output::{self, OutputSpec};
use crate::plan::RunSite;
use crate::progress::{Event, Progress, Warning};
use crate::registry::Client;
use crate::sandbox::remove_tree;
use crate::store::{Damage, Store};

/// How often the store is mended, or the context read again, for one build. What is damaged is gone after
/// the first time; only a disk that goes on failing, or somebody who goes on writing, needs more.
const MOST_MENDED: u32 = 2;

/// All that stays the same, however often the build begins.
pub(super) struct Brief<'a> {
    pub(super) arguments: &'a BuildArgs,
    pub(super) environment: &'a Environment,
    pub(super) dockerfile: Dockerfile,
    pub(super) source: Arc<Source>,
    pub(super) options: Arc<Options>,
    pub(super) settings: Settings,
    /// The ssh agent for repositories.
    pub(super) agent: Option<PathBuf>,
    pub(super) store: Arc<Store>,
    pub(super) client: Client,
    pub(super) progress: Progress,
    pub(super) names: Vec<Reference>,
    pub(super) outputs: Vec<OutputSpec>,
    pub(super) imports: Arc<Imports>,
    pub(super) cache_to: Vec<CacheTo>,
    /// For what the user gets.
    pub(super) umask: Umask,
}

/// What came of it.
pub(super) enum Attempt {
    /// The result is where it was wanted; what was written here.
    Done(Finished, Vec<String>),
    /// Commands turned up, and there are no namespaces to run them in.
    NeedsSandbox(Vec<RunSite>),
    /// There is no result.
    Failed(Vec<BuildError>),
}

impl Brief<'_> {
    /// Builds and hands over. Where a failure may be the store's and something of it is damaged, that is
    /// dropped, and the build begins again.
    pub(super) async fn carry_out(
        &self,
        mut remarks: Vec<Event>,
        interrupted: watch::Receiver<Option<Stop>>,
    ) -> Result<Attempt, Failure> {
        let mut mended = 0;
        loop {
            let attempt = self.attempt(std::mem::take(&mut remarks), interrupted.clone()).await?;
            let Attempt::Failed(failures) = &attempt else { return Ok(attempt) };
            // Each time there is one thing less that is used.
            if failures.iter().any(|failure| failure.recovery == Recovery::BeginAgain) {
                continue;
            }
            if mended == MOST_MENDED || !(self.reads_again(failures) || self.mend(failures)?) {
                return Ok(attempt);
            }
            mended += 1;
        }
    }

    async fn attempt(
        &self,
        remarks: Vec<Event>,
        mut interrupted: watch::Receiver<Option<Stop>>,
    ) -> Result<Attempt, Failure> {
        let cancel = Cancel::default();
        let engine = Engine::new(Arc::clone(&self.store), self.settings.clone(), cancel.clone())
            .map_err(|error| Failure::from(BuildError::from(error)))?;
        let engine = Arc::new(engine);
        let repositories = inputs::repositories(
            self.environment,
            Arc::clone(&self.store),
            &self.settings.secrets,
            cancel.clone(),
            self.agent.clone(),
        );
        let (client, progress) = (self.client.clone(), self.progress.clone());
        let publisher = output::publisher(&client, &self.store, &progress, &self.outputs, &self.names);
        let build = Build {
            dockerfile: self.dockerfile.clone(),
            source: Arc::clone(&self.source),
            options: Arc::clone(&self.options),
            engine: Arc::clone(&engine),
            cancel,
            remotes: Remotes { client: client.clone(), progress: progress.clone(), repositories },
            imports: Arc::clone(&self.imports),
            publish: publisher,
            client,
            progress,
            remarks,
        };
        let finished = match build.run(interrupted.clone()).await {
            Ok(Outcome::Built(finished)) => finished,
            Ok(Outcome::NeedsSandbox(sites)) => return Ok(Attempt::NeedsSandbox(sites)),
            Err(failures) => return Ok(Attempt::Failed(failures)),
        };
        let delivery = Delivery {
            arguments: self.arguments,
            engine: &engine,
            client: &self.client,
            progress: &self.progress,
            names: &self.names,
            outputs: &self.outputs,
            caches: &self.cache_to,
        };
        let building = Umask::current();
        self.umask.restore();
        let written = tokio::select! {
            written = delivery.deliver(&finished) => written,
            stop = stopped(&mut interrupted) => Err(stop.error("while the result was being handed over")),
        };
        match written {
            Ok(written) => Ok(Attempt::Done(finished, written)),
            Err(mut failure) => {
                building.restore();
                // A layer that nobody has read may not be where its cache says it is.
                let unread = finished.results.unread(&self.store);
                if failure.recovery == Recovery::MendStore && self.imports.distrust(&unread, &failure) {
                    failure.recovery = Recovery::BeginAgain;
                }
                Ok(Attempt::Failed(vec![failure]))
            }
        }
    }

    /// Whether a file of a context has changed meanwhile, which is said.
    fn reads_again(&self, failures: &[BuildError]) -> bool {
        let changed = failures.iter().find(|failure| failure.recovery == Recovery::ReadAgain);
        if let Some(failure) = changed {
            let text = format!("{}: the build begins again", failure.message);
            let hint = failure.hint.clone();
            self.progress.send(Event::Warning(Warning { hint, ..Warning::new(text) }));
        }
        changed.is_some()
    }

    /// Where the store may be at fault, all that the build has used of it is read again, and what is damaged
    /// is dropped. False where nothing is.
    fn mend(&self, failures: &[BuildError]) -> Result<bool, Failure> {
        if !failures.iter().all(|failure| failure.recovery == Recovery::MendStore) {
            return Ok(false);
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let remove = |path: &std::path::Path| drop(remove_tree(path));
        let verified = tokio::task::block_in_place(|| self.store.verify_used(threads, &remove));
        let verified = verified.map_err(|error| Failure::from(BuildError::from(error)))?;
        let dropped: Vec<&Damage> = verified.damaged.iter().filter(|damage| damage.dropped).collect();
        for damage in &dropped {
            let text = format!("the {} {} of the store was damaged", damage.kind, damage.place);
            let hint = "it was dropped, and is made again; `fanfold cache verify` looks at all of the store";
            self.progress.send(Event::Warning(Warning { hint: Some(hint.to_owned()), ..Warning::new(text) }));
        }
        Ok(!dropped.is_empty())
    }
}
