//! A record as an image manifest.
//!
//! The record itself is an annotation, and the config the empty one: a look-up is one request, and there is
//! one config for all records rather than a blob to push for each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::statement::{Damage, Decoded, Statement};
use super::{CacheError, Entry};
use crate::image::media_type::{OCI_MANIFEST, layer_encoding};
use crate::image::{Descriptor, DiffId, Digest, RawManifest};
use crate::store::BlobRecord;

/// What the manifests are, and in which version: another one is not read.
pub(super) const ARTIFACT_TYPE: &str = "application/vnd.fanfold.cache.record.v1";
/// Largest record, in bytes.
pub(super) const LIMIT: u64 = 64 << 10;
/// The config of all records.
pub(super) const EMPTY: &[u8] = b"{}";

const ANNOTATION: &str = "dev.fanfold.cache.record";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// No registry has larger layers, in bytes.
const LARGEST_LAYER: u64 = 1 << 40;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
}

/// Members of which one alone tells whether it is a record.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    artifact_type: Option<String>,
}

/// The descriptor of the config of all records.
pub(super) fn empty_config() -> Descriptor {
    Descriptor::of(EMPTY_TYPE, EMPTY)
}

/// Writes a record.
pub(super) fn encode(entry: &Entry) -> Result<RawManifest, CacheError> {
    let statement = Statement::of(entry)?;
    let text = serde_json::to_string(&statement).expect("records hold only text keys");
    let blob = &entry.blob.descriptor;
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        artifact_type: ARTIFACT_TYPE.to_owned(),
        config: empty_config(),
        layers: vec![Descriptor::new(&blob.media_type, blob.digest, blob.size)],
        annotations: BTreeMap::from([(ANNOTATION.to_owned(), text)]),
    };
    let bytes = serde_json::to_vec(&manifest).expect("manifests hold only text keys");
    let raw = RawManifest { media_type: OCI_MANIFEST.to_owned(), bytes };
    // Whatever no reader would take is not written either.
    decode(&raw, None).map_err(|damage| CacheError::Unwritable {
        step: statement.record.text,
        reason: damage.to_string(),
    })?;
    Ok(raw)
}

/// Reads a record that was found by the key `asked`.
pub(super) fn decode(raw: &RawManifest, asked: Option<&Digest>) -> Result<Decoded, Damage> {
    if raw.bytes.len() as u64 > LIMIT {
        return Err(Damage::new(format!("it has {} bytes, more than {LIMIT}", raw.bytes.len())));
    }
    let kind: Kind = serde_json::from_slice(&raw.bytes).map_err(|error| Damage::json(&error))?;
    if raw.media_type != OCI_MANIFEST || kind.artifact_type.as_deref() != Some(ARTIFACT_TYPE) {
        return Err(Damage::new("it is not a record that this version writes"));
    }
    let manifest: Manifest = serde_json::from_slice(&raw.bytes).map_err(|error| Damage::json(&error))?;
    if manifest.media_type != OCI_MANIFEST {
        return Err(Damage::new("it contradicts its media type"));
    }
    let text = manifest.annotations.get(ANNOTATION);
    let text = text.ok_or_else(|| Damage::new("it does not say what it is the record of"))?;
    let statement: Statement = serde_json::from_str(text).map_err(|error| Damage::json(&error))?;
    statement.check(asked)?;
    let [layer] = manifest.layers.as_slice() else {
        return Err(Damage::new(format!("it has {} layers rather than one", manifest.layers.len())));
    };
    let blob = blob(layer, DiffId(*statement.record.layer.digest()))?;
    Ok(Decoded { statement, blob })
}

/// The blob of a layer that a manifest names.
pub(super) fn blob(layer: &Descriptor, diff_id: DiffId) -> Result<BlobRecord, Damage> {
    if layer_encoding(&layer.media_type).is_none() {
        return Err(Damage::new("its layer has no media type of layers"));
    }
    if !layer.urls.is_empty() {
        return Err(Damage::new("its layer is said to be elsewhere"));
    }
    if layer.size == 0 || layer.size > LARGEST_LAYER {
        return Err(Damage::new(format!("its layer is said to have {} bytes", layer.size)));
    }
    Ok(BlobRecord { diff_id, descriptor: Descriptor::new(&layer.media_type, layer.digest, layer.size) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::entry;
    use super::*;
    use crate::image::media_type::OCI_INDEX;

    #[test]
    fn the_bytes_of_a_record_do_not_change() {
        let raw = encode(&entry("x")).unwrap();
        let text = String::from_utf8(raw.bytes.clone()).unwrap();
        let start = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.fanfold.cache.record.v1","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:"#;
        assert!(text.starts_with(start), "{text}");
        assert!(
            text.contains(r#""annotations":{"dev.fanfold.cache.record":"{\"keys\":[\"sha256:"#),
            "{text}"
        );
        assert_eq!(encode(&entry("x")).unwrap(), raw);
    }

    #[test]
    fn records_come_back() {
        let entry = entry("x");
        let raw = encode(&entry).unwrap();
        for key in &entry.keys {
            let decoded = decode(&raw, Some(key)).unwrap();
            assert_eq!(decoded.statement.keys, entry.keys);
            assert_eq!(decoded.statement.record, entry.record);
            assert_eq!(decoded.blob, entry.blob);
            assert!(decoded.is_of(&entry));
        }
    }

    /// Changes one place of a good manifest, and of the statement in it.
    fn changed(manifest: impl Fn(&mut Value), statement: impl Fn(&mut Value)) -> RawManifest {
        let raw = encode(&entry("x")).unwrap();
        let mut value: Value = serde_json::from_slice(&raw.bytes).unwrap();
        let text = value["annotations"][ANNOTATION].as_str().unwrap().to_owned();
        let mut inner: Value = serde_json::from_str(&text).unwrap();
        statement(&mut inner);
        value["annotations"][ANNOTATION] = json!(inner.to_string());
        manifest(&mut value);
        RawManifest { media_type: raw.media_type, bytes: serde_json::to_vec(&value).unwrap() }
    }

    #[test]
    fn everything_else_is_damage() {
        type Change = fn(&mut Value);
        let manifests: [(Change, &str); 13] = [
            (|v| v["artifactType"] = json!("application/vnd.fanfold.cache.record.v2"), "not a record"),
            (|v| drop(v.as_object_mut().unwrap().remove("artifactType")), "not a record"),
            (|v| v["mediaType"] = json!(OCI_INDEX), "contradicts"),
            (|v| v["layers"] = json!([]), "0 layers"),
            (|v| v["layers"] = json!([v["layers"][0], v["layers"][0]]), "2 layers"),
            (|v| v["layers"][0]["mediaType"] = json!("text/html"), "media type of layers"),
            (|v| v["layers"][0]["size"] = json!(0), "0 bytes"),
            (|v| v["layers"][0]["size"] = json!(u64::MAX), "18446744073709551615 bytes"),
            (|v| v["layers"][0]["size"] = json!(-1), "not valid"),
            (|v| v["layers"][0]["digest"] = json!("sha512:00"), "not valid"),
            (|v| v["layers"][0]["urls"] = json!(["http://x/"]), "elsewhere"),
            (|v| v["annotations"] = json!({}), "does not say"),
            (|v| v["annotations"]["x"] = json!("x".repeat(70_000)), "more than 65536"),
        ];
        for (change, want) in manifests {
            let damage = decode(&changed(change, |_| ()), None).unwrap_err().to_string();
            assert!(damage.contains(want), "{damage}: {want}");
        }
        let statements: [(Change, &str); 12] = [
            (|v| v["record"]["created"] = json!(-1), "date"),
            (|v| v["record"]["created"] = json!(i64::MAX), "date"),
            (|v| v["record"]["notes"] = json!(["a\u{1b}[2Jb"]), "cannot be shown"),
            (|v| v["record"]["notes"] = json!(["a\nb"]), "cannot be shown"),
            (|v| v["record"]["notes"] = json!(["n".repeat(500)]), "cannot be shown"),
            (|v| v["record"]["notes"] = json!(vec!["n"; 25]), "25 notes"),
            (|v| v["record"]["text"] = json!("\u{202e}"), "cannot be shown"),
            (|v| v["record"]["platform"] = json!("\u{7}"), "cannot be shown"),
            (|v| v["keys"] = json!([]), "keys"),
            (|v| v["keys"] = json!(vec![v["keys"][1].clone(); 9]), "keys"),
            (|v| v["keys"] = json!([v["keys"][0]]), "keys"),
            (|v| v["record"]["layer"] = json!("sha256:\u{1b}"), "not valid"),
        ];
        for (change, want) in statements {
            let damage = decode(&changed(|_| (), change), None).unwrap_err().to_string();
            assert!(damage.contains(want) && !damage.contains('\u{1b}'), "{damage}: {want}");
        }
    }

    #[test]
    fn foreign_and_truncated_documents_are_damage() {
        let raw = encode(&entry("x")).unwrap();
        let other = Digest::of(b"another key");
        assert!(decode(&raw, Some(&other)).unwrap_err().to_string().contains("another key"));
        for length in [0, 1, 20, raw.bytes.len() / 2, raw.bytes.len() - 1] {
            let cut = RawManifest { bytes: raw.bytes[..length].to_vec(), ..raw.clone() };
            assert!(decode(&cut, None).is_err(), "{length}");
        }
        let served = RawManifest { media_type: OCI_INDEX.to_owned(), ..raw.clone() };
        assert!(decode(&served, None).is_err());
        for text in ["[]", "null", "{}", "<html>", "{\"artifactType\":1}"] {
            let foreign = RawManifest { bytes: text.into(), ..raw.clone() };
            assert!(decode(&foreign, None).is_err(), "{text}");
        }
    }
}
