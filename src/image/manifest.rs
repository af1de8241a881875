//! Manifests and indexes: reading what was pulled, writing what was built.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::media_type::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use super::{Descriptor, Digest};

/// The image manifest of one platform: config and layers.
///
/// Source: OCI image-spec 1.1, `manifest.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    schema_version: u32,
    media_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// Annotations, sorted by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl ImageManifest {
    /// An OCI manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>, annotations: BTreeMap<String, String>) -> Self {
        Self { schema_version: 2, media_type: Some(OCI_MANIFEST.to_owned()), config, layers, annotations }
    }
}

/// An image index: one manifest per platform.
///
/// Source: OCI image-spec 1.1, `image-index.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    schema_version: u32,
    media_type: Option<String>,
    /// The manifests, in the order in which the platforms were asked for.
    pub manifests: Vec<Descriptor>,
    /// Annotations, sorted by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// An OCI index.
    pub fn new(manifests: Vec<Descriptor>, annotations: BTreeMap<String, String>) -> Self {
        Self { schema_version: 2, media_type: Some(OCI_INDEX.to_owned()), manifests, annotations }
    }
}

/// What a pulled document turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An OCI index or a Docker manifest list.
    Index(Index),
    /// An OCI or Docker image manifest.
    Image(ImageManifest),
}

/// A manifest or index with the exact bytes that were pulled or built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// Media type under which it was served, or under which it is to be pushed.
    pub media_type: String,
    /// The bytes that the digest is the digest of.
    pub bytes: Vec<u8>,
}

/// A document that is not an image manifest or index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the expected shape.
    #[error("the manifest is not valid: {0}")]
    Invalid(String),
    /// Could be read as two different things.
    #[error("the manifest says it is `{inside}` but was served as `{outside}`")]
    Contradiction {
        /// The `mediaType` member.
        inside: String,
        /// The type it was served as.
        outside: String,
    },
    /// Holds both `manifests` and `layers`.
    #[error("the manifest holds both `manifests` and `layers`")]
    Ambiguous,
    /// Docker's schema 1, or an artifact.
    #[error("the manifest has the media type `{0}`, which is not an image this program can read")]
    Unsupported(String),
}

/// The members that decide what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

impl RawManifest {
    /// The media type that a document says of itself, or that its members show; `None` for what is
    /// neither a manifest nor an index.
    pub fn said_type(bytes: &[u8]) -> Option<String> {
        let shape: Shape = serde_json::from_slice(bytes).ok()?;
        match (shape.media_type, shape.manifests.is_some(), shape.layers.is_some()) {
            (Some(media_type), _, _) => Some(media_type),
            (None, true, _) => Some(OCI_INDEX.to_owned()),
            (None, false, true) => Some(OCI_MANIFEST.to_owned()),
            (None, false, false) => None,
        }
    }

    /// Serialises `manifest` as an OCI image manifest.
    pub fn from_image(manifest: &ImageManifest) -> Self {
        Self { media_type: OCI_MANIFEST.to_owned(), bytes: json(manifest) }
    }

    /// Serialises `index` as an OCI index.
    pub fn from_index(index: &Index) -> Self {
        Self { media_type: OCI_INDEX.to_owned(), bytes: json(index) }
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Points at this document.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.media_type, &self.bytes)
    }

    /// Parses the bytes.
    ///
    /// # Errors
    ///
    /// Fails for a document that contradicts its own media type, holds the members of two types
    /// (the class of CVE-2021-41190), has a member twice, or is neither an image nor an index.
    pub fn parse(&self) -> Result<Document, ManifestError> {
        let invalid = |error: serde_json::Error| ManifestError::Invalid(error.to_string());
        let shape: Shape = serde_json::from_slice(&self.bytes).map_err(invalid)?;
        if shape.manifests.is_some() && shape.layers.is_some() {
            return Err(ManifestError::Ambiguous);
        }
        if let Some(inside) = &shape.media_type
            && *inside != self.media_type
        {
            return Err(ManifestError::Contradiction {
                inside: inside.clone(),
                outside: self.media_type.clone(),
            });
        }
        match self.media_type.as_str() {
            OCI_INDEX | DOCKER_LIST => {
                serde_json::from_slice(&self.bytes).map(Document::Index).map_err(invalid)
            }
            OCI_MANIFEST | DOCKER_MANIFEST => {
                serde_json::from_slice(&self.bytes).map(Document::Image).map_err(invalid)
            }
            other => Err(ManifestError::Unsupported(other.to_owned())),
        }
    }
}

/// Compact JSON with members in declaration order.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("OCI values hold only text keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::media_type::OCI_CONFIG;

    fn raw(media_type: &str, text: &str) -> RawManifest {
        RawManifest { media_type: media_type.to_owned(), bytes: text.as_bytes().to_vec() }
    }

    #[test]
    fn round_trip() {
        let manifest = ImageManifest::new(Descriptor::of(OCI_CONFIG, b"{}"), Vec::new(), BTreeMap::new());
        let raw = RawManifest::from_image(&manifest);
        assert_eq!(raw.parse(), Ok(Document::Image(manifest)));
    }

    #[test]
    fn index_entries_have_platforms() {
        let platform = "linux/arm/v7".parse().unwrap();
        let entry = Descriptor::of(OCI_MANIFEST, b"x").with_platform(platform);
        let text =
            String::from_utf8(RawManifest::from_index(&Index::new(vec![entry], BTreeMap::new())).bytes);
        assert!(text.unwrap().contains(r#""platform":{"architecture":"arm","os":"linux","variant":"v7"}"#));
    }

    #[test]
    fn refuses_two_types_in_one() {
        let both = raw(OCI_INDEX, r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#);
        assert_eq!(both.parse(), Err(ManifestError::Ambiguous));
        let lie = raw(OCI_INDEX, &format!(r#"{{"mediaType":"{OCI_MANIFEST}","manifests":[]}}"#));
        assert!(matches!(lie.parse(), Err(ManifestError::Contradiction { .. })));
        let twice = raw(OCI_INDEX, r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#);
        assert!(matches!(twice.parse(), Err(ManifestError::Invalid(_))));
        let schema1 = raw("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}");
        assert!(matches!(schema1.parse(), Err(ManifestError::Unsupported(_))));
    }
}
