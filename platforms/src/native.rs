//! Which platforms the host's own kernel and CPU run, as far as it can be known
//! without running a program.

use crate::Platform;

/// Whether programs of a platform run without an emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeExecution {
    /// They do.
    Yes,
    /// The CPU and the kernel's configuration decide: run a probe.
    Probe,
    /// They do not.
    No,
}

/// Says whether `host` runs programs of `wanted` itself.
///
/// `amd64_level` is the level of the host's CPU, see [`host_amd64_level`]; it
/// decides on the variants of amd64. Those of arm64 cannot be told apart by a
/// portable test and count as native: code above the CPU dies of SIGILL. On
/// 32-bit arm, a higher variant than the host's does not run.
#[must_use]
pub fn native_execution(host: &Platform, wanted: &Platform, amd64_level: u8) -> NativeExecution {
    if host.os() != wanted.os() {
        return NativeExecution::No;
    }
    match (host.architecture(), wanted.architecture()) {
        ("amd64", "amd64") => {
            let level = wanted.variant().and_then(|variant| variant.strip_prefix('v'));
            match level.map_or(Ok(1), str::parse::<u8>) {
                Ok(level) if level <= amd64_level => NativeExecution::Yes,
                _ => NativeExecution::No,
            }
        }
        ("arm", "arm") => match crate::choose(host, std::slice::from_ref(wanted)) {
            Some(_) => NativeExecution::Yes,
            None => NativeExecution::No,
        },
        (host, wanted) if host == wanted => NativeExecution::Yes,
        // The 32-bit side of a 64-bit kernel may be configured out, and newer
        // ARM cores lack it. A 32-bit fanfold may itself run on a 64-bit kernel.
        ("amd64", "386") | ("386", "amd64") | ("arm64", "arm") | ("arm", "arm64") => NativeExecution::Probe,
        _ => NativeExecution::No,
    }
}

/// The x86-64 microarchitecture level of this CPU, 1 to 4, with the operating
/// system's support for the wider registers; 0 if this is not an x86-64 program.
///
/// Source: x86-64 psABI, section "Micro-Architecture Levels".
#[must_use]
pub fn host_amd64_level() -> u8 {
    amd64_level()
}

#[cfg(target_arch = "x86_64")]
fn amd64_level() -> u8 {
    macro_rules! all {
        ($($feature:tt),+) => { $(std::arch::is_x86_feature_detected!($feature))&&+ };
    }
    if !all!("cmpxchg16b", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2") {
        1
    } else if !all!("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe") {
        2
    } else if !all!("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl") {
        3
    } else {
        4
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn amd64_level() -> u8 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions() {
        use NativeExecution::{No, Probe, Yes};
        let cases = [
            ("linux/amd64", "linux/amd64", Yes),
            ("linux/amd64", "linux/amd64/v2", Yes),
            ("linux/amd64", "linux/amd64/v3", No),
            ("linux/amd64", "linux/386", Probe),
            ("linux/amd64", "linux/arm64", No),
            ("linux/amd64", "windows/amd64", No),
            ("linux/arm64", "linux/arm64/v9", Yes),
            ("linux/arm64", "linux/arm/v6", Probe),
            ("linux/arm64", "linux/amd64", No),
            ("linux/arm/v7", "linux/arm/v6", Yes),
            ("linux/arm/v6", "linux/arm/v7", No),
            ("linux/ppc64le", "linux/ppc64", No),
        ];
        for (host, wanted, want) in cases {
            let host: Platform = host.parse().expect(host);
            let wanted: Platform = wanted.parse().expect(wanted);
            assert_eq!(native_execution(&host, &wanted, 2), want, "{wanted} on {host}");
        }
    }

    #[test]
    fn the_level_agrees_with_the_kernel() {
        let level = host_amd64_level();
        if cfg!(not(target_arch = "x86_64")) {
            assert_eq!(level, 0);
            return;
        }
        let text = std::fs::read_to_string("/proc/cpuinfo").expect("cpuinfo");
        let flags = text.lines().find(|line| line.starts_with("flags")).expect("flags");
        let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
        assert!((1..=4).contains(&level));
        assert_eq!(level >= 2, has("cx16") && has("popcnt") && has("sse4_2") && has("ssse3"));
        assert!(level < 3 || has("avx2") && has("fma") && has("movbe") && has("bmi2"));
        assert!(level < 4 || has("avx512f") && has("avx512vl"));
    }
}
