//! What is wanted of a git repository, and what comes back.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::dockerfile::GitAddress;
use crate::layer::Change;

/// What `git` gets of the machine that builds. Nothing else of its environment is seen.
#[derive(Debug, Clone)]
pub struct GitEnvironment {
    /// Where programs are looked for, as in `PATH`.
    pub path: OsString,
    /// Variables for the network: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` in both cases,
    /// `SSL_CERT_FILE`. They are handed over as they are.
    pub network: Vec<(String, OsString)>,
    /// Socket of an SSH agent. Without one, ssh has no key: none is taken from files unasked.
    pub ssh_agent: Option<PathBuf>,
    /// Known SSH hosts, usually `~/.ssh/known_hosts`. No other host is trusted, besides those of
    /// the whole machine.
    pub known_hosts: Option<PathBuf>,
    /// How long one source may take altogether.
    pub time_limit: Duration,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct GitRequest<'a> {
    /// The repository, reference, directory and options.
    pub address: &'a GitAddress,
    /// Value of `ADD --checksum`: a commit or its beginning, in lower case.
    pub checksum: Option<&'a str>,
    /// Value of `ADD --keep-git-dir`, where it is given.
    pub keep_git_dir: Option<bool>,
    /// Seconds since 1970, for `mtime=checkout`.
    pub now: i64,
    /// What git gets of this machine.
    pub environment: &'a GitEnvironment,
}

/// What a reference means right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitCommit {
    /// The commit's hash.
    pub commit: String,
    /// What the reference names: the hash of an annotated tag, else the commit's.
    pub(super) object: String,
    /// Full name of the branch or tag; `None` where a commit was named.
    pub(super) reference: Option<String>,
}

/// The files of a commit.
#[derive(Debug)]
pub struct GitTree {
    /// The commit's hash.
    pub commit: String,
    /// Entries for [`Context::gathered`](crate::source::Context::gathered), owned by root.
    pub changes: Vec<Change>,
    /// When the commit was made, in seconds since 1970.
    pub commit_time: i64,
}
