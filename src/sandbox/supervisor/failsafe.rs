//! A supervisor that survives a fault of its own.
//!
//! A thread that ends while it answers a call would leave the caller waiting for ever. The call fails
//! instead, and the step does when its command has ended.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use nix::libc;
use rustix::io::Errno;

use super::notification::{Answer, Handler};
use super::task::Task;

/// No call has this number.
const NONE: i64 = -1;

/// Answers calls as another handler does, as long as that does not panic.
#[derive(Debug)]
pub(super) struct Failsafe<H> {
    handler: H,
    /// The first call in which it did.
    failed: Arc<AtomicI64>,
}

/// Tells whether a supervisor has failed.
#[derive(Debug)]
pub(super) struct Health {
    failed: Arc<AtomicI64>,
}

impl<H: Handler> Failsafe<H> {
    /// Answers as `handler` does.
    pub(super) fn new(handler: H) -> (Self, Health) {
        let failed = Arc::new(AtomicI64::new(NONE));
        (Self { handler, failed: Arc::clone(&failed) }, Health { failed })
    }
}

impl<H: Handler> Handler for Failsafe<H> {
    fn handle(&self, task: &Task<'_>, call: libc::c_long, arguments: &[u64; 6]) -> Answer {
        // What handlers share is behind locks that are taken all the same when they are poisoned, and each
        // change of it is one step.
        catch_unwind(AssertUnwindSafe(|| self.handler.handle(task, call, arguments))).unwrap_or_else(|_| {
            let _ = self.failed.compare_exchange(NONE, call, Ordering::Relaxed, Ordering::Relaxed);
            Answer::Failed(Errno::IO)
        })
    }
}

impl Health {
    /// Says whether the supervisor has answered all calls.
    ///
    /// # Errors
    ///
    /// Names the first one in which it failed.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.failed.load(Ordering::Relaxed) {
            NONE => Ok(()),
            call => Err(io::Error::other(format!(
                "fanfold's supervisor failed to answer call {call} of the command; this is a fault of fanfold"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Panics;

    impl Handler for Panics {
        fn handle(&self, _: &Task<'_>, call: libc::c_long, _: &[u64; 6]) -> Answer {
            assert_ne!(call, libc::SYS_chown, "a fault");
            Answer::DONE
        }
    }

    #[test]
    fn a_fault_fails_its_call_and_is_known() {
        let proc = std::fs::File::open("/proc").unwrap().into();
        let task = Task::stopped(&proc, 1);
        let (handler, health) = Failsafe::new(Panics);
        assert!(matches!(handler.handle(&task, libc::SYS_getuid, &[0; 6]), Answer::Value(0)));
        health.check().unwrap();
        assert!(matches!(handler.handle(&task, libc::SYS_chown, &[0; 6]), Answer::Failed(Errno::IO)));
        assert!(matches!(handler.handle(&task, libc::SYS_getuid, &[0; 6]), Answer::Value(0)));
        let fault = health.check().unwrap_err().to_string();
        assert!(fault.contains(&libc::SYS_chown.to_string()), "{fault}");
    }
}
