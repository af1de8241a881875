use std::sync::Arc;

use super::*;
use crate::layer::{Change, Entry, LayerIndex};

fn tree_of(paths: &[(&str, EntryKind)]) -> Tree {
    let change = |(path, kind): &(&str, EntryKind)| {
        Change::bare(Entry::new(LayerPath::new(path).unwrap(), kind.clone(), 0o755))
    };
    let changes: Vec<_> = paths.iter().map(change).collect();
    Tree::new(vec![Arc::new(LayerIndex::from_changes(&changes, None).unwrap())])
}

fn link(target: &str) -> EntryKind {
    EntryKind::Symlink { target: target.as_bytes().to_vec() }
}

const FILE: EntryKind = EntryKind::File { size: 0 };
const DIRECTORY: EntryKind = EntryKind::Directory;

fn tree() -> Tree {
    tree_of(&[
        ("a.txt", FILE),
        ("arr[0].txt", FILE),
        ("b.txt", FILE),
        ("d", DIRECTORY),
        ("d/.hidden", FILE),
        ("d/x", FILE),
        ("e", DIRECTORY),
        ("e/x", FILE),
        ("dirlink", link("d")),
        ("out", link("/etc/passwd")),
        ("up", link("../../../a.txt")),
    ])
}

fn names(words: &[&str]) -> Vec<String> {
    let selected = select(&tree(), &Selection::of(words.to_vec())).unwrap();
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
    // Two stars are one, unless directories are kept.
    assert_eq!(names(&["**/x"]), ["x=/d/x", "x=/e/x"]);
    assert_eq!(names(&["a**"]), ["a.txt=/a.txt", "arr[0].txt=/arr[0].txt"]);
}

#[test]
fn what_is_not_there_is_an_error() {
    for parents in [false, true] {
        for word in ["nope", "d/nope", "a.txt/x", "../../etc/passwd", "nope/./x", "d/./nope"] {
            let selection = Selection { parents, ..Selection::of([word]) };
            let error = select(&tree(), &selection).unwrap_err();
            assert!(matches!(error, SourceError::NotFound { .. }), "{word}: {error}");
        }
    }
    assert!(select(&tree(), &Selection::of(["out"])).is_err());
    for word in ["[", "a\\", "x[]/y"] {
        for parents in [false, true] {
            let selection = Selection { parents, ..Selection::of([word]) };
            let error = select(&tree(), &selection).unwrap_err();
            assert!(matches!(error, SourceError::Pattern { .. }), "{word}: {error}");
        }
    }
    let exclude = vec!["ok".to_owned(), "[".to_owned()];
    let error = select(&tree(), &Selection { exclude, ..Selection::of(["d"]) }).unwrap_err();
    assert!(matches!(&error, SourceError::Pattern { pattern, .. } if pattern == "["), "{error}");
}

fn deep() -> Tree {
    tree_of(&[
        ("a.md", FILE),
        ("empty", DIRECTORY),
        ("l", link("x")),
        ("s", DIRECTORY),
        ("s/r.md", FILE),
        ("s/skip", DIRECTORY),
        ("s/skip/f", FILE),
        ("s/skip/keep", DIRECTORY),
        ("s/skip/keep/g", FILE),
        ("x", DIRECTORY),
        ("x/y", DIRECTORY),
        ("x/y/a.txt", FILE),
        ("x/y/b.txt", FILE),
        ("x/y/to", link("a.txt")),
        ("x/z", DIRECTORY),
        ("x/z/a.txt", FILE),
        ("x/z/q", DIRECTORY),
    ])
}

/// The shape of each find, its place, and what it takes relative to that.
fn taken(words: &[&str], exclude: &[&str], parents: bool) -> Vec<String> {
    let exclude = exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
    let selection = Selection { exclude, parents, ..Selection::of(words.to_vec()) };
    let show = |item: &Selected| {
        let below = |node: &Node| {
            let below = node.entry.path.strip_prefix(&item.path).unwrap();
            String::from_utf8_lossy(below).into_owned()
        };
        let entries: Vec<_> = item.entries.iter().map(below).collect();
        format!("{:?} {}: {}", item.shape, item.path, entries.join(" "))
    };
    select(&deep(), &selection).unwrap().iter().map(show).collect()
}

#[test]
fn excluded_things_are_left_out() {
    for (words, exclude, want) in [
        (&["s"][..], &[][..], &["Contents /s: r.md skip skip/f skip/keep skip/keep/g"][..]),
        (&["s"], &["*.md"], &["Contents /s: skip skip/f skip/keep skip/keep/g"]),
        (
            &["."],
            &["*.md", "x", "l"],
            &["Contents /: empty s s/r.md s/skip s/skip/f s/skip/keep s/skip/keep/g"],
        ),
        (&["."], &["s/skip", "x", "l"], &["Contents /: a.md empty s s/r.md"]),
        (&["."], &["**/*.md", "x", "l", "s/skip"], &["Contents /: empty s"]),
        (&["s"], &["skip/*"], &["Contents /s: r.md skip"]),
        // What is taken again keeps its directories.
        (&["s"], &["skip", "!skip/keep/g"], &["Contents /s: r.md skip skip/keep skip/keep/g"]),
        (&["s"], &["**"], &["Contents /s: "]),
        // The pattern is below the directory, not below the root.
        (&["x/y"], &["x"], &["Contents /x/y: a.txt b.txt to"]),
        (&["x/y"], &["a.txt"], &["Contents /x/y: b.txt to"]),
        // Files that are named are known by their names.
        (&["a.md"], &["*.md"], &[]),
        (&["x/y/a.txt", "a.md"], &["*.txt"], &["File /a.md: "]),
        (&["x/y/*"], &["a.txt"], &["File /x/y/b.txt: ", "File /x/y/a.txt: "]),
        (&["x/y/*"], &["to", "!to"], &["File /x/y/a.txt: ", "File /x/y/b.txt: ", "File /x/y/a.txt: "]),
    ] {
        assert_eq!(taken(words, exclude, false), want, "{words:?} without {exclude:?}");
    }
}

#[test]
fn parents_are_kept() {
    for (words, exclude, want) in [
        (&["x/y/a.txt"][..], &[][..], &["Parents /: x x/y x/y/a.txt"][..]),
        (&["/x//../x/y/a.txt"], &[], &["Parents /: x x/y x/y/a.txt"]),
        (&["x/./y/a.txt"], &[], &["Parents /x: y y/a.txt"]),
        (&["./x/./y/./a.txt"], &[], &["Parents /x: y y/a.txt"]),
        (&["x/y/./a.txt"], &[], &["Parents /x/y: a.txt"]),
        // `..` does not climb over the pivot.
        (&["x/./../y/a.txt"], &[], &["Parents /x: y y/a.txt"]),
        (&["x/y"], &[], &["Parents /: x x/y x/y/a.txt x/y/b.txt x/y/to"]),
        (&["x/./"], &["z"], &["Parents /x: y y/a.txt y/b.txt y/to"]),
        (&["empty"], &[], &["Parents /: empty"]),
        (&["empty/./"], &[], &[]),
        // Links are kept, but the pivot leads through them.
        (&["l"], &[], &["Parents /: l"]),
        (&["l/./y/a.txt"], &[], &["Parents /x: y y/a.txt"]),
        (&["x/y/to"], &[], &["Parents /: x x/y x/y/to"]),
        (&["**/a.txt"], &[], &["Parents /: x x/y x/y/a.txt x/z x/z/a.txt"]),
        (&["x/**/a.txt"], &[], &["Parents /: x x/y x/y/a.txt x/z x/z/a.txt"]),
        (&["x/*"], &["x/y"], &["Parents /: x x/z x/z/a.txt x/z/q"]),
        (&["x/z/q/*"], &[], &[]),
        (&["x/?/./a.txt"], &[], &["Parents /x/y: a.txt", "Parents /x/z: a.txt"]),
        (&["x/?/./b.txt"], &[], &["Parents /x/y: b.txt"]),
        (&["x/./*/b.*", "a.md"], &[], &["Parents /x: y y/b.txt", "Parents /: a.md"]),
        (&["nothing/**", "no*/./x"], &[], &[]),
        // Patterns of --exclude are below the pivot, also for what is named.
        (&["x/y/a.txt"], &["a.txt"], &["Parents /: x x/y x/y/a.txt"]),
        (&["x/y/a.txt"], &["x/y/a.txt"], &[]),
        (&["x/y/./a.txt"], &["a.txt"], &[]),
        (&["s"], &["s/skip", "!s/skip/keep"], &["Parents /: s s/r.md s/skip s/skip/keep s/skip/keep/g"]),
    ] {
        assert_eq!(taken(words, exclude, true), want, "{words:?} without {exclude:?}");
    }
}

#[test]
fn links_on_the_way_are_named() {
    let selection = Selection { parents: true, ..Selection::of(["l/y/a.txt"]) };
    let error = select(&deep(), &selection).unwrap_err();
    assert_eq!(error.to_string(), "\"/l/y/a.txt\": not found");
    assert!(error.hint().unwrap().starts_with("/l is a symbolic link"), "{error:?}");
}
