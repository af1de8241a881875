//! Why limits are not to be had, and what would help.

use std::io;
use std::path::Path;

use super::limits::Controller;

/// Limits that were asked for and cannot be kept here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// No cgroup can be made for them.
    #[error("{flags}: this process can make no cgroup with such a limit: cgroup v2: {two}; cgroup v1: {one}")]
    Refused {
        /// The flags that ask for them.
        flags: String,
        /// Why version 2 does not serve.
        two: String,
        /// Why version 1 does not serve.
        one: String,
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

    pub(super) fn not_taken(controller: Controller, file: &Path, reason: &str) -> Self {
        Self::NotTaken { flag: controller.flag(), reason: format!("{}: {reason}", file.display()) }
    }
}

/// What was tried with a file, and the system's answer.
pub(super) fn explain(action: &str, file: &Path, error: &io::Error) -> String {
    format!("{action} {}: {error}", file.display())
}
