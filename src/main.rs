//! Process entry: hidden entries first, while there is one thread, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Inside the sandbox this binary sets up the root of a command, and never returns from here.
    if let Some(code) = fanfold::sandbox::hidden_entry(std::env::args_os()) {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    fanfold::cli::run(std::env::args_os()).into()
}
