//! What a plan has to know of the world: images and files, or a place on the list of what is wanted.

use std::sync::Arc;

use fanfold_platforms::Platform;

use super::planner::{Planner, Stop};
use super::{
    FileSource, ImageName, PlanError, PlanErrorKind, ResolvedImage, Wanted, WantedFiles, WantedImage,
};
use crate::dockerfile::{Selection, Span};
use crate::image::{Digest, Reference};

impl Planner<'_> {
    /// The image of a `--from`.
    pub(super) fn copy_image(
        &mut self,
        name: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<Arc<ResolvedImage>, Stop> {
        let reference: Reference = name.parse().map_err(|error| {
            PlanError::at(span, format!("--from={name} is neither a stage nor an image: {error}"))
                .with_word(name)
        })?;
        self.image(&ImageName::Registry(reference), platform, span)
    }

    /// An image, once it is resolved.
    pub(super) fn image(
        &mut self,
        name: &ImageName,
        platform: &Platform,
        span: Span,
    ) -> Result<Arc<ResolvedImage>, Stop> {
        if let Some(image) = self.resolver.image(name, platform) {
            return Ok(image);
        }
        let wanted = WantedImage { name: name.clone(), platform: platform.clone(), span };
        self.want(Wanted::Image(wanted));
        Err(Stop::Waiting)
    }

    /// Puts something on the list, once.
    fn want(&mut self, wanted: Wanted) {
        let is_same = |known: &Wanted| match (known, &wanted) {
            (Wanted::Image(known), Wanted::Image(new)) => {
                known.name == new.name && known.platform == new.platform
            }
            (Wanted::Files(known), Wanted::Files(new)) => known.source == new.source,
            _ => false,
        };
        if !self.wanted.iter().any(is_same) {
            self.wanted.push(wanted);
        }
    }

    /// Digest of the files that a selection takes. Where they are not here yet, they are put on the
    /// list, and planning goes on with any digest: it will be done again.
    pub(super) fn files_digest(
        &mut self,
        source: &FileSource,
        selection: &Selection,
        span: Span,
    ) -> Result<Digest, PlanError> {
        match self.resolver.files_digest(source, selection) {
            Ok(Some(digest)) => Ok(digest),
            Ok(None) => {
                self.want(Wanted::Files(WantedFiles { source: source.clone(), span }));
                Ok(Digest::of(b""))
            }
            Err(error) => {
                let mut fault = PlanError::at(span, error.message).with_kind(PlanErrorKind::Step);
                fault.hint = error.hint;
                fault.word = error.path;
                Err(fault)
            }
        }
    }
}
