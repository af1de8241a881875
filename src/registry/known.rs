//! What was found out about manifests at registries, so that nothing is asked twice.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::image::{Digest, Repository};

/// The findings of this process.
#[derive(Debug, Default)]
pub(super) struct Known {
    manifests: Mutex<HashMap<(Repository, Digest), bool>>,
    tags: Mutex<HashMap<(Repository, String), Option<Digest>>>,
}

impl Known {
    /// Notes whether a repository holds a manifest.
    pub(super) fn note(&self, repository: &Repository, digest: Digest, there: bool) {
        let mut manifests = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        manifests.insert((repository.clone(), digest), there);
    }

    /// Whether a repository holds a manifest; `None` where nobody has asked.
    pub(super) fn manifest(&self, repository: &Repository, digest: Digest) -> Option<bool> {
        let manifests = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        manifests.get(&(repository.clone(), digest)).copied()
    }

    /// Notes what a tag names, `None` for nothing.
    pub(super) fn note_tag(&self, repository: &Repository, tag: &str, digest: Option<Digest>) {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        tags.insert((repository.clone(), tag.to_owned()), digest);
    }

    /// What a tag named when somebody asked. Told once only: tags move.
    pub(super) fn take_tag(&self, repository: &Repository, tag: &str) -> Option<Option<Digest>> {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        tags.remove(&(repository.clone(), tag.to_owned()))
    }
}
