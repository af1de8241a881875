//! What a build must leave as it found it on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Mounts, binary formats, devices, cgroups and files of the host.
///
/// Other tests and other programs work beside a test, so it holds only what none of them changes:
/// of `/tmp` and its like the names that could be fanfold's, of cgroups those that could be
/// fanfold's and hold no process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostState {
    mounts: String,
    /// Name and content of each entry of binfmt_misc.
    binary_formats: BTreeMap<String, String>,
    /// Path and metadata, without the time of the last write to a device.
    files: BTreeMap<PathBuf, String>,
    temporary: BTreeSet<PathBuf>,
    cgroups: BTreeSet<PathBuf>,
}

/// Devices that a build could remove, replace or give away.
const DEVICES: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"];

/// Folders for what is there for a while only.
const TEMPORARY: [&str; 5] = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock"];

/// What the tests themselves make there.
const OURS: [&str; 4] = ["fanfold-test-", "fanfold-registry-", "fanfold-engine-", "fanfold-proxy-"];

impl HostState {
    /// The state now.
    pub(crate) fn now() -> Self {
        let mut files = BTreeMap::new();
        for name in DEVICES {
            let path = Path::new("/dev").join(name);
            if let Ok(metadata) = path.symlink_metadata() {
                let (mode, uid, gid, device) =
                    (metadata.mode(), metadata.uid(), metadata.gid(), metadata.rdev());
                files.insert(path, format!("{mode:o} {uid}:{gid} device {device}"));
            }
        }
        for path in ["/", "/etc", "/dev", "/tmp"].map(PathBuf::from).into_iter().chain(entries("/etc")) {
            if let Ok(metadata) = path.symlink_metadata() {
                let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
                let (size, time) = (metadata.size(), metadata.mtime());
                let content =
                    if metadata.is_dir() { String::new() } else { format!(" {size} bytes, of {time}") };
                files.insert(path, format!("{mode:o} {uid}:{gid}{content}"));
            }
        }
        let formats = entries("/proc/sys/fs/binfmt_misc").into_iter().filter_map(|path| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some((name, std::fs::read_to_string(&path).unwrap_or_default()))
        });
        Self {
            mounts: std::fs::read_to_string("/proc/self/mounts").expect("/proc/self/mounts"),
            binary_formats: formats.collect(),
            files,
            temporary: TEMPORARY.iter().flat_map(entries).filter(|path| is_fanfolds(path)).collect(),
            cgroups: empty_cgroups(),
        }
    }

    /// Asserts that nothing has changed since, or within seconds has become as it was. A cgroup
    /// may be gone: it was another's.
    #[track_caller]
    pub(crate) fn unchanged(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let mut now = Self::now();
            let grown = now.cgroups.difference(&self.cgroups).next().is_some()
                || now.temporary.difference(&self.temporary).next().is_some();
            if !grown {
                now.cgroups.clone_from(&self.cgroups);
                now.temporary.clone_from(&self.temporary);
            }
            // What other tests do beside this one takes a moment.
            if *self == now {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the host has changed:\n{}",
                self.differences(&now).join("\n")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// One line for each that has come or gone.
    fn differences(&self, now: &Self) -> Vec<String> {
        let lines = |state: &Self| {
            let mounts = state.mounts.lines().map(|line| format!("mount {line}"));
            let formats =
                state.binary_formats.iter().map(|(name, text)| format!("binary format {name}: {text:?}"));
            let files = state.files.iter().map(|(path, text)| format!("{}: {text}", path.display()));
            let others = state.temporary.iter().chain(&state.cgroups).map(|path| path.display().to_string());
            mounts.chain(formats).chain(files).chain(others).collect::<BTreeSet<_>>()
        };
        let (before, after) = (lines(self), lines(now));
        let gone = before.difference(&after).map(|line| format!("- {line}"));
        gone.chain(after.difference(&before).map(|line| format!("+ {line}"))).collect()
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

/// Paths of what is in a folder; nothing if it cannot be read.
fn entries(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

/// Whether a build may have made a path, and not a test.
fn is_fanfolds(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.contains("fanfold") && !OURS.iter().any(|prefix| name.starts_with(prefix))
}

/// Cgroups that a build may have made and in which nobody is, nor a cgroup.
fn empty_cgroups() -> BTreeSet<PathBuf> {
    let mut empty = BTreeSet::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        // Links name the same hierarchy twice.
        let is_folder = |path: &PathBuf| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        let inner: Vec<_> = entries(&folder).into_iter().filter(is_folder).collect();
        let used = || std::fs::read_to_string(folder.join("cgroup.procs")).is_ok_and(|text| !text.is_empty());
        if inner.is_empty() && is_fanfolds(&folder) && !used() {
            empty.insert(folder);
        }
        folders.extend(inner);
    }
    empty
}

/// Pids and command lines of the processes whose command line holds `mark`.
fn processes(mark: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    entries("/proc")
        .into_iter()
        .filter_map(|path| {
            let pid = path.file_name()?.to_string_lossy().into_owned();
            if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let line = std::fs::read(path.join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(mark).then(|| format!("{pid}: {line}"))
        })
        .collect()
}
