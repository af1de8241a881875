//! [`Tree`]: the merged view of a stack of layers, without merging them.
//!
//! Look-ups go down through the layers and stop where something hides the rest: a deletion, an
//! opaque directory, or anything that is not a directory. Adding a layer copies no entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::build::MOST_LINKS;
use super::content::{Change, Content};
use super::entry::{Entry, EntryKind};
use super::error::LayerError;
use super::index::{LayerIndex, Shape, Slot};
use super::path::LayerPath;

/// A stack of layers, seen as one file system.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    layers: Vec<Arc<LayerIndex>>,
}

/// One path of a [`Tree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What stands there; never a marker. A directory that no layer describes is 0755, 0:0, 1970.
    pub entry: Entry,
    /// The layer that says so, counted from the lowest.
    pub layer: usize,
}

/// Where the content of a regular file is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNode {
    /// The file, at the path that was asked for; its kind is always [`EntryKind::File`].
    pub entry: Entry,
    /// The layer that holds the content.
    pub layer: usize,
    /// The path under which that layer holds it: another one for a hard link.
    pub path: LayerPath,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The path with symbolic links followed, inside the root.
    pub path: LayerPath,
    /// What stands there.
    pub node: Option<Node>,
    /// Whether anything stands there.
    pub exists: bool,
}

/// What is visible of one path: layers and slots, uppermost first. More than one only for a
/// directory that several layers share.
type Stack = Vec<(usize, u32)>;

impl Tree {
    /// The view of `layers`, the lowest first.
    pub fn new(layers: Vec<Arc<LayerIndex>>) -> Self {
        Self { layers }
    }

    /// This view with one more layer on top.
    #[must_use]
    pub fn with_layer(&self, layer: Arc<LayerIndex>) -> Self {
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers }
    }

    /// The layers, the lowest first.
    pub fn layers(&self) -> &[Arc<LayerIndex>] {
        &self.layers
    }

    /// What stands at `path`; no link is followed.
    pub fn get(&self, path: &LayerPath) -> Option<Node> {
        let node = self.node(&self.locate(path));
        if path.is_root() { node.or_else(|| Some(implicit(path.clone(), 0))) } else { node }
    }

    /// The regular file at `path`, hard links resolved; `None` for anything else.
    pub fn file(&self, path: &LayerPath) -> Option<FileNode> {
        let node = self.get(path)?;
        match &node.entry.kind {
            EntryKind::File { .. } => {
                Some(FileNode { path: path.clone(), layer: node.layer, entry: node.entry })
            }
            EntryKind::HardLink { target } => {
                let beside = self.layers[node.layer].get(target);
                let found = match beside {
                    Some(entry) => FileNode { entry: entry.clone(), layer: node.layer, path: target.clone() },
                    None => self.below(node.layer).file(target)?,
                };
                let entry = Entry { path: path.clone(), ..found.entry };
                matches!(entry.kind, EntryKind::File { .. }).then_some(FileNode { entry, ..found })
            }
            _ => None,
        }
    }

    /// What stands at `path`, hard links resolved: the entry is that of the file which it names, at the path
    /// that was asked for.
    pub fn linked(&self, path: &LayerPath) -> Option<Node> {
        let node = self.get(path)?;
        let EntryKind::HardLink { target } = &node.entry.kind else { return Some(node) };
        let entry = match self.layers[node.layer].get(target) {
            Some(entry) => entry.clone(),
            None => self.below(node.layer).linked(target)?.entry,
        };
        Some(Node { entry: Entry { path: path.clone(), ..entry }, layer: node.layer })
    }

    /// What stands directly below a directory, by name; empty for anything else.
    pub fn children(&self, path: &LayerPath) -> BTreeMap<Vec<u8>, Node> {
        let merged = self.merged(&self.locate(path)).into_iter();
        merged.filter_map(|(name, stack)| Some((name.to_vec(), self.node(&stack)?))).collect()
    }

    /// Everything below `path`, in path order; `path` itself is not in it.
    pub fn walk(&self, path: &LayerPath) -> Vec<(LayerPath, Node)> {
        if let [layer] = &self.layers[..] {
            return alone(layer, path);
        }
        let mut found = Vec::new();
        let children = |stack: &Stack| self.merged(stack).into_values().rev().collect::<Vec<_>>();
        let mut open = children(&self.locate(path));
        while let Some(stack) = open.pop() {
            if let Some(node) = self.node(&stack) {
                found.push((node.entry.path.clone(), node));
            }
            open.append(&mut children(&stack));
        }
        found
    }

    /// Follows `path`, relative to `base` unless it begins with a slash, as the system would with
    /// the tree as its root: absolute links start at the root and `..` stops there.
    ///
    /// The last component is followed when `follow_last` is set or a slash ends the path. What is
    /// missing is taken as it stands.
    ///
    /// # Errors
    ///
    /// Fails after 40 links, for a component that is used as a directory but is none, and for
    /// names that no layer may hold.
    pub fn resolve(&self, path: &[u8], base: &LayerPath, follow_last: bool) -> Result<Resolved, LayerError> {
        let follow_last = follow_last || path.ends_with(b"/");
        let mut rest: Vec<Vec<u8>> = path.rsplit(|&byte| byte == b'/').map(<[u8]>::to_vec).collect();
        if !path.starts_with(b"/") {
            rest.extend(base.components().rev().map(<[u8]>::to_vec));
        }
        rest.retain(|name| !matches!(&name[..], b"" | b"."));
        let mut at = LayerPath::root();
        // What is visible of each directory on the way, the root first.
        let mut trail = vec![self.locate(&at)];
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                if trail.len() > 1 {
                    trail.pop();
                    at = at.parent().unwrap_or_default();
                }
                continue;
            }
            let next = at.join(&name)?;
            let stack = trail.last().map_or_else(Vec::new, |above| self.descend(above, next.as_bytes()));
            let kind = self.node(&stack).map(|node| node.entry.kind);
            match kind {
                Some(EntryKind::Symlink { target }) if follow_last || !rest.is_empty() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(LayerError::LinkLoop { path: next.to_string() });
                    }
                    if target.starts_with(b"/") {
                        at = LayerPath::root();
                        trail.truncate(1);
                    }
                    let names = target.rsplit(|&byte| byte == b'/').map(<[u8]>::to_vec);
                    rest.extend(names.filter(|name| !matches!(&name[..], b"" | b".")));
                    continue;
                }
                None | Some(EntryKind::Directory) => {}
                Some(_) if !rest.is_empty() => {
                    return Err(LayerError::NotADirectory { path: next.to_string() });
                }
                Some(_) => {}
            }
            trail.push(stack);
            at = next;
        }
        let node = self.get(&at);
        Ok(Resolved { exists: node.is_some(), path: at, node })
    }

    /// What an overlay of the layers' own directories gets wrong, as one more layer to put on top
    /// of it (for the mount alone, never for the image).
    ///
    /// A directory that a layer does not describe, since its archive has no entry for it, would
    /// hide the mode and owner of the same directory below; a hard link to a file of a lower layer
    /// cannot be made in a directory of its own. `content` opens a file that a layer holds.
    ///
    /// # Errors
    ///
    /// Fails for a hard link whose target does not exist.
    pub fn repairs(&self, content: &dyn Fn(usize, &LayerPath) -> Content) -> Result<Vec<Change>, LayerError> {
        let mut repairs: BTreeMap<LayerPath, Change> = BTreeMap::new();
        for (layer, index) in self.layers.iter().enumerate() {
            for &at in index.incomplete() {
                let slot = index.slot(at);
                let stack = self.locate(&slot.path);
                let (Some(&top), Some(node)) = (stack.first(), self.node(&stack)) else { continue };
                if top != (layer, at) {
                    continue;
                }
                let change = match &node.entry.kind {
                    EntryKind::HardLink { .. } => {
                        let file = self.file(&slot.path).ok_or_else(|| {
                            LayerError::refused(&slot.path, "the file it links to does not exist")
                        })?;
                        Change { content: content(file.layer, &file.path), entry: file.entry }
                    }
                    EntryKind::Directory if node.entry == implicit(slot.path.clone(), layer).entry => {
                        continue;
                    }
                    _ => Change::bare(node.entry),
                };
                for above in slot.path.ancestors().filter(|above| !above.is_root()) {
                    if let Some(node) = self.get(&above) {
                        repairs.entry(above).or_insert(Change::bare(node.entry));
                    }
                }
                repairs.insert(slot.path.clone(), change);
            }
        }
        Ok(repairs.into_values().collect())
    }

    /// The layers under `layer`.
    fn below(&self, layer: usize) -> Self {
        Self { layers: self.layers[..layer].to_vec() }
    }

    fn locate(&self, path: &LayerPath) -> Stack {
        let mut stack = Stack::new();
        for layer in (0..self.layers.len()).rev() {
            stack.push((layer, 0));
            if self.layers[layer].slot(0).opaque {
                break;
            }
        }
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let ends = slashes.chain((!bytes.is_empty()).then_some(bytes.len()));
        for end in ends {
            if stack.is_empty() {
                break;
            }
            stack = self.descend(&stack, &bytes[..end]);
        }
        stack
    }

    /// What is visible of `child`, a path directly below the directory that `above` stands for.
    fn descend(&self, above: &Stack, child: &[u8]) -> Stack {
        let mut visible = Stack::new();
        for &(layer, _) in above {
            if let Some(at) = self.layers[layer].find(child)
                && self.add(&mut visible, layer, at)
            {
                break;
            }
        }
        visible
    }

    /// Adds what a layer says about a path to what the layers above said; true when the layers
    /// below have no more say.
    fn add(&self, visible: &mut Stack, layer: usize, at: u32) -> bool {
        let slot = self.layers[layer].slot(at);
        if slot.is_directory() {
            visible.push((layer, at));
            return slot.opaque;
        }
        if slot.shape != Shape::Deleted && visible.is_empty() {
            visible.push((layer, at));
        }
        true
    }

    /// What is visible of everything directly below a directory.
    fn merged(&self, directory: &Stack) -> BTreeMap<&[u8], Stack> {
        let mut merged: BTreeMap<&[u8], (Stack, bool)> = BTreeMap::new();
        for &(layer, at) in directory {
            let index = &self.layers[layer];
            for child in index.below(at) {
                let name = index.slot(child).path.file_name().unwrap_or_default();
                let (stack, closed) = merged.entry(name).or_default();
                if !*closed {
                    *closed = self.add(stack, layer, child);
                }
            }
        }
        merged.into_iter().map(|(name, (stack, _))| (name, stack)).collect()
    }

    fn node(&self, stack: &Stack) -> Option<Node> {
        let &(top, at) = stack.first()?;
        let described = stack.iter().find_map(|&(layer, at)| match &self.layers[layer].slot(at).shape {
            Shape::Real(entry) => Some((entry, layer)),
            Shape::Implicit | Shape::Deleted => None,
        });
        let Some((entry, layer)) = described else {
            return Some(implicit(self.layers[top].slot(at).path.clone(), top));
        };
        let mut entry = entry.clone();
        if let EntryKind::HardLink { target } = &entry.kind
            && !self.layers[layer].holds_target(&entry)
            && let Some(found) = self.below(layer).get(target)
        {
            // The link shares everything with what it names, of whatever kind.
            let kind = match found.entry.kind {
                EntryKind::File { .. } | EntryKind::HardLink { .. } | EntryKind::Directory => entry.kind,
                other => other,
            };
            entry = Entry { path: entry.path, kind, ..found.entry };
        }
        Some(Node { entry, layer })
    }
}

/// Everything below `path` in a view of one layer: there is nothing to merge.
fn alone(layer: &LayerIndex, path: &LayerPath) -> Vec<(LayerPath, Node)> {
    let Some(top) = layer.find(path.as_bytes()) else { return Vec::new() };
    let below = &layer.slots()[top as usize + 1..layer.slot(top).end as usize];
    let node = |slot: &Slot| match &slot.shape {
        Shape::Real(entry) => Some((slot.path.clone(), Node { entry: entry.clone(), layer: 0 })),
        Shape::Implicit => Some((slot.path.clone(), implicit(slot.path.clone(), 0))),
        Shape::Deleted => None,
    };
    below.iter().filter_map(node).collect()
}

fn implicit(path: LayerPath, layer: usize) -> Node {
    Node { entry: Entry::new(path, EntryKind::Directory, 0o755), layer }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
