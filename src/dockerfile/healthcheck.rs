//! HEALTHCHECK.

use super::ast::{Command, HealthTest, Healthcheck, Kind};
use super::commands;
use super::duration;
use super::flags::{self, Flags, Shape};
use super::statement::{Statement, Surroundings};
use super::syntax_error::Fault;

const FLAGS: &[(&str, Shape)] = &[
    ("interval", Shape::Text),
    ("timeout", Shape::Text),
    ("start-period", Shape::Text),
    ("start-interval", Shape::Text),
    ("retries", Shape::Text),
];

/// The shortest duration that is not the default, in nanoseconds.
const SHORTEST: i64 = 1_000_000;

/// Parses HEALTHCHECK.
pub(super) fn parse(statement: &Statement<'_>, around: &mut Surroundings<'_>) -> Result<Kind, Fault> {
    let (word, rest) = statement.args.split_once(char::is_whitespace).unwrap_or((statement.args, ""));
    let rest = rest.trim_start();
    let flags = flags::read(&statement.flags, FLAGS)?;
    let test = match word.to_uppercase().as_str() {
        "" => return Err(commands::none(statement)),
        "NONE" => {
            if !rest.is_empty() {
                return Err(Fault::new("HEALTHCHECK NONE takes no arguments"));
            }
            if let Some(flag) = statement.flags.first() {
                return Err(Fault::new("HEALTHCHECK NONE takes no flags").at(flag.range()));
            }
            HealthTest::None
        }
        "CMD" => match commands::command(statement, rest, around)? {
            Command::Shell(text) if !text.is_empty() => HealthTest::Shell(text),
            Command::Exec(words) if !words.is_empty() => HealthTest::Exec(words),
            _ => return Err(Fault::new("Missing command after HEALTHCHECK CMD")),
        },
        other => {
            let place = statement.args_at..statement.args_at + word.len();
            return Err(Fault::new(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")).at(place));
        }
    };
    Ok(Kind::Healthcheck(Healthcheck {
        test,
        interval: length(&flags, "interval")?,
        timeout: length(&flags, "timeout")?,
        start_period: length(&flags, "start-period")?,
        start_interval: length(&flags, "start-interval")?,
        retries: retries(&flags)?,
    }))
}

/// The value of a duration flag, in nanoseconds; zero if it was not given.
fn length(flags: &Flags, name: &str) -> Result<i64, Fault> {
    let Some(text) = flags.text(name) else {
        return Ok(0);
    };
    match duration::parse(&text).map_err(Fault::new)? {
        0 => Ok(0),
        length if length < SHORTEST => Err(Fault::new(format!("Interval {name:?} cannot be less than 1ms"))),
        length => Ok(length),
    }
}

fn retries(flags: &Flags) -> Result<i64, Fault> {
    let Some(text) = flags.text("retries") else {
        return Ok(0);
    };
    match text.parse::<i32>() {
        Ok(retries) if retries < 0 => Err(Fault::new(format!("--retries cannot be negative ({retries})"))),
        Ok(retries) => Ok(retries.into()),
        Err(_) => Err(Fault::new(format!(
            "invalid value for flag --retries, expecting a whole number, not: {text}"
        ))),
    }
}
