//! One thing about this machine: how it is, what that costs, and what mends it.

use serde_json::{Value, json};

use super::super::table;
use crate::progress::escape;

/// How good a thing is for builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Verdict {
    /// As builds want it.
    Good,
    /// Builds work, with a loss.
    Degraded,
    /// Not there; something that builds could use does not work.
    Missing,
}

impl Verdict {
    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}

/// What was found of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Finding {
    pub(super) topic: String,
    pub(super) verdict: Verdict,
    /// How it is.
    pub(super) fact: String,
    /// What the loss is and what mends it; nothing where all is well.
    pub(super) remedy: Option<Remedy>,
}

/// What a loss costs builds, and what can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remedy {
    pub(super) cost: String,
    pub(super) fix: String,
}

impl Finding {
    pub(super) fn good(topic: impl Into<String>, fact: impl Into<String>) -> Self {
        Self { topic: topic.into(), verdict: Verdict::Good, fact: fact.into(), remedy: None }
    }

    pub(super) fn degraded(
        topic: impl Into<String>,
        fact: impl Into<String>,
        cost: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let remedy = Some(Remedy { cost: cost.into(), fix: fix.into() });
        Self { topic: topic.into(), verdict: Verdict::Degraded, fact: fact.into(), remedy }
    }

    pub(super) fn missing(
        topic: impl Into<String>,
        fact: impl Into<String>,
        cost: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Missing, ..Self::degraded(topic, fact, cost, fix) }
    }

    fn json(&self) -> Value {
        json!({
            "topic": self.topic,
            "verdict": self.verdict.name(),
            "fact": self.fact,
            "cost": self.remedy.as_ref().map(|remedy| &remedy.cost),
            "fix": self.remedy.as_ref().map(|remedy| &remedy.fix),
        })
    }
}

/// All findings as a table for people. Nothing in it acts on a terminal.
pub(in crate::cli) fn text(findings: &[Finding]) -> String {
    let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["TOPIC", "VERDICT", "FACT"])];
    for finding in findings {
        rows.push(row([&finding.topic, finding.verdict.name(), &finding.fact]));
        if let Some(Remedy { cost, fix }) = &finding.remedy {
            rows.push(row(["", "", &format!("cost: {cost}")]));
            rows.push(row(["", "", &format!("fix:  {fix}")]));
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    format!(
        "{}\n{} good, {} degraded, {} missing\n",
        table::table(&rows),
        count(Verdict::Good),
        count(Verdict::Degraded),
        count(Verdict::Missing),
    )
}

/// All findings for programs.
pub(in crate::cli) fn json(findings: &[Finding]) -> Value {
    findings.iter().map(Finding::json).collect()
}

/// What the system says, and nothing that acts on a terminal.
pub(super) fn shown(error: impl std::fmt::Display) -> String {
    escape::one_line(&error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<Finding> {
        vec![
            Finding::good("kernel", "Linux 6.1"),
            Finding::degraded("overlay", "upper\x1b[2J on\noverlayfs", "files are copied", "use a volume"),
            Finding::missing("git", "not in PATH", "no git contexts", "install git"),
        ]
    }

    #[test]
    fn lines_are_aligned_and_every_loss_has_its_cost_and_fix() {
        let want = "\
TOPIC    VERDICT   FACT
kernel   good      Linux 6.1
overlay  degraded  upper on overlayfs
                   cost: files are copied
                   fix: use a volume
git      missing   not in PATH
                   cost: no git contexts
                   fix: install git

1 good, 1 degraded, 1 missing
";
        assert_eq!(text(&three()).replace("fix:  ", "fix: "), want);
    }

    #[test]
    fn json_has_the_same_members_for_each() {
        let all = json(&three());
        let all = all.as_array().unwrap();
        assert_eq!(all[0]["verdict"], "good");
        assert!(all[0]["cost"].is_null() && all[0]["fix"].is_null());
        assert_eq!(all[2]["topic"], "git");
        assert_eq!(all[2]["verdict"], "missing");
        assert_eq!(all[2]["fix"], "install git");
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert!(all.iter().all(|one| names(one) == ["topic", "verdict", "fact", "cost", "fix"]));
    }
}
