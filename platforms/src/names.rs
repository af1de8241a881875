//! The names of operating systems and architectures, and guesses at what a
//! wrong one was meant to be.

use crate::Platform;
use crate::platform::normalise_os;

/// Architectures of Go's list, in normal form, and the two WebAssembly names.
const ARCHITECTURE_NAMES: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
    "wasm32",
];

/// Operating systems of Go's list, in normal form.
const OS_NAMES: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasi",
    "wasip1",
    "windows",
    "zos",
];

/// Names from other worlds, too far from ours for the edit distance to find.
const FOREIGN_NAMES: &[(&str, &str)] = &[
    ("x64", "amd64"),
    ("x86", "386"),
    ("i486", "386"),
    ("i586", "386"),
    ("i686", "386"),
    ("arm32", "arm"),
    ("arm32v5", "arm/v5"),
    ("arm32v6", "arm/v6"),
    ("arm32v7", "arm/v7"),
    ("armv5", "arm/v5"),
    ("armv6", "arm/v6"),
    ("armv6l", "arm/v6"),
    ("armv7", "arm/v7"),
    ("armv7l", "arm/v7"),
    ("arm64v8", "arm64"),
    ("armv8", "arm64"),
    ("loongarch64", "loong64"),
    ("mips64el", "mips64le"),
    ("mipsel", "mipsle"),
    ("powerpc64le", "ppc64le"),
    ("ppc64el", "ppc64le"),
];

/// Whether a name, in any of its spellings, is that of an operating system.
pub(crate) fn is_os(name: &str) -> bool {
    OS_NAMES.contains(&normalise_os(name).as_str())
}

/// Whether a name, in any of its spellings, is that of an architecture.
pub(crate) fn is_architecture(name: &str) -> bool {
    let platform = Platform::new("linux", name, None, None);
    ARCHITECTURE_NAMES.contains(&platform.architecture())
}

/// The operating system that a misspelt name probably means.
pub(crate) fn near_os(name: &str) -> Option<String> {
    nearest(&name.to_ascii_lowercase(), OS_NAMES)
}

/// The architecture that a misspelt or foreign name probably means.
pub(crate) fn near_architecture(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    FOREIGN_NAMES
        .iter()
        .find(|(foreign, _)| *foreign == lower)
        .map(|(_, ours)| (*ours).to_owned())
        .or_else(|| nearest(&lower, ARCHITECTURE_NAMES))
        // `x86_46` is nearer to an alias than to any normal form.
        .or_else(|| nearest(&lower, &["x86_64", "aarch64", "armhf", "armel", "i386"]))
}

/// The candidate within two edits of `name`, if that leaves half of it intact.
fn nearest(name: &str, candidates: &[&str]) -> Option<String> {
    let limit = 2.min(name.len() / 2);
    let distances = candidates.iter().map(|candidate| (edits(name, candidate), *candidate));
    let (distance, candidate) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= limit).then(|| candidate.to_owned())
}

/// Edit distance with insertion, removal, replacement and transposition of
/// neighbours, each of cost one.
fn edits(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1);
            best = best.min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}
