//! What the values of `RUN --mount` say.
//!
//! A value is one CSV record of `key=value` pairs and flags, in any order; all values but that of
//! `from` are expanded. The typed result has every default that the value alone decides; targets
//! stay as written, since only the stage knows its WORKDIR.
//!
//! Stricter than other builders: a key that means nothing for the mount's type is an error, and so
//! is a key that is given twice.
//!
//! Sources: BuildKit's Dockerfile reference; RFC 4180 for the record.

mod error;
mod fields;
mod record;
mod values;

pub use error::{MountError, MountFault};

use fields::{Fields, Key};

use super::expand::{self, ExpandError};

/// One mount of a RUN instruction.
///
/// A `target` is as written, relative ones not yet joined to the WORKDIR; `None` stands for the
/// WORKDIR itself. None of them is `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A file or directory of the context, of a stage, an image or a named context.
    Bind {
        /// Where it is mounted.
        target: Option<String>,
        /// The path in the source; its root is `/`.
        source: String,
        /// A stage, an image or a named context; `None`: the build context.
        from: Option<String>,
        /// Whether writing fails. Else what is written is thrown away after the step.
        read_only: bool,
    },
    /// A directory that stays between builds.
    Cache {
        /// Where it is mounted.
        target: Option<String>,
        /// Its name; `None`: the cleaned target.
        id: Option<String>,
        /// What happens if another step uses it.
        sharing: Sharing,
        /// The path in `from` that it begins with; `None`: the root of `from`.
        source: Option<String>,
        /// A stage, an image or a named context with the first content; `None`: it begins empty.
        from: Option<String>,
        /// The mode of the new directory, of use only without `source`; `None`: 0755.
        mode: Option<u32>,
        /// Its owner, of use only without `source`; `None`: 0.
        uid: Option<u32>,
        /// Its group, of use only without `source`; `None`: 0.
        gid: Option<u32>,
        /// Whether writing fails.
        read_only: bool,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Where it is mounted.
        target: Option<String>,
        /// The most bytes it holds; `None`: no limit.
        size: Option<u64>,
    },
    /// A secret, as a file, as a variable or both.
    Secret {
        /// The file: as given, else `/run/secrets/<last part of id>` unless there is `env`. With
        /// `None` there is no file.
        target: Option<String>,
        /// Which secret: as given (`id` or `source`), else the last part of the target.
        id: String,
        /// The variable: as given, and the id for a bare `env`.
        env: Option<String>,
        /// Whether the build fails if the secret was not given.
        required: bool,
        /// The mode of the file, 0400 if not given.
        mode: u32,
        /// The owner of the file, 0 if not given.
        uid: u32,
        /// The group of the file, 0 if not given.
        gid: u32,
    },
    /// The socket of an SSH agent.
    Ssh {
        /// The socket; `None`: `/run/buildkit/ssh_agent.N`, N counting the step's agents from 0.
        target: Option<String>,
        /// Which agent, `default` if not given.
        id: String,
        /// Whether the build fails if the agent was not given.
        required: bool,
        /// The mode of the socket, 0600 if not given.
        mode: u32,
        /// The owner of the socket, 0 if not given.
        uid: u32,
        /// The group of the socket, 0 if not given.
        gid: u32,
    },
}

/// The types of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountType {
    /// `bind`
    #[default]
    Bind,
    /// `cache`
    Cache,
    /// `tmpfs`
    Tmpfs,
    /// `secret`
    Secret,
    /// `ssh`
    Ssh,
}

/// What happens if two steps want one cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// Both write to it.
    #[default]
    Shared,
    /// The second gets a directory of its own.
    Private,
    /// The second waits.
    Locked,
}

/// Types by name, the usual ones first: of equally near names the first one is suggested.
const TYPES: [(&str, MountType); 5] = [
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("secret", MountType::Secret),
    ("tmpfs", MountType::Tmpfs),
    ("ssh", MountType::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

impl MountType {
    /// The name, as `type=` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl Sharing {
    /// The name, as `sharing=` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        SHARINGS.iter().find(|(_, sharing)| *sharing == self).map_or("", |(name, _)| name)
    }
}

impl Mount {
    /// Reads the value of one `--mount`. `expand` fills the variables of a value in, and removes its
    /// quotes and escapes; it is called once for each value but that of `from`, in order.
    ///
    /// # Errors
    ///
    /// All of [`MountFault`].
    pub fn parse(
        raw: &str,
        expand: &mut dyn FnMut(&str) -> Result<String, ExpandError>,
    ) -> Result<Self, MountError> {
        let fields = Fields::read(raw, &mut |value| expand(value).map(Some))?;
        // Every value is known, that of `type` too.
        fields.build(fields.kind()?.unwrap_or_default())
    }

    /// Checks the value of one `--mount` as far as it is known without variables: values with a `$`
    /// are taken to be right, and so is everything that depends on them. `escape` is that of the
    /// Dockerfile.
    ///
    /// # Errors
    ///
    /// All of [`MountFault`].
    pub fn check(raw: &str, escape: char) -> Result<(), MountError> {
        let fields = Fields::read(raw, &mut |value| {
            if value.contains('$') {
                return Ok(None);
            }
            expand::expand(value, escape, &|_| None).map(|expanded| Some(expanded.text))
        })?;
        match fields.kind()? {
            Some(kind) => fields.build(kind).map(|_| ()),
            None => fields.check_values(),
        }
    }

    /// Which type of mount it is.
    #[must_use]
    pub const fn kind(&self) -> MountType {
        match self {
            Self::Bind { .. } => MountType::Bind,
            Self::Cache { .. } => MountType::Cache,
            Self::Tmpfs { .. } => MountType::Tmpfs,
            Self::Secret { .. } => MountType::Secret,
            Self::Ssh { .. } => MountType::Ssh,
        }
    }

    /// Where it is mounted, not yet joined to the WORKDIR.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Bind { target, .. }
            | Self::Cache { target, .. }
            | Self::Tmpfs { target, .. }
            | Self::Secret { target, .. }
            | Self::Ssh { target, .. } => target.as_deref(),
        }
    }

    /// The stage, image or named context that it needs.
    #[must_use]
    pub fn from(&self) -> Option<&str> {
        match self {
            Self::Bind { from, .. } | Self::Cache { from, .. } => from.as_deref(),
            Self::Tmpfs { .. } | Self::Secret { .. } | Self::Ssh { .. } => None,
        }
    }
}

impl Fields {
    /// The mount that the fields describe, if their keys belong to its type.
    fn build(&self, kind: MountType) -> Result<Mount, MountError> {
        self.check_keys(kind)?;
        self.check_values()?;
        let target = self.text(Key::Target);
        Ok(match kind {
            MountType::Bind => Mount::Bind {
                target,
                source: self.text(Key::Source).unwrap_or_else(|| "/".to_owned()),
                from: self.text(Key::From),
                read_only: self.read_only()?.unwrap_or(true),
            },
            MountType::Cache => Mount::Cache {
                target,
                id: self.text(Key::Id),
                sharing: self.sharing()?,
                source: self.text(Key::Source),
                from: self.text(Key::From),
                mode: self.mode()?,
                uid: self.owner(Key::Uid)?,
                gid: self.owner(Key::Gid)?,
                read_only: self.read_only()?.unwrap_or_default(),
            },
            MountType::Tmpfs => Mount::Tmpfs { target, size: self.size()? },
            MountType::Secret => self.secret(target)?,
            MountType::Ssh => Mount::Ssh {
                target,
                id: self.text(Key::Id).unwrap_or_else(|| "default".to_owned()),
                required: self.switch(Key::Required)?.unwrap_or_default(),
                mode: self.mode()?.unwrap_or(0o600),
                uid: self.owner(Key::Uid)?.unwrap_or_default(),
                gid: self.owner(Key::Gid)?.unwrap_or_default(),
            },
        })
    }

    fn secret(&self, target: Option<String>) -> Result<Mount, MountError> {
        let (id, key) = match (self.text(Key::Id), self.text(Key::Source), &target) {
            (Some(_), Some(_), _) => return Err(self.fault(Key::Source, MountFault::SecretTwoNames)),
            (Some(id), None, _) => (id, Key::Id),
            (None, Some(id), _) => (id, Key::Source),
            (None, None, Some(target)) => (target.clone(), Key::Target),
            (None, None, None) => return Err(MountFault::SecretNameless.into()),
        };
        let name = values::last_part(&id);
        let env = self.env(if key == Key::Target { name } else { &id })?;
        // The name is only needed where it stands for what was not given.
        let needed = key == Key::Target || (target.is_none() && env.is_none());
        if needed && matches!(name, "" | "." | "..") {
            return Err(self.bad_value(key, &id));
        }
        let target = match (target, &env) {
            (None, None) => Some(format!("/run/secrets/{name}")),
            (target, _) => target,
        };
        let id = if key == Key::Target { name.to_owned() } else { id };
        Ok(Mount::Secret {
            target,
            id,
            env,
            required: self.switch(Key::Required)?.unwrap_or_default(),
            mode: self.mode()?.unwrap_or(0o400),
            uid: self.owner(Key::Uid)?.unwrap_or_default(),
            gid: self.owner(Key::Gid)?.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests;
