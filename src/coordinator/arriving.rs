//! [`Arriving`]: a blob that is read while a pull writes it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::registry::{Arrival, Follower};

/// Tells what has arrived of a file. As [`Follower::wait_beyond`].
pub(super) trait Tidings: Clone + Send + 'static {
    /// Waits until the file has more than `offset` bytes, or something else has happened.
    fn wait_beyond(&mut self, offset: u64) -> Arrival;
}

impl Tidings for Follower {
    fn wait_beyond(&mut self, offset: u64) -> Arrival {
        Self::wait_beyond(self, offset)
    }
}

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is here, and verified.
    Whole,
    /// It arrives once more: what was made of it is worthless.
    Anew,
    /// It will not come.
    Lost,
}

/// A blob on its way.
#[derive(Debug)]
pub(super) struct Arriving<T> {
    tidings: T,
    path: PathBuf,
}

impl<T: Tidings> Arriving<T> {
    /// The blob that is written to `path`.
    pub(super) fn new(tidings: T, path: &Path) -> Self {
        Self { tidings, path: path.to_owned() }
    }

    /// Waits until something of it is here, or never will be.
    pub(super) fn begun(self) -> Self {
        // What it says is said again to the reader.
        self.tidings.clone().wait_beyond(0);
        self
    }

    /// Its bytes, from the first on. Reading fails when they arrive anew, or never.
    pub(super) fn reader(&self) -> ArrivingReader<T> {
        ArrivingReader {
            tidings: self.tidings.clone(),
            path: self.path.clone(),
            file: None,
            offset: 0,
            there: 0,
        }
    }

    /// Waits until it is known what became of it since the last call. A reader that was made before and has
    /// read to the end has read what is verified only if this is [`Verdict::Whole`].
    pub(super) fn verdict(&mut self) -> Verdict {
        match self.tidings.wait_beyond(u64::MAX) {
            Arrival::Done => Verdict::Whole,
            Arrival::Restarted => Verdict::Anew,
            Arrival::Failed | Arrival::Bytes(_) => Verdict::Lost,
        }
    }
}

/// The bytes of a blob, as they come.
#[derive(Debug)]
pub(super) struct ArrivingReader<T> {
    tidings: T,
    path: PathBuf,
    /// Opened when the first bytes are there.
    file: Option<File>,
    offset: u64,
    /// So many bytes are in the file, as far as is known.
    there: u64,
}

impl<T: Tidings> Read for ArrivingReader<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.offset == self.there {
            match self.tidings.wait_beyond(self.offset) {
                Arrival::Bytes(bytes) => self.there = bytes,
                Arrival::Done => return Ok(0),
                Arrival::Restarted => return Err(io::Error::other("the blob arrives anew")),
                Arrival::Failed => return Err(io::Error::other("the blob does not arrive")),
            }
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(File::open(&self.path)?),
        };
        let most = usize::try_from(self.there - self.offset).unwrap_or(usize::MAX).min(buffer.len());
        let count = file.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            // It was cut: the pull begins again, which the verdict tells.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::fs;
    use std::io::Write as _;
    use std::sync::{Arc, Mutex};

    type Act = Box<dyn FnMut() + Send>;

    /// Tells what is written down, and does it first. All clones read the same list.
    #[derive(Clone)]
    struct Script(Arc<Mutex<VecDeque<(Act, Arrival)>>>);

    impl Tidings for Script {
        fn wait_beyond(&mut self, _: u64) -> Arrival {
            let (mut act, arrival) = self.0.lock().unwrap().pop_front().expect("nothing else is asked");
            act();
            arrival
        }
    }

    fn script(path: &Path, steps: &[(&[u8], Arrival)]) -> Arriving<Script> {
        let act = |bytes: &[u8]| -> Act {
            let (path, bytes) = (path.to_owned(), bytes.to_owned());
            Box::new(move || {
                let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
                file.write_all(&bytes).unwrap();
            })
        };
        let steps = steps.iter().map(|(bytes, arrival)| (act(bytes), *arrival)).collect();
        Arriving::new(Script(Arc::new(Mutex::new(steps))), path)
    }

    #[test]
    fn reads_what_is_there_and_waits_for_the_rest() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("blob");
        // More is in the file at times than was told: a connection may break after any byte.
        let steps: [(&[u8], _); 4] = [
            (b"abcde", Arrival::Bytes(3)),
            (b"f", Arrival::Bytes(6)),
            (b"", Arrival::Done),
            (b"", Arrival::Done),
        ];
        let mut blob = script(&path, &steps);
        let mut reader = blob.reader();
        let mut buffer = [0; 16];
        assert_eq!(reader.read(&mut buffer).unwrap(), 3);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"def");
        assert_eq!(blob.verdict(), Verdict::Whole);
    }

    #[test]
    fn what_arrives_anew_is_read_anew() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("blob");
        let steps: [(&[u8], _); 6] = [
            (b"wrong", Arrival::Bytes(5)),
            (b"", Arrival::Restarted),
            (b"", Arrival::Restarted),
            (b" and right", Arrival::Bytes(15)),
            (b"", Arrival::Done),
            (b"", Arrival::Done),
        ];
        let mut blob = script(&path, &steps);
        let mut all = Vec::new();
        assert!(blob.reader().read_to_end(&mut all).is_err());
        assert_eq!(blob.verdict(), Verdict::Anew);
        all.clear();
        blob.reader().read_to_end(&mut all).unwrap();
        assert_eq!((&all[..], blob.verdict()), (&b"wrong and right"[..], Verdict::Whole));
    }

    #[test]
    fn a_blob_that_is_cut_or_lost_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("blob");
        let mut all = Vec::new();
        let steps: [(&[u8], _); 2] = [(b"abc", Arrival::Bytes(9)), (b"", Arrival::Failed)];
        let mut blob = script(&path, &steps);
        let error = blob.reader().read_to_end(&mut all).unwrap_err();
        assert_eq!((error.kind(), blob.verdict()), (io::ErrorKind::UnexpectedEof, Verdict::Lost));
        // Given up before anything came: there is no file to open.
        let steps: [(&[u8], _); 1] = [(b"", Arrival::Failed)];
        assert!(script(&place.path().join("none"), &steps).reader().read(&mut [0; 4]).is_err());
    }
}
