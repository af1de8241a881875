//! Where a stage begins: the config of its base.

use std::sync::Arc;

use fanfold_platforms::Platform;

use super::planner::StageState;
use super::scope::Scope;
use super::{ResolvedImage, StepId};
use crate::image::ImageConfig;

/// PATH of images that set none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage on nothing.
pub(super) fn on_nothing(platform: Platform) -> StageState {
    let mut config = ImageConfig::scratch(platform.clone());
    "/".clone_into(&mut config.config.working_dir);
    begin(platform, config, None, None)
}

/// A stage on an image, whose layers the step `base` takes.
pub(super) fn on_image(image: &Arc<ResolvedImage>, platform: Platform, base: StepId) -> StageState {
    let mut config = image.config.clone();
    config.created = None;
    config.platform = platform.clone();
    // An image without layers is a base like scratch.
    let tip = (!image.layers.is_empty()).then_some(base);
    begin(platform, config, tip, Some(Arc::clone(image)))
}

/// A stage before its first instruction: the base's environment is the stage's.
fn begin(
    platform: Platform,
    mut config: ImageConfig,
    tip: Option<StepId>,
    base: Option<Arc<ResolvedImage>>,
) -> StageState {
    if config.config.env_value("PATH").is_none() {
        config.config.set_env("PATH", DEFAULT_PATH);
    }
    let mut scope = Scope::default();
    scope.begin(&config.config.env);
    StageState { platform, begun: tip, tip, config, history: Vec::new(), scope, base, workdir_set: false }
}
