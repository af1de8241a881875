//! /proc and /dev: what commands get of them.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::finding::{Finding, shown};

/// Device nodes that every root has, and their major and minor numbers.
const DEVICES: [(&str, u32, u32); 5] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)];

/// Judges /proc. `fresh` says whether one of its own could be mounted, inside the namespaces that builds
/// have; nothing is known of that without them.
pub(super) fn proc(mounts: &str, fresh: Option<io::Result<()>>) -> Finding {
    let topic = "/proc";
    let covered = covered(mounts);
    let covers = match covered.as_slice() {
        [] => "nothing of the outer one is covered".to_owned(),
        [only] => format!("of the outer one {only} is covered"),
        [first, .., last] => {
            format!("{} places of the outer one are covered, {first} to {last}", covered.len())
        }
    };
    match fresh {
        Some(Ok(())) => Finding::good(topic, format!("commands get their own; {covers}")),
        Some(Err(error)) => Finding::degraded(
            topic,
            format!("a new one is refused: {}; {covers}", shown(error)),
            "commands get the outer one, with the processes of the surrounding container",
            "start the container with an uncovered /proc: Podman `--security-opt unmask=ALL`, Docker \
             `--security-opt systempaths=unconfined`, Kubernetes `procMount: Unmasked`",
        ),
        None => Finding::degraded(
            topic,
            format!("not tried, as the isolation has no mounts of its own; {covers}"),
            "commands get the outer /proc, a part of it, or none",
            "make user namespaces work",
        ),
    }
}

/// Mounts below /proc in the content of /proc/self/mountinfo, sorted.
fn covered(mounts: &str) -> Vec<String> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut covered: Vec<String> = points
        .filter(|point| point.starts_with("/proc/") && !point.starts_with("/proc/sys/fs/binfmt_misc"))
        .map(str::to_owned)
        .collect();
    covered.sort();
    covered.dedup();
    covered
}

/// Looks at the device nodes that commands get.
pub(super) fn devices() -> Finding {
    let usable = |(name, major, minor): &(&str, u32, u32)| {
        let path = format!("/dev/{name}");
        let meta = std::fs::metadata(&path).map_err(|error| format!("{path}: {}", shown(error)))?;
        let number = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        if !meta.file_type().is_char_device() || number != (*major, *minor) {
            return Err(format!("{path} is another file than the device"));
        }
        std::fs::File::open(&path).map(drop).map_err(|error| format!("{path}: {}", shown(error)))
    };
    judge_devices(&DEVICES.iter().filter_map(|device| usable(device).err()).collect::<Vec<_>>())
}

fn judge_devices(faults: &[String]) -> Finding {
    if faults.is_empty() {
        return Finding::good("/dev", DEVICES.map(|(name, ..)| name).join(", "));
    }
    Finding::missing(
        "/dev",
        faults.join("; "),
        "RUN fails, as commands get these devices from here",
        "make the nodes (mknod -m 666 /dev/null c 1 3 and so on), on a file system that is not mounted nodev",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    const DOCKER: &str = "\
        600 500 0:50 / /proc rw,nosuid shared:1 - proc proc rw\n\
        601 600 0:60 / /proc/kcore rw,nosuid - tmpfs tmpfs rw\n\
        602 600 0:50 /bus /proc/bus ro - proc proc rw\n\
        603 600 0:44 / /proc/sys/fs/binfmt_misc rw - binfmt_misc binfmt_misc rw\n";

    #[test]
    fn covered_places_are_told() {
        assert_eq!(covered(DOCKER), ["/proc/bus", "/proc/kcore"]);
        let refused = proc(DOCKER, Some(Err(io::Error::from_raw_os_error(1))));
        assert_eq!(refused.verdict, Verdict::Degraded);
        assert!(refused.fact.contains("2 places of the outer one are covered, /proc/bus to /proc/kcore"));
        assert_eq!(proc("", Some(Ok(()))).verdict, Verdict::Good);
        assert!(proc("", Some(Ok(()))).fact.contains("nothing"));
        assert_eq!(proc(DOCKER, None).verdict, Verdict::Degraded);
    }

    #[test]
    fn devices_of_this_machine() {
        assert_eq!(devices().topic, "/dev");
        assert_eq!(judge_devices(&["/dev/null: not found".to_owned()]).verdict, Verdict::Missing);
    }
}
