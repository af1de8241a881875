//! Receiving calls and answering them.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
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
    /// It has to wait for another process: a thread of its own answers it.
    Later(Waiting),
}

/// How many calls may wait in threads of their own. Each keeps its caller waiting too, unless that was killed.
const WAITING_LIMIT: usize = 512;
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// What finds an answer that takes its time.
pub(super) struct Waiting(Box<dyn FnOnce() -> Answer + Send>);

impl Waiting {
    /// The answer is what `find` gives.
    pub(super) fn new(find: impl FnOnce() -> Answer + Send + 'static) -> Self {
        Self(Box::new(find))
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
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

impl<H: Handler + ?Sized> Handler for Arc<H> {
    fn handle(&self, task: &Task<'_>, call: libc::c_long, arguments: &[u64; 6]) -> Answer {
        (**self).handle(task, call, arguments)
    }
}

/// Answers calls until the last supervised process has gone. Any number of threads may do so at once.
pub(super) fn serve(listener: &Arc<OwnedFd>, proc: &OwnedFd, handler: &dyn Handler) {
    loop {
        match notify::receive(listener.as_fd()) {
            Ok(Some(notification)) => answer(listener, proc, handler, &notification),
            // A caller that is killed is told of like the end of all of them (since Linux 6.11), which
            // would be told of for ever.
            Ok(None) if has_no_caller(listener) => return,
            Ok(None) => {}
            // No process is left whose calls could arrive here.
            Err(_) => return,
        }
    }
}

/// Whether every process whose calls could arrive has ended.
fn has_no_caller(listener: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(listener.as_fd(), PollFlags::empty())];
    let found = poll(&mut watched, PollTimeout::ZERO);
    found.is_ok() && watched[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

fn answer(listener: &Arc<OwnedFd>, proc: &OwnedFd, handler: &dyn Handler, notification: &Notification) {
    let task = Task::new(proc, listener.as_fd(), notification.id, notification.thread);
    let answer = match handler.handle(&task, notification.call, &notification.arguments) {
        Answer::Later(waiting) => return answer_later(listener, notification.id, waiting),
        answer => answer,
    };
    send(listener, notification.id, answer);
}

/// Has a thread find the answer.
fn answer_later(listener: &Arc<OwnedFd>, id: u64, waiting: Waiting) {
    if WAITING.fetch_add(1, Ordering::Relaxed) >= WAITING_LIMIT {
        WAITING.fetch_sub(1, Ordering::Relaxed);
        return send(listener, id, Answer::Failed(Errno::NFILE));
    }
    let shared = Arc::clone(listener);
    let begun = std::thread::Builder::new().spawn(move || {
        send(&shared, id, (waiting.0)());
        WAITING.fetch_sub(1, Ordering::Relaxed);
    });
    if begun.is_err() {
        WAITING.fetch_sub(1, Ordering::Relaxed);
        send(listener, id, Answer::Failed(Errno::AGAIN));
    }
}

fn send(listener: &OwnedFd, id: u64, answer: Answer) {
    let response = match answer {
        Answer::Continue => Response::Continue,
        Answer::Value(value) => Response::Value(value),
        Answer::Failed(errno) => Response::Errno(errno.raw_os_error()),
        // An answer that was waited for is one.
        Answer::Later(_) => Response::Errno(nix::libc::EDEADLK),
        Answer::Descriptor { file, close_on_exec } => {
            match notify::respond_with_descriptor(listener.as_fd(), id, &file, close_on_exec) {
                Ok(_) => return,
                Err(error) => Response::Errno(error.raw_os_error().unwrap_or(libc::EIO)),
            }
        }
    };
    // A process that has gone needs no answer; another failure would leave it waiting, and is met by the
    // next call to receive.
    let sent: io::Result<()> = notify::respond(listener.as_fd(), id, response);
    drop(sent);
}
