//! Reads an index and its images, and checks all that they claim: digests,
//! sizes, diff ids, media types, and that history and layers agree.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::tree::{Entry, Tree};

/// `sha256:HEX` of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a string takes all");
    }
    text
}

/// Where blobs lie.
#[derive(Debug)]
pub(crate) enum Blobs {
    /// An OCI layout.
    Layout(PathBuf),
    /// The blob folder of docker-registry's file system storage.
    Registry(PathBuf),
}

impl Blobs {
    /// The file of a blob.
    pub(crate) fn path(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap_or_else(|| panic!("{digest}: not sha256"));
        match self {
            Self::Layout(dir) => dir.join("blobs/sha256").join(hex),
            Self::Registry(dir) => dir.join("sha256").join(&hex[..2]).join(hex).join("data"),
        }
    }

    /// The content of a blob, which must be what the digest says.
    fn read(&self, digest: &str) -> Vec<u8> {
        let path = self.path(digest);
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{digest}: {}: {error}", path.display()));
        assert_eq!(sha256(&bytes), digest, "wrong bytes under a digest");
        bytes
    }

    /// The content that a descriptor points at, which must be as long as it says.
    fn resolve(&self, descriptor: &Value) -> Vec<u8> {
        let bytes = self.read(text(descriptor, "digest"));
        assert_eq!(descriptor["size"], bytes.len(), "wrong size in {descriptor}");
        bytes
    }
}

/// An image index, or a single image as an index of one.
#[derive(Debug)]
pub(crate) struct Index {
    /// Digest of the index (of the manifest, if there is no index).
    pub(crate) digest: String,
    /// The index as JSON (the manifest, if there is no index).
    pub(crate) json: Value,
    /// Its images, in its order. Attestations are left out.
    pub(crate) images: Vec<Image>,
}

impl Index {
    /// Reads an OCI layout folder, which must hold one index or one image.
    #[track_caller]
    pub(crate) fn layout(dir: &Path) -> Self {
        let marker = std::fs::read(dir.join("oci-layout")).expect("oci-layout");
        let marker: Value = serde_json::from_slice(&marker).expect("JSON");
        assert_eq!(marker["imageLayoutVersion"], "1.0.0");
        let top = std::fs::read(dir.join("index.json")).expect("index.json");
        let top: Value = serde_json::from_slice(&top).expect("JSON");
        let entries = top["manifests"].as_array().expect("manifests");
        let first = entries.first().expect("an entry in index.json");
        let digest = text(first, "digest");
        // Several tags of one index are several entries.
        assert!(
            entries.iter().all(|entry| entry["digest"] == digest),
            "index.json holds several images: {top}"
        );
        Self::read(&Blobs::Layout(dir.to_owned()), digest)
    }

    /// Reads an OCI layout in a tar archive.
    #[track_caller]
    pub(crate) fn layout_tar(archive: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        super::tool(
            "tar",
            ["-xf", archive.to_str().expect("UTF-8"), "-C", dir.path().to_str().expect("UTF-8")],
        )
        .success();
        Self::layout(dir.path())
    }

    /// Reads the index or the image of a digest.
    #[track_caller]
    pub(crate) fn read(blobs: &Blobs, digest: &str) -> Self {
        let bytes = blobs.read(digest);
        let json: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(json["schemaVersion"], 2, "{json}");
        let images = match json["manifests"].as_array() {
            None => vec![Image::read(blobs, digest, &bytes, None)],
            Some(entries) => entries
                .iter()
                .filter(|entry| entry["platform"]["os"] != "unknown")
                .map(|entry| {
                    let manifest = blobs.resolve(entry);
                    Image::read(blobs, text(entry, "digest"), &manifest, Some(entry))
                })
                .collect(),
        };
        Self { digest: digest.to_owned(), json, images }
    }

    /// The platforms, in order, as `linux/arm/v7`.
    pub(crate) fn platforms(&self) -> Vec<&str> {
        self.images.iter().map(|image| image.platform.as_str()).collect()
    }

    /// The image of a platform.
    #[track_caller]
    pub(crate) fn image(&self, platform: &str) -> &Image {
        self.images
            .iter()
            .find(|image| image.platform == platform)
            .unwrap_or_else(|| panic!("no image for {platform}, but for {:?}", self.platforms()))
    }
}

/// One image of one platform.
#[derive(Debug)]
pub(crate) struct Image {
    /// Digest of the manifest.
    pub(crate) digest: String,
    /// Platform of the config, as `linux/arm/v7`.
    pub(crate) platform: String,
    /// The manifest.
    pub(crate) manifest: Value,
    /// The whole image config.
    pub(crate) config: Value,
    /// The layers, lowest first.
    pub(crate) layers: Vec<Layer>,
}

/// One layer.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Digest of the blob.
    pub(crate) digest: String,
    /// Digest of the tar archive in it.
    pub(crate) diff_id: String,
    /// Media type.
    pub(crate) media_type: String,
    /// The archive's entries, in order.
    pub(crate) entries: Vec<Entry>,
}

impl Image {
    fn read(blobs: &Blobs, digest: &str, manifest: &[u8], entry: Option<&Value>) -> Self {
        let manifest: Value = serde_json::from_slice(manifest).expect("JSON");
        assert_eq!(manifest["schemaVersion"], 2, "{manifest}");
        let config: Value = serde_json::from_slice(&blobs.resolve(&manifest["config"])).expect("JSON");
        let platform = platform(&config);
        if let Some(entry) = entry {
            assert_eq!(
                self::platform(&entry["platform"]),
                platform,
                "index entry and config name other platforms"
            );
            assert_eq!(
                entry["mediaType"], manifest["mediaType"],
                "index entry and manifest name other types"
            );
        }
        let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("diff_ids");
        let descriptors = manifest["layers"].as_array().expect("layers");
        assert_eq!(diff_ids.len(), descriptors.len(), "{digest}: diff ids and layers differ in number");
        let layers: Vec<Layer> = descriptors
            .iter()
            .zip(diff_ids)
            .map(|(descriptor, diff_id)| {
                let media_type = text(descriptor, "mediaType");
                let archive = decompress(media_type, &blobs.resolve(descriptor));
                assert_eq!(*diff_id, sha256(&archive), "{digest}: wrong diff id");
                Layer {
                    digest: text(descriptor, "digest").to_owned(),
                    diff_id: diff_id.as_str().expect("a string").to_owned(),
                    media_type: media_type.to_owned(),
                    entries: Entry::read_all(&archive),
                }
            })
            .collect();
        let with_layer = history(&config).iter().filter(|entry| entry["empty_layer"] != true).count();
        assert_eq!(with_layer, layers.len(), "{digest}: history and layers differ in number: {config}");
        Self { digest: digest.to_owned(), platform, manifest, config, layers }
    }

    /// What a container of the image would see.
    pub(crate) fn tree(&self) -> Tree {
        Tree::merge(self.layers.iter().map(|layer| layer.entries.as_slice()))
    }

    /// The run configuration (`config.config`).
    pub(crate) fn run_config(&self) -> &Value {
        &self.config["config"]
    }

    /// History entries.
    pub(crate) fn history(&self) -> &[Value] {
        history(&self.config)
    }

    /// True if the lowest layers are those of `base`.
    pub(crate) fn is_built_on(&self, base: &Self) -> bool {
        self.layers.len() >= base.layers.len()
            && self.layers.iter().zip(&base.layers).all(|(own, below)| own.diff_id == below.diff_id)
    }
}

fn history(config: &Value) -> &[Value] {
    config["history"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// `linux/arm/v7` of an object with os, architecture and variant.
fn platform(value: &Value) -> String {
    [&value["os"], &value["architecture"], &value["variant"]]
        .iter()
        .filter_map(|part| part.as_str())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name} in {value}"))
}

fn decompress(media_type: &str, blob: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    if media_type.ends_with("+gzip") || media_type.ends_with(".gzip") {
        flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut archive).expect("gzip");
    } else if media_type.ends_with("+zstd") {
        zstd::Decoder::new(blob).and_then(|mut decoder| decoder.read_to_end(&mut archive)).expect("zstd");
    } else {
        assert!(media_type.ends_with("tar"), "unknown layer type {media_type}");
        archive.extend_from_slice(blob);
    }
    archive
}
