//! A `.git` directory that goes into the result.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::command::Reach;
use super::error::GitError;
use super::process::Call;
use super::repository::{Repository, SHORT, object_format, reference_of};
use super::request::GitCommit;
use crate::layer::{Change, Content, Entry, EntryKind, LayerPath};
use crate::source::Spool;

/// Makes a `.git` with one commit, as a clone of depth 1 has it: without hooks, logs, credentials
/// and paths of this machine. Its entries have the commit's time.
pub(super) fn make(
    repository: &Repository<'_>,
    wanted: &GitCommit,
    commit: &str,
    spool: &mut Spool,
    time: i64,
) -> Result<Vec<Change>, GitError> {
    let scratch = tempfile::tempdir_in(repository.directory())
        .map_err(|error| GitError::io("make a directory in", repository.directory(), error))?;
    let directory = scratch.path().join(".git");
    let (host, remote) = (repository.host(), repository.remote());
    let call = |reach| -> Result<Call<'_>, GitError> {
        Ok(host.git("make a .git directory for", remote, reach)?.within(&directory))
    };
    let git = |arguments: &[&str]| -> Result<(), GitError> {
        call(Reach::Nobody)?.args(arguments).output(SHORT).map(drop)
    };

    // With a repository given by option, `init` makes that one, and not a bare one.
    let format = format!("--object-format={}", object_format(repository.hash_length()));
    git(&["-c", "core.bare=false", "init", "--quiet", "--template=", &format])?;
    let fetched = format!("+{}:refs/fanfold", reference_of(&wanted.object));
    let fetch = call(Reach::Ourselves)?.args(["-c", "fetch.unpackLimit=1", "-c", "pack.threads=1"]);
    let fetch = fetch.args(["fetch", "--quiet", "--no-tags", "--depth=1", "--no-write-fetch-head", "--"]);
    fetch.args([repository.directory()]).args([&fetched]).output(SHORT)?;

    match wanted.reference.as_deref() {
        Some(reference) if reference.starts_with("refs/heads/") => {
            let branch = &reference["refs/heads/".len()..];
            git(&["update-ref", reference, commit])?;
            git(&["update-ref", &format!("refs/remotes/origin/{branch}"), commit])?;
            git(&["symbolic-ref", "HEAD", reference])?;
            git(&["config", &format!("branch.{branch}.remote"), "origin"])?;
            git(&["config", &format!("branch.{branch}.merge"), reference])?;
        }
        Some(reference) => {
            git(&["update-ref", reference, &wanted.object])?;
            git(&["update-ref", "--no-deref", "HEAD", commit])?;
        }
        None => git(&["update-ref", "--no-deref", "HEAD", commit])?,
    }
    git(&["update-ref", "-d", "refs/fanfold"])?;
    git(&["read-tree", commit])?;
    git(&["config", "core.logAllRefUpdates", "true"])?;
    git(&["config", "remote.origin.url", remote.url()])?;
    git(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])?;

    let mut changes = Vec::new();
    gather(&directory, &LayerPath::new(".git")?, spool, time, &mut changes)?;
    Ok(changes)
}

/// Takes in a directory of our own.
fn gather(
    directory: &Path,
    path: &LayerPath,
    spool: &mut Spool,
    time: i64,
    changes: &mut Vec<Change>,
) -> Result<(), GitError> {
    let fail = |error| GitError::io("read", directory, error);
    let mut add = |path: LayerPath, kind, mode, content| {
        let mut entry = Entry::new(path, kind, mode);
        entry.mtime = time;
        changes.push(Change { entry, content });
    };
    add(path.clone(), EntryKind::Directory, 0o755, Content::Empty);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        names.push(entry.map_err(fail)?.file_name());
    }
    names.sort_unstable();
    let mut directories = Vec::new();
    for name in names {
        let (file, path) = (directory.join(&name), path.join(name.as_bytes())?);
        let metadata = fs::symlink_metadata(&file).map_err(fail)?;
        if metadata.is_dir() {
            directories.push((file, path));
        } else if metadata.is_file() {
            let mut reader = fs::File::open(&file).map_err(fail)?;
            let (content, size) = spool.add(&mut reader).map_err(fail)?;
            // Objects are for reading only; all else is git's to write. The umask plays no part.
            let mode = if metadata.permissions().mode() & 0o200 == 0 { 0o444 } else { 0o644 };
            add(path, EntryKind::File { size }, mode, content);
        }
    }
    for (file, path) in directories {
        gather(&file, &path, spool, time, changes)?;
    }
    Ok(())
}
