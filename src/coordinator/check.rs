//! A check: all stages are planned, and nothing is built or fetched but what images say of themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;

use super::answers::Answers;
use super::bases::{Bases, or_stage};
use super::{BuildError, Options};
use crate::dockerfile::Dockerfile;
use crate::image::{Descriptor, Digest, ImageConfig, media_type};
use crate::plan::{ImageName, ResolvedImage, Survey, Wanted, WantedImage, survey};
use crate::registry::Client;
use crate::store::Store;

/// All that a check works with.
#[derive(Debug)]
pub struct Check<'a> {
    /// The Dockerfile.
    pub dockerfile: &'a Dockerfile,
    /// What was asked for.
    pub options: Arc<Options>,
    /// Knows images that earlier builds used.
    pub store: &'a Store,
    /// Speaks with registries.
    pub client: Client,
}

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// The plan of all stages.
    pub survey: Survey,
    /// Images that are not for a platform that is asked of them. Each has a rule.
    pub unfit: Vec<BuildError>,
    /// Images that could not be had. They were taken for empty.
    pub missing: Vec<BuildError>,
}

impl Check<'_> {
    /// Plans, and resolves images, until there is nothing more to be known.
    pub async fn run(&self) -> Checked {
        let mut answers = Answers::new(&self.options, self.store);
        let (mut unfit, mut missing) = (Vec::new(), Vec::new());
        loop {
            let survey = survey(self.dockerfile, &self.options.request, &answers);
            let mut by_name: BTreeMap<ImageName, Vec<WantedImage>> = BTreeMap::new();
            for wanted in &survey.wanted {
                if let Wanted::Image(image) = wanted {
                    by_name.entry(image.name.clone()).or_default().push(image.clone());
                }
            }
            if by_name.is_empty() {
                return Checked { survey, unfit, missing };
            }
            let groups = join_all(by_name.into_values().map(|group| self.resolve(group))).await;
            for (wanted, resolved) in groups.into_iter().flatten() {
                let image = match resolved {
                    Ok(image) => image,
                    Err(Some(error)) => {
                        let list = if error.rule.is_some() { &mut unfit } else { &mut missing };
                        list.push(error);
                        stand_in(&wanted)
                    }
                    Err(None) => stand_in(&wanted),
                };
                answers.learn(wanted.name, wanted.platform, image);
            }
        }
    }

    /// Resolves an image for some platforms. Where it cannot be had at all, that is said once.
    async fn resolve(
        &self,
        wanted: Vec<WantedImage>,
    ) -> Vec<(WantedImage, Result<ResolvedImage, Option<BuildError>>)> {
        let bases = Bases { client: &self.client, store: self.store, ask_always: self.options.pull };
        let mut results = Vec::new();
        let mut gone = false;
        for item in wanted {
            if gone {
                results.push((item, Err(None)));
                continue;
            }
            let resolved = match bases.resolve(vec![item.clone()]).await {
                Ok(mut images) => images.pop().map(|(_, image)| image).ok_or(None),
                Err(error) => {
                    gone = error.rule.is_none();
                    let error = or_stage(error, self.dockerfile, &self.options.request);
                    Err(Some(if gone { BuildError { platform: None, ..error } } else { error }))
                }
            };
            results.push((item, resolved));
        }
        results
    }
}

/// What is planned with where an image is not known: it says nothing of itself.
fn stand_in(wanted: &WantedImage) -> ResolvedImage {
    let unknown = |what: &str| {
        let digest = Digest::of(format!("{what} of {} for {}", wanted.name, wanted.platform).as_bytes());
        Descriptor::new(media_type::OCI_MANIFEST, digest, 0)
    };
    ResolvedImage {
        name: wanted.name.clone(),
        platform: wanted.platform.clone(),
        manifest: unknown("manifest"),
        config: ImageConfig::scratch(wanted.platform.clone()),
        layers: vec![unknown("layer")],
    }
}
