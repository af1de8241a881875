//! What plan asks: images that were resolved so far, and digests of what is in contexts.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use fanfold_platforms::Platform;

use super::options::{ContextAt, Options};
use crate::dockerfile::Selection;
use crate::image::Digest;
use crate::plan::{ContextError, FileSource, ImageName, ResolvedImage, Resolver};
use crate::source::{Context, SourceError, StatCache};
use crate::store::Store;

/// Answers for one build.
#[derive(Debug)]
pub(super) struct Answers {
    options: Arc<Options>,
    /// Where it is kept what files of folders were in earlier builds.
    contexts: PathBuf,
    /// Folders, walked when they are first needed: the build context, and those with names.
    folders: HashMap<FileSource, OnceLock<Opened>>,
    /// What was fetched.
    fetched: HashMap<FileSource, Arc<Context>>,
    digests: Mutex<HashMap<(FileSource, Selection), Result<Digest, ContextError>>>,
    images: HashMap<(ImageName, Platform), Arc<ResolvedImage>>,
}

type Opened = Result<Arc<Context>, ContextError>;

impl Answers {
    pub(super) fn new(options: &Arc<Options>, store: &Store) -> Self {
        let named = (0..options.named.len()).map(FileSource::Named);
        let folders = named.chain([FileSource::Context]).map(|source| (source, OnceLock::new()));
        Self {
            options: Arc::clone(options),
            contexts: store.contexts(),
            folders: folders.collect(),
            fetched: HashMap::new(),
            digests: Mutex::default(),
            images: HashMap::new(),
        }
    }

    /// Adds a resolved image.
    pub(super) fn learn(&mut self, name: ImageName, platform: Platform, image: ResolvedImage) {
        self.images.insert((name, platform), Arc::new(image));
    }

    /// Adds files that were fetched.
    pub(super) fn learn_files(&mut self, source: FileSource, context: Context) {
        self.fetched.insert(source, Arc::new(context));
    }

    /// The files that a copy takes from; `None` where they have to be fetched first.
    pub(super) fn files(&self, source: &FileSource) -> Result<Option<Arc<Context>>, ContextError> {
        if let Some(context) = self.fetched.get(source) {
            return Ok(Some(Arc::clone(context)));
        }
        let Some(at) = self.options.context_at(source) else { return Ok(None) };
        match (at, self.folders.get(source)) {
            (ContextAt::Here(context), _) => Ok(Some(Arc::clone(context))),
            (ContextAt::Folder { path, ignore }, Some(folder)) => folder
                .get_or_init(|| {
                    // Where there is no such folder, the walk says so.
                    let stats = StatCache::of(&self.contexts, path).ok();
                    match Context::open_with(path, ignore.clone(), stats) {
                        Ok(context) => Ok(Arc::new(context)),
                        Err(error) => Err(explain(&error)),
                    }
                })
                .clone()
                .map(Some),
            _ => Ok(None),
        }
    }

    /// Has what was learned of folders kept for the next build, which nobody waits for.
    pub(super) fn keep_stats(&self) {
        for context in self.folders.values().filter_map(OnceLock::get).flatten() {
            let context = Arc::clone(context);
            tokio::task::spawn_blocking(move || context.keep_stats());
        }
    }
}

fn explain(error: &SourceError) -> ContextError {
    let path = match error {
        SourceError::NotFound { path, .. } => Some(path.clone()),
        _ => None,
    };
    ContextError { message: error.to_string(), hint: error.hint(), path }
}

impl Resolver for Answers {
    fn image(&self, name: &ImageName, platform: &Platform) -> Option<Arc<ResolvedImage>> {
        self.images.get(&(name.clone(), platform.clone())).cloned()
    }

    fn files_digest(
        &self,
        source: &FileSource,
        selection: &Selection,
    ) -> Result<Option<Digest>, ContextError> {
        let asked = (source.clone(), selection.clone());
        let known = self.digests.lock().ok().and_then(|digests| digests.get(&asked).cloned());
        if let Some(known) = known {
            return known.map(Some);
        }
        let Some(context) = self.files(source)? else { return Ok(None) };
        let digest = context.digest(selection).map_err(|error| explain(&error));
        if let Ok(mut digests) = self.digests.lock() {
            digests.insert(asked, digest.clone());
        }
        digest.map(Some)
    }

    fn ignored(&self, source: &FileSource, path: &str) -> Option<String> {
        match self.options.context_at(source)? {
            ContextAt::Folder { ignore, .. } => ignore.hides_source(path),
            ContextAt::Here(_) | ContextAt::Web(_) | ContextAt::Git(_) => None,
        }
    }
}
