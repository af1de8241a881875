//! The client against a scripted registry and web server.

mod access;
mod copies;
mod follow;
mod pull;
mod push;
mod records;
mod uploads;
mod web;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::image::{Descriptor, Reference, Repository};

use super::fake::{Access, Fake};
use super::{Client, Config, CredentialFiles, RetryPolicy, Timeouts};

/// A registry with a client for it.
struct Bench {
    fake: Fake,
    client: Client,
    notices: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    async fn new(access: Access) -> Self {
        Self::with(access, |_, _| {}).await
    }

    async fn with(access: Access, change: impl FnOnce(&mut Config, &Fake)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let fake = Fake::start(access).await;
        let notices = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&notices);
        let milliseconds = Duration::from_millis;
        let mut config = Config {
            retry: RetryPolicy { base: milliseconds(4), cap: milliseconds(40), ..RetryPolicy::default() },
            timeouts: Timeouts {
                connect: milliseconds(500),
                idle: milliseconds(300),
                answer: milliseconds(600),
                helper: Duration::from_secs(5),
            },
            on_retry: Some(Arc::new(move |notice| {
                told.lock().unwrap().push(notice.reason.clone());
            })),
            ..Config::default()
        };
        change(&mut config, &fake);
        let client = Client::new(config).unwrap();
        Self { fake, client, notices }
    }

    /// Logged in as the user who may push.
    async fn logged_in(access: Access) -> Self {
        Self::with(access, |config, fake| {
            config.credentials = login(&fake.address.to_string());
        })
        .await
    }

    fn repository(&self, path: &str) -> Repository {
        self.reference(path).repository().clone()
    }

    fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.fake.address).parse().unwrap()
    }

    fn retries(&self) -> usize {
        self.notices.lock().unwrap().len()
    }
}

/// A credential file for the user that the fake registry knows.
fn login(registry: &str) -> CredentialFiles {
    let text = format!(r#"{{"auths":{{"{registry}":{{"username":"user","password":"pass:word"}}}}}}"#);
    CredentialFiles { docker_auth_config: Some(text), ..CredentialFiles::default() }
}

/// Bytes that are the same for equal lengths, and look like nothing.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::of("application/octet-stream", bytes)
}
