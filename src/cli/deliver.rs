//! Handing over what a build has made: to its outputs, then to the caches.

use super::args::BuildArgs;
use super::{errors, result_files};
use crate::cache::{CacheTarget, CacheTo, export};
use crate::coordinator::{BuildError, Finished, Recovery};
use crate::engine::Engine;
use crate::image::{Reference, Repository};
use crate::output::{self, OutputSpec};
use crate::progress::{Event, Progress, Warning};
use crate::registry::Client;

/// All that handing over works with.
pub(super) struct Delivery<'a> {
    pub(super) arguments: &'a BuildArgs,
    pub(super) engine: &'a Engine,
    pub(super) client: &'a Client,
    pub(super) progress: &'a Progress,
    pub(super) names: &'a [Reference],
    pub(super) outputs: &'a [OutputSpec],
    pub(super) caches: &'a [CacheTo],
}

impl Delivery<'_> {
    /// Writes all outputs, then all caches: the images do not wait for them. Gives what was written here.
    pub(super) async fn deliver(&self, finished: &Finished) -> Result<Vec<String>, BuildError> {
        let context = output::Context {
            engine: self.engine,
            client: self.client,
            progress: self.progress,
            names: self.names,
        };
        let written =
            output::write(&context, &finished.built, self.outputs).await.map_err(errors::build_error)?;
        self.note_encodings(finished);
        result_files::write(self.arguments, finished, self.names).map_err(errors::build_error)?;
        for cache in self.caches {
            let exported = self.export(cache, finished).await;
            // What went to a pipe would be there twice, if the build began again.
            exported.map_err(|error| match self.outputs.iter().any(OutputSpec::is_stream) {
                true => BuildError { recovery: Recovery::None, ..error },
                false => error,
            })?;
        }
        Ok(written)
    }

    /// An output that says how layers are compressed does not get those of caches so.
    fn note_encodings(&self, finished: &Finished) {
        let holds_layers =
            |output: &OutputSpec| matches!(output, OutputSpec::Registry { .. } | OutputSpec::Oci { .. });
        if self.outputs.iter().any(holds_layers) && finished.results.keep_encodings(self.engine) {
            let text = "layers from caches keep their compression; force-compression=true changes them";
            self.progress.send(Event::Note { text: text.to_owned() });
        }
    }

    async fn export(&self, cache: &CacheTo, finished: &Finished) -> Result<(), BuildError> {
        if cache.target == CacheTarget::Inline {
            return Ok(());
        }
        let entries = tokio::task::block_in_place(|| finished.results.entries(self.engine, cache.mode));
        let entries = match entries {
            Err(error) if cache.ignore_error => {
                let text = format!("the cache {cache} was not written: {error}");
                self.progress.send(Event::Warning(Warning { hint: error.hint, ..Warning::new(text) }));
                return Ok(());
            }
            entries => entries?,
        };
        let pushed = self.pushed_to();
        let store = self.engine.store();
        export(cache, &entries, &pushed, store, self.client, self.progress).await?;
        Ok(())
    }

    /// The repositories that have the images' layers by now.
    fn pushed_to(&self) -> Vec<Repository> {
        let names = self.outputs.iter().filter_map(|output| match output {
            OutputSpec::Registry { names, .. } if names.is_empty() => Some(self.names),
            OutputSpec::Registry { names, .. } => Some(names.as_slice()),
            _ => None,
        });
        let mut repositories: Vec<_> = names.flatten().map(|name| name.repository().clone()).collect();
        repositories.sort();
        repositories.dedup();
        repositories
    }
}
