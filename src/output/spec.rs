//! `--output` as text: `type=oci,dest=image.tar`.

use std::path::PathBuf;

use crate::image::{Reference, ReferenceError};

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputSpec {
    /// Push to registries.
    Registry {
        /// Names; empty for those of `--tag`.
        names: Vec<Reference>,
        /// Push by digest alone, without moving a tag.
        by_digest: bool,
    },
    /// An OCI layout.
    Oci {
        /// Where.
        destination: Destination,
        /// One tar file rather than a directory.
        tar: bool,
        /// Names; empty for those of `--tag`.
        names: Vec<Reference>,
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
                Self::Oci { destination, tar, names: fields.names()? }
            }
            "docker" => {
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
        Ok(Self::Registry { names: fields.names()?, by_digest })
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
struct Fields {
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

    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(known, _)| known == key)?;
        Some(self.pairs.remove(at).1)
    }

    fn take_bool(&mut self, key: &str) -> Result<Option<bool>, SpecError> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(SpecError::NotABool { key: key.to_owned(), value }),
            },
        }
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

/// Splits one CSV record; a field in double quotes may hold commas.
fn split_csv(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().expect("there is always a field").push(other),
        }
    }
    fields
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
            ("type=oci,dest=x.tar", OutputSpec::Oci { destination: path("x.tar"), tar: true, names: vec![] }),
            (
                "type=oci,dest=x,tar=false",
                OutputSpec::Oci { destination: path("x"), tar: false, names: vec![] },
            ),
            ("type=docker,dest=-", OutputSpec::Docker { destination: Destination::Stdout, names: vec![] }),
            ("type=tar,dest=a b.tar", OutputSpec::Tar { destination: path("a b.tar") }),
            ("type=registry", OutputSpec::Registry { names: vec![], by_digest: false }),
            (
                "type=image,\"name=r.io/a:1,r.io/a:1\",push=true",
                OutputSpec::Registry { names: vec![name.clone(), name.clone()], by_digest: false },
            ),
            (
                "type=image,name=r.io/a:1,push-by-digest=true,name-canonical=true,push=true",
                OutputSpec::Registry { names: vec![name], by_digest: true },
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
            ("type=image,name=x", "output option `type=image without push=true` is not supported"),
        ] {
            assert_eq!(OutputSpec::parse(text).unwrap_err().to_string(), want, "{text}");
        }
    }
}
