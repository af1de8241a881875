//! Authorization of requests to one registry: which challenge, which login, which token.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::credentials::{Credential, CredentialStore, Login};
use super::error::Failure;
use super::redact::Secret;
use super::token::{self, Token, TokenRequest, basic, sensitive};
use super::transport::Transport;

/// What is known of a registry's ideas about us. One task at a time changes it, so that parallel
/// requests ask for one token, not for many.
#[derive(Debug)]
pub(super) struct Authenticator {
    registry: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    challenge: Option<Challenge>,
    logins: HashMap<String, Option<Arc<Credential>>>,
    tokens: HashMap<TokenKey, Token>,
    refresh: HashMap<String, Secret>,
}

/// Tokens are kept apart by all that decides what they are good for; the host is the authenticator's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    realm: String,
    service: Option<String>,
    scopes: BTreeSet<String>,
    identity: String,
}

/// What an authorization is for.
#[derive(Debug)]
pub(super) struct Purpose<'a> {
    /// Builds the requests to token servers.
    pub(super) transport: &'a Transport,
    /// Where logins come from.
    pub(super) store: &'a CredentialStore,
    /// The registry's base URL.
    pub(super) base: &'a Url,
    /// The repository's path, which may have a login of its own.
    pub(super) path: &'a str,
}

impl Authenticator {
    /// Knows nothing yet.
    pub(super) fn new(registry: &str) -> Self {
        Self { registry: registry.to_owned(), state: Mutex::default() }
    }

    /// Notes a challenge that came before any request of ours.
    pub(super) async fn learn(&self, challenge: Challenge) {
        self.state.lock().await.challenge.get_or_insert(challenge);
    }

    /// The `Authorization` for `scopes`; `None` while no challenge is known or nobody is logged in.
    pub(super) async fn header(
        &self,
        purpose: &Purpose<'_>,
        scopes: &BTreeSet<String>,
    ) -> Result<Option<HeaderValue>, Failure> {
        let mut state = self.state.lock().await;
        let Some(challenge) = state.challenge.clone() else {
            return Ok(None);
        };
        let (mut login, fresh) = state.login(&self.registry, purpose).await?;
        let Challenge::Bearer { realm, service, .. } = challenge else {
            return Ok(match login.as_deref().map(|credential| &credential.login) {
                Some(Login::Password(user, password) | Login::Identity(user, password)) => {
                    Some(basic(user, password))
                }
                _ => None,
            });
        };
        if let Some(Login::Bearer(token)) = login.as_deref().map(|credential| &credential.login) {
            return bearer(token).map(Some);
        }
        let realm = token::realm(purpose.base, &realm)?;
        let mut key = TokenKey {
            realm: realm.to_string(),
            service,
            scopes: scopes.clone(),
            identity: login.as_ref().map(|credential| credential.identity.clone()).unwrap_or_default(),
        };
        if let Some(token) = state.tokens.get(&key).filter(|token| token.renew_at > Instant::now()) {
            return bearer(&token.secret).map(Some);
        }
        let mut fetched = state.fetch(purpose.transport, &realm, &key, login.as_deref()).await;
        // A helper's password may have run out since it was asked.
        if fetched.as_ref().is_err_and(Failure::is_authentication)
            && !fresh
            && login.as_ref().is_some_and(|login| login.from_helper)
        {
            state.logins.remove(purpose.path);
            login = state.login(&self.registry, purpose).await?.0;
            key.identity = login.as_ref().map(|credential| credential.identity.clone()).unwrap_or_default();
            fetched = state.fetch(purpose.transport, &realm, &key, login.as_deref()).await;
        }
        let token = fetched?;
        let header = bearer(&token.secret)?;
        state.tokens.insert(key, token);
        Ok(Some(header))
    }

    /// Notes that a request with `used` was answered with 401 and `challenge`; widens `scopes` where
    /// the registry asks for it. Returns whether another authorization can be had.
    pub(super) async fn refused(
        &self,
        path: &str,
        challenge: Option<Challenge>,
        used: Option<&HeaderValue>,
        scopes: &mut BTreeSet<String>,
    ) -> bool {
        let Some(challenge) = challenge else {
            return false;
        };
        let mut state = self.state.lock().await;
        if let Challenge::Bearer { scope: Some(scope), error, .. } = &challenge
            && error.as_deref() == Some("insufficient_scope")
        {
            scopes.extend(scope.split_whitespace().map(str::to_owned));
        }
        let basic = challenge == Challenge::Basic;
        state.challenge = Some(challenge);
        let Some(used) = used.and_then(|value| value.to_str().ok()) else {
            return true;
        };
        // Only the token that was refused: another request may have replaced it already.
        state.tokens.retain(|_, token| used.strip_prefix("Bearer ") != Some(token.secret.expose()));
        let login = state.logins.get(path).cloned().flatten();
        if login.as_ref().is_some_and(|login| login.from_helper) {
            state.logins.remove(path);
            return true;
        }
        !basic && !login.is_some_and(|login| matches!(login.login, Login::Bearer(_)))
    }
}

impl State {
    /// The login for a repository, and whether it was looked up just now.
    async fn login(
        &mut self,
        registry: &str,
        purpose: &Purpose<'_>,
    ) -> Result<(Option<Arc<Credential>>, bool), Failure> {
        if let Some(known) = self.logins.get(purpose.path) {
            return Ok((known.clone(), false));
        }
        let found = purpose.store.find(registry, purpose.path).await?.map(Arc::new);
        self.logins.insert(purpose.path.to_owned(), found.clone());
        Ok((found, true))
    }

    async fn fetch(
        &mut self,
        transport: &Transport,
        realm: &Url,
        key: &TokenKey,
        credential: Option<&Credential>,
    ) -> Result<Token, Failure> {
        let wanted = TokenRequest {
            realm,
            service: key.service.as_deref(),
            scopes: &key.scopes,
            credential,
            refresh: self.refresh.get(&key.identity),
        };
        let mut token = token::fetch(transport, &wanted).await?;
        if let Some(refresh) = token.refresh.take() {
            self.refresh.insert(key.identity.clone(), refresh);
        }
        Ok(token)
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, Failure> {
    sensitive(&format!("Bearer {}", token.expose()))
        .ok_or_else(|| Failure::protocol("the token holds characters that no header can carry"))
}
