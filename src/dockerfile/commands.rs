//! Command lines: CMD, ENTRYPOINT, SHELL, and those of RUN and HEALTHCHECK.

use super::ast::{Command, Kind};
use super::statement::{Statement, Surroundings, warn_of_broken_json};
use super::syntax_error::Fault;
use super::words;

/// Reads the JSON form, else the shell form.
pub(super) fn command(
    statement: &Statement<'_>,
    args: &str,
    around: &mut Surroundings<'_>,
) -> Result<Command, Fault> {
    if let Some(words) = words::json_array(args)? {
        return Ok(Command::Exec(words));
    }
    warn_of_broken_json(statement, args, around);
    Ok(Command::Shell(args.to_owned()))
}

/// Parses CMD and ENTRYPOINT.
pub(super) fn parse(statement: &Statement<'_>, around: &mut Surroundings<'_>) -> Result<Command, Fault> {
    statement.no_flags()?;
    if statement.args.is_empty() {
        return Err(none(statement));
    }
    command(statement, statement.args, around)
}

/// Parses SHELL.
pub(super) fn shell(statement: &Statement<'_>) -> Result<Kind, Fault> {
    statement.no_flags()?;
    if statement.args.is_empty() {
        return Err(none(statement));
    }
    match words::json_array(statement.args)? {
        Some(words) if words.is_empty() => Err(none(statement)),
        Some(words) => Ok(Kind::Shell(words)),
        None => Err(Fault::new("SHELL requires the arguments to be in JSON form")),
    }
}

/// The fault of an instruction without arguments.
pub(super) fn none(statement: &Statement<'_>) -> Fault {
    Fault::new(format!("{} requires at least one argument", statement.keyword.name()))
}
