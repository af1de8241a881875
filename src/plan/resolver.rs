//! What plan has to ask others for: images, and the content of contexts.

use std::fmt;
use std::sync::Arc;

use fanfold_platforms::Platform;

use super::FileSource;
use crate::dockerfile::{Selection, Span};
use crate::image::{Descriptor, Digest, ImageConfig, Reference, Repository};

/// What an image is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImageName {
    /// In a registry.
    Registry(Reference),
    /// In an OCI image layout: its path, with tag or digest where there is one.
    Layout(String),
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout(layout) => write!(f, "oci-layout://{layout}"),
        }
    }
}

impl ImageName {
    /// The repository that it is in, where that is a registry's.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Registry(reference) => Some(reference.repository()),
            Self::Layout(_) => None,
        }
    }
}

/// An image for one platform, resolved to digests.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedImage {
    /// The name it was asked for.
    pub name: ImageName,
    /// The platform that its config says.
    pub platform: Platform,
    /// The manifest of that platform.
    pub manifest: Descriptor,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, lowest first; as many as the config has diff ids.
    pub layers: Vec<Descriptor>,
}

/// Something that a plan needs and that is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// An image.
    Image(WantedImage),
    /// Files from a server or a repository.
    Files(WantedFiles),
}

/// An image that is not resolved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedImage {
    /// The name.
    pub name: ImageName,
    /// The platform.
    pub platform: Platform,
    /// The instruction that needs it.
    pub span: Span,
}

/// Files that are not here yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFiles {
    /// Where they are.
    pub source: FileSource,
    /// The instruction that needs them.
    pub span: Span,
}

/// A copy's sources that cannot be had from the build context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ContextError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The path that is missing, from the root of the files.
    pub path: Option<String>,
}

/// Answers plan's questions.
pub trait Resolver {
    /// The image, or `None` where it has not been resolved yet; plan then names it as wanted.
    fn image(&self, name: &ImageName, platform: &Platform) -> Option<Arc<ResolvedImage>>;

    /// Digest of all that a copy takes from such files: paths, types, modes, link targets,
    /// attributes and data, but neither times nor owners. `None` where the files are not here
    /// yet; plan then names them as wanted.
    ///
    /// # Errors
    ///
    /// Fails where a path does not exist, is ignored, or cannot be read.
    fn files_digest(&self, from: &FileSource, selection: &Selection) -> Result<Option<Digest>, ContextError>;

    /// The rule that hides a copy's source from such files, e.g. `.dockerignore:3: *.log`. `None` where
    /// there is none, and where rules bring hidden files back, so that the path alone tells nothing.
    fn ignored(&self, from: &FileSource, source: &str) -> Option<String>;
}
