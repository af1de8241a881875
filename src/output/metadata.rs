//! Result files: `--metadata-file` and `--iidfile`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::OutputError;
use super::file::write_whole;
use crate::engine::Built;
use crate::image::Reference;

/// The metadata document, with buildx's keys and `fanfold.platforms` beside them.
pub fn metadata(built: &Built, names: &[Reference], platforms: Map<String, Value>) -> Value {
    let descriptor = built.descriptor();
    let mut document = Map::new();
    if built.index.is_none() {
        let config = &built.images[0].config_descriptor;
        document.insert("containerimage.config.digest".to_owned(), json!(config.digest));
    }
    document.insert("containerimage.descriptor".to_owned(), json!(descriptor));
    document.insert("containerimage.digest".to_owned(), json!(descriptor.digest));
    document.insert("fanfold.platforms".to_owned(), Value::Object(platforms));
    document.insert("fanfold.version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    if !names.is_empty() {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        document.insert("image.name".to_owned(), json!(names.join(",")));
    }
    Value::Object(document)
}

/// Writes a JSON document for people and programs.
///
/// # Errors
///
/// Fails where the file cannot be written.
pub fn write_metadata(path: &Path, document: &Value) -> Result<(), OutputError> {
    let mut text = serde_json::to_string_pretty(document).expect("JSON values can be written");
    text.push('\n');
    write_whole(path, text.as_bytes())
}

/// Writes the result's digest: the config's digest of a single image (its image id, as buildx
/// does), the index's digest of several.
///
/// # Errors
///
/// Fails where the file cannot be written.
pub fn iidfile(path: &Path, built: &Built) -> Result<(), OutputError> {
    let digest = match &built.index {
        Some(index) => index.digest(),
        None => built.images[0].config_descriptor.digest,
    };
    write_whole(path, digest.to_string().as_bytes())
}
