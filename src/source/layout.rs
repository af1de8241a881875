//! OCI layouts: images in a directory, or in a tar file of one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Deserialize;

use super::SourceError;
use super::tar_places::{Place, places};
use crate::dockerfile::suggest::nearest;
use crate::image::media_type::OCI_INDEX;
use crate::image::{CONTAINERD_NAME, Descriptor, Digest, Document, REF_NAME, RawManifest, Reference, Sha256};
use crate::layer::{Content, LayerError};

/// Largest `oci-layout` file, in bytes.
const LARGEST_MARKER: u64 = 4 << 10;
/// Largest manifest or index, in bytes; registries allow no more either.
const LARGEST_MANIFEST: u64 = 4 << 20;
/// Largest `index.json`, in bytes: a cache has an entry for each of its records.
const LARGEST_INDEX: u64 = 64 << 20;
/// Names that an error lists.
const LISTED: usize = 10;

/// Which image of a layout is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The only one, or the one with the tag `latest`.
    Any,
    /// The one with this tag.
    Tag(String),
    /// The one with this digest.
    Digest(Digest),
}

/// An open layout. Nothing of it is trusted: what is read is compared with its digest and size.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    files: Files,
    manifests: Vec<Descriptor>,
}

#[derive(Debug)]
enum Files {
    /// Below a directory that others may change at any time.
    Beneath(Arc<OwnedFd>),
    /// Parts of a tar file.
    Tar(Arc<File>, BTreeMap<Vec<u8>, Place>),
}

/// The `oci-layout` file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

impl Selector {
    /// Takes `dir[:tag|@digest]` apart. A path that exists as it stands is meant as a whole; else a tag
    /// follows the last colon after the last slash.
    ///
    /// # Errors
    ///
    /// Fails for something after an `@` that is no digest, and for an empty path or tag.
    pub fn split(text: &str) -> Result<(PathBuf, Self), SourceError> {
        let fail = |reason: String| SourceError::Layout { path: text.into(), reason };
        if text.is_empty() {
            return Err(fail("its path is empty".to_owned()));
        }
        if fs::symlink_metadata(text).is_ok() {
            return Ok((text.into(), Self::Any));
        }
        let name = text.rfind('/').map_or(0, |slash| slash + 1);
        let at = text[name..].rfind('@').map(|at| name + at);
        let colon = text[name..].rfind(':').map(|colon| name + colon);
        // An `@` may belong to the directory's name, which only the directory itself can tell.
        let at = at.filter(|_| colon.is_none_or(|colon| fs::symlink_metadata(&text[..colon]).is_err()));
        let (path, selector) = if let Some(at) = at {
            let digest = text[at + 1..].parse::<Digest>().map_err(|error| fail(error.to_string()))?;
            (&text[..at], Self::Digest(digest))
        } else if let Some(colon) = colon {
            if text[colon + 1..].is_empty() {
                return Err(fail("the tag is missing after the colon".to_owned()));
            }
            (&text[..colon], Self::Tag(text[colon + 1..].to_owned()))
        } else {
            (text, Self::Any)
        };
        if path.is_empty() { Err(fail("its path is empty".to_owned())) } else { Ok((path.into(), selector)) }
    }
}

impl Layout {
    /// Opens the layout in the directory or uncompressed tar file at `path`, and reads its index.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be read, is no layout, or is one of another version.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let fail = |error: io::Error| SourceError::io("open the OCI layout", path, error);
        // A FIFO put in place of the tar must not block the open.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        let files = if metadata.is_dir() {
            Files::Beneath(Arc::new(file.into()))
        } else if metadata.is_file() {
            let found = places(&file, |name| name == b"oci-layout" || name == b"index.json" || is_blob(name));
            let found = found.map_err(|error| SourceError::Layout {
                path: path.to_owned(),
                reason: format!("it is neither a directory nor an uncompressed tar: {error}"),
            })?;
            Files::Tar(Arc::new(file), found)
        } else {
            return Err(fail(io::Error::from(io::ErrorKind::NotADirectory)));
        };
        let mut layout = Self { path: path.to_owned(), files, manifests: Vec::new() };
        let marker = layout.read_small("oci-layout", LARGEST_MARKER)?;
        let marker: Marker = serde_json::from_slice(&marker)
            .map_err(|error| layout.fail(format!("its file `oci-layout` is not valid: {error}")))?;
        if marker.image_layout_version.split('.').next() != Some("1") {
            let version = shown(&marker.image_layout_version);
            return Err(layout.fail(format!("it has the version {version}, but only 1.0.0 is known")));
        }
        let bytes = layout.read_small("index.json", LARGEST_INDEX)?;
        let media_type = RawManifest::said_type(&bytes).unwrap_or_else(|| OCI_INDEX.to_owned());
        layout.manifests = match (RawManifest { media_type, bytes }).parse() {
            Ok(Document::Index(index)) => index.manifests,
            Ok(Document::Image(_)) => return Err(layout.fail("its file `index.json` is no index")),
            Err(error) => return Err(layout.fail(format!("its file `index.json` is not usable: {error}"))),
        };
        Ok(layout)
    }

    /// The entries of its index, as they stand there.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// Finds an image: an index or a manifest.
    ///
    /// # Errors
    ///
    /// Fails where there is none, or more than one that may be meant; the error lists those there are.
    pub fn resolve(&self, selector: &Selector) -> Result<Descriptor, SourceError> {
        match selector {
            Selector::Tag(tag) => self.tagged(tag)?.ok_or_else(|| {
                let known: BTreeSet<_> = self.manifests.iter().filter_map(tag_of).collect();
                let meant = nearest(tag, known).map(|near| format!(" (did you mean `{}`?)", shown(&near)));
                let tag = shown(tag);
                self.fail(format!(
                    "it has no image `{tag}`{}; it has: {}",
                    meant.unwrap_or_default(),
                    self.names()
                ))
            }),
            Selector::Digest(digest) => self.with_digest(*digest),
            Selector::Any => {
                let distinct: BTreeSet<_> = self.manifests.iter().map(|entry| entry.digest).collect();
                if distinct.is_empty() {
                    return Err(self.fail("it holds no image"));
                }
                if distinct.len() == 1 {
                    return Ok(self.manifests[0].clone());
                }
                self.tagged("latest")?.ok_or_else(|| {
                    self.fail(format!(
                        "it holds {} images, and none is `latest`: add `:<tag>` or `@<digest>` to its path; it has: {}",
                        distinct.len(),
                        self.names()
                    ))
                })
            }
        }
    }

    /// Reads the manifest or index that `descriptor` points to; digest and size are verified.
    ///
    /// # Errors
    ///
    /// As [`Layout::read`]; more than 4 MiB are refused.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<RawManifest, SourceError> {
        let bytes = self.read(descriptor, LARGEST_MANIFEST)?;
        Ok(RawManifest { media_type: descriptor.media_type.clone(), bytes })
    }

    /// Reads a blob of at most `limit` bytes; digest and size are verified.
    ///
    /// # Errors
    ///
    /// Fails where it is missing, too large, or not what the descriptor says.
    pub fn read(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, SourceError> {
        if descriptor.size > limit {
            let text = format!(
                "the blob {} has {} bytes, more than the {limit} that are accepted here",
                descriptor.digest, descriptor.size
            );
            return Err(self.fail(text));
        }
        let mut bytes = Vec::new();
        self.copy(descriptor, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies a blob into the file `to`, which is created or overwritten; digest and size are verified on
    /// the way. Only a whole and verified file is left.
    ///
    /// # Errors
    ///
    /// Fails where the blob is missing or not what the descriptor says, and where it cannot be written.
    pub fn copy_blob(&self, descriptor: &Descriptor, to: &Path) -> Result<(), SourceError> {
        let mut file = File::create(to).map_err(|error| SourceError::io("write", to, error))?;
        let copied = self.copy(descriptor, &mut file);
        if copied.is_err() {
            // It is scratch space of the caller's: what stays is removed with it.
            drop(fs::remove_file(to));
        }
        copied.map_err(|error| match error {
            SourceError::Io { action: "write", source, .. } => SourceError::io("write", to, source),
            other => other,
        })
    }

    fn copy(&self, descriptor: &Descriptor, to: &mut dyn Write) -> Result<(), SourceError> {
        let Descriptor { digest, size, .. } = descriptor;
        let name = blob_name(digest);
        let mut from = self.open_file(&name)?.take(size.saturating_add(1));
        let mut hasher = Sha256::new();
        let (mut buffer, mut length) = (vec![0; 64 << 10], 0);
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(SourceError::io("read", &self.path.join(&name), error)),
            };
            length += count as u64;
            hasher.update(&buffer[..count]);
            to.write_all(&buffer[..count]).map_err(|error| SourceError::io("write", &self.path, error))?;
        }
        let wrong = match length.cmp(size) {
            std::cmp::Ordering::Less => format!("it has only {length} of {size} bytes"),
            std::cmp::Ordering::Greater => format!("it has more than {size} bytes"),
            std::cmp::Ordering::Equal => match hasher.finish() {
                found if found == *digest => return Ok(()),
                found => format!("its content has the digest {found}"),
            },
        };
        Err(self.fail(format!("the blob {digest} is damaged: {wrong}")))
    }

    /// The image with a tag; `None` where there is none.
    fn tagged(&self, tag: &str) -> Result<Option<Descriptor>, SourceError> {
        let has = |entry: &&Descriptor| {
            let named = |key: &str| entry.annotations.get(key).is_some_and(|name| name == tag);
            named(REF_NAME) || named(CONTAINERD_NAME) || tag_of(entry).is_some_and(|of| of == tag)
        };
        let mut found = self.manifests.iter().filter(has);
        let Some(first) = found.next() else { return Ok(None) };
        if found.any(|other| other.digest != first.digest) {
            let tag = shown(tag);
            let text = format!("more than one image is `{tag}`: name its digest; it has: {}", self.names());
            return Err(self.fail(text));
        }
        Ok(Some(first.clone()))
    }

    /// The image with a digest, also one that only an index names.
    fn with_digest(&self, digest: Digest) -> Result<Descriptor, SourceError> {
        if let Some(entry) = self.manifests.iter().find(|entry| entry.digest == digest) {
            return Ok(entry.clone());
        }
        let bytes = match self.read_small(&blob_name(&digest), LARGEST_MANIFEST) {
            Err(SourceError::Layout { .. }) => {
                return Err(self.fail(format!("it has no image {digest}; it has: {}", self.names())));
            }
            other => other?,
        };
        let media_type = RawManifest::said_type(&bytes)
            .ok_or_else(|| self.fail(format!("the blob {digest} is neither a manifest nor an index")))?;
        if Digest::of(&bytes) != digest {
            return Err(self.fail(format!("the blob {digest} is damaged: its content has another digest")));
        }
        Ok(Descriptor::of(&media_type, &bytes))
    }

    /// The images by name or, without one, by digest.
    fn names(&self) -> String {
        let name = |entry: &Descriptor| {
            let name = entry.annotations.get(CONTAINERD_NAME).or_else(|| entry.annotations.get(REF_NAME));
            name.map_or_else(|| entry.digest.to_string(), |name| shown(name))
        };
        let names: BTreeSet<String> = self.manifests.iter().map(name).collect();
        let more = names.len().saturating_sub(LISTED);
        let mut listed: Vec<String> = names.into_iter().take(LISTED).collect();
        if more > 0 {
            listed.push(format!("{more} more"));
        }
        if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
    }

    fn read_small(&self, name: &str, limit: u64) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        let read = self.open_file(name)?.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| SourceError::io("read", &self.path.join(name), error))?;
        if bytes.len() as u64 > limit {
            return Err(self.fail(format!("its file `{name}` has more than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Opens a file of the layout; links are not followed.
    fn open_file(&self, name: &str) -> Result<Box<dyn Read + Send>, SourceError> {
        let content = match &self.files {
            Files::Beneath(root) => Content::Beneath { root: Arc::clone(root), path: name.into() },
            Files::Tar(file, places) => {
                let place = places.get(name.as_bytes());
                let Place { offset, length } =
                    *place.ok_or_else(|| self.fail(format!("it has no file `{name}`")))?;
                Content::Part { file: Arc::clone(file), offset, length }
            }
        };
        content.open().map_err(|error| match error {
            LayerError::Io { source, .. } => match Errno::from_io_error(&source) {
                Some(Errno::NOENT) => self.fail(format!("it has no file `{name}`")),
                Some(Errno::LOOP) => self.fail(format!("its file `{name}` is a link, which is not followed")),
                _ => SourceError::io("open", &self.path.join(name), source),
            },
            other => self.fail(format!("its file `{name}` cannot be used: {other}")),
        })
    }

    fn fail(&self, reason: impl Into<String>) -> SourceError {
        SourceError::Layout { path: self.path.clone(), reason: reason.into() }
    }
}

/// The tag that an entry of the index has: by itself, or at the end of a full name.
fn tag_of(entry: &Descriptor) -> Option<String> {
    [REF_NAME, CONTAINERD_NAME].iter().find_map(|key| {
        let name = entry.annotations.get(*key)?;
        if !name.contains([':', '/', '@']) {
            return Some(name.clone());
        }
        Some(name.parse::<Reference>().ok()?.tag()?.to_owned())
    })
}

/// Where a blob lies in a layout. A digest has been checked by then: it is 64 hex digits.
fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn is_blob(name: &[u8]) -> bool {
    let hex = name.strip_prefix(b"blobs/sha256/").and_then(|hex| std::str::from_utf8(hex).ok());
    hex.is_some_and(|hex| Digest::from_hex(hex).is_ok())
}

/// A layout's own text, safe to show.
fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
