//! The command line, as clap reads it.
//!
//! `build` takes the flags of `docker buildx build` under their names and with their meanings.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::sandbox::Isolation;

use super::cache::{CacheArgs, EXAMPLES};
use super::refused::RefusedArgs;

/// Shown by `fanfold` without arguments.
pub(super) const WELCOME: &str = "\
fanfold builds a Dockerfile for many platforms into one OCI image index.

Build the folder you stand in, for this machine, into an OCI layout:

    fanfold build -o type=oci,dest=image.tar .

For two platforms, pushed under one name:

    fanfold build --platform linux/amd64,linux/arm64 -t registry.example/app:1.0 --push .

Look for mistakes first, without building:

    fanfold check .

What this machine can build:

    fanfold platforms

What builds have left on the disk:

    fanfold cache du

All options: fanfold build --help
";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "fanfold",
    version,
    about = "Builds a Dockerfile for many platforms into one OCI image index, without a daemon and without privilege",
    disable_help_subcommand = false,
    subcommand_required = false,
    arg_required_else_help = false
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// Stands below the options.
const CLOSING: &str = "\
    A flag can be set by its variable instead. One that can be repeated takes one value a line there; an empty \
    variable counts as none, and the command line goes before variables.\n\n\
    Exit codes: 0 done; 1 a step failed; 2 usage or Dockerfile; 3 authentication; 4 the registry refused; 5 a base \
    image, platform or download is missing, or this machine cannot do what is asked; 75 worth trying again, or --timeout is over; 128 and the signal's number when interrupted.";

/// Stands below the options of a check.
const CHECKED: &str = "\
    A flag can be set by its variable instead, as in `fanfold build`.\n\n\
    Exit codes: 0 a build would begin; 1 it would fail; 2 usage.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Build images from a Dockerfile
    #[command(visible_alias = "b", after_help = CLOSING)]
    Build(Box<BuildArgs>),
    /// Find mistakes in a Dockerfile; nothing is built
    #[command(after_help = CHECKED)]
    Check(Box<CheckArgs>),
    /// Look after the local store: list, measure, clean up, verify, fetch ahead
    #[command(after_help = EXAMPLES)]
    Cache(CacheArgs),
    /// Show which platforms this machine can build, how, and why not
    Platforms(PlatformsArgs),
}

/// `fanfold platforms`.
#[derive(Debug, Args)]
pub(super) struct PlatformsArgs {
    /// Explain everything about this machine that builds depend on: what is good, degraded or missing, what that costs, how to mend it
    #[arg(long)]
    pub(super) doctor: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
    /// The store, whose file system is looked at [default: $XDG_DATA_HOME/fanfold]
    #[arg(long, value_name = "DIR", env = "FANFOLD_ROOT")]
    pub(super) root: Option<PathBuf>,
    #[command(flatten)]
    pub(super) host: HostArgs,
}

/// What both commands need to know of the machine.
#[derive(Debug, Args)]
pub(super) struct HostArgs {
    /// Folder with QEMU user-mode interpreters, searched before PATH
    #[arg(long, value_name = "DIR", env = "FANFOLD_QEMU_DIR", help_heading = "Isolation and emulation")]
    pub(super) qemu_dir: Option<PathBuf>,
    /// How RUN is kept apart from the machine; auto takes the first that works
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value = "auto",
        env = "FANFOLD_ISOLATION",
        help_heading = "Isolation and emulation"
    )]
    pub(super) isolation: IsolationArg,
    /// How programs of foreign processors run; auto takes the first that works
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value = "auto",
        env = "FANFOLD_EMULATION",
        help_heading = "Isolation and emulation"
    )]
    pub(super) emulation: EmulationArg,
}

/// How commands are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum IsolationArg {
    /// The first of the following that works here
    Auto,
    /// A user namespace with subordinate ids, or with those of root
    Userns,
    /// A user namespace with one id; owners are recorded
    OneId,
    /// Root in a changed root directory, without namespaces
    Chroot,
    /// No right at all: a supervisor carries out the calls of commands
    Ptrace,
    /// No RUN
    None,
}

impl IsolationArg {
    /// The one that is asked for; `None` for the best.
    ///
    /// # Errors
    ///
    /// Says that commands are not wanted at all.
    pub(super) fn chosen(self) -> Result<Option<Isolation>, &'static str> {
        match self {
            Self::Auto => Ok(None),
            Self::Userns => Ok(Some(Isolation::Userns)),
            Self::OneId => Ok(Some(Isolation::OneId)),
            Self::Chroot => Ok(Some(Isolation::Chroot)),
            Self::Ptrace => Ok(Some(Isolation::Ptrace)),
            Self::None => Err("the isolation none has no commands (--isolation=none)"),
        }
    }
}

/// How foreign programs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum EmulationArg {
    /// The first of the following that works here
    Auto,
    /// QEMU, by a handler of the kernel that only the build sees
    PrivateBinfmt,
    /// The handlers that the machine has
    HostBinfmt,
    /// QEMU, by rewriting the calls that execute programs
    Exec,
    /// Not at all
    None,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressArg {
    /// Live on a terminal, plain lines elsewhere
    Auto,
    /// Live
    Tty,
    /// One line after the other, each with its platform
    Plain,
    /// One JSON object a line, on standard output
    Json,
    /// As json, the name that buildx uses
    Rawjson,
    /// Nothing but errors
    Quiet,
    /// As quiet, the name that buildx uses
    None,
}

/// The network of RUN instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum NetworkArg {
    /// The host's
    Default,
    /// The host's
    Host,
    /// Loopback alone
    None,
}

/// What a build and a check read.
#[derive(Debug, Args)]
pub(super) struct InputArgs {
    /// Where COPY and ADD take files from: a folder, a tar archive, `-` (standard input), http(s):// or a git repository
    #[arg(value_name = "CONTEXT")]
    pub(super) context: String,

    /// Dockerfile; `-` reads it from standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE", env = "FANFOLD_FILE", help_heading = "What to build")]
    pub(super) file: Option<PathBuf>,
    /// Platforms to build for, comma-separated or repeated [default: this machine's]
    #[arg(long, value_name = "PLATFORMS", env = "FANFOLD_PLATFORM", help_heading = "What to build")]
    pub(super) platform: Vec<String>,
    /// Context with a name, for FROM and --from: a folder, docker-image://, oci-layout://, https:// or git; repeatable
    #[arg(long, value_name = "NAME=PLACE", env = "FANFOLD_BUILD_CONTEXT", help_heading = "What to build")]
    pub(super) build_context: Vec<String>,
    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE", env = "FANFOLD_TARGET", help_heading = "What to build")]
    pub(super) target: Option<String>,
    /// Value for an ARG; without =VALUE it is taken from the environment; repeatable
    #[arg(long, value_name = "NAME[=VALUE]", env = "FANFOLD_BUILD_ARG", help_heading = "What to build")]
    pub(super) build_arg: Vec<String>,
    /// Secret for RUN --mount=type=secret; without src or env, the variable ID or else the file ID; repeatable
    #[arg(
        long,
        value_name = "id=ID[,src=FILE|,env=NAME]",
        env = "FANFOLD_SECRET",
        help_heading = "What to build"
    )]
    pub(super) secret: Vec<String>,
    /// Agent for RUN --mount=type=ssh: $SSH_AUTH_SOCK, a socket, or private keys; repeatable
    #[arg(long, value_name = "ID[=SOCKET|=KEY,…]", env = "FANFOLD_SSH", help_heading = "What to build")]
    pub(super) ssh: Vec<String>,
    /// Registry that may speak plain HTTP or show an unknown certificate; repeatable
    #[arg(long, value_name = "HOST[:PORT]", env = "FANFOLD_INSECURE_REGISTRY", help_heading = "Where to")]
    pub(super) insecure_registry: Vec<String>,
    /// The store: layers, cache and work in progress [default: $XDG_DATA_HOME/fanfold]
    #[arg(long, value_name = "DIR", env = "FANFOLD_ROOT", help_heading = "Cache")]
    pub(super) root: Option<PathBuf>,
    /// Ask registries for base images even where the store knows them
    #[arg(long, value_parser = FalseyValueParser::new(), env = "FANFOLD_PULL", help_heading = "Cache")]
    pub(super) pull: bool,
    #[command(flatten)]
    pub(super) host: HostArgs,
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatArg {
    /// For people
    Text,
    /// For programs
    Json,
}

/// `fanfold check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) input: InputArgs,

    /// How the findings are printed
    #[arg(long, value_enum, default_value = "text", env = "FANFOLD_FORMAT", help_heading = "On the screen")]
    pub(super) format: FormatArg,
    /// List stages, arguments, secrets, caches, and what runs how on each platform, instead of findings
    #[arg(long, value_parser = FalseyValueParser::new(), env = "FANFOLD_OUTLINE", help_heading = "On the screen")]
    pub(super) outline: bool,
}

/// `fanfold build`.
#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    #[command(flatten)]
    pub(super) input: InputArgs,

    /// Check the Dockerfile and build nothing; same as `fanfold check`
    #[arg(long, value_parser = FalseyValueParser::new(), env = "FANFOLD_CHECK", help_heading = "What to build")]
    pub(super) check: bool,
    /// What to do with the Dockerfile: build, check, outline or targets, each with ,format=json
    #[arg(long, value_name = "METHOD", env = "FANFOLD_CALL", help_heading = "What to build")]
    pub(super) call: Option<String>,
    /// How --check and --call answer
    #[arg(long, value_enum, help_heading = "What to build")]
    pub(super) format: Option<FormatArg>,
    /// Label of the images; repeatable
    #[arg(long, value_name = "NAME=VALUE", env = "FANFOLD_LABEL", help_heading = "What to build")]
    pub(super) label: Vec<String>,
    /// Annotation; prefixes index:, manifest: and manifest-descriptor:, each with [PLATFORM], say of what; repeatable
    #[arg(
        long,
        value_name = "[SCOPE:]NAME=VALUE",
        env = "FANFOLD_ANNOTATION",
        help_heading = "What to build"
    )]
    pub(super) annotation: Vec<String>,
    /// No file in a new layer, and no date in the image, is younger than this (seconds since 1970) [default: $SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "SECONDS", env = "FANFOLD_TIMESTAMP", help_heading = "What to build")]
    pub(super) timestamp: Option<i64>,

    /// Name of the result, with --push or an output; repeatable
    #[arg(short, long, value_name = "NAME", env = "FANFOLD_TAG", help_heading = "Where to")]
    pub(super) tag: Vec<String>,
    /// Push under all names that --tag gives; same as --output type=registry
    #[arg(long, value_parser = FalseyValueParser::new(), env = "FANFOLD_PUSH", help_heading = "Where to")]
    pub(super) push: bool,
    /// Where the result goes; repeatable: type=oci|docker|local|tar|registry,dest=PATH[,tar=false][,name=NAME]; registry has push-by-digest=true; oci and registry have compression=gzip|zstd|uncompressed, compression-level=N and force-compression=true (layers of bases, too)
    #[arg(short, long, value_name = "OUTPUT", env = "FANFOLD_OUTPUT", help_heading = "Where to")]
    pub(super) output: Vec<String>,
    /// Write what was built as JSON, with buildx's keys
    #[arg(long, value_name = "FILE", env = "FANFOLD_METADATA_FILE", help_heading = "Where to")]
    pub(super) metadata_file: Option<PathBuf>,
    /// Write the digest of the image, or of the index where there are several
    #[arg(long, value_name = "FILE", env = "FANFOLD_IIDFILE", help_heading = "Where to")]
    pub(super) iidfile: Option<PathBuf>,
    /// Take results from this cache, too: type=registry,ref=NAME or NAME alone, records there or in that image; type=local,src=DIR[,tag=TAG|,digest=DIGEST]; repeatable
    #[arg(long, value_name = "CACHE", env = "FANFOLD_CACHE_FROM", help_heading = "Cache")]
    pub(super) cache_from: Vec<String>,
    /// Write results into this cache: type=registry,ref=NAME, type=local,dest=DIR or type=inline (into the image itself); the first two have mode=min (results that the images hold) or max (all), and ignore-error=false (fail where it cannot be written); repeatable
    #[arg(long, value_name = "CACHE", env = "FANFOLD_CACHE_TO", help_heading = "Cache")]
    pub(super) cache_to: Vec<String>,
    /// Cache mount that all platforms share, by its id; repeatable
    #[arg(long, value_name = "ID", env = "FANFOLD_SHARED_CACHE_MOUNT", help_heading = "Cache")]
    pub(super) shared_cache_mount: Vec<String>,
    /// Stages whose earlier results are not used, nor what is made of them: names, numbers or stage-N
    #[arg(long, value_name = "STAGES", env = "FANFOLD_NO_CACHE_FILTER", help_heading = "Cache")]
    pub(super) no_cache_filter: Vec<String>,
    /// Do not use earlier results, neither of the store nor of other caches
    #[arg(long, value_parser = FalseyValueParser::new(), env = "FANFOLD_NO_CACHE", help_heading = "Cache")]
    pub(super) no_cache: bool,
    /// Steps that run at the same time [default: number of cores]
    #[arg(short, long, value_name = "N", env = "FANFOLD_JOBS", help_heading = "Speed")]
    pub(super) jobs: Option<usize>,
    /// When a platform fails, let the others finish first
    #[arg(long, value_parser = FalseyValueParser::new(), env = "FANFOLD_KEEP_GOING", help_heading = "Speed")]
    pub(super) keep_going: bool,

    /// Network of RUN instructions that name none
    #[arg(
        long,
        value_enum,
        default_value = "default",
        env = "FANFOLD_NETWORK",
        help_heading = "Isolation and emulation"
    )]
    pub(super) network: NetworkArg,
    /// Line for the hosts file of RUN instructions; repeatable
    #[arg(long, value_name = "HOST:IP", env = "FANFOLD_ADD_HOST", help_heading = "Isolation and emulation")]
    pub(super) add_host: Vec<String>,
    /// Size of /dev/shm in RUN instructions, e.g. 64m
    #[arg(long, value_name = "SIZE", env = "FANFOLD_SHM_SIZE", help_heading = "Isolation and emulation")]
    pub(super) shm_size: Option<String>,
    /// Memory that each RUN may use, without swap, e.g. 512m or 2g
    #[arg(short, long, value_name = "SIZE", env = "FANFOLD_MEMORY", help_heading = "Limits")]
    pub(super) memory: Option<String>,
    /// Processor time that each RUN may use, in cores, e.g. 2 or 0.5
    #[arg(long, value_name = "NUMBER", env = "FANFOLD_CPUS", help_heading = "Limits")]
    pub(super) cpus: Option<String>,
    /// Processes and threads that each RUN may have at the same time
    #[arg(
        long,
        visible_alias = "pids-limit",
        value_name = "N",
        env = "FANFOLD_PIDS",
        help_heading = "Limits"
    )]
    pub(super) pids: Option<String>,
    /// Resource limit (setrlimit) of RUN instructions; without it they have those of this process; repeatable
    #[arg(long, value_name = "NAME=SOFT[:HARD]", env = "FANFOLD_ULIMIT", help_heading = "Limits")]
    pub(super) ulimit: Vec<String>,
    /// Time that the whole build may take, e.g. 90s, 10m or 1h30m; then it ends with 75
    #[arg(long, value_name = "DURATION", env = "FANFOLD_TIMEOUT", help_heading = "Limits")]
    pub(super) timeout: Option<String>,
    /// Time that each RUN and each pull of a base image may take; then the step has failed
    #[arg(long, value_name = "DURATION", env = "FANFOLD_STEP_TIMEOUT", help_heading = "Limits")]
    pub(super) step_timeout: Option<String>,

    /// How progress is shown
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        env = "FANFOLD_PROGRESS",
        help_heading = "On the screen"
    )]
    pub(super) progress: ProgressArg,
    /// Print nothing but the digest of the result
    #[arg(short, long, value_parser = FalseyValueParser::new(), env = "FANFOLD_QUIET", help_heading = "On the screen")]
    pub(super) quiet: bool,

    #[command(flatten)]
    pub(super) refused: RefusedArgs,
}
