//! How far a pull has got with its file, for somebody who reads the file while it grows.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Told by a pull how many bytes are in its file; made before the pull, handed to it, and used once.
///
/// Who wants to read along takes a [`Follower`] and opens the file with a descriptor of its own. What is
/// in the file has **not** been verified before [`Arrival::Done`]: nothing that was made of it may be kept
/// under a name before.
#[derive(Debug, Clone, Default)]
pub struct Follow {
    inner: Arc<Inner>,
}

/// Waits for the bytes of a file that a pull fills. For threads that may block.
///
/// The file exists once the first call returned something else than [`Arrival::Failed`]. It stays the same
/// file, also when the pull begins anew; it is then cut, so that a read may meet its end or other bytes
/// than promised: ask again after every read that is short, and before what was made is put to use.
#[derive(Debug, Clone)]
pub struct Follower {
    inner: Arc<Inner>,
    generation: u64,
}

/// What a [`Follower`] is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// So many bytes are in the file, more than were asked about. Not verified yet.
    Bytes(u64),
    /// The content arrives anew from its first byte: what was made of it has to be dropped. Told before
    /// anything else, and once for several times that follow closely.
    Restarted,
    /// All bytes are in the file, and their digest is right.
    Done,
    /// The pull has failed or was given up, and the file is gone.
    Failed,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: u64,
    generation: u64,
    end: Option<bool>,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }
}

impl Follow {
    /// For a pull that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Somebody who reads along from the first byte.
    pub fn follower(&self) -> Follower {
        Follower { inner: Arc::clone(&self.inner), generation: 0 }
    }

    /// So many bytes are in the file.
    pub(super) fn reached(&self, bytes: u64) {
        self.inner.change(|state| state.bytes = bytes);
    }

    /// The file is about to be cut. Told before, so that nobody reads other bytes unknowingly.
    pub(super) fn restart(&self) {
        self.inner.change(|state| {
            state.bytes = 0;
            state.generation += 1;
        });
    }

    /// The pull is over.
    pub(super) fn end(&self, whole: bool) {
        self.inner.change(|state| {
            state.end.get_or_insert(whole);
        });
    }
}

impl Follower {
    /// Waits until the file has more than `offset` bytes, or something else has happened.
    pub fn wait_beyond(&mut self, offset: u64) -> Arrival {
        let mut state = self.inner.state();
        loop {
            if state.end == Some(false) {
                return Arrival::Failed;
            }
            if state.generation != self.generation {
                self.generation = state.generation;
                return Arrival::Restarted;
            }
            if state.bytes > offset {
                return Arrival::Bytes(state.bytes);
            }
            if state.end == Some(true) {
                return Arrival::Done;
            }
            state = self.inner.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Ends what is told of a pull, also when its future is dropped.
#[derive(Debug)]
pub(super) struct Ending<'a>(pub(super) Option<&'a Follow>);

impl Ending<'_> {
    /// The file is whole and verified.
    pub(super) fn whole(&self) {
        if let Some(follow) = self.0 {
            follow.end(true);
        }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(follow) = self.0 {
            follow.end(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_in_order() {
        let follow = Follow::new();
        let mut follower = follow.follower();
        follow.reached(10);
        assert_eq!(follower.wait_beyond(0), Arrival::Bytes(10));
        follow.restart();
        follow.reached(20);
        assert_eq!(follower.wait_beyond(10), Arrival::Restarted);
        let ending = Ending(Some(&follow));
        ending.whole();
        drop(ending);
        assert_eq!(follower.wait_beyond(10), Arrival::Bytes(20));
        assert_eq!(follower.wait_beyond(20), Arrival::Done);
        // A restart that nobody has seen is not passed over, whatever came after it.
        assert_eq!(follow.follower().wait_beyond(20), Arrival::Restarted);
    }

    #[test]
    fn wakes_those_who_wait() {
        let follow = Follow::new();
        let mut follower = follow.follower();
        let waiting = std::thread::spawn(move || (follower.wait_beyond(5), follower.wait_beyond(6)));
        follow.reached(3);
        follow.reached(6);
        drop(Ending(Some(&follow)));
        let (first, second) = waiting.join().unwrap();
        assert!(matches!(first, Arrival::Bytes(6) | Arrival::Failed), "{first:?}");
        assert_eq!(second, Arrival::Failed);
    }
}
