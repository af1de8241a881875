//! Remarks on a Dockerfile.

use crate::dockerfile::Span;

/// Something that is probably a mistake. It never stops a build by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Warning {
    /// The build check that found it; `None` for remarks on the request.
    pub rule: Option<&'static str>,
    /// What was found.
    pub message: String,
    /// The instruction's lines, where it stands in the Dockerfile.
    pub span: Option<Span>,
    /// The text in those lines that it is about.
    pub word: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}
