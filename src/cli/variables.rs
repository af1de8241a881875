//! Flags that come from variables: `FANFOLD_TAG` and so on.
//!
//! clap takes a variable as one value. Here a flag that can be repeated takes one value a line, and
//! an empty variable counts as none: pipelines set variables that have nothing in them.

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};

use super::environment::Environment;

/// Reads a command line.
///
/// # Errors
///
/// Fails as clap does, also for help, which is no failure.
pub(super) fn matches(
    command: Command,
    environment: &Environment,
    arguments: Vec<OsString>,
) -> Result<ArgMatches, clap::Error> {
    let is_empty = |name: &std::ffi::OsStr| environment.is_blank(name);
    let usable = without(command.clone(), |arg| arg.get_env().is_some_and(is_empty));
    let found = usable.clone().try_get_matches_from(&arguments).map_err(|error| {
        // Help names all variables, also those that are empty.
        if error.use_stderr() {
            return error;
        }
        command.try_get_matches_from(&arguments).err().unwrap_or(error)
    })?;
    // The innermost subcommand has the flags; `at` is where they may stand: behind its name, and in front of
    // a `--` that may follow.
    let (mut subcommand, mut given, mut at) = (&usable, &found, 1);
    while let Some((name, deeper)) = given.subcommand() {
        let Some(known) = subcommand.find_subcommand(name) else { return Ok(found) };
        let is_name = |word: &OsString| word == name || is_alias(known, word);
        let place = arguments.iter().skip(at).position(is_name);
        at = place.map_or(arguments.len(), |place| at + place + 1);
        (subcommand, given) = (known, deeper);
    }
    let mut words = Vec::new();
    for arg in subcommand.get_arguments().filter(|arg| matches!(arg.get_action(), ArgAction::Append)) {
        let id = arg.get_id().as_str();
        let (Some(long), Some(ValueSource::EnvVariable)) = (arg.get_long(), given.value_source(id)) else {
            continue;
        };
        let text = given.get_one::<String>(id).map_or("", String::as_str);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        words.extend(lines.map(|line| (id.to_owned(), OsString::from(format!("--{long}={line}")))));
    }
    if words.is_empty() {
        return Ok(found);
    }
    let usable = without(usable, |arg| words.iter().any(|(id, _)| arg.get_id() == id.as_str()));
    let (head, tail) = arguments.split_at(at);
    usable.try_get_matches_from(head.iter().chain(words.iter().map(|(_, word)| word)).chain(tail))
}

fn is_alias(command: &Command, word: &OsString) -> bool {
    command.get_all_aliases().any(|alias| word == alias)
}

/// The command with some of its arguments, and of those below it, deaf to variables.
fn without(command: Command, is_deaf: impl Fn(&clap::Arg) -> bool) -> Command {
    deafened(command, &is_deaf)
}

fn deafened(command: Command, is_deaf: &dyn Fn(&clap::Arg) -> bool) -> Command {
    command
        .mut_args(|arg| if is_deaf(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(|subcommand| deafened(subcommand, is_deaf))
}
