//! [`CompressionSpec`]: how the layers of an output are to be compressed, and what all outputs agree on.

use super::OutputSpec;
use super::spec::{Fields, SpecError};
use crate::image::Compression;
use crate::image::media_type::LayerEncoding;

/// `compression=`, `compression-level=` and `force-compression=` of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionSpec {
    /// How the layers that the build makes are compressed.
    pub compression: Compression,
    /// Whether the layers of bases are written again where their encoding is another.
    pub force: bool,
}

/// How the layers of a build are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Of the layers that the build makes.
    pub compression: Compression,
    /// Whether the layers of bases are written again where their encoding is another.
    pub force: bool,
}

/// Two outputs of one build that want its layers in different forms: an image has one form of each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the outputs {first} and {second} want layers compressed in different ways: {first_wish} and {second_wish}"
)]
pub struct Disagreement {
    /// Which output, counted from 1.
    first: usize,
    first_wish: String,
    second: usize,
    second_wish: String,
}

impl CompressionSpec {
    /// The keys that it is made of.
    pub(super) const KEYS: [&'static str; 3] = ["compression", "compression-level", "force-compression"];

    /// Takes the keys out of an output's fields; `None` where there is none of them.
    pub(super) fn take(fields: &mut Fields) -> Result<Option<Self>, SpecError> {
        let [kind, level, force] = Self::KEYS;
        let (kind, level, force) = (fields.take(kind), fields.take(level), fields.take_bool(force)?);
        if kind.is_none() && level.is_none() && force.is_none() {
            return Ok(None);
        }
        let encoding = match kind.as_deref() {
            None | Some("gzip") => LayerEncoding::Gzip,
            Some("zstd") => LayerEncoding::Zstd,
            Some("uncompressed") => LayerEncoding::Tar,
            Some("estargz") => return Err(SpecError::Unsupported("compression=estargz".to_owned())),
            Some(other) => return Err(SpecError::UnknownCompression(other.to_owned())),
        };
        let level = match level {
            Some(text) => Some(text.trim().parse().map_err(|_| SpecError::NotALevel(text))?),
            None => None,
        };
        let compression = Compression::new(encoding, level)?;
        Ok(Some(Self { compression, force: force.unwrap_or(false) }))
    }
}

/// What all outputs that hold compressed layers agree on; one that does not say it wants the usual.
///
/// # Errors
///
/// Fails where two of them want different things.
pub fn compression(outputs: &[OutputSpec]) -> Result<Chosen, Disagreement> {
    let mut chosen: Option<(usize, &OutputSpec, Chosen)> = None;
    for (at, output) in outputs.iter().enumerate() {
        let (OutputSpec::Registry { compression, .. } | OutputSpec::Oci { compression, .. }) = output else {
            continue;
        };
        let wanted = compression
            .map_or_else(Chosen::default, |spec| Chosen { compression: spec.compression, force: spec.force });
        match chosen {
            None => chosen = Some((at, output, wanted)),
            Some((first, other, before)) if before != wanted => {
                return Err(Disagreement {
                    first: first + 1,
                    first_wish: shown(other, before),
                    second: at + 1,
                    second_wish: shown(output, wanted),
                });
            }
            Some(_) => {}
        }
    }
    Ok(chosen.map_or_else(Chosen::default, |(_, _, chosen)| chosen))
}

fn shown(output: &OutputSpec, wanted: Chosen) -> String {
    let force = if wanted.force { " by force" } else { "" };
    format!("{} {}{force}", output.kind(), wanted.compression)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(outputs: &[&str]) -> Result<(String, bool), String> {
        let outputs = outputs.iter().map(|text| OutputSpec::parse(text).unwrap()).collect::<Vec<_>>();
        let chosen = compression(&outputs).map_err(|error| error.to_string())?;
        Ok((chosen.compression.name(), chosen.force))
    }

    #[test]
    fn reads_compressions() {
        for (keys, want) in [
            ("", ("gzip-6", false)),
            ("compression=gzip", ("gzip-6", false)),
            ("compression-level=9", ("gzip-9", false)),
            ("compression=gzip,compression-level=0", ("gzip-0", false)),
            ("compression=zstd", ("zstd-3", false)),
            ("compression=zstd,compression-level=0", ("zstd-3", false)),
            ("compression=zstd,compression-level=22,force-compression=true", ("zstd-22", true)),
            ("compression=uncompressed,force-compression=false", ("tar", false)),
            ("force-compression=1", ("gzip-6", true)),
        ] {
            for output in ["type=registry", "type=image,push=true", "type=oci,dest=x"] {
                let text = format!("{output},{keys}");
                let want = (want.0.to_owned(), want.1);
                assert_eq!(chosen(&[text.trim_end_matches(',')]), Ok(want), "{text}");
            }
        }
    }

    #[test]
    fn refuses_what_cannot_be_had() {
        for (keys, want) in [
            ("compression=estargz", "output option `compression=estargz` is not supported"),
            ("compression=lz4", "unknown compression `lz4`: write gzip, zstd or uncompressed"),
            (
                "compression=gzip,compression-level=10",
                "gzip has no compression level 10: give one from 0 to 9",
            ),
            (
                "compression=zstd,compression-level=-1",
                "`compression-level=-1` is not a whole number from 0 on",
            ),
            (
                "compression=uncompressed,compression-level=3",
                "uncompressed layers have no compression level: leave out the level 3",
            ),
            ("force-compression=yes", "`force-compression=yes` is neither true nor false"),
        ] {
            let error = OutputSpec::parse(&format!("type=oci,dest=x,{keys}")).unwrap_err();
            assert_eq!(error.to_string(), want);
        }
    }

    #[test]
    fn all_outputs_agree() {
        let zstd = "type=oci,dest=x,compression=zstd";
        let gzip = |force| Ok(("gzip-6".to_owned(), force));
        assert_eq!(chosen(&[]), gzip(false));
        assert_eq!(chosen(&["type=local,dest=x", "type=docker,dest=-"]), gzip(false));
        assert_eq!(chosen(&["type=registry", "type=oci,dest=x,compression-level=6"]), gzip(false));
        let both = [zstd, "out", "type=registry,compression=zstd,compression-level=3"];
        assert_eq!(chosen(&both), Ok(("zstd-3".to_owned(), false)));
        for (outputs, want) in [
            (
                [zstd, "type=registry"],
                "1 and 2 want layers compressed in different ways: oci zstd-3 and registry gzip-6",
            ),
            (
                ["type=registry", "type=registry,force-compression=true"],
                "1 and 2 want layers compressed in different ways: registry gzip-6 and registry gzip-6 by force",
            ),
        ] {
            assert_eq!(chosen(&outputs), Err(format!("the outputs {want}")));
        }
    }
}
