//! The one error type of this room.

use std::io;

/// Why a layer or an archive could not be read, written, unpacked or scanned.
///
/// Paths are shown relative to the layer's root wherever they come from a layer, with control
/// characters escaped: they are untrusted text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// A name that no layer may hold.
    #[error("`{name}` is not a usable path in a layer: {reason}")]
    InvalidPath {
        /// The name, escaped and cut.
        name: String,
        /// The rule that was broken.
        reason: &'static str,
    },
    /// Bytes that are not a tar archive, or a damaged one.
    #[error("archive is damaged at byte {offset}: {reason}")]
    Malformed {
        /// Offset in the uncompressed archive.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// A well-formed entry that must not be applied or cannot be expressed.
    #[error("entry `{path}` is refused: {reason}")]
    Refused {
        /// The entry, relative to the layer's root.
        path: String,
        /// The rule that was broken.
        reason: &'static str,
    },
    /// More than an honest archive holds.
    #[error("archive exceeds the limit of {limit} {what}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The largest accepted count.
        limit: u64,
    },
    /// A file that did not have the size it was announced with.
    #[error("`{path}` changed while it was read: {found} bytes instead of {expected}")]
    SizeChanged {
        /// The entry, relative to the layer's root.
        path: String,
        /// The announced size in bytes.
        expected: u64,
        /// The bytes found; one more than `expected` stands for any larger size.
        found: u64,
    },
    /// A file that is not any more what it was when it was read before.
    #[error("`{path}` changed since the build looked at it first")]
    Changed {
        /// The file.
        path: String,
    },
    /// A path used as a directory that is something else.
    #[error("`{path}` is not a directory")]
    NotADirectory {
        /// Relative to the root.
        path: String,
    },
    /// More than 40 symbolic links on the way to one path.
    #[error("too many levels of symbolic links at `{path}`")]
    LinkLoop {
        /// Relative to the root.
        path: String,
    },
    /// A wanted file that the layer does not hold.
    #[error("layer holds no regular file `{path}`")]
    Missing {
        /// Relative to the layer's root.
        path: String,
    },
    /// A stored index that cannot be trusted.
    #[error("layer index is damaged: {reason}")]
    Index {
        /// What is wrong.
        reason: &'static str,
    },
    /// The work was asked to end: see [`super::Halt`].
    #[error("the work was ended before it was done")]
    Halted,
    /// The blob could not be read or decompressed.
    #[error("failed to read layer data")]
    Stream(#[source] io::Error),
    /// A system call on one path failed.
    #[error("failed to {action} `{path}`")]
    Io {
        /// What was tried, in the infinitive.
        action: &'static str,
        /// The path, in the layer or on disk.
        path: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl LayerError {
    /// Wraps a failed system call.
    pub(super) fn io(action: &'static str, path: impl AsRef<[u8]>, source: impl Into<io::Error>) -> Self {
        match source.into().downcast::<Self>() {
            Ok(Self::Changed { .. }) => Self::Changed { path: shown(path.as_ref()) },
            Ok(own) => own,
            Err(source) => Self::Io { action, path: shown(path.as_ref()), source },
        }
    }

    /// Wraps a failed read of layer data; an error of this room that travelled through a reader
    /// comes out as itself.
    pub(super) fn stream(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(other) => Self::Stream(other),
        }
    }

    pub(super) fn refused(path: impl AsRef<[u8]>, reason: &'static str) -> Self {
        Self::Refused { path: shown(path.as_ref()), reason }
    }

    /// Whether the cause is a full disk or an exhausted quota, so that the same command may work later.
    pub fn is_disk_full(&self) -> bool {
        let (Self::Io { source, .. } | Self::Stream(source)) = self else {
            return false;
        };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Untrusted bytes as one short printable line.
pub(super) fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    for character in text.chars().take(LONGEST) {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_this_room_survive_a_reader() {
        let error = LayerError::stream(io::Error::other(LayerError::Limit { what: "entries", limit: 2 }));
        assert!(matches!(error, LayerError::Limit { limit: 2, .. }), "{error}");
    }

    #[test]
    fn knows_a_full_disk() {
        let full = io::Error::from_raw_os_error(28);
        assert!(LayerError::io("write", "a", full).is_disk_full());
        assert!(LayerError::Stream(io::Error::from_raw_os_error(122)).is_disk_full());
        assert!(!LayerError::io("write", "a", io::Error::from_raw_os_error(5)).is_disk_full());
    }

    #[test]
    fn untrusted_names_are_printable() {
        assert_eq!(shown(b"a\x1b[31m\n\xff"), "a\\u{1b}[31m\\n\u{fffd}");
        assert!(shown(&[b'x'; 10_000]).len() < 400);
    }
}
