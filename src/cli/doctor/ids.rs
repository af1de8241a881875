//! The ids that builds can give to files.

use std::ffi::OsStr;

use super::finding::Finding;
use super::process::Status;
use super::programs::{in_path, lacks_rights};
use crate::sandbox::survey::{self, Ids};

/// Ids that images of distributions take for granted.
const USUAL: u64 = 65_536;

/// The finding of subordinate ids.
pub(super) fn find(status: &Status, path: &OsStr) -> Finding {
    let problem = |name: &'static str| match in_path(name, path) {
        None => Some(Problem { what: format!("`{name}` is not in PATH"), fix: INSTALL.to_owned() }),
        Some(program) => {
            let what = lacks_rights(&program)?;
            Some(Problem {
                what,
                fix: format!("chmod u+s {}, or install the package again", program.display()),
            })
        }
    };
    let mut problems: Vec<_> = ["newuidmap", "newgidmap"].into_iter().filter_map(problem).collect();
    if status.is_bound() {
        problems.push(Problem {
            what: "no_new_privs is set, so that newuidmap gains no right".to_owned(),
            fix: "start without no_new_privs".to_owned(),
        });
    }
    judge(&survey::ids(), problems)
}

const INSTALL: &str = "install the package uidmap (shadow-utils on Fedora)";

/// What keeps a user from its ids.
struct Problem {
    what: String,
    fix: String,
}

fn judge(ids: &Ids, mut problems: Vec<Problem>) -> Finding {
    let topic = "subordinate ids";
    let count = |ranges: &[(u32, u32)]| ranges.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
    let least = count(&ids.uids).min(count(&ids.gids));
    let more = format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}", ids.user);
    if ids.is_root {
        let ids = if least == 1 { "one id".to_owned() } else { format!("{least} ids") };
        let fact = format!("not needed: root has {ids} of its own");
        if least >= USUAL {
            return Finding::good(topic, fact);
        }
        return Finding::degraded(
            topic,
            fact,
            "users of images beyond them cannot own files, nor run commands",
            "give the surrounding user namespace a range of 65536 ids",
        );
    }
    for (file, ranges) in [("/etc/subgid", &ids.gids), ("/etc/subuid", &ids.uids)] {
        if ranges.is_empty() {
            let what = format!("none for `{}` in {file}", ids.user);
            problems.insert(0, Problem { what, fix: more.clone() });
        }
    }
    if let Some(first) = problems.first() {
        let all: Vec<_> = problems.iter().map(|problem| problem.what.as_str()).collect();
        return Finding::missing(
            topic,
            all.join("; "),
            "commands have the one id of this user; others are simulated",
            first.fix.clone(),
        );
    }
    let first = ids.uids.first().map_or(0, |(first, _)| *first);
    let fact = format!("{least} for `{}`, user ids from {first}", ids.user);
    if least >= USUAL {
        return Finding::good(topic, fact);
    }
    Finding::degraded(topic, fact, "users of images beyond them cannot own files, nor run commands", more)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn user(uids: &[(u32, u32)], gids: &[(u32, u32)]) -> Ids {
        Ids { user: "alice".to_owned(), is_root: false, uids: uids.to_vec(), gids: gids.to_vec() }
    }

    #[test]
    fn verdicts() {
        let range = [(100_000, 65_536)];
        assert_eq!(judge(&user(&range, &range), Vec::new()).verdict, Verdict::Good);
        assert_eq!(judge(&user(&range, &[(5, 10)]), Vec::new()).verdict, Verdict::Degraded);
        let none = judge(&user(&[], &range), Vec::new());
        assert_eq!(none.fact, "none for `alice` in /etc/subuid");
        assert!(none.remedy.unwrap().fix.contains("usermod --add-subuids"));
        let problem = Problem { what: "`newuidmap` is not in PATH".to_owned(), fix: INSTALL.to_owned() };
        let absent = judge(&user(&range, &range), vec![problem]);
        assert_eq!(absent.verdict, Verdict::Missing);
        assert_eq!(absent.remedy.unwrap().fix, INSTALL);
    }

    #[test]
    fn root_needs_none() {
        let root = |count| Ids {
            user: "root".to_owned(),
            is_root: true,
            uids: vec![(0, count)],
            gids: vec![(0, count)],
        };
        assert_eq!(judge(&root(u32::MAX), Vec::new()).verdict, Verdict::Good);
        assert_eq!(judge(&root(1), Vec::new()).verdict, Verdict::Degraded);
    }
}
