//! How many requests one host gets at a time.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Good answers after which one more request at a time is dared again.
const GOOD_ANSWERS: u32 = 20;

/// Parallelism towards one host: halved by each 429, growing back one by one.
#[derive(Debug)]
pub(super) struct Limiter {
    slots: Arc<Semaphore>,
    state: Mutex<State>,
    most: usize,
}

#[derive(Debug)]
struct State {
    allowed: usize,
    /// Slots that are to vanish once they are given back.
    owed: usize,
    good: u32,
}

/// The right to have one request in flight.
#[derive(Debug)]
pub(super) struct Slot {
    limiter: Arc<Limiter>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Limiter {
    /// At most `most` requests at a time.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let most = most.max(1);
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(most)),
            state: Mutex::new(State { allowed: most, owed: 0, good: 0 }),
            most,
        })
    }

    /// Waits for a slot.
    pub(super) async fn acquire(self: &Arc<Self>) -> Slot {
        let permit = Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed");
        Slot { limiter: Arc::clone(self), permit: Some(permit) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host answered 429.
    pub(super) fn throttled(&self) {
        let mut state = self.state();
        let fewer = (state.allowed / 2).max(1);
        let surplus = state.allowed - fewer;
        state.owed += surplus - self.slots.forget_permits(surplus);
        state.allowed = fewer;
        state.good = 0;
    }

    /// The host answered as it should.
    pub(super) fn good(&self) {
        let mut state = self.state();
        state.good += 1;
        if state.good >= GOOD_ANSWERS && state.allowed < self.most {
            state.good = 0;
            state.allowed += 1;
            if state.owed > 0 {
                state.owed -= 1;
            } else {
                self.slots.add_permits(1);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.limiter.state();
        if state.owed > 0
            && let Some(permit) = self.permit.take()
        {
            state.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn halves_and_grows_back() {
        let limiter = Limiter::new(4);
        let slots = [limiter.acquire().await, limiter.acquire().await, limiter.acquire().await];
        limiter.throttled();
        limiter.throttled();
        assert_eq!(limiter.state().allowed, 1);
        drop(slots);
        assert_eq!(limiter.slots.available_permits(), 1);
        for _ in 0..200 {
            limiter.good();
        }
        assert_eq!(limiter.slots.available_permits(), 4);
    }
}
