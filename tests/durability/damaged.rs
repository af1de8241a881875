//! Files of the store that are damaged: dropped with a warning, and made again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::slice;
use std::time::Duration;

use super::{cache, command, context, files, store_is_whole};
use crate::support::{
    HttpServer, Index, Outcome, Page, Registry, Run, User, World, is_root, layout, shared_registry, tool,
    users,
};

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Flipped,
    Half,
    Empty,
    Zeroed,
    Gone,
}

const DAMAGES: [Damage; 5] = [Damage::Flipped, Damage::Half, Damage::Empty, Damage::Zeroed, Damage::Gone];

fn damage(path: &Path, how: Damage) {
    if how == Damage::Gone {
        return fs::remove_file(path).expect("remove");
    }
    let file = File::options().read(true).write(true).open(path).expect("open");
    let length = file.metadata().expect("metadata").len();
    match how {
        Damage::Flipped if length > 0 => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, length / 2).expect("read");
            file.write_all_at(&[byte[0] ^ 4], length / 2).expect("write");
        }
        Damage::Half => file.set_len(length / 2).expect("truncate"),
        Damage::Empty => file.set_len(0).expect("truncate"),
        Damage::Zeroed => file.write_all_at(&vec![0; length as usize], 0).expect("write"),
        Damage::Flipped | Damage::Gone => {}
    }
}

/// What is built with a store that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// The same, to a registry that has nothing of it, nor of the base.
    Push,
    /// One command more.
    More,
    /// The same as a layout.
    Layout,
    /// A stage whose layers nobody has wanted as blobs yet.
    Stage,
}

const NEXT: [Next; 4] = [Next::Push, Next::More, Next::Layout, Next::Stage];

/// A store in which a build was made, of which every damage gets a copy.
struct Damaged {
    world: World,
    server: HttpServer,
    registry: Registry,
    pristine: PathBuf,
    expected: BTreeMap<Next, String>,
    tries: usize,
}

impl Damaged {
    fn new(user: User) -> Self {
        let server = HttpServer::start();
        server.put("/file", Page::new("from afar\n").etag("one").modified("Tue, 14 Nov 2023 22:13:20 GMT"));
        let mut made = Self {
            world: World::of(user),
            pristine: PathBuf::new(),
            server,
            registry: Registry::start(),
            expected: BTreeMap::new(),
            tries: 0,
        };
        made.pristine = made.world.path("pristine");
        // What is right was made by builds that had a new store each.
        for next in NEXT {
            let (outcome, digest) = made.build(next);
            outcome.success();
            made.expected.insert(next, digest.expect("an image"));
            made.renew(None);
        }
        // What has changed a moment ago may change again without a trace, and is not remembered.
        std::thread::sleep(Duration::from_secs(3));
        made.build(Next::Layout).0.success();
        fs::rename(made.world.root(), &made.pristine).expect("rename");
        made
    }

    /// Makes the store new: empty, or a copy.
    fn renew(&self, from: Option<&Path>) {
        let run = |words: &[&str]| match is_root() {
            true => tool(words[0], &words[1..]).success(),
            false => tool("unshare", [&["--user", "--map-root-user", "--map-auto", "--"], words].concat())
                .success(),
        };
        let root = self.world.root();
        run(&["rm", "-rf", root.to_str().expect("UTF-8")]);
        match from {
            None => drop(self.world.folder("root")),
            Some(from) => {
                run(&["cp", "-a", from.to_str().expect("UTF-8"), root.to_str().expect("UTF-8")]);
            }
        }
    }

    fn context(&self, dockerfile: &str) -> PathBuf {
        context(&self.world, &dockerfile.replace("URL", &self.server.url("/file")))
    }

    /// Builds, and gives the digest of what was made, where that is whole.
    fn build(&mut self, next: Next) -> (Outcome, Option<String>) {
        self.tries += 1;
        let out = self.world.path(&format!("out/{}", self.tries));
        let name = format!("damaged/{}", self.tries);
        let mut command = command(&self.world);
        match next {
            Next::Push => command.args(["--push", "-t", &self.registry.name(&name)]),
            Next::Stage => command.args(["--target", "tools", "--output", &layout(&out)]),
            Next::More | Next::Layout => command.args(["--output", &layout(&out)]),
        };
        let more = format!("{DOWNLOADS}RUN echo more > /more\n");
        let context = self.context(if next == Next::More { &more } else { DOWNLOADS });
        let outcome = Run::new(command).arg(context).run();
        if outcome.exit() != 0 {
            return (outcome, None);
        }
        let (registry, read) = (&self.registry, out.clone());
        let digest = std::panic::catch_unwind(|| {
            if next == Next::Push {
                // What another reader of registries finds.
                let copy = format!("dir:{}", read.display());
                let words = ["--insecure-policy", "copy", "--quiet", "--all", "--src-tls-verify=false"];
                tool(
                    "skopeo",
                    [&words[..], &[&format!("docker://{}", registry.name(&name)), &copy]].concat(),
                )
                .success();
                registry.index(&name, "latest").digest
            } else {
                Index::layout(&read).digest
            }
        });
        let _ = fs::remove_dir_all(out);
        (outcome, digest.ok())
    }

    /// Damages files of a copy of the store and builds. Gives what is wrong with that, if anything is.
    fn try_with(&mut self, what: &str, paths: &[PathBuf], how: Damage, next: Next) -> Option<String> {
        self.renew(Some(&self.pristine));
        for path in paths {
            damage(&self.world.root().join(path), how);
        }
        let (outcome, digest) = self.build(next);
        let shown = format!("{what}, {how:?}, {next:?}: {paths:?}");
        if outcome.exit() != 0 {
            return Some(format!("{shown}\n{}", outcome.report()));
        }
        if digest.as_ref() != self.expected.get(&next) {
            return Some(format!("{shown}: another image\n{}", outcome.report()));
        }
        let again = self.build(next);
        if again.0.exit() != 0 || again.1.as_ref() != self.expected.get(&next) {
            return Some(format!("{shown}: the second time\n{}", again.0.report()));
        }
        None
    }

    /// Files of the store by what they are, as paths below the store.
    fn kinds(&self) -> BTreeMap<&'static str, Vec<PathBuf>> {
        let base = shared_registry().index("busybox", "latest");
        let of_base: BTreeSet<String> = base
            .images
            .iter()
            .flat_map(|image| &image.layers)
            .flat_map(|layer| [&layer.digest, &layer.diff_id])
            .map(|digest| digest.trim_start_matches("sha256:").to_owned())
            .collect();
        let mut kinds: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
        for path in files(&self.pristine) {
            let place = path.strip_prefix(&self.pristine).expect("below").to_owned();
            let parts: Vec<&str> = place.iter().map(|part| part.to_str().unwrap_or_default()).collect();
            let is_base = |hex: &str| of_base.contains(hex);
            let first = || {
                let mut first = [0];
                let file = File::open(&path).expect("open");
                file.read_exact_at(&mut first, 0).map_or(0, |()| first[0])
            };
            let kind = match &parts[..] {
                ["blobs", "sha256", hex] if is_base(hex) => "blob of a base",
                ["blobs", "sha256", _] if first() == b'{' => "manifest or config",
                ["blobs", "sha256", _] => "blob of a layer",
                ["layers", hex, "index"] if is_base(hex) => "index of a base",
                ["layers", _, "index"] => "index of a layer",
                ["layers", _, name] if name.ends_with(".json") => "record of a blob",
                ["steps", _] => "record of a step",
                ["refs", _] => "record of a name",
                ["downloads", _] => "record of a download",
                ["contexts", ..] => "facts of a context",
                _ => continue,
            };
            kinds.entry(kind).or_default().push(place);
        }
        kinds
    }
}

/// The usual Dockerfile, with something from a web server.
const DOWNLOADS: &str = "ARG BASE=base\n\
    FROM $BASE AS tools\n\
    WORKDIR /w\n\
    RUN seq 1 300 > /w/a\n\
    COPY --link noise /w/noise\n\
    FROM $BASE\n\
    RUN --mount=type=bind,from=tools,source=/w,target=/t cat /t/a /t/a > /both\n\
    ADD URL /added\n\
    COPY --from=tools --link /w /tools\n\
    COPY text /text\n\
    RUN wc -l /both > /count\n";

/// Fails with all that was found at once.
#[track_caller]
fn none(found: Vec<String>) {
    assert!(found.is_empty(), "{} are wrong:\n{}", found.len(), found.join("\n----\n"));
}

#[test]
fn damage_in_one_file() {
    for user in users() {
        let mut store = Damaged::new(user);
        let kinds = store.kinds();
        let expected = [
            "blob of a base",
            "manifest or config",
            "blob of a layer",
            "index of a base",
            "index of a layer",
            "record of a blob",
            "record of a step",
            "record of a name",
            "record of a download",
            "facts of a context",
        ];
        assert_eq!(kinds.keys().copied().collect::<BTreeSet<_>>(), expected.into(), "{user:?}");
        let mut found = Vec::new();
        let mut number = 0;
        for (kind, paths) in &kinds {
            // What a build reads is damaged more often than what it only looks up. None of these numbers has
            // a divisor in common with those of the damages and of the builds, which so meet in all ways.
            let is_read = kind.starts_with("blob") || kind.starts_with("index");
            for path in paths {
                for next in NEXT {
                    number += 1;
                    let is_due = match (user != User::Root && is_root(), is_read) {
                        (true, _) => number % 9 == 0,
                        (false, true) => number % 3 != 0,
                        (false, false) => number % 7 == 0,
                    };
                    if is_due {
                        let how = DAMAGES[number % DAMAGES.len()];
                        found.extend(store.try_with(kind, slice::from_ref(path), how, next));
                    }
                }
            }
        }
        none(found);
    }
}

#[test]
fn damage_in_all_files_of_a_kind() {
    let mut store = Damaged::new(if is_root() { User::Root } else { User::Plain });
    let mut found = Vec::new();
    for (at, (kind, paths)) in store.kinds().into_iter().enumerate() {
        for (number, how) in DAMAGES.into_iter().enumerate() {
            found.extend(store.try_with(kind, &paths, how, NEXT[(at + number) % NEXT.len()]));
        }
    }
    none(found);
}

#[test]
fn damage_is_told_and_mended_once() {
    for user in users() {
        let mut store = Damaged::new(user);
        let kinds = store.kinds();
        let warnings = |outcome: &Outcome| {
            let events = outcome.events();
            let texts = events.iter().filter(|event| event["event"] == "warning");
            texts.map(|event| event["text"].to_string()).collect::<Vec<_>>()
        };
        // The usual build says nothing of the kind.
        store.renew(Some(&store.pristine));
        let usual = warnings(&store.build(Next::Push).0);
        for path in kinds["blob of a layer"].clone() {
            store.renew(Some(&store.pristine));
            damage(&store.world.root().join(&path), Damage::Flipped);
            let before = warnings(&store.build(Next::Push).0.success());
            let hex = path.file_name().expect("a name").to_str().expect("hex");
            // A download's blob is not part of an image.
            let is_used = before.len() > usual.len();
            assert!(before.len() <= usual.len() + 1, "{user:?}: {before:?}");
            assert!(!is_used || before.iter().any(|text| text.contains(&hex[..12])), "{user:?}: {before:?}");
            let after = warnings(&store.build(Next::Push).0.success());
            assert_eq!(after, usual, "{user:?}: {path:?} was not made again");
            store_is_whole(&store.world);
        }
    }
}

/// The first file with this end in the store's directory forms.
fn in_a_directory(root: &Path, end: &str) -> PathBuf {
    let found = files(&root.join("layers"))
        .into_iter()
        .find(|path| path.to_str().is_some_and(|path| path.ends_with(end)));
    let found = found.unwrap_or_else(|| panic!("no layer has a file {end} in a directory"));
    found.strip_prefix(root).expect("below").to_owned()
}

/// Commands are given a layer's directory as it is: to read all of it before each would cost more than the
/// command. A bit that has flipped in it is found when the layer becomes a blob, and by `cache verify`.
#[test]
fn damage_in_directories() {
    for user in users() {
        let mut store = Damaged::new(user);
        let mut found = Vec::new();
        // No command reads this any more, once the first that did is cached.
        let file = in_a_directory(&store.pristine, "/w/a");
        for how in [Damage::Flipped, Damage::Half, Damage::Gone] {
            for next in NEXT {
                found.extend(store.try_with("file of a directory", slice::from_ref(&file), how, next));
            }
            store.renew(Some(&store.pristine));
            damage(&store.world.root().join(&file), how);
            cache(&store.world, &["verify"]).run().code(1);
            let (outcome, digest) = store.build(Next::Stage);
            outcome.success();
            assert_eq!(digest.as_ref(), store.expected.get(&Next::Stage), "{user:?}, {how:?}");
            store_is_whole(&store.world);
        }
        none(found);

        // A directory that is gone, with or without the layer's other forms.
        let form = file.iter().take(3).collect::<PathBuf>();
        let layer = file.iter().take(2).collect::<PathBuf>();
        for gone in [form, layer] {
            for next in NEXT {
                store.renew(Some(&store.pristine));
                let gone = store.world.root().join(&gone);
                fs::remove_dir_all(&gone).expect("remove");
                let (outcome, digest) = store.build(next);
                let outcome = outcome.success();
                assert_eq!(
                    digest.as_ref(),
                    store.expected.get(&next),
                    "{user:?}, {next:?}\n{}",
                    outcome.report()
                );
                store_is_whole(&store.world);
            }
        }
    }
}
