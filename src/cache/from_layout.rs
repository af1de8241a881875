//! Records in OCI layouts.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use tokio::task::spawn_blocking;

use super::codec::{self, ARTIFACT_TYPE, LIMIT};
use super::from_registry::{image, is_config, is_image};
use super::imports::{Records, Source, found};
use super::inline;
use super::spec::LocalImage;
use super::statement::{Damage, Decoded};
use crate::image::{Descriptor, Digest, Document, Origin, REF_NAME, RawManifest};
use crate::source::{Layout, Selector, SourceError};

/// Largest config, in bytes.
const LARGEST_CONFIG: u64 = 4 << 20;

/// What the inline records of an image turn out to be.
type Inline = (Vec<Decoded>, Option<Damage>);

/// An open layout.
#[derive(Debug)]
pub(super) struct Opened {
    layout: Layout,
    directory: PathBuf,
    by_key: HashMap<Digest, Descriptor>,
    images: Records,
}

/// Opens the layout; one that cannot be used is given up.
pub(super) async fn open(
    source: &Source,
    directory: PathBuf,
    wanted: Option<LocalImage>,
) -> Option<std::sync::Arc<Opened>> {
    if !directory.exists() {
        source.note(format!("the cache {} does not exist yet", directory.display()));
        return None;
    }
    let origin = Origin::Layout(directory.clone());
    let read = spawn_blocking(move || {
        let layout = Layout::open(&directory)?;
        let by_key = keys(&layout);
        let inline = wanted.map(|wanted| inline_of(&layout, wanted));
        Ok::<_, SourceError>((Opened { layout, directory, by_key, images: Records::new() }, inline))
    });
    match read.await.expect("reading a layout does not panic") {
        Ok((mut opened, inline)) => {
            match inline {
                None => {}
                Some(Ok(all)) => {
                    for inline in all {
                        source.add_inline(&mut opened.images, inline, &origin);
                    }
                }
                Some(Err(error)) => source.warn("the image", &error),
            }
            Some(std::sync::Arc::new(opened))
        }
        Err(error) => {
            source.give_up(&error.into());
            None
        }
    }
}

/// The entries of records, by key. Entries of others may lie beside them.
pub(super) fn keys(layout: &Layout) -> HashMap<Digest, Descriptor> {
    let records = layout.manifests().iter().filter(|entry| is_record(entry));
    records.filter_map(|entry| Some((key(entry)?, entry.clone()))).collect()
}

fn is_record(entry: &Descriptor) -> bool {
    entry.artifact_type.as_deref() == Some(ARTIFACT_TYPE)
}

fn key(entry: &Descriptor) -> Option<Digest> {
    Digest::from_hex(entry.annotations.get(REF_NAME)?).ok()
}

/// Reads one record; what is wrong with it where that does not work.
pub(super) fn read(layout: &Layout, entry: &Descriptor, key: &Digest) -> Result<Decoded, Damage> {
    let bytes = layout.read(entry, LIMIT).map_err(|error| Damage::new(error.to_string()))?;
    codec::decode(&RawManifest { media_type: entry.media_type.clone(), bytes }, Some(key))
}

/// Looks up all keys.
pub(super) async fn records(
    source: &Source,
    opened: std::sync::Arc<Opened>,
    keys: BTreeSet<Digest>,
) -> Records {
    let read = spawn_blocking(move || {
        let mut records = Records::new();
        let mut damage = None;
        for key in keys {
            if let Some(entry) = opened.by_key.get(&key) {
                match read(&opened.layout, entry, &key) {
                    Ok(decoded) => {
                        let origin = Origin::Layout(opened.directory.clone());
                        records.entry(key).or_default().push(found(decoded, origin));
                    }
                    Err(wrong) => damage = damage.or(Some((key, wrong))),
                }
            }
            if let Some(inline) = opened.images.get(&key) {
                records.entry(key).or_default().extend(inline.iter().cloned());
            }
        }
        (records, damage)
    });
    let (records, damage) = read.await.expect("reading records does not panic");
    if let Some((key, damage)) = damage {
        source.warn_of_record(&key, &damage);
    }
    records
}

/// The inline records of the image, or of all images of the index, that is meant.
fn inline_of(layout: &Layout, wanted: LocalImage) -> Result<Vec<Inline>, SourceError> {
    let selector = match wanted {
        LocalImage::Tag(tag) => Selector::Tag(tag),
        LocalImage::Digest(digest) => Selector::Digest(digest),
    };
    let top = layout.manifest(&layout.resolve(&selector)?)?;
    let images = match top.parse() {
        Ok(Document::Index(index)) => {
            let children = index.manifests.iter().filter(|child| is_image(child));
            children.map(|child| layout.manifest(child)).collect::<Result<Vec<_>, _>>()?
        }
        _ => vec![top],
    };
    let mut all = Vec::new();
    for raw in images {
        match image(&raw) {
            Ok(image) if is_config(&image.config) => {
                let config = layout.read(&image.config, LARGEST_CONFIG)?;
                all.push(inline::decode(&config, &image.layers));
            }
            Ok(_) => {}
            Err(damage) => all.push((Vec::new(), Some(damage))),
        }
    }
    Ok(all)
}
