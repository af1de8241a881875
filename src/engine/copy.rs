//! COPY and ADD, on the tree alone.

use std::io::Read;

use fanfold_platforms::{Machine, elf};

use super::chmod::Chmod;
use super::destination::{self, Destination};
use super::staging::{Found, Staging};
use super::{Contents, Engine, EngineError, Layer, Needs, State, StepFailure};
use crate::image::Digest;
use crate::layer::{Change, Content, Entry, EntryKind, LayerPath, Node, Tree};
use crate::plan::{CopyOp, CopyPart};
use crate::source::{self, Context, Selected};

/// Where a copy's sources lie.
#[derive(Debug, Clone, Copy)]
pub enum CopySource<'a> {
    /// The build context.
    Context(&'a Context),
    /// The result of another stage, or an image.
    State(&'a State),
}

/// Where a copied file's content and attributes come from.
#[derive(Debug)]
pub(super) enum Origin<'a> {
    /// The build context.
    Context(&'a Context),
    /// Layers.
    Layers(Contents),
}

/// The machines that copied programs are for, each with the first such program.
pub type Programs = Vec<(Machine, LayerPath)>;

/// A finished copy.
#[derive(Debug)]
pub struct Copied {
    /// The layer.
    pub layer: Layer,
    /// Remarks for people.
    pub notes: Vec<String>,
    /// What was looked at of the programs that were copied.
    pub programs: Programs,
}

/// Programs of one copy whose machine is looked at. Folders in which everything may be executed are
/// common, and opening every file would cost more than copying it.
const MOST_PROGRAMS: usize = 256;

/// A copy in progress.
pub(super) struct Copying<'a, 't> {
    pub(super) engine: &'a Engine,
    pub(super) op: &'a CopyOp,
    pub(super) staging: Staging<'t>,
    pub(super) destination: Destination,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) chmod: Option<Chmod>,
}

/// The sources of one part of a copy.
pub(super) struct Part<'a> {
    tree: Tree,
    selected: Vec<Selected>,
    origin: Origin<'a>,
    pub(super) unpack: bool,
}

impl Part<'_> {
    /// The context, where the sources lie in one.
    pub(super) fn context(&self) -> Option<&Context> {
        match &self.origin {
            Origin::Context(context) => Some(context),
            Origin::Layers(_) => None,
        }
    }
}

impl Engine {
    /// Copies files into a stage.
    ///
    /// # Errors
    ///
    /// Fails where a source does not exist, where a file would become a directory or the other way
    /// round, for unknown users, and where files cannot be read.
    ///
    /// Source of the semantics: BuildKit, COPY and ADD; differences are listed in the user
    /// documentation.
    pub fn copy(
        &self,
        key: &Digest,
        op: &CopyOp,
        sources: &[CopySource<'_>],
        below: &State,
        needs: Needs,
    ) -> Result<Copied, EngineError> {
        let tree = self.tree(below)?;
        let mut notes = Vec::new();
        let parts = op
            .parts
            .iter()
            .zip(sources)
            .map(|(part, source)| self.part(part, *source, &mut notes))
            .collect::<Result<Vec<_>, _>>()?;
        let staging = Staging::new(&tree, self.file_time());
        let named: usize = op.parts.iter().map(|part| part.selection.sources.len()).sum();
        let found: usize = parts.iter().map(|part| part.selected.len()).sum();
        let destination = destination::resolve(op, &staging, (found + op.inline.len()).max(named))?;
        let owner = match &op.chown {
            None => None,
            Some(text) => {
                let accounts = self.accounts(below, &tree)?;
                let owner = accounts
                    .owner(text)
                    .map_err(|source| StepFailure::Account { what: format!("--chown={text}"), source })?;
                Some(owner)
            }
        };
        let chmod = op.chmod.as_deref().map(Chmod::parse).transpose()?;
        let mut copying = Copying { engine: self, op, staging, destination, owner, chmod };
        // Archives leave their contents in scratch space until the layer is written.
        let mut spools = Vec::new();
        let mut number = 0;
        for part in &parts {
            for item in &part.selected {
                number += 1;
                match part.tree.get(&item.path) {
                    Some(node) if !node.entry.is_directory() => match copying.try_archive(part, item)? {
                        Some(spool) => spools.push(spool),
                        None => copying.file(part, item, &node)?,
                    },
                    _ => copying.directory(part, number, item)?,
                }
            }
        }
        copying.inline_files()?;
        let changes = copying.staging.into_changes();
        let programs = programs(&changes);
        let layer = self.keep(key, &changes, needs)?;
        Ok(Copied { layer, notes, programs })
    }

    /// Finds what one part of a copy means.
    fn part<'a>(
        &self,
        part: &CopyPart,
        source: CopySource<'a>,
        notes: &mut Vec<String>,
    ) -> Result<Part<'a>, EngineError> {
        let words = &part.selection.sources;
        let (tree, selected) = match source {
            CopySource::Context(context) => (context.tree().clone(), context.select(words)?),
            CopySource::State(state) => {
                let tree = self.tree(state)?;
                let selected = source::select(&tree, words)?;
                (tree, selected)
            }
        };
        for (word, text) in words.iter().enumerate() {
            if selected.iter().all(|item| item.word != word) {
                notes.push(format!("no file matches \"{text}\""));
            }
        }
        let origin = match source {
            CopySource::Context(context) => Origin::Context(context),
            CopySource::State(state) => Origin::Layers(self.contents(state, wanted_files(&tree, &selected))?),
        };
        Ok(Part { tree, selected, origin, unpack: part.unpack })
    }
}

/// What machines the programs among the changes are for.
fn programs(changes: &[Change]) -> Programs {
    let may_run = |change: &&Change| {
        matches!(change.entry.kind, EntryKind::File { size } if size >= elf::HEADER_LEN as u64)
            && change.entry.mode & 0o111 != 0
    };
    let mut programs = Programs::new();
    for change in changes.iter().filter(may_run).take(MOST_PROGRAMS) {
        let mut header = [0; elf::HEADER_LEN];
        let read = change.content.open().is_ok_and(|mut content| content.read_exact(&mut header).is_ok());
        if let Some(machine) = elf::machine_of(&header).filter(|_| read)
            && programs.iter().all(|(known, _)| *known != machine)
        {
            programs.push((machine, change.entry.path.clone()));
        }
    }
    programs
}

/// All regular files that a selection takes, as layer and path within it.
fn wanted_files(tree: &Tree, selected: &[Selected]) -> Vec<(usize, LayerPath)> {
    let mut wanted = Vec::new();
    for item in selected {
        let below = tree.walk(&item.path).into_iter().map(|(path, _)| path);
        for path in below.chain([item.path.clone()]) {
            if let Some(file) = tree.file(&path) {
                wanted.push((file.layer, file.path));
            }
        }
    }
    wanted
}

impl Copying<'_, '_> {
    /// Mode of directories that are made because they are missing.
    fn parent_mode(&self) -> u32 {
        self.chmod.as_ref().map_or(0o755, Chmod::parents)
    }

    /// Makes a directory and its parents, where they are missing.
    pub(super) fn make_directory(&mut self, path: &LayerPath) -> Result<(), EngineError> {
        let mode = self.parent_mode();
        self.staging.make_directories(path, mode, self.owner.unwrap_or((0, 0)))
    }

    /// Copies one thing that is not a directory.
    fn file(&mut self, part: &Part<'_>, item: &Selected, node: &Node) -> Result<(), EngineError> {
        let target = if self.destination.directory {
            let directory = self.destination.path.clone();
            self.make_directory(&directory)?;
            directory.join(&item.name)?
        } else {
            let target = self.destination.path.clone();
            self.make_directory(&target.parent().unwrap_or_default())?;
            target
        };
        self.place(part, &item.path, node, target, None)
    }

    /// Copies the contents of a directory.
    fn directory(&mut self, part: &Part<'_>, number: usize, item: &Selected) -> Result<(), EngineError> {
        let target = self.destination.path.clone();
        if self.staging.found(&target) == Found::Other {
            return Err(StepFailure::refused(format!("cannot copy to non-directory: {target}")).into());
        }
        self.make_directory(&target)?;
        let entries = part.tree.walk(&item.path);
        let linked = entries.iter().any(|(_, node)| matches!(node.entry.kind, EntryKind::HardLink { .. }));
        for (path, node) in entries {
            let below = path.strip_prefix(&item.path).unwrap_or_default();
            let place = target.join(below)?;
            self.place(part, &path, &node, place, linked.then_some(number))?;
        }
        if let Some(node) = part.tree.get(&item.path).filter(|_| !item.path.is_root()) {
            self.staging.touch(&target, node.entry.mtime);
        }
        Ok(())
    }

    /// Puts one entry of the source in its place. `links` numbers the source among whose files
    /// hard links are kept.
    fn place(
        &mut self,
        part: &Part<'_>,
        path: &LayerPath,
        node: &Node,
        target: LayerPath,
        links: Option<usize>,
    ) -> Result<(), EngineError> {
        let found = self.staging.found(&target);
        if node.entry.is_directory() {
            if found == Found::Other {
                return Err(StepFailure::refused(format!("cannot copy to non-directory: {target}")).into());
            }
        } else if found == Found::Directory {
            return Err(
                StepFailure::refused(format!("cannot replace to directory {target} with file")).into()
            );
        }
        let mut entry = node.entry.clone();
        let mut content = Content::Empty;
        let mut group = None;
        let mut attributes_of = path.clone();
        if let Some(file) = part.tree.file(path) {
            entry.kind = file.entry.kind;
            content = match &part.origin {
                Origin::Context(context) => context.content(&file.path),
                Origin::Layers(contents) => contents.get(file.layer, &file.path)?,
            };
            attributes_of = file.path.clone();
            group = links.map(|number| (number, file.layer, file.path));
        }
        if let Origin::Context(context) = &part.origin {
            entry.xattrs = context.xattrs(&attributes_of);
        }
        entry.path = target;
        self.dress(&mut entry);
        self.staging.put(entry, content, group);
        Ok(())
    }

    /// Applies `--chown` and `--chmod`.
    pub(super) fn dress(&self, entry: &mut Entry) {
        if let Some((uid, gid)) = self.owner {
            entry.uid = uid;
            entry.gid = gid;
        }
        if let Some(chmod) = &self.chmod
            && !matches!(entry.kind, EntryKind::Symlink { .. })
        {
            entry.mode = chmod.apply(entry.mode, entry.is_directory());
        }
    }

    /// Copies the heredocs.
    fn inline_files(&mut self) -> Result<(), EngineError> {
        let op = self.op;
        for file in &op.inline {
            let target = if self.destination.directory {
                let directory = self.destination.path.clone();
                self.make_directory(&directory)?;
                directory.join(&file.name)?
            } else {
                let target = self.destination.path.clone();
                self.make_directory(&target.parent().unwrap_or_default())?;
                target
            };
            if self.staging.found(&target) == Found::Directory {
                return Err(
                    StepFailure::refused(format!("cannot replace to directory {target} with file")).into()
                );
            }
            let mut entry = Entry::new(target, EntryKind::File { size: 0 }, 0o644);
            entry.mtime = self.engine.file_time();
            self.dress(&mut entry);
            self.staging.put_bytes(entry, file.content.as_bytes());
        }
        Ok(())
    }
}
