//! The graph of steps, and what it says of each target.

use fanfold_platforms::Platform;

use std::sync::Arc;

use super::mounts::RunMount;
use super::onbuild::naming_trigger;
use super::{ResolvedImage, Warning};
use crate::dockerfile::{Selection, Span};
use crate::image::{Digest, ImageConfig};

/// Names a step within its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u32);

/// All that is to be done, for all platforms.
#[derive(Debug, Default)]
pub struct Graph {
    /// The steps; a step's inputs stand before it.
    pub steps: Vec<Step>,
    /// One image for each platform that was asked for, in that order.
    pub targets: Vec<Target>,
    /// Remarks, in the order in which they were found.
    pub warnings: Vec<Warning>,
}

/// Work that gives one layer (a base gives its layers).
#[derive(Debug)]
pub struct Step {
    /// Digest of everything that can change the result, known before anything is carried out.
    pub key: Digest,
    /// Digest of what the step is by itself, whatever lies below it and in its inputs.
    pub own: Digest,
    /// What to do.
    pub op: Op,
    /// The step whose result this one is laid over; `None` on nothing (`FROM scratch`).
    pub below: Option<StepId>,
    /// The platform that the stage is for.
    pub platform: Platform,
    /// Whether it is carried out even where an earlier result is known.
    pub anew: bool,
    /// The target platforms that need this step.
    pub targets: Vec<Platform>,
    /// Where it stands in the Dockerfile.
    pub origin: Origin,
}

/// Where a step comes from, for people.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Name of the stage, or `stage-N`.
    pub stage: String,
    /// The instruction on one line.
    pub text: String,
    /// The instruction's lines in the Dockerfile.
    pub span: Span,
    /// Which of the stage's steps this is, from 1.
    pub number: u32,
    /// How many steps the stage has.
    pub of: u32,
}

impl Origin {
    /// A message about the step; it names the trigger where the step is one of the base's.
    pub fn told(&self, message: String) -> String {
        naming_trigger(&self.text, message)
    }
}

/// What a step does.
#[derive(Debug)]
pub enum Op {
    /// Takes the layers of an image.
    Base(BaseOp),
    /// Runs a command.
    Run(RunOp),
    /// Copies files (COPY and ADD).
    Copy(CopyOp),
    /// Makes the working directory.
    Workdir(WorkdirOp),
    /// Lays the layer of a step that was carried out on nothing over this one's.
    Merge(MergeOp),
}

/// A layer that does not depend on what lies below it (`--link`).
#[derive(Debug)]
pub struct MergeOp {
    /// The step whose layer it is.
    pub layer: StepId,
}

/// The layers of an image.
#[derive(Debug)]
pub struct BaseOp {
    /// The image, for one platform.
    pub image: Arc<ResolvedImage>,
}

/// A command, with all that it can observe.
#[derive(Debug)]
pub struct RunOp {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment: the image's, then the build's arguments.
    pub env: Vec<(String, String)>,
    /// Proxy settings: in the environment, but in neither key nor history.
    pub proxies: Vec<(String, String)>,
    /// Working directory, absolute.
    pub cwd: String,
    /// USER as written; empty for root.
    pub user: String,
    /// Network.
    pub network: Network,
    /// Lines for the hosts file, name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Resource limits: name, soft, hard.
    pub ulimits: Vec<(String, u64, u64)>,
    /// What is mounted for the command alone, in order.
    pub mounts: Vec<RunMount>,
    /// The host name that the command sees; the usual one without it.
    pub hostname: Option<String>,
}

/// What a command can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The host's network.
    Host,
    /// Loopback alone.
    None,
}

/// COPY or ADD.
#[derive(Debug)]
pub struct CopyOp {
    /// `COPY` or `ADD`, for messages.
    pub instruction: &'static str,
    /// What is copied from where, in order.
    pub parts: Vec<CopyPart>,
    /// Heredocs: files with content from the Dockerfile itself, copied after all parts.
    pub inline: Vec<Inline>,
    /// Destination as written, expanded.
    pub destination: String,
    /// Working directory of the stage, absolute.
    pub cwd: String,
    /// `--chown`, expanded.
    pub chown: Option<String>,
    /// `--chmod`, expanded.
    pub chmod: Option<String>,
    /// `--link`: the layer is made as if nothing lay below it.
    pub link: bool,
    /// Name of the stage, for messages.
    pub stage: String,
}

/// Sources of a copy that lie in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyPart {
    /// Where.
    pub from: CopyFrom,
    /// Which of the files there.
    pub selection: Selection,
    /// Whether archives among them are unpacked.
    pub unpack: bool,
}

/// A file whose content stands in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    /// File name: the heredoc's delimiter.
    pub name: String,
    /// Content.
    pub content: String,
}

/// Where the sources of a copy lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFrom {
    /// Files that belong to no stage.
    Files(FileSource),
    /// The result of a step: another stage, or an image.
    Step(StepId),
    /// A stage without any layer.
    Nothing,
}

/// Files that belong to no image and no stage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileSource {
    /// The build context.
    Context,
    /// A context with a name: its place among those of the request.
    Named(usize),
    /// A file on a web server.
    Http {
        /// Its address.
        url: String,
        /// What it must hash to.
        checksum: Option<Digest>,
    },
    /// A tree of a git repository.
    Git {
        /// Its address, with reference and folder.
        address: String,
        /// Whether the repository itself comes along, as `.git`.
        keep_git_dir: bool,
        /// The commit that it must be; may be a prefix.
        checksum: Option<String>,
    },
}

/// WORKDIR.
#[derive(Debug)]
pub struct WorkdirOp {
    /// The directory, absolute and clean.
    pub path: String,
    /// USER as written, the owner of what is created.
    pub user: String,
}

/// The image to be made for one platform.
#[derive(Debug)]
pub struct Target {
    /// The platform.
    pub platform: Platform,
    /// The last step; `None` for an image without layers.
    pub tip: Option<StepId>,
    /// The config, with the base's history but without own history, diff ids and times.
    pub config: ImageConfig,
    /// Own history lines, in order.
    pub history: Vec<HistoryLine>,
    /// The image that the final stage is based on, where it is one.
    pub base: Option<Arc<ResolvedImage>>,
}

/// One own line of history.
#[derive(Debug, Clone)]
pub struct HistoryLine {
    /// The instruction, as `docker history` shows it.
    pub created_by: String,
    /// The layer it made; `None` for metadata alone.
    pub layer: Option<StepId>,
}

impl Graph {
    /// The step with this name.
    pub fn step(&self, id: StepId) -> &Step {
        &self.steps[id.0 as usize]
    }

    /// The steps from the lowest to `tip`.
    pub fn chain(&self, tip: Option<StepId>) -> Vec<StepId> {
        let mut chain: Vec<_> = std::iter::successors(tip, |id| self.step(*id).below).collect();
        chain.reverse();
        chain
    }

    /// All names, in order.
    pub fn ids(&self) -> impl Iterator<Item = StepId> + use<> {
        (0..u32::try_from(self.steps.len()).unwrap_or(u32::MAX)).map(StepId)
    }
}

impl Step {
    /// The steps whose files this one reads, beside the one below.
    pub fn inputs(&self) -> Vec<StepId> {
        self.op.inputs()
    }
}

impl Op {
    /// The steps whose files this reads.
    pub(super) fn inputs(&self) -> Vec<StepId> {
        match self {
            Self::Copy(op) => op.parts.iter().filter_map(|part| part.from.step()).collect(),
            Self::Run(op) => op.mounts.iter().filter_map(RunMount::input).collect(),
            Self::Merge(op) => vec![op.layer],
            Self::Base(_) | Self::Workdir(_) => Vec::new(),
        }
    }
}

impl CopyFrom {
    /// The step whose result is copied from.
    pub fn step(&self) -> Option<StepId> {
        match self {
            Self::Step(id) => Some(*id),
            Self::Files(_) | Self::Nothing => None,
        }
    }
}
