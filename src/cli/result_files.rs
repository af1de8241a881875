//! `--metadata-file` and `--iidfile`.

use serde_json::{Map, Value, json};

use super::args::BuildArgs;
use crate::coordinator::Finished;
use crate::image::Reference;
use crate::output::{OutputError, iidfile, metadata, write_metadata};
use crate::progress::Execution;

/// Writes the files that were asked for.
pub(super) fn write(
    arguments: &BuildArgs,
    outcome: &Finished,
    names: &[Reference],
) -> Result<(), OutputError> {
    if let Some(path) = &arguments.metadata_file {
        let platforms: Map<String, Value> = outcome
            .platforms
            .iter()
            .zip(&outcome.built.images)
            .map(|(summary, image)| {
                let value = json!({
                    "digest": summary.digest,
                    "config": image.config_descriptor.digest,
                    "size": summary.size,
                    "layers": image.layers.len(),
                    "steps": summary.steps,
                    "cached": summary.cached,
                    "emulated": matches!(summary.execution, Execution::Emulated(_)),
                    "seconds": summary.duration.as_secs_f64(),
                });
                (summary.platform.to_string(), value)
            })
            .collect();
        write_metadata(path, &metadata(&outcome.built, names, platforms))?;
    }
    if let Some(path) = &arguments.iidfile {
        iidfile(path, &outcome.built)?;
    }
    Ok(())
}
