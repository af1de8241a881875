//! Which CPU the emulator pretends to be.

use fanfold_platforms::{Machine, Platform};

use crate::target::{TARGETS, Target};

/// A platform whose programs no emulator here can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("platform {platform} cannot be emulated ({reason})")]
#[non_exhaustive]
pub struct CannotEmulate {
    /// The platform that was asked for.
    pub platform: Platform,
    reason: String,
}

/// Says whether QEMU's user mode can stand in for the platform at all,
/// installed or not.
///
/// # Errors
///
/// Another system than Linux, an architecture outside the table, or a level of
/// amd64 above what QEMU translates.
pub fn can_emulate(platform: &Platform) -> Result<(), CannotEmulate> {
    emulated(platform).map(drop)
}

/// How the platform is emulated, and the machine of its programs.
pub(crate) fn emulated(platform: &Platform) -> Result<(&'static Target, Machine), CannotEmulate> {
    let level_too_high =
        platform.architecture() == "amd64" && !matches!(platform.variant(), None | Some("v2" | "v3"));
    let reason = match (Target::of(platform), platform.elf_machine()) {
        (Some(_), Some(_)) if level_too_high => "qemu provides up to v3".to_owned(),
        (Some(target), Some(machine)) => return Ok((target, machine)),
        _ if platform.os() != "linux" => "qemu-user runs programs of Linux only".to_owned(),
        _ => {
            let known: Vec<&str> = TARGETS.iter().map(|target| target.architecture).collect();
            format!("emulators are known for {}", known.join(", "))
        }
    };
    Err(CannotEmulate { platform: platform.clone(), reason })
}

/// The value of `QEMU_CPU` for programs of the platform, where QEMU's default
/// CPU would show another variant.
///
/// For `None` leave the variable out: QEMU refuses an empty one. Without a
/// model every 32-bit arm program sees ARMv7, so that a build for arm/v6 fetches
/// what does not run on its device; with it, such code dies of SIGILL at once.
/// The variable belongs in the environment of an emulated command alone, never
/// in the image's config.
#[must_use]
pub fn cpu_model(platform: &Platform) -> Option<&'static str> {
    if platform.os() != "linux" {
        return None;
    }
    match (platform.architecture(), platform.variant()?) {
        ("arm", "v5") => Some("arm926"),
        ("arm", "v6") => Some("arm1176"),
        ("amd64", "v2") => Some("Nehalem"),
        ("amd64", "v3") => Some("Haswell"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_limits() {
        let cases = [
            ("linux/arm/v5", Some("arm926"), Ok(())),
            ("linux/arm/v6", Some("arm1176"), Ok(())),
            ("linux/arm/v7", None, Ok(())),
            ("linux/arm64/v9", None, Ok(())),
            ("linux/amd64", None, Ok(())),
            ("linux/amd64/v2", Some("Nehalem"), Ok(())),
            ("linux/amd64/v3", Some("Haswell"), Ok(())),
            ("linux/amd64/v4", None, Err("qemu provides up to v3")),
            ("linux/s390x", None, Ok(())),
            (
                "linux/sparc64",
                None,
                Err("emulators are known for amd64, 386, arm64, arm, riscv64, ppc64le, s390x, \
                     mips64le, loong64"),
            ),
            ("windows/amd64", None, Err("qemu-user runs programs of Linux only")),
        ];
        for (name, model, possible) in cases {
            let platform: Platform = name.parse().expect(name);
            assert_eq!(cpu_model(&platform), model, "{name}");
            let got = can_emulate(&platform).map_err(|error| error.to_string());
            let want = possible.map_err(|reason| format!("platform {name} cannot be emulated ({reason})"));
            assert_eq!(got, want);
        }
    }
}
