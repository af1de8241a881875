//! A place that is attacked, with a canary outside of every root.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use super::fixtures::base;
use super::host::HostState;
use super::image::{Image, Index};
use super::run::{Outcome, Run, layout};
use super::rungs::Rung;
use super::search::found_nowhere;
use super::world::World;

/// What the canary holds.
pub(crate) const CANARY: &str = "of-the-host\n";

/// A place that is attacked: a folder of the host in which the builder may do all, so that only
/// fanfold's care protects it.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where it builds.
    pub(crate) rung: Rung,
    /// Its folders.
    pub(crate) world: World,
    host: HostState,
    /// `FOLDER/canary`, which anybody may write.
    pub(crate) canary: PathBuf,
    /// Variables of the builder.
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Target {
    /// A place on this rung, with a canary.
    pub(crate) fn new(rung: Rung) -> Self {
        let world = rung.world();
        world.folder("host");
        let canary = world.write("host/canary", CANARY);
        std::fs::set_permissions(&canary, PermissionsExt::from_mode(0o666)).expect("chmod");
        let owner = std::fs::metadata(world.path("host")).expect("metadata");
        chown(&canary, Some(owner.uid()), Some(owner.gid())).expect("chown");
        Self { rung, world, host: HostState::now(), canary, variables: Vec::new() }
    }

    /// The folder with the canary, as text.
    pub(crate) fn folder(&self) -> String {
        self.canary.parent().expect("a parent").to_str().expect("UTF-8").to_owned()
    }

    /// The rung, for messages.
    pub(crate) fn name(&self) -> &'static str {
        self.rung.name
    }

    /// A build of these lines behind `ARG BASE`, into `out/layout`. Options can be added.
    pub(crate) fn lines(&self, lines: &str) -> Run {
        let context = self.world.context("context", &format!("ARG BASE\n{lines}"));
        let _ = std::fs::remove_dir_all(self.world.path("out/layout"));
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.rung
            .build_with(&self.world, &variables)
            .args(["--timestamp", "1700000000", "--build-arg", &base()])
            .args(["--output", &layout(&self.world.path("out/layout"))])
            .arg(context)
    }

    /// Builds on the base.
    pub(crate) fn build(&self, lines: &str) -> Outcome {
        self.lines(&format!("FROM $BASE\n{lines}")).run()
    }

    /// The image of the last build.
    pub(crate) fn image(&self) -> Image {
        Index::layout(&self.world.path("out/layout")).images.remove(0)
    }

    /// Asserts that a build came to an end of its own: it worked, or its input was refused.
    #[track_caller]
    pub(crate) fn ended(&self, outcome: &Outcome) {
        assert!([0, 1, 2].contains(&outcome.exit()), "{}: {}", self.name(), outcome.report());
        assert!(!outcome.stderr.contains("panicked"), "{}: {}", self.name(), outcome.report());
    }

    /// Asserts that the host is as it was.
    #[track_caller]
    pub(crate) fn unharmed(&self) {
        let name = self.name();
        assert_eq!(std::fs::read_to_string(&self.canary).expect("the canary"), CANARY, "{name}");
        assert_eq!(std::fs::metadata(&self.canary).expect("metadata").mode() & 0o7777, 0o666, "{name}");
        let left = std::fs::read_dir(self.folder()).expect("the folder").count();
        assert_eq!(left, 1, "{name}: something was made beside the canary");
        for folder in ["out", "root"] {
            found_nowhere(&self.world.path(folder), CANARY.trim());
        }
        HostState::no_process(self.world.root().to_str().expect("UTF-8"));
        self.host.unchanged();
    }
}

/// Carries out an attack on every rung, and looks at the host after each.
pub(crate) fn on_every_rung(attack: impl Fn(&mut Target)) {
    for rung in Rung::built() {
        let mut target = Target::new(rung);
        attack(&mut target);
        target.unharmed();
    }
}
