//! RUN: a command on an overlay whose upper directory becomes the layer.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fanfold_platforms::Platform;

use super::staging::{Found, Staging};
use super::{Engine, EngineError, Layer, State, StepFailure};
use crate::image::Digest;
use crate::layer::{Content, LayerIndex, LayerPath, Scan, Tree, scan, settle_times, write_directory};
use crate::plan::{self, RunOp, StepId};
use crate::sandbox::{self, Ended, Killer, RunError, RunSpec, prepare_stubs, probe_overlay};

/// The host name that commands see: a constant, so that nothing of the machine gets into an image.
const HOSTNAME: &str = "fanfold";
/// What the sandbox calls looking up the user.
const USER_STEP: &str = "user";
const STUBS: &str = "stubs";
const MERGED: &str = "merged";
const RESOLV_CONF: &str = "resolv.conf";
const HOSTS: &str = "hosts";
/// Longest piece of a line that is handed on at once: a line without an end must not fill memory.
const LONGEST_LINE: u64 = 64 << 10;

/// One line that a command printed, without its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLine {
    /// Whether it came from standard error.
    pub stderr: bool,
    /// The bytes: untrusted.
    pub text: Vec<u8>,
}

/// Stops a build's commands. Clones stand for the same build.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Cancelled>);

#[derive(Debug, Default)]
struct Cancelled {
    asked: AtomicBool,
    running: Mutex<Vec<Option<Killer>>>,
}

impl Cancel {
    /// Kills every command that runs, and lets no other begin.
    pub fn cancel(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
        if let Ok(running) = self.0.running.lock() {
            for killer in running.iter().flatten() {
                // A command that has ended in the meantime needs no killing.
                drop(killer.kill());
            }
        }
    }

    /// Whether the build was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// Remembers a running command until the guard is dropped. One that begins while the build is
    /// being stopped is killed at once.
    fn guard(&self, killer: Killer) -> Guard<'_> {
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

struct Guard<'a> {
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

impl Engine {
    /// Runs a command on top of a stack; what it changed is the layer.
    ///
    /// Gives the layer, and remarks for people.
    ///
    /// # Errors
    ///
    /// Fails where the command ends with another status than 0, cannot be executed, or its root
    /// cannot be set up.
    pub fn run(
        &self,
        key: &Digest,
        op: &RunOp,
        platform: &Platform,
        below: &State,
        _inputs: &BTreeMap<StepId, State>,
        output: &(dyn Fn(OutputLine) + Sync),
    ) -> Result<(Layer, Vec<String>), EngineError> {
        let sandbox = self.settings.sandbox.as_ref().ok_or(EngineError::NoSandbox)?;
        let tree = self.tree(below)?;
        let new = self.store().begin_layer()?;
        let upper = new.directory();
        make_upper(&upper, &tree).map_err(EngineError::io("create the upper directory"))?;
        self.make_cwd(op, below, &tree, &upper)?;
        let work = self.store().scratch_dir()?;
        let mounts = self.mount_points()?;
        let place = |name: &str| mounts.join(name);
        let repairs = self.store().scratch_file();
        let lowers = self.lowers(below, &tree, place(STUBS), repairs.path())?;
        let spec = RunSpec {
            lowers,
            upper: upper.clone(),
            work: work.path().to_owned(),
            merged: place(MERGED),
            argv: op.argv.iter().map(|word| word.clone().into_bytes()).collect(),
            env: self.environment(op, platform),
            cwd: op.cwd.clone().into_bytes(),
            user: op.user.clone(),
            network: match op.network {
                plan::Network::Host => sandbox::Network::Host,
                plan::Network::None => sandbox::Network::None,
            },
            hostname: HOSTNAME.to_owned(),
            resolv_conf: place(RESOLV_CONF),
            hosts: place(HOSTS),
            extra_hosts: op.extra_hosts.clone(),
            binds: Vec::new(),
            shm_size: op.shm_size,
            ulimits: op.ulimits.clone(),
            linux32: is_smaller_half(&Platform::host(), platform),
        };
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let spawned = sandbox.spawn(&spec)?;
        let _guard = self.cancel.guard(spawned.running.killer());
        std::thread::scope(|scope| {
            let stderr = spawned.stderr;
            scope.spawn(move || forward(stderr, true, output));
            forward(spawned.stdout, false, output);
        });
        let ended = spawned.running.wait();
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let end = ended.map_err(|error| match error {
            RunError::Exec { message, code } => EngineError::Step(StepFailure::Command {
                command: op.argv.join(" "),
                how: message,
                code: Some(code),
                signal: None,
            }),
            RunError::Setup { step, message } if step == USER_STEP => StepFailure::refused(message)
                .with_hint(format!(
                    "name a user that the image's /etc/passwd has, or a number, instead of `{}`",
                    op.user
                ))
                .into(),
            other => EngineError::Sandbox(other),
        })?;
        check(op, end.ended)?;

        let stubs = end.stubs_left.iter().map(LayerPath::new).collect::<Result<Vec<_>, _>>()?;
        let Scan { changes, notes } = scan(&upper, &tree, &stubs)?;
        settle_times(&upper, &changes, self.settings.epoch)?;
        let id = self.fresh_layer(key);
        let index = LayerIndex::from_changes(&changes, self.settings.epoch)?;
        self.store().finish_layer(&id, &new, &index.encode())?;
        self.remember(&id, index);
        let notes = notes.iter().map(|note| format!("{} is a {} and not in the image", note.path, note.what));
        Ok((Layer::made(id), self.unmapped_owners(below, &tree).into_iter().chain(notes).collect()))
    }

    /// A remark for each layer with files of users that this build's namespace does not have: the
    /// command has seen them as root's. Said once for each layer.
    fn unmapped_owners(&self, below: &State, tree: &Tree) -> Vec<String> {
        let (Some(sandbox), Ok(mut looked_at)) = (&self.settings.sandbox, self.looked_at.lock()) else {
            return Vec::new();
        };
        let mapping = sandbox.mapping();
        let layers = below.layers.iter().zip(tree.layers());
        layers
            .filter(|(layer, _)| !mapping.identity && looked_at.insert(layer.id))
            .filter_map(|(_, index)| {
                let stranger = index.entries().find(|entry| !mapping.has(entry.uid, entry.gid))?;
                Some(format!(
                    "{} belongs to {}:{}, which is beyond this user's subordinate ids: commands see it as root's",
                    stranger.path, stranger.uid, stranger.gid
                ))
            })
            .collect()
    }

    /// Makes the working directory where it is missing, as part of the command's changes: an image may
    /// name one that it does not hold, and an earlier command may have removed it.
    fn make_cwd(&self, op: &RunOp, below: &State, tree: &Tree, upper: &Path) -> Result<(), EngineError> {
        let mut staging = Staging::new(tree, self.file_time());
        let path = staging.resolve(op.cwd.as_bytes())?;
        if staging.found(&path) == Found::Directory {
            return Ok(());
        }
        let owner = self.user(below, tree, &op.user)?;
        staging.make_directories(&path, 0o755, owner)?;
        write_directory(&staging.into_changes(), self.settings.epoch, upper)?;
        Ok(())
    }

    /// The lower directories, stubs for mount points lowest.
    fn lowers(
        &self,
        below: &State,
        tree: &Tree,
        stubs: PathBuf,
        repairs: &Path,
    ) -> Result<Vec<PathBuf>, EngineError> {
        let directories =
            below.layers.iter().map(|layer| self.directory(layer)).collect::<Result<Vec<_>, _>>()?;
        let content =
            |layer: usize, path: &LayerPath| Content::File(directories[layer].join(path.as_os_path()));
        let changes = tree.repairs(&content)?;
        // An overlay shows the top directories of all layers, whatever a layer says to hide.
        let first = tree.layers().iter().rposition(|index| index.hides_all()).unwrap_or(0);
        // A layer may stand in an image twice, and an overlay takes each directory once: what the lower
        // one says, the upper one says again.
        let is_last = |at: usize| !directories[at + 1..].contains(&directories[at]);
        let distinct = directories.iter().enumerate().skip(first).filter(|(at, _)| is_last(*at));
        let mut lowers = vec![stubs];
        lowers.extend(distinct.map(|(_, directory)| directory.clone()));
        if !changes.is_empty() {
            fs::create_dir(repairs).map_err(EngineError::io("create a lower directory"))?;
            write_directory(&changes, None, repairs)?;
            lowers.push(repairs.to_owned());
        }
        Ok(lowers)
    }

    /// A directory with what all commands share: a lower directory with mount points, the directory
    /// that roots are mounted on, and copies of the host's files. Made once for each build, and only
    /// where overlays work.
    fn mount_points(&self) -> Result<PathBuf, EngineError> {
        let mut known = self.mounts.lock().map_err(|_| EngineError::Cancelled)?;
        if let Some(scratch) = known.as_ref() {
            return Ok(scratch.path().to_owned());
        }
        let scratch = self.store().scratch_dir()?;
        probe_overlay(scratch.path())?;
        let place = |name: &str| scratch.path().join(name);
        let prepare = || -> io::Result<()> {
            fs::create_dir(place(STUBS))?;
            fs::create_dir(place(MERGED))?;
            prepare_stubs(&place(STUBS))?;
            // A copy looks the same whoever builds, and wherever.
            self.copy_host_file(&self.settings.resolv_conf, &place(RESOLV_CONF))?;
            self.copy_host_file(&self.settings.hosts, &place(HOSTS))
        };
        prepare().map_err(EngineError::io("create mount points"))?;
        Ok(known.insert(scratch).path().to_owned())
    }

    /// Copies a file of the host, if there is one, with a time that is the build's.
    fn copy_host_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        let text = match fs::read(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            text => text?,
        };
        fs::write(to, text)?;
        fs::set_permissions(to, fs::Permissions::from_mode(0o644))?;
        let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(self.file_time()).unwrap_or(0));
        fs::File::options().write(true).open(to)?.set_modified(time)
    }

    fn environment(&self, op: &RunOp, platform: &Platform) -> Vec<(Vec<u8>, Vec<u8>)> {
        let models = self.settings.cpu_models.iter().filter(|(emulated, _)| emulated == platform);
        let model = models.map(|(_, model)| ("QEMU_CPU".to_owned(), model.clone()));
        op.env
            .iter()
            .chain(&op.proxies)
            .cloned()
            .chain(model)
            .map(|(name, value)| (name.into_bytes(), value.into_bytes()))
            .collect()
    }
}

/// Whether the host's kernel runs the platform as the 32-bit half of its own machine; programs then
/// expect to hear of that machine.
fn is_smaller_half(host: &Platform, platform: &Platform) -> bool {
    matches!((host.architecture(), platform.architecture()), ("amd64", "386") | ("arm64", "arm"))
}

/// The upper directory stands for `/`, so it looks like the one below.
fn make_upper(upper: &Path, tree: &Tree) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(upper)?;
    let (mode, uid, gid) = match tree.get(&LayerPath::root()) {
        Some(root) => (root.entry.mode, root.entry.uid, root.entry.gid),
        None => (0o755, 0, 0),
    };
    chown(upper, Some(uid), Some(gid))?;
    fs::set_permissions(upper, fs::Permissions::from_mode(mode))
}

/// Hands on a stream line by line until its last writer is gone.
fn forward(stream: OwnedFd, stderr: bool, output: &(dyn Fn(OutputLine) + Sync)) {
    let mut reader = BufReader::new(fs::File::from(stream));
    loop {
        let mut text = Vec::new();
        match reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if text.last() == Some(&b'\n') {
                    text.pop();
                }
                output(OutputLine { stderr, text });
            }
        }
    }
}

fn check(op: &RunOp, ended: Ended) -> Result<(), StepFailure> {
    let failure =
        |how: String, code, signal| StepFailure::Command { command: op.argv.join(" "), how, code, signal };
    match ended {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(code) => Err(failure(format!("exit code: {code}"), Some(code), None)),
        Ended::Signaled(signal) => {
            let advice = if signal == 9 { " (SIGKILL: often the kernel, when memory runs out)" } else { "" };
            Err(failure(format!("ended by signal {signal}{advice}"), None, Some(signal)))
        }
    }
}
