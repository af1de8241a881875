//! [`Repository`]: a bare repository that commits of one server are fetched into.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::command::{Host, OUR_PLACE, Reach};
use super::error::GitError;
use super::process::Call;
use crate::dockerfile::GitRemote;
use crate::image::Sha256;

/// Largest short answer of git, in bytes.
pub(super) const SHORT: u64 = 1 << 20;
/// How often it is tried to get the lock.
const RETRY: Duration = Duration::from_millis(50);
/// What servers say that do not give single commits. Everything else is a failure of its own.
const NO_SINGLE_COMMITS: [&str; 5] =
    ["not our ref", "unadvertised object", "shallow", "does not support", "remote ref"];

/// What git says of a repository of ours that was damaged.
const DAMAGE: [&str; 9] = [
    OUR_PLACE,
    "corrupt",
    "not a git repository",
    "bad object",
    "unable to read",
    "packfile",
    "loose object",
    "necessary objects",
    "reference broken",
];

/// A bare repository, used by nobody else as long as this lives.
///
/// Every commit that was fetched has a reference of its own, made after all its objects are there:
/// what has one is whole.
pub(super) struct Repository<'h> {
    host: &'h Host<'h>,
    remote: &'h GitRemote,
    directory: PathBuf,
    hash_length: usize,
    _lock: File,
}

impl<'h> Repository<'h> {
    /// Waits for the repository of `remote`, and makes it where it is missing. `hash_length` is 40
    /// or 64 digits.
    pub(super) fn open(
        host: &'h Host<'h>,
        cache_dir: &Path,
        remote: &'h GitRemote,
        hash_length: usize,
    ) -> Result<Self, GitError> {
        fs::create_dir_all(cache_dir).map_err(|error| GitError::io("make", cache_dir, error))?;
        let mut name = Sha256::new();
        name.field(remote.url().as_bytes());
        name.field(object_format(hash_length).as_bytes());
        let directory = cache_dir.join(name.finish().hex());
        let lock = lock(host, remote, &directory.with_extension("lock"))?;
        // Its time says when the repository was last used. Who cleans up without it cleans up too early.
        drop(lock.set_modified(SystemTime::now()));
        let repository = Self { host, remote, directory, hash_length, _lock: lock };
        if !repository.directory.join("HEAD").is_file() {
            repository.renew()?;
        }
        Ok(repository)
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Which repository's it is.
    pub(super) fn remote(&self) -> &'h GitRemote {
        self.remote
    }

    /// What calls of git have in common.
    pub(super) fn host(&self) -> &'h Host<'h> {
        self.host
    }

    /// Digits of a hash in it.
    pub(super) fn hash_length(&self) -> usize {
        self.hash_length
    }

    /// Throws away what is there and makes an empty one.
    pub(super) fn renew(&self) -> Result<(), GitError> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(GitError::io("remove", &self.directory, error));
            }
            _ => {}
        }
        let call = self.host.git("make a repository for", self.remote, Reach::Nobody)?;
        let mut call = call.args(["init", "--quiet", "--bare", "--template="]);
        if self.hash_length != 40 {
            call = call.args(["--object-format=sha256"]);
        }
        call.args(["--"]).args([&self.directory]).output(SHORT).map(drop)
    }

    /// A call of git on what is there already.
    pub(super) fn local(&self, action: &'static str) -> Result<Call<'h>, GitError> {
        Ok(self.host.git(action, self.remote, Reach::Nobody)?.within(&self.directory))
    }

    fn server_call(&self) -> Result<Call<'h>, GitError> {
        let call = self.host.git("fetch from", self.remote, Reach::Server(self.remote))?;
        let call = call.within(&self.directory);
        Ok(call.args([
            "fetch",
            "--quiet",
            "--force",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
        ]))
    }

    /// The commit that an object of ours is or names, if it was fetched.
    pub(super) fn commit_of(&self, object: &str) -> Result<Option<String>, GitError> {
        self.peel(&reference_of(object))
    }

    /// The commit that a short hash means among all that is here.
    pub(super) fn commit_with_prefix(&self, prefix: &str) -> Result<Option<String>, GitError> {
        self.peel(prefix)
    }

    fn peel(&self, name: &str) -> Result<Option<String>, GitError> {
        let call = self.local("look for a commit of")?;
        let name = format!("{name}^{{commit}}");
        let found = call.args(["rev-parse", "--verify", "--quiet", &name]).answer(SHORT)?;
        Ok(found.map(|text| String::from_utf8_lossy(&text).trim().to_owned()))
    }

    /// Fetches one commit or tag without its history; with it where the server gives nothing less.
    pub(super) fn fetch(&self, object: &str) -> Result<(), GitError> {
        let wanted = format!("+{object}:{}", reference_of(object));
        let single = self.server_call()?.args(["--depth=1", "--", self.remote.url(), &wanted]).output(SHORT);
        match single {
            Ok(_) => Ok(()),
            Err(GitError::Failed { detail, .. })
                if NO_SINGLE_COMMITS.iter().any(|sign| detail.contains(sign)) =>
            {
                self.fetch_all()?;
                self.keep(object)
            }
            Err(error) => Err(error),
        }
    }

    /// Fetches all branches and tags with their history.
    pub(super) fn fetch_all(&self) -> Result<(), GitError> {
        let mut call = self.server_call()?.args(["--prune"]);
        if self.directory.join("shallow").is_file() {
            call = call.args(["--unshallow"]);
        }
        let all =
            ["--", self.remote.url(), "+refs/heads/*:refs/remote/heads/*", "+refs/tags/*:refs/remote/tags/*"];
        call.args(all).output(SHORT).map(drop)
    }

    /// Gives an object that is here with all that it needs its reference.
    pub(super) fn keep(&self, object: &str) -> Result<(), GitError> {
        let missing = || GitError::NoSuchRef {
            remote: self.remote.to_string(),
            reference: object.to_owned(),
            nearest: None,
        };
        self.peel(object)?.ok_or_else(missing)?;
        let call = self.local("note a commit of")?;
        call.args(["update-ref", &reference_of(object), object]).output(SHORT).map(drop)
    }
}

/// Whether an error of a fetch may come from a repository of ours that was damaged.
pub(super) fn is_damage(error: &GitError) -> bool {
    matches!(error, GitError::Failed { detail, .. } if DAMAGE.iter().any(|sign| detail.contains(sign)))
}

/// Where a fetched object is noted.
pub(super) fn reference_of(object: &str) -> String {
    format!("refs/fanfold/{object}")
}

/// The name that git has for hashes of so many digits.
pub(super) fn object_format(hash_length: usize) -> &'static str {
    if hash_length == 64 { "sha256" } else { "sha1" }
}

/// Waits for a lock, as long as the source may take.
fn lock(host: &Host<'_>, remote: &GitRemote, path: &Path) -> Result<File, GitError> {
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = open.map_err(|error| GitError::io("open", path, error))?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {
                host.go_on("wait for another build that fetches from", &remote.to_string())?;
                std::thread::sleep(RETRY);
            }
            Err(errno) => return Err(GitError::io("lock", path, errno)),
        }
    }
}
