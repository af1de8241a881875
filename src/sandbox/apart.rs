//! Work in a process of its own, so that this one keeps its one thread.

use rustix::process::set_parent_process_death_signal;

use super::enter::{Ended, block_signals, stand_alone, supervise};
use super::refusal::EnterError;
use super::sys;

/// Exit code of a child that could not begin.
const NOT_BEGUN: i32 = 125;

/// Forks, does `work` in the child, which ends with the code that it gives, and waits for that,
/// forwarding signals. The child may start threads; it dies with this process.
///
/// Call it while the process has one thread.
///
/// # Errors
///
/// Fails where the process cannot be forked or waited for.
pub fn apart(work: impl FnOnce() -> i32) -> Result<Ended, EnterError> {
    let parent = rustix::process::getpid();
    let old_mask = block_signals()?;
    let forked = sys::clone_process(0).map_err(EnterError::clone_failed).and_then(|child| match child {
        Some(child) => supervise(child),
        None => {
            let begun = set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).is_ok()
                // It may have died before.
                && rustix::process::getppid() == Some(parent)
                && stand_alone(old_mask).is_ok();
            sys::exit_now(if begun { work() } else { NOT_BEGUN })
        }
    });
    old_mask.thread_set_mask().map_err(|error| EnterError::call("sigprocmask", error))?;
    forked
}
