//! Ending every process that came from this one, where no process namespace does it.
//!
//! A process that calls [`adopt`] becomes the parent of all orphans below it, so none can leave the
//! tree of its descendants.
//!
//! Invariant: a process is signalled by a descriptor that was opened before it was looked at again: an
//! id that went to another process in the meantime does no harm.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long ending them may take. A process in the midst of a call to a disk dies after the call.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(2);

/// Processes that were there before, with what came from them: they are left alone.
#[derive(Debug, Default)]
pub(super) struct Spared(HashSet<i32>);

/// One process as /proc shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    parent: i32,
    /// Dead, and waiting for its parent to take note.
    dead: bool,
}

impl Spared {
    /// The children that this process has already, such as the background jobs of a shell that it
    /// has replaced.
    pub(super) fn now() -> io::Result<Self> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let children = table()?.into_iter().filter(|(_, seen)| seen.parent == own && !seen.dead);
        Ok(Self(children.map(|(pid, _)| pid).collect()))
    }
}

/// Whether orphans below this process become its children, instead of children of process 1.
pub(super) fn adopt(orphans: bool) -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(orphans)?)
}

/// Kills all descendants but the spared ones, and returns when none is left.
///
/// # Errors
///
/// Fails when /proc cannot be read, and when some are still there after 20 seconds.
pub(super) fn end_descendants(spared: &Spared) -> io::Result<()> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let deadline = Instant::now() + PATIENCE;
    loop {
        if reap() {
            return Ok(());
        }
        let found = table()?;
        let living = descendants(&found, own, spared);
        if living.is_empty() {
            return Ok(());
        }
        // A stopped process cannot start others: no race against one that forks.
        let handles: Vec<_> = living.iter().filter_map(|pid| hold(*pid, &living, own)).collect();
        for signal in [Signal::STOP, Signal::KILL] {
            for handle in &handles {
                // It may have ended by itself.
                let _ = pidfd_send_signal(handle, signal);
            }
        }
        if Instant::now() > deadline {
            let left = living.len();
            return Err(io::Error::other(format!("{left} processes of the command cannot be killed")));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Takes note of children that have ended; true when no child is left.
fn reap() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return true,
        }
    }
}

/// A descriptor of a process that is still a descendant.
fn hold(pid: i32, living: &HashSet<i32>, own: i32) -> Option<std::os::fd::OwnedFd> {
    let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let now = parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)?;
    (now.parent == own || living.contains(&now.parent)).then_some(handle)
}

/// Every process that can be seen.
fn table() -> io::Result<HashMap<i32, Seen>> {
    let mut found = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended since.
        if let Some(seen) = fs::read(format!("/proc/{pid}/stat")).ok().and_then(|text| parse(&text)) {
            found.insert(pid, seen);
        }
    }
    Ok(found)
}

/// Reads `/proc/PID/stat`; the name of the program, in parentheses, may hold anything.
fn parse(stat: &[u8]) -> Option<Seen> {
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(stat.get(after + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X");
    Some(Seen { parent: fields.next()?.parse().ok()?, dead })
}

/// The living processes below `own`.
fn descendants(found: &HashMap<i32, Seen>, own: i32, spared: &Spared) -> HashSet<i32> {
    let mut all = HashSet::from([own]);
    loop {
        let more: Vec<i32> = found
            .iter()
            .filter(|(pid, seen)| all.contains(&seen.parent) && !all.contains(pid) && !spared.0.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    all.remove(&own);
    all.retain(|pid| !found[pid].dead);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_are_read() {
        let seen = |parent, dead| Some(Seen { parent, dead });
        assert_eq!(parse(b"12 (sh) S 7 12 12 0"), seen(7, false));
        assert_eq!(parse(b"12 (a) Z 1 (b\xff) Z 7 12"), seen(7, true));
        assert_eq!(parse(b"12 (sh) S"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn only_what_came_from_us_is_a_descendant() {
        let rows = [(1, 0, false), (5, 1, false), (6, 5, false), (7, 6, true), (8, 7, false), (9, 5, false)];
        let found = rows.into_iter().map(|(pid, parent, dead)| (pid, Seen { parent, dead })).collect();
        let spared = Spared(HashSet::from([9]));
        assert_eq!(descendants(&found, 5, &spared), HashSet::from([6, 8]));
        assert_eq!(descendants(&found, 8, &spared), HashSet::new());
    }
}
