//! The paths that the words of COPY and ADD mean within a tree.

use super::SourceError;
use crate::dockerfile::pattern::Glob;
use crate::layer::{LayerError, LayerPath, Tree};

/// One thing that a copy takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Which of the words found it.
    pub word: usize,
    /// Its name as the word says it: that of a link, where the word leads through one.
    pub name: Vec<u8>,
    /// Where it is, with links followed inside the tree.
    pub path: LayerPath,
}

/// Whether a word is a pattern rather than a path.
pub fn has_wildcard(word: &str) -> bool {
    word.contains(['*', '?', '[', '\\'])
}

/// Finds what the words mean, in the order of the words; what one pattern finds, by name.
///
/// Words are paths from the tree's root: leading slashes are dropped and `..` ends at the root.
/// Links are followed inside the tree, the last component too. A pattern that finds nothing
/// contributes nothing.
///
/// # Errors
///
/// Fails for a path that does not exist, and for an invalid pattern.
///
/// Source of the semantics: BuildKit, COPY.
pub fn select(tree: &Tree, words: &[String]) -> Result<Vec<Selected>, SourceError> {
    let mut selected = Vec::new();
    for (word, text) in words.iter().enumerate() {
        let parts = components(text);
        let mut found = vec![(Vec::new(), LayerPath::root())];
        for part in &parts {
            found = step(tree, &found, part)?;
        }
        if found.is_empty() && !has_wildcard(text) {
            return Err(SourceError::NotFound { path: parts.join("/"), ignored_by: None });
        }
        selected.extend(found.into_iter().map(|(name, path)| Selected { word, name, path }));
    }
    Ok(selected)
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

/// Follows one component from every place reached so far.
fn step(
    tree: &Tree,
    from: &[(Vec<u8>, LayerPath)],
    part: &str,
) -> Result<Vec<(Vec<u8>, LayerPath)>, SourceError> {
    let glob = Glob::compile(part)
        .map_err(|error| SourceError::Pattern { pattern: part.to_owned(), reason: error.to_string() })?;
    let literal = glob.is_literal();
    let mut found = Vec::new();
    for (_, directory) in from {
        let names: Vec<Vec<u8>> = match &literal {
            Some(name) => vec![name.clone().into_bytes()],
            None => tree.children(directory).into_keys().filter(|name| glob.matches(name)).collect(),
        };
        for name in names {
            match tree.resolve(&name, directory, true) {
                Ok(resolved) if resolved.node.is_some() => found.push((name, resolved.path)),
                // A file used as a directory holds nothing.
                Ok(_) | Err(LayerError::NotADirectory { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::layer::{Change, Content, Entry, EntryKind, LayerIndex};

    fn tree() -> Tree {
        let entry = |path: &str, kind| Change {
            entry: Entry::new(LayerPath::new(path).unwrap(), kind, 0o755),
            content: Content::Empty,
        };
        let link = |target: &str| EntryKind::Symlink { target: target.as_bytes().to_vec() };
        let file = || EntryKind::File { size: 0 };
        let changes = [
            entry("a.txt", file()),
            entry("arr[0].txt", file()),
            entry("b.txt", file()),
            entry("d", EntryKind::Directory),
            entry("d/.hidden", file()),
            entry("d/x", file()),
            entry("e", EntryKind::Directory),
            entry("e/x", file()),
            entry("dirlink", link("d")),
            entry("out", link("/etc/passwd")),
            entry("up", link("../../../a.txt")),
        ];
        Tree::new(vec![Arc::new(LayerIndex::from_changes(&changes, None).unwrap())])
    }

    fn names(words: &[&str]) -> Vec<String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let selected = select(&tree(), &words).unwrap();
        let show = |item: &Selected| format!("{}={}", String::from_utf8_lossy(&item.name), item.path);
        selected.iter().map(show).collect()
    }

    #[test]
    fn words_find_paths() {
        assert_eq!(names(&["a.txt", "/b.txt"]), ["a.txt=/a.txt", "b.txt=/b.txt"]);
        assert_eq!(names(&["../a.txt"]), ["a.txt=/a.txt"]);
        assert_eq!(names(&["*.txt"]), ["a.txt=/a.txt", "arr[0].txt=/arr[0].txt", "b.txt=/b.txt"]);
        assert_eq!(names(&["arr[[]0].txt"]), ["arr[0].txt=/arr[0].txt"]);
        assert_eq!(names(&["?/x"]), ["x=/d/x", "x=/e/x"]);
        assert_eq!(names(&["d/*"]), [".hidden=/d/.hidden", "x=/d/x"]);
        assert_eq!(names(&["dirlink/x"]), ["x=/d/x"]);
        assert_eq!(names(&["dirlink"]), ["dirlink=/d"]);
        assert_eq!(names(&["up"]), ["up=/a.txt"]);
        assert_eq!(names(&["."]), ["=/"]);
        assert_eq!(names(&["nothing*"]), [""; 0]);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        for word in ["nope", "d/nope", "a.txt/x", "out", "../../etc/passwd"] {
            let error = select(&tree(), &[word.to_owned()]).unwrap_err();
            assert!(matches!(error, SourceError::NotFound { .. }), "{word}: {error}");
        }
    }
}
