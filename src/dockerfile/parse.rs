//! The way from text to stages.

use super::ast::{Directives, Dockerfile, Instruction, Span, Warning};
use super::checks::{CheckOptions, Checks};
use super::directives;
use super::heredoc;
use super::lines::{Lexer, Logical};
use super::lint::{self, Casing};
use super::onbuild;
use super::stages::Stages;
use super::statement::{Parsed, Statement, Surroundings};
use super::syntax_error::{Fault, SyntaxError};

/// Parses a Dockerfile.
///
/// # Errors
///
/// The first fault, with its line.
pub fn parse(text: &[u8]) -> Result<Dockerfile, SyntaxError> {
    parse_with_checks(text, None)
}

/// Parses a Dockerfile, with other check options than those of its directive, where there are some.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_with_checks(text: &[u8], options: Option<CheckOptions>) -> Result<Dockerfile, SyntaxError> {
    if text.is_empty() {
        return Err(SyntaxError::on_line(1, "the Dockerfile cannot be empty"));
    }
    let syntax = directives::syntax(text)?;
    let mut lexer = Lexer::new(text);
    let mut stages = Stages::default();
    let mut casing = Casing::default();
    let mut checks = Checks::default();
    let mut warnings = Vec::new();
    while let Some(logical) = lexer.next()? {
        let escape = lexer.directives.escape;
        let statement = Statement::split(&logical.text, 0, escape).map_err(|fault| fault.locate(&logical))?;
        let (parsed, span) = instruction(&mut lexer, &logical, &statement, &mut warnings)?;
        checks.add_comments(&logical.comments, span.first);
        casing.add(statement.keyword, statement.word, span);
        if logical.empty_continuation {
            let message = "Empty continuation line".to_owned();
            warnings.push(Warning { rule: "NoEmptyContinuation", message, span });
        }
        let text = logical.display;
        match parsed {
            Parsed::From(from) => stages.begin(from, span, text, &mut warnings),
            Parsed::Kind(kind) => stages.add(Instruction { kind, span, text }, &mut warnings)?,
        }
    }
    let (preamble, stages) = stages.finish(lexer.line_number().max(1))?;
    casing.finish(&mut warnings);
    let check = lexer.directives.check.map(|(text, options, line)| {
        checks.set_file(options, Some(line));
        text
    });
    if let Some(options) = options {
        checks.set_file(options, None);
    }
    warnings.retain(|warning| {
        let wanted =
            !lint::EXPERIMENTAL.contains(&warning.rule) || checks.enables(warning.rule, warning.span);
        wanted && checks.reports(warning.rule, warning.span)
    });
    warnings.sort_by_key(|warning| warning.span.first);
    let directives = Directives { syntax, check };
    Ok(Dockerfile { escape: lexer.directives.escape, preamble, stages, warnings, directives, checks })
}

/// Parses the text of an ONBUILD trigger. `escape` is that of the Dockerfile the trigger stands in;
/// for a trigger of a base image it is `\`.
///
/// The lines of the span are counted from the trigger's own beginning.
///
/// # Errors
///
/// A text that is not exactly one instruction, or one that cannot be a trigger.
pub fn parse_trigger(text: &str, escape: char) -> Result<Instruction, SyntaxError> {
    let single = || SyntaxError::on_line(1, "onbuild trigger should be a single expression");
    let mut lexer = Lexer::trigger(text, escape);
    let logical = lexer.next()?.ok_or_else(single)?;
    let locate = |fault: Fault| fault.locate(&logical);
    let statement = Statement::split(&logical.text, 0, escape).map_err(locate)?;
    onbuild::check_keyword(statement.keyword).map_err(locate)?;
    let (parsed, span) = instruction(&mut lexer, &logical, &statement, &mut Vec::new())?;
    match (parsed, lexer.next()?) {
        (Parsed::Kind(kind), None) => Ok(Instruction { kind, span, text: logical.display }),
        _ => Err(single()),
    }
}

/// Reads the heredocs of an instruction and parses it.
fn instruction(
    lexer: &mut Lexer<'_>,
    logical: &Logical<'_>,
    statement: &Statement<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<(Parsed, Span), SyntaxError> {
    let escape = lexer.directives.escape;
    let mut heredocs = match statement.heredocs_from(escape) {
        Some(from) => heredoc::find(&logical.text, from),
        None => Vec::new(),
    };
    let span = lexer.bodies(heredocs.iter_mut().map(|found| &mut found.heredoc), logical.span)?;
    let mut around = Surroundings { span, escape, comments: &logical.comments, warnings };
    let parsed = statement.parse(heredocs, &mut around).map_err(|fault| fault.locate(logical))?;
    Ok((parsed, span))
}

#[cfg(test)]
mod robustness;
#[cfg(test)]
mod tests;
