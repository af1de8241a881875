//! What plan has to ask others for: images and the content of the build context.

use std::sync::Arc;

use fanfold_platforms::Platform;

use super::FileSource;
use crate::dockerfile::{Selection, Span};
use crate::image::{Descriptor, Digest, ImageConfig, Reference};

/// An image for one platform, resolved to digests.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedImage {
    /// The name it was asked for.
    pub reference: Reference,
    /// The platform that its config says.
    pub platform: Platform,
    /// The manifest of that platform.
    pub manifest: Descriptor,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, lowest first; as many as the config has diff ids.
    pub layers: Vec<Descriptor>,
}

/// An image that a plan needs and that is not resolved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The name.
    pub reference: Reference,
    /// The platform.
    pub platform: Platform,
    /// Whether the Dockerfile names the platform on this FROM.
    pub explicit: bool,
    /// The instruction that needs it.
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
}

/// Answers plan's questions.
pub trait Resolver {
    /// The image, or `None` where it has not been resolved yet; plan then names it as wanted.
    fn image(&self, reference: &Reference, platform: &Platform) -> Option<Arc<ResolvedImage>>;

    /// Digest of all that a copy takes from such files: paths, types, modes, link targets,
    /// attributes and data, but neither times nor owners.
    ///
    /// # Errors
    ///
    /// Fails where a path does not exist, is ignored, or cannot be read.
    fn files_digest(&self, from: &FileSource, selection: &Selection) -> Result<Digest, ContextError>;
}
