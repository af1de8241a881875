//! Sockets of a context: no image can hold one, so people hear of those that a copy meets.

use std::sync::Arc;

use super::SourceError;
use super::select::select;
use crate::dockerfile::Selection;
use crate::layer::{Change, Entry, EntryKind, LayerIndex, LayerPath, Tree};

/// Whether a path leads to one of `sockets`, through links too.
pub(super) fn leads_to(tree: &Tree, sockets: &[LayerPath], path: &str) -> bool {
    let resolved = tree.resolve(path.as_bytes(), &LayerPath::root(), true);
    resolved.is_ok_and(|resolved| sockets.contains(&resolved.path))
}

/// Those of `sockets` that a selection means.
pub(super) fn taken(
    tree: &Tree,
    sockets: &[LayerPath],
    selection: &Selection,
) -> Result<Vec<LayerPath>, SourceError> {
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    // Something that an image can hold stands in for each of them.
    let stand_in = |path: &LayerPath| Change::bare(Entry::new(path.clone(), EntryKind::Fifo, 0o600));
    let stand_ins: Vec<Change> = sockets.iter().map(stand_in).collect();
    let tree = tree.with_layer(Arc::new(LayerIndex::from_changes(&stand_ins, None)?));
    let selected = select(&tree, selection)?;
    let entries = selected.into_iter().flat_map(|item| item.entries);
    Ok(entries.map(|node| node.entry.path).filter(|path| sockets.binary_search(path).is_ok()).collect())
}
