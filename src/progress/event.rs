//! The facts of a build, as every writer receives them.

use std::time::Duration;

use fanfold_platforms::Platform;

/// Names a step within one build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u32);

/// Names a transfer within one build; given out by [`super::Progress::transfer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u64);

/// What writers need to label a step; sent once, in [`Event::Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The name that later events use.
    pub id: StepId,
    /// Every target that the step is part of, in the order they were asked for.
    pub platforms: Vec<Platform>,
    /// The platform that the step runs on.
    pub platform: Platform,
    /// Name of the stage; empty where there is only one and it has no name.
    pub stage: String,
    /// The instruction as written, e.g. `RUN make`.
    pub text: String,
    /// First line of the instruction in the Dockerfile, counted from 1.
    pub line: u32,
    /// Position among the steps of its stage, counted from 1.
    pub number: u32,
    /// Number of steps in its stage.
    pub of: u32,
    /// Interpreter and version when the step is emulated, e.g. `qemu-aarch64 7.2.22`.
    pub emulated_by: Option<String>,
}

/// Where a command wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// What a transfer does with its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransferKind {
    /// From a registry.
    Pull,
    /// To a registry.
    Push,
    /// From a layer's blob to a directory.
    Unpack,
    /// From a directory or tar to a layer's blob.
    Compress,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferEnd {
    /// The bytes went over.
    Transferred,
    /// The registry took the blob from another of its repositories.
    Mounted,
    /// The receiver had it already.
    AlreadyThere,
    /// It failed or was given up; the error itself travels another way.
    Abandoned,
}

/// One fact. Times of arrival are added by [`super::Progress::send`].
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What will be built. May be sent again when more steps become known.
    Plan {
        /// The targets that were asked for.
        platforms: Vec<Platform>,
        /// Steps not described before.
        steps: Vec<Step>,
    },
    /// A step began to run.
    StepStarted {
        /// The step.
        id: StepId,
    },
    /// A command printed a line.
    StepOutput {
        /// The step.
        id: StepId,
        /// Where it was written.
        stream: Stream,
        /// The line's bytes without the newline: untrusted, perhaps not UTF-8.
        text: Vec<u8>,
    },
    /// A step ended well.
    StepFinished {
        /// The step.
        id: StepId,
        /// How long it ran.
        duration: Duration,
    },
    /// A step's result was known; it did not run.
    StepCached {
        /// The step.
        id: StepId,
    },
    /// A step ended badly.
    StepFailed {
        /// The step.
        id: StepId,
        /// Why, e.g. `exit code 2`.
        message: String,
    },
    /// A step was stopped because another one failed or the user gave up.
    StepCancelled {
        /// The step.
        id: StepId,
    },
    /// Bytes begin to move.
    TransferStarted {
        /// The transfer.
        id: TransferId,
        /// What is done with the bytes.
        kind: TransferKind,
        /// The object: a short digest or a name.
        what: String,
        /// The registry's host; empty for local work.
        registry: String,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// Bytes have moved. Some of these events may never reach a writer.
    TransferProgress {
        /// The transfer.
        id: TransferId,
        /// Bytes so far, not since the last event.
        bytes: u64,
    },
    /// A transfer ended.
    TransferFinished {
        /// The transfer.
        id: TransferId,
        /// How.
        how: TransferEnd,
        /// Bytes that moved.
        bytes: u64,
    },
    /// A request to a registry failed and will be tried again.
    Retry {
        /// The registry's host.
        host: String,
        /// What was tried, e.g. `push blob 3f4a5b6c7d8e`.
        operation: String,
        /// Pause before the next attempt.
        wait: Duration,
        /// The attempt that failed, counted from 1.
        attempt: u32,
        /// Attempts allowed.
        of: u32,
        /// Why it failed.
        reason: String,
    },
    /// Something worth knowing.
    Note {
        /// One sentence.
        text: String,
    },
    /// Something that is probably a mistake.
    Warning(Warning),
    /// An output is complete.
    Written {
        /// Type of the output as in `-o type=`.
        kind: String,
        /// Path or reference.
        destination: String,
    },
    /// The build ended well.
    Finished(Summary),
    /// The build failed. The text for people goes through
    /// [`super::Progress::print_error`]; this is the form for programs.
    Failed(ErrorReport),
}

/// Something that is probably a mistake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warning {
    /// The build check that found it.
    pub rule: Option<String>,
    /// One sentence.
    pub text: String,
    /// The platform concerned, if it is one.
    pub platform: Option<Platform>,
    /// Where in the Dockerfile.
    pub place: Option<Place>,
    /// The lines there, marked; empty without a place. Nothing in them acts on a terminal.
    pub excerpt: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Warning {
    /// A warning without a place.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// A place in a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The Dockerfile's name.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
    /// The character of the line, counted from 1.
    pub column: u32,
}

/// How the commands of a platform ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Execution {
    /// No command ran: there is no RUN, or all were cached.
    NotNeeded,
    /// On the processor itself.
    Native,
    /// Through the named interpreter, e.g. `qemu-aarch64 7.2.22`.
    Emulated(String),
}

/// One line of the table at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformSummary {
    /// The target.
    pub platform: Platform,
    /// Digest of its manifest.
    pub digest: String,
    /// Bytes of manifest, config and layers as stored or sent.
    pub size: u64,
    /// Time spent on its steps, shared ones included.
    pub duration: Duration,
    /// Steps that did not have to run.
    pub cached: u32,
    /// Steps in all.
    pub steps: u32,
    /// How its commands ran.
    pub execution: Execution,
}

/// The result of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// One for each target, in the order they were asked for.
    pub platforms: Vec<PlatformSummary>,
    /// Digest of the index, or of the only manifest.
    pub digest: String,
    /// Whether `digest` names an index.
    pub index: bool,
    /// References that now name the result.
    pub names: Vec<String>,
    /// Other outputs, e.g. `oci ./out.tar`.
    pub outputs: Vec<String>,
    /// From start to end.
    pub duration: Duration,
}

/// A failure for programs; field for field the last line of JSON mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReport {
    /// Exit code of the process.
    pub code: u8,
    /// Name of the class that the exit code stands for.
    pub kind: String,
    /// The platform on which it failed.
    pub platform: Option<Platform>,
    /// The Dockerfile concerned.
    pub file: Option<String>,
    /// Line in it, counted from 1.
    pub line: Option<u32>,
    /// Character of the line, counted from 1.
    pub column: Option<u32>,
    /// What failed and why.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Whether the same command may work later.
    pub retryable: bool,
}
