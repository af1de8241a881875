//! The platform value and its normal form.

use std::fmt::{self, Write as _};

use crate::{Architecture, Machine};

/// Operating system, architecture, variant and operating system version.
///
/// Always in normal form: lower case, `x86_64` is `amd64`, `aarch64` is
/// `arm64`, `arm` carries a variant (`v7` when none was given), and the
/// variants that say nothing (`amd64/v1`, `arm64/v8`) are absent.
///
/// `Display` prints `linux/arm64` or `linux/arm/v7`, with an operating system
/// version `windows(10.0.17763)/amd64`. Control characters, which a hostile
/// manifest may hold, are printed escaped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
    os_version: Option<String>,
}

impl Platform {
    /// Makes a platform from the fields of a manifest or config, in normal form.
    ///
    /// Never fails, so that images of platforms unknown here stay representable;
    /// what a user writes goes through [`str::parse`], which checks. An empty
    /// field counts as absent; an absent operating system is `linux`.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>, os_version: Option<&str>) -> Self {
        let (architecture, variant) = normalise(architecture, variant.unwrap_or_default());
        Self {
            os: normalise_os(os),
            architecture,
            variant: (!variant.is_empty()).then_some(variant),
            os_version: os_version.filter(|version| !version.is_empty()).map(str::to_owned),
        }
    }

    /// The platform that this program was compiled for, which is what the host
    /// runs natively. Has no variant on x86; see [`crate::host_amd64_level`].
    ///
    /// A 32-bit arm host is reported as `arm/v7`.
    #[must_use]
    pub fn host() -> Self {
        let little = cfg!(target_endian = "little");
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "powerpc64" if little => "ppc64le",
            "powerpc64" => "ppc64",
            "mips64" if little => "mips64le",
            "mips" if little => "mipsle",
            "loongarch64" => "loong64",
            same => same,
        };
        Self::new("linux", architecture, None, None)
    }

    /// The operating system, as in `GOOS`.
    #[must_use]
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture, as in `GOARCH`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant of the architecture; `v5` to `v8` for arm, else seldom present.
    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// The version of the operating system; in practice for Windows only.
    #[must_use]
    pub fn os_version(&self) -> Option<&str> {
        self.os_version.as_deref()
    }

    /// The ELF machine of this platform's programs, where it is known.
    #[must_use]
    pub fn elf_machine(&self) -> Option<Machine> {
        Architecture::of(self).map(|architecture| architecture.machine)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(f, &self.os)?;
        if let Some(version) = &self.os_version {
            f.write_char('(')?;
            write_escaped(f, version)?;
            f.write_char(')')?;
        }
        for part in [Some(&self.architecture), self.variant.as_ref()].into_iter().flatten() {
            f.write_char('/')?;
            write_escaped(f, part)?;
        }
        Ok(())
    }
}

fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for character in text.chars() {
        if character.is_control() {
            write!(f, "{}", character.escape_default())?;
        } else {
            f.write_char(character)?;
        }
    }
    Ok(())
}

/// The normal form of an operating system's name.
pub(crate) fn normalise_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "" => "linux".to_owned(),
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    }
}

/// The normal form of an architecture and its variant; an empty variant is none.
fn normalise(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        // Debian's armel is ARMv5, but in the world of images the name means v6.
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        (other, variant) => (other, variant),
    };
    (architecture.to_owned(), variant.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_forms() {
        let cases = [
            ("linux", "amd64", "", "linux/amd64"),
            ("Linux", "X86_64", "", "linux/amd64"),
            ("linux", "x86-64", "v1", "linux/amd64"),
            ("linux", "amd64", "V3", "linux/amd64/v3"),
            ("linux", "aarch64", "", "linux/arm64"),
            ("linux", "arm64", "v8", "linux/arm64"),
            ("linux", "arm64", "8", "linux/arm64"),
            ("linux", "arm64", "v9.2", "linux/arm64/v9.2"),
            ("linux", "arm", "", "linux/arm/v7"),
            ("linux", "arm", "6", "linux/arm/v6"),
            ("linux", "arm", "5", "linux/arm/v5"),
            ("linux", "arm", "8", "linux/arm/v8"),
            ("linux", "armhf", "", "linux/arm/v7"),
            ("linux", "armhf", "v6", "linux/arm/v7"),
            ("linux", "armel", "", "linux/arm/v6"),
            ("linux", "i386", "v1", "linux/386"),
            ("macOS", "arm64", "", "darwin/arm64"),
            ("", "riscv64", "", "linux/riscv64"),
            ("unknown", "unknown", "", "unknown/unknown"),
            ("linux", "a\u{1b}[2K", "", "linux/a\\u{1b}[2k"),
        ];
        for (os, architecture, variant, want) in cases {
            let platform = Platform::new(os, architecture, Some(variant), Some(""));
            assert_eq!(platform.to_string(), want, "{os} {architecture} {variant}");
            assert_eq!(platform.os_version(), None);
        }
        let windows = Platform::new("windows", "amd64", None, Some("10.0.17763.1"));
        assert_eq!(windows.to_string(), "windows(10.0.17763.1)/amd64");
    }

    #[test]
    fn the_host_is_a_known_architecture() {
        let host = Platform::host();
        let known = Architecture::of(&host).expect("the host is in the table");
        let own = std::fs::read("/proc/self/exe").expect("the test's own program");
        assert_eq!(crate::elf::machine_of(&own), Some(known.machine));
        assert_eq!(host.os(), "linux");
    }
}
