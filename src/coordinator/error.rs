//! Why a build has no result.

use fanfold_platforms::Platform;

use crate::cache::CacheError;
use crate::dockerfile::Span;
use crate::engine::{EngineError, StepFailure};
use crate::layer::LayerError;
use crate::plan::{PlanError, PlanErrorKind};
use crate::registry::{self, RegistryError};
use crate::store::StoreError;

/// What kind of failure: it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A step failed.
    Step,
    /// The Dockerfile or the request is wrong.
    Invalid,
    /// Credentials are missing or refused.
    Authentication,
    /// A registry said no, or broke the protocol.
    Registry,
    /// A base or a platform is missing.
    Platform,
    /// The same build may work later.
    Retryable,
    /// The build was ended by this signal.
    Interrupted(i32),
}

/// What may help a failed build, before it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing.
    None,
    /// The fault may lie in the store: what is damaged there is dropped, and the build begins again.
    MendStore,
    /// A file of the build context changed meanwhile: the build begins again with what it is now.
    ReadAgain,
    /// What was at fault is not used any more: the build begins again.
    BeginAgain,
}

/// A failed build.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct BuildError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What went wrong, and why.
    pub message: String,
    /// The platform on which it went wrong.
    pub platform: Option<Platform>,
    /// The instruction's lines.
    pub span: Option<Span>,
    /// The instruction.
    pub step: Option<String>,
    /// The text in those lines that is at fault.
    pub word: Option<String>,
    /// Whether the instruction as a whole is at fault, whatever the message quotes of it.
    pub whole: bool,
    /// What may help.
    pub recovery: Recovery,
    /// What to do.
    pub hint: Option<String>,
    /// The build check that has a name for it.
    pub rule: Option<&'static str>,
}

impl BuildError {
    /// A failure without place.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            platform: None,
            span: None,
            step: None,
            word: None,
            whole: false,
            recovery: Recovery::None,
            hint: None,
            rule: None,
        }
    }

    /// The same failure, with advice.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure, with the instruction that needs what is missing.
    pub fn at(mut self, span: Span, platform: &Platform) -> Self {
        self.span.get_or_insert(span);
        self.platform.get_or_insert_with(|| platform.clone());
        self
    }

    /// The same failure, with the instruction's lines.
    pub(super) fn spanning(mut self, span: Span) -> Self {
        self.span.get_or_insert(span);
        self
    }

    /// Whether there was no room on the disk.
    pub(super) fn is_disk_full(&self) -> bool {
        self.hint.as_deref() == Some(DISK_FULL)
    }

    /// Joins an error with its sources, which say why.
    pub fn describe(error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        text
    }
}

/// Advice where the disk is full.
pub(super) const DISK_FULL: &str = "free some space, for example with `fanfold cache prune --older-than 7d`, or put the store on another disk with --root";

impl From<PlanError> for BuildError {
    fn from(error: PlanError) -> Self {
        let kind = match error.kind {
            PlanErrorKind::Invalid => ErrorKind::Invalid,
            PlanErrorKind::Platform => ErrorKind::Platform,
            PlanErrorKind::Step => ErrorKind::Step,
        };
        Self {
            kind,
            message: error.message,
            platform: error.platform,
            span: error.span,
            step: None,
            word: error.word,
            whole: false,
            recovery: Recovery::None,
            hint: error.hint,
            rule: None,
        }
    }
}

impl From<StoreError> for BuildError {
    fn from(error: StoreError) -> Self {
        let text = Self::describe(&error);
        if error.is_refused() {
            return Self::new(ErrorKind::Invalid, text)
                .with_hint("name a folder that you can write to with --root");
        }
        if error.is_without_locks() {
            return Self::new(ErrorKind::Invalid, text)
                .with_hint("builds that share a store need locks (flock): name a folder on another file system with --root");
        }
        let full = error.is_disk_full();
        let hint = if full { DISK_FULL } else { "build again" };
        let recovery = if full { Recovery::None } else { Recovery::MendStore };
        Self { recovery, ..Self::new(ErrorKind::Retryable, text) }.with_hint(hint)
    }
}

impl From<RegistryError> for BuildError {
    fn from(error: RegistryError) -> Self {
        let kind = match error.kind() {
            registry::ErrorKind::Authentication => ErrorKind::Authentication,
            registry::ErrorKind::NotFound => ErrorKind::Platform,
            registry::ErrorKind::Retryable | registry::ErrorKind::Local => ErrorKind::Retryable,
            registry::ErrorKind::Configuration => ErrorKind::Invalid,
            _ => ErrorKind::Registry,
        };
        let full = error.io_error().is_some_and(|error| {
            matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        });
        let hint = if full { Some(DISK_FULL.to_owned()) } else { error.hint() };
        // A registry refuses content that is not what its digest says.
        let recovery = match error.kind() {
            _ if full => Recovery::None,
            registry::ErrorKind::Refused | registry::ErrorKind::Protocol | registry::ErrorKind::Local => {
                Recovery::MendStore
            }
            _ => Recovery::None,
        };
        Self { hint, recovery, ..Self::new(kind, Self::describe(&error)) }
    }
}

impl From<EngineError> for BuildError {
    fn from(error: EngineError) -> Self {
        let text = Self::describe(&error);
        if error.is_disk_full() {
            return Self::new(ErrorKind::Retryable, text).with_hint(DISK_FULL);
        }
        let whole =
            matches!(&error, EngineError::Step(StepFailure::Command { .. } | StepFailure::Limit { .. }));
        let (kind, hint) = match &error {
            EngineError::Step(StepFailure::Refused { hint: Some(hint), .. }) => {
                return Self::new(ErrorKind::Step, text).with_hint(hint.as_str());
            }
            EngineError::Step(StepFailure::Limit { hint, .. }) => {
                return Self { whole, ..Self::new(ErrorKind::Step, text) }.with_hint(hint.as_str());
            }
            EngineError::Step(StepFailure::Command { code: Some(126 | 127), how, .. })
                if !how.starts_with("exit code") =>
            {
                (ErrorKind::Step, "use a base that has the program, or copy it into the image first")
            }
            EngineError::Step(StepFailure::Command { .. }) => (
                ErrorKind::Step,
                "what the command printed is above; the steps before it are kept for the next build",
            ),
            EngineError::Step(StepFailure::Account { .. }) => {
                (ErrorKind::Step, "name a user or group that the image has, or its number")
            }
            EngineError::Step(_) => (ErrorKind::Step, "name another place, or remove what is there first"),
            EngineError::WrongDiffId { .. } | EngineError::BadLayer(_) | EngineError::UnknownLayerType(_) => {
                (ErrorKind::Platform, "have the base image built again, or use another one")
            }
            EngineError::Damaged { .. } => (
                ErrorKind::Retryable,
                "build again; if it stays, look at the store with `fanfold cache verify`",
            ),
            EngineError::BadArchive { .. } => {
                (ErrorKind::Invalid, "make the archive again, or copy it as a file with --unpack=false")
            }
            EngineError::Overlay(_) => {
                (ErrorKind::Platform, "put the store on another file system with --root")
            }
            EngineError::Store(_) | EngineError::NoContent => {
                (ErrorKind::Retryable, "build again; if it stays, remove the folder that --root names")
            }
            EngineError::Source(source) if source.hint().is_some() => {
                return Self { hint: source.hint(), ..Self::new(ErrorKind::Step, text) };
            }
            EngineError::Source(_) => {
                (ErrorKind::Step, "make the file readable, or list it in .dockerignore")
            }
            EngineError::Layer(LayerError::Changed { .. }) => {
                (ErrorKind::Step, "build again when nothing writes to the build context")
            }
            EngineError::Sandbox(_) => {
                (ErrorKind::Step, "look at what the image has at the place that is named")
            }
            _ => (ErrorKind::Step, "build again; --no-cache leaves out earlier results"),
        };
        let recovery = match &error {
            EngineError::Step(_)
            | EngineError::BadArchive { .. }
            | EngineError::Overlay(_)
            | EngineError::Source(_)
            | EngineError::NoSandbox
            | EngineError::Cancelled => Recovery::None,
            EngineError::Layer(LayerError::Changed { .. }) => Recovery::ReadAgain,
            _ => Recovery::MendStore,
        };
        Self { whole, recovery, ..Self::new(kind, text) }.with_hint(hint)
    }
}

impl From<CacheError> for BuildError {
    fn from(error: CacheError) -> Self {
        let hint = error.hint();
        let text = format!("the cache was not written: {}", Self::describe(&error));
        match error {
            CacheError::Registry(error) => {
                let inner = Self::from(error);
                Self { hint: inner.hint.clone(), ..Self::new(inner.kind, text) }
            }
            error if error.is_disk_full() => Self::new(ErrorKind::Retryable, text).with_hint(DISK_FULL),
            error if error.is_retryable() => Self { hint, ..Self::new(ErrorKind::Retryable, text) },
            _ => Self { hint, ..Self::new(ErrorKind::Invalid, text) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_is_at_fault_as_a_whole() {
        let failure = StepFailure::Command {
            command: "/bin/sh -c false".to_owned(),
            how: "exit code: 1".to_owned(),
            code: Some(1),
            signal: None,
        };
        assert!(BuildError::from(EngineError::Step(failure)).whole);
        let refused = StepFailure::Refused { message: "\"/a\": not found".to_owned(), hint: None };
        assert!(!BuildError::from(EngineError::Step(refused)).whole);
    }
}
