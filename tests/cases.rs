//! Data-driven builds: every folder of `tests/cases` is one.
//!
//! | file | meaning |
//! |---|---|
//! | `Dockerfile` | what is built; the rest of the folder is the context |
//! | `setup.sh` | run in the copied context before the build, for what git cannot hold |
//! | `args` | further arguments of `fanfold build`, one a line |
//! | `env` | further variables, `NAME=value` a line |
//! | `platforms` | platforms, one a line; without it amd64 and arm64 |
//! | `want.tree` | what the image adds to, changes in and removes from its base, as `support::tree` writes it |
//! | `want.layers` | entries of each layer above the base, one layer a line |
//! | `want.config` | members that the image config has; `null`: it lacks the member |
//! | `want.history` | `created_by` of each entry above the base; ` (empty)` after those without layer |
//! | `want.output` | texts that the output holds, one a line; `!` before a text: it does not |
//! | `want.error` | texts that standard error of the failing build holds, one a line |
//! | `want.exit` | exit code; without it 0, or 1 or 2 if there is a `want.error` |
//!
//! Builds get `--build-arg BASE=` the busybox base if the Dockerfile says BASE,
//! and a fixed SOURCE_DATE_EPOCH, which the trees call `epoch`. In `args` and in
//! expectations `@BASE@` is the base's name, `@DIR@` the case's work folder.
//! The wants must hold for every platform, and for root and a plain user alike.
//!
//! `FANFOLD_CASE=TEXT` runs the cases whose names hold TEXT.
//! `FANFOLD_CASES=write` writes those want.* files that are there anew.

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use support::{Image, Index, User, World, escape};

#[test]
fn cases() {
    run_all(World::new().user());
}

#[test]
fn cases_as_plain_user() {
    // Where the tests run without privilege, the other test has done it.
    if support::is_root() {
        run_all(User::Plain);
    }
}

/// Runs all cases on as many threads as there are cores.
fn run_all(user: User) {
    let filter = variable("FANFOLD_CASE").unwrap_or_default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("tests/cases")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("Dockerfile").exists() && name(path).contains(&filter))
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no case is called {filter:?}");
    support::shared_registry();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let faults = std::panic::catch_unwind(|| run(case, user))
                        .unwrap_or_else(|_| vec!["the check panicked; see above".to_owned()]);
                    if !faults.is_empty() {
                        failures.lock().expect("unpoisoned").push(format!(
                            "== {}\n{}",
                            name(case),
                            faults.join("\n")
                        ));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("unpoisoned");
    failures.sort();
    assert!(
        failures.is_empty(),
        "{} of {} cases failed as {user:?}\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// Builds one case and gives back what differs.
fn run(case: &Path, user: User) -> Vec<String> {
    let world = World::of(user);
    let context = world.path("context");
    support::tool("cp", ["-a", text_of(case), text_of(&context)]).success();
    // The owner and the time of a checkout are those of whoever made it.
    support::tool("chmod", ["-R", "u=rwX,go=rX", text_of(&context)]).success();
    for file in std::fs::read_dir(&context).expect("the context").flatten() {
        let file_name = file.file_name().to_string_lossy().into_owned();
        let kept = file_name == ".dockerignore" || file_name.starts_with("Dockerfile");
        if !kept && (file_name.starts_with("want.") || OWN_FILES.contains(&file_name.as_str())) {
            std::fs::remove_file(file.path()).expect("remove");
        }
    }
    if case.join("setup.sh").exists() {
        let mut setup = Command::new("bash");
        setup.args(["-euo", "pipefail"]).arg(case.join("setup.sh")).current_dir(&context).env("LC_ALL", "C");
        support::Run::new(setup).run().success();
    }
    let platforms: Vec<String> = match read(case, "platforms") {
        Some(text) => text.lines().map(str::to_owned).collect(),
        None => vec!["linux/amd64".to_owned(), "linux/arm64".to_owned()],
    };
    let substitute = |text: &str| {
        text.replace("@BASE@", &support::shared_registry().name("busybox"))
            .replace("@DIR@", text_of(&world.path("")))
    };
    let dockerfile = std::fs::read(case.join("Dockerfile")).expect("a Dockerfile");
    let mut build = world.build().env("SOURCE_DATE_EPOCH", "1700000000");
    for line in read(case, "env").unwrap_or_default().lines() {
        let (name, value) = line.split_once('=').expect("NAME=value in env");
        build = build.env(name, substitute(value));
    }
    if String::from_utf8_lossy(&dockerfile).contains("BASE") {
        build = build.arg("--build-arg").arg(support::base());
    }
    let layout = world.path("out/layout");
    let outcome = build
        .args(["--platform", &platforms.join(",")])
        .arg("--output")
        .arg(format!("type=oci,tar=false,dest={}", layout.display()))
        .args(read(case, "args").unwrap_or_default().lines().map(substitute))
        .arg(&context)
        .run();

    let mut check = Check { case, faults: Vec::new() };
    let error = read(case, "want.error");
    let codes: Vec<i32> = match read(case, "want.exit") {
        Some(code) => vec![code.trim().parse().expect("a number in want.exit")],
        None if error.is_some() => vec![1, 2],
        None => vec![0],
    };
    if !codes.contains(&outcome.exit()) {
        check.faults.push(format!("exit code is not {codes:?}\n{}", outcome.report()));
        return check.faults;
    }
    check.holds("want.error", &substitute(&error.unwrap_or_default()), &outcome.stderr);
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    check.holds("want.output", &substitute(&read(case, "want.output").unwrap_or_default()), &said);
    if outcome.exit() != 0 {
        if layout.join("index.json").exists() {
            check.faults.push("a failed build has left an output".to_owned());
        }
        return check.faults;
    }
    let index = Index::layout(&layout);
    if index.platforms() != platforms {
        check.faults.push(format!("the index holds {:?}", index.platforms()));
    }
    let base = support::shared_registry().index("busybox", "latest");
    for image in &index.images {
        check.image(image, base.images.iter().find(|base| base.platform == image.platform));
    }
    check.faults
}

/// Files of a case that belong to the test, not to the context.
const OWN_FILES: [&str; 4] = ["args", "env", "platforms", "setup.sh"];

/// Compares a build with the wants of its case.
struct Check<'a> {
    case: &'a Path,
    faults: Vec<String>,
}

impl Check<'_> {
    /// Each line of `texts` must be in `said`, or must not if `!` stands before.
    fn holds(&mut self, what: &str, texts: &str, said: &str) {
        for line in texts.lines().filter(|line| !line.is_empty()) {
            let (wanted, text) = match line.strip_prefix('!') {
                Some(text) => (false, text),
                None => (true, line),
            };
            if said.contains(text) != wanted {
                self.faults.push(format!("{what}: {line}\nbut the output is\n{said}"));
            }
        }
    }

    fn image(&mut self, image: &Image, base: Option<&Image>) {
        let base = base.filter(|base| image.is_built_on(base));
        let below = base.map_or(0, |base| base.layers.len());
        let tree = image.tree();
        let changes = base.map_or_else(|| tree.lines(), |base| tree.changes(&base.tree()));
        self.lines("want.tree", image, &changes);
        let layers: Vec<String> = image.layers[below..]
            .iter()
            .map(|layer| layer.entries.iter().map(|entry| escape(&entry.name)).collect::<Vec<_>>().join(" "))
            .collect();
        self.lines("want.layers", image, &layers);
        let older = base.map_or(0, |base| base.history().len());
        let history: Vec<String> = image.history()[older..]
            .iter()
            .map(|entry| {
                let empty = if entry["empty_layer"] == true { " (empty)" } else { "" };
                format!("{}{empty}", entry["created_by"].as_str().unwrap_or_default().replace('\n', "\\n"))
            })
            .collect();
        self.lines("want.history", image, &history);
        self.config(image);
    }

    /// Compares lines with a want file, or writes it anew.
    fn lines(&mut self, file: &str, image: &Image, found: &[String]) {
        let Some(wanted) = read(self.case, file) else {
            return;
        };
        let mut text = found.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        });
        // The machine's base name has a port that changes.
        text = text.replace(&support::shared_registry().name("busybox"), "@BASE@");
        if text == wanted {
            return;
        }
        if writing() {
            std::fs::write(self.case.join(file), &text).expect("write");
            return;
        }
        let mut difference = format!("{file} for {}", image.platform);
        for line in wanted.lines().filter(|line| !text.lines().any(|found| found == *line)) {
            let _ = write!(difference, "\n  wanted: {line}");
        }
        for line in text.lines().filter(|line| !wanted.lines().any(|wanted| wanted == *line)) {
            let _ = write!(difference, "\n  found:  {line}");
        }
        self.faults.push(difference);
    }

    fn config(&mut self, image: &Image) {
        let Some(wanted) = read(self.case, "want.config") else {
            return;
        };
        let wanted: Value = serde_json::from_str(&wanted).expect("JSON in want.config");
        if writing() {
            let mut found = wanted.clone();
            renew(&mut found, &image.config);
            if found != wanted {
                let text = serde_json::to_string_pretty(&found).expect("JSON") + "\n";
                std::fs::write(self.case.join("want.config"), text).expect("write");
            }
            return;
        }
        let mut faults = Vec::new();
        compare("", &wanted, &image.config, &mut faults);
        self.faults
            .extend(faults.into_iter().map(|fault| format!("want.config for {}: {fault}", image.platform)));
    }
}

/// Every member of `wanted` must be in `found`; arrays must be equal.
fn compare(place: &str, wanted: &Value, found: &Value, faults: &mut Vec<String>) {
    match wanted {
        Value::Object(members) if found.is_object() => {
            for (name, member) in members {
                compare(&format!("{place}.{name}"), member, &found[name], faults);
            }
        }
        _ if wanted == found => {}
        _ => faults.push(format!("{place} is {found}, not {wanted}")),
    }
}

/// Puts the found values into the members that `wanted` names.
fn renew(wanted: &mut Value, found: &Value) {
    match wanted {
        Value::Object(members) if found.is_object() => {
            for (name, member) in members {
                renew(member, &found[name.as_str()]);
            }
        }
        _ => *wanted = found.clone(),
    }
}

fn read(case: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(case.join(file)).ok()
}

fn name(case: &Path) -> String {
    case.file_name().expect("a name").to_string_lossy().into_owned()
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn writing() -> bool {
    variable("FANFOLD_CASES").is_some_and(|value| value == "write")
}

#[expect(clippy::disallowed_methods, reason = "a test program has no command line of its own")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
