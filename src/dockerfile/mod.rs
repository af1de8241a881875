//! The Dockerfile language: text in, stages of instructions out.
//!
//! Owns: lines, continuations and comments; directives; instruction and flag syntax; heredocs;
//! the values of `RUN --mount`; variable expansion; patterns and `.dockerignore`; the build checks that
//! need the text alone; excerpts for messages.
//! Refuses: every instruction, flag, directive and frontend that it does not know, with the line
//! and the nearest known word. Nothing is skipped silently.
//!
//! Invariants:
//! - Pure: no file, no environment, no clock.
//! - No input makes it panic, and the time for a file grows with its size only.
//! - What the parser gives back is raw: quotes, escapes and `$` are resolved by [`expand`], later,
//!   when the stage's environment is known.
//!
//! Sources: the Dockerfile reference of BuildKit's frontend (1.26), with the differences that are
//! listed in the user documentation.

mod advice;
mod arguments;
mod ast;
mod checks;
mod commands;
mod copies;
mod directives;
pub mod duration;
mod excerpt;
pub mod expand;
mod flags;
mod from;
mod git_address;
mod git_remote;
mod healthcheck;
mod heredoc;
pub mod ignore;
mod keyword;
mod lines;
mod lint;
pub mod mount;
mod onbuild;
mod parse;
pub mod pattern;
mod places;
pub mod ports;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod run;
mod selection;
pub mod shell;
pub mod signal;
mod stages;
mod statement;
pub mod suggest;
mod syntax_error;
mod words;

pub use advice::advice;
pub use ast::{
    Add, ArgDecl, Command, Copy, Directives, Dockerfile, HealthTest, Healthcheck, Heredoc, Instruction, Kind,
    Run, Script, Span, Stage, Warning,
};
pub use checks::{CheckOptions, Checks, ParseCheckError};
pub use directives::is_own_frontend;
pub use excerpt::{Mark, excerpt, render};
pub use git_address::{GitAddress, GitAddressError, GitTime, without_userinfo};
pub use git_remote::{GitLogin, GitRemote, GitScheme};
pub use mount::{Mount, Sharing};
pub use parse::{parse, parse_trigger, parse_with_checks};
pub use places::{columns_of, columns_of_name, columns_of_variable};
pub use selection::Selection;
pub use syntax_error::SyntaxError;
