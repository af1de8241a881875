//! What a build must leave as it found it on the host.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Mounts and binary formats of the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostState {
    mounts: String,
    binary_formats: BTreeSet<String>,
}

impl HostState {
    /// The state now.
    pub(crate) fn now() -> Self {
        let binary_formats = std::fs::read_dir("/proc/sys/fs/binfmt_misc")
            .map(|entries| {
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
            })
            .unwrap_or_default();
        Self {
            mounts: std::fs::read_to_string("/proc/self/mounts").expect("/proc/self/mounts"),
            binary_formats,
        }
    }

    /// Asserts that nothing has changed since.
    #[track_caller]
    pub(crate) fn unchanged(&self) {
        assert_eq!(*self, Self::now(), "the host's mounts or binary formats have changed");
    }

    /// True if a process runs whose command line holds `mark`.
    pub(crate) fn process_runs(mark: &str) -> bool {
        !processes(mark).is_empty()
    }

    /// Asserts that within a few seconds no process is left whose command line
    /// holds `mark`.
    #[track_caller]
    pub(crate) fn no_process(mark: &str) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left = processes(mark);
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "processes are left: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Pids and command lines of the processes whose command line holds `mark`.
fn processes(mark: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(mark).then(|| format!("{pid}: {line}"))
        })
        .collect()
}
