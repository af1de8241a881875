//! What plan asks: images that were resolved so far, and digests of what is in the build context.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use fanfold_platforms::Platform;

use crate::dockerfile::Selection;
use crate::dockerfile::ignore::Ignore;
use crate::image::{Digest, Reference};
use crate::plan::{ContextError, FileSource, ResolvedImage, Resolver};
use crate::source::{Context, SourceError};

/// Answers for one build.
#[derive(Debug)]
pub(super) struct Answers {
    directory: PathBuf,
    ignore: Ignore,
    context: OnceLock<Result<Arc<Context>, ContextError>>,
    digests: Mutex<HashMap<Selection, Result<Digest, ContextError>>>,
    images: HashMap<(Reference, Platform), Arc<ResolvedImage>>,
}

impl Answers {
    pub(super) fn new(directory: PathBuf, ignore: Ignore) -> Self {
        Self {
            directory,
            ignore,
            context: OnceLock::new(),
            digests: Mutex::default(),
            images: HashMap::new(),
        }
    }

    /// Adds a resolved image.
    pub(super) fn learn(&mut self, reference: Reference, platform: Platform, image: ResolvedImage) {
        self.images.insert((reference, platform), Arc::new(image));
    }

    /// The build context, which is walked when it is first needed.
    pub(super) fn context(&self) -> Result<Arc<Context>, ContextError> {
        self.context
            .get_or_init(|| match Context::open(&self.directory, self.ignore.clone()) {
                Ok(context) => Ok(Arc::new(context)),
                Err(error) => Err(explain(&error)),
            })
            .clone()
    }
}

impl Answers {
    /// The files that a copy takes from.
    pub(super) fn files(&self, _from: &FileSource) -> Result<Arc<Context>, ContextError> {
        self.context()
    }
}

fn explain(error: &SourceError) -> ContextError {
    ContextError { message: error.to_string(), hint: error.hint() }
}

impl Resolver for Answers {
    fn image(&self, reference: &Reference, platform: &Platform) -> Option<Arc<ResolvedImage>> {
        self.images.get(&(reference.clone(), platform.clone())).cloned()
    }

    fn files_digest(&self, _from: &FileSource, selection: &Selection) -> Result<Digest, ContextError> {
        let known = self.digests.lock().ok().and_then(|digests| digests.get(selection).cloned());
        if let Some(known) = known {
            return known;
        }
        let digest = self.context()?.digest(selection).map_err(|error| explain(&error));
        if let Ok(mut digests) = self.digests.lock() {
            digests.insert(selection.clone(), digest.clone());
        }
        digest
    }
}
