//! Removing directories while the build goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

/// Removes directories with all that is in them: at once, or on a thread once there is one.
///
/// On a disk that others keep busy each directory may take milliseconds.
#[derive(Debug, Default)]
pub(super) struct Sweeper(Mutex<Option<(Sender<PathBuf>, JoinHandle<()>)>>);

impl Sweeper {
    /// Starts the thread. Where there can be none, all stays as it was.
    pub(super) fn start(&self) {
        let Ok(mut worker) = self.0.lock() else { return };
        if worker.is_some() {
            return;
        }
        let (queue, paths) = mpsc::channel::<PathBuf>();
        let started = thread::Builder::new()
            .name("sweeper".to_owned())
            .spawn(move || paths.into_iter().for_each(|path| remove(&path)));
        *worker = started.ok().map(|thread| (queue, thread));
    }

    /// Removes a directory or a file.
    pub(super) fn remove(&self, path: PathBuf) {
        let refused = match self.0.lock().as_deref() {
            Ok(Some((queue, _))) => queue.send(path).err().map(|refused| refused.0),
            _ => Some(path),
        };
        if let Some(path) = refused {
            remove(&path);
        }
    }

    /// Waits until all is removed, and ends the thread.
    pub(super) fn finish(&self) {
        let worker = self.0.lock().ok().and_then(|mut worker| worker.take());
        if let Some((queue, thread)) = worker {
            drop(queue);
            // A thread that has panicked has nothing more to say.
            drop(thread.join());
        }
    }
}

fn remove(path: &Path) {
    // What cannot be removed now is tried again by a later build.
    drop(fs::remove_dir_all(path).or_else(|_| fs::remove_file(path)));
}
