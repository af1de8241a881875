//! The ladder of isolation: which rungs work here, and which one a build takes.

use super::finding::Finding;
use crate::coordinator::BuildError;
use crate::sandbox::{self, Isolation, survey};

/// What was found of one rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Rung {
    pub(super) isolation: Isolation,
    pub(super) outcome: Result<(), Refusal>,
}

/// Why a rung does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) fix: Option<String>,
}

/// Tries every rung, without any lasting effect. Call it while the process has one thread.
pub(super) fn climb(config: &sandbox::Config) -> Vec<Rung> {
    let all = sandbox::Config { isolation: None, ..config.clone() };
    let refusal = |refused: sandbox::Refused| Refusal { reason: refused.reason, fix: refused.fix };
    let tried = sandbox::probe_ladder(&all).into_iter();
    tried.map(|(isolation, outcome)| Rung { isolation, outcome: outcome.map_err(refusal) }).collect()
}

/// Whether namespaces can be made, by themselves.
pub(super) fn namespaces() -> Vec<Finding> {
    let settings = [
        ("user.max_user_namespaces", "/proc/sys/user/max_user_namespaces"),
        ("kernel.unprivileged_userns_clone", "/proc/sys/kernel/unprivileged_userns_clone"),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        ),
    ];
    let settings = settings.map(|(name, file)| Some(format!("{name}={}", super::read(file)?)));
    let settings = settings.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let user = survey::user_namespace()
        .map_err(|error| Refusal { reason: BuildError::describe(&error), fix: error.fix() });
    vec![user_namespaces(user, &settings), network_namespaces(survey::network_namespace())]
}

fn user_namespaces(tried: Result<(), Refusal>, settings: &str) -> Finding {
    let topic = "user namespaces";
    match tried {
        Ok(()) if settings.is_empty() => Finding::good(topic, "can be made"),
        Ok(()) => Finding::good(topic, format!("can be made ({settings})")),
        Err(Refusal { reason, fix }) => Finding::missing(
            topic,
            reason,
            "no mounts and no handlers of its own for any build: only the isolations chroot and ptrace are left, \
             and files are copied for each stage",
            fix.unwrap_or_else(|| {
                "use a kernel with CONFIG_USER_NS, outside of restricted containers".to_owned()
            }),
        ),
    }
}

fn network_namespaces(tried: std::io::Result<()>) -> Finding {
    let topic = "network namespaces";
    match tried {
        Ok(()) => Finding::good(topic, "can be made"),
        Err(error) => Finding::missing(
            topic,
            format!("cannot be made: {}", super::finding::shown(error)),
            "RUN --network=none does not work",
            "make user namespaces work, with user.max_net_namespaces above 0",
        ),
    }
}

/// What commands lose on a rung that is not the best one.
fn loss(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Userns => "nothing",
        Isolation::OneId => {
            "users and owners other than root are simulated by a supervisor: commands that look at many files are \
             slower, and what a user may not do is not always refused"
        }
        Isolation::Chroot => {
            "nothing but their root directory keeps commands apart from the surrounding container, files are \
             copied for each stage, and there are no private handlers of foreign programs"
        }
        Isolation::Ptrace => {
            "a supervisor carries out every call with a path: commands with many files take several times as long, \
             files are copied for each stage, and users and owners are simulated"
        }
    }
}

const fn meaning(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Userns => "namespaces with a range of ids",
        Isolation::OneId => "namespaces with one id, others simulated",
        Isolation::Chroot => "a changed root directory, as root without a user namespace",
        Isolation::Ptrace => "no privilege, calls carried out by a supervisor",
    }
}

/// A line for each rung; `taken` is the one that builds get.
pub(super) fn findings(rungs: &[Rung], taken: Option<Isolation>) -> Vec<Finding> {
    rungs.iter().map(|rung| finding(rung, rungs, taken)).collect()
}

fn finding(rung: &Rung, all: &[Rung], taken: Option<Isolation>) -> Finding {
    let topic = format!("isolation {}", rung.isolation);
    let what = meaning(rung.isolation);
    match &rung.outcome {
        Ok(()) if taken == Some(rung.isolation) => {
            let above = all.iter().take_while(|other| other.isolation != rung.isolation);
            let fact = format!("taken: {what}");
            match above.filter(|other| other.outcome.is_err()).count() {
                0 => Finding::good(topic, fact),
                _ => Finding::degraded(
                    topic,
                    fact,
                    loss(rung.isolation),
                    "mend a rung above; builds take it by themselves then",
                ),
            }
        }
        Ok(()) => Finding::good(topic, format!("would work: {what}")),
        Err(Refusal { reason, fix }) => {
            let cost = match taken {
                Some(taken) if taken < rung.isolation => {
                    format!("nothing, as builds take {taken}")
                }
                Some(taken) => format!("builds take {taken}"),
                None => "no rung works here: RUN is refused, builds without RUN work".to_owned(),
            };
            let fix = fix.clone().unwrap_or_else(|| match taken {
                Some(taken) if taken < rung.isolation => "none needed".to_owned(),
                _ => "none known: make another rung work".to_owned(),
            });
            Finding::missing(topic, format!("{what}: {reason}"), cost, fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn ladder(works: &[Isolation]) -> Vec<Rung> {
        let refusal = Refusal { reason: "EPERM".to_owned(), fix: None };
        let outcome = |isolation| if works.contains(&isolation) { Ok(()) } else { Err(refusal.clone()) };
        Isolation::LADDER.map(|isolation| Rung { isolation, outcome: outcome(isolation) }).into()
    }

    #[test]
    fn the_taken_rung_is_good_at_the_top_alone() {
        let verdicts = |works: &[Isolation]| {
            let found = findings(&ladder(works), works.first().copied());
            found.iter().map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        use Verdict::{Degraded, Good, Missing};
        assert_eq!(verdicts(&[Isolation::Userns]), [Good, Missing, Missing, Missing]);
        assert_eq!(verdicts(&[Isolation::Userns, Isolation::Ptrace]), [Good, Missing, Missing, Good]);
        assert_eq!(verdicts(&[Isolation::OneId, Isolation::Ptrace]), [Missing, Degraded, Missing, Good]);
        assert_eq!(verdicts(&[Isolation::Ptrace]), [Missing, Missing, Missing, Degraded]);
        assert_eq!(verdicts(&[]), [Missing; 4]);
    }

    #[test]
    fn costs_follow_from_what_is_taken() {
        let found = findings(&ladder(&[Isolation::OneId]), Some(Isolation::OneId));
        let costs: Vec<_> =
            found.iter().map(|finding| finding.remedy.as_ref().unwrap().cost.as_str()).collect();
        assert_eq!(costs[0], "builds take one-id");
        assert!(costs[1].contains("supervisor"));
        assert_eq!(costs[3], "nothing, as builds take one-id");
        assert!(found[1].fact.starts_with("taken: "));
        let none = findings(&ladder(&[]), None);
        assert!(none.iter().all(|finding| finding.remedy.as_ref().unwrap().cost.contains("RUN is refused")));
    }

    #[test]
    fn namespaces_are_explained() {
        assert_eq!(user_namespaces(Ok(()), "a=1").fact, "can be made (a=1)");
        let refused = Refusal { reason: "clone: EPERM".to_owned(), fix: Some("sysctl".to_owned()) };
        let found = user_namespaces(Err(refused), "");
        assert_eq!((found.verdict, found.remedy.unwrap().fix.as_str()), (Verdict::Missing, "sysctl"));
        assert_eq!(network_namespaces(Err(std::io::Error::other("x"))).verdict, Verdict::Missing);
    }
}
