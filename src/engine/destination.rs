//! Where a copy goes.

use super::staging::{Found, Staging};
use super::{EngineError, StepFailure};
use crate::layer::LayerPath;
use crate::plan::CopyOp;

/// The resolved destination of a copy.
pub(super) struct Destination {
    /// Its path, with links followed inside the root.
    pub(super) path: LayerPath,
    /// Whether files go into it under their own names.
    pub(super) directory: bool,
    /// What is said of it.
    pub(super) note: Option<String>,
}

/// Resolves the destination of a copy of `count` sources.
///
/// # Errors
///
/// Fails where several sources would become one file, and where a file is in the way.
pub(super) fn resolve(op: &CopyOp, staging: &Staging<'_>, count: usize) -> Result<Destination, EngineError> {
    let text = op.destination.as_str();
    let absolute = if text.starts_with('/') { text.to_owned() } else { format!("{}/{text}", op.cwd) };
    let last = text.rsplit('/').next().unwrap_or("");
    let keeps_parents = op.parts.iter().any(|part| part.selection.parents);
    let says_directory = keeps_parents || matches!(last, "" | "." | "..");
    let path = staging.resolve(absolute.as_bytes())?;
    let found = staging.found(&path);
    if says_directory && found == Found::Other {
        return Err(StepFailure::refused(format!("cannot copy to non-directory: {path}")).into());
    }
    let directory = says_directory || found == Found::Directory;
    if !directory && count > 1 {
        return Err(StepFailure::refused(format!(
            "{} with {count} sources needs a directory as destination: write \"{text}/\"",
            op.instruction
        ))
        .into());
    }
    let note = (count > 1 && !says_directory).then(|| {
        format!(
            "{} with {count} sources: \"{text}\" is a directory already; write \"{text}/\"",
            op.instruction
        )
    });
    Ok(Destination { path, directory, note })
}
