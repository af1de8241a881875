//! The ways to keep a command apart, best first.

use std::fmt;
use std::str::FromStr;

use crate::image::Ownership;

/// How commands are kept apart from the rest of the machine: the rungs of a ladder, of which the
/// first that works is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isolation {
    /// A user namespace with a range of ids: those of root, or a user's subordinate ids.
    Userns,
    /// A user namespace with one id. Other ids are simulated by a supervisor of the command's calls.
    OneId,
    /// Root without namespaces: only the root directory is changed.
    Chroot,
    /// Neither root nor namespaces: a supervisor carries out the command's calls inside its root.
    Ptrace,
}

/// A text that names no [`Isolation`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no isolation: there are userns, one-id, chroot and ptrace")]
pub struct UnknownIsolation(pub String);

impl Isolation {
    /// All of them, best first.
    pub const LADDER: [Self; 4] = [Self::Userns, Self::OneId, Self::Chroot, Self::Ptrace];

    /// The name that flags and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Userns => "userns",
            Self::OneId => "one-id",
            Self::Chroot => "chroot",
            Self::Ptrace => "ptrace",
        }
    }

    /// How directories hold the owners of files for it.
    pub fn ownership(self) -> Ownership {
        match self {
            Self::Userns | Self::Chroot => Ownership::Kernel,
            Self::OneId => Ownership::Recorded,
            Self::Ptrace => Ownership::Simulated,
        }
    }

    /// Whether commands have namespaces, and with them mounts and process ids of their own.
    pub fn has_namespaces(self) -> bool {
        matches!(self, Self::Userns | Self::OneId)
    }

    /// Whether a supervisor answers calls of the command.
    pub fn is_supervised(self) -> bool {
        matches!(self, Self::OneId | Self::Ptrace)
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isolation {
    type Err = UnknownIsolation;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::LADDER.into_iter().find(|isolation| isolation.name() == text);
        named.ok_or_else(|| UnknownIsolation(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for isolation in Isolation::LADDER {
            assert_eq!(isolation.name().parse(), Ok(isolation));
        }
        assert!("rootless".parse::<Isolation>().is_err());
    }
}
