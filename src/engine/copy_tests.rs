use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::dockerfile::Selection;
use crate::engine::{Cancel, Settings};
use crate::layer::TarWriter;
use crate::plan::{CopyFrom, Inline};
use crate::secrets::Secrets;
use crate::store::Store;

/// When the steps of these tests are carried out.
const NOW: i64 = 5000;

struct Bench {
    engine: Engine,
    _store: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let store = tempfile::tempdir().unwrap();
        let settings = Settings {
            sandbox: None,
            workers: 1,
            epoch: None,
            now: NOW,
            cpu_models: Vec::new(),
            step_timeout: None,
            interpreters: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            secrets: Secrets::default(),
            ssh: BTreeMap::new(),
        };
        let open = Arc::new(Store::open(store.path()).unwrap());
        Self { engine: Engine::new(open, settings, Cancel::default()).unwrap(), _store: store }
    }

    /// A stage with these files.
    fn state(&mut self, changes: &[Change]) -> State {
        let needs = Needs { blob: true, directory: false };
        State::default().with(self.engine.keep(changes, needs).unwrap())
    }

    fn copy(&mut self, op: &CopyOp, sources: &[CopySource<'_>], below: &State) -> Result<Done, String> {
        let needs = Needs { blob: true, directory: false };
        let fail = |error: EngineError| error.to_string();
        let copied = self.engine.prepare_copy(op, sources, below).map_err(fail)?;
        let state = State::default().with(self.engine.keep_copy(&copied, needs).map_err(fail)?);
        let index = self.engine.index(&state.layers[0]).unwrap();
        let mut entries = Vec::new();
        for entry in index.entries() {
            let what = match &entry.kind {
                EntryKind::Directory => "d".to_owned(),
                EntryKind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
                EntryKind::HardLink { target } => format!("= {target}"),
                EntryKind::File { .. } => {
                    let contents = self.engine.contents(&state, [(0, entry.path.clone())]).unwrap();
                    let mut content = contents.get(0, &entry.path).unwrap().open().unwrap();
                    std::io::read_to_string(&mut content).unwrap()
                }
                other => format!("{other:?}"),
            };
            let (mode, uid, gid) = (entry.mode, entry.uid, entry.gid);
            entries.push(format!("{} {mode:o} {uid}:{gid} @{} {what}", entry.path, entry.mtime));
        }
        Ok(Done { entries, notes: copied.notes })
    }
}

#[derive(Debug)]
struct Done {
    entries: Vec<String>,
    notes: Vec<String>,
}

fn entry(at: &str, kind: EntryKind, mode: u32, owner: (u32, u32), mtime: i64) -> Entry {
    let mut entry = Entry::new(LayerPath::new(at).unwrap(), kind, mode);
    (entry.uid, entry.gid) = owner;
    entry.mtime = mtime;
    entry
}

fn directory(at: &str, mode: u32) -> Change {
    Change::bare(entry(at, EntryKind::Directory, mode, (0, 0), 7))
}

fn file(at: &str, data: &str) -> Change {
    let kind = EntryKind::File { size: data.len() as u64 };
    Change { entry: entry(at, kind, 0o644, (0, 0), 9), content: Content::Bytes(data.as_bytes().into()) }
}

fn link(at: &str, target: &str) -> Change {
    Change::bare(entry(at, EntryKind::Symlink { target: target.into() }, 0o777, (0, 0), 9))
}

fn hard_link(at: &str, target: &str) -> Change {
    let kind = EntryKind::HardLink { target: LayerPath::new(target).unwrap() };
    Change::bare(entry(at, kind, 0o644, (0, 0), 9))
}

fn context(changes: Vec<Change>) -> Context {
    Context::gathered(changes).unwrap()
}

fn op(words: &[&str], destination: &str) -> CopyOp {
    CopyOp {
        instruction: "COPY",
        parts: vec![part(words)],
        inline: Vec::new(),
        destination: destination.to_owned(),
        cwd: "/w".to_owned(),
        chown: None,
        chmod: None,
        link: false,
        stage: "s".to_owned(),
    }
}

fn part(words: &[&str]) -> CopyPart {
    CopyPart { from: CopyFrom::Nothing, selection: Selection::of(words.to_vec()), unpack: false }
}

fn with_parents(mut op: CopyOp) -> CopyOp {
    op.parts.iter_mut().for_each(|part| part.selection.parents = true);
    op
}

fn without(mut op: CopyOp, patterns: &[&str]) -> CopyOp {
    let patterns: Vec<_> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    op.parts.iter_mut().for_each(|part| part.selection.exclude.clone_from(&patterns));
    op
}

fn unpacking(mut op: CopyOp) -> CopyOp {
    op.instruction = "ADD";
    op.parts.iter_mut().for_each(|part| part.unpack = true);
    op
}

fn tar(changes: &[Change]) -> String {
    let mut writer = TarWriter::new(Vec::new());
    for change in changes {
        writer.append(&change.entry, &mut change.content.open().unwrap()).unwrap();
    }
    String::from_utf8(writer.finish().unwrap()).unwrap()
}

fn tree() -> Vec<Change> {
    vec![
        directory("x", 0o700),
        directory("x/y", 0o2755),
        file("x/y/a.txt", "a"),
        file("x/y/b.md", "b"),
        link("x/y/to", "a.txt"),
        file("c.md", "c"),
    ]
}

#[test]
fn parents_keep_the_sources_metadata() {
    let mut bench = Bench::new();
    let sources = context(tree());
    let nothing = State::default();
    let done =
        bench.copy(&with_parents(op(&["x/y/a.txt"], "/o")), &[CopySource::Context(&sources)], &nothing);
    assert_eq!(
        done.unwrap().entries,
        ["/o 755 0:0 @5000 d", "/o/x 700 0:0 @7 d", "/o/x/y 2755 0:0 @7 d", "/o/x/y/a.txt 644 0:0 @9 a"]
    );
    // A pivot, a link that is kept, and flags that reach the directories.
    let mut changed = with_parents(op(&["x/./y/*t*", "./c.md"], "o"));
    changed.chmod = Some("750".to_owned());
    changed.chown = Some("3:4".to_owned());
    let done = bench.copy(&changed, &[CopySource::Context(&sources)], &nothing).unwrap();
    assert_eq!(
        done.entries,
        [
            "/w 750 3:4 @5000 d",
            "/w/o 750 3:4 @5000 d",
            "/w/o/c.md 750 3:4 @9 c",
            "/w/o/y 750 3:4 @7 d",
            "/w/o/y/a.txt 750 3:4 @9 a",
            "/w/o/y/to 777 3:4 @9 -> a.txt",
        ]
    );
    // From a stage, owners too; directories that are there take what the source has.
    let mut owned = tree();
    owned[1].entry.uid = 12;
    let stage = bench.state(&owned);
    let below = bench.state(&[directory("x", 0o777), directory("x/y", 0o777)]);
    let done = bench.copy(&with_parents(op(&["x/**/*.md"], "/")), &[CopySource::State(&stage)], &below);
    assert_eq!(done.unwrap().entries, ["/x 700 0:0 @7 d", "/x/y 2755 12:0 @7 d", "/x/y/b.md 644 0:0 @9 b"]);
}

#[test]
fn destinations_with_parents_are_directories() {
    let mut bench = Bench::new();
    let sources = context(tree());
    let below = bench.state(&[file("f", "")]);
    let copy = with_parents(op(&["c.md"], "/f"));
    let error = bench.copy(&copy, &[CopySource::Context(&sources)], &below).unwrap_err();
    assert_eq!(error, "cannot copy to non-directory: /f");
    let several = with_parents(op(&["c.md", "x/y/a.txt"], "/o"));
    assert!(bench.copy(&several, &[CopySource::Context(&sources)], &below).is_ok());
    let clash = context(vec![directory("f", 0o755), file("f/x", "")]);
    let error = bench.copy(&with_parents(op(&["f/x"], "/")), &[CopySource::Context(&clash)], &below);
    assert_eq!(error.unwrap_err(), "cannot copy to non-directory: /f");
}

#[test]
fn excluded_files_are_not_copied() {
    let mut bench = Bench::new();
    let sources = context(tree());
    let nothing = State::default();
    let mut copy = |op: &CopyOp| bench.copy(op, &[CopySource::Context(&sources)], &nothing).unwrap();
    let done = copy(&without(op(&["x"], "/o"), &["y/*", "!y/b.md"]));
    assert_eq!(done.entries, ["/o 755 0:0 @7 d", "/o/y 2755 0:0 @7 d", "/o/y/b.md 644 0:0 @9 b"]);
    let done = copy(&without(op(&["x/y/*", "c.md"], "/o/"), &["*.md", "to"]));
    assert_eq!(done.entries, ["/o 755 0:0 @5000 d", "/o/a.txt 644 0:0 @9 a"]);
    assert_eq!(done.notes, ["no file matches \"c.md\" that --exclude leaves"]);
    let done = copy(&without(op(&["nothing*"], "/o"), &[]));
    assert_eq!(done.notes, ["no file matches \"nothing*\""]);
    assert!(done.entries.is_empty());
    let done = copy(&without(with_parents(op(&["x"], "/o")), &["**/*.md", "**/to"]));
    assert_eq!(done.entries.last().unwrap(), "/o/x/y/a.txt 644 0:0 @9 a");
}

#[test]
fn hard_links_survive_exclusions() {
    let mut bench = Bench::new();
    let sources = context(vec![file("a", "x"), hard_link("b", "a"), hard_link("c", "a")]);
    let nothing = State::default();
    let copy = without(op(&["."], "/o/"), &["a"]);
    let done = bench.copy(&copy, &[CopySource::Context(&sources)], &nothing).unwrap();
    assert_eq!(done.entries[1..], ["/o/b 644 0:0 @9 x", "/o/c 644 0:0 @9 = /o/b"]);
    // Among the files of one source alone.
    let done = bench.copy(&op(&["a", "b"], "/o/"), &[CopySource::Context(&sources)], &nothing).unwrap();
    assert_eq!(done.entries[1..], ["/o/a 644 0:0 @9 x", "/o/b 644 0:0 @9 x"]);
}

#[test]
fn a_link_layer_does_not_depend_on_what_is_below() {
    let mut bench = Bench::new();
    let sources = context(tree());
    let passwd = "app:x:1000:1001::/:\n";
    let below = bench.state(&[
        directory("etc", 0o755),
        file("etc/passwd", passwd),
        link("o", "elsewhere"),
        directory("d", 0o700),
        directory("elsewhere", 0o700),
    ]);
    let linked = |words: &[&str], destination: &str| CopyOp { link: true, ..op(words, destination) };
    let mut copy = |op: &CopyOp, below: &State| {
        bench.copy(op, &[CopySource::Context(&sources)], below).map(|done| done.entries)
    };
    // Without the flag the link is followed.
    assert_eq!(
        copy(&op(&["c.md"], "/o/"), &below).unwrap(),
        ["/elsewhere 700 0:0 @7 d", "/elsewhere/c.md 644 0:0 @9 c"]
    );
    for (copied, want) in [
        (linked(&["c.md"], "/o/"), vec!["/o 755 0:0 @5000 d", "/o/c.md 644 0:0 @9 c"]),
        (linked(&["c.md"], "/d"), vec!["/d 644 0:0 @9 c"]),
        (linked(&["x/y/a.txt"], "/d/e/f"), {
            vec!["/d 755 0:0 @5000 d", "/d/e 755 0:0 @5000 d", "/d/e/f 644 0:0 @9 a"]
        }),
        (
            CopyOp { chmod: Some("4710".into()), chown: Some("5:6".into()), ..linked(&["c.md"], "/o/") },
            vec!["/o 710 5:6 @5000 d", "/o/c.md 4710 5:6 @9 c"],
        ),
        (
            CopyOp { chmod: Some("u+x".into()), ..linked(&["c.md"], "o") },
            vec!["/w 755 0:0 @5000 d", "/w/o 744 0:0 @9 c"],
        ),
        (with_parents(linked(&["x/y/a.txt"], "/d")), {
            let x = ["/d 755 0:0 @5000 d", "/d/x 700 0:0 @7 d", "/d/x/y 2755 0:0 @7 d"];
            x.into_iter().chain(["/d/x/y/a.txt 644 0:0 @9 a"]).collect()
        }),
    ] {
        assert_eq!(copy(&copied, &below).unwrap(), want);
        assert_eq!(copy(&copied, &State::default()).unwrap(), want);
    }
    let named = CopyOp { chown: Some("app".into()), ..linked(&["c.md"], "/o/") };
    assert_eq!(copy(&named, &below).unwrap(), ["/o 755 1000:1001 @5000 d", "/o/c.md 644 1000:1001 @9 c"]);
    assert_eq!(
        copy(&named, &State::default()).unwrap_err(),
        "--chown: no user \"app\" in /etc/passwd of stage \"s\""
    );
}

#[test]
fn owners_are_those_of_the_stage() {
    let mut bench = Bench::new();
    let sources = context(tree());
    let below = bench.state(&[
        directory("etc", 0o755),
        file("etc/passwd", "app:x:1000:1001::/:\n"),
        file("etc/group", "web:x:33:\n"),
    ]);
    for (chown, want) in [
        ("app", Ok("1000:1001")),
        ("app:web", Ok("1000:33")),
        ("77", Ok("77:77")),
        (":web", Ok("0:33")),
        (":5", Ok("0:5")),
        ("1:2", Ok("1:2")),
        ("nosuch", Err("--chown: no user \"nosuch\" in /etc/passwd of stage \"s\"")),
        ("app:nosuch", Err("--chown: no group \"nosuch\" in /etc/group of stage \"s\"")),
        ("4294967296", Err("--chown=4294967296: `4294967296` is not a user or group id")),
    ] {
        let op = CopyOp { chown: Some(chown.to_owned()), ..op(&["x/y/to", "x/y"], "/o/") };
        match (bench.copy(&op, &[CopySource::Context(&sources)], &below), want) {
            (Ok(done), Ok(owner)) => {
                assert!(done.entries.iter().all(|entry| entry.contains(&format!(" {owner} "))), "{done:?}");
            }
            (Err(error), Err(text)) => assert!(error.starts_with(text), "{error}"),
            (found, _) => panic!("{chown}: {found:?}"),
        }
    }
}

#[test]
fn parts_are_counted_together() {
    let mut bench = Bench::new();
    let (first, second) = (context(vec![file("a", "1")]), context(vec![file("page", "2")]));
    let sources = [CopySource::Context(&first), CopySource::Context(&second)];
    let two =
        |destination: &str| CopyOp { parts: vec![part(&["a"]), part(&["page"])], ..op(&[], destination) };
    let below = bench.state(&[directory("is", 0o755)]);
    assert_eq!(
        bench.copy(&two("/o"), &sources, &below).unwrap_err(),
        "COPY with 2 sources needs a directory as destination: write \"/o/\""
    );
    for (destination, want) in [
        ("/o/", ["/o 755 0:0 @5000 d", "/o/a 644 0:0 @9 1", "/o/page 644 0:0 @9 2"]),
        ("/is", ["/is 755 0:0 @7 d", "/is/a 644 0:0 @9 1", "/is/page 644 0:0 @9 2"]),
        (".", ["/w 755 0:0 @5000 d", "/w/a 644 0:0 @9 1", "/w/page 644 0:0 @9 2"]),
    ] {
        assert_eq!(bench.copy(&two(destination), &sources, &below).unwrap().entries, want);
    }
    // A file alone takes the destination's name; a tree makes it a directory.
    assert_eq!(bench.copy(&op(&["page"], "/o"), &sources[1..], &below).unwrap().entries, ["/o 644 0:0 @9 2"]);
    let done = bench.copy(&op(&["."], "/o"), &sources[1..], &below).unwrap();
    assert_eq!(done.entries, ["/o 755 0:0 @5000 d", "/o/page 644 0:0 @9 2"]);
    // The last writer wins, and heredocs come last.
    let mut same = CopyOp { parts: vec![part(&["a"]), part(&["."])], ..op(&[], "/o/") };
    same.inline = vec![Inline { name: "page".to_owned(), content: "inline".to_owned() }];
    let done = bench.copy(&same, &sources, &below).unwrap();
    assert_eq!(done.entries, ["/o 755 0:0 @5000 d", "/o/a 644 0:0 @9 1", "/o/page 644 0:0 @5000 inline"]);
    // A pattern that finds nothing is a source all the same.
    let mut absent = CopyOp { parts: vec![part(&["no*"])], ..op(&[], "/o") };
    absent.inline.clone_from(&same.inline);
    assert!(bench.copy(&absent, &sources[..1], &below).is_err());
}

#[test]
fn archives_are_unpacked_wherever_they_lie() {
    let mut bench = Bench::new();
    let mut owned = file("d/f", "f");
    (owned.entry.uid, owned.entry.gid, owned.entry.mode) = (44, 55, 0o4711);
    let bytes = tar(&[owned, hard_link("d/g", "d/f"), link("l", "d/f")]);
    let files = vec![file("data", &bytes), file("note", "n")];
    let nothing = State::default();
    let stage = bench.state(&files);
    let gathered = context(files);
    let want = [
        "/o 755 0:0 @5000 d",
        "/o/d 755 0:0 @5000 d",
        "/o/d/f 4711 44:55 @9 f",
        "/o/d/g 4711 44:55 @9 = /o/d/f",
        "/o/l 777 0:0 @9 -> d/f",
    ];
    for source in [CopySource::Context(&gathered), CopySource::State(&stage)] {
        let done = bench.copy(&unpacking(op(&["data"], "/o")), &[source], &nothing).unwrap();
        assert_eq!(done.entries, want);
        let kept = bench.copy(&op(&["data"], "/o"), &[source], &nothing).unwrap();
        assert_eq!(kept.entries.len(), 1);
        // What is no archive is copied, and so is what lies in a directory.
        let done = bench.copy(&unpacking(op(&["note"], "/o")), &[source], &nothing).unwrap();
        assert_eq!(done.entries, ["/o 644 0:0 @9 n"]);
        let whole = bench.copy(&unpacking(op(&["."], "/o")), &[source], &nothing).unwrap();
        assert!(whole.entries[1].starts_with("/o/data 644"), "{whole:?}");
        let linked = CopyOp { link: true, chown: Some("1:2".into()), ..unpacking(op(&["data"], "/o")) };
        let done = bench.copy(&linked, &[source], &nothing).unwrap();
        assert!(done.entries.iter().all(|entry| entry.contains(" 1:2 ")), "{done:?}");
        let changed = CopyOp { chmod: Some("600".into()), ..unpacking(op(&["data"], "/o")) };
        for (op, flag) in
            [(changed, "--chmod"), (without(unpacking(op(&["data"], "/o")), &["x"]), "--exclude")]
        {
            let error = bench.copy(&op, &[source], &nothing).unwrap_err();
            assert_eq!(error, format!("{flag} does not apply to the archive `data`, which is unpacked"));
        }
        // An archive that is left out is not looked into.
        let done = bench.copy(&without(unpacking(op(&["data"], "/o")), &["data"]), &[source], &nothing);
        assert!(done.unwrap().entries.is_empty());
    }
}

#[test]
fn names_of_a_file_that_an_archive_replaces_keep_their_data() {
    let mut bench = Bench::new();
    let bytes = tar(&[file("a", "1"), hard_link("b", "a"), file("a", "2"), hard_link("c", "a")]);
    let sources = context(vec![file("t", &bytes)]);
    let copy = unpacking(op(&["t"], "/o"));
    let done = bench.copy(&copy, &[CopySource::Context(&sources)], &State::default()).unwrap();
    assert_eq!(done.entries[1..], ["/o/a 644 0:0 @9 2", "/o/b 644 0:0 @9 1", "/o/c 644 0:0 @9 = /o/a"]);
}

#[test]
fn what_cannot_be_a_destination_is_refused() {
    let mut bench = Bench::new();
    let sources = context(tree());
    let below = bench.state(&[
        file("f", ""),
        directory("d", 0o755),
        directory("d/c.md", 0o755),
        link("loop", "loop"),
        directory("p", 0o755),
        link("p/y", "/elsewhere"),
    ]);
    for (words, destination, want) in [
        (["c.md"], "/f/x", "`/f` is not a directory"),
        (["c.md"], "/f/", "cannot copy to non-directory: /f"),
        (["x"], "/f", "cannot copy to non-directory: /f"),
        (["c.md"], "/d", "cannot replace to directory /d/c.md with file"),
        (["c.md"], "/loop", "too many levels of symbolic links at `/loop`"),
        (["x"], "/p", "cannot copy to non-directory: /p/y"),
        (["nope"], "/o", "\"/nope\": not found"),
    ] {
        let error = bench.copy(&op(&words, destination), &[CopySource::Context(&sources)], &below);
        assert_eq!(error.unwrap_err(), want, "{words:?} {destination}");
    }
}

#[test]
fn destinations_are_found_inside_the_root() {
    let mut bench = Bench::new();
    let sources = context(tree());
    let mut shared = directory("shared", 0o777);
    (shared.entry.uid, shared.entry.gid) = (3, 4);
    let below = bench.state(&[
        shared,
        link("out", "../../../shared"),
        directory("etc", 0o755),
        file("etc/real", "old"),
        link("etc/name", "real"),
    ]);
    for (words, destination, want) in [
        (["c.md"], "/out", vec!["/shared 777 3:4 @7 d", "/shared/c.md 644 0:0 @9 c"]),
        (["c.md"], "/../../out/../x/", vec!["/x 755 0:0 @5000 d", "/x/c.md 644 0:0 @9 c"]),
        (["c.md"], "/etc/name", vec!["/etc 755 0:0 @7 d", "/etc/real 644 0:0 @9 c"]),
        (["c.md"], "", vec!["/w 755 0:0 @5000 d", "/w/c.md 644 0:0 @9 c"]),
        (["c.md"], "a/b", vec!["/w 755 0:0 @5000 d", "/w/a 755 0:0 @5000 d", "/w/a/b 644 0:0 @9 c"]),
        // A directory that is there keeps owner and mode, and gets the source's time.
        (["x/y"], "/shared", {
            let first = ["/shared 777 3:4 @7 d", "/shared/a.txt 644 0:0 @9 a"];
            first.into_iter().chain(["/shared/b.md 644 0:0 @9 b", "/shared/to 777 0:0 @9 -> a.txt"]).collect()
        }),
        // The last component of a source is followed and keeps the link's name.
        (["x/y/to"], "/etc/", vec!["/etc 755 0:0 @7 d", "/etc/to 644 0:0 @9 a"]),
    ] {
        let done = bench.copy(&op(&words, destination), &[CopySource::Context(&sources)], &below).unwrap();
        assert_eq!(done.entries, want, "{words:?} {destination}");
    }
}

#[test]
fn sockets_are_remarked_where_they_are_met() {
    let folder = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("sock")).unwrap());
    std::fs::write(folder.path().join("f"), "").unwrap();
    let sources = Context::open(folder.path(), crate::dockerfile::ignore::Ignore::none()).unwrap();
    let mut bench = Bench::new();
    let nothing = State::default();
    let mut copy = |op: &CopyOp| bench.copy(op, &[CopySource::Context(&sources)], &nothing);
    assert!(copy(&op(&["f"], "/o")).unwrap().notes.is_empty());
    let note = "/sock is a socket, which no image can hold: it is not copied";
    assert_eq!(copy(&op(&["."], "/o")).unwrap().notes, [note]);
    assert!(copy(&without(op(&["."], "/o"), &["s*"])).unwrap().notes.is_empty());
    assert_eq!(copy(&op(&["nope"], "/o")).unwrap_err(), "\"/nope\": not found");
    assert_eq!(copy(&op(&["sock"], "/o")).unwrap_err(), "\"/sock\" is a socket, which no image can hold");
}
