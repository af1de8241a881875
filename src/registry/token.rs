//! Tokens from a token server.
//!
//! Sources: distribution's `spec/auth/token` and `spec/auth/oauth` documents.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, Request, Response, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::credentials::{Credential, Login};
use super::endpoint::{locate, same_origin};
use super::error::{Cause, Failure};
use super::redact::Secret;
use super::refusal::refusal;
use super::retry::Advice;
use super::transport::Transport;

/// Lifetime of a token whose answer tells none.
const DEFAULT_LIFETIME: u64 = 60;
/// More than this is not a token.
const LONGEST_ANSWER: u64 = 1024 * 1024;
/// Redirects that are followed.
const REDIRECTS: usize = 3;

/// An access token.
#[derive(Debug)]
pub(super) struct Token {
    /// The token itself.
    pub(super) secret: Secret,
    /// When it is to be replaced: at 80 % of its lifetime.
    pub(super) renew_at: Instant,
    /// A refresh token that came with it.
    pub(super) refresh: Option<Secret>,
}

/// What is asked for, and of whom.
#[derive(Debug)]
pub(super) struct TokenRequest<'a> {
    /// The token server.
    pub(super) realm: &'a Url,
    /// Its name for the registry.
    pub(super) service: Option<&'a str>,
    /// Scopes, e.g. `repository:a/b:pull`.
    pub(super) scopes: &'a BTreeSet<String>,
    /// Who asks; `None` for anybody.
    pub(super) credential: Option<&'a Credential>,
    /// Replaces the credential's refresh token where an earlier answer brought a newer one.
    pub(super) refresh: Option<&'a Secret>,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
    refresh_token: Option<String>,
}

/// `Authorization: Basic …`.
pub(super) fn basic(user: &str, password: &Secret) -> HeaderValue {
    let pair = Secret::new(format!("{user}:{}", password.expose()));
    sensitive(&format!("Basic {}", STANDARD.encode(pair.expose()))).expect("base64 is header text")
}

/// A header value that is never printed.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The address of the token server.
///
/// # Errors
///
/// Fails for a realm that is no HTTP URL, that holds credentials, or that would take the credentials
/// of an HTTPS registry over plain HTTP.
pub(super) fn realm(base: &Url, text: &str) -> Result<Url, Failure> {
    let url =
        base.join(text).map_err(|_| Failure::protocol("the registry names an unusable token server"))?;
    match (base.scheme(), url.scheme()) {
        _ if !url.username().is_empty() || url.password().is_some() => {
            Err(Failure::protocol("the registry names a token server with credentials in its address"))
        }
        (_, "https") | ("http", "http") => Ok(url),
        _ => Err(Failure::protocol("the registry names a token server that is not HTTPS")),
    }
}

/// Fetches a token.
///
/// # Errors
///
/// Fails when the server refuses, cannot be reached, or answers something else than a token.
pub(super) async fn fetch(transport: &Transport, wanted: &TokenRequest<'_>) -> Result<Token, Failure> {
    if let Some(Login::Identity(user, token)) = wanted.credential.map(|credential| &credential.login) {
        let token = wanted.refresh.unwrap_or(token);
        let mut response = transport.execute(post(wanted, token)?, transport.timeouts().idle).await?;
        if !matches!(response.status().as_u16(), 404 | 405) {
            return read(transport, &mut response).await;
        }
        let user = if user.is_empty() { "<token>" } else { user };
        return get(transport, wanted, Some(basic(user, token))).await;
    }
    let authorization = match wanted.credential.map(|credential| &credential.login) {
        Some(Login::Password(user, password)) => Some(basic(user, password)),
        _ => None,
    };
    get(transport, wanted, authorization).await
}

fn post(wanted: &TokenRequest<'_>, token: &Secret) -> Result<Request, Failure> {
    let mut form = wanted.realm.clone();
    form.set_query(None);
    let scopes = wanted.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let mut pairs = form.query_pairs_mut();
    pairs.append_pair("grant_type", "refresh_token").append_pair("client_id", "fanfold");
    pairs.append_pair("service", wanted.service.unwrap_or_default()).append_pair("scope", &scopes);
    pairs.append_pair("refresh_token", token.expose());
    drop(pairs);
    let body = form.query().unwrap_or_default().to_owned();
    let mut request = Request::new(Method::POST, wanted.realm.clone());
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    *request.body_mut() = Some(body.into());
    Ok(request)
}

async fn get(
    transport: &Transport,
    wanted: &TokenRequest<'_>,
    authorization: Option<HeaderValue>,
) -> Result<Token, Failure> {
    let mut url = wanted.realm.clone();
    {
        let mut pairs = url.query_pairs_mut();
        pairs.extend_pairs(wanted.service.map(|service| ("service", service)));
        pairs.extend_pairs(wanted.scopes.iter().map(|scope| ("scope", scope)));
    }
    for _ in 0..=REDIRECTS {
        let mut request = Request::new(Method::GET, url.clone());
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(value) = authorization.clone().filter(|_| same_origin(wanted.realm, &url)) {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let mut response = transport.execute(request, transport.timeouts().idle).await?;
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        match location.filter(|_| response.status().is_redirection()) {
            Some(location) => url = locate(transport, wanted.realm, &url, location)?,
            None => return read(transport, &mut response).await,
        }
    }
    Err(Failure::protocol("the token server redirects without end"))
}

async fn read(transport: &Transport, response: &mut Response) -> Result<Token, Failure> {
    if !response.status().is_success() {
        let mut failure = refusal(transport, response, None).await;
        if let Cause::Status { status, message, .. } = &mut *failure.cause {
            // A token server says 400 as well to credentials that it does not like.
            if *status == 400 {
                *status = 401;
            }
            // From a registry a 404 and the like would mean something else.
            if !matches!(*status, 401 | 403 | 429) && failure.advice == Advice::Never {
                let text = format!("the token server answered with HTTP {status}: {message}");
                return Err(Failure::protocol(text));
            }
            *message = format!("the token server refused: {message}");
        }
        return Err(failure);
    }
    let junk = || Failure::protocol("the token server answered with something else than a token");
    let body = transport.body(response, LONGEST_ANSWER).await?.ok_or_else(junk)?;
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| junk())?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    let token = token.filter(|token| !token.is_empty()).ok_or_else(junk)?;
    let lifetime = answer.expires_in.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
    let lifetime = lifetime.map_or(Duration::from_secs(DEFAULT_LIFETIME), |seconds| {
        Duration::from_secs_f64(seconds.min(86_400.0))
    });
    Ok(Token {
        secret: Secret::new(token),
        renew_at: Instant::now() + lifetime.mul_f64(0.8),
        refresh: answer.refresh_token.filter(|token| !token.is_empty()).map(Secret::new),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realms() {
        let secure: Url = "https://r.io/".parse().unwrap();
        let plain: Url = "http://localhost:5000/".parse().unwrap();
        assert!(realm(&secure, "https://auth.io/token?x=y").is_ok());
        assert!(realm(&secure, "/token").is_ok());
        assert!(realm(&plain, "http://localhost:5001/token").is_ok());
        for text in
            ["http://auth.io/token", "http://r.io/token", "ftp://r.io/", "https://u:p@r.io/", "https://"]
        {
            assert!(realm(&secure, text).is_err(), "{text}");
        }
    }
}
