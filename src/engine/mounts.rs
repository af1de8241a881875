//! What the mounts of one command need outside of its root, for as long as it runs.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::agent::{Access, Relay};
use super::discarded::Discarded;
use super::run::make_upper;
use super::staging::Staging;
use super::storage::Storage;
use super::{Contents, Engine, EngineError, State, StepFailure};
use crate::dockerfile::Sharing;
use crate::image::{Digest, Ownership};
use crate::layer::{Content, Entry, EntryKind, LayerPath, Tree, write_directory};
use crate::plan::{MountFrom, RunMount, StepId};
use crate::sandbox::{Discard, Hidden, Isolation, Mapping, Mount};
use crate::store::{CacheDirectory, CacheSharing};

/// How long a command waits for a cache before people are told.
const QUIET_WAIT: Duration = Duration::from_secs(1);

/// Where programs look for an ssh agent.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";
const REPAIRS: &str = "repairs";
const UPPER: &str = "upper";
const WORK: &str = "work";
const COPY: &str = "copy";

/// The mounts of one command, with all that they stand on.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// In order.
    pub(super) mounts: Vec<Mount>,
    /// Variables that come with them.
    pub(super) env: Vec<(String, String)>,
    /// Variables with secrets.
    pub(super) hidden_env: Vec<(Vec<u8>, Hidden)>,
    scratch: Vec<Discarded>,
    caches: Vec<CacheDirectory>,
    relays: Vec<Relay>,
}

/// A cache that a command mounts, under however many names.
struct Cache<'a> {
    sharing: CacheSharing,
    /// The mount that says how a new one looks.
    first: &'a RunMount,
    /// Positions among the mounts.
    places: Vec<usize>,
}

impl Engine {
    /// Makes ready what a command mounts. `empty` is an empty directory.
    ///
    /// Caches come last, so that none is held while layers are unpacked, and in the order of their
    /// digests, so that no two commands wait for each other.
    pub(super) fn asked_mounts(
        &self,
        mounts: &[RunMount],
        inputs: &BTreeMap<StepId, State>,
        empty: &Path,
        say: &dyn Fn(&str),
    ) -> Result<Asked, EngineError> {
        let mut asked = Asked::default();
        let mut caches: BTreeMap<Digest, Cache<'_>> = BTreeMap::new();
        for mount in mounts {
            match mount {
                RunMount::Bind { target, from, source, read_only } => {
                    let state = source_state(*from, inputs)?;
                    let stack = self.stack(&state, empty, target, source, *read_only)?;
                    asked.mounts.push(stack.0);
                    asked.scratch.push(stack.1);
                }
                RunMount::Cache { target, cache, sharing, read_only, .. } => {
                    let sharing = self.cache_sharing(*sharing);
                    let cache =
                        caches.entry(*cache).or_insert(Cache { sharing, first: mount, places: Vec::new() });
                    // A command that mounts one cache twice has it once.
                    cache.sharing = cache.sharing.max(sharing);
                    cache.places.push(asked.mounts.len());
                    let target = target.clone().into_bytes();
                    asked.mounts.push(Mount::Directory {
                        path: PathBuf::new(),
                        target,
                        read_only: *read_only,
                    });
                }
                RunMount::Tmpfs { target, size } => {
                    asked.mounts.push(Mount::Tmpfs { target: target.clone().into_bytes(), size: *size });
                }
                RunMount::Secret { .. } => self.secret(mount, &mut asked)?,
                RunMount::Ssh { .. } => self.ssh(mount, &mut asked)?,
                RunMount::Script { target, content } => asked.mounts.push(Mount::File {
                    content: Hidden::new(content.as_bytes()),
                    target: target.clone().into_bytes(),
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                    secret: false,
                }),
            }
        }
        for (digest, cache) in caches {
            let directory = self.cache(&digest, &cache, inputs, say)?;
            for place in cache.places {
                if let Mount::Directory { path, .. } = &mut asked.mounts[place] {
                    *path = directory.path().to_owned();
                }
            }
            asked.caches.push(directory);
        }
        Ok(asked)
    }

    /// A part of a stack of layers. The scratch space holds what is written there.
    fn stack(
        &self,
        state: &State,
        empty: &Path,
        target: &str,
        source: &str,
        read_only: bool,
    ) -> Result<(Mount, Discarded), EngineError> {
        let tree = self.tree(state)?;
        if !tree.resolve(source.as_bytes(), &LayerPath::root(), true).is_ok_and(|found| found.exists) {
            return Err(not_found(source, target, &tree));
        }
        if let Storage::Copies(_) = self.storage()? {
            return self.copy_of(state, &tree, source, target, read_only);
        }
        let scratch = Discarded::new(self.store().scratch_file());
        fs::create_dir(scratch.path()).map_err(EngineError::io("create a directory for a mount"))?;
        let lowers = self.lowers(state, &tree, empty.to_owned(), &scratch.join(REPAIRS))?;
        let discard = if read_only {
            None
        } else {
            let discard = Discard { upper: scratch.join(UPPER), work: scratch.join(WORK) };
            make_upper(&discard.upper, &tree)
                .and_then(|()| fs::create_dir(&discard.work))
                .map_err(EngineError::io("create a directory for a mount"))?;
            Some(discard)
        };
        let (source, target) = (source.as_bytes().to_vec(), target.as_bytes().to_vec());
        Ok((Mount::Layers { lowers, discard, source, target }, scratch))
    }

    fn secret(&self, mount: &RunMount, asked: &mut Asked) -> Result<(), EngineError> {
        let RunMount::Secret { id, target, env, mode, uid, gid } = mount else { return Ok(()) };
        let value = self.settings.secrets.get(id).ok_or_else(|| {
            StepFailure::refused(format!("secret {id}: not found"))
                .with_hint(format!("give it with --secret id={id},src=FILE or --secret id={id},env=NAME"))
        })?;
        if let Some(name) = env {
            if value.contains(&0) {
                return Err(StepFailure::refused(format!(
                    "secret {id}: it holds a NUL byte and cannot be the variable {name}"
                ))
                .with_hint("mount it as a file: leave out env")
                .into());
            }
            asked.hidden_env.push((name.clone().into_bytes(), Hidden::new(&**value)));
        }
        if let Some(target) = target {
            self.check_owner(target, *uid, *gid)?;
            asked.mounts.push(Mount::File {
                content: Hidden::new(&**value),
                target: target.clone().into_bytes(),
                mode: *mode,
                uid: *uid,
                gid: *gid,
                secret: true,
            });
        }
        Ok(())
    }

    fn ssh(&self, mount: &RunMount, asked: &mut Asked) -> Result<(), EngineError> {
        let RunMount::Ssh { id, target, mode, uid, gid } = mount else { return Ok(()) };
        let agent = self.settings.ssh.get(id).ok_or_else(|| {
            StepFailure::refused(format!("ssh agent {id}: not found"))
                .with_hint(format!("give it with --ssh {id}, or --ssh {id}=SOCKET"))
        })?;
        self.check_owner(target, *uid, *gid)?;
        let owner = (self.ownership() == Ownership::Kernel).then_some((*uid, *gid));
        let access = Access { mode: *mode, owner };
        let relay = Relay::start(self.store().scratch_dir()?, agent, access).map_err(|error| {
            StepFailure::refused(format!("ssh agent {id}: {}: {error}", agent.display()))
                .with_hint("look whether the agent runs: ssh-add -l")
        })?;
        if asked.relays.is_empty() {
            asked.env.push((AGENT_VARIABLE.to_owned(), target.clone()));
        }
        let (path, target) = (relay.socket(), target.clone().into_bytes());
        asked.mounts.push(Mount::Socket { path, target, uid: *uid, gid: *gid });
        asked.relays.push(relay);
        Ok(())
    }

    /// Refuses an owner that this build's namespace does not have.
    fn check_owner(&self, target: &str, uid: u32, gid: u32) -> Result<(), StepFailure> {
        let stranger = |mapping: &Mapping| {
            self.ownership() == Ownership::Kernel && !mapping.identity && !mapping.has(uid, gid)
        };
        if !self.settings.sandbox.as_ref().is_some_and(|sandbox| stranger(sandbox.mapping())) {
            return Ok(());
        }
        let text =
            format!("failed to mount {target}: its owner {uid}:{gid} is beyond this user's subordinate ids");
        let hint = "more of them in /etc/subuid and /etc/subgid would help, or a smaller uid and gid";
        Err(StepFailure::refused(text).with_hint(hint))
    }

    /// How a cache can be shared here: one that is moved to where its command changes it is in one place
    /// at a time.
    fn cache_sharing(&self, sharing: Sharing) -> CacheSharing {
        match sharing {
            Sharing::Shared if self.moves_mounts() => CacheSharing::Locked,
            Sharing::Shared => CacheSharing::Shared,
            Sharing::Private => CacheSharing::Private,
            Sharing::Locked => CacheSharing::Locked,
        }
    }

    /// Whether directories are moved to the command, and back when it has ended.
    fn moves_mounts(&self) -> bool {
        self.settings.sandbox.as_ref().is_some_and(|sandbox| sandbox.isolation() == Isolation::Chroot)
    }

    /// A directory of a cache; waits for it where it is not shared.
    fn cache(
        &self,
        digest: &Digest,
        cache: &Cache<'_>,
        inputs: &BTreeMap<StepId, State>,
        say: &dyn Fn(&str),
    ) -> Result<CacheDirectory, EngineError> {
        let fill = |path: &Path| self.fill_cache(cache.first, inputs, path);
        let begun = Instant::now();
        let said = Cell::new(false);
        let stop = || {
            if begun.elapsed() > QUIET_WAIT && !said.replace(true) {
                let target = cache.first.target().unwrap_or_default();
                say(&format!("waiting for the cache {target}, which another command uses"));
            }
            self.cancel.is_cancelled()
        };
        let directory = self.store().cache_directory(digest, cache.sharing, &fill, &stop)?;
        directory.ok_or(EngineError::Cancelled)
    }

    /// Gives a new cache its first content, owner and mode.
    fn fill_cache(
        &self,
        mount: &RunMount,
        inputs: &BTreeMap<StepId, State>,
        into: &Path,
    ) -> Result<(), EngineError> {
        let RunMount::Cache { target, initial, mode, uid, gid, .. } = mount else { return Ok(()) };
        if initial.is_none() {
            self.check_owner(target, *uid, *gid)?;
        }
        let mut top = Entry::new(LayerPath::root(), EntryKind::Directory, *mode);
        (top.uid, top.gid, top.mtime) = (*uid, *gid, self.file_time());
        let nothing = Tree::default();
        let mut staging = Staging::new(&nothing, self.file_time());
        // They are there until what they are read for is written.
        let mut contents: Option<Contents> = None;
        match initial {
            None => staging.put(top, Content::Empty, None),
            Some((from, source)) => {
                let state = source_state(*from, inputs)?;
                let tree = self.tree(&state)?;
                let found = tree.resolve(source.as_bytes(), &LayerPath::root(), true);
                let Some(node) = found.ok().and_then(|found| found.node) else {
                    return Err(not_found(source, target, &tree));
                };
                if !node.entry.is_directory() {
                    let text = format!("failed to mount {target}: \"{source}\" is not a directory");
                    return Err(StepFailure::refused(text).with_hint("name a directory with source=").into());
                }
                contents = Some(self.stage_part(&state, &tree, node.entry, &mut staging)?);
            }
        }
        self.write_staged(staging, into)?;
        drop(contents);
        Ok(())
    }

    /// Writes what is staged into a directory.
    fn write_staged(&self, staging: Staging<'_>, into: &Path) -> Result<(), EngineError> {
        let (clamp, changes) = (self.settings.epoch, staging.into_changes());
        write_directory(&changes, clamp, into, self.ownership(), self.cancel.halt())?;
        Ok(())
    }

    /// Puts a directory or file of a stack, with all below it, at the top of `staging`. What it holds is read
    /// from the contents given back.
    fn stage_part(
        &self,
        state: &State,
        tree: &Tree,
        top: Entry,
        staging: &mut Staging<'_>,
    ) -> Result<Contents, EngineError> {
        let base = top.path.clone();
        let entries = tree.walk(&base);
        let files = entries.iter().filter_map(|(path, _)| tree.file(path));
        let contents = self.contents(state, files.map(|file| (file.layer, file.path)))?;
        staging.put(Entry { path: LayerPath::root(), ..top }, Content::Empty, None);
        for (path, node) in entries {
            let below = LayerPath::new(path.strip_prefix(&base).unwrap_or_default())?;
            let mut entry = Entry { path: below, ..node.entry };
            match tree.file(&path) {
                Some(file) => {
                    entry.kind = file.entry.kind;
                    let content = contents.get(file.layer, &file.path)?;
                    staging.put(entry, content, Some((0, file.layer, file.path)));
                }
                None => staging.put(entry, Content::Empty, None),
            }
        }
        Ok(contents)
    }

    /// A copy of a part of a stack, where there are no overlays.
    fn copy_of(
        &self,
        state: &State,
        tree: &Tree,
        source: &str,
        target: &str,
        read_only: bool,
    ) -> Result<(Mount, Discarded), EngineError> {
        let scratch = Discarded::new(self.store().scratch_file());
        fs::create_dir(scratch.path()).map_err(EngineError::io("create a directory for a mount"))?;
        let found =
            tree.resolve(source.as_bytes(), &LayerPath::root(), true).ok().and_then(|found| found.node);
        let node = found.ok_or_else(|| not_found(source, target, tree))?;
        let path = scratch.join(COPY);
        let nothing = Tree::default();
        let mut staging = Staging::new(&nothing, self.file_time());
        let contents = if node.entry.is_directory() {
            fs::create_dir(&path).map_err(EngineError::io("create a directory for a mount"))?;
            self.stage_part(state, tree, node.entry, &mut staging)?
        } else {
            let name = LayerPath::new(COPY)?;
            let file = tree.file(&node.entry.path).ok_or_else(|| not_found(source, target, tree))?;
            let contents = self.contents(state, [(file.layer, file.path.clone())])?;
            let content = contents.get(file.layer, &file.path)?;
            staging.put(Entry { path: name, ..file.entry }, content, None);
            contents
        };
        let into = if path.is_dir() { &*path } else { scratch.path() };
        self.write_staged(staging, into)?;
        drop(contents);
        // It is nobody else's: one that is moved there need not be copied once more.
        let read_only = read_only && !self.moves_mounts();
        Ok((Mount::Directory { path, target: target.as_bytes().to_vec(), read_only }, scratch))
    }
}

fn source_state(from: MountFrom, inputs: &BTreeMap<StepId, State>) -> Result<State, EngineError> {
    match from {
        MountFrom::Nothing => Ok(State::default()),
        MountFrom::Step(step) => inputs.get(&step).cloned().ok_or(EngineError::NoContent),
    }
}

/// A source that is not there, with what is there instead.
fn not_found(source: &str, target: &str, tree: &Tree) -> EngineError {
    /// As many names as fit on a line.
    const SHOWN: usize = 8;
    let source = format!("/{}", source.trim_start_matches('/'));
    let names = tree.children(&LayerPath::root());
    let mut listed: Vec<_> = names.keys().take(SHOWN).map(|name| name.escape_ascii().to_string()).collect();
    if names.len() > SHOWN {
        listed.push("...".to_owned());
    }
    let held =
        if listed.is_empty() { "holds nothing".to_owned() } else { format!("holds {}", listed.join(", ")) };
    StepFailure::refused(format!("failed to mount {target}: \"{source}\": not found"))
        .with_hint(format!("what it is looked for in {held}"))
        .into()
}
