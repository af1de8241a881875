//! `fanfold cache`: the local store, for those who look after a machine.

mod args;
mod list;
mod prune;
mod usage;
mod verify;
mod warm;

use std::path::PathBuf;

pub(super) use args::{CacheArgs, EXAMPLES};

use args::{CacheCommand, StoreArgs};

use super::build::open_store;
use super::environment::Environment;
use super::errors::Failure;
use super::process::exit_code;
use crate::sandbox::{self, Entered, Isolation};
use crate::store::Store;

/// Carries out one of the subcommands, and gives the exit code.
pub(super) fn run(arguments: &CacheArgs) -> Result<u8, Failure> {
    let environment = Environment::read();
    match &arguments.command {
        CacheCommand::Ls(arguments) => list::run(arguments, &environment),
        CacheCommand::Du(arguments) => usage::run(arguments, &environment),
        CacheCommand::Prune(arguments) => prune::run(arguments, &environment),
        CacheCommand::Verify(arguments) => verify::run(arguments, &environment),
        CacheCommand::Warm(arguments) => warm::run(arguments, &environment),
    }
}

/// Where the store is.
fn root(arguments: &StoreArgs, environment: &Environment) -> Result<PathBuf, Failure> {
    arguments.root.clone().or_else(|| environment.default_root()).ok_or_else(|| {
        Failure::usage("there is no HOME that the store could be in").with_hint("pass --root DIR")
    })
}

/// Opens the store where it can be looked into and cleaned up: files of layers belong to a user's
/// subordinate ids, which only a namespace with these ids can read and remove. Where there is none, files
/// belong to the user.
fn with_store(
    arguments: &StoreArgs,
    environment: &Environment,
    work: impl FnOnce(&Store) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let root = root(arguments, environment)?;
    if !rustix::process::geteuid().is_root() {
        let path = environment.search_path();
        let config = sandbox::Config { path, isolation: Some(Isolation::Userns), scratch: root.clone() };
        if let Ok(Entered::Outside(ended)) = sandbox::enter(&config) {
            return exit_code(ended);
        }
    }
    work(&open_store(&root)?)
}
