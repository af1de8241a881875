//! Stopping a build.

use std::sync::{Arc, Mutex};

use crate::layer::Halt;
use crate::sandbox::Killer;

/// Stops a build's commands, and its work on layers. Clones stand for the same build.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Cancelled>);

#[derive(Debug, Default)]
struct Cancelled {
    halt: Halt,
    running: Mutex<Vec<Option<Killer>>>,
}

impl Cancel {
    /// Kills every command that runs, and lets no other begin. Work on layers ends soon.
    pub fn cancel(&self) {
        self.0.halt.ask();
        if let Ok(running) = self.0.running.lock() {
            for killer in running.iter().flatten() {
                // A command that has ended in the meantime needs no killing.
                drop(killer.kill());
            }
        }
    }

    /// Whether the build was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.halt.is_asked()
    }

    /// Ends work on layers.
    pub(super) fn halt(&self) -> &Halt {
        &self.0.halt
    }

    /// Remembers a running command until the guard is dropped. One that begins while the build is
    /// being stopped is killed at once.
    pub(super) fn guard(&self, killer: Killer) -> Guard<'_> {
        let place = self.0.running.lock().map_or(usize::MAX, |mut running| {
            running.push(Some(killer.clone()));
            running.len() - 1
        });
        if self.is_cancelled() {
            drop(killer.kill());
        }
        Guard { cancel: self, place }
    }
}

/// A command that runs and can be stopped.
pub(super) struct Guard<'a> {
    cancel: &'a Cancel,
    place: usize,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Ok(mut running) = self.cancel.0.running.lock()
            && let Some(place) = running.get_mut(self.place)
        {
            *place = None;
        }
    }
}
