//! What was asked for on the command line, as far as it changes the result.

use std::collections::{BTreeMap, BTreeSet};

use fanfold_platforms::Platform;

use super::{NamedContext, Network};

/// The part of a build request that plan needs.
#[derive(Debug, Clone)]
pub struct Request {
    /// Target platforms, in the order of the index.
    pub platforms: Vec<Platform>,
    /// Whether they were asked for, or are the default.
    pub explicit_platforms: bool,
    /// The machine that the build runs on.
    pub build_platform: Platform,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`; the last stage without it.
    pub target: Option<String>,
    /// `--no-cache-filter`: stages whose earlier results are not used.
    pub no_cache_stages: Vec<String>,
    /// `--label`, laid over the Dockerfile's.
    pub labels: Vec<(String, String)>,
    /// `--network`: the network of RUN instructions that name none.
    pub network: Network,
    /// `--add-host`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`: name, soft, hard.
    pub ulimits: Vec<(String, u64, u64)>,
    /// `--build-context`.
    pub contexts: Vec<NamedContext>,
    /// Ids of the secrets that were given.
    pub secrets: BTreeSet<String>,
    /// Ids of the ssh agents that were given.
    pub agents: BTreeSet<String>,
    /// Ids of cache mounts that all platforms share.
    pub shared_caches: BTreeSet<String>,
    /// Seconds since 1970 that no new file may be younger than.
    pub epoch: Option<i64>,
}
