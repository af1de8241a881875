//! COPY and ADD, on the tree alone.

use std::io::Read;

use fanfold_platforms::{Machine, elf};

use super::chmod::Chmod;
use super::destination::{self, Destination};
use super::equal::Equal;
use super::staging::{Found, Staging};
use super::{Contents, Engine, EngineError, Layer, Needs, State, StepFailure};
use crate::dockerfile::suggest;
use crate::image::{AccountError, Digest};
use crate::layer::{Change, Content, Entry, EntryKind, FileNode, LayerPath, Node, Tree};
use crate::plan::{CopyOp, CopyPart};
use crate::source::{self, Context, Selected, Shape, SourceError};

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

/// A copy of which it is known what it gives, and nothing is written yet.
#[derive(Debug)]
pub struct PreparedCopy {
    /// Digest of what its layer holds, whatever the time. Where it is the same, so is the layer.
    pub content: Digest,
    /// Remarks for people.
    pub notes: Vec<String>,
    /// What was looked at of the programs that are copied.
    pub programs: Programs,
    changes: Vec<Change>,
    /// Files of layers that were taken out of their blobs, until the copy is kept.
    _contents: Vec<Contents>,
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
    /// Whether `--exclude` was given.
    pub(super) excludes: bool,
}

impl Part<'_> {
    /// The regular file at a path of the sources.
    pub(super) fn regular_file(&self, path: &LayerPath) -> Option<FileNode> {
        self.tree.file(path)
    }

    /// The data of a regular file.
    pub(super) fn content(&self, file: &FileNode) -> Result<Content, EngineError> {
        match &self.origin {
            Origin::Context(context) => Ok(context.content(&file.path)),
            Origin::Layers(contents) => contents.get(file.layer, &file.path),
        }
    }
}

impl Engine {
    /// Finds out what a copy into a stage gives. With `--link` that is the same whatever lies below: `below`
    /// is then asked for the names of `--chown` alone.
    ///
    /// # Errors
    ///
    /// Fails where a source does not exist, where a file would become a directory or the other way
    /// round, for unknown users, and where files cannot be read.
    ///
    /// Source of the semantics: BuildKit, COPY and ADD; differences are listed in the user
    /// documentation.
    pub fn prepare_copy(
        &self,
        op: &CopyOp,
        sources: &[CopySource<'_>],
        below: &State,
    ) -> Result<PreparedCopy, EngineError> {
        let tree = if op.link { Tree::default() } else { self.tree(below)? };
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
        let destination = destination::resolve(op, &staging, found.max(named) + op.inline.len())?;
        notes.extend(destination.note.clone());
        let owner = op.chown.as_deref().map(|text| self.owner(text, &op.stage, below)).transpose()?;
        let chmod = op.chmod.as_deref().map(Chmod::parse).transpose()?;
        let mut copying = Copying { engine: self, op, staging, destination, owner, chmod };
        let mut number = 0;
        for part in &parts {
            for item in &part.selected {
                number += 1;
                match item.shape {
                    Shape::File if copying.try_archive(part, item)? => {}
                    Shape::File => copying.file(part, item)?,
                    Shape::Contents | Shape::Parents => copying.directory(part, number, item)?,
                }
            }
        }
        copying.inline_files()?;
        let staging = copying.staging;
        let (kept, known) = (staging.kept(), staging.known_data());
        let changes = staging.into_changes();
        let equal = Equal { kept: &kept, known, clamp: self.settings.epoch, cancel: &self.cancel };
        let content = equal.digest(&changes)?;
        let programs = programs(&changes);
        let contents = parts.into_iter().filter_map(|part| match part.origin {
            Origin::Layers(contents) => Some(contents),
            Origin::Context(_) => None,
        });
        Ok(PreparedCopy { content, notes, programs, changes, _contents: contents.collect() })
    }

    /// Makes the layer of a copy.
    ///
    /// # Errors
    ///
    /// Fails where files cannot be read, or have changed meanwhile.
    pub fn keep_copy(&self, copy: &PreparedCopy, needs: Needs) -> Result<Layer, EngineError> {
        self.keep(&copy.changes, needs)
    }

    /// User and group that `--chown` names.
    fn owner(&self, text: &str, stage: &str, below: &State) -> Result<(u32, u32), EngineError> {
        let accounts = self.accounts(below, &self.tree(below)?)?;
        accounts.owner(text).map_err(|error| {
            let unknown = |kind, name: &str, file, known: Vec<&str>| {
                // The names are the image's, and are shown.
                let known = known.into_iter().filter(|name| !name.contains(char::is_control));
                let hint = match suggest::nearest(name, known) {
                    Some(known) => format!("did you mean {known}?"),
                    None => "name a user or group that the stage has, or its number".to_owned(),
                };
                StepFailure::refused(format!("--chown: no {kind} \"{name}\" in {file} of stage \"{stage}\""))
                    .with_hint(hint)
            };
            match &error {
                AccountError::NoUser(name) => {
                    unknown("user", name, "/etc/passwd", accounts.user_names().collect())
                }
                AccountError::NoGroup(name) => {
                    unknown("group", name, "/etc/group", accounts.group_names().collect())
                }
                AccountError::OutOfRange(_) => {
                    StepFailure::Account { what: format!("--chown={text}"), source: error }
                }
            }
            .into()
        })
    }

    /// Finds what one part of a copy means.
    fn part<'a>(
        &self,
        part: &CopyPart,
        source: CopySource<'a>,
        notes: &mut Vec<String>,
    ) -> Result<Part<'a>, EngineError> {
        let selection = &part.selection;
        let (tree, selected) = match source {
            CopySource::Context(context) => {
                let selected = context.select(selection)?;
                for path in context.sockets_in(selection)? {
                    notes.push(format!("{path} is a socket, which no image can hold: it is not copied"));
                }
                (context.tree().clone(), selected)
            }
            CopySource::State(state) => {
                let tree = self.tree(state)?;
                let selected = source::select(&tree, selection).map_err(of_a_stage)?;
                (tree, selected)
            }
        };
        for (word, text) in selection.sources.iter().enumerate() {
            if selected.iter().all(|item| item.word != word) {
                let excluded = if selection.exclude.is_empty() { "" } else { " that --exclude leaves" };
                notes.push(format!("no file matches \"{text}\"{excluded}"));
            }
        }
        let origin = match source {
            CopySource::Context(context) => Origin::Context(context),
            CopySource::State(state) => Origin::Layers(self.contents(state, wanted_files(&tree, &selected))?),
        };
        let excludes = !selection.exclude.is_empty();
        Ok(Part { tree, selected, origin, unpack: part.unpack, excludes })
    }
}

/// Says where the words of a copy from a stage or image begin.
fn of_a_stage(error: SourceError) -> SourceError {
    match error {
        SourceError::NotFound { path, ignored_by, hint } => {
            let place =
                || "paths are relative to the root of the stage or image that --from names".to_owned();
            SourceError::NotFound { path, ignored_by, hint: hint.or_else(|| Some(place())) }
        }
        other => other,
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
    let nodes = selected.iter().flat_map(|item| &item.entries);
    let files = nodes.filter_map(|node| tree.file(&node.entry.path));
    files.map(|file| (file.layer, file.path)).collect()
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

    /// Where a file goes that has this name in the sources; what leads there is made.
    fn target(&mut self, name: &[u8]) -> Result<LayerPath, EngineError> {
        let path = self.destination.path.clone();
        if self.destination.directory {
            self.make_directory(&path)?;
            return Ok(path.join(name)?);
        }
        self.make_directory(&path.parent().unwrap_or_default())?;
        Ok(path)
    }

    /// Copies one thing that is not a directory.
    fn file(&mut self, part: &Part<'_>, item: &Selected) -> Result<(), EngineError> {
        for node in &item.entries {
            let target = self.target(&item.name)?;
            self.place(part, node, target, None)?;
        }
        Ok(())
    }

    /// Copies what is taken of the contents of a directory.
    fn directory(&mut self, part: &Part<'_>, number: usize, item: &Selected) -> Result<(), EngineError> {
        let target = self.destination_directory()?;
        let links = item.entries.iter().any(|node| matches!(node.entry.kind, EntryKind::HardLink { .. }));
        for node in &item.entries {
            let below = node.entry.path.strip_prefix(&item.path).unwrap_or_default();
            self.place(part, node, target.join(below)?, links.then_some(number))?;
        }
        if item.shape == Shape::Contents
            && let Some(node) = part.tree.get(&item.path).filter(|_| !item.path.is_root())
        {
            self.staging.touch(&target, node.entry.mtime);
        }
        Ok(())
    }

    /// Makes the destination a directory, if it is none.
    pub(super) fn destination_directory(&mut self) -> Result<LayerPath, EngineError> {
        let path = self.destination.path.clone();
        if self.staging.found(&path) == Found::Other {
            return Err(StepFailure::refused(format!("cannot copy to non-directory: {path}")).into());
        }
        self.make_directory(&path)?;
        Ok(path)
    }

    /// Puts one entry of the source in its place. `links` numbers the source among whose files
    /// hard links are kept.
    fn place(
        &mut self,
        part: &Part<'_>,
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
        let mut attributes_of = entry.path.clone();
        if let Some(file) = part.regular_file(&node.entry.path) {
            content = part.content(&file)?;
            entry.kind = file.entry.kind;
            attributes_of = file.path.clone();
            group = links.map(|number| (number, file.layer, file.path));
        }
        let mut data = None;
        if let Origin::Context(context) = &part.origin {
            entry.xattrs = context.xattrs(&attributes_of);
            data = context.known_data(&attributes_of);
        }
        entry.path = target;
        self.dress(&mut entry);
        self.staging.put_known(entry, content, group, data);
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
            let target = self.target(file.name.as_bytes())?;
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

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
