//! The only file that knows exit codes and how errors are worded on the screen.

use std::io::Write;

pub(super) use crate::coordinator::Source;
use crate::coordinator::{BuildError, ErrorKind, Recovery};
use crate::dockerfile::{self, Mark, Span};
use crate::output::OutputError;
use crate::progress::{ErrorReport, escape};

/// A failed command, ready to be shown.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    kind: Kind,
    /// The whole text as it is shown, `error: ` included.
    text: String,
}

/// Kinds of failure, each with an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// RUN ended non-zero, COPY source missing.
    Step,
    /// Command line, Dockerfile, unsupported.
    Usage,
    /// Credentials missing or refused.
    Authentication,
    /// The registry said no, for good.
    Registry,
    /// Base or interpreter missing.
    Platform,
    /// The same command may work later.
    Retryable,
    /// Ended by a signal.
    Interrupted(i32),
}

impl Kind {
    /// The exit code.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Step => 1,
            Self::Usage => 2,
            Self::Authentication => 3,
            Self::Registry => 4,
            Self::Platform => 5,
            Self::Retryable => 75,
            Self::Interrupted(signal) => 128 + (signal as u8 & 0x7f),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Usage => "usage",
            Self::Authentication => "authentication",
            Self::Registry => "registry",
            Self::Platform => "platform",
            Self::Retryable => "retryable",
            Self::Interrupted(_) => "interrupted",
        }
    }

    /// Of several failures the most telling one decides.
    const fn rank(self) -> u8 {
        match self {
            Self::Interrupted(_) => 0,
            Self::Usage => 1,
            Self::Authentication => 2,
            Self::Platform => 3,
            Self::Step => 4,
            Self::Registry => 5,
            Self::Retryable => 6,
        }
    }
}

impl From<ErrorKind> for Kind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Step => Self::Step,
            ErrorKind::Invalid => Self::Usage,
            ErrorKind::Authentication => Self::Authentication,
            ErrorKind::Registry => Self::Registry,
            ErrorKind::Platform => Self::Platform,
            ErrorKind::Retryable => Self::Retryable,
            ErrorKind::Interrupted(signal) => Self::Interrupted(signal),
        }
    }
}

impl Failure {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, text: format!("error: {}", message.into()) }
    }

    /// A fault in the Dockerfile that has its text already.
    pub(super) fn rendered(text: String) -> Self {
        Self::rendered_as(Kind::Usage, text)
    }

    /// A failure that has its text already.
    pub(super) fn rendered_as(kind: Kind, text: String) -> Self {
        Self { kind, text }
    }

    /// A failure that another process has told of.
    pub(super) fn silent(code: u8) -> Self {
        let kind =
            [Kind::Step, Kind::Usage, Kind::Authentication, Kind::Registry, Kind::Platform, Kind::Retryable]
                .into_iter()
                .find(|kind| kind.code() == code)
                .unwrap_or(Kind::Interrupted(i32::from(code & 0x7f)));
        Self { kind, text: String::new() }
    }

    /// A wrong command line.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.text = format!("{}\nhint: {}", self.text.trim_end(), hint.into());
        self
    }

    /// Shows the failure where there is no progress yet, and gives the exit code.
    pub(super) fn report(&self) -> u8 {
        // There is nobody left to tell where this fails.
        if !self.text.is_empty() {
            drop(writeln!(std::io::stderr(), "{}", escape::text(self.text.trim_end())));
        }
        self.kind.code()
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        Self::from(build_error(error))
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Self::rendered_as(error.kind.into(), render(&error, None))
    }
}

/// A failed output in the terms of a build.
pub(super) fn build_error(error: OutputError) -> BuildError {
    let disk_full = error.is_disk_full();
    let text = BuildError::describe(&error);
    match error {
        OutputError::AfterStream(error) => BuildError { recovery: Recovery::None, ..build_error(*error) },
        OutputError::Registry(error) => error.into(),
        OutputError::Engine(error) => error.into(),
        OutputError::Unsuitable { hint, .. } => BuildError::new(ErrorKind::Invalid, text).with_hint(hint),
        _ if disk_full => {
            BuildError::new(ErrorKind::Retryable, text).with_hint("free some space and build again")
        }
        OutputError::Damaged { .. } | OutputError::Layer(_) => {
            let error =
                BuildError { recovery: Recovery::MendStore, ..BuildError::new(ErrorKind::Retryable, text) };
            error.with_hint("build again; if it stays, look at the store with `fanfold cache verify`")
        }
        _ => BuildError::new(ErrorKind::Invalid, text)
            .with_hint("name a destination in a folder that exists and can be written"),
    }
}

/// An error with its place in the Dockerfile, the line itself, and advice.
pub(super) fn render(error: &BuildError, source: Option<&Source>) -> String {
    let message = match &error.platform {
        Some(platform) => format!("{platform}: {}", error.message),
        None => error.message.clone(),
    };
    let mut text = match (source, error.span) {
        (Some(source), Some(span)) => source.error(&message, span, source.mark_of(error)),
        _ => format!("error: {message}"),
    };
    if let Some(hint) = &error.hint {
        text = format!("{}\nhint: {hint}", text.trim_end());
    }
    text
}

/// A syntax error with its line and a caret.
pub(super) fn render_syntax(error: &dockerfile::SyntaxError, source: &Source) -> String {
    let span = Span { first: error.line, last: error.line };
    let mark = error.columns.map(|columns| Mark { line: error.line, columns });
    dockerfile::render("error", &error.full_message(), &source.name, &source.text, span, mark)
}

/// The failure that decides the exit code.
pub(super) fn decisive(errors: &[BuildError]) -> Option<&BuildError> {
    errors.iter().min_by_key(|error| Kind::from(error.kind).rank())
}

/// The failure as JSON readers get it.
pub(super) fn error_report(error: &BuildError, source: Option<&Source>) -> ErrorReport {
    let kind = Kind::from(error.kind);
    let place = source.zip(error.span).map(|(source, span)| source.place(span, source.mark_of(error)));
    ErrorReport {
        code: kind.code(),
        kind: kind.name().to_owned(),
        platform: error.platform.clone(),
        line: place.as_ref().map(|place| place.line).or(error.span.map(|span| span.first)),
        column: place.as_ref().map(|place| place.column),
        file: place.map(|place| place.file),
        message: error.message.clone(),
        hint: error.hint.clone(),
        retryable: kind == Kind::Retryable,
    }
}

/// Shows what clap has to say: help on standard output with 0, errors with 2.
pub(super) fn of_clap(error: &clap::Error) -> u8 {
    match super::unknown::explain(error) {
        Some(failure) => return failure.report(),
        None => drop(error.print()),
    }
    if error.use_stderr() { Kind::Usage.code() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        let table = [
            (ErrorKind::Step, 1),
            (ErrorKind::Invalid, 2),
            (ErrorKind::Authentication, 3),
            (ErrorKind::Registry, 4),
            (ErrorKind::Platform, 5),
            (ErrorKind::Retryable, 75),
            (ErrorKind::Interrupted(2), 130),
            (ErrorKind::Interrupted(15), 143),
        ];
        for (kind, code) in table {
            assert_eq!(Kind::from(kind).code(), code, "{kind:?}");
        }
    }

    #[test]
    fn the_most_telling_failure_decides() {
        let errors = [ErrorKind::Retryable, ErrorKind::Step, ErrorKind::Platform]
            .map(|kind| BuildError::new(kind, ""));
        assert_eq!(decisive(&errors).unwrap().kind, ErrorKind::Platform);
    }
}
