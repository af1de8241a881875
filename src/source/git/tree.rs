//! The files of a commit, read from its objects.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};

use super::cause::Cause;
use super::error::{GitError, shown};
use super::process::Running;
use super::repository::{Repository, SHORT};
use crate::layer::{Content, LayerError, LayerPath, Limits};
use crate::source::Spool;

/// Largest head of an object or line of a list, in bytes.
const LINE: u64 = 16 << 10;
/// Longest target of a symbolic link, in bytes.
const LONGEST_TARGET: u64 = 4096;

/// One entry of a commit's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) kind: ItemKind,
    /// The object's hash; of a submodule, its commit.
    pub(super) hash: String,
    /// Relative to the directory that was listed.
    pub(super) path: LayerPath,
}

/// What an entry is. Git knows nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemKind {
    File { executable: bool },
    Link,
    Directory,
    Submodule,
}

/// Content of a file or target of a link.
#[derive(Debug, Clone)]
pub(super) enum Blob {
    File(Content, u64),
    Target(Vec<u8>),
}

/// When a commit was made, in seconds since 1970.
pub(super) fn commit_time(repository: &Repository<'_>, commit: &str) -> Result<i64, GitError> {
    let text = repository.local("read a commit of")?.args(["cat-file", "commit", commit]).output(SHORT)?;
    let head = text.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let line = head.filter_map(|line| line.strip_prefix(b"committer ")).next();
    let words = line.map(|line| line.rsplit(|byte| *byte == b' '));
    let word = words.and_then(|mut words| words.nth(1)).and_then(|word| std::str::from_utf8(word).ok());
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| refused(repository, commit, "the commit has no time"))
}

/// The tree of a commit, or of a directory in it.
pub(super) fn tree_of(
    repository: &Repository<'_>,
    commit: &str,
    subdir: Option<&str>,
) -> Result<String, GitError> {
    let Some(subdir) = subdir else {
        return Ok(format!("{commit}^{{tree}}"));
    };
    let fault = |reason| GitError::Subdir {
        subdir: subdir.to_owned(),
        remote: repository.remote().to_string(),
        reason,
    };
    let call = repository.local("look for a directory in")?;
    let found =
        call.args(["rev-parse", "--verify", "--quiet", &format!("{commit}:{subdir}")]).answer(SHORT)?;
    let found = found.ok_or_else(|| fault("the commit has no such directory"))?;
    let hash = String::from_utf8_lossy(&found).trim().to_owned();
    let kind = repository.local("look for a directory in")?.args(["cat-file", "-t", &hash]).answer(SHORT)?;
    match kind.as_deref().map(<[u8]>::trim_ascii) {
        Some(b"tree") => Ok(hash),
        Some(_) => Err(fault("it is a file or a link")),
        None => Err(fault("it is a submodule")),
    }
}

/// All entries of a tree, directories before what is in them.
pub(super) fn list(repository: &Repository<'_>, tree: &str, room: u64) -> Result<Vec<Item>, GitError> {
    let call = repository.local("list the files of")?;
    let mut lines = BufReader::new(call.args(["ls-tree", "-r", "-t", "-z", "--full-tree", tree]).start()?);
    let mut items = Vec::new();
    while let Some(line) = next(repository, &mut lines, 0)? {
        if items.len() as u64 >= room {
            let limit = Limits::default().entries;
            return Err(GitError::Limit { remote: repository.remote().to_string(), what: "files", limit });
        }
        items.push(item(repository, &line)?);
    }
    lines.into_inner().done()?;
    Ok(items)
}

/// Whether a commit has a `.gitmodules` that is a plain file.
pub(super) fn has_modules(repository: &Repository<'_>, commit: &str) -> Result<bool, GitError> {
    let call = repository.local("look for submodules in")?;
    let line = call.args(["ls-tree", "-z", "--full-tree", commit, "--", ".gitmodules"]).output(SHORT)?;
    let Some(line) = line.split(|byte| *byte == 0).find(|line| !line.is_empty()) else {
        return Ok(false);
    };
    match item(repository, line)?.kind {
        ItemKind::File { .. } => Ok(true),
        _ => Err(refused(repository, ".gitmodules", "it is not a regular file")),
    }
}

fn item(repository: &Repository<'_>, line: &[u8]) -> Result<Item, GitError> {
    parse(line).map_err(|(what, reason)| refused(repository, &what, reason))
}

/// Reads `mode type hash TAB path`. A fault is what is wrong and why.
fn parse(line: &[u8]) -> Result<Item, (String, &'static str)> {
    let junk = || (shown(line), "git lists it in an unknown form");
    let tab = line.iter().position(|byte| *byte == b'\t').ok_or_else(junk)?;
    let (head, path) = (std::str::from_utf8(&line[..tab]).map_err(|_| junk())?, &line[tab + 1..]);
    let mut words = head.split(' ');
    let (mode, _, hash) = (words.next(), words.next(), words.next().ok_or_else(junk)?);
    if !matches!(hash.len(), 40 | 64) || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(junk());
    }
    let kind = match mode.and_then(|mode| u32::from_str_radix(mode, 8).ok()).ok_or_else(junk)? {
        0o040_000 => ItemKind::Directory,
        0o120_000 => ItemKind::Link,
        0o160_000 => ItemKind::Submodule,
        mode if mode & 0o170_000 == 0o100_000 => ItemKind::File { executable: mode & 0o100 != 0 },
        _ => return Err(junk()),
    };
    let fault = |reason| (shown(path), reason);
    let path = LayerPath::new(path).map_err(|error| match error {
        LayerError::InvalidPath { name, reason } => (name, reason),
        _ => fault("no image can hold it"),
    })?;
    if path.is_root() {
        return Err(fault("its name is empty"));
    }
    if path.components().any(|name| name.eq_ignore_ascii_case(b".git")) {
        return Err(fault("a commit must not hold `.git`"));
    }
    if path.components().count() > Limits::default().depth {
        return Err(fault("its directories are nested too deeply"));
    }
    Ok(Item { kind, hash: hash.to_owned(), path })
}

/// Reads each content once, however many files have it. `room` is the number of bytes that are
/// taken at most.
pub(super) fn blobs(
    repository: &Repository<'_>,
    items: &[Item],
    spool: &mut Spool,
    room: &mut u64,
) -> Result<HashMap<(String, bool), Blob>, GitError> {
    let mut wanted: Vec<(String, bool)> = Vec::new();
    let mut found = HashMap::new();
    for item in items {
        let is_link = match item.kind {
            ItemKind::File { .. } => false,
            ItemKind::Link => true,
            _ => continue,
        };
        let key = (item.hash.clone(), is_link);
        if found.insert(key.clone(), Blob::Target(Vec::new())).is_none() {
            wanted.push(key);
        }
    }
    if wanted.is_empty() {
        return Ok(found);
    }
    // A file as input: nothing has to be written while something is read.
    let home = repository.directory();
    let asked = || -> std::io::Result<std::fs::File> {
        let mut file = tempfile::tempfile_in(home)?;
        let lines: String = wanted.iter().map(|(hash, _)| format!("{hash}\n")).collect();
        file.write_all(lines.as_bytes())?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    };
    let asked = asked().map_err(|error| GitError::io("write a list in", home, error))?;
    let call = repository.local("read the files of")?.args(["cat-file", "--batch"]).input(asked);
    let mut objects = BufReader::with_capacity(128 << 10, call.start()?);
    for key in wanted {
        let size = head(repository, &mut objects, &key.0)?;
        let limits = Limits::default();
        if size > limits.file_bytes || size > *room {
            let remote = repository.remote().to_string();
            return Err(GitError::Limit { remote, what: "bytes of files", limit: limits.total_bytes });
        }
        *room -= size;
        let fail = |error| GitError::stream("gather files in", home, error);
        let blob = if key.1 {
            if size == 0 || size > LONGEST_TARGET {
                return Err(refused(
                    repository,
                    &key.0,
                    "the target of a link is empty or longer than 4096 bytes",
                ));
            }
            let mut target = Vec::new();
            objects.by_ref().take(size).read_to_end(&mut target).map_err(fail)?;
            if target.contains(&0) {
                return Err(refused(repository, &shown(&target), "the target of a link holds a NUL byte"));
            }
            Blob::Target(target)
        } else {
            let (content, length) = spool.add(&mut objects.by_ref().take(size)).map_err(fail)?;
            if length != size {
                return Err(damaged(repository, &key.0));
            }
            Blob::File(content, size)
        };
        let mut end = [0];
        objects.read_exact(&mut end).map_err(|_| damaged(repository, &key.0))?;
        found.insert(key, blob);
    }
    objects.into_inner().done()?;
    Ok(found)
}

/// The size of the next object: `hash blob size`.
fn head(
    repository: &Repository<'_>,
    objects: &mut BufReader<Running<'_>>,
    hash: &str,
) -> Result<u64, GitError> {
    let line = next(repository, objects, b'\n')?.ok_or_else(|| damaged(repository, hash))?;
    let line = String::from_utf8_lossy(&line);
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next().and_then(|size| size.parse().ok())) {
        (Some(found), Some("blob"), Some(size)) if found == hash => Ok(size),
        _ => Err(damaged(repository, hash)),
    }
}

/// The next line, without its end; `None` after the last one.
fn next(
    repository: &Repository<'_>,
    lines: &mut BufReader<Running<'_>>,
    end: u8,
) -> Result<Option<Vec<u8>>, GitError> {
    let mut line = Vec::new();
    let read = lines.by_ref().take(LINE).read_until(end, &mut line);
    read.map_err(|error| GitError::stream("read from", repository.directory(), error))?;
    match line.pop() {
        None => Ok(None),
        Some(last) if last == end => Ok(Some(line)),
        Some(_) => Err(refused(repository, &shown(&line), "a line of git has no end")),
    }
}

fn damaged(repository: &Repository<'_>, hash: &str) -> GitError {
    GitError::Failed {
        action: "read the files of",
        remote: repository.remote().to_string(),
        detail: format!("object {hash} is missing or damaged"),
        cause: Cause::Other(None),
    }
}

pub(super) fn refused(repository: &Repository<'_>, what: &str, reason: &str) -> GitError {
    GitError::Refused {
        remote: repository.remote().to_string(),
        what: format!("`{what}`"),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let read = |mode: &str, path: &str| parse(format!("{mode} type {hash}\t{path}").as_bytes());
        for (mode, kind) in [
            ("100644", ItemKind::File { executable: false }),
            ("100664", ItemKind::File { executable: false }),
            ("100755", ItemKind::File { executable: true }),
            ("040000", ItemKind::Directory),
            ("120000", ItemKind::Link),
            ("160000", ItemKind::Submodule),
        ] {
            let item = read(mode, "a\tb/c\nd").unwrap();
            assert_eq!(
                (item.kind, item.path.as_bytes(), item.hash.as_str()),
                (kind, &b"a\tb/c\nd"[..], hash)
            );
        }
        let deep = "d/".repeat(1100) + "x";
        for (mode, path, want) in [
            ("100644", "../x", "`..`"),
            ("100644", "/x", "empty component"),
            ("100644", "a//x", "empty component"),
            ("100644", "", "empty"),
            ("100644", "a/.git", "must not hold `.git`"),
            ("100644", ".GiT/config", "must not hold `.git`"),
            ("060000", "x", "unknown form"),
            ("x", "x", "unknown form"),
            ("100644", &deep, "too deeply"),
        ] {
            let (what, reason) = read(mode, path).unwrap_err();
            assert!(reason.contains(want), "{path}: {what}: {reason}");
        }
        for line in [&b""[..], b"100644 blob\tx", b"100644 blob 12\tx", b"100644 blob"] {
            assert!(parse(line).is_err());
        }
    }
}
