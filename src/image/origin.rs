//! Where a blob can be had.

use std::path::PathBuf;

use super::Repository;

/// A place that holds the blob of a layer which may not be in the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A repository of a registry.
    Registry(Repository),
    /// An OCI image layout, by the path of its directory or archive.
    Layout(PathBuf),
}

impl Origin {
    /// The repository, where it is one.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Registry(repository) => Some(repository),
            Self::Layout(_) => None,
        }
    }
}
