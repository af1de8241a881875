//! Platform specifiers as people write them: `linux/arm64`, `arm64`, `linux`.

use std::str::FromStr;

use crate::Platform;
use crate::names::{is_architecture, is_os, near_architecture, near_os};
use crate::platform::normalise_os;

/// A platform specifier that says nothing or something unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse platform specifier {specifier:?}: {kind}")]
#[non_exhaustive]
pub struct ParsePlatformError {
    /// The whole specifier as it was given.
    pub specifier: String,
    /// What is wrong with it.
    pub kind: ParsePlatformErrorKind,
}

/// What is wrong with a platform specifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePlatformErrorKind {
    /// The specifier, or one element of a list, has no text.
    #[error("it is empty")]
    Empty,
    /// More than operating system, architecture and variant.
    #[error("it has more than three parts, expected OS/ARCHITECTURE/VARIANT")]
    TooManyParts,
    /// A part is empty or has a character outside of letters, digits, `_`, `.`, `-`.
    #[error("part {0:?} is not made of letters, digits, \"_\", \".\" and \"-\"")]
    BadPart(String),
    /// A single word that is neither an operating system nor an architecture.
    #[error("unknown operating system or architecture {word:?}{}", did_you_mean(.suggestion))]
    UnknownWord {
        /// The word as written.
        word: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The first of several parts is not an operating system.
    #[error("unknown operating system {os:?}{}", did_you_mean(.suggestion))]
    UnknownOs {
        /// The part as written.
        os: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The second part is not an architecture.
    #[error("unknown architecture {architecture:?}{}", did_you_mean(.suggestion))]
    UnknownArchitecture {
        /// The part as written.
        architecture: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The variant does not exist for this architecture.
    #[error("unknown variant {variant:?} of {architecture}, expected one of {expected}")]
    UnknownVariant {
        /// The architecture in normal form.
        architecture: String,
        /// The part as written.
        variant: String,
        /// The variants that exist.
        expected: &'static str,
    },
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map_or_else(String::new, |name| format!(", did you mean {name:?}?"))
}

/// Parses a comma-separated list such as the value of `--platform`.
///
/// The order is kept, and platforms that are equal in normal form are listed
/// once. White space around a comma is allowed. `local` means the host.
///
/// # Errors
///
/// The first bad element; an empty element is bad.
pub fn parse_list(list: &str) -> Result<Vec<Platform>, ParsePlatformError> {
    let mut platforms = Vec::new();
    for specifier in list.split(',').map(str::trim) {
        let platform = match specifier {
            "local" => Platform::host(),
            other => other.parse()?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    /// Parses `OS[(VERSION)][/ARCHITECTURE[/VARIANT]]` or `ARCHITECTURE` alone.
    ///
    /// An architecture alone is one of Linux; an operating system alone takes
    /// the architecture of the host.
    fn from_str(specifier: &str) -> Result<Self, Self::Err> {
        parse(specifier).map_err(|kind| ParsePlatformError { specifier: specifier.to_owned(), kind })
    }
}

fn parse(specifier: &str) -> Result<Platform, ParsePlatformErrorKind> {
    use ParsePlatformErrorKind as Kind;
    if specifier.is_empty() {
        return Err(Kind::Empty);
    }
    let parts: Vec<&str> = specifier.split('/').collect();
    if parts.len() > 3 {
        return Err(Kind::TooManyParts);
    }
    let (os_part, version) = split_os_version(parts[0])?;
    for part in std::iter::once(os_part).chain(parts[1..].iter().copied()) {
        check_part(part)?;
    }
    let os = normalise_os(os_part);
    let os_known = is_os(&os);

    let [_, architecture, rest @ ..] = parts.as_slice() else {
        if os_known {
            let host = Platform::host();
            return Ok(Platform::new(&os, host.architecture(), host.variant(), version));
        }
        if is_architecture(os_part) && version.is_none() {
            return Ok(Platform::new("linux", os_part, None, None));
        }
        let suggestion = near_architecture(os_part).or_else(|| near_os(os_part));
        return Err(Kind::UnknownWord { word: parts[0].to_owned(), suggestion });
    };
    if !os_known {
        // Both `arm/v7` and `arm64/linux` are common slips.
        let suggestion = if is_os(architecture) {
            Some(format!("{architecture}/{os_part}"))
        } else if is_architecture(os_part) {
            Some(format!("linux/{specifier}"))
        } else {
            near_os(os_part)
        };
        return Err(Kind::UnknownOs { os: os_part.to_owned(), suggestion });
    }
    if !is_architecture(architecture) {
        return Err(Kind::UnknownArchitecture {
            architecture: (*architecture).to_owned(),
            suggestion: near_architecture(architecture),
        });
    }
    let variant = rest.first().copied();
    let platform = Platform::new(&os, architecture, variant, version);
    check_variant(&platform, variant)?;
    Ok(platform)
}

/// Splits `windows(10.0.17763)` into name and version.
fn split_os_version(part: &str) -> Result<(&str, Option<&str>), ParsePlatformErrorKind> {
    let Some((os, rest)) = part.split_once('(') else {
        return Ok((part, None));
    };
    let version = rest.strip_suffix(')').ok_or_else(|| ParsePlatformErrorKind::BadPart(part.to_owned()))?;
    if !version.is_empty() {
        check_part(version)?;
    }
    Ok((os, Some(version)))
}

fn check_part(part: &str) -> Result<(), ParsePlatformErrorKind> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if part.is_empty() || !part.bytes().all(good) {
        return Err(ParsePlatformErrorKind::BadPart(part.to_owned()));
    }
    Ok(())
}

/// Refuses variants that cannot be meant; architectures without a fixed set of
/// variants (riscv64, ppc64le) take any.
fn check_variant(platform: &Platform, written: Option<&str>) -> Result<(), ParsePlatformErrorKind> {
    let Some(variant) = platform.variant() else {
        return Ok(());
    };
    let (good, expected) = match platform.architecture() {
        "amd64" => (matches!(variant, "v2" | "v3" | "v4"), "v1, v2, v3, v4"),
        "arm" => (matches!(variant, "v5" | "v6" | "v7" | "v8"), "v5, v6, v7, v8"),
        "arm64" => (crate::choose::arm64_version(variant).is_some(), "v8, v8.N, v9, v9.N"),
        _ => return Ok(()),
    };
    if good {
        return Ok(());
    }
    Err(ParsePlatformErrorKind::UnknownVariant {
        architecture: platform.architecture().to_owned(),
        variant: written.unwrap_or(variant).to_owned(),
        expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_specifiers() {
        let host = Platform::host();
        let host_linux = host.to_string();
        let cases = [
            ("linux/arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("arm64", "linux/arm64"),
            ("AArch64", "linux/arm64"),
            ("armel", "linux/arm/v6"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/arm64/v9.1", "linux/arm64/v9.1"),
            ("linux/riscv64/rva23u64", "linux/riscv64/rva23u64"),
            ("linux", host_linux.as_str()),
            ("macos/arm64", "darwin/arm64"),
            ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
            ("linux()/amd64", "linux/amd64"),
            ("wasi/wasm", "wasi/wasm"),
        ];
        for (specifier, want) in cases {
            let platform: Platform = specifier.parse().expect(specifier);
            assert_eq!(platform.to_string(), want, "{specifier}");
            assert_eq!(platform.to_string().parse(), Ok(platform), "{specifier} again");
        }
    }

    #[test]
    fn refused_specifiers() {
        let cases = [
            ("", "it is empty"),
            ("a/b/c/d", "it has more than three parts, expected OS/ARCHITECTURE/VARIANT"),
            ("linux/", r#"part "" is not made of letters, digits, "_", "." and "-""#),
            ("linux/*", r#"part "*" is not made of letters, digits, "_", "." and "-""#),
            ("linux(1", r#"part "linux(1" is not made of letters, digits, "_", "." and "-""#),
            ("linux/arn64", r#"unknown architecture "arn64", did you mean "arm64"?"#),
            ("linux/adm64", r#"unknown architecture "adm64", did you mean "amd64"?"#),
            ("linux/x86_46", r#"unknown architecture "x86_46", did you mean "x86_64"?"#),
            ("linux/armv7l", r#"unknown architecture "armv7l", did you mean "arm/v7"?"#),
            ("linux/ppc64el", r#"unknown architecture "ppc64el", did you mean "ppc64le"?"#),
            ("linux/vax", r#"unknown architecture "vax""#),
            ("linus/amd64", r#"unknown operating system "linus", did you mean "linux"?"#),
            ("arm/v7", r#"unknown operating system "arm", did you mean "linux/arm/v7"?"#),
            ("arm64/linux", r#"unknown operating system "arm64", did you mean "linux/arm64"?"#),
            ("amd46", r#"unknown operating system or architecture "amd46", did you mean "amd64"?"#),
            ("lniux", r#"unknown operating system or architecture "lniux", did you mean "linux"?"#),
            ("all", r#"unknown operating system or architecture "all""#),
            ("linux/amd64/v5", r#"unknown variant "v5" of amd64, expected one of v1, v2, v3, v4"#),
            ("linux/arm/hf", r#"unknown variant "hf" of arm, expected one of v5, v6, v7, v8"#),
            ("linux/arm64/v7", r#"unknown variant "v7" of arm64, expected one of v8, v8.N, v9, v9.N"#),
        ];
        for (specifier, want) in cases {
            let error = specifier.parse::<Platform>().expect_err(specifier);
            let want = format!("cannot parse platform specifier {specifier:?}: {want}");
            assert_eq!(error.to_string(), want);
        }
    }

    #[test]
    fn lists_keep_order_and_drop_duplicates() {
        let names = |list: &str| -> Vec<String> {
            parse_list(list).expect(list).iter().map(Platform::to_string).collect()
        };
        let list = "linux/arm64, linux/amd64,aarch64,linux/arm64/v8,x86_64";
        assert_eq!(names(list), ["linux/arm64", "linux/amd64"]);
        assert_eq!(names("local"), [Platform::host().to_string()]);
        let empty = parse_list("linux/amd64,").expect_err("an empty element");
        assert_eq!(empty.kind, ParsePlatformErrorKind::Empty);
    }
}
