//! The command line: one file for each subcommand.
//!
//! Owns: flags, environment variables, exit codes, the tone of errors, signals.
//! Refuses: flags that would have no effect.
//!
//! Invariants:
//! - Only this room reads the environment; what others need is passed down.
//! - `errors.rs` alone knows exit codes.
//! - Results go to standard output, everything else to standard error.

mod agents;
mod args;
mod attempt;
mod build;
mod cache;
mod check;
mod contexts;
mod deliver;
mod doctor;
mod environment;
mod errors;
mod findings;
mod host;
mod inputs;
mod limits;
mod options;
mod outline;
mod platforms;
mod process;
mod refused;
mod report;
mod result_files;
mod secrets;
mod signals;
mod sites;
mod table;
mod unknown;
mod values;
mod variables;

use std::ffi::OsString;
use std::io::Write;

use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Command, WELCOME};
use environment::Environment;
use errors::Failure;

/// The command without the values of variables in its help, and all below it.
fn discreet(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(discreet)
}

/// Runs the command line and gives the exit code.
///
/// Call it while the process has one thread: a build forks into namespaces of its own.
pub fn run(arguments: impl Iterator<Item = OsString>) -> u8 {
    // The values of variables may be secrets, and help is copied into tickets.
    let command = discreet(Cli::command());
    let parsed = variables::matches(command, &Environment::read(), arguments.collect())
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return errors::of_clap(&error),
    };
    let result = match cli.command {
        None => {
            // Nobody reads a greeting that cannot be written.
            drop(std::io::stdout().write_all(WELCOME.as_bytes()));
            Ok(0)
        }
        Some(Command::Build(arguments)) => build::run(&arguments),
        Some(Command::Cache(arguments)) => cache::run(&arguments),
        Some(Command::Check(arguments)) => check::run(&arguments),
        Some(Command::Platforms(arguments)) => platforms::run(&arguments),
    };
    result.unwrap_or_else(|failure: Failure| failure.report())
}
