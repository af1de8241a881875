//! COPY and ADD.

use super::ast::{Add, Copy, Heredoc, Kind};
use super::flags::{self, Flags, Shape};
use super::heredoc::Found;
use super::statement::{Statement, Surroundings, warn_of_broken_json};
use super::syntax_error::Fault;
use super::words;

const COPY_FLAGS: &[(&str, Shape)] = &[
    ("from", Shape::Text),
    ("chown", Shape::Text),
    ("chmod", Shape::Text),
    ("link", Shape::Switch),
    ("parents", Shape::Switch),
    ("exclude", Shape::List),
];

const ADD_FLAGS: &[(&str, Shape)] = &[
    ("chown", Shape::Text),
    ("chmod", Shape::Text),
    ("link", Shape::Switch),
    ("exclude", Shape::List),
    ("checksum", Shape::Text),
    ("keep-git-dir", Shape::Switch),
    ("unpack", Shape::Switch),
];

/// Parses COPY.
pub(super) fn copy(
    statement: &Statement<'_>,
    heredocs: Vec<Found>,
    around: &mut Surroundings<'_>,
) -> Result<Kind, Fault> {
    let flags = flags(statement, COPY_FLAGS, "ADD", ADD_FLAGS)?;
    let (sources, destination, heredocs) = paths(statement, heredocs, around)?;
    Ok(Kind::Copy(Copy {
        sources,
        destination,
        heredocs,
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link").unwrap_or_default(),
        parents: flags.switch("parents").unwrap_or_default(),
        exclude: flags.list("exclude"),
    }))
}

/// Parses ADD.
pub(super) fn add(
    statement: &Statement<'_>,
    heredocs: Vec<Found>,
    around: &mut Surroundings<'_>,
) -> Result<Kind, Fault> {
    let flags = flags(statement, ADD_FLAGS, "COPY", COPY_FLAGS)?;
    let (sources, destination, heredocs) = paths(statement, heredocs, around)?;
    Ok(Kind::Add(Add {
        sources,
        destination,
        heredocs,
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link").unwrap_or_default(),
        exclude: flags.list("exclude"),
        checksum: flags.text("checksum"),
        keep_git_dir: flags.switch("keep-git-dir").unwrap_or_default(),
        unpack: flags.switch("unpack"),
    }))
}

/// Reads the flags of one of the two instructions; those that only the other one has are told apart.
fn flags(
    statement: &Statement<'_>,
    known: &[(&'static str, Shape)],
    other: &str,
    others: &[(&'static str, Shape)],
) -> Result<Flags, Fault> {
    let has = |list: &[(&'static str, Shape)], name: &str| list.iter().any(|(flag, _)| *flag == name);
    let strange = |name: &str| !has(known, name) && has(others, name);
    if let Some(flag) = statement.flags.iter().find(|flag| strange(flag.name())) {
        let (name, this) = (flag.name(), statement.keyword.name());
        let message = format!("unknown flag: --{name} ({other} has it, {this} has not)");
        return Err(Fault::new(message).at(flag.range()));
    }
    flags::read(&statement.flags, known)
}

/// Splits the arguments into sources, destination and inline files.
///
/// A heredoc word may hold quoted blanks, other words may not; so the text is split between the
/// heredoc words.
fn paths(
    statement: &Statement<'_>,
    heredocs: Vec<Found>,
    around: &mut Surroundings<'_>,
) -> Result<(Vec<String>, String, Vec<Heredoc>), Fault> {
    let name = statement.keyword.name();
    let mut words: Vec<String> = match words::json_array(statement.args)? {
        Some(words) => words,
        None => {
            warn_of_broken_json(statement, statement.args, around);
            let mut words = Vec::new();
            let mut start = statement.args_at;
            let end = statement.args_at + statement.args.len();
            for range in heredocs.iter().map(|found| &found.range) {
                words.extend(words::between_blanks(&statement.text[start..range.start]).map(str::to_owned));
                start = range.end;
            }
            if start == end && !heredocs.is_empty() {
                return Err(Fault::new(format!("{name} cannot accept a heredoc as a destination")));
            }
            words.extend(words::between_blanks(&statement.text[start..end]).map(str::to_owned));
            words
        }
    };
    if words.len() + heredocs.len() < 2 {
        return Err(Fault::new(format!(
            "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
        )));
    }
    let destination = words.pop().unwrap_or_default();
    let heredocs: Vec<Heredoc> = heredocs.into_iter().map(|found| found.heredoc).collect();
    for heredoc in &heredocs {
        check_file_name(&heredoc.name)?;
    }
    Ok((words, destination, heredocs))
}

/// Refuses a heredoc whose name becomes a file name and is not one.
pub(super) fn check_file_name(name: &str) -> Result<(), Fault> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(Fault::new(format!("heredoc name {name:?} cannot be a file name")));
    }
    Ok(())
}
