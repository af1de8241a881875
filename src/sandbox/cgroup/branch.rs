//! The build's own cgroup in one hierarchy, in which its commands get theirs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;

use super::error::{CgroupError, explain};
use super::find::Hierarchies;
use super::limits::{Controller, Version};

/// What all names of cgroups made here begin with.
const PREFIX: &str = "fanfold-build-";
/// Where a divided cgroup's processes are: in this one below the build's.
const OWN: &str = "self";
const PROCESSES: &str = "cgroup.procs";
const DIVIDED: &str = "cgroup.subtree_control";
/// How often another name is tried.
const TRIES: u32 = 16;
/// Processes that were killed are in their cgroup a moment longer than anybody can wait for them.
const PATIENCE: Duration = Duration::from_secs(2);

/// The build's cgroup below the one that the build was started in.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) version: Version,
    pub(super) controllers: Vec<Controller>,
    /// The cgroup that the build was started in.
    parent: PathBuf,
    /// The build's cgroup.
    pub(super) directory: PathBuf,
    /// Controllers of the parent that were not in use below it before.
    enabled: Vec<Controller>,
    /// Whether this process was moved out of the parent.
    moved: bool,
    /// Locked, so that others see that somebody uses it.
    _lock: File,
}

impl Branch {
    /// Makes a cgroup in each hierarchy that it takes for these controllers.
    pub(super) fn make_all(
        hierarchies: &Hierarchies,
        controllers: &[Controller],
    ) -> Result<Vec<Self>, CgroupError> {
        let mut places: BTreeMap<(Version, PathBuf), Vec<Controller>> = BTreeMap::new();
        let mut refusals = Vec::new();
        for controller in controllers {
            match place(hierarchies, *controller) {
                Ok(place) => places.entry(place).or_default().push(*controller),
                Err((two, one)) => refusals.push((vec![*controller], two, one)),
            }
        }
        let mut branches: Vec<Self> = Vec::new();
        for ((version, parent), controllers) in places {
            remove_leftovers(&parent);
            match Self::make(version, &parent, &controllers) {
                Ok(branch) => branches.push(branch),
                Err(two) if version == Version::Two => {
                    let one = "these controllers belong to v2 here".to_owned();
                    refusals.push((controllers, two, one));
                }
                Err(one) => {
                    let first = controllers.first().copied().unwrap_or(Controller::Memory);
                    let two = offered(hierarchies, first).err().unwrap_or_default();
                    refusals.push((controllers, two, one));
                }
            }
        }
        if refusals.is_empty() {
            return Ok(branches);
        }
        branches.iter().for_each(Self::remove);
        Err(CgroupError::refused(&refusals))
    }

    fn make(version: Version, parent: &Path, controllers: &[Controller]) -> Result<Self, String> {
        let (directory, lock) = make_directory(parent)?;
        let mut branch = Self {
            version,
            controllers: controllers.to_vec(),
            parent: parent.to_owned(),
            directory,
            enabled: Vec::new(),
            moved: false,
            _lock: lock,
        };
        let made = match version {
            Version::One => Ok(()),
            Version::Two => branch.divide(),
        };
        match made {
            Ok(()) => Ok(branch),
            Err(reason) => {
                branch.remove();
                Err(reason)
            }
        }
    }

    /// Has the controllers of version 2 passed down to the commands' cgroups.
    fn divide(&mut self) -> Result<(), String> {
        let used = read(&self.parent.join(DIVIDED))?;
        let lacking: Vec<_> =
            self.controllers.iter().copied().filter(|wanted| !has(&used, *wanted)).collect();
        if !lacking.is_empty() {
            self.leave_parent()?;
            change(&self.parent, '+', &lacking)?;
            self.enabled = lacking;
        }
        change(&self.directory, '+', &self.controllers)
    }

    /// Moves this process one floor down, as a divided cgroup holds no processes itself.
    fn leave_parent(&mut self) -> Result<(), String> {
        // The topmost cgroup of a machine, which alone has no type, is exempt.
        if !self.parent.join("cgroup.type").exists() {
            return Ok(());
        }
        let own = std::process::id().to_string();
        let processes = read(&self.parent.join(PROCESSES))?;
        if let Some(other) = processes.lines().find(|line| *line != own) {
            return Err(format!(
                "{} cannot be divided, as process {other} is in it too: it takes a cgroup of its own",
                self.parent.display()
            ));
        }
        let inner = self.directory.join(OWN);
        fs::create_dir(&inner).map_err(|error| explain("making", &inner, &error))?;
        write(&inner.join(PROCESSES), "0")?;
        self.moved = true;
        Ok(())
    }

    /// Undoes everything, as far as others let us.
    pub(super) fn remove(&self) {
        for inner in directories(&self.directory) {
            if inner.file_name().is_some_and(|name| name != OWN) {
                // What is in use after all is left to the next build.
                drop(remove_directory(&inner));
            }
        }
        if !self.enabled.is_empty() {
            // Refused while another build uses them, and then they have to stay.
            drop(change(&self.directory, '-', &self.controllers));
            drop(change(&self.parent, '-', &self.enabled));
        }
        if self.moved {
            drop(write(&self.parent.join(PROCESSES), "0"));
            drop(remove_directory(&self.directory.join(OWN)));
        }
        drop(remove_directory(&self.directory));
    }
}

/// The cgroup of version 2 where it offers a controller, or why it does not.
fn offered(hierarchies: &Hierarchies, controller: Controller) -> Result<PathBuf, String> {
    let directory = hierarchies.two.clone()?;
    if has(&read(&directory.join("cgroup.controllers"))?, controller) {
        return Ok(directory);
    }
    Err(format!("{} has no {} controller", directory.display(), controller.name()))
}

/// The cgroup of this process in which a controller can be used, or why neither version has one.
fn place(hierarchies: &Hierarchies, controller: Controller) -> Result<(Version, PathBuf), (String, String)> {
    match offered(hierarchies, controller) {
        Ok(directory) => Ok((Version::Two, directory)),
        Err(two) => match hierarchies.one(controller) {
            Ok(directory) => Ok((Version::One, directory)),
            Err(one) => Err((two, one)),
        },
    }
}

/// Makes and locks a cgroup with a name that nobody else has.
fn make_directory(parent: &Path) -> Result<(PathBuf, File), String> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let process = std::process::id();
    for attempt in 0..TRIES {
        let directory = parent.join(format!("{PREFIX}{process:08x}-{time:016x}-{attempt:08x}"));
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made.map_err(|error| explain("making", &directory, &error))?,
        }
        // Another build may have taken it for a leftover before it was locked.
        if let Some(lock) = hold(&directory) {
            return Ok((directory, lock));
        }
    }
    Err(format!("others remove what is made in {}", parent.display()))
}

/// Locks a cgroup that is there and that nobody else holds.
fn hold(directory: &Path) -> Option<File> {
    let file = File::open(directory).ok()?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    let (held, there) = (file.metadata().ok()?, fs::symlink_metadata(directory).ok()?);
    ((held.dev(), held.ino()) == (there.dev(), there.ino())).then_some(file)
}

/// Whether a name is one that [`make_directory`] gives: others may name theirs after this program too.
fn is_ours(name: &OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).map(|rest| rest.split('-'));
    let number = |part: &str| part.len() >= 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.is_some_and(|mut parts| parts.clone().count() == 3 && parts.all(number))
}

/// Removes the cgroups of builds that were killed. The kernel removes none with processes in it.
fn remove_leftovers(parent: &Path) {
    for directory in directories(parent) {
        if !directory.file_name().is_some_and(is_ours) {
            continue;
        }
        let Some(_lock) = hold(&directory) else { continue };
        for inner in directories(&directory) {
            // Where processes are left in it, the build's cgroup stays, and is met again.
            drop(fs::remove_dir(inner));
        }
        drop(fs::remove_dir(directory));
    }
}

fn directories(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Removes a cgroup once its last process is gone.
pub(super) fn remove_directory(directory: &Path) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => return result,
        }
    }
}

/// Passes controllers down to the cgroups below, or no longer.
fn change(directory: &Path, sign: char, controllers: &[Controller]) -> Result<(), String> {
    let words: Vec<_> = controllers.iter().map(|controller| format!("{sign}{}", controller.name())).collect();
    write(&directory.join(DIVIDED), &words.join(" "))
}

/// Whether a list of controllers, as the kernel writes it, has one.
fn has(list: &str, controller: Controller) -> bool {
    list.split_whitespace().any(|name| name == controller.name())
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| explain("reading", file, &error))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    put(file, text).map_err(|error| explain("writing to", file, &error))
}

/// Writes to a file of a cgroup, which is there already, in one call.
pub(super) fn put(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

/// Puts a process into a cgroup.
pub(super) fn attach(directory: &Path, process: i32) -> io::Result<()> {
    put(&directory.join(PROCESSES), &process.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cgroups_of_builds_are_leftovers() {
        let made = format!("{PREFIX}{:08x}-{:016x}-{:08x}", 17, 1_700_000_000_000_000_000_u64, 0);
        assert!(is_ours(OsStr::new(&made)));
        for name in
            ["fanfold-test-1", "fanfold-build-1", "fanfold-build-a-b-c", "fanfold-build-", "user.slice"]
        {
            assert!(!is_ours(OsStr::new(name)), "{name}");
        }
    }
}
