//! `--cache-from` and `--cache-to` as text: `type=registry,ref=r.io/app:cache,mode=max`.

use std::fmt;
use std::path::PathBuf;

use super::place::{LONGEST_TAG, prefix};
use crate::image::{Digest, DigestError, Reference, ReferenceError, split_csv};

/// One `--cache-from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheFrom {
    /// Records in a registry, beside the reference, and those in the image that it names.
    Registry(Reference),
    /// Records in an OCI layout.
    Local {
        /// The layout.
        directory: PathBuf,
        /// An image of the layout whose inline records are used, too.
        image: Option<LocalImage>,
    },
}

/// An image of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalImage {
    /// By its tag.
    Tag(String),
    /// By its digest.
    Digest(Digest),
}

/// One `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    /// Where records go.
    pub target: CacheTarget,
    /// Which results get one.
    pub mode: CacheMode,
    /// Whether a cache that cannot be written is a warning rather than the build's failure.
    pub ignore_error: bool,
}

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheTarget {
    /// Into a registry, beside the reference.
    Registry(Reference),
    /// Into an OCI layout, a directory.
    Local(PathBuf),
    /// Into the configs of the images that are built.
    Inline,
}

/// Which results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Those whose layers the images have.
    #[default]
    Min,
    /// Those of all steps.
    Max,
}

/// A cache that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheSpecError {
    /// Not `key=value`.
    #[error("`{0}` is not of the form key=value")]
    NotAPair(String),
    /// No type.
    #[error("type= is missing: {0}")]
    NoType(&'static str),
    /// No such type, here or at all.
    #[error("the cache type `{kind}` is not supported: {supported}")]
    UnknownType {
        /// The type.
        kind: String,
        /// The types that are.
        supported: &'static str,
    },
    /// An option that the type does not have.
    #[error("the cache type {kind} has no option `{key}`: {supported}")]
    UnknownKey {
        /// The type.
        kind: &'static str,
        /// The option.
        key: String,
        /// The options that it has.
        supported: &'static str,
    },
    /// An option twice.
    #[error("`{0}` is given more than once")]
    Twice(String),
    /// A needed option is missing.
    #[error("the cache type {kind} needs {key}")]
    Missing {
        /// The type.
        kind: &'static str,
        /// The option, with what belongs there.
        key: &'static str,
    },
    /// A value that cannot be honoured.
    #[error("`{key}={value}` is not supported: {reason}")]
    Unsupported {
        /// The option.
        key: String,
        /// Its value.
        value: String,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// A reference that is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A digest that is none.
    #[error("`digest=`: {0}")]
    Digest(#[from] DigestError),
    /// A reference that records cannot stand beside.
    #[error("records cannot be written beside `{reference}`: {reason}")]
    NoPlace {
        /// The reference.
        reference: String,
        /// Why.
        reason: String,
    },
}

const TYPES_FROM: &str = "the types are registry and local";
const TYPES_TO: &str = "the types are registry, local and inline";
const INLINE_FROM: &str = "inline records are found by type=registry,ref=IMAGE";
const KEYS_FROM_REGISTRY: &str = "it has ref";
const KEYS_FROM_LOCAL: &str = "it has src, tag and digest";
const KEYS_TO_REGISTRY: &str = "it has ref, mode, ignore-error, image-manifest and oci-mediatypes";
const KEYS_TO_LOCAL: &str = "it has dest, mode, ignore-error, image-manifest and oci-mediatypes";
const KEYS_TO_INLINE: &str = "it has mode";
const COMPRESSION: &str = "layers go into a cache as the outputs compress them: say it there";

impl CacheFrom {
    /// Reads the value of one `--cache-from`. A bare reference is one of type `registry`, as in buildx.
    ///
    /// # Errors
    ///
    /// Fails for types and options that do not exist or cannot be honoured, and for what is missing.
    pub fn parse(text: &str) -> Result<Self, CacheSpecError> {
        refuse_word(text, TYPES_FROM)?;
        if is_bare(text) {
            return Ok(Self::Registry(text.parse()?));
        }
        let mut options = Options::split(text)?;
        match options.kind(TYPES_FROM)?.as_str() {
            "registry" => {
                let reference = options.needed("registry", "ref", "ref=REFERENCE")?.parse()?;
                options.end("registry", KEYS_FROM_REGISTRY)?;
                Ok(Self::Registry(reference))
            }
            "local" => {
                let directory = options.needed("local", "src", "src=DIR")?.into();
                let digest = options.take("digest").map(|digest| digest.parse()).transpose()?;
                let tag = options.take("tag").filter(|tag| !tag.is_empty());
                options.end("local", KEYS_FROM_LOCAL)?;
                let image = digest.map(LocalImage::Digest).or(tag.map(LocalImage::Tag));
                Ok(Self::Local { directory, image })
            }
            kind => Err(CacheSpecError::UnknownType {
                kind: kind.to_owned(),
                supported: if kind == "inline" { INLINE_FROM } else { TYPES_FROM },
            }),
        }
    }
}

impl fmt::Display for CacheFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Local { directory, .. } => directory.display().fmt(f),
        }
    }
}

impl CacheTo {
    /// Reads the value of one `--cache-to`. A bare reference is one of type `registry`, as in buildx.
    ///
    /// A cache that cannot be written does not fail the build unless `ignore-error=false` is said.
    ///
    /// # Errors
    ///
    /// Fails for types and options that do not exist or cannot be honoured, for what is missing, and for
    /// references that no tag can stand beside.
    pub fn parse(text: &str) -> Result<Self, CacheSpecError> {
        refuse_word(text, TYPES_TO)?;
        if is_bare(text) {
            let target = CacheTarget::Registry(writable(text)?);
            return Ok(Self { target, mode: CacheMode::Min, ignore_error: true });
        }
        let mut options = Options::split(text)?;
        let kind = options.kind(TYPES_TO)?;
        let mode = options.mode()?;
        if kind == "inline" {
            if mode == CacheMode::Max {
                let reason =
                    "an image can hold records of its own layers only: use type=registry for mode=max";
                return Err(unsupported("mode", "max", reason));
            }
            options.end("inline", KEYS_TO_INLINE)?;
            return Ok(Self { target: CacheTarget::Inline, mode, ignore_error: true });
        }
        let (target, name, keys) = match kind.as_str() {
            "registry" => {
                let reference = writable(&options.needed("registry", "ref", "ref=REFERENCE")?)?;
                (CacheTarget::Registry(reference), "registry", KEYS_TO_REGISTRY)
            }
            "local" => {
                let directory = options.needed("local", "dest", "dest=DIR")?;
                (CacheTarget::Local(directory.into()), "local", KEYS_TO_LOCAL)
            }
            kind => {
                return Err(CacheSpecError::UnknownType { kind: kind.to_owned(), supported: TYPES_TO });
            }
        };
        for key in ["image-manifest", "oci-mediatypes"] {
            if options.truth(key)? == Some(false) {
                return Err(unsupported(key, "false", "every record is an OCI image manifest"));
            }
        }
        for key in ["compression", "compression-level", "force-compression"] {
            if let Some(value) = options.take(key) {
                return Err(unsupported(key, &value, COMPRESSION));
            }
        }
        let ignore_error = options.truth("ignore-error")?.unwrap_or(true);
        options.end(name, keys)?;
        Ok(Self { target, mode, ignore_error })
    }
}

impl fmt::Display for CacheTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            CacheTarget::Registry(reference) => reference.fmt(f),
            CacheTarget::Local(directory) => directory.display().fmt(f),
            CacheTarget::Inline => f.write_str("inline"),
        }
    }
}

/// Refuses the name of a type that stands alone: it would mean an image of that name.
fn refuse_word(text: &str, supported: &'static str) -> Result<(), CacheSpecError> {
    match text {
        "registry" | "local" | "inline" | "gha" | "s3" | "azblob" => Err(CacheSpecError::NoType(supported)),
        _ => Ok(()),
    }
}

/// A reference alone, without options.
fn is_bare(text: &str) -> bool {
    !text.contains(['=', ',', '"'])
}

/// A reference that records can be written beside.
fn writable(text: &str) -> Result<Reference, CacheSpecError> {
    let reference: Reference = text.parse()?;
    if prefix(&reference).is_some() {
        return Ok(reference);
    }
    let reason = if reference.digest().is_some() {
        "a digest cannot be chosen: drop everything from the @ on".to_owned()
    } else {
        format!("the tag of a cache has {LONGEST_TAG} characters at most")
    };
    Err(CacheSpecError::NoPlace { reference: reference.to_string(), reason })
}

fn unsupported(key: &str, value: &str, reason: &'static str) -> CacheSpecError {
    CacheSpecError::Unsupported { key: key.to_owned(), value: value.to_owned(), reason }
}

/// The `key=value` options of a cache, taken one after the other.
struct Options(Vec<(String, String)>);

impl Options {
    fn split(text: &str) -> Result<Self, CacheSpecError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for field in split_csv(text) {
            let Some((key, value)) = field.split_once('=') else {
                return Err(CacheSpecError::NotAPair(field));
            };
            let key = key.trim().to_lowercase();
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(CacheSpecError::Twice(key));
            }
            pairs.push((key, value.to_owned()));
        }
        Ok(Self(pairs))
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(at).1)
    }

    fn kind(&mut self, supported: &'static str) -> Result<String, CacheSpecError> {
        self.take("type").filter(|kind| !kind.is_empty()).ok_or(CacheSpecError::NoType(supported))
    }

    fn needed(
        &mut self,
        kind: &'static str,
        key: &str,
        shown: &'static str,
    ) -> Result<String, CacheSpecError> {
        let value = self.take(key).filter(|value| !value.is_empty());
        value.ok_or(CacheSpecError::Missing { kind, key: shown })
    }

    fn mode(&mut self) -> Result<CacheMode, CacheSpecError> {
        match self.take("mode").as_deref() {
            None | Some("min") => Ok(CacheMode::Min),
            Some("max") => Ok(CacheMode::Max),
            Some(other) => Err(unsupported("mode", other, "write min or max")),
        }
    }

    fn truth(&mut self, key: &str) -> Result<Option<bool>, CacheSpecError> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(unsupported(key, &value, "write true or false")),
            },
        }
    }

    fn end(self, kind: &'static str, supported: &'static str) -> Result<(), CacheSpecError> {
        match self.0.into_iter().next() {
            Some((key, _)) => Err(CacheSpecError::UnknownKey { kind, key, supported }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
