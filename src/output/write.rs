//! Carries out all outputs of a build.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::file::{begun, beside, is_stream};
use super::stored::Stored;
use super::{Destination, OutputError, OutputSpec, docker, layout, push, rootfs};
use crate::engine::{Built, BuiltLayer, Engine};
use crate::image::{Digest, Reference};
use crate::progress::{Event, Progress};
use crate::registry::Client;

/// What outputs work with.
#[derive(Debug)]
pub struct Context<'a> {
    /// Gives the layers' contents.
    pub engine: &'a Engine,
    /// Speaks with registries.
    pub client: &'a Client,
    /// Hears what was written.
    pub progress: &'a Progress,
    /// Names from `--tag`, for outputs that have none of their own.
    pub names: &'a [Reference],
}

/// Looks whether the destinations can be written, before a build begins that may take hours.
///
/// # Errors
///
/// Fails for a destination whose folder is missing, is no folder, or cannot be written to.
pub fn check_destinations(specs: &[OutputSpec], files: &[&Path]) -> Result<(), OutputError> {
    for spec in specs {
        match spec {
            OutputSpec::Oci { destination: Destination::Path(path), tar: false, .. }
            | OutputSpec::Local { directory: path } => check_directory(path)?,
            OutputSpec::Oci { destination: Destination::Path(path), .. }
            | OutputSpec::Docker { destination: Destination::Path(path), .. }
            | OutputSpec::Tar { destination: Destination::Path(path) } => check_file(path)?,
            _ => {}
        }
    }
    files.iter().try_for_each(|path| check_file(path))
}

fn check_file(path: &Path) -> Result<(), OutputError> {
    // A device or pipe is written to as it is.
    if is_stream(&Destination::Path(path.to_owned())) {
        return Ok(());
    }
    if path.is_dir() {
        let error = std::io::Error::from(std::io::ErrorKind::IsADirectory);
        return Err(OutputError::at("write", path)(error));
    }
    check_writable(path, &parent(path))
}

/// A directory output may create its last components.
fn check_directory(path: &Path) -> Result<(), OutputError> {
    let mut existing = path.to_owned();
    while !existing.exists() {
        existing = parent(&existing);
    }
    check_writable(path, &existing)
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => PathBuf::from("/"),
    }
}

fn check_writable(path: &Path, directory: &Path) -> Result<(), OutputError> {
    let metadata = std::fs::metadata(directory).map_err(OutputError::at("write", path))?;
    if !metadata.is_dir() {
        let error = std::io::Error::from(std::io::ErrorKind::NotADirectory);
        return Err(OutputError::at("write", path)(error));
    }
    // Permissions do not tell everything: file systems are read-only, or are no place for files.
    beside(&directory.join("probe")).map(drop).map_err(OutputError::at("write", path))
}

/// Writes every output; pushes come last, so that a disk that is full moves no tag, and streams after all
/// else that is written here. Gives what was written here, e.g. `oci ./image.tar`.
///
/// # Errors
///
/// Fails with the first output that fails; what was already handed over stays.
pub async fn write(
    context: &Context<'_>,
    built: &Built,
    specs: &[OutputSpec],
) -> Result<Vec<String>, OutputError> {
    let mut written = Vec::new();
    let turn = |spec: &&OutputSpec| match spec {
        OutputSpec::Registry { .. } => 2,
        spec => i32::from(spec.is_stream()),
    };
    let mut ordered: Vec<&OutputSpec> = specs.iter().collect();
    ordered.sort_by_key(turn);
    if ordered.iter().any(|spec| spec.is_stream()) {
        tokio::task::block_in_place(|| check_blobs(context.engine, built))?;
    }
    let mut streamed = false;
    for spec in ordered {
        let destination = write_one(context, built, spec).await.map_err(|error| match streamed {
            true => OutputError::AfterStream(Box::new(error)),
            false => error,
        })?;
        streamed |= spec.is_stream();
        if !matches!(spec, OutputSpec::Registry { .. }) {
            written.push(format!("{} {destination}", spec.kind()));
        }
        context.progress.send(Event::Written { kind: spec.kind().to_owned(), destination });
    }
    Ok(written)
}

/// Reads all blobs of a result that are here, so that damage is found before it is in the middle of a stream.
fn check_blobs(engine: &Engine, built: &Built) -> Result<(), OutputError> {
    let store = engine.store();
    let layers = built.images.iter().flat_map(|image| &image.layers);
    let here = layers.filter(|layer: &&BuiltLayer| store.has_blob(&layer.blob.descriptor));
    let digests: BTreeSet<Digest> = here.map(|layer| layer.blob.descriptor.digest).collect();
    digests.iter().try_for_each(|digest| Stored::check(store, digest))
}

async fn write_one(context: &Context<'_>, built: &Built, spec: &OutputSpec) -> Result<String, OutputError> {
    let store = context.engine.store();
    let named = |own: &[Reference]| if own.is_empty() { context.names.to_vec() } else { own.to_vec() };
    match spec {
        OutputSpec::Registry { names, by_digest, .. } => {
            let names = named(names);
            if names.is_empty() {
                return Err(OutputError::Unsuitable {
                    message: "there is no name to push under".to_owned(),
                    hint: "add -t NAME".to_owned(),
                });
            }
            push::push(context.client, store, built, &names, *by_digest, context.progress).await?;
            Ok(names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
        OutputSpec::Oci { destination: Destination::Path(path), tar: false, names, .. } => {
            tokio::task::block_in_place(|| layout::write_directory(store, built, &named(names), path))?;
            Ok(path.display().to_string())
        }
        OutputSpec::Oci { destination, names, .. } => {
            tokio::task::block_in_place(|| {
                begun(destination, layout::write_tar(store, built, &named(names), destination))
            })?;
            Ok(shown(destination))
        }
        OutputSpec::Docker { destination, names } => {
            tokio::task::block_in_place(|| {
                begun(destination, docker::write(store, built, &named(names), destination))
            })?;
            Ok(shown(destination))
        }
        OutputSpec::Local { directory } => {
            tokio::task::block_in_place(|| rootfs::write_directory(context.engine, built, directory))?;
            Ok(directory.display().to_string())
        }
        OutputSpec::Tar { destination } => {
            tokio::task::block_in_place(|| rootfs::write_tar(context.engine, built, destination))?;
            Ok(shown(destination))
        }
    }
}

fn shown(destination: &Destination) -> String {
    match destination {
        Destination::Path(path) => path.display().to_string(),
        Destination::Stdout => "standard output".to_owned(),
    }
}
