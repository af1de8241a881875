//! RUN.

use std::ops::Range;

use super::ast::{Command, Kind, Run, Script};
use super::commands;
use super::copies;
use super::flags::{self, Shape};
use super::heredoc::Found;
use super::mount::{Mount, MountError, MountFault};
use super::places;
use super::statement::{Statement, Surroundings};
use super::syntax_error::Fault;

const FLAGS: &[(&str, Shape)] =
    &[("mount", Shape::List), ("network", Shape::Text), ("security", Shape::Text), ("device", Shape::List)];

/// Parses RUN. Mounts and devices stay as written, since their values are expanded first; but what
/// is wrong with a mount whatever its variables are is found here.
pub(super) fn parse(
    statement: &Statement<'_>,
    heredocs: Vec<Found>,
    around: &mut Surroundings<'_>,
) -> Result<Kind, Fault> {
    let flags = flags::read(&statement.flags, FLAGS)?;
    for (mode, place) in flags.placed("network") {
        if !matches!(mode, "default" | "none" | "host") {
            return Err(Fault::new(format!("invalid network mode {mode:?}")).at(place));
        }
    }
    for (mode, place) in flags.placed("security") {
        if !matches!(mode, "sandbox" | "insecure") {
            return Err(Fault::new(format!("security {mode:?} is not valid")).at(place));
        }
    }
    for (mount, place) in flags.placed("mount") {
        Mount::check(mount, around.escape).map_err(|error| mount_fault(statement.text, &error, place))?;
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
        network: flags.text("network"),
        security: flags.text("security"),
        devices: flags.list("device"),
    };
    if let Script::Shebang { name, .. } = run.script() {
        copies::check_file_name(&name)?;
    }
    Ok(Kind::Run(run))
}

/// The fault of a mount, narrowed to the word that is wrong where it stands in the flag as it is.
fn mount_fault(text: &str, error: &MountError, flag: Range<usize>) -> Fault {
    let written = &text[flag.clone()];
    let word = error.word().and_then(|word| {
        let is_second = matches!(error.fault(), MountFault::Duplicate(_));
        find_field(written, word, is_second).or_else(|| places::find_word(written, word))
    });
    let place = word.map_or(flag.clone(), |word| flag.start + word.start..flag.start + word.end);
    Fault::new(error.fault().to_string()).at(place).suggest(error.suggestion().map(str::to_owned))
}

/// The bytes of a field of a mount, or of its key alone, in the flag as it is written. Of two that are
/// the same, the second one is the duplicate.
fn find_field(flag: &str, word: &str, is_second: bool) -> Option<Range<usize>> {
    let mut start = flag.find('=')? + 1;
    let mut found = Vec::new();
    for field in flag[start..].split(',') {
        let is_key = field.split_once('=').is_some_and(|(key, _)| key == word);
        if field == word || is_key {
            found.push(start..start + word.len());
        }
        start += field.len() + 1;
    }
    found.into_iter().nth(usize::from(is_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_mounts_are_at_their_field() {
        for (flag, word, is_second, want) in [
            ("--mount=type=bind,target=/bind,source=bind,bind", "bind", false, Some(43..47)),
            ("--mount=type=bind,bind=/x", "bind", false, Some(18..22)),
            ("--mount=type=cache,target=/a,target=/a", "target=/a", true, Some(29..38)),
            ("--mount=type=cache,target=/a,dst=/a", "dst=/a", true, None),
            ("--mount=type=cache,\"target=/a\"", "target=/a", false, None),
        ] {
            assert_eq!(find_field(flag, word, is_second), want, "{flag}");
        }
    }
}
