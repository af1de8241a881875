//! Why limits are not to be had, and what would help.

use std::io;
use std::path::Path;

use super::limits::Controller;

/// Limits that were asked for and cannot be kept here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// No cgroup can be made for them.
    #[error("this process can make no cgroup with the limit of {reasons}")]
    Refused {
        /// The flags that ask for them.
        flags: String,
        /// Why neither version serves, for each of them.
        reasons: String,
    },
    /// A cgroup was made, but does not take a limit.
    #[error("{flag}: the kernel does not take the limit: {reason}")]
    NotTaken {
        /// The flag that asks for it.
        flag: &'static str,
        /// Which file, and why.
        reason: String,
    },
}

impl CgroupError {
    /// What can be done about it.
    pub fn fix(&self) -> String {
        match self {
            Self::Refused { flags, .. } => format!(
                "as a user: `systemd-run --user --scope -p Delegate=yes fanfold build …`; in a container: \
                 mount /sys/fs/cgroup writable; or build without {flags}"
            ),
            Self::NotTaken { flag, .. } => {
                format!("ask for no more than the surrounding cgroup has, or build without {flag}")
            }
        }
    }

    /// Controllers, each time with why version 2 and version 1 do not serve.
    pub(super) fn refused(refusals: &[(Vec<Controller>, String, String)]) -> Self {
        let flags = |controllers: &[Controller]| {
            controllers.iter().map(|controller| controller.flag()).collect::<Vec<_>>().join(" and ")
        };
        let reasons = refusals.iter().map(|(controllers, two, one)| {
            format!("{}: cgroup v2: {two}; cgroup v1: {one}", flags(controllers))
        });
        let all: Vec<_> = refusals.iter().flat_map(|(controllers, ..)| controllers.iter().copied()).collect();
        Self::Refused { flags: flags(&all), reasons: reasons.collect::<Vec<_>>().join("; ") }
    }

    pub(super) fn not_taken(controller: Controller, file: &Path, reason: &str) -> Self {
        Self::NotTaken { flag: controller.flag(), reason: format!("{}: {reason}", file.display()) }
    }
}

/// What was tried with a file, and the system's answer.
pub(super) fn explain(action: &str, file: &Path, error: &io::Error) -> String {
    format!("{action} {}: {error}", file.display())
}
