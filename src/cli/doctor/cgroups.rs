//! Limits of commands: which of them control groups keep here.

use super::finding::{Finding, shown};
use super::read;
use crate::sandbox::{Cgroups, Limits};

/// Small enough to be granted wherever anything is, large enough for this process to be moved.
const TRIED: [(&str, Limits); 3] = [
    ("--memory", Limits { memory: Some(64 << 20), cpus: None, pids: None }),
    ("--cpus", Limits { memory: None, cpus: Some(500), pids: None }),
    ("--pids", Limits { memory: None, cpus: None, pids: Some(256) }),
];

/// Why a limit cannot be kept, and what would help.
type Refusal = (String, String);

/// Tries each limit out. Call it before namespaces are entered.
pub(super) fn find() -> Finding {
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    let tried = TRIED.map(|(flag, limits)| {
        let made = Cgroups::make(limits).map(Cgroups::remove);
        (flag, made.map_err(|error| (shown(&error), error.fix())))
    });
    judge(versions(&mounts), &tried)
}

/// Which versions are mounted, by the content of /proc/self/mountinfo.
fn versions(mounts: &str) -> &'static str {
    let kinds = mounts.lines().filter_map(|line| line.split_once(" - ")?.1.split(' ').next());
    let (one, two) =
        kinds.fold((false, false), |(one, two), kind| (one || kind == "cgroup", two || kind == "cgroup2"));
    match (one, two) {
        (true, true) => "versions 1 and 2",
        (true, false) => "version 1",
        (false, true) => "version 2",
        (false, false) => "not mounted",
    }
}

fn judge(versions: &str, tried: &[(&str, Result<(), Refusal>)]) -> Finding {
    let topic = "cgroups";
    let names = |works: bool| {
        let fitting = tried.iter().filter(|(_, outcome)| outcome.is_ok() == works);
        fitting.map(|(flag, _)| *flag).collect::<Vec<_>>().join(", ")
    };
    let Some((reason, fix)) = tried.iter().find_map(|(_, outcome)| outcome.as_ref().err()) else {
        return Finding::good(topic, format!("{versions}; limits work: {}", names(true)));
    };
    let cost = format!("builds with {} are refused; without these flags nothing is lost", names(false));
    if names(true).is_empty() {
        return Finding::missing(topic, format!("{versions}; {reason}"), cost, fix);
    }
    let fact = format!("{versions}; limits work: {}; {reason}", names(true));
    Finding::degraded(topic, fact, cost, fix)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn versions_are_told_by_their_mounts() {
        let two = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let one = "32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n";
        for (mounts, want) in [
            (two.to_owned(), "version 2"),
            (one.to_owned(), "version 1"),
            (format!("{one}{two}"), "versions 1 and 2"),
            ("1 2 0:1 / / rw - ext4 /dev/cgroup rw\njunk\n".to_owned(), "not mounted"),
        ] {
            assert_eq!(versions(&mounts), want);
        }
    }

    #[test]
    fn verdicts() {
        let refused = || Err(("no".to_owned(), "delegate".to_owned()));
        let all = judge("version 2", &[("--memory", Ok(())), ("--pids", Ok(()))]);
        assert_eq!(
            (all.verdict, all.fact.as_str()),
            (Verdict::Good, "version 2; limits work: --memory, --pids")
        );
        let some = judge("version 1", &[("--memory", refused()), ("--pids", Ok(()))]);
        assert_eq!(some.verdict, Verdict::Degraded);
        let remedy = some.remedy.unwrap();
        assert!(remedy.cost.contains("--memory") && !remedy.cost.contains("--pids"));
        assert_eq!(remedy.fix, "delegate");
        assert_eq!(judge("x", &[("--memory", refused())]).verdict, Verdict::Missing);
    }
}
