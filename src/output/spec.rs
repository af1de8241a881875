//! `--output` as text: `type=oci,dest=image.tar`.

use std::path::PathBuf;

use super::compression::CompressionSpec;
use super::file::is_stream;
use crate::image::{CompressionError, Reference, ReferenceError, split_csv};

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputSpec {
    /// Push to registries.
    Registry {
        /// Names; empty for those of `--tag`.
        names: Vec<Reference>,
        /// Push by digest alone, without moving a tag.
        by_digest: bool,
        /// How layers are to be compressed; `None` where the output does not say it.
        compression: Option<CompressionSpec>,
    },
    /// An OCI layout.
    Oci {
        /// Where.
        destination: Destination,
        /// One tar file rather than a directory.
        tar: bool,
        /// Names; empty for those of `--tag`.
        names: Vec<Reference>,
        /// How layers are to be compressed; `None` where the output does not say it.
        compression: Option<CompressionSpec>,
    },
    /// An archive for `docker load`.
    Docker {
        /// Where.
        destination: Destination,
        /// Names; empty for those of `--tag`.
        names: Vec<Reference>,
    },
    /// The root file systems as directories.
    Local {
        /// The directory.
        directory: PathBuf,
    },
    /// The root file systems as one tar.
    Tar {
        /// Where.
        destination: Destination,
    },
}

/// Where an output's bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file or directory.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

/// An `--output` that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not `key=value`.
    #[error("invalid output `{0}`: `{1}` is not of the form key=value")]
    NotAPair(String, String),
    /// No type at all.
    #[error("type= is missing: the types are registry, oci, docker, local and tar")]
    NoType,
    /// No such type.
    #[error("unknown output type `{0}`: the types are registry, oci, docker, local and tar")]
    UnknownType(String),
    /// A key that the type does not have.
    #[error("output type {kind} has no option `{key}`")]
    UnknownKey {
        /// The type.
        kind: String,
        /// The key.
        key: String,
    },
    /// A needed key is missing.
    #[error("output type {0} needs dest=PATH")]
    NoDestination(&'static str),
    /// Not a truth value.
    #[error("`{key}={value}` is neither true nor false")]
    NotABool {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// Not a level of compression.
    #[error("`compression-level={0}` is not a whole number from 0 on")]
    NotALevel(String),
    /// No such compression.
    #[error("unknown compression `{0}`: write gzip, zstd or uncompressed")]
    UnknownCompression(String),
    /// A level that the compression does not have.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// Compression where there is none by definition.
    #[error(
        "the layers of a docker archive are plain tars, so it has no option `{0}`: write type=oci for compressed ones"
    )]
    DockerLayers(&'static str),
    /// A name that is no reference.
    #[error(transparent)]
    Name(#[from] ReferenceError),
    /// An option that exists elsewhere and cannot be had here.
    #[error("output option `{0}` is not supported")]
    Unsupported(String),
}

impl OutputSpec {
    /// Whether it is a push to registries.
    pub fn is_push(&self) -> bool {
        matches!(self, Self::Registry { .. })
    }

    /// Reads the value of one `--output`. A bare path is a `local` output, `-` a `tar` on standard
    /// output, as in buildx.
    ///
    /// # Errors
    ///
    /// Fails for unknown types and keys and for missing destinations.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        if text == "-" {
            return Ok(Self::Tar { destination: Destination::Stdout });
        }
        if !text.contains('=') {
            return Ok(Self::Local { directory: PathBuf::from(text) });
        }
        let mut fields = Fields::split(text)?;
        let kind = fields.take("type").ok_or(SpecError::NoType)?;
        let spec = match kind.as_str() {
            "registry" => Self::registry(&mut fields)?,
            "image" => {
                if !fields.take_bool("push")?.unwrap_or(false) {
                    return Err(SpecError::Unsupported("type=image without push=true".to_owned()));
                }
                Self::registry(&mut fields)?
            }
            "oci" => {
                let tar = fields.take_bool("tar")?.unwrap_or(true);
                let destination = fields.destination("oci", !tar)?;
                Self::Oci { destination, tar, names: fields.names()?, compression: fields.oci_layers()? }
            }
            "docker" => {
                let unfit = CompressionSpec::KEYS.into_iter().find(|key| fields.has(key));
                if let Some(key) = unfit {
                    return Err(SpecError::DockerLayers(key));
                }
                Self::Docker { destination: fields.destination("docker", false)?, names: fields.names()? }
            }
            "local" => match fields.destination("local", true)? {
                Destination::Path(directory) => Self::Local { directory },
                Destination::Stdout => return Err(SpecError::NoDestination("local")),
            },
            "tar" => Self::Tar { destination: fields.destination("tar", false)? },
            other => return Err(SpecError::UnknownType(other.to_owned())),
        };
        match fields.pairs.into_iter().next() {
            Some((key, _)) => Err(SpecError::UnknownKey { kind, key }),
            None => Ok(spec),
        }
    }

    fn registry(fields: &mut Fields) -> Result<Self, SpecError> {
        if fields.take_bool("push")? == Some(false) {
            return Err(SpecError::Unsupported("push=false".to_owned()));
        }
        // Both are buildx's words for the same wish.
        fields.take_bool("name-canonical")?;
        let by_digest = fields.take_bool("push-by-digest")?.unwrap_or(false);
        Ok(Self::Registry { names: fields.names()?, by_digest, compression: fields.oci_layers()? })
    }

    /// The type's name, for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Registry { .. } => "registry",
            Self::Oci { .. } => "oci",
            Self::Docker { .. } => "docker",
            Self::Local { .. } => "local",
            Self::Tar { .. } => "tar",
        }
    }

    /// Whether what is written cannot be taken back: it goes to standard output, a device or a pipe.
    pub fn is_stream(&self) -> bool {
        match self {
            Self::Oci { destination, tar, .. } => *tar && is_stream(destination),
            Self::Docker { destination, .. } | Self::Tar { destination } => is_stream(destination),
            Self::Local { .. } | Self::Registry { .. } => false,
        }
    }

    /// Whether the result goes to standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(
            self,
            Self::Oci { destination: Destination::Stdout, .. }
                | Self::Docker { destination: Destination::Stdout, .. }
                | Self::Tar { destination: Destination::Stdout }
        )
    }
}

/// The `key=value` fields of an output, taken one after the other.
pub(super) struct Fields {
    pairs: Vec<(String, String)>,
}

impl Fields {
    fn split(text: &str) -> Result<Self, SpecError> {
        let pairs = split_csv(text)
            .into_iter()
            .map(|field| match field.split_once('=') {
                Some((key, value)) => Ok((key.trim().to_lowercase(), value.to_owned())),
                None => Err(SpecError::NotAPair(text.to_owned(), field)),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { pairs })
    }

    fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == key)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(known, _)| known == key)?;
        Some(self.pairs.remove(at).1)
    }

    pub(super) fn take_bool(&mut self, key: &str) -> Result<Option<bool>, SpecError> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(SpecError::NotABool { key: key.to_owned(), value }),
            },
        }
    }

    /// How the layers of an OCI image are to be written. There are OCI media types only.
    fn oci_layers(&mut self) -> Result<Option<CompressionSpec>, SpecError> {
        if self.take_bool("oci-mediatypes")? == Some(false) {
            return Err(SpecError::Unsupported("oci-mediatypes=false".to_owned()));
        }
        CompressionSpec::take(self)
    }

    fn names(&mut self) -> Result<Vec<Reference>, SpecError> {
        let names = self.take("name").unwrap_or_default();
        names.split(',').filter(|name| !name.is_empty()).map(|name| Ok(name.trim().parse()?)).collect()
    }

    fn destination(&mut self, kind: &'static str, directory: bool) -> Result<Destination, SpecError> {
        match self.take("dest").or_else(|| self.take("destination")) {
            Some(path) if path == "-" && !directory => Ok(Destination::Stdout),
            Some(path) if !path.is_empty() => Ok(Destination::Path(PathBuf::from(path))),
            _ => Err(SpecError::NoDestination(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Destination {
        Destination::Path(PathBuf::from(text))
    }

    #[test]
    fn reads_outputs() {
        let name: Reference = "r.io/a:1".parse().unwrap();
        for (text, want) in [
            ("out", OutputSpec::Local { directory: "out".into() }),
            ("-", OutputSpec::Tar { destination: Destination::Stdout }),
            (
                "type=oci,dest=x.tar",
                OutputSpec::Oci { destination: path("x.tar"), tar: true, names: vec![], compression: None },
            ),
            (
                "type=oci,dest=x,tar=false",
                OutputSpec::Oci { destination: path("x"), tar: false, names: vec![], compression: None },
            ),
            ("type=docker,dest=-", OutputSpec::Docker { destination: Destination::Stdout, names: vec![] }),
            ("type=tar,dest=a b.tar", OutputSpec::Tar { destination: path("a b.tar") }),
            (
                "type=oci,dest=x,oci-mediatypes=true",
                OutputSpec::Oci { destination: path("x"), tar: true, names: vec![], compression: None },
            ),
            ("type=registry", OutputSpec::Registry { names: vec![], by_digest: false, compression: None }),
            (
                "type=image,\"name=r.io/a:1,r.io/a:1\",push=true",
                OutputSpec::Registry {
                    names: vec![name.clone(), name.clone()],
                    by_digest: false,
                    compression: None,
                },
            ),
            (
                "type=image,name=r.io/a:1,push-by-digest=true,name-canonical=true,push=true",
                OutputSpec::Registry { names: vec![name], by_digest: true, compression: None },
            ),
        ] {
            assert_eq!(OutputSpec::parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn nothing_is_ignored() {
        for (text, want) in [
            ("type=oci", "output type oci needs dest=PATH"),
            ("dest=x", "type= is missing: the types are registry, oci, docker, local and tar"),
            (
                "type=foo,dest=x",
                "unknown output type `foo`: the types are registry, oci, docker, local and tar",
            ),
            ("type=tar,dest=x,compression=zstd", "output type tar has no option `compression`"),
            ("type=oci,dest=x,tar=maybe", "`tar=maybe` is neither true nor false"),
            ("type=oci,dest", "invalid output `type=oci,dest`: `dest` is not of the form key=value"),
            ("type=oci,dest=x,oci-mediatypes=false", "output option `oci-mediatypes=false` is not supported"),
            ("type=docker,dest=x,oci-mediatypes=true", "output type docker has no option `oci-mediatypes`"),
            (
                "type=docker,dest=x,compression-level=1",
                "the layers of a docker archive are plain tars, so it has no option `compression-level`: \
                 write type=oci for compressed ones",
            ),
            ("type=image,name=x", "output option `type=image without push=true` is not supported"),
        ] {
            assert_eq!(OutputSpec::parse(text).unwrap_err().to_string(), want, "{text}");
        }
    }
}
