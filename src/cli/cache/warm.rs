//! `fanfold cache warm`: base images, before a build asks for them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fanfold_platforms::Platform;
use serde_json::json;

use super::super::args::ProgressArg;
use super::super::build::{client, now, open_store, runtime};
use super::super::environment::Environment;
use super::super::errors::{Failure, Kind};
use super::super::options::platforms;
use super::super::process::exit_code;
use super::super::table::table;
use super::super::{report, signals, values};
use super::args::WarmArgs;
use crate::coordinator::{BuildError, Warm, Warmed};
use crate::engine::{Cancel, Engine, Settings};
use crate::image::{Compression, Reference};
use crate::progress::{Mode, Progress, human};
use crate::sandbox::{self, Entered, Sandbox};
use crate::secrets::Secrets;

/// Fetches images, and gives the exit code.
pub(super) fn run(arguments: &WarmArgs, environment: &Environment) -> Result<u8, Failure> {
    let images = arguments.images.iter().map(|text| image(text)).collect::<Result<Vec<_>, _>>()?;
    values::registries(&arguments.insecure_registry)?;
    let mut platforms = platforms(&arguments.platform)?;
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    let root = super::root(&arguments.store, environment)?;
    let entered = match arguments.isolation.chosen() {
        Ok(isolation) => {
            let path = environment.search_path();
            sandbox::enter(&sandbox::Config { path, isolation, scratch: root.clone() })
        }
        // Without commands no directories are needed.
        Err(_) => return fetch(arguments, environment, &root, None, &images, &platforms),
    };
    match entered {
        Ok(Entered::Outside(ended)) => exit_code(ended),
        Ok(Entered::Inside(sandbox)) => {
            fetch(arguments, environment, &root, Some(Arc::new(sandbox)), &images, &platforms)
        }
        // A build with commands says what is missing; one without them needs no more than this.
        Err(_) => fetch(arguments, environment, &root, None, &images, &platforms),
    }
}

fn image(text: &str) -> Result<Reference, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{text} names no image: {error}")))
}

fn fetch(
    arguments: &WarmArgs,
    environment: &Environment,
    root: &Path,
    sandbox: Option<Arc<Sandbox>>,
    images: &[Reference],
    platforms: &[Platform],
) -> Result<u8, Failure> {
    let store = Arc::new(open_store(root)?);
    let runtime = runtime()?;
    let warmed: Vec<Warmed> = runtime.block_on(async {
        let interrupted = signals::listen(None).map_err(|error| {
            Failure::new(Kind::Retryable, format!("failed to listen for signals: {error}"))
        })?;
        let progress = Progress::standard(mode(arguments), environment.progress());
        let client = client(&arguments.insecure_registry, environment, &progress)?;
        let cancel = Cancel::default();
        let settings = Settings {
            sandbox,
            workers: 1,
            epoch: None,
            compression: Compression::DEFAULT,
            force_compression: false,
            now: now(),
            cpu_models: Vec::new(),
            interpreters: Vec::new(),
            step_timeout: None,
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            secrets: Secrets::default(),
            ssh: BTreeMap::new(),
        };
        let engine = Engine::new(store, settings, cancel.clone())
            .map_err(|error| Failure::from(BuildError::from(error)))?;
        let warm = Warm { engine: Arc::new(engine), client, progress: progress.clone(), cancel };
        let warmed = warm.run(images, platforms, interrupted).await;
        progress.finish();
        warmed.map_err(Failure::from)
    })?;
    let text = if arguments.store.json { as_json(&warmed) } else { as_text(&warmed) };
    report::result(text.trim_end())?;
    Ok(0)
}

/// Results are printed as text or JSON of their own, so that progress has standard error to itself.
fn mode(arguments: &WarmArgs) -> Mode {
    match arguments.progress {
        ProgressArg::Auto => Mode::Auto,
        ProgressArg::Tty => Mode::Tty,
        ProgressArg::Plain => Mode::Plain,
        ProgressArg::Json | ProgressArg::Rawjson | ProgressArg::Quiet | ProgressArg::None => Mode::Quiet,
    }
}

fn as_text(warmed: &[Warmed]) -> String {
    let head = ["IMAGE", "PLATFORM", "LAYERS", "SIZE", ""].map(str::to_owned).to_vec();
    let rows = warmed.iter().map(|image| {
        vec![
            image.name.clone(),
            image.platform.to_string(),
            image.layers.to_string(),
            human::bytes(image.bytes),
            if image.was_here { "was here" } else { "fetched" }.to_owned(),
        ]
    });
    table(&[head].into_iter().chain(rows).collect::<Vec<_>>())
}

fn as_json(warmed: &[Warmed]) -> String {
    let images = warmed.iter().map(|image| {
        json!({
            "image": image.name,
            "platform": image.platform.to_string(),
            "manifest": image.manifest.to_string(),
            "layers": image.layers,
            "size": image.bytes,
            "was_here": image.was_here,
        })
    });
    json!({ "images": images.collect::<Vec<_>>() }).to_string()
}
