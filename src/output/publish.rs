//! Layers go to the registries as soon as they are whole, while the build goes on.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};

use super::OutputSpec;
use super::push::push_blob;
use crate::engine::BuiltLayer;
use crate::image::{Reference, Repository};
use crate::progress::Progress;
use crate::registry::Client;
use crate::store::Store;

/// Sends one layer to every repository that the image will be pushed to.
pub type Publisher = Arc<dyn Fn(BuiltLayer) -> BoxFuture<'static, ()> + Send + Sync>;

/// What sends layers ahead of the image; `None` where no output is a push.
///
/// A failure is no news: the push itself sends the layer again, and reports.
pub fn publisher(
    client: &Client,
    store: &Arc<Store>,
    progress: &Progress,
    specs: &[OutputSpec],
    names: &[Reference],
) -> Option<Publisher> {
    let mut repositories: BTreeSet<Repository> = BTreeSet::new();
    for spec in specs {
        let OutputSpec::Registry { names: own, .. } = spec else { continue };
        let names = if own.is_empty() { names } else { own };
        repositories.extend(names.iter().map(|name| name.repository().clone()));
    }
    if repositories.is_empty() {
        return None;
    }
    let (client, store, progress) = (client.clone(), Arc::clone(store), progress.clone());
    let repositories = Arc::new(repositories);
    Some(Arc::new(move |layer: BuiltLayer| {
        let (client, store, progress) = (client.clone(), Arc::clone(&store), progress.clone());
        let repositories = Arc::clone(&repositories);
        Box::pin(async move {
            let (descriptor, origin) = (&layer.blob.descriptor, layer.origin.as_ref());
            let sent = repositories
                .iter()
                .map(|repository| push_blob(&client, &store, repository, descriptor, origin, &progress));
            join_all(sent).await;
        })
    }))
}
