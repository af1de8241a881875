//! [`materialise`]: the merged view of a stack of layers as one directory tree.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::image::Ownership;

use super::content::Content;
use super::dir_writer::DirWriter;
use super::entry::{Entry, EntryKind};
use super::error::LayerError;
use super::path::LayerPath;
use super::tree::Tree;

/// Files that a thread takes at once.
const AT_ONCE: usize = 32;

/// Gives the content of a regular file that a layer holds under its first name there.
pub type LayerContent<'a> = dyn Fn(usize, &LayerPath) -> Content + Sync + 'a;

/// A file to write.
struct Job {
    entry: Entry,
    /// The layer that has its content, and its name there.
    source: Option<(usize, LayerPath)>,
}

/// Writes what `tree` shows into the fresh empty directory `into`: a root file system without layers.
///
/// Names of one file are hard links. Files share the blocks of their content's file where the file
/// system can. `threads` is the number of threads to use, the caller's included.
///
/// Gives back the paths that lack something: devices and extended attributes that were refused.
///
/// # Errors
///
/// Fails for hard links to nothing, and when reading or writing fails. What was written by then is
/// left for the caller to remove.
pub fn materialise(
    tree: &Tree,
    content: &LayerContent<'_>,
    ownership: Ownership,
    into: &Path,
    threads: usize,
) -> Result<Vec<LayerPath>, LayerError> {
    let nodes = tree.walk(&LayerPath::root());
    // Files that other names link to, with the first of their names here.
    let mut linked: HashMap<(usize, LayerPath), Option<LayerPath>> = HashMap::new();
    for (path, node) in &nodes {
        if let EntryKind::HardLink { .. } = node.entry.kind {
            let file = tree.file(path).ok_or_else(|| dangling(path))?;
            linked.insert((file.layer, file.path), None);
        }
    }
    let mut writer = DirWriter::new(into, ownership)?;
    let mut jobs = Vec::with_capacity(nodes.len());
    let mut links = Vec::new();
    let mut directories = vec![tree.get(&LayerPath::root()).map(|node| node.entry)];
    for (path, node) in nodes {
        let (entry, source) = match node.entry.kind {
            EntryKind::Directory => {
                writer.write(&node.entry, &mut io::empty())?;
                directories.push(Some(node.entry));
                continue;
            }
            EntryKind::File { .. } => (node.entry, (node.layer, path.clone())),
            EntryKind::HardLink { .. } => {
                let file = tree.file(&path).ok_or_else(|| dangling(&path))?;
                (file.entry, (file.layer, file.path))
            }
            _ => {
                jobs.push(Job { entry: node.entry, source: None });
                continue;
            }
        };
        match linked.get_mut(&source) {
            Some(Some(first)) => {
                let kind = EntryKind::HardLink { target: first.clone() };
                links.push(Entry { kind, ..entry });
                continue;
            }
            Some(first) => *first = Some(path),
            None => {}
        }
        jobs.push(Job { entry, source: Some(source) });
    }

    let mut unwritten = write_files(&jobs, content, ownership, into, threads)?;
    for link in &links {
        writer.write(link, &mut io::empty())?;
    }
    for entry in directories.iter().rev().flatten() {
        writer.describe_directory(entry, false)?;
    }
    unwritten.extend(writer.into_unwritten());
    unwritten.sort();
    unwritten.dedup();
    Ok(unwritten)
}

fn dangling(path: &LayerPath) -> LayerError {
    LayerError::refused(path, "the file it links to does not exist")
}

/// Writes files whose directories are there.
fn write_files(
    jobs: &[Job],
    content: &LayerContent<'_>,
    ownership: Ownership,
    into: &Path,
    threads: usize,
) -> Result<Vec<LayerPath>, LayerError> {
    let next = AtomicUsize::new(0);
    let write = || {
        let mut writer = DirWriter::new(into, ownership)?;
        loop {
            let start = next.fetch_add(AT_ONCE, Ordering::Relaxed).min(jobs.len());
            let end = (start + AT_ONCE).min(jobs.len());
            if start == end {
                return Ok(writer.into_unwritten());
            }
            for job in &jobs[start..end] {
                let written = match &job.source {
                    Some((layer, path)) => writer.write_content(&job.entry, &content(*layer, path)),
                    None => writer.write(&job.entry, &mut io::empty()),
                };
                if let Err(error) = written {
                    // The other threads have nothing more to do either.
                    next.store(jobs.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let mut others = Vec::new();
        for _ in 1..threads.min(jobs.len().div_ceil(AT_ONCE)) {
            // With fewer threads than asked for it takes longer.
            match std::thread::Builder::new().name("write".to_owned()).spawn_scoped(scope, write) {
                Ok(thread) => others.push(thread),
                Err(_) => break,
            }
        }
        let mut unwritten = write();
        for thread in others {
            let panicked =
                |_| Err(LayerError::Stream(io::Error::other("a thread that writes files panicked")));
            let more = thread.join().unwrap_or_else(panicked);
            match (&mut unwritten, more) {
                (Ok(unwritten), Ok(more)) => unwritten.extend(more),
                (Ok(_), more) => unwritten = more,
                (Err(_), _) => {}
            }
        }
        unwritten
    })
}

#[cfg(test)]
#[path = "materialise_tests.rs"]
mod tests;
