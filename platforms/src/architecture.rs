//! What is known of each architecture.

use crate::{Endian, Machine, Platform};

/// One architecture, or one variant of arm, as others call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// The OCI name, which is Go's `GOARCH`.
    pub name: &'static str,
    /// The variant that this row describes; only arm has several rows.
    pub variant: Option<&'static str>,
    /// What `uname -m` prints.
    pub uname: &'static str,
    /// The name of Debian's port, where Debian has or had one.
    pub debian: Option<&'static str>,
    /// What the ELF header of a program says.
    pub machine: Machine,
}

/// Every architecture whose programs are recognised. The first row of a name
/// describes it when the variant has no row of its own.
pub const ARCHITECTURES: &[Architecture] = &[
    row("amd64", None, "x86_64", Some("amd64"), 62, 64, Endian::Little),
    row("386", None, "i686", Some("i386"), 3, 32, Endian::Little),
    row("arm64", None, "aarch64", Some("arm64"), 183, 64, Endian::Little),
    row("arm", Some("v7"), "armv7l", Some("armhf"), 40, 32, Endian::Little),
    // Raspbian and Alpine build for ARMv6; Debian has no port of it.
    row("arm", Some("v6"), "armv6l", None, 40, 32, Endian::Little),
    row("arm", Some("v5"), "armv5tel", Some("armel"), 40, 32, Endian::Little),
    row("riscv64", None, "riscv64", Some("riscv64"), 243, 64, Endian::Little),
    row("ppc64le", None, "ppc64le", Some("ppc64el"), 21, 64, Endian::Little),
    row("ppc64", None, "ppc64", Some("ppc64"), 21, 64, Endian::Big),
    row("s390x", None, "s390x", Some("s390x"), 22, 64, Endian::Big),
    row("mips64le", None, "mips64", Some("mips64el"), 8, 64, Endian::Little),
    row("mips64", None, "mips64", None, 8, 64, Endian::Big),
    row("mipsle", None, "mips", Some("mipsel"), 8, 32, Endian::Little),
    row("mips", None, "mips", Some("mips"), 8, 32, Endian::Big),
    row("loong64", None, "loongarch64", Some("loong64"), 258, 64, Endian::Little),
];

const fn row(
    name: &'static str,
    variant: Option<&'static str>,
    uname: &'static str,
    debian: Option<&'static str>,
    e_machine: u16,
    class: u8,
    endian: Endian,
) -> Architecture {
    let machine = Machine { e_machine, class, endian };
    Architecture { name, variant, uname, debian, machine }
}

impl Architecture {
    /// The row of a platform: that of its variant, else the first of its
    /// architecture. Only Linux has rows: other systems use no ELF or other ABIs.
    #[must_use]
    pub fn of(platform: &Platform) -> Option<&'static Self> {
        let named = || ARCHITECTURES.iter().filter(|row| row.name == platform.architecture());
        if platform.os() != "linux" {
            return None;
        }
        named().find(|row| row.variant == platform.variant()).or_else(|| named().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found() {
        let cases = [
            ("linux/amd64/v3", Some(("x86_64", 62))),
            ("linux/arm64/v9", Some(("aarch64", 183))),
            ("linux/arm", Some(("armv7l", 40))),
            ("linux/arm/v6", Some(("armv6l", 40))),
            ("linux/arm/v5", Some(("armv5tel", 40))),
            ("linux/arm/v8", Some(("armv7l", 40))),
            ("linux/s390x", Some(("s390x", 22))),
            ("windows/amd64", None),
            ("linux/sparc64", None),
        ];
        for (platform, want) in cases {
            let platform: Platform = platform.parse().expect(platform);
            let found = Architecture::of(&platform);
            assert_eq!(found.map(|row| (row.uname, row.machine.e_machine)), want, "{platform}");
        }
    }

    #[test]
    fn names_are_in_normal_form_and_machines_lead_back_to_them() {
        for row in ARCHITECTURES {
            let platform = Platform::new("linux", row.name, row.variant, None);
            assert_eq!(platform.architecture(), row.name);
            assert_eq!(row.machine.architecture(), Some(row.name));
        }
    }
}
