//! Folds results into images, and images into one index. Pure but for the blobs it keeps.

use std::collections::BTreeMap;

use fanfold_platforms::Platform;

use super::execute::Done;
use super::{Annotation, BuildError, Options, Scope};
use crate::engine::{Built, BuiltImage, BuiltLayer, Engine};
use crate::image::media_type::{OCI_CONFIG, layer_encoding, oci_layer};
use crate::image::{Descriptor, History, ImageManifest, Index, RawManifest, Timestamp};
use crate::plan::{Graph, Op, StepId, Target};
use crate::store::BlobRecord;

/// Says who carried out an instruction.
const COMMENT: &str = "fanfold.dockerfile.v0";

/// Makes all images of a graph, and the index where there are several or where one is asked for.
pub(super) fn fold(
    graph: &Graph,
    results: &BTreeMap<StepId, Done>,
    engine: &Engine,
    options: &Options,
) -> Result<Built, BuildError> {
    let annotations = options.annotations.as_slice();
    let images = graph
        .targets
        .iter()
        .map(|target| image(graph, target, results, engine, annotations))
        .collect::<Result<Vec<_>, _>>()?;
    let index = (images.len() > 1 || options.index).then(|| {
        let entries = images.iter().map(|image| image.descriptor.clone()).collect();
        let index = Index::new(entries, select(annotations, Scope::Index, None));
        RawManifest::from_index(&index)
    });
    for image in &images {
        engine.store().put_blob(&image.config)?;
        engine.store().put_blob(&image.manifest.bytes)?;
    }
    if let Some(index) = &index {
        engine.store().put_blob(&index.bytes)?;
    }
    Ok(Built { images, index })
}

fn image(
    graph: &Graph,
    target: &Target,
    results: &BTreeMap<StepId, Done>,
    engine: &Engine,
    annotations: &[Annotation],
) -> Result<BuiltImage, BuildError> {
    let mut layers = Vec::new();
    for id in graph.chain(target.tip) {
        let Some(done) = results.get(&id) else { continue };
        let origin = match &graph.step(id).op {
            Op::Base(base) => base.image.name.repository().cloned(),
            _ => None,
        };
        for layer in &done.layers {
            let blob = as_oci(engine.blob(layer)?);
            layers.push(BuiltLayer { layer: layer.clone(), blob, origin: origin.clone() });
        }
    }
    let mut config = target.config.clone();
    let times = times(target, results, engine);
    config.created =
        Some(Timestamp(times.iter().copied().max().unwrap_or_else(|| engine.time())).to_string());
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
    let config = config.to_json();
    let config_descriptor = Descriptor::of(OCI_CONFIG, &config);
    let manifest = ImageManifest::new(
        config_descriptor.clone(),
        layers.iter().map(|layer| layer.blob.descriptor.clone()).collect(),
        select(annotations, Scope::Manifest, Some(&target.platform)),
    );
    let manifest = RawManifest::from_image(&manifest);
    let descriptor = manifest.descriptor().with_platform(target.platform.clone()).with_annotations(select(
        annotations,
        Scope::ManifestDescriptor,
        Some(&target.platform),
    ));
    Ok(BuiltImage {
        platform: target.platform.clone(),
        manifest,
        descriptor,
        config,
        config_descriptor,
        layers,
    })
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
