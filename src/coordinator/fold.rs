//! Folds results into images, and images into one index. Pure but for the blobs it keeps.

use std::collections::BTreeMap;

use fanfold_platforms::Platform;

use super::demand::Demand;
use super::execute::Done;
use super::results::Results;
use super::{Annotation, BuildError, Options, Scope};
use crate::cache::inline;
use crate::engine::{Built, BuiltImage, BuiltLayer, Engine};
use crate::image::media_type::{OCI_CONFIG, layer_encoding, oci_layer};
use crate::image::{Descriptor, History, ImageManifest, Index, RawManifest, Timestamp};
use crate::plan::{Graph, StepId, Target};
use crate::store::BlobRecord;

/// Says who carried out an instruction.
const COMMENT: &str = "fanfold.dockerfile.v0";

/// What images are made of.
pub(super) struct Folding<'a> {
    pub(super) graph: &'a Graph,
    pub(super) demand: &'a Demand,
    pub(super) results: &'a BTreeMap<StepId, Done>,
    pub(super) all: &'a Results,
    pub(super) engine: &'a Engine,
    pub(super) options: &'a Options,
}

impl Folding<'_> {
    /// Makes all images of a graph, and the index where there are several or where one is asked for.
    pub(super) fn fold(&self) -> Result<Built, BuildError> {
        let annotations = self.options.annotations.as_slice();
        let images =
            self.graph.targets.iter().map(|target| self.image(target)).collect::<Result<Vec<_>, _>>()?;
        let index = (images.len() > 1 || self.options.index).then(|| {
            let entries = images.iter().map(|image| image.descriptor.clone()).collect();
            let index = Index::new(entries, select(annotations, Scope::Index, None));
            RawManifest::from_index(&index)
        });
        for image in &images {
            self.engine.store().put_blob(&image.config)?;
            self.engine.store().put_blob(&image.manifest.bytes)?;
        }
        if let Some(index) = &index {
            self.engine.store().put_blob(&index.bytes)?;
        }
        Ok(Built { images, index })
    }

    fn image(&self, target: &Target) -> Result<BuiltImage, BuildError> {
        let mut layers = Vec::new();
        for id in self.graph.chain(target.tip) {
            let Some(done) = self.results.get(&id) else { continue };
            for layer in &done.layers {
                let origin = layer.elsewhere.as_ref().and_then(|place| place.origin.repository().cloned());
                let blob = as_oci(self.engine.blob(layer)?);
                layers.push(BuiltLayer { layer: layer.clone(), blob, origin });
            }
        }
        let mut config = target.config.clone();
        let times = times(target, self.results, self.engine);
        config.created =
            Some(Timestamp(times.iter().copied().max().unwrap_or_else(|| self.engine.time())).to_string());
        config.diff_ids = layers.iter().map(|layer| layer.blob.diff_id).collect();
        for (line, time) in target.history.iter().zip(times) {
            config.history.push(History {
                created: Some(Timestamp(time).to_string()),
                created_by: Some(line.created_by.clone()),
                author: None,
                comment: Some(COMMENT.to_owned()),
                empty_layer: line.layer.is_none(),
            });
        }
        config.set_extension(inline::INLINE_KEY, self.inline_records(target)?);
        let config = config.to_json();
        let config_descriptor = Descriptor::of(OCI_CONFIG, &config);
        let annotations = |scope| select(&self.options.annotations, scope, Some(&target.platform));
        let manifest = ImageManifest::new(
            config_descriptor.clone(),
            layers.iter().map(|layer| layer.blob.descriptor.clone()).collect(),
            annotations(Scope::Manifest),
        );
        let manifest = RawManifest::from_image(&manifest);
        let descriptor = manifest
            .descriptor()
            .with_platform(target.platform.clone())
            .with_annotations(annotations(Scope::ManifestDescriptor));
        let platform = target.platform.clone();
        Ok(BuiltImage { platform, manifest, descriptor, config, config_descriptor, layers })
    }

    /// The records that the image carries as its own cache; those of its base are not its own.
    fn inline_records(&self, target: &Target) -> Result<Option<serde_json::Value>, BuildError> {
        if !self.options.inline_cache {
            return Ok(None);
        }
        let entries = self.all.of_target(self.graph, self.demand, target, self.engine)?;
        Ok(Some(inline::encode(&entries)?))
    }
}

/// When each history line happened. A line without a layer takes the time of the layer before it,
/// else of the one after it, so that a build from the cache gives the same image again.
fn times(target: &Target, results: &BTreeMap<StepId, Done>, engine: &Engine) -> Vec<i64> {
    if let Some(epoch) = engine.epoch() {
        return vec![epoch; target.history.len()];
    }
    let layer_time = |line: &crate::plan::HistoryLine| line.layer.and_then(|id| results.get(&id)?.created());
    let first = target.history.iter().find_map(layer_time).unwrap_or_else(|| engine.time());
    let mut last = first;
    target
        .history
        .iter()
        .map(|line| {
            last = layer_time(line).unwrap_or(last);
            last
        })
        .collect()
}

/// Annotations of one scope that concern a platform.
fn select(annotations: &[Annotation], scope: Scope, platform: Option<&Platform>) -> BTreeMap<String, String> {
    annotations
        .iter()
        .filter(|annotation| annotation.scope == scope)
        .filter(|annotation| annotation.platform.is_none() || annotation.platform.as_ref() == platform)
        .map(|annotation| (annotation.key.clone(), annotation.value.clone()))
        .collect()
}

/// A base's layer under the OCI name of its type: Docker and OCI types never stand in one manifest.
fn as_oci(mut record: BlobRecord) -> BlobRecord {
    if let Some(encoding) = layer_encoding(&record.descriptor.media_type) {
        oci_layer(encoding).clone_into(&mut record.descriptor.media_type);
    }
    record
}
