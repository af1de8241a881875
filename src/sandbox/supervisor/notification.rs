//! Receiving calls and answering them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::super::sys::notify::{self, Notification, Response};
use super::task::Task;

/// What a call comes to.
#[derive(Debug)]
pub(super) enum Answer {
    /// The kernel carries it out.
    Continue,
    /// It has succeeded with this result.
    Value(i64),
    /// It has failed.
    Failed(Errno),
    /// It has opened a file.
    Descriptor {
        /// The file; the caller gets a copy.
        file: OwnedFd,
        /// Whether the copy is closed on exec.
        close_on_exec: bool,
    },
}

impl Answer {
    /// Success without a result.
    pub(super) const DONE: Self = Self::Value(0);
}

impl<E: Into<Errno>> From<Result<(), E>> for Answer {
    fn from(result: Result<(), E>) -> Self {
        result.map_or_else(|error| Self::Failed(error.into()), |()| Self::DONE)
    }
}

/// Answers calls. One that has to wait for another process is answered by a thread of its own.
pub(super) trait Handler: Send + Sync {
    /// Answers a call of the task.
    fn handle(&self, task: &Task<'_>, call: libc::c_long, arguments: &[u64; 6]) -> Answer;
}

use nix::libc;

/// Answers calls until the last supervised process has gone. Any number of threads may do so at once.
pub(super) fn serve(listener: &Arc<OwnedFd>, proc: &OwnedFd, handler: &dyn Handler) {
    loop {
        match notify::receive(listener.as_fd()) {
            Ok(Some(notification)) => answer(listener, proc, handler, &notification),
            Ok(None) => {}
            // No process is left whose calls could arrive here.
            Err(_) => return,
        }
    }
}

fn answer(listener: &OwnedFd, proc: &OwnedFd, handler: &dyn Handler, notification: &Notification) {
    let task = Task::new(proc, listener.as_fd(), notification.id, notification.thread);
    let answer = handler.handle(&task, notification.call, &notification.arguments);
    let response = match answer {
        Answer::Continue => Response::Continue,
        Answer::Value(value) => Response::Value(value),
        Answer::Failed(errno) => Response::Errno(errno.raw_os_error()),
        Answer::Descriptor { file, close_on_exec } => {
            match notify::respond_with_descriptor(listener.as_fd(), notification.id, &file, close_on_exec) {
                Ok(_) => return,
                Err(error) => Response::Errno(error.raw_os_error().unwrap_or(libc::EIO)),
            }
        }
    };
    // A process that has gone needs no answer; another failure would leave it waiting, and is met by the
    // next call to receive.
    let sent: io::Result<()> = notify::respond(listener.as_fd(), notification.id, response);
    drop(sent);
}
