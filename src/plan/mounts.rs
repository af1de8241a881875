//! What is mounted for one command, resolved: paths are absolute, sources are steps.

use super::StepId;
use crate::dockerfile::Sharing;
use crate::image::Digest;

/// One mount of a RUN. Targets are absolute and clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunMount {
    /// Files of a step. What the command writes there is thrown away.
    Bind {
        /// Where.
        target: String,
        /// Whose files.
        from: MountFrom,
        /// A path in them; links are followed inside them.
        source: String,
        /// Whether writing is refused.
        read_only: bool,
    },
    /// A directory that outlives the build.
    Cache {
        /// Where.
        target: String,
        /// What identifies it: name space, id and platform.
        cache: Digest,
        /// What happens while another command uses it.
        sharing: Sharing,
        /// What a new one holds: a directory of a step's files.
        initial: Option<(MountFrom, String)>,
        /// Mode of a new one that begins empty.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Whether writing is refused.
        read_only: bool,
    },
    /// Memory that is gone when the command ends.
    Tmpfs {
        /// Where.
        target: String,
        /// The most that it holds, in bytes.
        size: Option<u64>,
    },
    /// A secret, as a file, a variable, or both.
    Secret {
        /// The caller's name for it.
        id: String,
        /// Where the file is.
        target: Option<String>,
        /// The variable.
        env: Option<String>,
        /// Mode of the file.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A socket that leads to the caller's ssh agent.
    Ssh {
        /// The caller's name for the agent.
        id: String,
        /// Where.
        target: String,
        /// Mode of the socket.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A program whose text stands in the Dockerfile, mode 0755.
    Script {
        /// Where.
        target: String,
        /// Its text.
        content: String,
    },
}

/// Whose files are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountFrom {
    /// The result of a step.
    Step(StepId),
    /// A stage without any layer.
    Nothing,
}

impl MountFrom {
    /// The step, if it is one.
    pub fn step(self) -> Option<StepId> {
        match self {
            Self::Step(id) => Some(id),
            Self::Nothing => None,
        }
    }
}

impl RunMount {
    /// Where it is; `None` for a secret that is a variable alone.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Bind { target, .. }
            | Self::Cache { target, .. }
            | Self::Tmpfs { target, .. }
            | Self::Ssh { target, .. }
            | Self::Script { target, .. } => Some(target),
            Self::Secret { target, .. } => target.as_deref(),
        }
    }

    /// The step whose files are needed.
    pub fn input(&self) -> Option<StepId> {
        match self {
            Self::Bind { from, .. } | Self::Cache { initial: Some((from, _)), .. } => from.step(),
            _ => None,
        }
    }
}
