//! Limits of commands: those that this machine cannot keep are refused before anything begins.

use super::errors::Failure;
use super::options::Prepared;
use crate::coordinator::{BuildError, ErrorKind};
use crate::sandbox::{Cgroups, permit_limits};

/// Makes sure that commands can be limited as was asked, and gives what does that. Call it while the
/// process has one thread and before it enters namespaces.
pub(super) fn prepare(prepared: &Prepared) -> Result<Option<Cgroups>, Failure> {
    permit_limits(&prepared.request.ulimits).map_err(|error| {
        Failure::usage(format!("--ulimit {error}"))
            .with_hint("ask for no more than `ulimit -H` shows, or raise it for this process first")
    })?;
    if prepared.limits.is_empty() {
        return Ok(None);
    }
    let cgroups = Cgroups::make(prepared.limits).map_err(|error| {
        let text = BuildError::describe(&error);
        Failure::from(BuildError::new(ErrorKind::Platform, text).with_hint(error.fix()))
    })?;
    Ok(Some(cgroups))
}
