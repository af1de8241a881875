//! Why a rung of isolation is not to be had, and what would help.

use std::{fmt, fs, io};

use nix::libc;

use super::isolation::Isolation;
use super::namespaced::GIVING;

const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

const ALLOW_APPARMOR: &str = "allow them: sysctl kernel.apparmor_restrict_unprivileged_userns=0, \
                              or an AppArmor profile for this program with the rule `userns,`";

const MORE_IDS: &str = "give the surrounding user namespace a range of ids, as subordinate ids in \
                        /etc/subuid and /etc/subgid do";

/// A setting of the kernel, where it exists and can be read.
fn setting(file: &str) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

/// A rung of isolation that does not work here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which one.
    pub isolation: Isolation,
    /// What was tried and how it failed, as a fragment without period.
    pub reason: String,
    /// What the user, or the administrator, can do about it.
    pub fix: Option<String>,
}

impl Refused {
    pub(super) fn new(isolation: Isolation, error: &EnterError) -> Self {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            reason.push_str(&format!(": {error}"));
            source = error.source();
        }
        Self { isolation, reason, fix: error.fix() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.isolation, self.reason)
    }
}

/// All of them; rungs that fail for the same reason share its text.
fn list(refused: &[Refused]) -> String {
    let groups = refused.chunk_by(|one, next| one.reason == next.reason);
    let texts = groups.map(|group| {
        let names: Vec<_> = group.iter().map(|refused| refused.isolation.name()).collect();
        format!("{}: {}", names.join(" and "), group[0].reason)
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// No isolation could be entered, or this rung of it could not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnterError {
    /// None of the rungs works.
    #[error("no isolation works here: {}", list(.refused))]
    NoIsolation {
        /// Each of them.
        refused: Vec<Refused>,
    },
    /// The kernel or a policy refuses new namespaces.
    #[error("user namespaces: clone(CLONE_NEWUSER): {reason}")]
    Refused {
        /// The error and what the system's settings say to it.
        reason: String,
        /// What would help.
        fix: &'static str,
    },
    /// A user other than root needs subordinate ids and has none.
    #[error("no subordinate ids for `{user}` in {file}")]
    NoSubordinateIds {
        /// Name of the user, or its number where it has no name.
        user: String,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
    },
    /// newuidmap or newgidmap is not installed.
    #[error("`{0}` is not in PATH")]
    NoHelper(&'static str),
    /// newuidmap or newgidmap ran and refused.
    #[error("{program} failed: {message}")]
    HelperFailed {
        /// Which of the two.
        program: &'static str,
        /// What it wrote to standard error.
        message: String,
    },
    /// Root may not write the map of the new namespace.
    #[error("failed to write {file} of the new user namespace")]
    WriteMap {
        /// `uid_map` or `gid_map`.
        file: &'static str,
        /// The error of the write.
        #[source]
        source: io::Error,
    },
    /// The namespaces were made, but not all that belongs to them.
    #[error("failed to prepare the new namespaces: {message}")]
    Inside {
        /// Step and error.
        message: String,
        /// What would help, where the cause is known.
        fix: Option<&'static str>,
    },
    /// What a rung without namespaces needs does not work.
    #[error("{step}: {reason}")]
    Unfit {
        /// What was tried.
        step: String,
        /// How it failed.
        reason: String,
        /// What would help, where the cause is known.
        fix: Option<&'static str>,
    },
    /// Another system call failed.
    #[error("failed to enter namespaces: {call}")]
    Call {
        /// Name of the call or file.
        call: &'static str,
        /// Its error.
        #[source]
        source: io::Error,
    },
}

impl EnterError {
    pub(super) fn call(call: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Call { call, source: source.into() }
    }

    /// A step of the new process failed, with the message that it sent.
    pub(super) fn inside(message: String) -> Self {
        if message.starts_with(GIVING) {
            return Self::Inside { message, fix: Some(MORE_IDS) };
        }
        // Ubuntu lets the namespace be made, but takes its capabilities away.
        let fix = setting(APPARMOR).is_some_and(|value| value == "1").then_some(ALLOW_APPARMOR);
        Self::Inside { message, fix }
    }

    /// Explains why clone failed from the error and the settings that bear on it.
    pub(super) fn clone_failed(error: io::Error) -> Self {
        let maximum = setting("/proc/sys/user/max_user_namespaces");
        let debian = setting("/proc/sys/kernel/unprivileged_userns_clone");
        let apparmor = setting(APPARMOR);
        let filtered = setting("/proc/self/status")
            .is_some_and(|status| status.lines().any(|line| line == "Seccomp:\t2"));
        let settings = [
            Some(format!("seccomp active: {}", if filtered { "yes" } else { "no" })),
            maximum.as_ref().map(|value| format!("user.max_user_namespaces={value}")),
            debian.as_ref().map(|value| format!("kernel.unprivileged_userns_clone={value}")),
            apparmor.as_ref().map(|value| format!("apparmor_restrict_unprivileged_userns={value}")),
        ];
        let settings = settings.into_iter().flatten().collect::<Vec<_>>().join("; ");
        let (name, fix) = match error.raw_os_error() {
            Some(libc::ENOSPC) => (
                "ENOSPC: the limit of user namespaces is reached",
                "raise the limit: sysctl user.max_user_namespaces=15000",
            ),
            Some(libc::EPERM) if debian.as_deref() == Some("0") => (
                "EPERM: users other than root may not make them",
                "allow them: sysctl kernel.unprivileged_userns_clone=1",
            ),
            Some(libc::EPERM) if apparmor.as_deref() == Some("1") && !filtered => {
                ("EPERM: restricted by AppArmor", ALLOW_APPARMOR)
            }
            Some(libc::EPERM) => (
                "EPERM: refused by the surrounding container or chroot",
                "run with a seccomp profile that permits user namespaces, and not below chroot",
            ),
            Some(libc::ENOSYS) => (
                "ENOSYS: clone3 is refused by the surrounding container",
                "run with a seccomp profile that permits user namespaces",
            ),
            Some(libc::EINVAL) => (
                "EINVAL: this kernel is built without them",
                "use a kernel with CONFIG_USER_NS and CONFIG_PID_NS",
            ),
            Some(libc::EUSERS) => {
                ("EUSERS: more than 32 of them are nested", "run outside of so many containers")
            }
            _ => return Self::call("clone", error),
        };
        Self::Refused { reason: format!("{name} ({settings})"), fix }
    }

    /// What the user, or the administrator, can do about it.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::NoIsolation { refused } => refused.iter().find_map(|refused| refused.fix.clone()),
            Self::Unfit { fix, .. } => fix.map(str::to_owned),
            Self::Refused { fix, .. } => Some((*fix).to_owned()),
            Self::NoSubordinateIds { user, .. } => {
                Some(format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"))
            }
            Self::NoHelper(_) => Some("install the package uidmap (shadow-utils on Fedora)".to_owned()),
            Self::HelperFailed { program, .. } => Some(format!(
                "check that {program} is set-user-id root or has its file capability, that \
                 no_new_privs is not set, and that /etc/subuid and /etc/subgid give ranges that \
                 belong to nobody else"
            )),
            Self::WriteMap { .. } => Some(
                "run as a user other than root with subordinate ids, or with the capabilities \
                 SETUID, SETGID and SETFCAP"
                    .to_owned(),
            ),
            Self::Inside { fix, .. } => fix.map(str::to_owned),
            Self::Call { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rungs_are_told_of_and_the_best_fix() {
        let refused = |isolation, reason: &str, fix: Option<&str>| Refused {
            isolation,
            reason: reason.to_owned(),
            fix: fix.map(str::to_owned),
        };
        let error = EnterError::NoIsolation {
            refused: vec![
                refused(Isolation::Userns, "clone: EPERM", None),
                refused(Isolation::OneId, "clone: EPERM", None),
                refused(Isolation::Chroot, "chroot: EPERM", Some("run as root")),
                refused(Isolation::Ptrace, "denied", Some("another")),
            ],
        };
        assert_eq!(
            error.to_string(),
            "no isolation works here: userns and one-id: clone: EPERM; chroot: chroot: EPERM; ptrace: denied"
        );
        assert_eq!(error.fix().as_deref(), Some("run as root"));
        let source = io::Error::other("why");
        let told = Refused::new(Isolation::OneId, &EnterError::WriteMap { file: "uid_map", source });
        assert_eq!(told.to_string(), "one-id: failed to write uid_map of the new user namespace: why");
    }

    #[test]
    fn every_refusal_names_its_error_and_a_fix() {
        for (errno, word) in [
            (libc::ENOSPC, "ENOSPC"),
            (libc::EPERM, "EPERM"),
            (libc::ENOSYS, "ENOSYS"),
            (libc::EINVAL, "EINVAL"),
            (libc::EUSERS, "EUSERS"),
        ] {
            let error = EnterError::clone_failed(io::Error::from_raw_os_error(errno));
            assert!(error.to_string().contains(word), "{error}");
            assert!(error.fix().is_some());
        }
    }
}
