//! What leads to what in a store: layers, the steps that made them, the images that hold them, blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{BlobRecord, DownloadRecord, ReferenceRecord, StepRecord, Store, StoreError};
use crate::image::{Descriptor, Digest, Document, ImageConfig, RawManifest};

/// Documents that one name leads to at most: an index in an index in an index.
const DEEPEST: usize = 4;

/// All that a store holds, by what leads to it. Nothing is marked as used by looking at it.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// By diff id: those that have a place in the store, and those of images that are known.
    pub(super) layers: BTreeMap<Digest, LayerFacts>,
    /// What names stand for.
    pub(super) images: Vec<ImageFacts>,
    /// Digests of URLs, with what they gave.
    pub(super) downloads: Vec<(Digest, DownloadRecord)>,
    /// Records that nothing can be made of: they are damaged, or lead to a layer that is gone.
    pub(super) stray: Vec<PathBuf>,
}

/// What is known of a layer.
#[derive(Debug, Default)]
pub(super) struct LayerFacts {
    /// Its own directory, where it has one.
    pub(super) place: Option<PathBuf>,
    /// Its blobs, which need not be here.
    pub(super) blobs: Vec<BlobRecord>,
    /// The records of steps that lead to it: paths, and what they say.
    pub(super) steps: Vec<(PathBuf, StepRecord)>,
    /// Names of images that have it.
    pub(super) images: BTreeSet<String>,
    /// Platforms of these images.
    pub(super) platforms: BTreeSet<String>,
}

/// What is known of an image.
#[derive(Debug)]
pub(super) struct ImageFacts {
    /// Digest of its name.
    pub(super) id: Digest,
    pub(super) name: String,
    pub(super) platforms: BTreeSet<String>,
    /// Its record.
    pub(super) record: PathBuf,
    /// Its index, manifests and configs, as far as they are here.
    pub(super) documents: BTreeSet<Digest>,
}

impl Store {
    /// Looks at all records.
    ///
    /// # Errors
    ///
    /// Fails where a folder of the store cannot be listed.
    pub(super) fn survey(&self) -> Result<Survey, StoreError> {
        let mut survey = Survey::default();
        for (id, path) in self.listed("layers")? {
            let facts = survey.layers.entry(id).or_default();
            for record in blob_records(&path) {
                match self.read_record::<BlobRecord>(&record) {
                    Some(blob) => facts.blobs.push(blob),
                    None => survey.stray.push(record),
                }
            }
            facts.place = Some(path);
        }
        for (_, path) in self.listed("refs")? {
            match self.read_record::<ReferenceRecord>(&path) {
                Some(record) => self.follow(path, record, &mut survey),
                None => survey.stray.push(path),
            }
        }
        for (_, path) in self.listed("steps")? {
            let record = self.read_record::<StepRecord>(&path);
            let layer = record.as_ref().and_then(|record| survey.layers.get_mut(record.layer.digest()));
            match (record, layer.filter(|layer| layer.place.is_some())) {
                (Some(record), Some(layer)) => layer.steps.push((path, record)),
                _ => survey.stray.push(path),
            }
        }
        for (url, path) in self.listed("downloads")? {
            match self.read_record::<DownloadRecord>(&path) {
                Some(record) => survey.downloads.push((url, record)),
                None => survey.stray.push(path),
            }
        }
        Ok(survey)
    }

    /// What lies in one of the store's folders under the name of a digest.
    pub(super) fn listed(&self, kind: &str) -> Result<Vec<(Digest, PathBuf)>, StoreError> {
        let folder = self.root().join(kind);
        let failed = |error: io::Error| StoreError::at("list", &folder)(error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if let Some(digest) = name.to_str().and_then(|name| Digest::from_hex(name).ok()) {
                found.push((digest, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Finds out what a name leads to.
    fn follow(&self, path: PathBuf, record: ReferenceRecord, survey: &mut Survey) {
        let mut image = ImageFacts {
            id: Digest::of(record.reference.as_bytes()),
            name: record.reference,
            platforms: BTreeSet::new(),
            record: path,
            documents: BTreeSet::new(),
        };
        let mut level = vec![record.descriptor];
        for _ in 0..DEEPEST {
            let mut below = Vec::new();
            for descriptor in level {
                if !image.documents.contains(&descriptor.digest) {
                    below.extend(self.open_document(&descriptor, &mut image, survey));
                }
            }
            level = below;
        }
        survey.images.push(image);
    }

    /// Reads an index, and gives what it holds, or the manifest of an image, and notes its layers.
    fn open_document(
        &self,
        descriptor: &Descriptor,
        image: &mut ImageFacts,
        survey: &mut Survey,
    ) -> Vec<Descriptor> {
        let Ok(bytes) = fs::read(self.blob_path(&descriptor.digest)) else { return Vec::new() };
        image.documents.insert(descriptor.digest);
        let manifest = match (RawManifest { media_type: descriptor.media_type.clone(), bytes }).parse() {
            Ok(Document::Index(index)) => return index.manifests,
            Ok(Document::Image(manifest)) => manifest,
            Err(_) => return Vec::new(),
        };
        let Ok(bytes) = fs::read(self.blob_path(&manifest.config.digest)) else { return Vec::new() };
        image.documents.insert(manifest.config.digest);
        let said = descriptor.platform.as_ref();
        let Ok(config) = ImageConfig::parse_entry(&bytes, said) else { return Vec::new() };
        let platform = config.platform.to_string();
        for (descriptor, diff_id) in manifest.layers.into_iter().zip(config.diff_ids) {
            let facts = survey.layers.entry(diff_id.0).or_default();
            let blob = BlobRecord { diff_id, descriptor };
            if facts.blobs.iter().all(|known| known.descriptor.digest != blob.descriptor.digest) {
                facts.blobs.push(blob);
            }
            facts.images.insert(image.name.clone());
            facts.platforms.insert(platform.clone());
        }
        image.platforms.insert(platform);
        Vec::new()
    }
}

/// The records of blobs in a layer's place.
pub(super) fn blob_records(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "json"))
        .collect();
    found.sort();
    found
}
