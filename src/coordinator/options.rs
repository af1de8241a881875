//! How a build is to be carried out.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fanfold_platforms::Platform;
use fanfold_qemu::Interpreter;

use crate::dockerfile::ignore::Ignore;
use crate::plan::{FileSource, Request};
use crate::source::Context;

/// What the command line asks for, apart from outputs.
#[derive(Debug)]
pub struct Options {
    /// What changes the result.
    pub request: Request,
    /// The build context.
    pub context: ContextAt,
    /// The files of the contexts with names, in the order of [`Request::contexts`]; `None` for those
    /// without files.
    pub named: Vec<Option<ContextAt>>,
    /// Do not use earlier results.
    pub no_cache: bool,
    /// Whether the images carry what is known of their steps (`--cache-to type=inline`).
    pub inline_cache: bool,
    /// Whether an output takes the images' blobs from the store.
    pub blobs_here: bool,
    /// Ask registries for images even where the store knows them.
    pub pull: bool,
    /// Steps at the same time.
    pub jobs: usize,
    /// How long a pull may take.
    pub step_timeout: Option<Duration>,
    /// Let other platforms finish when one fails.
    pub keep_going: bool,
    /// Make an index even of a single image.
    pub index: bool,
    /// Annotations for manifests and index.
    pub annotations: Vec<Annotation>,
    /// Platforms whose commands are emulated.
    pub emulators: Vec<(Platform, Emulator)>,
}

/// Where the files of a context are.
#[derive(Debug)]
pub enum ContextAt {
    /// In a folder, which is walked when it is first needed.
    Folder {
        /// The folder.
        path: PathBuf,
        /// What of it is to be left alone.
        ignore: Ignore,
    },
    /// Here, all of them.
    Here(Arc<Context>),
    /// On a web server: an archive, or a single file.
    Web(String),
    /// In a git repository.
    Git(String),
}

/// One `--annotation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// What it stands on.
    pub scope: Scope,
    /// The platform whose document it stands on; all without one.
    pub platform: Option<Platform>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// What an annotation stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The manifest of each image.
    Manifest,
    /// The index.
    Index,
    /// Each image's entry in the index.
    ManifestDescriptor,
}

impl Options {
    /// Where files are that belong to the build context or to one with a name.
    pub(super) fn context_at(&self, source: &FileSource) -> Option<&ContextAt> {
        match source {
            FileSource::Context => Some(&self.context),
            FileSource::Named(place) => self.named.get(*place)?.as_ref(),
            FileSource::Http { .. } | FileSource::Git { .. } => None,
        }
    }

    /// What emulates a platform.
    pub fn emulator(&self, platform: &Platform) -> Option<&Emulator> {
        self.emulators.iter().find(|(known, _)| known == platform).map(|(_, emulator)| emulator)
    }
}

/// How foreign programs come to their interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By a handler of the kernel that only the build sees.
    PrivateBinfmt,
    /// By a handler that the machine has.
    HostBinfmt,
    /// By rewriting the calls that execute programs.
    Exec,
}

impl Way {
    /// The name that flags and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrivateBinfmt => "private-binfmt",
            Self::HostBinfmt => "host-binfmt",
            Self::Exec => "exec",
        }
    }
}

/// An interpreter that runs a platform's commands.
#[derive(Debug)]
pub struct Emulator {
    interpreter: Interpreter,
    way: Way,
    label: OnceLock<String>,
}

impl Emulator {
    /// An emulator; its version is not asked for yet.
    pub fn new(interpreter: Interpreter, way: Way) -> Self {
        Self { interpreter, way, label: OnceLock::new() }
    }

    /// How programs come to it.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Name and version, e.g. `qemu-aarch64 7.2.22`. Asking takes a process, so it is done once, and
    /// only where somebody wants to know.
    pub fn label(&self) -> &str {
        self.label.get_or_init(|| {
            let version = self.interpreter.version().unwrap_or_else(|_| "of unknown version".to_owned());
            format!("{} {version}", self.interpreter.name)
        })
    }

    /// The interpreter's file.
    pub fn path(&self) -> &Path {
        &self.interpreter.path
    }
}
