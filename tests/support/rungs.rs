//! The rungs of the isolation ladder as places to build in: the user, and where nothing less shows
//! the truth, a container of a real Docker Engine.

use std::path::Path;

use super::docker::Container;
use super::run::Run;
use super::world::{User, World, is_root};

/// One way to isolate commands, and the place that is made for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rung {
    /// For messages and tables.
    pub(crate) name: &'static str,
    /// The value of `--isolation`; nothing where the choice is left to the binary.
    isolation: Option<&'static str>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The machine itself.
    Machine(User),
    /// A container with Docker's defaults.
    Container,
    /// A container of an ordinary user without capabilities.
    Restricted,
}

/// No account has these numbers, so nobody has subordinate ids for them.
const UNKNOWN: User = User::Unknown { uid: 20_011, gid: 20_012 };

/// Who runs in a restricted container: the image has no account of this number, so the group is 0.
const RESTRICTED: User = User::Unknown { uid: 1000, gid: 0 };

impl Rung {
    /// Rung 1 as root: the one that the others are compared with. The binary has to find it by itself.
    pub(crate) const USERNS_ROOT: Self = Self::new("userns, root", None, Place::Machine(User::Root));
    /// Rung 1 as a user with subordinate ids.
    pub(crate) const USERNS: Self = Self::new("userns, plain user", None, Place::Machine(User::Plain));
    /// Rung 2: a user without subordinate ids.
    pub(crate) const ONE_ID: Self = Self::new("one-id", Some("one-id"), Place::Machine(UNKNOWN));
    /// Rung 3: root in a container.
    pub(crate) const CHROOT: Self = Self::new("chroot", Some("chroot"), Place::Container);
    /// Rung 4: nobody in a container.
    pub(crate) const PTRACE: Self = Self::new("ptrace", Some("ptrace"), Place::Restricted);
    /// Rung 5: nobody in a container, and no RUN.
    pub(crate) const NONE: Self = Self::new("none", Some("none"), Place::Restricted);

    /// Those that carry out commands, as far as they are built. A rung that is new goes from
    /// [`Self::WAITING`] to here, and with that through every test that is written for all of them.
    const BUILT: [Self; 5] = [Self::USERNS_ROOT, Self::USERNS, Self::ONE_ID, Self::CHROOT, Self::PTRACE];

    /// Those that are not built yet.
    const WAITING: [Self; 0] = [];

    const fn new(name: &'static str, isolation: Option<&'static str>, place: Place) -> Self {
        Self { name, isolation, place }
    }

    /// Every rung that carries out commands and can be had here, built or not.
    pub(crate) fn all() -> Vec<Self> {
        Self::BUILT.into_iter().chain(Self::WAITING).filter(|rung| rung.can_be_had()).collect()
    }

    /// Every rung that carries out commands, is built and can be had here.
    pub(crate) fn built() -> Vec<Self> {
        Self::BUILT.into_iter().filter(|rung| rung.can_be_had()).collect()
    }

    /// The lowest rung that can be had here: what the others are compared with.
    pub(crate) fn first() -> Self {
        if is_root() { Self::USERNS_ROOT } else { Self::USERNS }
    }

    /// Only root may be anybody, and start an engine.
    fn can_be_had(&self) -> bool {
        is_root() || self.place == Place::Machine(User::Plain)
    }

    /// The same place, where the binary has to find the rung by itself.
    pub(crate) fn found_by_itself(self) -> Self {
        Self { isolation: None, ..self }
    }

    /// Whether commands have process ids of their own, and so see and reach no other process.
    pub(crate) fn has_own_processes(&self) -> bool {
        matches!(self.place, Place::Machine(_))
    }

    /// Whether commands have a /proc. Where nothing can be mounted they have none: that of the container
    /// leads out of every root.
    pub(crate) fn has_proc(&self) -> bool {
        *self != Self::CHROOT
    }

    /// Whether what a command may only read is a mount that it cannot write to, and a secret a file in
    /// memory. Where nothing can be mounted, the first is a copy, and the second has to be a variable.
    pub(crate) fn has_mounts(&self) -> bool {
        *self != Self::CHROOT
    }

    /// A world of the user who builds on this rung.
    pub(crate) fn world(&self) -> World {
        World::of(match self.place {
            Place::Machine(user) => user,
            Place::Container => User::Root,
            Place::Restricted => RESTRICTED,
        })
    }

    /// `fanfold build` in a world of this rung, with plain progress; options and the context are
    /// the caller's. A container sees the world under its own name.
    pub(crate) fn build(&self, world: &World) -> Run {
        self.build_with(world, &[])
    }

    /// The same with variables of the environment.
    pub(crate) fn build_with(&self, world: &World, variables: &[(&str, &str)]) -> Run {
        self.build_by(world, None, variables)
    }

    /// The same with a copy of the binary that lies in the world.
    pub(crate) fn build_by(&self, world: &World, program: Option<&Path>, variables: &[(&str, &str)]) -> Run {
        let text = |name: &str| world.path(name).to_str().expect("UTF-8").to_owned();
        let build = match self.place {
            Place::Machine(_) => {
                let run = Run::new(world.command(program.unwrap_or(world.binary())));
                let run = run.env("FANFOLD_PROGRESS", "plain");
                variables.iter().fold(run, |run, (name, value)| run.env(name, value))
            }
            Place::Container | Place::Restricted => {
                let container = match self.place {
                    Place::Restricted => Container::restricted(),
                    _ => Container::new(),
                };
                let container = container
                    .volume(&world.path(""))
                    .dir(&world.path(""))
                    .env("HOME", &text("home"))
                    .env("TMPDIR", &text("tmp"))
                    .env("FANFOLD_PROGRESS", "plain");
                let container =
                    variables.iter().fold(container, |container, (name, value)| container.env(name, value));
                match program {
                    Some(program) => container.command(program.to_str().expect("UTF-8")),
                    None => container.fanfold(),
                }
            }
        };
        let build = build.args(["build", "--root", &text("root")]);
        match self.isolation {
            Some(isolation) => build.args(["--isolation", isolation]),
            None => build,
        }
    }
}
