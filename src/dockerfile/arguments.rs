//! ARG, ENV and LABEL: names and values.

use super::ast::{ArgDecl, Kind};
use super::lines::BLANKS;
use super::lint;
use super::statement::{Statement, Surroundings};
use super::syntax_error::Fault;
use super::words;

/// Parses `name[=value] ...`.
pub(super) fn arg(statement: &Statement<'_>, around: &mut Surroundings<'_>) -> Result<Kind, Fault> {
    statement.no_flags()?;
    let descriptions = lint::descriptions(around.comments);
    let mut declarations = Vec::new();
    for word in words::quoted(statement.args, around.escape) {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (word, None),
        };
        if name.is_empty() {
            return Err(Fault::new("ARG names can not be blank").at(place(statement, word)));
        }
        lint::secret_name("ARG", name, around);
        let description = descriptions.get(name).map(|text| (*text).to_owned());
        declarations.push(ArgDecl { name: name.to_owned(), default, description });
    }
    if declarations.is_empty() {
        return Err(Fault::new("ARG requires at least one argument"));
    }
    if !around.comments.is_empty() {
        let names: Vec<&str> = declarations.iter().map(|declaration| declaration.name.as_str()).collect();
        lint::definition_comment(statement.keyword, &names, around);
    }
    Ok(Kind::Arg(declarations))
}

/// Parses `key=value ...` or the old `key rest of the line`.
pub(super) fn pairs(
    statement: &Statement<'_>,
    around: &mut Surroundings<'_>,
) -> Result<Vec<(String, String)>, Fault> {
    statement.no_flags()?;
    let name = statement.keyword.name();
    let two = || Fault::new(format!("{name} must have two arguments"));
    let words = words::quoted(statement.args, around.escape);
    let first = words.first().ok_or_else(|| Fault::new(format!("{name} requires at least one argument")))?;
    let mut pairs = Vec::new();
    if first.contains('=') {
        for word in words {
            let place = place(statement, word);
            let Some((key, value)) = word.split_once('=') else {
                let message =
                    format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value");
                return Err(Fault::new(message).at(place));
            };
            if key.is_empty() {
                return Err(Fault::new(format!("{name} names can not be blank")).at(place));
            }
            pairs.push((key.to_owned(), value.to_owned()));
        }
    } else {
        let (key, value) = statement.args.split_once(BLANKS).ok_or_else(two)?;
        pairs.push((key.to_owned(), value.trim_start_matches(BLANKS).to_owned()));
        around.warn(
            "LegacyKeyValueFormat",
            format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"),
        );
    }
    if name == "ENV" {
        for (key, _) in &pairs {
            lint::secret_name(name, key, around);
        }
    }
    Ok(pairs)
}

/// The range of a word, which is a part of the statement's text.
fn place(statement: &Statement<'_>, word: &str) -> std::ops::Range<usize> {
    let start = word.as_ptr().addr().saturating_sub(statement.text.as_ptr().addr());
    start..start + word.len()
}
