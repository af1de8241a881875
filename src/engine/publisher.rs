//! [`Publisher`]: takes layers away while the build goes on.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::BuiltLayer;
use crate::registry::RegistryError;

/// What comes of publishing: an error only where credentials are missing or do not suffice.
pub type Published = BoxFuture<'static, Result<(), RegistryError>>;

/// Publishes layers in every repository that the image will be pushed to, ahead of the image.
#[derive(Clone)]
pub struct Publisher {
    /// Asks whether the repositories can be pushed to.
    pub ask: Arc<dyn Fn() -> Published + Send + Sync>,
    /// Sends one layer. What it cannot hand on is handed on with the image.
    pub send: Arc<dyn Fn(BuiltLayer) -> Published + Send + Sync>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publisher")
    }
}
