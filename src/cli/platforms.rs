//! `fanfold platforms`: what this machine can build, how, and why not.

use std::path::Path;

use fanfold_platforms::Platform;
use serde_json::json;

use super::args::PlatformsArgs;
use super::doctor::{self, Finding, Place};
use super::environment::Environment;
use super::errors::{Failure, Kind};
use super::host::{Execution, Machine};
use super::report;
use crate::coordinator::BuildError;
use crate::progress::escape;
use crate::sandbox::{self, Ended, Entered, Isolation, Sandbox};

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

/// What is printed.
struct Shown {
    /// How commands are kept apart, in words.
    isolation: String,
    /// The rung's name; nothing where no command can be run.
    rung: Option<Isolation>,
    /// The better rungs, and why they are not taken.
    refused: Vec<String>,
    /// What commands lack here.
    remarks: Vec<String>,
    findings: Option<Vec<Finding>>,
    rows: Vec<Row>,
}

/// Prints the table, and gives the exit code.
pub(super) fn run(arguments: &PlatformsArgs) -> Result<u8, Failure> {
    let environment = Environment::read();
    let place = Place::of(arguments.root.clone().or_else(|| environment.default_root()));
    // Without a store platforms can be tried all the same.
    let elsewhere = place.scratch.is_err().then(tempfile::tempdir).transpose();
    let elsewhere =
        elsewhere.map_err(|error| Failure::new(Kind::Retryable, format!("no temporary folder: {error}")))?;
    let scratch =
        place.scratch.as_ref().ok().or(elsewhere.as_ref()).map_or(Path::new("/tmp"), |dir| dir.path());
    let wanted = arguments.host.isolation.chosen();
    let config = sandbox::Config {
        path: environment.search_path(),
        isolation: wanted.unwrap_or_default(),
        scratch: scratch.to_owned(),
    };
    let outside = arguments.doctor.then(|| doctor::Outside::examine(&config, &platforms()));
    let machine =
        |isolation| Machine::new(&arguments.host, &environment.search_path(), scratch.to_owned(), isolation);
    let conclude = |outside: Option<doctor::Outside>, taken, machine: &Machine| {
        outside.map(|outside| outside.conclude(taken, &environment, &place, machine, &platforms()))
    };
    let entered = match wanted {
        Ok(_) => sandbox::enter(&config).map_err(|error| (BuildError::describe(&error), error.fix())),
        Err(reason) => Err((reason.to_owned(), None)),
    };
    match entered {
        Ok(Entered::Outside(Ended::Exited(code))) => Ok(u8::try_from(code).unwrap_or(1)),
        Ok(Entered::Outside(Ended::Signaled(signal))) => Ok(Kind::Interrupted(signal).code()),
        Ok(Entered::Inside(sandbox)) => {
            let rung = sandbox.isolation();
            let mut machine = machine(rung);
            let rows = platforms().into_iter();
            let rows =
                rows.map(|platform| Row { execution: machine.execution(&platform), platform }).collect();
            let findings = conclude(outside, Some(rung), &machine);
            print(arguments.json, &Shown::inside(&sandbox, findings, rows))
        }
        Err((reason, fix)) => {
            let fix = fix.unwrap_or_default();
            let unavailable = || Execution::Unavailable { reasons: vec![reason.clone()], fix: fix.clone() };
            let rows = platforms().into_iter();
            let rows = rows.map(|platform| Row { platform, execution: unavailable() }).collect();
            let findings = conclude(outside, None, &machine(Isolation::Userns));
            print(arguments.json, &Shown::without_commands(&reason, findings, rows))
        }
    }
}

fn platforms() -> Vec<Platform> {
    COMMON.iter().filter_map(|text| text.parse().ok()).collect()
}

impl Shown {
    fn inside(sandbox: &Sandbox, findings: Option<Vec<Finding>>, rows: Vec<Row>) -> Self {
        Self {
            isolation: sandbox.to_string(),
            rung: Some(sandbox.isolation()),
            refused: sandbox.refused().iter().map(ToString::to_string).collect(),
            remarks: sandbox.remarks().to_vec(),
            findings,
            rows,
        }
    }

    /// Where nothing can be run.
    fn without_commands(reason: &str, findings: Option<Vec<Finding>>, rows: Vec<Row>) -> Self {
        let isolation = format!("none: {reason}");
        Self { isolation, rung: None, refused: Vec::new(), remarks: Vec::new(), findings, rows }
    }

    /// How commands are kept apart.
    fn head(&self) -> String {
        let mut text = match self.rung {
            Some(rung) => format!("RUN instructions are carried out in a {} ({rung})\n", self.isolation),
            None => format!("RUN instructions are not carried out here: {}\n", self.isolation),
        };
        for refused in &self.refused {
            text.push_str(&format!("  not {}\n", escape::one_line(refused)));
        }
        for remark in &self.remarks {
            text.push_str(&format!("  {}\n", escape::one_line(remark)));
        }
        text
    }
}

fn print(as_json: bool, shown: &Shown) -> Result<u8, Failure> {
    if as_json {
        report::result(&whole_json(shown).to_string())?;
        return Ok(0);
    }
    let mut text = shown.head();
    text.push('\n');
    if let Some(findings) = &shown.findings {
        text.push_str(&doctor::text(findings));
        text.push('\n');
    }
    let rows = &shown.rows;
    let width = rows.iter().map(|row| row.platform.to_string().len()).max().unwrap_or(0);
    text.push_str(&format!("{:width$}  HOW\n", "PLATFORM"));
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
    report::result(&text)?;
    Ok(0)
}

fn whole_json(shown: &Shown) -> serde_json::Value {
    let mut whole = json!({
        "isolation": shown.isolation,
        "rung": shown.rung.map(Isolation::name),
        "refused": shown.refused,
        "remarks": shown.remarks,
    });
    if let Some(findings) = &shown.findings {
        whole["findings"] = doctor::json(findings);
    }
    whole["platforms"] = shown.rows.iter().map(row_json).collect();
    whole
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
