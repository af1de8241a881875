//! Where a stage begins: the config of its base.

use std::sync::Arc;

use fanfold_platforms::Platform;

use super::planner::StageState;
use super::scope::Scope;
use super::{ResolvedImage, StepId};
use crate::image::ImageConfig;

/// PATH of images that set none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The config of a stage on nothing.
pub(super) fn scratch_config(platform: &Platform) -> ImageConfig {
    let mut config = ImageConfig::scratch(platform.clone());
    "/".clone_into(&mut config.config.working_dir);
    config.config.set_env("PATH", DEFAULT_PATH);
    config
}

/// A stage on an image: its environment is the stage's, its time of creation is not.
pub(super) fn begin(image: &Arc<ResolvedImage>, platform: Platform, tip: StepId) -> StageState {
    let mut config = image.config.clone();
    config.created = None;
    config.platform = platform.clone();
    if config.config.env_value("PATH").is_none() {
        config.config.set_env("PATH", DEFAULT_PATH);
    }
    let mut scope = Scope::default();
    for (name, value) in config.config.env.iter().filter_map(|entry| entry.split_once('=')) {
        scope.set(name, value);
    }
    StageState {
        platform,
        // An image without layers is a base like scratch.
        tip: (!image.layers.is_empty()).then_some(tip),
        config,
        history: Vec::new(),
        scope,
        base: Some(Arc::clone(image)),
    }
}
