//! FROM.

use super::flags::{self, Shape};
use super::lint;
use super::statement::{Statement, Surroundings};
use super::syntax_error::Fault;
use super::words;

/// A FROM instruction: the head of a stage.
#[derive(Debug)]
pub(super) struct From {
    /// The name after AS, lower-cased.
    pub(super) name: Option<String>,
    pub(super) base: String,
    pub(super) platform: Option<String>,
    pub(super) description: Option<String>,
}

/// Parses `[--platform=P] image [AS name]`.
pub(super) fn parse(statement: &Statement<'_>, around: &mut Surroundings<'_>) -> Result<From, Fault> {
    let flags = flags::read(&statement.flags, &[("platform", Shape::Text)])?;
    let words: Vec<&str> = words::between_blanks(statement.args).take(4).collect();
    let (base, named) = match words.as_slice() {
        [base] => (*base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("as") => (*base, Some((*keyword, *name))),
        _ => return Err(Fault::new("FROM requires either one or three arguments")),
    };
    let mut name = None;
    let mut description = None;
    if let Some((keyword, written)) = named {
        let lower = written.to_lowercase();
        if !is_stage_name(&lower) {
            let message = format!(
                "invalid name for build stage: {written:?}, name can't start with a number or contain symbols"
            );
            let end = statement.args_at + statement.args.len();
            return Err(Fault::new(message).at(end - written.len()..end));
        }
        if lower != written {
            around.warn("StageNameCasing", format!("Stage name '{written}' should be lowercase"));
        }
        lint::as_casing(statement.word, keyword, around);
        lint::definition_comment(statement.keyword, &[&lower], around);
        let descriptions = lint::descriptions(around.comments);
        let text = descriptions.get(written).or_else(|| descriptions.get(lower.as_str()));
        description = text.map(|text| (*text).to_owned());
        name = Some(lower);
    }
    let platform = flags.text("platform");
    if let Some(platform) = &platform {
        lint::platform_flag(platform, name.as_deref(), around);
    }
    Ok(From { name, base: base.to_owned(), platform, description })
}

/// A letter, then letters, digits, `-`, `_` and `.`, all of ASCII and lower case.
fn is_stage_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(rest)
}
