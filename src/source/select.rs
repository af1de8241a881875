//! The paths that the words of COPY and ADD mean within a tree.

use super::SourceError;
use crate::dockerfile::ignore::{Ignore, IgnoreError};
use crate::dockerfile::pattern::{Glob, Pattern, PatternError};
use crate::dockerfile::{Selection, suggest};
use crate::layer::{EntryKind, LayerError, LayerPath, Node, Resolved, Tree};

/// One thing that a copy takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Which of the words found it.
    pub word: usize,
    /// The name of a file as the word says it: that of a link, where the word leads through one.
    pub name: Vec<u8>,
    /// Where it is, with links followed inside the tree. What is taken lies there or below.
    pub path: LayerPath,
    /// How it is copied.
    pub shape: Shape,
    /// All that is taken, in path order, each with its own path in the tree: the file alone, or
    /// what `--exclude` and `--parents` leave of what is below the directory. The directories on
    /// the way to an entry stand before it.
    pub entries: Vec<Node>,
}

/// How a selected thing is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A file, under its name or that of the destination.
    File,
    /// The contents of a directory.
    Contents,
    /// Paths below a pivot, with their directories (`--parents`).
    Parents,
}

/// Whether a word is a pattern rather than a path.
pub fn has_wildcard(word: &str) -> bool {
    word.contains(['*', '?', '[', '\\'])
}

/// Finds what a selection takes, in the order of its words; what one pattern finds, by name.
///
/// Words are paths from the tree's root: leading slashes are dropped and `..` ends at the root.
/// Links are followed inside the tree, the last component too; not so with `--parents`, where the
/// path up to the pivot alone leads through links, and `**` stands for any number of directories.
/// A pattern that finds nothing, and a word whose finds are all excluded, contribute nothing.
///
/// # Errors
///
/// Fails for a path that does not exist, and for an invalid pattern.
///
/// Source of the semantics: BuildKit, COPY.
pub fn select(tree: &Tree, selection: &Selection) -> Result<Vec<Selected>, SourceError> {
    let exclude = Ignore::from_patterns(&selection.exclude)
        .map_err(|error| invalid_exclude(&selection.exclude, &error))?;
    let mut selected = Vec::new();
    for (word, text) in selection.sources.iter().enumerate() {
        let found = match selection.parents {
            true => with_parents(tree, word, text, &exclude)?,
            false => by_name(tree, word, text, &exclude)?,
        };
        selected.extend(found);
    }
    Ok(selected)
}

fn invalid_exclude(patterns: &[String], error: &IgnoreError) -> SourceError {
    let at = usize::try_from(error.line()).unwrap_or(0).saturating_sub(1);
    SourceError::Pattern { pattern: patterns.get(at).cloned().unwrap_or_default(), reason: error.to_string() }
}

fn invalid(pattern: &str) -> impl FnOnce(PatternError) -> SourceError {
    move |error| SourceError::Pattern { pattern: pattern.to_owned(), reason: error.to_string() }
}

/// What a word finds without `--parents`: files under their own names, directories for their contents.
fn by_name(tree: &Tree, word: usize, text: &str, exclude: &Ignore) -> Result<Vec<Selected>, SourceError> {
    let parts = components(text);
    let found = find(tree, &parts)?;
    let kept = |(name, _): &&(Vec<u8>, LayerPath)| !exclude.verdict_of(name).ignored;
    if let Some((_, link)) = dangling(tree, &parts)?.iter().find(kept) {
        let path = link.to_string().trim_start_matches('/').to_owned();
        let hint = Some(format!("it is a symbolic link to nothing, and {text} matches it"));
        return Err(SourceError::NotFound { path, ignored_by: None, hint });
    }
    if found.is_empty() && !has_wildcard(text) {
        return Err(SourceError::NotFound {
            path: parts.join("/"),
            ignored_by: None,
            hint: meant(tree, &parts),
        });
    }
    let mut selected = Vec::with_capacity(found.len());
    for (name, path) in found {
        match tree.get(&path) {
            Some(node) if !node.entry.is_directory() => {
                if !exclude.verdict_of(&name).ignored {
                    selected.push(Selected { word, name, path, shape: Shape::File, entries: vec![node] });
                }
            }
            _ => {
                let entries = leave(walk(tree, &path), Vec::new(), &path, exclude, |_| true);
                selected.push(Selected { word, name, path, shape: Shape::Contents, entries });
            }
        }
    }
    Ok(selected)
}

/// What a word finds with `--parents`, once for each place that its pivot means.
fn with_parents(
    tree: &Tree,
    word: usize,
    text: &str,
    exclude: &Ignore,
) -> Result<Vec<Selected>, SourceError> {
    let (pivot, rest) = text.split_once("/./").unwrap_or(("", text));
    let pivot = components(pivot);
    let wanted = Wanted::new(&components(rest))?;
    let mut selected = Vec::new();
    let mut any = false;
    let mut link = None;
    for (_, path) in find(tree, &pivot)? {
        match wanted.below(tree, &path, exclude)? {
            Some(entries) => {
                any = true;
                if !entries.is_empty() {
                    let (name, shape) = (Vec::new(), Shape::Parents);
                    selected.push(Selected { word, name, path, shape, entries });
                }
            }
            None => link = link.or(wanted.link_on_the_way(tree, &path)?),
        }
    }
    if !any && !has_wildcard(text) {
        let parts: Vec<_> = pivot.into_iter().chain(components(rest)).collect();
        let hint = match link {
            Some(link) => Some(format!("{link} is a symbolic link, and --parents follows none")),
            None => meant(tree, &parts),
        };
        return Err(SourceError::NotFound { path: parts.join("/"), ignored_by: None, hint });
    }
    Ok(selected)
}

/// Advice where a path does not exist, but does with the nearest name in place of the first component
/// that leads nowhere.
fn meant(tree: &Tree, parts: &[&str]) -> Option<String> {
    let mut at = LayerPath::root();
    for (index, part) in parts.iter().enumerate() {
        let resolved = tree.resolve(part.as_bytes(), &at, true).ok()?;
        if resolved.node.is_some() {
            at = resolved.path;
            continue;
        }
        // The names may be anybody's, and are shown.
        let names = tree.children(&at).into_keys().filter_map(|name| String::from_utf8(name).ok());
        let near = suggest::nearest(part, names.filter(|name| !name.contains(char::is_control)))?;
        let mut path = parts.to_vec();
        path[index] = &near;
        let path = path.join("/");
        let found = tree.resolve(path.as_bytes(), &LayerPath::root(), true).ok()?;
        return found.node.map(|_| format!("did you mean {path}?"));
    }
    None
}

/// What stands behind the pivot of a word.
struct Wanted {
    /// The components before the first wildcard: there is one way to go.
    plain: Vec<String>,
    /// The rest, where there is any.
    pattern: Option<Pattern>,
}

impl Wanted {
    fn new(parts: &[&str]) -> Result<Self, SourceError> {
        let mut plain = Vec::new();
        for part in parts {
            match Glob::compile(part).map_err(invalid(part))?.is_literal() {
                Some(name) => plain.push(name),
                None => break,
            }
        }
        let rest = parts[plain.len()..].join("/");
        let pattern = (!rest.is_empty()).then(|| Pattern::compile(&rest).map_err(invalid(&rest)));
        Ok(Self { plain, pattern: pattern.transpose()? })
    }

    /// What is taken below a pivot; `None` where nothing is there to be taken or excluded.
    fn below(
        &self,
        tree: &Tree,
        pivot: &LayerPath,
        exclude: &Ignore,
    ) -> Result<Option<Vec<Node>>, SourceError> {
        let mut above = Vec::with_capacity(self.plain.len());
        let mut at = pivot.clone();
        for name in &self.plain {
            at = at.join(name)?;
            match tree.get(&at) {
                Some(node) => above.push(node),
                None => return Ok(None),
            }
        }
        let is_there = tree.get(&at).is_some_and(|node| node.entry.is_directory());
        let mut any = self.pattern.is_none() && (is_there || !above.is_empty());
        let mut nodes = Vec::new();
        if self.pattern.is_none() {
            nodes.extend(above.pop());
        }
        nodes.extend(walk(tree, &at));
        // What is below a directory that matches is taken with it.
        let mut within: Option<LayerPath> = None;
        let taken = leave(nodes, above, pivot, exclude, |node| {
            let path = &node.entry.path;
            let Some(pattern) = &self.pattern else { return true };
            if within.as_ref().is_some_and(|directory| path.starts_with(directory)) {
                return true;
            }
            let matches = pattern.matches(path.strip_prefix(&at).unwrap_or_default());
            if matches {
                any = true;
                within = Some(path.clone());
            }
            matches
        });
        Ok(any.then_some(taken))
    }

    /// The first link that a path leads through, if that is why it finds nothing.
    fn link_on_the_way(&self, tree: &Tree, pivot: &LayerPath) -> Result<Option<LayerPath>, SourceError> {
        let mut at = pivot.clone();
        for name in &self.plain {
            at = at.join(name)?;
            match tree.get(&at).map(|node| node.entry.kind) {
                Some(EntryKind::Directory) => {}
                Some(EntryKind::Symlink { .. }) => return Ok(Some(at)),
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// Those of `nodes` (in path order) that are `wanted` and not excluded, and the directories on the
/// way to them: `above` holds those that lead to the first.
fn leave(
    nodes: Vec<Node>,
    mut above: Vec<Node>,
    top: &LayerPath,
    exclude: &Ignore,
    mut wanted: impl FnMut(&Node) -> bool,
) -> Vec<Node> {
    let mut left = Vec::with_capacity(nodes.len());
    for node in nodes {
        while above.last().is_some_and(|directory| !node.entry.path.starts_with(&directory.entry.path)) {
            above.pop();
        }
        let below = node.entry.path.strip_prefix(top).unwrap_or_default();
        if wanted(&node) && (exclude.is_empty() || !exclude.verdict_of(below).ignored) {
            left.append(&mut above);
            left.push(node);
        } else if node.entry.is_directory() {
            above.push(node);
        }
    }
    left
}

/// Everything below a directory, in path order.
fn walk(tree: &Tree, path: &LayerPath) -> Vec<Node> {
    tree.walk(path).into_iter().map(|(_, node)| node).collect()
}

/// The clean components of a word.
fn components(word: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in word.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}

/// The links that the pattern in the last component matches and that lead to nothing, with their names.
fn dangling(tree: &Tree, parts: &[&str]) -> Result<Vec<(Vec<u8>, LayerPath)>, SourceError> {
    let Some((last, above)) = parts.split_last() else { return Ok(Vec::new()) };
    let glob = Glob::compile(last).map_err(invalid(last))?;
    let mut dangling = Vec::new();
    if glob.is_literal().is_some() {
        return Ok(dangling);
    }
    for (_, directory) in directories(tree, above)? {
        for (name, node) in tree.children(&directory) {
            let is_match = matches!(node.entry.kind, EntryKind::Symlink { .. }) && glob.matches(&name);
            let leads = |found: Resolved| found.node.is_some();
            if is_match && !tree.resolve(&name, &directory, true).is_ok_and(leads) {
                dangling.push((name, node.entry.path));
            }
        }
    }
    Ok(dangling)
}

/// Every place that a path or pattern leads to, with the name that it has there. From the first wildcard
/// on, only the last component leads through a link.
fn find(tree: &Tree, parts: &[&str]) -> Result<Vec<(Vec<u8>, LayerPath)>, SourceError> {
    let Some((last, above)) = parts.split_last() else {
        return Ok(vec![(Vec::new(), LayerPath::root())]);
    };
    step(tree, &directories(tree, above)?, last, true)
}

/// Every place that the components above the last lead to.
fn directories(tree: &Tree, parts: &[&str]) -> Result<Vec<(Vec<u8>, LayerPath)>, SourceError> {
    let mut found = vec![(Vec::new(), LayerPath::root())];
    let mut is_pattern = false;
    for part in parts {
        is_pattern |= has_wildcard(part);
        found = step(tree, &found, part, !is_pattern)?;
    }
    Ok(found)
}

/// Follows one component from every place reached so far, through a link only if `follow` says so.
fn step(
    tree: &Tree,
    from: &[(Vec<u8>, LayerPath)],
    part: &str,
    follow: bool,
) -> Result<Vec<(Vec<u8>, LayerPath)>, SourceError> {
    let glob = Glob::compile(part).map_err(invalid(part))?;
    let literal = glob.is_literal();
    let is_wanted = |node: &Node| follow || node.entry.is_directory();
    let mut found = Vec::new();
    for (_, directory) in from {
        let names: Vec<Vec<u8>> = match &literal {
            Some(name) => vec![name.clone().into_bytes()],
            None => tree.children(directory).into_keys().filter(|name| glob.matches(name)).collect(),
        };
        for name in names {
            match tree.resolve(&name, directory, follow) {
                Ok(resolved) if resolved.node.as_ref().is_some_and(is_wanted) => {
                    found.push((name, resolved.path));
                }
                // A file used as a directory holds nothing.
                Ok(_) | Err(LayerError::NotADirectory { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
