//! Why the value of a `--mount` is refused.

use std::fmt;

use super::super::expand::ExpandError;

/// The most characters of a value that a message shows.
const LONGEST: usize = 200;

/// A value of `--mount` that is refused.
///
/// `Display` gives `message (did you mean X?)`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct MountError {
    fault: MountFault,
    word: Option<String>,
    suggestion: Option<String>,
}

/// What is wrong with a value of `--mount`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MountFault {
    /// The quotes of the CSV record are wrong.
    #[error("the value is not a list of key=value pairs between commas: {0}")]
    Record(&'static str),
    /// A key that no mount has.
    #[error("unexpected key '{key}' in '{field}'")]
    UnknownKey {
        /// The key, in lower case.
        key: String,
        /// The field.
        field: String,
    },
    /// A key that needs a value, without one.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoValue(String),
    /// A key that is given twice, perhaps by another of its names.
    #[error("duplicate key '{0}'")]
    Duplicate(String),
    /// A type that does not exist.
    #[error("unsupported mount type {0:?}")]
    UnknownType(String),
    /// A value of `sharing` that does not exist.
    #[error("unsupported sharing value {0:?}")]
    UnknownSharing(String),
    /// A key that means nothing for the type.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyForType {
        /// The key, in lower case.
        key: String,
        /// The type.
        kind: &'static str,
    },
    /// `mode`, `uid` or `gid` of a mount that has none.
    #[error("{key} not allowed for {kind:?} type mounts")]
    OwnerForType {
        /// The key.
        key: String,
        /// The type.
        kind: &'static str,
    },
    /// `sharing` of a mount that is no cache.
    #[error("invalid cache sharing set for {0} mount")]
    SharingForType(&'static str),
    /// A secret with `from`.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// A secret with `sharing`.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret with neither name nor target.
    #[error("invalid secret mount. one of source, target required")]
    SecretNameless,
    /// A secret with two names.
    #[error("both source and id can't be set")]
    SecretTwoNames,
    /// An agent with `source`.
    #[error("ssh does not support source")]
    SshSource,
    /// A value that does not fit its key.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key, in lower case.
        key: String,
        /// The value.
        value: String,
    },
    /// A number that does not fit its key.
    #[error("invalid value {value} for {key}")]
    Number {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A target that would hide the whole file system.
    #[error("invalid mount target {0:?}")]
    Target(String),
    /// A variable in `from`.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    FromVariable,
    /// A value that cannot be expanded.
    #[error("{0}")]
    Expand(ExpandError),
}

impl MountError {
    /// What is wrong.
    #[must_use]
    pub const fn fault(&self) -> &MountFault {
        &self.fault
    }

    /// The part of the value that is at fault, as it stands there: a key or a whole field.
    #[must_use]
    pub fn word(&self) -> Option<&str> {
        self.word.as_deref()
    }

    /// The word that was probably meant.
    #[must_use]
    pub fn suggestion(&self) -> Option<&str> {
        self.suggestion.as_deref()
    }

    /// Says which part of the value is at fault.
    pub(super) fn at(self, word: &str) -> Self {
        Self { word: Some(word.to_owned()), ..self }
    }

    /// Adds the word that was probably meant.
    pub(super) fn suggest(self, suggestion: Option<String>) -> Self {
        Self { suggestion, ..self }
    }
}

impl From<MountFault> for MountError {
    fn from(fault: MountFault) -> Self {
        Self { fault, word: None, suggestion: None }
    }
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.suggestion {
            Some(word) => write!(f, "{} (did you mean {word}?)", self.fault),
            None => self.fault.fmt(f),
        }
    }
}

/// A piece of a value as a message shows it.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
