//! Layers go to the registries as soon as they are whole, while the build goes on.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;

use super::push::push_blob;
use super::{OutputError, OutputSpec};
use crate::engine::{BuiltLayer, Published, Publisher};
use crate::image::{Reference, Repository};
use crate::progress::Progress;
use crate::registry::{Client, ErrorKind, RegistryError};
use crate::store::Store;

/// What sends layers ahead of the image; `None` where no output is a push.
///
/// Most failures are no news: the push itself sends the layer again, and reports. A refusal is: nothing that
/// the build does will change it.
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
    let (asking, asked) = (client.clone(), Arc::clone(&repositories));
    let ask = move || -> Published {
        let (client, repositories) = (asking.clone(), Arc::clone(&asked));
        Box::pin(async move {
            let asked = join_all(repositories.iter().map(|repository| client.may_push(repository))).await;
            refusal(asked.into_iter().filter_map(Result::err))
        })
    };
    let send = move |layer: BuiltLayer| -> Published {
        let (client, store, progress) = (client.clone(), Arc::clone(&store), progress.clone());
        let repositories = Arc::clone(&repositories);
        Box::pin(async move {
            let (descriptor, origin) = (&layer.blob.descriptor, layer.origin.as_ref());
            let sent = repositories
                .iter()
                .map(|repository| push_blob(&client, &store, repository, descriptor, origin, &progress));
            refusal(join_all(sent).await.into_iter().filter_map(|sent| match sent {
                Err(OutputError::Registry(error)) => Some(error),
                _ => None,
            }))
        })
    };
    Some(Publisher { ask: Arc::new(ask), send: Arc::new(send) })
}

/// The first refusal.
fn refusal(mut failures: impl Iterator<Item = RegistryError>) -> Result<(), RegistryError> {
    failures.find(|error| error.kind() == ErrorKind::Authentication).map_or(Ok(()), Err)
}
