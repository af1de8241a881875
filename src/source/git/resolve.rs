//! What a reference means on the server right now.

use std::path::Path;

use super::command::{Host, Reach};
use super::error::GitError;
use super::repository::Repository;
use super::request::{GitCommit, GitRequest};
use crate::dockerfile::GitRemote;
use crate::dockerfile::suggest::nearest;

/// Largest list of references, in bytes.
const LIST: u64 = 256 << 20;
/// Shortest hash that is looked for.
const SHORTEST_HASH: usize = 4;

/// Finds the commit of a request, and checks it against what is expected.
pub(super) fn commit(
    host: &Host<'_>,
    request: &GitRequest<'_>,
    cache_dir: &Path,
) -> Result<GitCommit, GitError> {
    let address = request.address;
    let found = match address.commit() {
        Some(hash) => GitCommit { commit: hash.clone(), object: hash, reference: None },
        None => by_name(host, &address.remote, address.reference.as_deref(), cache_dir)?,
    };
    check(&found, request)?;
    Ok(found)
}

/// Compares a commit with the expected ones. An annotated tag may be meant by its own hash.
pub(super) fn check(found: &GitCommit, request: &GitRequest<'_>) -> Result<(), GitError> {
    for expected in [request.checksum, request.address.checksum.as_deref()].into_iter().flatten() {
        let expected = expected.to_ascii_lowercase();
        if !found.commit.starts_with(&expected) && !found.object.starts_with(&expected) {
            return Err(GitError::Checksum { expected, found: found.commit.clone() });
        }
    }
    Ok(())
}

fn by_name(
    host: &Host<'_>,
    remote: &GitRemote,
    name: Option<&str>,
    cache_dir: &Path,
) -> Result<GitCommit, GitError> {
    let candidates = candidates(name);
    let mut patterns: Vec<String> = candidates.clone();
    patterns.extend(candidates.iter().map(|candidate| format!("{candidate}^{{}}")));
    let refs = References::ask(host, remote, &patterns)?;
    if let Some(commit) = candidates.iter().find_map(|candidate| refs.commit(candidate)) {
        return Ok(commit);
    }
    let all = References::ask(host, remote, &[])?;
    let Some(hash_length) = all.hash_length() else {
        return Err(GitError::Empty { remote: remote.to_string() });
    };
    let reference = name.unwrap_or("HEAD").to_owned();
    if is_short_hash(&reference, hash_length) {
        let repository = Repository::open(host, cache_dir, remote, hash_length)?;
        let short = reference.to_ascii_lowercase();
        let mut found = repository.commit_with_prefix(&short)?;
        if found.is_none() {
            repository.fetch_all()?;
            found = repository.commit_with_prefix(&short)?;
        }
        if let Some(commit) = found {
            repository.keep(&commit)?;
            return Ok(GitCommit { object: commit.clone(), commit, reference: None });
        }
    }
    let nearest =
        nearest(reference.trim_start_matches("refs/heads/").trim_start_matches("refs/tags/"), all.names());
    Err(GitError::NoSuchRef { remote: remote.to_string(), reference, nearest })
}

/// Full names that a short one may stand for, as in git, but branches before tags, as in BuildKit.
fn candidates(name: Option<&str>) -> Vec<String> {
    match name {
        None | Some("HEAD") => vec!["HEAD".to_owned()],
        Some(name) if name.starts_with("refs/") => vec![name.to_owned()],
        Some(name) => ["refs/heads/", "refs/tags/", "refs/"].map(|prefix| format!("{prefix}{name}")).into(),
    }
}

fn is_short_hash(name: &str, hash_length: usize) -> bool {
    (SHORTEST_HASH..hash_length).contains(&name.len()) && name.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// References of a server with their hashes, as `git ls-remote` lists them.
struct References {
    /// Name and hash; the name of what an annotated tag names ends in `^{}`.
    hashes: Vec<(String, String)>,
    /// The branch that HEAD is.
    head: Option<String>,
}

impl References {
    fn ask(host: &Host<'_>, remote: &GitRemote, patterns: &[String]) -> Result<Self, GitError> {
        let call = host.git("list the references of", remote, Reach::Server(remote))?;
        let call = call.args(["ls-remote", "--quiet", "--symref", "--", remote.url()]);
        let text = call.args(patterns).output(LIST)?;
        Ok(Self::read(&String::from_utf8_lossy(&text)))
    }

    /// Lines that are neither a hash nor a symbolic reference are none of git's.
    fn read(text: &str) -> Self {
        let (mut hashes, mut head) = (Vec::new(), None);
        for (value, name) in text.lines().filter_map(|line| line.split_once('\t')) {
            if let Some(target) = value.strip_prefix("ref: ") {
                // The server's word becomes an argument of git.
                if name == "HEAD" && target.starts_with("refs/heads/") {
                    head = Some(target.to_owned());
                }
            } else if matches!(value.len(), 40 | 64) && value.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                hashes.push((name.to_owned(), value.to_ascii_lowercase()));
            }
        }
        Self { hashes, head }
    }

    fn hash(&self, name: &str) -> Option<&str> {
        self.hashes.iter().find(|(known, _)| known == name).map(|(_, hash)| hash.as_str())
    }

    fn commit(&self, name: &str) -> Option<GitCommit> {
        let object = self.hash(name)?.to_owned();
        let commit = self.hash(&format!("{name}^{{}}")).unwrap_or(&object).to_owned();
        let reference = if name == "HEAD" { self.head.clone() } else { Some(name.to_owned()) };
        Some(GitCommit { commit, object, reference })
    }

    fn hash_length(&self) -> Option<usize> {
        self.hashes.first().map(|(_, hash)| hash.len())
    }

    /// Branches and tags as people write them.
    fn names(&self) -> impl Iterator<Item = &str> {
        let short = |name: &'_ (String, String)| -> Option<(usize, usize)> {
            let start =
                ["refs/heads/", "refs/tags/"].iter().find(|prefix| name.0.starts_with(**prefix))?.len();
            (!name.0.ends_with("^{}")).then_some((start, name.0.len()))
        };
        self.hashes.iter().filter_map(move |name| short(name).map(|(start, end)| &name.0[start..end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_references() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let refs = References::read(&format!(
            "ref: refs/heads/main\tHEAD\n{a}\tHEAD\n{a}\trefs/heads/main\n{b}\trefs/tags/v1\n{a}\trefs/tags/v1^{{}}\nref: --evil\tHEAD\njunk\tx\n"
        ));
        let head = refs.commit("HEAD").unwrap();
        assert_eq!((head.commit.as_str(), head.reference.as_deref()), (a.as_str(), Some("refs/heads/main")));
        let tag = refs.commit("refs/tags/v1").unwrap();
        assert_eq!((tag.commit, tag.object), (a, b));
        assert_eq!(refs.commit("x"), None);
        assert_eq!(refs.names().collect::<Vec<_>>(), ["main", "v1"]);
    }
}
