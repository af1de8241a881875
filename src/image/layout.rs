//! The documents at the top of an OCI layout.
//!
//! Source: OCI image-spec 1.1, `image-layout.md`, sections "oci-layout file" and "index.json file".

use serde_json::{Map, Value, json};

use super::Descriptor;
use super::media_type::OCI_INDEX;

/// The file `oci-layout`.
pub const LAYOUT_MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The annotation of an entry of `index.json` that names it within the layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation of an entry that names it in full; containerd's.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The file `index.json` with `new` entries, in the place of those of the `old` file that are replaced. All
/// else that the old file says stays.
///
/// # Errors
///
/// Says why the old file is no such document.
pub fn layout_index(
    old: Option<&[u8]>,
    new: &[Descriptor],
    is_replaced: impl Fn(&Value) -> bool,
) -> Result<Vec<u8>, String> {
    let mut document: Map<String, Value> = match old {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|error| error.to_string())?,
        None => Map::new(),
    };
    let mut manifests = match document.remove("manifests") {
        None => Vec::new(),
        Some(Value::Array(manifests)) => manifests,
        Some(_) => return Err("`manifests` is no list".to_owned()),
    };
    manifests.retain(|entry| !is_replaced(entry));
    manifests.extend(new.iter().map(|descriptor| json!(descriptor)));
    let mut index = Map::new();
    index.insert("schemaVersion".to_owned(), json!(2));
    index.insert("mediaType".to_owned(), json!(OCI_INDEX));
    index.insert("manifests".to_owned(), Value::Array(manifests));
    for (key, value) in document {
        index.entry(key).or_insert(value);
    }
    Ok(serde_json::to_vec(&index).expect("JSON values can be written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_replaced_stays() {
        let (one, two) = (Descriptor::of("x/y", b"one"), Descriptor::of("x/y", b"two"));
        let first = layout_index(None, std::slice::from_ref(&one), |_| true).unwrap();
        let mut old: Map<String, Value> = serde_json::from_slice(&first).unwrap();
        old.insert("annotations".to_owned(), json!({"a": "b"}));
        old["schemaVersion"] = json!(1);
        let old = serde_json::to_vec(&old).unwrap();
        let digests = |replaced: &str| -> (Value, Vec<Value>) {
            let is_replaced = |entry: &Value| entry["digest"] == replaced;
            let index = layout_index(Some(&old), std::slice::from_ref(&two), is_replaced).unwrap();
            let index: Value = serde_json::from_slice(&index).unwrap();
            let entries = index["manifests"].as_array().unwrap();
            let digests = entries.iter().map(|entry| entry["digest"].clone()).collect();
            (json!([index["annotations"], index["schemaVersion"]]), digests)
        };
        let (first, second) = (json!(one.digest), json!(two.digest));
        let kept = json!([{"a": "b"}, 2]);
        assert_eq!(digests("none"), (kept.clone(), vec![first, second.clone()]));
        assert_eq!(digests(&one.digest.to_string()), (kept, vec![second]));
    }

    #[test]
    fn other_documents_are_not_overwritten() {
        for old in ["", "[]", "{", r#"{"manifests": {}}"#, r#"{"manifests": null}"#] {
            assert!(layout_index(Some(old.as_bytes()), &[], |_| true).is_err(), "{old}");
        }
    }
}
