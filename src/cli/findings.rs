//! What a check found, as people and programs read it.

use serde_json::{Value, json};

use crate::coordinator::{BuildError, Checked, ErrorKind, Source};
use crate::dockerfile::{Dockerfile, Mark, Span, SyntaxError};
use crate::plan::{MOST_FOUND, PlanError};
use crate::progress::Warning;

/// The rule of a file that cannot be parsed.
const SYNTAX: &str = "SyntaxError";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// A build would fail.
    Error,
    /// Probably a mistake.
    Warning,
    /// Something that could not be looked at.
    Info,
}

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One finding.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    severity: Severity,
    shown: Warning,
}

/// All findings of one Dockerfile.
#[derive(Debug)]
pub(super) struct Findings {
    file: String,
    found: Vec<Finding>,
    /// Whether the Dockerfile makes warnings errors.
    strict: bool,
    /// Whether there are more than are listed.
    cut: bool,
}

impl Findings {
    /// The one finding of a Dockerfile that cannot be parsed.
    pub(super) fn of_syntax(source: &Source, error: &SyntaxError) -> Self {
        let span = Span { first: error.line, last: error.line };
        let mark = error.columns.map(|columns| Mark { line: error.line, columns });
        let shown = source.finding(Some(SYNTAX), &error.full_message(), Some(span), mark);
        let found = vec![Finding { severity: Severity::Error, shown }];
        Self { file: source.name.clone(), found, strict: false, cut: false }
    }

    /// The findings of a check, in the order of the lines; what has no line comes first.
    pub(super) fn of_check(source: &Source, dockerfile: &Dockerfile, checked: &Checked) -> Self {
        let finding = |severity, shown| Finding { severity, shown };
        let mut found = Vec::new();
        found.extend(dockerfile.warnings.iter().map(|w| finding(Severity::Warning, source.of_parser(w))));
        let planned = checked.survey.graph.warnings.iter();
        found.extend(planned.map(|warning| finding(Severity::Warning, source.of_plan(warning))));
        let faults = checked.survey.faults.iter();
        found.extend(faults.map(|fault| finding(Severity::Error, fault_shown(source, fault))));
        found.extend(checked.unfit.iter().map(|error| finding(Severity::Error, error_shown(source, error))));
        found.extend(checked.missing.iter().map(|error| {
            let shown = error_shown(source, error);
            // What does not exist is missing in a build, too; what is out of reach may be within it then.
            if matches!(error.kind, ErrorKind::Platform | ErrorKind::Invalid) {
                return finding(Severity::Error, shown);
            }
            let text = format!("the base could not be looked at: {}", shown.text);
            finding(Severity::Info, Warning { text, ..shown })
        }));
        found.sort_by_key(|finding| {
            finding.shown.place.as_ref().map_or((0, 0), |place| (place.line, place.column))
        });
        let (strict, cut) = (dockerfile.checks.is_error(), checked.survey.cut);
        Self { file: source.name.clone(), found, strict, cut }
    }

    fn count(&self, severity: Severity) -> usize {
        self.found.iter().filter(|finding| finding.severity == severity).count()
    }

    /// The rules that a Dockerfile breaks which does not allow that, sorted.
    fn violated(&self) -> Vec<&str> {
        let warnings = self.found.iter().filter(|finding| finding.severity == Severity::Warning);
        let mut rules: Vec<&str> = warnings.filter_map(|finding| finding.shown.rule.as_deref()).collect();
        rules.sort_unstable();
        rules.dedup();
        if self.strict { rules } else { Vec::new() }
    }

    /// Whether a build would fail.
    pub(super) fn failed(&self) -> bool {
        self.count(Severity::Error) > 0 || !self.violated().is_empty()
    }

    /// The findings with the lines that they are about, and a summary.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.found {
            for line in finding.shown.lines(finding.severity.name()) {
                text.push_str(&line);
                text.push('\n');
            }
            text.push('\n');
        }
        let violated = self.violated();
        if !violated.is_empty() {
            text.push_str(&format!("error: lint violation found for rules: {}\n\n", violated.join(", ")));
        }
        let counts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Info]
            .into_iter()
            .map(|severity| (severity, self.count(severity)))
            .filter(|(_, count)| *count > 0)
            .map(|(severity, count)| match severity {
                Severity::Info => format!("{count} info"),
                _ => format!("{count} {}{}", severity.name(), if count == 1 { "" } else { "s" }),
            })
            .collect();
        let file = crate::progress::escape::one_line(&self.file);
        match counts.is_empty() {
            true => text.push_str(&format!("{file}: no findings")),
            false => text.push_str(&format!("{file}: {}", counts.join(", "))),
        }
        if self.cut {
            text.push_str(&format!(
                "; there are more, of which only the first {MOST_FOUND} errors and {MOST_FOUND} warnings are shown"
            ));
        }
        text
    }

    /// The same as one object.
    pub(super) fn json(&self) -> Value {
        let findings: Vec<Value> = self.found.iter().map(|finding| self.finding_json(finding)).collect();
        json!({
            "file": self.file,
            "findings": findings,
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "infos": self.count(Severity::Info),
            "violated": self.violated(),
            "failed": self.failed(),
            "cut": self.cut,
        })
    }

    fn finding_json(&self, finding: &Finding) -> Value {
        let shown = &finding.shown;
        json!({
            "rule": shown.rule,
            "severity": finding.severity.name(),
            "file": self.file,
            "line": shown.place.as_ref().map(|place| place.line),
            "column": shown.place.as_ref().map(|place| place.column),
            "message": shown.text,
            "hint": shown.hint,
            "platform": shown.platform.as_ref().map(ToString::to_string),
        })
    }
}

fn fault_shown(source: &Source, fault: &PlanError) -> Warning {
    let mark = fault.span.and_then(|span| source.mark(span, fault.word.as_deref(), &fault.message));
    let shown = source.finding(None, &fault.message, fault.span, mark);
    Warning { hint: fault.hint.clone(), platform: fault.platform.clone(), ..shown }
}

fn error_shown(source: &Source, error: &BuildError) -> Warning {
    let shown = source.finding(error.rule, &error.message, error.span, source.mark_of(error));
    Warning { hint: error.hint.clone(), platform: error.platform.clone(), ..shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Findings {
        let source = Source { name: "Dockerfile".to_owned(), text: text.to_owned() };
        Findings::of_syntax(&source, &crate::dockerfile::parse(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn a_syntax_error_is_a_finding() {
        let found = findings("FROM scratch\nRUM x\n");
        assert!(found.failed());
        let want = "\
error: SyntaxError: unknown instruction: RUM (did you mean RUN?)
 --> Dockerfile:2:1
  |
2 | RUM x
  | ^^^

Dockerfile: 1 error";
        assert_eq!(found.text(), want);
        let json = found.json();
        let first = &json["findings"][0];
        assert_eq!(first["rule"], "SyntaxError");
        assert_eq!((first["line"].as_u64(), first["column"].as_u64()), (Some(2), Some(1)));
        assert_eq!(json["failed"], true);
    }

    #[test]
    fn warnings_fail_only_where_they_are_errors() {
        let warning = |rule: &str| Finding {
            severity: Severity::Warning,
            shown: Warning { rule: Some(rule.to_owned()), ..Warning::new("m") },
        };
        let mut found = Findings {
            file: "D".to_owned(),
            found: vec![warning("B"), warning("A")],
            strict: false,
            cut: true,
        };
        assert!(!found.failed());
        let end = "\nD: 2 warnings; there are more, of which only the first 1000 errors and 1000 warnings are shown";
        assert!(found.text().ends_with(end));
        assert_eq!(found.json()["cut"], true);
        found.strict = true;
        assert!(found.failed());
        assert!(found.text().contains("error: lint violation found for rules: A, B\n"));
        let none = Findings { file: "D".to_owned(), found: Vec::new(), strict: true, cut: false };
        assert!(!none.failed());
        assert_eq!(none.text(), "D: no findings");
    }
}
