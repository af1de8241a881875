//! RUN.

use super::ast::{Command, Kind, Run, Script};
use super::commands;
use super::copies;
use super::flags::{self, Shape};
use super::heredoc::Found;
use super::statement::{Statement, Surroundings};
use super::syntax_error::Fault;

const FLAGS: &[(&str, Shape)] =
    &[("mount", Shape::List), ("network", Shape::Text), ("security", Shape::Text), ("device", Shape::List)];

/// Parses RUN. Mounts and devices stay as written: their values are expanded first.
pub(super) fn parse(
    statement: &Statement<'_>,
    heredocs: Vec<Found>,
    around: &mut Surroundings<'_>,
) -> Result<Kind, Fault> {
    let flags = flags::read(&statement.flags, FLAGS)?;
    let network = flags.text("network");
    if let Some(mode) = &network
        && !matches!(mode.as_str(), "default" | "none" | "host")
    {
        return Err(Fault::new(format!("invalid network mode {mode:?}")));
    }
    let security = flags.text("security");
    if let Some(mode) = &security
        && !matches!(mode.as_str(), "sandbox" | "insecure")
    {
        return Err(Fault::new(format!("security {mode:?} is not valid")));
    }
    let command = commands::command(statement, statement.args, around)?;
    let is_empty = match &command {
        Command::Shell(text) => text.is_empty(),
        Command::Exec(words) => words.is_empty(),
    };
    if is_empty {
        return Err(commands::none(statement));
    }
    let run = Run {
        command,
        heredocs: heredocs.into_iter().map(|found| found.heredoc).collect(),
        mounts: flags.list("mount"),
        network,
        security,
        devices: flags.list("device"),
    };
    if let Script::Shebang { name, .. } = run.script() {
        copies::check_file_name(&name)?;
    }
    Ok(Kind::Run(run))
}
