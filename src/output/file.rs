//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Destination, OutputError};

/// A file on its way to its final name, or standard output.
#[derive(Debug)]
pub(super) enum Sink {
    /// A file beside its destination.
    File {
        /// The writer.
        writer: BufWriter<File>,
        /// Where it is now.
        temporary: PathBuf,
        /// Where it will be.
        destination: PathBuf,
    },
    /// Standard output.
    Stdout(BufWriter<io::Stdout>),
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
        match destination {
            Destination::Stdout => Ok(Self::Stdout(BufWriter::with_capacity(BUFFER, io::stdout()))),
            Destination::Path(path) => {
                let temporary = beside(path);
                let file = File::create(&temporary).map_err(OutputError::at("write", path))?;
                Ok(Self::File {
                    writer: BufWriter::with_capacity(BUFFER, file),
                    temporary,
                    destination: path.clone(),
                })
            }
        }
    }

    /// Gives the file its final name.
    ///
    /// # Errors
    ///
    /// Fails where the last bytes cannot be written or the file cannot be renamed.
    pub(super) fn commit(mut self) -> Result<(), OutputError> {
        match &mut self {
            Self::Stdout(writer) => {
                writer.flush().map_err(OutputError::at("write", Path::new("standard output")))
            }
            Self::File { writer, temporary, destination } => {
                writer.flush().map_err(OutputError::at("write", destination))?;
                fs::rename(temporary, &*destination).map_err(OutputError::at("write", destination))
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Self::File { temporary, .. } = self {
            // After a commit there is no such file any more.
            drop(fs::remove_file(temporary));
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { writer, .. } => writer.write(bytes),
            Self::Stdout(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { writer, .. } => writer.flush(),
            Self::Stdout(writer) => writer.flush(),
        }
    }
}

/// A hidden name in the same directory, so that renaming does not cross file systems.
pub(super) fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.fanfold-{}", std::process::id()))
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
