//! The flags of `fanfold cache`.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand};

use super::super::args::{IsolationArg, ProgressArg};

/// Stands below the options of `fanfold cache`.
pub(in crate::cli) const EXAMPLES: &str = "\
Examples:
  fanfold cache ls --platform linux/arm64        what is kept for one platform
  fanfold cache prune --older-than 7d            what no build has used for a week goes
  fanfold cache prune --max-size 20g --dry-run   what would go to get below 20 GiB
  fanfold cache verify                           read everything again; what is damaged goes
  fanfold cache warm debian:13 --platform linux/amd64,linux/arm64

The store is used by builds at the same time: what a running build has looked up stays, whatever is asked.

Caches in registries and folders belong to builds: fanfold build --cache-from and --cache-to.

Exit codes: 0 done; 1 something was damaged (verify); 2 usage; 3 authentication; 4 the registry refused; 5 an image or platform is missing; 75 worth trying again.";

const LIST: &str = "\
Kinds: layer (what an instruction made), base (a layer of an image that was pulled), image (what a name stands for), mount (a cache mount), git and download (what was fetched), context (what files of a folder were), blob (bytes that nothing leads to).

What is `in use` may have been looked up by a running build. A size with > has parts that could not be read.";

const USAGE: &str = "\
Sizes are those of blocks on the disk. What several platforms have is counted for each of them, and once in the total. NOT IN USE is what `fanfold cache prune --all` would remove now.";

const PRUNE: &str = "\
Durations are written as 90s, 30m, 12h, 7d or 2w, sizes as 500m or 20g. With an age and a size, what is too old goes first, and then what was used least recently.

What a running build has looked up stays, and so do cache mounts that it has. The rest may go at any time: it is made or fetched again when a build needs it, but for the contents of cache mounts.";

const VERIFY: &str = "\
Records, blobs and the forms of all layers are read as a whole and compared with their digests. What is damaged is dropped, so that the next build makes or fetches it again; where a running build may use it, it is only reported. Cache mounts have no digests, git looks after its repositories itself: neither is read.

Exit codes: 0 all is as it should be; 1 something was damaged.";

const WARM: &str = "\
The registry is asked what each name stands for now. Layers of all platforms are fetched at the same time and unpacked, so that a build on these images fetches and unpacks nothing.";

/// `fanfold cache`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CacheArgs {
    #[command(subcommand)]
    pub(super) command: CacheCommand,
}

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// List what is kept, last used first
    #[command(visible_alias = "list", after_help = LIST)]
    Ls(ListArgs),
    /// Show how much of the disk is taken, by kind and by platform
    #[command(after_help = USAGE)]
    Du(UsageArgs),
    /// Remove what was not used for long, or until the store is small enough
    #[command(after_help = PRUNE)]
    Prune(PruneArgs),
    /// Read everything again and drop what is damaged
    #[command(after_help = VERIFY)]
    Verify(VerifyArgs),
    /// Fetch and unpack base images ahead of builds
    #[command(after_help = WARM)]
    Warm(WarmArgs),
}

/// Where the store is.
#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    /// The store: layers, cache and work in progress [default: $XDG_DATA_HOME/fanfold]
    #[arg(long, value_name = "DIR", env = "FANFOLD_ROOT")]
    pub(super) root: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// `fanfold cache ls`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// Only what belongs to these platforms, comma-separated or repeated
    #[arg(long, value_name = "PLATFORMS")]
    pub(super) platform: Vec<String>,
}

/// `fanfold cache du`.
#[derive(Debug, Args)]
pub(super) struct UsageArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

/// `fanfold cache prune`.
#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// Remove what no build has used for this long, e.g. 12h or 7d
    #[arg(long, value_name = "DURATION", env = "FANFOLD_OLDER_THAN")]
    pub(super) older_than: Option<String>,
    /// Remove what was used least recently until the store is no larger than this, e.g. 20g
    #[arg(
        long,
        visible_aliases = ["max-used-space", "keep-storage"],
        value_name = "SIZE",
        env = "FANFOLD_MAX_SIZE"
    )]
    pub(super) max_size: Option<String>,
    /// Remove all that is not in use
    #[arg(short, long)]
    pub(super) all: bool,
    /// until=DURATION, as --older-than
    #[arg(long, value_name = "until=DURATION")]
    pub(super) filter: Vec<String>,
    /// Show what would go, and remove nothing
    #[arg(long, value_parser = FalseyValueParser::new(), env = "FANFOLD_DRY_RUN")]
    pub(super) dry_run: bool,
}

/// `fanfold cache verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// Things that are read at the same time [default: number of cores]
    #[arg(short, long, value_name = "N", env = "FANFOLD_JOBS")]
    pub(super) jobs: Option<usize>,
}

/// `fanfold cache warm`.
#[derive(Debug, Args)]
pub(super) struct WarmArgs {
    /// Names of images, as in FROM
    #[arg(value_name = "IMAGE", required = true)]
    pub(super) images: Vec<String>,
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// Platforms to fetch them for, comma-separated or repeated [default: this machine's]
    #[arg(long, value_name = "PLATFORMS", env = "FANFOLD_PLATFORM")]
    pub(super) platform: Vec<String>,
    /// Registry that may speak plain HTTP or show an unknown certificate; repeatable
    #[arg(long, value_name = "HOST[:PORT]", env = "FANFOLD_INSECURE_REGISTRY")]
    pub(super) insecure_registry: Vec<String>,
    /// How builds will keep commands apart: directories of layers are made for that
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto", env = "FANFOLD_ISOLATION")]
    pub(super) isolation: IsolationArg,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto", env = "FANFOLD_PROGRESS")]
    pub(super) progress: ProgressArg,
}
