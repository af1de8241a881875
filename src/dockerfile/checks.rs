//! Which build checks are wanted: `# check=skip=A,B;error=true`, for the file or one instruction.

use std::collections::BTreeSet;

use super::ast::Span;
use super::suggest;

/// The names of all build checks.
pub(super) const RULES: [&str; 27] = [
    "ConsistentInstructionCasing",
    "CopyIgnoredFile",
    "DuplicateStageName",
    "EmulatedBuildStage",
    "ExposeInvalidFormat",
    "ExposeProtoCasing",
    "FromAsCasing",
    "FromPlatformFlagConstDisallowed",
    "HeredocWithoutErrexit",
    "InvalidBaseImagePlatform",
    "InvalidDefaultArgInFrom",
    "InvalidDefinitionDescription",
    "InvalidJSONForm",
    "JSONArgsRecommended",
    "LegacyKeyValueFormat",
    "MaintainerDeprecated",
    "MultipleInstructionsDisallowed",
    "NoEmptyContinuation",
    "RedundantTargetPlatform",
    "ReservedStageName",
    "SecretsUsedInArgOrEnv",
    "StageNameCasing",
    "UndeclaredGlobalArg",
    "UndeclaredPlatformArg",
    "UndefinedArgInFrom",
    "UndefinedVar",
    "WorkdirRelativePath",
];

/// The keys of check options.
const KEYS: [&str; 3] = ["skip", "experimental", "error"];

/// The options of one `check` directive or comment, or of the build argument that replaces it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    skip: Selection,
    experimental: Selection,
    error: bool,
}

/// A choice among check names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Selection {
    all: bool,
    rules: BTreeSet<String>,
}

/// A check option that is not known, or has a wrong value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid check option {option:?}{meant}")]
pub struct ParseCheckError {
    option: String,
    /// ` (did you mean X?)`, or nothing.
    meant: String,
}

/// ` (did you mean X?)`, where there is something near.
fn meant(word: &str, known: &[&str]) -> String {
    suggest::nearest(word, known).map(|known| format!(" (did you mean {known}?)")).unwrap_or_default()
}

impl Selection {
    fn add(&mut self, names: &str) {
        match names.trim() {
            "all" => self.all = true,
            names => self.rules.extend(names.split(',').map(|name| name.trim().to_owned())),
        }
    }

    fn has(&self, rule: &str) -> bool {
        self.all || self.rules.contains(rule)
    }
}

impl CheckOptions {
    /// Parses options separated by `;`: `skip=` and `experimental=` with names or `all`, `error=`
    /// with a truth value.
    ///
    /// # Errors
    ///
    /// The option that is not one of these.
    pub fn parse(text: &str) -> Result<Self, ParseCheckError> {
        let mut options = Self::default();
        for option in text.split(';') {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match (key.trim().to_ascii_lowercase().as_str(), value.trim()) {
                ("skip", names) if !names.is_empty() => options.skip.add(names),
                ("experimental", names) if !names.is_empty() => options.experimental.add(names),
                ("error", "1" | "t" | "T" | "true" | "TRUE" | "True") => options.error = true,
                ("error", "0" | "f" | "F" | "false" | "FALSE" | "False") => options.error = false,
                (key, _) => {
                    return Err(ParseCheckError { option: option.to_owned(), meant: meant(key, &KEYS) });
                }
            }
        }
        Ok(options)
    }

    /// What is wrong with the names of checks in these options, one message for each that no check has.
    fn unknown(&self) -> impl Iterator<Item = String> {
        let names = self.skip.rules.iter().chain(&self.experimental.rules);
        let unknown = names.filter(|name| !RULES.contains(&name.as_str()));
        unknown.map(|name| format!("no check is called {name:?}{}", meant(name, &RULES)))
    }

    fn merge(&mut self, other: Self) {
        for (own, other) in [(&mut self.skip, other.skip), (&mut self.experimental, other.experimental)] {
            own.all |= other.all;
            own.rules.extend(other.rules);
        }
    }

    /// Whether findings of `rule` are to be left out.
    pub fn skips(&self, rule: &str) -> bool {
        self.skip.has(rule)
    }

    /// Whether the experimental `rule` is switched on.
    pub fn enables(&self, rule: &str) -> bool {
        self.experimental.has(rule)
    }

    /// Whether a finding makes the build fail.
    pub fn is_error(&self) -> bool {
        self.error
    }
}

/// The check options of a Dockerfile and of single instructions in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    file: CheckOptions,
    /// The line of the directive, where the options of the file come from one.
    line: Option<u32>,
    /// By the first line of the instruction, ascending.
    instructions: Vec<(u32, CheckOptions)>,
}

impl Checks {
    /// Takes the options of the directive, or others in their place. Those of single instructions stay.
    pub(super) fn set_file(&mut self, options: CheckOptions, line: Option<u32>) {
        self.file = options;
        self.line = line;
    }

    /// Names in the directive, or in the build argument in its place, that no check has: a message for
    /// each, with the line of the directive.
    pub fn unknown(&self) -> impl Iterator<Item = (String, Option<Span>)> {
        let span = self.line.map(|line| Span { first: line, last: line });
        self.file.unknown().map(move |message| (message, span))
    }

    /// Looks for options in the comments above the instruction that begins on line `first`.
    /// A comment that merely looks like one is a comment.
    pub(super) fn add_comments(&mut self, comments: &[&str], first: u32) {
        let mut merged: Option<CheckOptions> = None;
        for (key, value) in comments.iter().filter_map(|comment| comment.split_once('=')) {
            if key.trim().eq_ignore_ascii_case("check")
                && let Ok(options) = CheckOptions::parse(value.trim())
            {
                merged.get_or_insert_default().merge(options);
            }
        }
        self.instructions.extend(merged.map(|options| (first, options)));
    }

    /// Whether a finding of `rule` in the instruction at `span` is to be reported.
    pub fn reports(&self, rule: &str, span: Span) -> bool {
        !self.any(span, |options| options.skips(rule))
    }

    /// Whether the experimental `rule` is switched on for the instruction at `span`.
    pub fn enables(&self, rule: &str, span: Span) -> bool {
        self.any(span, |options| options.enables(rule))
    }

    /// Whether a finding makes the build fail.
    pub fn is_error(&self) -> bool {
        self.file.is_error()
    }

    fn any(&self, span: Span, test: impl Fn(&CheckOptions) -> bool) -> bool {
        let own = self.instructions.binary_search_by_key(&span.first, |(first, _)| *first);
        test(&self.file) || own.is_ok_and(|at| test(&self.instructions[at].1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let options = CheckOptions::parse("skip=A, B;error=true;experimental=all").unwrap();
        assert!(options.skips("A") && options.skips("B") && !options.skips("C"));
        assert!(options.enables("X") && options.is_error());
        assert!(CheckOptions::parse("skip=all").unwrap().skips("C"));
        for (text, want) in [
            ("skp=A", "invalid check option \"skp=A\" (did you mean skip?)"),
            ("x", "invalid check option \"x\""),
            ("skip=", "invalid check option \"skip=\""),
            ("skip=A;error=maybe", "invalid check option \"error=maybe\""),
            ("", "invalid check option \"\""),
        ] {
            assert_eq!(CheckOptions::parse(text).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn comments_count_for_their_instruction() {
        let mut checks = Checks::default();
        checks.add_comments(&["check=skip=A", "check = experimental=E", "check=nonsense"], 3);
        checks.add_comments(&["check=skip=B"], 7);
        let at = |first| Span { first, last: first };
        assert!(!checks.reports("A", at(3)) && checks.reports("A", at(7)) && checks.reports("B", at(3)));
        assert!(checks.enables("E", at(3)) && !checks.enables("E", at(4)));
        checks.set_file(CheckOptions::parse("skip=B;error=1").unwrap(), None);
        assert!(!checks.reports("B", at(3)) && checks.is_error());
    }

    #[test]
    fn names_of_no_check() {
        let mut checks = Checks::default();
        let options = "skip=FromAsCsing,UndefinedVar;experimental=Other";
        checks.set_file(CheckOptions::parse(options).unwrap(), Some(2));
        let found: Vec<_> = checks.unknown().collect();
        let span = Some(Span { first: 2, last: 2 });
        assert_eq!(
            found,
            [
                ("no check is called \"FromAsCsing\" (did you mean FromAsCasing?)".to_owned(), span),
                ("no check is called \"Other\"".to_owned(), span),
            ]
        );
        assert!(RULES.is_sorted());
    }
}
