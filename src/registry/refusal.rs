//! Answers that are no success: what the registry says about it.

use reqwest::Response;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::error::{Cause, Failure};
use super::redact::{escape, mask};
use super::retry::Advice;
use super::transport::Transport;

/// How much of a refusal is read.
const LONGEST_REFUSAL: u64 = 64 * 1024;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    errors: Vec<RefusalEntry>,
    details: Option<String>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RefusalEntry {
    code: Option<String>,
    message: Option<String>,
}

/// Reads an answer that is not a success.
pub(super) async fn refusal(
    transport: &Transport,
    response: &mut Response,
    used: Option<&HeaderValue>,
) -> Failure {
    let status = response.status();
    let headers = response.headers().clone();
    // The status is what counts; a body that breaks off only explains less.
    let body = transport.body(response, LONGEST_REFUSAL).await.ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    let (code, message) = match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => match refusal.errors.into_iter().next() {
            Some(entry) => (entry.code.unwrap_or_default(), entry.message.unwrap_or_default()),
            None => (String::new(), refusal.details.or(refusal.message).unwrap_or_default()),
        },
        Err(_) if text.trim_start().starts_with(['<', '{']) => Default::default(),
        Err(_) => (String::new(), text.lines().next().unwrap_or_default().to_owned()),
    };
    let message = if code.is_empty() && message.trim().is_empty() {
        status.canonical_reason().unwrap_or_default().to_owned()
    } else {
        message
    };
    // A server may quote what it was sent.
    let secret = used.and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
    let shown =
        |text: &str| escape(&secret.map_or_else(|| text.to_owned(), |(_, secret)| mask(text, secret)));
    Failure {
        advice: Advice::for_status(status.as_u16(), &headers, &text),
        cause: Box::new(Cause::Status {
            status: status.as_u16(),
            code: shown(&code),
            message: shown(&message),
        }),
        earlier: Vec::new(),
    }
}
