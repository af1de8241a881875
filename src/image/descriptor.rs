//! A pointer at content: media type, digest and size.

use std::collections::BTreeMap;

use fanfold_platforms::Platform;
use serde::{Deserialize, Serialize};

use super::Digest;

/// Points at a blob or manifest.
///
/// Source: OCI image-spec 1.1, `descriptor.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is, e.g. [`super::media_type::OCI_MANIFEST`].
    pub media_type: String,
    /// Address of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Where the content may also be had (foreign layers); kept, never followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub urls: Vec<String>,
    /// Annotations, sorted by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
    /// The platform of an index entry.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "platform")]
    pub platform: Option<Platform>,
    /// Kind of an artifact, where the content is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor without platform or annotations.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }

    /// The descriptor of `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// The same content, said to be for `platform`.
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// The same content with these annotations.
    pub fn with_annotations(mut self, annotations: BTreeMap<String, String>) -> Self {
        self.annotations = annotations;
        self
    }
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The platform object of an index entry, `{"architecture", "os", "os.version", "variant"}`.
mod platform {
    use super::{Deserialize, Platform, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Object {
        architecture: String,
        os: String,
        #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
        os_version: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        variant: Option<String>,
    }

    pub(super) fn serialize<S: serde::Serializer>(
        platform: &Option<Platform>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        platform
            .as_ref()
            .map(|platform| Object {
                architecture: platform.architecture().to_owned(),
                os: platform.os().to_owned(),
                os_version: platform.os_version().map(str::to_owned),
                variant: platform.variant().map(str::to_owned),
            })
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Platform>, D::Error> {
        let object = Option::<Object>::deserialize(deserializer)?;
        Ok(object.map(|object| {
            Platform::new(
                &object.os,
                &object.architecture,
                object.variant.as_deref(),
                object.os_version.as_deref(),
            )
        }))
    }
}
