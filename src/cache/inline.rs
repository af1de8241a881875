//! Records in an image's config: the image is its own cache.
//!
//! A record names its layer by its diff id, and the config and manifest around it say which blob that is. So
//! an inline record cannot mean any layer but one of its image.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::codec::blob;
use super::statement::{Damage, Decoded, Statement};
use super::{CacheError, Entry};
use crate::image::{Descriptor, DiffId};

/// The member of a config that holds the records.
pub const INLINE_KEY: &str = "fanfold.cache.v1";

/// More records than an image has layers are not read.
const MOST: usize = 512;

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "fanfold.cache.v1")]
    records: Option<Vec<Value>>,
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Default, Serialize, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<DiffId>,
}

/// The value of [`INLINE_KEY`] in the config of an image: the results whose layers are the image's own.
///
/// # Errors
///
/// Fails for an entry whose layer is not what its blob holds.
pub fn encode(entries: &[Entry]) -> Result<Value, CacheError> {
    let statements = entries.iter().map(Statement::of).collect::<Result<Vec<_>, _>>()?;
    Ok(json!(statements))
}

/// Reads the records in the config of an image with these layers, base first: those that are good, and what
/// is wrong with the first of the others.
pub(super) fn decode(config: &[u8], layers: &[Descriptor]) -> (Vec<Decoded>, Option<Damage>) {
    let Config { records, rootfs } = match serde_json::from_slice(config) {
        Ok(config) => config,
        Err(error) => return (Vec::new(), Some(Damage::json(&error))),
    };
    let Some(records) = records else { return (Vec::new(), None) };
    if records.len() > MOST || rootfs.diff_ids.len() != layers.len() {
        return (Vec::new(), Some(Damage::new("its records do not belong to its layers")));
    }
    let mut damage = None;
    let mut good = Vec::new();
    for record in records {
        match read(record, &rootfs.diff_ids, layers) {
            Ok(record) => good.push(record),
            Err(wrong) => damage = damage.or(Some(wrong)),
        }
    }
    (good, damage)
}

fn read(record: Value, diff_ids: &[DiffId], layers: &[Descriptor]) -> Result<Decoded, Damage> {
    let statement: Statement = serde_json::from_value(record).map_err(|error| Damage::json(&error))?;
    statement.check(None)?;
    let diff_id = DiffId(*statement.record.layer.digest());
    let at = diff_ids.iter().position(|known| *known == diff_id);
    let at = at.ok_or_else(|| Damage::new("its layer is not one of the image"))?;
    Ok(Decoded { blob: blob(&layers[at], diff_id)?, statement })
}

#[cfg(test)]
mod tests {
    use fanfold_platforms::Platform;

    use super::super::tests::entry;
    use super::*;
    use crate::image::ImageConfig;

    #[test]
    fn records_come_back_with_the_blobs_of_the_image() {
        let entries = [entry("a"), entry("b")];
        let mut config = ImageConfig::scratch(Platform::host());
        config.diff_ids = entries.iter().map(|entry| entry.blob.diff_id).collect();
        config.set_extension(INLINE_KEY, Some(encode(&entries).unwrap()));
        let layers: Vec<_> = entries.iter().map(|entry| entry.blob.descriptor.clone()).collect();
        let (found, damage) = decode(&config.to_json(), &layers);
        assert_eq!(damage, None);
        assert_eq!(found.len(), 2);
        for (found, entry) in found.iter().zip(&entries) {
            assert_eq!((&found.statement.keys, &found.blob), (&entry.keys, &entry.blob));
            assert_eq!(found.statement.record, entry.record);
        }
        // Other tools carry the member on, and read the rest as before.
        let again = ImageConfig::parse(&config.to_json()).unwrap();
        assert_eq!(decode(&again.to_json(), &layers).0.len(), 2);
        config.set_extension(INLINE_KEY, None);
        assert_eq!(decode(&config.to_json(), &layers), (Vec::new(), None));
    }

    #[test]
    fn what_is_wrong_is_left_out() {
        let entries = [entry("a"), entry("b")];
        let layers: Vec<_> = entries.iter().map(|entry| entry.blob.descriptor.clone()).collect();
        let diff_ids: Vec<_> = entries.iter().map(|entry| entry.blob.diff_id).collect();
        let records = encode(&entries).unwrap();
        let config = |records: Value, diff_ids: &[DiffId]| {
            json!({INLINE_KEY: records, "rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string()
        };
        for (records, diff_ids, good, want) in [
            (json!([records[0], 7]), &diff_ids[..], 1, "not valid"),
            (json!([{"keys": [], "record": records[0]["record"]}, records[1]]), &diff_ids, 1, "keys"),
            (json!("x"), &diff_ids, 0, "not valid"),
            (records.clone(), &diff_ids[..1], 0, "do not belong"),
            (json!([records[0], super::super::tests::statement("c")]), &diff_ids, 1, "not one of the image"),
            (json!(vec![records[0].clone(); 600]), &diff_ids, 0, "do not belong"),
        ] {
            let (found, damage) = decode(config(records, diff_ids).as_bytes(), &layers);
            assert_eq!(found.len(), good, "{want}");
            assert!(damage.unwrap().to_string().contains(want), "{want}");
        }
        assert!(decode(b"{", &layers).1.is_some());
    }
}
