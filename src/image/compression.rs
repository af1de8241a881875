//! [`Compression`]: how a layer's blob is compressed.

use std::fmt;
use std::str::FromStr;

use super::media_type::LayerEncoding;

/// Encoding and level of a layer's blob; with the tar they determine its bytes.
///
/// `Display`, serde and [`Compression::name`] say it as `gzip-6`, `zstd-3` or `tar`, and parsing reads
/// exactly that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Compression {
    encoding: LayerEncoding,
    /// Zero where the encoding has no levels.
    level: u32,
}

/// A compression that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// A level that the encoding does not have.
    #[error("{encoding} has no compression level {level}: give one from 0 to {highest}")]
    Level {
        /// `gzip` or `zstd`.
        encoding: &'static str,
        /// What was asked for.
        level: u32,
        /// The last one there is.
        highest: u32,
    },
    /// A level for plain tars.
    #[error("uncompressed layers have no compression level: leave out the level {0}")]
    NoLevel(u32),
    /// Not the name of a compression.
    #[error("`{0}` is not a compression such as gzip-6, zstd-3 or tar")]
    Unknown(String),
}

/// zstd's own default, which it also calls level 0.
const ZSTD_DEFAULT: u32 = 3;
const GZIP_DEFAULT: u32 = 6;
const GZIP_HIGHEST: u32 = 9;
const ZSTD_HIGHEST: u32 = 22;

impl Compression {
    /// What is written where nothing else was asked for: gzip of level 6, which every client reads.
    pub const DEFAULT: Self = Self { encoding: LayerEncoding::Gzip, level: GZIP_DEFAULT };
    /// Plain tars.
    pub const NONE: Self = Self { encoding: LayerEncoding::Tar, level: 0 };

    /// An encoding at a level, or at the encoding's usual one: gzip 6, zstd 3.
    ///
    /// gzip has the levels 0 (stored) to 9; zstd has 0 to 22, of which 0 means 3.
    ///
    /// # Errors
    ///
    /// Fails for a level that the encoding does not have.
    pub fn new(encoding: LayerEncoding, level: Option<u32>) -> Result<Self, CompressionError> {
        let (name, usual, highest) = match encoding {
            LayerEncoding::Tar => {
                return level.map_or(Ok(Self::NONE), |level| Err(CompressionError::NoLevel(level)));
            }
            LayerEncoding::Gzip => ("gzip", GZIP_DEFAULT, GZIP_HIGHEST),
            LayerEncoding::Zstd => ("zstd", ZSTD_DEFAULT, ZSTD_HIGHEST),
        };
        let level = match level {
            None => usual,
            Some(0) if encoding == LayerEncoding::Zstd => usual,
            Some(level) if level <= highest => level,
            Some(level) => return Err(CompressionError::Level { encoding: name, level, highest }),
        };
        Ok(Self { encoding, level })
    }

    /// The encoding, which the media type of a layer tells.
    pub const fn encoding(self) -> LayerEncoding {
        self.encoding
    }

    /// The level; `None` where the encoding has no levels.
    pub fn level(self) -> Option<u32> {
        (self.encoding != LayerEncoding::Tar).then_some(self.level)
    }

    /// The name, which is also fit for a file name: `gzip-6`, `zstd-3`, `tar`.
    pub fn name(self) -> String {
        self.to_string()
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.encoding {
            LayerEncoding::Tar => f.write_str("tar"),
            LayerEncoding::Gzip => write!(f, "gzip-{}", self.level),
            LayerEncoding::Zstd => write!(f, "zstd-{}", self.level),
        }
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        let unknown = || CompressionError::Unknown(text.chars().take(100).collect());
        if text == "tar" {
            return Ok(Self::NONE);
        }
        let (encoding, level) = match text.split_once('-') {
            Some(("gzip", level)) => (LayerEncoding::Gzip, level),
            Some(("zstd", level)) => (LayerEncoding::Zstd, level),
            _ => return Err(unknown()),
        };
        let found = Self::new(encoding, Some(level.parse().map_err(|_| unknown())?))?;
        // One compression has one name: not `gzip-06`, nor `zstd-0`.
        if found.name() == text { Ok(found) } else { Err(unknown()) }
    }
}

impl serde::Serialize for Compression {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Compression {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_names() {
        use LayerEncoding::{Gzip, Tar, Zstd};
        for (encoding, level, want) in [
            (Gzip, None, Ok("gzip-6")),
            (Gzip, Some(0), Ok("gzip-0")),
            (Gzip, Some(9), Ok("gzip-9")),
            (Gzip, Some(10), Err("gzip has no compression level 10: give one from 0 to 9")),
            (Zstd, None, Ok("zstd-3")),
            (Zstd, Some(0), Ok("zstd-3")),
            (Zstd, Some(22), Ok("zstd-22")),
            (Zstd, Some(23), Err("zstd has no compression level 23: give one from 0 to 22")),
            (Tar, None, Ok("tar")),
            (Tar, Some(1), Err("uncompressed layers have no compression level: leave out the level 1")),
        ] {
            let found = Compression::new(encoding, level);
            let text = found.clone().map(Compression::name).map_err(|error| error.to_string());
            assert_eq!(text.as_deref().map_err(String::as_str), want);
            let Ok(found) = found else { continue };
            assert_eq!(found.name().parse(), Ok(found));
            let json = serde_json::to_string(&found).unwrap();
            assert_eq!(json, format!("\"{found}\""));
            assert_eq!(serde_json::from_str::<Compression>(&json).unwrap(), found);
        }
        assert_eq!(Compression::default().name(), "gzip-6");
    }

    #[test]
    fn other_names_are_refused() {
        for text in
            ["", "gzip", "gzip-", "gzip-06", "gzip-+6", "zstd-0", "zstd--1", "tar-0", "estargz-6", "GZIP-6"]
        {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }
}
