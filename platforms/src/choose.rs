//! The best of several platforms for a wanted one.

use std::cmp::Reverse;

use crate::Platform;

/// Finds the candidate that may stand in for `wanted`, and gives its index.
///
/// An equal platform wins; next one that differs in the version of the
/// operating system alone; then the highest lower variant of the same
/// architecture: arm v7, v6, v5; amd64 v4 to v1; arm64 v9.N down to v9, then
/// v8.(N+5) down to v8. Of equals the first wins. Another architecture never
/// stands in, though the host might run it.
#[must_use]
pub fn choose(wanted: &Platform, candidates: &[Platform]) -> Option<usize> {
    if let Some(exact) = candidates.iter().position(|candidate| candidate == wanted) {
        return Some(exact);
    }
    candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| {
            candidate.os() == wanted.os() && candidate.architecture() == wanted.architecture()
        })
        .filter_map(|(index, candidate)| Some((fitness(wanted, candidate)?, Reverse(index))))
        .max()
        .map(|(_, Reverse(index))| index)
}

/// How near a candidate of the same architecture comes; `None` if it does not do.
fn fitness(wanted: &Platform, candidate: &Platform) -> Option<(u32, u32)> {
    if candidate.variant() == wanted.variant() {
        return Some((u32::MAX, 0));
    }
    match wanted.architecture() {
        "amd64" => lower(level(wanted, "v1")?, level(candidate, "v1")?, 1),
        // There is no image format below ARMv5 with the present ABI.
        "arm" => lower(level(wanted, "v7")?, level(candidate, "v7")?, 5),
        "arm64" => {
            let want = arm64_version(wanted.variant().unwrap_or("v8"))?;
            let have = arm64_version(candidate.variant().unwrap_or("v8"))?;
            // ARMv9.0 is a superset of ARMv8.5, and so on upwards.
            let fits = match (want, have) {
                ((9, minor), (8, other)) => other <= minor + 5,
                ((major, minor), (other_major, other)) => major == other_major && other <= minor,
            };
            fits.then_some(have)
        }
        _ => None,
    }
}

fn lower(wanted: u32, candidate: u32, least: u32) -> Option<(u32, u32)> {
    (least..=wanted).contains(&candidate).then_some((candidate, 0))
}

fn level(platform: &Platform, default: &str) -> Option<u32> {
    platform.variant().unwrap_or(default).strip_prefix('v')?.parse().ok()
}

/// Splits `v8`, `v9` or `v8.N`, `v9.N` into major and minor version; `v8` is 8.0.
pub(crate) fn arm64_version(variant: &str) -> Option<(u32, u32)> {
    let version = variant.strip_prefix('v')?;
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    let major = match major {
        "8" => 8,
        "9" => 9,
        _ => return None,
    };
    let digits = (1..=2).contains(&minor.len()) && minor.bytes().all(|byte| byte.is_ascii_digit());
    if digits { Some((major, minor.parse().ok()?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        let cases: &[(&str, &str, Option<usize>)] = &[
            ("linux/arm/v7", "linux/arm/v5,linux/arm/v6,linux/arm/v7", Some(2)),
            ("linux/arm/v7", "linux/arm/v5,linux/arm/v6", Some(1)),
            ("linux/arm/v7", "linux/arm/v8", None),
            ("linux/arm/v6", "linux/arm/v7,linux/arm/v5", Some(1)),
            ("linux/amd64/v4", "linux/amd64,linux/amd64/v3,linux/amd64/v2", Some(1)),
            ("linux/amd64", "linux/amd64/v2,linux/386", None),
            ("linux/amd64", "linux/386,linux/amd64", Some(1)),
            ("linux/arm64", "linux/arm/v7,linux/arm/v8", None),
            ("linux/arm64", "linux/arm64/v8.1", None),
            ("linux/arm64", "linux/amd64,linux/arm64/v8", Some(1)),
            ("linux/arm64/v9", "linux/arm64,linux/arm64/v8.5,linux/arm64/v8.6", Some(1)),
            ("linux/arm64/v9.1", "linux/arm64/v8.6,linux/arm64/v9", Some(1)),
            ("linux/arm64/v8.2", "linux/arm64/v9,linux/arm64/v8.3,linux/arm64", Some(2)),
            ("linux/riscv64/rva23u64", "linux/riscv64", None),
            ("linux/riscv64/rva23u64", "linux/riscv64,linux/riscv64/rva23u64", Some(1)),
            ("windows/amd64", "linux/amd64,windows(10.0.17763)/amd64", Some(1)),
            ("windows(2)/amd64", "windows(1)/amd64,windows(2)/amd64", Some(1)),
            ("linux/amd64/v2", "linux(1)/amd64,linux(2)/amd64", Some(0)),
        ];
        for (wanted, candidates, want) in cases {
            let candidates = crate::parse_list(candidates).expect(candidates);
            let wanted: Platform = wanted.parse().expect(wanted);
            assert_eq!(choose(&wanted, &candidates), *want, "{wanted} of {candidates:?}");
        }
        let attestation = Platform::new("unknown", "unknown", None, None);
        assert_eq!(choose(&"linux/amd64".parse().expect("good"), &[attestation]), None);
    }

    #[test]
    fn hostile_variants_do_no_harm() {
        let wanted = Platform::new("linux", "arm64", Some("v9.99"), None);
        let odd = ["v", "vé", "v8.", "v9.4294967295", "v8.+1", "é", "9"]
            .map(|variant| Platform::new("linux", "arm64", Some(variant), None));
        assert_eq!(choose(&wanted, &odd), None);
    }
}
