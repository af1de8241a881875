//! Tests of the merged view: tables, and agreement with a model that really merges.

use proptest::prelude::*;

use super::*;
use crate::layer::build::Builder;

fn path(path: &str) -> LayerPath {
    LayerPath::new(path).unwrap()
}

fn file(at: &str) -> Entry {
    Entry::new(path(at), EntryKind::File { size: 1 }, 0o644)
}

fn directory(at: &str) -> Entry {
    Entry::new(path(at), EntryKind::Directory, 0o700)
}

fn symlink(at: &str, target: &str) -> Entry {
    Entry::new(path(at), EntryKind::Symlink { target: target.into() }, 0o777)
}

fn link(at: &str, target: &str) -> Entry {
    Entry::new(path(at), EntryKind::HardLink { target: path(target) }, 0)
}

fn gone(at: &str) -> Entry {
    Entry::whiteout(path(at))
}

fn opaque(at: &str) -> Entry {
    Entry::opaque(path(at))
}

fn index(entries: &[Entry]) -> Arc<LayerIndex> {
    let mut builder = Builder::new();
    for entry in entries {
        builder.place(entry.clone()).unwrap();
    }
    Arc::new(builder.finish().unwrap())
}

fn tree(layers: &[&[Entry]]) -> Tree {
    Tree::new(layers.iter().map(|entries| index(entries)).collect())
}

fn listing(tree: &Tree) -> Vec<String> {
    let nodes = tree.walk(&LayerPath::root()).into_iter();
    nodes.map(|(path, node)| format!("{}@{}", path.to_string().trim_start_matches('/'), node.layer)).collect()
}

#[test]
fn upper_layers_hide_lower_ones() {
    let base: &[Entry] =
        &[directory("d"), file("d/a"), file("d/b"), directory("d/e"), file("d/e/x"), file("f")];
    for (upper, want) in [
        (vec![], "d@0 d/a@0 d/b@0 d/e@0 d/e/x@0 f@0"),
        (vec![gone("d/a")], "d@0 d/b@0 d/e@0 d/e/x@0 f@0"),
        (vec![gone("d")], "f@0"),
        (vec![opaque("d"), file("d/n")], "d@1 d/n@1 f@0"),
        (vec![gone("d"), directory("d"), file("d/n")], "d@1 d/n@1 f@0"),
        (vec![opaque("")], ""),
        // Directory to file, to link, and back.
        (vec![file("d")], "d@1 f@0"),
        (vec![symlink("d", "f")], "d@1 f@0"),
        (vec![directory("f"), file("f/y")], "d@0 d/a@0 d/b@0 d/e@0 d/e/x@0 f@1 f/y@1"),
        (vec![file("f/y")], "d@0 d/a@0 d/b@0 d/e@0 d/e/x@0 f@1 f/y@1"),
        // A directory over a directory takes its metadata and keeps the content.
        (vec![directory("d")], "d@1 d/a@0 d/b@0 d/e@0 d/e/x@0 f@0"),
        (vec![file("d/e/x")], "d@0 d/a@0 d/b@0 d/e@0 d/e/x@1 f@0"),
        (vec![gone("missing"), gone("no/such")], "d@0 d/a@0 d/b@0 d/e@0 d/e/x@0 f@0 no@1"),
    ] {
        assert_eq!(listing(&tree(&[base, &upper])).join(" "), want, "{upper:?}");
    }
}

#[test]
fn transitions_over_three_layers() {
    let dir_file_dir = tree(&[&[file("p/old")], &[file("p")], &[directory("p"), file("p/new")]]);
    assert_eq!(listing(&dir_file_dir), ["p@2", "p/new@2"]);
    let deleted_and_back = tree(&[&[directory("p"), file("p/old")], &[gone("p")], &[file("p/new")]]);
    assert_eq!(listing(&deleted_and_back), ["p@2", "p/new@2"]);
    assert_eq!(deleted_and_back.get(&path("p")).unwrap().entry.mode, 0o755);
}

#[test]
fn undescribed_directories_keep_the_metadata_below() {
    let below = Entry { mode: 0o1777, ..directory("tmp") };
    let layers = tree(&[std::slice::from_ref(&below), &[file("tmp/x/y")]]);
    assert_eq!(layers.get(&path("tmp")), Some(Node { entry: below, layer: 0 }));
    assert_eq!(layers.get(&path("tmp/x")).unwrap().entry.mode, 0o755);
    let repairs = layers.repairs(&|_, _| Content::Empty).unwrap();
    let repaired: Vec<_> =
        repairs.iter().map(|change| (change.entry.path.to_string(), change.entry.mode)).collect();
    assert_eq!(repaired, [("/tmp".to_owned(), 0o1777)]);
    assert_eq!(Tree::default().get(&LayerPath::root()).unwrap().entry.mode, 0o755);
}

#[test]
fn hard_links_lead_to_their_content() {
    let layers = tree(&[
        &[Entry { uid: 5, ..file("a") }, link("b", "a"), symlink("l", "a")],
        &[gone("a"), link("c", "b"), link("m", "l")],
        &[file("b")],
    ]);
    let at =
        |name: &str| layers.file(&path(name)).map(|file| (file.layer, file.path.to_string(), file.entry.uid));
    assert_eq!(at("a"), None);
    assert_eq!(at("b"), Some((2, "/b".to_owned(), 0)));
    assert_eq!(at("c"), Some((0, "/a".to_owned(), 5)));
    assert!(matches!(layers.get(&path("m")).unwrap().entry.kind, EntryKind::Symlink { .. }));
    let repairs = layers.repairs(&|layer, path| Content::File(format!("{layer}{path}").into())).unwrap();
    let files = repairs.iter().filter(|change| matches!(change.entry.kind, EntryKind::File { .. }));
    assert_eq!(files.map(|change| change.entry.path.to_string()).collect::<Vec<_>>(), ["/c"]);
    assert!(tree(&[&[link("x", "nowhere")]]).repairs(&|_, _| Content::Empty).is_err());
}

#[test]
fn resolving() {
    let layers = tree(&[
        &[
            directory("usr"),
            directory("usr/lib"),
            file("usr/lib/x"),
            symlink("lib", "usr/lib"),
            symlink("abs", "/usr"),
            symlink("up", "../../../usr/./lib/"),
            symlink("loop", "pool"),
            symlink("pool", "loop"),
            symlink("self", "."),
            symlink("dangling", "no/where"),
            symlink("usr/out", "/../../../etc/passwd"),
        ],
        &[symlink("usr/lib/y", "../../lib/x")],
    ]);
    let resolve = |path: &str, base: &str, follow: bool| {
        let found = layers.resolve(path.as_bytes(), &LayerPath::new(base).unwrap(), follow);
        found.map(|found| (found.path.to_string(), found.exists)).map_err(|error| error.to_string())
    };
    for (path, base, follow, want, exists) in [
        ("/lib/x", "", true, "/usr/lib/x", true),
        ("lib", "", false, "/lib", true),
        ("lib/", "", false, "/usr/lib", true),
        ("lib", "", true, "/usr/lib", true),
        ("lib/..", "", true, "/usr", true),
        ("abs/lib/x", "", true, "/usr/lib/x", true),
        ("up", "", true, "/usr/lib", true),
        ("x", "usr/lib", true, "/usr/lib/x", true),
        ("y", "usr/lib", true, "/usr/lib/x", true),
        ("/usr/lib/y", "usr", true, "/usr/lib/x", true),
        ("../../../..", "usr/lib", true, "/", true),
        ("", "usr", true, "/usr", true),
        ("/", "usr", true, "/", true),
        ("self/self/self/lib", "", true, "/usr/lib", true),
        ("usr/out", "", true, "/etc/passwd", false),
        ("dangling", "", true, "/no/where", false),
        ("dangling", "", false, "/dangling", true),
        ("new", "usr", true, "/usr/new", false),
        ("a/b/../c", "", true, "/a/c", false),
        ("x", "lib", true, "/usr/lib/x", true),
    ] {
        assert_eq!(resolve(path, base, follow), Ok((want.to_owned(), exists)), "{path} {base} {follow}");
    }
    assert!(resolve("loop", "", true).unwrap_err().contains("too many levels"));
    assert!(resolve("loop/x", "", false).unwrap_err().contains("too many levels"));
    assert!(resolve("usr/lib/x/y", "", true).unwrap_err().contains("not a directory"));
    assert!(resolve(&"n".repeat(256), "", true).is_err());
}

#[test]
fn a_layer_on_a_tall_stack_shares_it() {
    let base = Tree::new((0..100).map(|number| index(&[file(&format!("d/{number}"))])).collect());
    let taller = base.with_layer(index(&[file("top")]));
    assert!(Arc::ptr_eq(&base.layers()[0], &taller.layers()[0]));
    assert_eq!(taller.children(&path("d")).len(), 100);
    assert_eq!(taller.get(&path("d/0")).unwrap().layer, 0);
    assert_eq!(taller.walk(&LayerPath::root()).len(), 102);
}

/// A merged file system: what unpacking the layers into one directory would leave.
#[derive(Default)]
struct Model(BTreeMap<LayerPath, (Entry, usize)>);

impl Model {
    fn apply(&mut self, layer: &LayerIndex, number: usize) {
        let (markers, entries): (Vec<_>, Vec<_>) = layer.entries().partition(Entry::is_marker);
        for marker in markers {
            self.parents(&marker.path, number);
            self.0.retain(|path, _| !path.starts_with(&marker.path));
            if marker.kind == EntryKind::Opaque {
                self.directory(&marker.path, number);
            }
        }
        for entry in entries {
            self.parents(&entry.path, number);
            let stood = self.0.get(&entry.path).is_some_and(|(stood, _)| stood.is_directory());
            if !(stood && entry.is_directory()) {
                self.0.retain(|path, _| !path.starts_with(&entry.path));
            }
            self.0.insert(entry.path.clone(), (entry, number));
        }
    }

    fn parents(&mut self, path: &LayerPath, number: usize) {
        path.ancestors().for_each(|above| self.directory(&above, number));
    }

    fn directory(&mut self, path: &LayerPath, number: usize) {
        if path.is_root() {
            return;
        }
        if !self.0.get(path).is_some_and(|(stood, _)| stood.is_directory()) {
            self.0.insert(path.clone(), (implicit(path.clone(), 0).entry, number));
        }
    }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "c.d", "c"]), 1..4);
    (path, 0..6u8, 0..8u32).prop_map(|(path, kind, uid)| {
        let at = LayerPath::new(path.join("/")).unwrap();
        let entry = |kind| Entry { uid, ..Entry::new(at.clone(), kind, 0o640) };
        match kind {
            0 | 1 => entry(EntryKind::File { size: uid.into() }),
            2 => entry(EntryKind::Directory),
            3 => entry(EntryKind::Fifo),
            4 => Entry::whiteout(at),
            _ => Entry::opaque(at),
        }
    })
}

/// A layer in which no entry stands below a file: such an archive is refused.
fn any_layer() -> impl Strategy<Value = Arc<LayerIndex>> {
    prop::collection::vec(any_entry(), 0..8).prop_map(|entries| {
        let mut builder = Builder::new();
        for entry in entries {
            _ = builder.place(entry);
        }
        Arc::new(builder.finish().unwrap())
    })
}

proptest! {
    #[test]
    fn agrees_with_really_merging(layers in prop::collection::vec(any_layer(), 0..5)) {
        let mut model = Model::default();
        layers.iter().enumerate().for_each(|(number, layer)| model.apply(layer, number));
        let tree = Tree::new(layers);
        let merged: Vec<_> = tree.walk(&LayerPath::root()).into_iter().map(|(path, node)| (path, node.entry)).collect();
        let want = model.0.iter().filter(|(path, _)| !path.is_root());
        let want: Vec<_> = want.map(|(path, (entry, _))| (path.clone(), entry.clone())).collect();
        prop_assert_eq!(&merged, &want);
        for (path, entry) in &want {
            prop_assert_eq!(&tree.get(path).unwrap().entry, entry);
        }
        for name in ["a", "b", "c", "c.d"] {
            for below in ["a", "b", "c"] {
                let path = LayerPath::new(format!("{name}/{below}")).unwrap();
                prop_assert_eq!(tree.get(&path).map(|node| node.entry), model.0.get(&path).map(|(entry, _)| entry.clone()));
            }
        }
    }
}
