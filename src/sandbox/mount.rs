//! What is mounted into the root of one command on top of what every command has.

use std::path::PathBuf;

use super::codec::{Malformed, Reader, Writer};
use super::hidden::Hidden;

/// One mount. Targets are absolute paths in the root of the command: links are followed inside the
/// root, and what is missing is made, and removed again afterwards where it is part of the root.
///
/// No device file works in any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A file or directory out of a stack of layers.
    Layers {
        /// Directories of the layers, lowest first. At most 500.
        lowers: Vec<PathBuf>,
        /// Where changes go; without it the command may only read.
        discard: Option<Discard>,
        /// Path in the stack; links are resolved there, and cannot lead out of it.
        source: Vec<u8>,
        /// Where.
        target: Vec<u8>,
    },
    /// A directory of our own, as it is; or a file, where the path is one.
    ///
    /// Where nothing can be mounted it is moved to the command and back, so that it can be in one place
    /// at a time; what is only read is copied, and changes to the copy are thrown away.
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// Where.
        target: Vec<u8>,
        /// Whether the command may only read it.
        read_only: bool,
    },
    /// Memory that the command can use as a directory.
    Tmpfs {
        /// Where.
        target: Vec<u8>,
        /// The most that it holds, in bytes; half of the machine's memory where nothing is said.
        size: Option<u64>,
    },
    /// A file that the command may only read, and that is in memory alone. It can be executed where its
    /// mode says so.
    File {
        /// Its content.
        content: Hidden,
        /// Where.
        target: Vec<u8>,
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Whether it must never be written to a disk.
        secret: bool,
    },
    /// A socket that somebody outside listens on.
    Socket {
        /// The socket.
        path: PathBuf,
        /// Where.
        target: Vec<u8>,
        /// Its owner, as the command is to see it.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// Directories for changes that are thrown away, both on one file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discard {
    /// Receives the changes. Its owner, mode and times are those of the stack's root.
    pub upper: PathBuf,
    /// Empty.
    pub work: PathBuf,
}

const LAYERS: u64 = 0;
const DIRECTORY: u64 = 1;
const TMPFS: u64 = 2;
const FILE: u64 = 3;
const SOCKET: u64 = 4;

impl Mount {
    /// Where it is mounted.
    pub fn target(&self) -> &[u8] {
        match self {
            Self::Layers { target, .. }
            | Self::Directory { target, .. }
            | Self::Tmpfs { target, .. }
            | Self::File { target, .. }
            | Self::Socket { target, .. } => target,
        }
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        match self {
            Self::Layers { lowers, discard, source, target } => {
                out.number(LAYERS);
                out.list(lowers, |out, path| out.path(path));
                out.list(discard.as_slice(), |out, discard| {
                    out.path(&discard.upper);
                    out.path(&discard.work);
                });
                out.bytes(source);
                out.bytes(target);
            }
            Self::Directory { path, target, read_only } => {
                out.number(DIRECTORY);
                out.path(path);
                out.bytes(target);
                out.number(u64::from(*read_only));
            }
            Self::Tmpfs { target, size } => {
                out.number(TMPFS);
                out.bytes(target);
                out.list(size.as_slice(), |out, size| out.number(*size));
            }
            Self::File { content, target, mode, uid, gid, secret } => {
                out.number(FILE);
                out.bytes(content.bytes());
                out.bytes(target);
                for number in [mode, uid, gid] {
                    out.number(u64::from(*number));
                }
                out.number(u64::from(*secret));
            }
            Self::Socket { path, target, uid, gid } => {
                out.number(SOCKET);
                out.path(path);
                out.bytes(target);
                out.number(u64::from(*uid));
                out.number(u64::from(*gid));
            }
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.number()? {
            LAYERS => Self::Layers {
                lowers: input.list(Reader::path)?,
                discard: input.list(|input| Ok(Discard { upper: input.path()?, work: input.path()? }))?.pop(),
                source: input.bytes()?,
                target: input.bytes()?,
            },
            DIRECTORY => Self::Directory {
                path: input.path()?,
                target: input.bytes()?,
                read_only: input.number()? != 0,
            },
            TMPFS => Self::Tmpfs { target: input.bytes()?, size: input.list(Reader::number)?.pop() },
            FILE => Self::File {
                content: Hidden::new(input.bytes()?),
                target: input.bytes()?,
                mode: input.small()?,
                uid: input.small()?,
                gid: input.small()?,
                secret: input.number()? != 0,
            },
            SOCKET => Self::Socket {
                path: input.path()?,
                target: input.bytes()?,
                uid: input.small()?,
                gid: input.small()?,
            },
            _ => return Err(Malformed),
        })
    }
}
