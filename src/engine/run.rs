//! RUN: a command in a root of its own; what it changes becomes the layer.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use fanfold_platforms::Platform;

use super::ground::Ground;
use super::limits::{self, Watch};
use super::output::{OutputLine, forward};
use super::storage::Storage;
use super::{Engine, EngineError, Layer, Needs, State, StepFailure};
use crate::image::Ownership;
use crate::layer::{EntryKind, LayerPath, Tree};
use crate::plan::{self, RunOp, StepId};
use crate::sandbox::{self, Ended, Interpreter, RunError, RunSpec, SpecialOwner, prepare_stubs};

/// The host name that commands see: a constant, so that nothing of the machine gets into an image.
const HOSTNAME: &str = "fanfold";
/// What the sandbox calls looking up the user.
const USER_STEP: &str = "user";
pub(super) const STUBS: &str = "stubs";
pub(super) const MERGED: &str = "merged";
const ASIDE: &str = "aside";
pub(super) const EMPTY: &str = "empty";
const RESOLV_CONF: &str = "resolv.conf";
const HOSTS: &str = "hosts";

/// A command, and what it runs on.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// What to run.
    pub op: &'a RunOp,
    /// For which platform.
    pub platform: &'a Platform,
    /// The stack that it runs on top of.
    pub below: &'a State,
    /// What its mounts take files from.
    pub inputs: &'a BTreeMap<StepId, State>,
    /// The forms in which its layer will be needed.
    pub needs: Needs,
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
        command: &Command<'_>,
        output: &(dyn Fn(OutputLine) + Sync),
    ) -> Result<(Layer, Vec<String>), EngineError> {
        let Command { op, platform, below, inputs, needs } = *command;
        let sandbox = self.settings.sandbox.as_ref().ok_or(EngineError::NoSandbox)?;
        let tree = self.tree(below)?;
        let mounts = self.mount_points()?;
        let place = |name: &str| mounts.join(name);
        let say = |text: &str| output(OutputLine { stderr: true, text: text.as_bytes().to_vec() });
        let asked = self.asked_mounts(&op.mounts, inputs, &place(EMPTY), &say)?;
        let overlays = (!matches!(self.storage()?, Storage::Copies(_))).then_some(&*mounts);
        let ground = self.ground(op, below, &tree, overlays)?;
        let spec = RunSpec {
            root: ground.place(),
            isolation: sandbox.isolation(),
            special_owners: self.special_owners(&tree),
            interpreters: self.interpreters(platform),
            argv: op.argv.iter().map(|word| word.clone().into_bytes()).collect(),
            env: self.environment(op, platform, &asked.env),
            hidden_env: asked.hidden_env.clone(),
            cwd: op.cwd.clone().into_bytes(),
            user: op.user.clone(),
            network: match op.network {
                plan::Network::Host => sandbox::Network::Host,
                plan::Network::None => sandbox::Network::None,
            },
            hostname: op.hostname.clone().unwrap_or_else(|| HOSTNAME.to_owned()),
            resolv_conf: place(RESOLV_CONF),
            hosts: place(HOSTS),
            extra_hosts: op.extra_hosts.clone(),
            mounts: asked.mounts.clone(),
            aside: place(ASIDE),
            shm_size: op.shm_size,
            ulimits: op.ulimits.clone(),
            linux32: is_smaller_half(&Platform::host(), platform),
        };
        if let Ground::Whole(root) = &ground {
            root.settle_clock();
        }
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let spawned = sandbox.spawn(&spec)?;
        let watch = Watch::start(self.settings.step_timeout, spawned.running.killer());
        let _guard = self.cancel.guard(spawned.running.killer());
        std::thread::scope(|scope| {
            let stderr = spawned.stderr;
            scope.spawn(move || forward(stderr, true, &self.masking, output));
            forward(spawned.stdout, false, &self.masking, output);
        });
        let ended = spawned.running.wait();
        let timed_out = watch.stop();
        // Caches are free again, and nobody reaches an agent any more.
        drop(asked);
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        if let (true, Some(limit)) = (timed_out, self.settings.step_timeout) {
            return Err(limits::timed_out(op.argv.join(" "), limit).into());
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
            RunError::Mount { message } => {
                StepFailure::refused(message).with_hint("look at the --mount flags of this RUN").into()
            }
            other => EngineError::Sandbox(other),
        })?;
        check(op, end.ended).map_err(|failure| limits::explain(failure, end.usage.as_ref()))?;

        let (layer, left_out) = self.harvest(ground, below, &tree, &end, needs)?;
        let notes =
            left_out.iter().map(|note| format!("{} is a {} and not in the image", note.path, note.what));
        let notes = self.unmapped_owners(below, &tree).into_iter().chain(end.notes).chain(notes);
        Ok((layer, notes.collect()))
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
            .filter(|_| self.ownership() == Ownership::Kernel)
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

    /// A directory with what all commands share: a lower directory with mount points and one with
    /// nothing, the directories that roots and parts of them are mounted on, and copies of the host's files. Made once for each build.
    fn mount_points(&self) -> Result<PathBuf, EngineError> {
        let mut known = self.mounts.lock().map_err(|_| EngineError::Cancelled)?;
        if let Some(scratch) = known.as_ref() {
            return Ok(scratch.path().to_owned());
        }
        let scratch = self.store().scratch_dir()?;
        let place = |name: &str| scratch.path().join(name);
        let prepare = || -> io::Result<()> {
            fs::create_dir(place(STUBS))?;
            for name in [MERGED, ASIDE, EMPTY] {
                fs::create_dir(place(name))?;
            }
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

    /// The owners of files of the layers that their directories cannot tell.
    fn special_owners(&self, tree: &Tree) -> Vec<SpecialOwner> {
        if self.ownership() == Ownership::Kernel {
            return Vec::new();
        }
        let entries = tree.walk(&LayerPath::root()).into_iter();
        let special = entries.filter_map(|(path, node)| {
            let is_link = matches!(node.entry.kind, EntryKind::HardLink { .. });
            let entry = if is_link { tree.linked(&path)?.entry } else { node.entry };
            let special = !entry.is_directory() && !entry.is_file() && (entry.uid, entry.gid) != (0, 0);
            special.then(|| SpecialOwner {
                path: path.as_os_path().to_owned(),
                uid: entry.uid,
                gid: entry.gid,
            })
        });
        special.collect()
    }

    /// What stands in for the platform's processor where the kernel has no handler.
    fn interpreters(&self, platform: &Platform) -> Vec<Interpreter> {
        let of_it = self.settings.interpreters.iter().filter(|(emulated, _)| emulated == platform);
        of_it.map(|(_, interpreter)| interpreter.clone()).collect()
    }

    /// The environment, with `added` in place of what the image says.
    fn environment(
        &self,
        op: &RunOp,
        platform: &Platform,
        added: &[(String, String)],
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let models = self.settings.cpu_models.iter().filter(|(emulated, _)| emulated == platform);
        let model = models.map(|(_, model)| ("QEMU_CPU".to_owned(), model.clone()));
        op.env
            .iter()
            .chain(&op.proxies)
            .cloned()
            .chain(model)
            .filter(|(name, _)| added.iter().all(|(other, _)| other != name))
            .chain(added.iter().cloned())
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
pub(super) fn make_upper(upper: &Path, tree: &Tree) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(upper)?;
    let (mode, uid, gid) = match tree.get(&LayerPath::root()) {
        Some(root) => (root.entry.mode, root.entry.uid, root.entry.gid),
        None => (0o755, 0, 0),
    };
    chown(upper, Some(uid), Some(gid))?;
    fs::set_permissions(upper, fs::Permissions::from_mode(mode))
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
