//! An archive as build context, and what standard input or a downloaded file is when it is one.

use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use super::{Context, SourceError, Spool};
use crate::layer::{Compression, Gathered, LayerError, Limits, decoder, detect, gather, is_tar};

/// Bytes that tell what something is: one record of a tar.
const START: usize = 512;
/// Largest Dockerfile, in bytes.
const LARGEST_DOCKERFILE: u64 = 1 << 20;

/// What was given in place of a directory.
#[derive(Debug)]
pub enum Input {
    /// An archive: the build context, with the Dockerfile in it.
    Archive(Context),
    /// A Dockerfile alone: there is no build context.
    Dockerfile(Vec<u8>),
}

impl Input {
    /// Reads all of `reader`, which is told by its content. The data of an archive's files goes to
    /// a file without a name on the file system of `directory`.
    ///
    /// # Errors
    ///
    /// Fails as [`Context::archive`] does, for compressed data that is not a tar, and for a
    /// Dockerfile of more than 1 MiB.
    pub fn read(
        reader: impl Read + Send + 'static,
        directory: &Path,
        limits: &Limits,
    ) -> Result<Self, SourceError> {
        match open(reader, limits)? {
            Opened::Tar(plain) => Ok(Self::Archive(context(plain, directory, limits)?)),
            Opened::Other(reader) => {
                let mut text = Vec::new();
                let read = reader.take(LARGEST_DOCKERFILE + 1).read_to_end(&mut text);
                read.map_err(|error| SourceError::Archive(LayerError::Stream(error)))?;
                if text.len() as u64 > LARGEST_DOCKERFILE {
                    let reason = format!(
                        "for a Dockerfile it is too large, with more than {LARGEST_DOCKERFILE} bytes"
                    );
                    return Err(SourceError::NotAnArchive(reason));
                }
                Ok(Self::Dockerfile(text))
            }
        }
    }
}

impl Context {
    /// The files of a tar, plain or compressed with gzip, bzip2, xz or zstd, owned by root.
    ///
    /// Of entries with one name the last counts, as when the archive is unpacked. An entry below a
    /// symbolic link of the archive stands where the link leads, with the context as its root. The
    /// data goes to a file without a name on the file system of `directory`.
    ///
    /// # Errors
    ///
    /// Fails for anything else, for damaged and truncated archives, names with `..`, hard links to
    /// nothing, more than the limits allow, and a full disk.
    pub fn archive(
        reader: impl Read + Send + 'static,
        directory: &Path,
        limits: &Limits,
    ) -> Result<Self, SourceError> {
        match open(reader, limits)? {
            Opened::Tar(plain) => context(plain, directory, limits),
            Opened::Other(_) => Err(SourceError::NotAnArchive("it does not begin as one".to_owned())),
        }
    }
}

/// Whether something that begins with `start` is a tar or compressed data. It takes the first 512
/// bytes to tell.
pub fn looks_like_archive(start: &[u8]) -> bool {
    detect(start) != Compression::Plain || begins_tar(start)
}

/// A tar with something in it, or the zeros of one that holds nothing.
fn begins_tar(start: &[u8]) -> bool {
    is_tar(start) || (start.len() >= START && start[..START].iter().all(|&byte| byte == 0))
}

/// Something that was looked into, as it was before.
enum Opened {
    /// An uncompressed tar.
    Tar(Box<dyn Read + Send>),
    Other(Box<dyn Read + Send>),
}

fn open(mut reader: impl Read + Send + 'static, limits: &Limits) -> Result<Opened, SourceError> {
    let unreadable = |error| SourceError::Archive(LayerError::Stream(error));
    let mut start = Vec::with_capacity(START);
    (&mut reader).take(START as u64).read_to_end(&mut start).map_err(unreadable)?;
    let compression = detect(&start);
    let name = match compression {
        Compression::Plain if begins_tar(&start) => {
            return Ok(Opened::Tar(Box::new(Cursor::new(start).chain(reader))));
        }
        Compression::Plain => return Ok(Opened::Other(Box::new(Cursor::new(start).chain(reader)))),
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::Bzip2 => "bzip2",
        Compression::Xz => "xz",
    };
    let whole = BufReader::with_capacity(128 << 10, Cursor::new(start).chain(reader));
    let mut plain = decoder(whole, compression, limits).map_err(SourceError::Archive)?;
    let mut header = Vec::with_capacity(START);
    (&mut plain).take(START as u64).read_to_end(&mut header).map_err(unreadable)?;
    if !begins_tar(&header) {
        return Err(SourceError::NotAnArchive(format!("it is {name} data, but no tar is in it")));
    }
    Ok(Opened::Tar(Box::new(Cursor::new(header).chain(plain))))
}

fn context(plain: impl Read, directory: &Path, limits: &Limits) -> Result<Context, SourceError> {
    let mut spool = Spool::new(directory)?;
    let mut keep = |content: &mut dyn Read| spool.add(content).map(|(content, _)| content);
    let Gathered { index, contents } = gather(plain, limits, &mut keep).map_err(SourceError::Archive)?;
    Ok(Context::of(index, contents))
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
