//! `fanfold platforms`: what this machine can build, how, and why not.

use std::path::PathBuf;

use fanfold_platforms::Platform;
use serde_json::json;

use super::args::PlatformsArgs;
use super::environment::Environment;
use super::errors::{Failure, Kind};
use super::host::{Execution, Machine};
use super::report;
use crate::coordinator::BuildError;
use crate::sandbox::{self, Ended, Entered, Isolation};

/// The platforms that people build images for.
const COMMON: [&str; 12] = [
    "linux/amd64",
    "linux/amd64/v2",
    "linux/amd64/v3",
    "linux/386",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/arm/v5",
    "linux/riscv64",
    "linux/ppc64le",
    "linux/s390x",
    "linux/mips64le",
];

/// One line of the table.
struct Row {
    platform: Platform,
    execution: Execution,
}

/// Prints the table, and gives the exit code.
pub(super) fn run(arguments: &PlatformsArgs) -> Result<u8, Failure> {
    let environment = Environment::read();
    let scratch = tempfile::tempdir()
        .map_err(|error| Failure::new(Kind::Retryable, format!("no temporary folder: {error}")))?;
    let isolation = match arguments.host.isolation.chosen() {
        Ok(isolation) => isolation,
        Err(reason) => return without_commands(arguments, reason.to_owned(), String::new()),
    };
    let config =
        sandbox::Config { path: environment.search_path(), isolation, scratch: scratch.path().to_owned() };
    match sandbox::enter(&config) {
        Ok(Entered::Outside(Ended::Exited(code))) => Ok(u8::try_from(code).unwrap_or(1)),
        Ok(Entered::Outside(Ended::Signaled(signal))) => Ok(Kind::Interrupted(signal).code()),
        Ok(Entered::Inside(sandbox)) => {
            let rows = rows(arguments, &environment, scratch.path().to_owned(), sandbox.isolation());
            let isolation = sandbox.to_string();
            print(arguments.json, &isolation, &rows)?;
            Ok(0)
        }
        Err(error) => {
            without_commands(arguments, BuildError::describe(&error), error.fix().unwrap_or_default())
        }
    }
}

/// The table where nothing can be run.
fn without_commands(arguments: &PlatformsArgs, reason: String, fix: String) -> Result<u8, Failure> {
    let unavailable = || Execution::Unavailable { reasons: vec![reason.clone()], fix: fix.clone() };
    let rows: Vec<Row> = platforms().map(|platform| Row { platform, execution: unavailable() }).collect();
    print(arguments.json, &format!("none: {reason}"), &rows)?;
    Ok(0)
}

fn platforms() -> impl Iterator<Item = Platform> {
    COMMON.iter().filter_map(|text| text.parse().ok())
}

fn rows(
    arguments: &PlatformsArgs,
    environment: &Environment,
    probes: PathBuf,
    isolation: Isolation,
) -> Vec<Row> {
    let mut machine = Machine::new(&arguments.host, &environment.search_path(), probes, isolation);
    platforms().map(|platform| Row { execution: machine.execution(&platform), platform }).collect()
}

fn print(as_json: bool, isolation: &str, rows: &[Row]) -> Result<(), Failure> {
    if as_json {
        let platforms: Vec<_> = rows.iter().map(row_json).collect();
        return report::result(&json!({ "isolation": isolation, "platforms": platforms }).to_string());
    }
    let width = rows.iter().map(|row| row.platform.to_string().len()).max().unwrap_or(0);
    let mut text =
        format!("RUN instructions are carried out in a {isolation}\n\n{:width$}  HOW\n", "PLATFORM");
    for row in rows {
        let how = match &row.execution {
            Execution::Native => "native".to_owned(),
            Execution::Emulated(emulator) => {
                let (label, way) = (emulator.label(), emulator.way().name());
                format!("emulated by {label} ({}, {way})", emulator.path().display())
            }
            Execution::Unavailable { reasons, fix } => {
                let gap = " ".repeat(width + 2);
                format!("unavailable: {}\n{gap}fix: {fix}", reasons.join("; "))
            }
        };
        text.push_str(&format!("{:width$}  {how}\n", row.platform.to_string()));
    }
    text.push_str("\nImages without RUN instructions can be built for every platform.");
    report::result(&text)
}

fn row_json(row: &Row) -> serde_json::Value {
    let platform = row.platform.to_string();
    match &row.execution {
        Execution::Native => json!({ "platform": platform, "how": "native" }),
        Execution::Emulated(emulator) => json!({
            "platform": platform,
            "how": "emulated",
            "interpreter": emulator.path(),
            "version": emulator.label(),
            "way": emulator.way().name(),
        }),
        Execution::Unavailable { reasons, fix } => json!({
            "platform": platform,
            "how": "unavailable",
            "reasons": reasons,
            "fix": fix,
        }),
    }
}
