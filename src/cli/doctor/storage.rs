//! The store's place, and what its file system can do.

use std::io;
use std::path::{Path, PathBuf};

use fanfold_platforms::Platform;
use rustix::fs::{StatVfs, StatVfsMountFlags};

use super::finding::{Finding, shown};
use crate::sandbox::{OverlayError, probe_overlay, survey};

/// Less is too little for two platforms of a usual image.
const SPACE: u64 = 4 << 30;
const INODES: u64 = 200_000;

/// File systems by the number that the kernel gives them.
const FILE_SYSTEMS: [(u64, &str); 18] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xca45_1a4e, "bcachefs"),
    (0xf2f5_2010, "f2fs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlayfs"),
    (0x6573_5546, "fuse"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x7973_7279, "ceph"),
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0xf15f, "ecryptfs"),
];
/// Those on which files are on another machine.
const REMOTE: [&str; 5] = ["nfs", "cifs", "smb2", "9p", "ceph"];

/// Where the store is, and where its file system can be tried.
#[derive(Debug)]
pub(in crate::cli) struct Place {
    /// The store; nothing where no folder is named.
    pub(in crate::cli) root: Option<PathBuf>,
    /// A folder on its file system that is removed again, or why there is none.
    pub(in crate::cli) scratch: io::Result<tempfile::TempDir>,
}

impl Place {
    /// Makes the folder in the store, or in the nearest one above it that exists.
    pub(in crate::cli) fn of(root: Option<PathBuf>) -> Self {
        let scratch = match root.as_deref().map(std::path::absolute) {
            Some(Ok(root)) => {
                let inner = root.join("scratch");
                let nearest = inner.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
                tempfile::TempDir::with_prefix_in(".fanfold-probe-", nearest)
            }
            Some(Err(error)) => Err(error),
            None => Err(io::Error::other("there is no HOME to keep the store in")),
        };
        Self { root, scratch }
    }
}

/// How overlays were tried, which only a mount namespace allows.
#[derive(Debug)]
pub(super) enum Overlays {
    /// They were not, for this reason.
    Untried(String),
    /// They work.
    Works,
    /// They do not with the store, and where something else serves for changes.
    Refused(OverlayError, Option<PathBuf>),
}

impl Overlays {
    /// Tries them in `scratch` and, as builds do, `elsewhere`. Call it inside the entered namespaces.
    pub(super) fn tried(scratch: &Path, elsewhere: &[PathBuf]) -> Self {
        match probe_overlay(scratch) {
            Ok(()) => Self::Works,
            Err(error @ OverlayError::UpperOnOverlay) => {
                let other = elsewhere.iter().find(|place| probe_overlay(place).is_ok()).cloned();
                Self::Refused(error, other)
            }
            Err(error) => Self::Refused(error, None),
        }
    }
}

/// All findings of this file.
pub(super) fn find(place: &Place, overlays: &Overlays) -> Vec<Finding> {
    let name = place.root.as_ref().map_or_else(|| "no place".to_owned(), |root| root.display().to_string());
    let scratch = match &place.scratch {
        Ok(scratch) => scratch.path(),
        Err(error) => return unusable(&name, &shown(error)),
    };
    let kind = rustix::fs::statfs(scratch).map(|found| kind(found.f_type as u64));
    let kind = kind.unwrap_or_else(|error| format!("a file system that cannot be asked ({})", shown(error)));
    let attributes = rustix::fs::statvfs(scratch);
    let copies = !matches!(overlays, Overlays::Works);
    let host = Platform::host();
    let program = fanfold_qemu::probe(&host).unwrap_or_default();
    let ran = survey::executables(scratch, &program, fanfold_qemu::PROBE_STATUS);
    vec![
        store(&name, &kind, attributes.as_ref().ok()),
        space(attributes.map_err(shown)),
        overlay(overlays),
        attribute(survey::user_attributes(scratch).map_err(shown), &kind),
        whiteout(survey::whiteouts(scratch).map_err(shown)),
        reflink(survey::reflinks(scratch).map_err(shown), &kind, copies),
        programs(ran.map_err(shown)),
    ]
}

/// The topics of a store that cannot be written to.
fn unusable(name: &str, reason: &str) -> Vec<Finding> {
    let fix = "name a folder that you can write to with --root DIR";
    let mut found =
        vec![Finding::missing("store", format!("{name}: {reason}"), "no build works with it", fix)];
    for topic in ["space", "overlay", "attributes", "whiteouts", "reflinks", "programs"] {
        let fact = "not tried, as the store cannot be written to";
        found.push(Finding::missing(topic, fact, "unknown until there is a store", fix));
    }
    found
}

fn kind(number: u64) -> String {
    let known = FILE_SYSTEMS.iter().find(|(magic, _)| *magic == number);
    known.map_or_else(|| format!("file system {number:#x}"), |(_, name)| (*name).to_owned())
}

fn store(name: &str, kind: &str, attributes: Option<&StatVfs>) -> Finding {
    let flags = attributes.map_or(StatVfsMountFlags::empty(), |found| found.f_flag);
    let shown = [
        (StatVfsMountFlags::NOSUID, "nosuid"),
        (StatVfsMountFlags::NODEV, "nodev"),
        (StatVfsMountFlags::NOEXEC, "noexec"),
    ];
    let shown: Vec<_> =
        shown.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name).collect();
    let options = if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) };
    let fact = format!("{name}, on {kind}{options}");
    if REMOTE.contains(&kind) {
        return Finding::degraded(
            "store",
            fact,
            "many small files over a network are slow, and owners may not be kept",
            "put --root on a disk of this machine",
        );
    }
    Finding::good("store", fact)
}

fn space(attributes: Result<StatVfs, String>) -> Finding {
    let fix = "free some, or put --root on a larger file system";
    match attributes {
        Ok(found) => {
            judge_space(found.f_bavail.saturating_mul(found.f_frsize), found.f_files, found.f_favail)
        }
        Err(reason) => Finding::degraded("space", reason, "builds may run out of space unforeseen", fix),
    }
}

/// Judges free bytes and free inodes, of which there are none in all where the file system makes them.
fn judge_space(bytes: u64, inodes: u64, free: u64) -> Finding {
    let gib = bytes as f64 / f64::from(1 << 30);
    let of_inodes = if inodes == 0 { "inodes as needed".to_owned() } else { format!("{free} inodes") };
    let fact = format!("{gib:.1} GiB and {of_inodes} free");
    if bytes >= SPACE && (inodes == 0 || free >= INODES) {
        return Finding::good("space", fact);
    }
    Finding::degraded(
        "space",
        fact,
        "layers of larger images, and several platforms of one, do not fit",
        "free some, or put --root on a larger file system",
    )
}

fn overlay(overlays: &Overlays) -> Finding {
    let topic = "overlay";
    let copied = "files are copied for each stage: slower, and every copy takes its space";
    match overlays {
        Overlays::Works => Finding::good(topic, "stages share their layers"),
        Overlays::Untried(reason) => {
            let fact = format!("not to be had: {reason}");
            Finding::degraded(topic, fact, copied, "make user namespaces work")
        }
        Overlays::Refused(error, Some(place)) => Finding::degraded(
            topic,
            shown(error),
            format!("changes of commands go to {} first, and are copied from there", place.display()),
            "put --root on a volume (Kubernetes: emptyDir; Docker: --volume)",
        ),
        Overlays::Refused(error @ OverlayError::UpperOnOverlay, None) => {
            let fix = "put --root on a volume or tmpfs (Kubernetes: emptyDir; Docker: --volume or --tmpfs)";
            Finding::degraded(topic, shown(error), copied, fix)
        }
        Overlays::Refused(error, None) => {
            let fix = "use Linux 5.11 or newer, a file system such as ext4, xfs or btrfs, and no policy that \
                       refuses the mount";
            Finding::degraded(topic, shown(error), copied, fix)
        }
    }
}

fn attribute(tried: Result<(), String>, kind: &str) -> Finding {
    match tried {
        Ok(()) => Finding::good("attributes", "files keep attributes of users"),
        Err(reason) => Finding::missing(
            "attributes",
            format!("{kind} keeps none of users: {reason}"),
            "overlays, and the owners of files that this user cannot give, have no place",
            "put --root on ext4, xfs, btrfs, or on tmpfs of Linux 6.6 or newer",
        ),
    }
}

fn whiteout(tried: Result<(), String>) -> Finding {
    match tried {
        Ok(()) => Finding::good("whiteouts", "can be made: layers hide files of lower ones"),
        Err(reason) => Finding::missing(
            "whiteouts",
            format!("cannot be made: {reason}"),
            "layers that remove files cannot be unpacked for overlays",
            "use Linux 5.8 or newer, and a file system and a container profile that permit mknod(2)",
        ),
    }
}

fn reflink(tried: Result<(), String>, kind: &str, copies: bool) -> Finding {
    match tried {
        Ok(()) => Finding::good("reflinks", format!("{kind} shares the blocks of copies")),
        Err(_) if !copies => {
            Finding::good("reflinks", format!("none on {kind}; overlays make them unneeded"))
        }
        Err(reason) => Finding::degraded(
            "reflinks",
            format!("none on {kind}: {reason}"),
            "each copy of a file is written in full",
            "put --root on btrfs or xfs, or make overlays work",
        ),
    }
}

fn programs(tried: Result<(), String>) -> Finding {
    match tried {
        Ok(()) => Finding::good("programs", "run from the store"),
        Err(reason) => Finding::missing(
            "programs",
            format!("do not run from the store: {reason}"),
            "RUN fails, where roots of commands lie on that file system",
            "mount it with exec, or put --root elsewhere",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn file_systems_have_names() {
        assert_eq!(kind(0xef53), "ext4");
        assert_eq!(kind(0x1234), "file system 0x1234");
        assert_eq!(store("/s", "nfs", None).verdict, Verdict::Degraded);
        assert_eq!(store("/s", "ext4", None).fact, "/s, on ext4");
    }

    #[test]
    fn space_and_inodes() {
        assert_eq!(judge_space(8 << 30, 0, 0).fact, "8.0 GiB and inodes as needed free");
        assert_eq!(judge_space(8 << 30, 1_000_000, 500_000).verdict, Verdict::Good);
        assert_eq!(judge_space(8 << 30, 1_000_000, 5).verdict, Verdict::Degraded);
        assert_eq!(judge_space(1 << 30, 0, 0).verdict, Verdict::Degraded);
    }

    #[test]
    fn overlays() {
        assert_eq!(overlay(&Overlays::Works).verdict, Verdict::Good);
        let refused = |place: Option<&str>| {
            overlay(&Overlays::Refused(OverlayError::UpperOnOverlay, place.map(PathBuf::from)))
        };
        let elsewhere = refused(Some("/dev/shm"));
        assert!(elsewhere.remedy.unwrap().cost.contains("/dev/shm"));
        assert!(refused(None).remedy.unwrap().cost.contains("copied for each stage"));
        assert!(overlay(&Overlays::Untried("no mounts".to_owned())).fact.contains("no mounts"));
    }

    #[test]
    fn reflinks_matter_where_files_are_copied() {
        let none = || Err("EOPNOTSUPP".to_owned());
        assert_eq!(reflink(none(), "ext4", false).verdict, Verdict::Good);
        assert_eq!(reflink(none(), "ext4", true).verdict, Verdict::Degraded);
        assert_eq!(reflink(Ok(()), "btrfs", true).verdict, Verdict::Good);
    }

    #[test]
    fn a_store_out_of_reach_has_all_topics() {
        let place = Place { root: Some("/proc/none".into()), scratch: Err(io::Error::other("no")) };
        let found = find(&place, &Overlays::Works);
        assert_eq!(found.len(), 7);
        assert!(found.iter().all(|finding| finding.verdict == Verdict::Missing));
        assert!(found[0].fact.starts_with("/proc/none: no"));
    }

    #[test]
    fn the_nearest_folder_is_tried() {
        let outer = tempfile::tempdir().unwrap();
        let place = Place::of(Some(outer.path().join("a/b")));
        assert_eq!(place.scratch.unwrap().path().parent(), Some(outer.path()));
        assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 0);
        assert!(Place::of(None).scratch.is_err());
    }
}
