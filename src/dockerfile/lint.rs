//! The build checks that need nothing but one instruction, and the casing of all of them.

use std::collections::HashMap;

use super::ast::{Span, Warning};
use super::keyword::Keyword;
use super::statement::Surroundings;

/// Checks that the findings of need to be switched on for.
pub(super) const EXPERIMENTAL: [&str; 1] = ["InvalidDefinitionDescription"];

/// Parts of a name that tell a secret, unless one of the others tells otherwise.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const NO_SECRET: [&str; 3] = ["public", "file", "version"];

/// The comments above a definition by their first words; of several with one word, the first.
pub(super) fn descriptions<'a>(comments: &[&'a str]) -> HashMap<&'a str, &'a str> {
    let mut found = HashMap::new();
    for (name, text) in comments.iter().filter_map(|comment| comment.split_once([' ', '\t'])) {
        found.entry(name).or_insert(text.trim());
    }
    found
}

/// Checks that the last comment above a definition is a description of it.
pub(super) fn definition_comment(keyword: Keyword, names: &[&str], around: &mut Surroundings<'_>) {
    let Some(last) = around.comments.last() else {
        return;
    };
    let first = last.split(' ').next().unwrap_or_default();
    if names.contains(&first) {
        return;
    }
    let (keyword, name) = (keyword.name(), if let [name] = names { name } else { "<arg_key>" });
    around.warn(
        "InvalidDefinitionDescription",
        format!("Comment for {keyword} should follow the format: `# {name} <description>`"),
    );
}

/// Checks that `AS` is cased as a consistently cased `FROM` is.
pub(super) fn as_casing(from: &str, keyword: &str, around: &mut Surroundings<'_>) {
    let differs = match Case::of(from) {
        Case::Upper => Case::of(keyword) != Case::Upper,
        Case::Lower => Case::of(keyword) != Case::Lower,
        Case::Mixed => false,
    };
    if differs {
        around.warn("FromAsCasing", format!("'{keyword}' and '{from}' keywords' casing do not match"));
    }
}

/// Checks the value of FROM's `--platform`.
pub(super) fn platform_flag(platform: &str, stage: Option<&str>, around: &mut Surroundings<'_>) {
    if matches!(platform, "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        around.warn(
            "RedundantTargetPlatform",
            format!(
                "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
            ),
        );
    }
    let stage = stage.unwrap_or_default();
    let named = platform.split('/').take(2).any(|part| !part.is_empty() && stage.contains(part));
    if !platform.contains('$') && !named {
        around.warn(
            "FromPlatformFlagConstDisallowed",
            format!("FROM --platform flag should not use constant value \"{platform}\""),
        );
    }
}

/// Checks that a name of ARG or ENV does not look like that of a secret.
pub(super) fn secret_name(instruction: &str, name: &str, around: &mut Surroundings<'_>) {
    let has =
        |list: &[&str]| name.split('_').any(|part| list.iter().any(|known| known.eq_ignore_ascii_case(part)));
    if has(&SECRET) && !has(&NO_SECRET) {
        around.warn(
            "SecretsUsedInArgOrEnv",
            format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})"),
        );
    }
}

/// How a word is cased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
    Mixed,
}

impl Case {
    fn of(word: &str) -> Self {
        if word.chars().all(|letter| !letter.is_lowercase()) {
            Self::Upper
        } else if word.chars().all(|letter| !letter.is_uppercase()) {
            Self::Lower
        } else {
            Self::Mixed
        }
    }
}

/// Collects how the instruction words of a file are cased.
#[derive(Debug, Default)]
pub(super) struct Casing {
    lower: Vec<(Keyword, Span)>,
    upper: Vec<(Keyword, Span)>,
    mixed: Vec<(String, Span)>,
}

impl Casing {
    /// Takes the word of one instruction.
    pub(super) fn add(&mut self, keyword: Keyword, word: &str, span: Span) {
        match Case::of(word) {
            Case::Lower => self.lower.push((keyword, span)),
            Case::Upper => self.upper.push((keyword, span)),
            Case::Mixed => self.mixed.push((word.to_owned(), span)),
        }
    }

    /// Reports the words that are not cased as most are.
    pub(super) fn finish(self, warnings: &mut Vec<Warning>) {
        let (majority, minority) = match self.lower.len() > self.upper.len() {
            true => ("lowercase", self.upper),
            false => ("uppercase", self.lower),
        };
        let minority = minority.into_iter().map(|(keyword, span)| {
            let name = keyword.name();
            let word = if majority == "lowercase" { name.to_owned() } else { name.to_lowercase() };
            (word, span)
        });
        warnings.extend(minority.chain(self.mixed).map(|(word, span)| Warning {
            rule: "ConsistentInstructionCasing",
            message: format!("Command '{word}' should match the case of the command majority ({majority})"),
            span,
        }));
    }
}
