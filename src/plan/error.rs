//! Why a Dockerfile cannot be built as asked.

use fanfold_platforms::Platform;

use crate::dockerfile::Span;

/// What kind of failure, which decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanErrorKind {
    /// The Dockerfile or the request is wrong, or asks for what is not supported.
    Invalid,
    /// A platform that the base or the stage does not have.
    Platform,
    /// A step that is bound to fail: a copy's source is missing.
    Step,
}

/// A fault in a Dockerfile, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// What is wrong.
    pub message: String,
    /// The instruction's lines; `None` where the fault is in the request.
    pub span: Option<Span>,
    /// The platform it was planned for, where it matters.
    pub platform: Option<Platform>,
    /// What to do.
    pub hint: Option<String>,
    /// What kind of failure.
    pub kind: PlanErrorKind,
    /// The text in those lines that is at fault.
    pub word: Option<String>,
}

impl PlanError {
    /// A fault of the Dockerfile at `span`.
    pub(super) fn at(span: Span, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span: Some(span),
            platform: None,
            hint: None,
            kind: PlanErrorKind::Invalid,
            word: None,
        }
    }

    /// A fault of the request.
    pub(super) fn request(message: impl Into<String>) -> Self {
        Self { span: None, ..Self::at(Span { first: 0, last: 0 }, message) }
    }

    /// Something that this version cannot do.
    pub(super) fn unsupported(span: Span, what: &str) -> Self {
        Self::at(span, format!("{what} is not supported"))
            .with_hint("do without it here; nothing that a Dockerfile asks for is ignored")
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn with_word(mut self, word: impl Into<String>) -> Self {
        self.word = Some(word.into());
        self
    }

    pub(super) fn with_platform(mut self, platform: &Platform) -> Self {
        self.platform.get_or_insert_with(|| platform.clone());
        self
    }

    pub(super) fn with_kind(mut self, kind: PlanErrorKind) -> Self {
        self.kind = kind;
        self
    }
}
