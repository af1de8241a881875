//! Telling people and programs how a build ended.

use std::io::{ErrorKind, Write};

use super::errors::{self, Failure, Kind, Source};
use crate::coordinator::BuildError;
use crate::progress::{Event, Progress};

/// A failure before there is progress, with its place in the Dockerfile.
pub(super) fn failure(error: &BuildError, source: &Source) -> Failure {
    Failure::rendered_as(error.kind.into(), errors::render(error, Some(source)))
}

/// Shows failures at the end of a build, and gives the exit code.
pub(super) fn end(progress: &Progress, failures: &[BuildError], source: Option<&Source>) -> u8 {
    let Some(decisive) = errors::decisive(failures) else { return 0 };
    progress.send(Event::Failed(errors::error_report(decisive, source)));
    for failure in failures {
        progress.print_error(errors::render(failure, source));
    }
    progress.finish();
    Kind::from(decisive.kind).code()
}

/// Prints a result on standard output.
///
/// # Errors
///
/// Fails where it cannot be written: a file without a digest in it must not look like success.
pub(super) fn result(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever closed standard output does not want it.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let text = format!("failed to write the result to standard output: {error}");
            Err(Failure::new(Kind::Retryable, text))
        }
        _ => Ok(()),
    }
}
