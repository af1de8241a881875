//! ONBUILD: a trigger is kept as text, but must be an instruction that can be parsed.

use super::ast::{Heredoc, Kind};
use super::heredoc::{self, Found};
use super::keyword::Keyword;
use super::statement::{Statement, Surroundings};
use super::syntax_error::Fault;

/// Parses ONBUILD.
pub(super) fn parse(
    statement: &Statement<'_>,
    heredocs: Vec<Found>,
    around: &mut Surroundings<'_>,
) -> Result<Kind, Fault> {
    statement.no_flags()?;
    if statement.args.is_empty() {
        return Err(Fault::new("ONBUILD requires at least one argument"));
    }
    let trigger = Statement::split(statement.text, statement.args_at, around.escape)?;
    check_keyword(trigger.keyword)?;
    let bodies: Vec<Heredoc> = heredocs.iter().map(|found| found.heredoc.clone()).collect();
    trigger.parse(heredocs, around)?;
    Ok(Kind::Onbuild(heredoc::append_bodies(statement.args, &bodies)))
}

/// Refuses the instructions that cannot be triggers.
pub(super) fn check_keyword(keyword: Keyword) -> Result<(), Fault> {
    match keyword {
        Keyword::Onbuild => Err(Fault::new("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        Keyword::From | Keyword::Maintainer => {
            Err(Fault::new(format!("{} isn't allowed as an ONBUILD trigger", keyword.name())))
        }
        _ => Ok(()),
    }
}
