//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{Destination, OutputError};

/// Where the bytes of an output go.
#[derive(Debug)]
pub(super) enum Sink {
    /// A file beside its destination, on its way to its final name.
    File {
        /// The writer; the file is removed when it is dropped without a commit.
        writer: BufWriter<NamedTempFile>,
        /// Where it will be.
        destination: PathBuf,
    },
    /// Standard output, or a device or pipe that was named as a file.
    Stream(BufWriter<File>),
}

/// Whether what is written to a destination cannot be taken back: it is standard output, a device or a pipe.
pub(super) fn is_stream(destination: &Destination) -> bool {
    match destination {
        Destination::Stdout => true,
        Destination::Path(path) => {
            fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
        }
    }
}

/// What came of writing to a destination: after a failure a stream has bytes that cannot be taken back.
pub(super) fn begun(destination: &Destination, written: Result<(), OutputError>) -> Result<(), OutputError> {
    written.map_err(|error| match is_stream(destination) {
        true => OutputError::AfterStream(Box::new(error)),
        false => error,
    })
}

/// Writes go in pieces of this size.
const BUFFER: usize = 256 * 1024;

impl Sink {
    /// Opens the destination.
    ///
    /// # Errors
    ///
    /// Fails where no file can be made beside the destination.
    pub(super) fn open(destination: &Destination) -> Result<Self, OutputError> {
        let path = match destination {
            Destination::Stdout => {
                let copy = io::stdout().as_fd().try_clone_to_owned();
                let file = File::from(copy.map_err(OutputError::at("write", Path::new(STDOUT)))?);
                return Ok(Self::Stream(BufWriter::with_capacity(BUFFER, file)));
            }
            Destination::Path(path) => path,
        };
        // A link stays, and what it leads to is replaced. A device or pipe is written to.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        if is_stream(destination) {
            let file = File::options().write(true).open(&path).map_err(OutputError::at("write", &path))?;
            return Ok(Self::Stream(BufWriter::with_capacity(BUFFER, file)));
        }
        let file = beside(&path).map_err(OutputError::at("write", &path))?;
        Ok(Self::File { writer: BufWriter::with_capacity(BUFFER, file), destination: path })
    }

    /// Gives the file its final name.
    ///
    /// # Errors
    ///
    /// Fails where the last bytes cannot be written or the file cannot be renamed.
    pub(super) fn commit(self) -> Result<(), OutputError> {
        match self {
            Self::Stream(mut writer) => writer.flush().map_err(OutputError::at("write", Path::new(STDOUT))),
            Self::File { writer, destination } => {
                let file = writer
                    .into_inner()
                    .map_err(|error| OutputError::at("write", &destination)(error.into_error()))?;
                keep(file, &destination)
            }
        }
    }
}

/// What messages call standard output.
const STDOUT: &str = "standard output";

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { writer, .. } => writer.write(bytes),
            Self::Stream(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { writer, .. } => writer.flush(),
            Self::Stream(writer) => writer.flush(),
        }
    }
}

/// A new hidden file in the same directory, so that renaming does not cross file systems. No other
/// build has its name, also where several write to one folder.
pub(super) fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(".fanfold-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(directory.unwrap_or(Path::new(".")))
}

/// Gives a file its final name.
///
/// # Errors
///
/// Fails where it cannot be renamed.
pub(super) fn keep(file: NamedTempFile, path: &Path) -> Result<(), OutputError> {
    file.persist(path).map(drop).map_err(|error| OutputError::at("write", path)(error.error))
}

/// Writes a small file in one step.
///
/// # Errors
///
/// Fails where it cannot be written.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let mut sink = Sink::open(&Destination::Path(path.to_owned()))?;
    sink.write_all(bytes).map_err(OutputError::at("write", path))?;
    sink.commit()
}
