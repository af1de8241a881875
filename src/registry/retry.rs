//! When to try again: backoff, `Retry-After`, budgets.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use tokio::time::Instant;

use super::date::http_date;
use super::error::{Failure, Operation, RegistryError, come_back};
use super::exchange::{Answer, Call};
use super::session::{Server, Session};

/// Longest wait that a server can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Tries, as a multiple of what the policy says, at a host that answers others meanwhile.
const PATIENCE: u32 = 4;
/// Retries that a host gets beyond half of the requests sent to it.
const SPARE_RETRIES: u64 = 20;

/// How often and how long a failed request is tried again.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Tries per request, the first included. Those do not count between which the host answered other
    /// requests: then it is not down but unreliable.
    pub tries: u32,
    /// Upper bound of the first wait; doubles with each try.
    pub base: Duration,
    /// Upper bound of any wait that the server did not ask for.
    pub cap: Duration,
    /// Time from the first failure of a request after which it is not tried again.
    pub budget: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 5,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(30),
            budget: Duration::from_secs(300),
        }
    }
}

/// A request that failed and is about to be sent again.
#[derive(Debug, Clone)]
pub struct RetryNotice {
    /// Host and port of the server.
    pub host: String,
    /// What is being done, e.g. `push blob sha256:…`.
    pub operation: String,
    /// Why the last try failed.
    pub reason: String,
    /// Time until the next try.
    pub wait: Duration,
    /// Number of the try that failed, from 1, of those that count.
    pub attempt: u32,
    /// Tries there are.
    pub of: u32,
}

/// Whether and when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    /// The next answer would be the same.
    Never,
    /// After a wait of our choice.
    Backoff,
    /// Too many requests, and no word on how long to wait.
    Throttled,
    /// After the wait that the server asks for.
    After(Duration),
}

impl Advice {
    /// Advice for an answer with `status`; `body` may hold a wait that the headers lack.
    pub(super) fn for_status(status: u16, headers: &HeaderMap, body: &str) -> Self {
        if !matches!(status, 408 | 429 | 500 | 502..=504) {
            return Self::Never;
        }
        match retry_after(headers).or_else(|| wait_in_text(body)) {
            Some(wait) => Self::After(wait),
            None if status == 429 => Self::Throttled,
            None => Self::Backoff,
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    parse_wait(text).or_else(|| {
        let then = http_date(text)?;
        // The server's own clock, where it tells it, so that skew between the two does not matter.
        let now = headers.get(DATE).and_then(|value| value.to_str().ok()).and_then(http_date);
        let now = now.unwrap_or_else(|| jiff::Timestamp::now().as_second());
        Some(Duration::from_secs(then.saturating_sub(now).try_into().unwrap_or(0)))
    })
}

/// Reads `retry-after: 12.5ms` out of an error message.
fn wait_in_text(body: &str) -> Option<Duration> {
    let lower = body.to_ascii_lowercase();
    let rest = &lower[lower.find("retry-after")? + "retry-after".len()..];
    let rest = rest.trim_start_matches([':', '=', ' ', '"']);
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
    parse_wait(&rest[..end])
}

/// Seconds, whole or fractional, with an optional unit.
fn parse_wait(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let seconds = match text[end..].trim() {
        "" | "s" => number,
        "ms" => number / 1000.0,
        "m" => number * 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// Wait before try `next` (from 1 for the first retry), with full jitter.
fn backoff(policy: &RetryPolicy, next: u32, advice: Advice) -> Duration {
    let bound = policy.base.saturating_mul(1 << next.saturating_sub(1).min(16)).min(policy.cap);
    match advice {
        Advice::After(wait) => wait.min(LONGEST_WAIT) + jitter(policy.base / 4),
        // At once would only add to what is already too much.
        Advice::Throttled => bound + jitter(bound),
        Advice::Backoff | Advice::Never => jitter(bound),
    }
}

/// A random time up to `bound`.
fn jitter(bound: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    bound.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Bounds the retries at one host, so that many requests in parallel do not multiply an outage.
///
/// Half of all requests may be retries: a registry that fails every second request is slow, not
/// lost.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    requests: AtomicU64,
    retries: AtomicU64,
    answers: AtomicU64,
}

impl Bucket {
    /// Counts a request.
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answer that tells of a host in order.
    pub(super) fn answer(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        let taken = self.retries.fetch_add(1, Ordering::Relaxed);
        taken < self.requests.load(Ordering::Relaxed) / 2 + SPARE_RETRIES
    }
}

/// The tries of one request of an operation.
///
/// Every request has tries of its own. Were they shared, or were the whole operation begun anew, a
/// registry that fails every second request would always fail the same one.
#[derive(Debug)]
pub(super) struct Retries<'a, S = Session> {
    server: &'a S,
    operation: Operation,
    /// Tries that failed.
    failed: u32,
    /// Those of them that count.
    counted: u32,
    /// Answers of the host to whatever request, when the last try failed.
    answers: Option<u64>,
    since: Option<Instant>,
    earlier: Vec<String>,
}

impl Retries<'_> {
    /// Makes the request once.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Answer, Failure> {
        self.server.send(&self.operation, call).await
    }
}

impl<'a, S: Server> Retries<'a, S> {
    /// No try failed yet.
    pub(super) fn new(server: &'a S, operation: Operation) -> Self {
        Self { server, operation, failed: 0, counted: 0, answers: None, since: None, earlier: Vec::new() }
    }

    /// The last try got further than the one before: tries are counted anew.
    pub(super) fn progressed(&mut self) {
        (self.failed, self.counted) = (0, 0);
        self.since = None;
    }

    /// Tries that failed.
    pub(super) fn failed(&self) -> u32 {
        self.failed
    }

    /// Ends the operation with `failure`.
    pub(super) fn error(&self, failure: Failure) -> RegistryError {
        self.server.error(self.operation.clone(), failure)
    }

    /// Waits for the next try; without one, the operation ends.
    ///
    /// # Errors
    ///
    /// As [`Retries::wait`].
    pub(super) async fn after(&mut self, failure: Failure) -> Result<(), RegistryError> {
        self.wait(failure).await.map_err(|failure| self.error(failure))
    }

    /// Waits for the next try.
    ///
    /// # Errors
    ///
    /// Returns the failure, now a lasting one, when another try makes no sense or no tries are left.
    pub(super) async fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        let policy = self.server.retry_policy();
        self.failed += 1;
        // With many requests at once it is chance which of them a host fails that fails every second.
        let answers = self.server.bucket().answers.load(Ordering::Relaxed);
        let alive = self.answers.replace(answers).is_some_and(|before| before != answers);
        if !alive || failure.advice != Advice::Backoff {
            self.counted += 1;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let spent = self.counted >= policy.tries || self.failed >= policy.tries.saturating_mul(PATIENCE);
        if failure.advice == Advice::Never || spent || !self.server.bucket().take() {
            return Err(self.spent(failure));
        }
        let wait = backoff(policy, self.counted, failure.advice);
        if since.elapsed() + wait > policy.budget {
            self.earlier.push(come_back(wait));
            return Err(self.spent(failure));
        }
        self.server.notify(&RetryNotice {
            host: self.server.name().to_owned(),
            operation: self.operation.to_string(),
            reason: failure.cause.to_string(),
            wait,
            attempt: self.counted,
            of: policy.tries,
        });
        self.earlier.push(failure.cause.brief());
        tokio::time::sleep(wait).await;
        Ok(())
    }

    fn spent(&self, failure: Failure) -> Failure {
        let earlier = self.earlier.iter().cloned().chain(failure.earlier).collect();
        Failure { advice: Advice::Never, earlier, ..failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_forms() {
        let date =
            [("retry-after", "Wed, 21 Oct 2015 07:28:09 GMT"), ("date", "Wed, 21 Oct 2015 07:28:00 GMT")];
        let past = [("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")];
        for (pairs, body, want) in [
            (&[("retry-after", "7")][..], "", Advice::After(Duration::from_secs(7))),
            (&[("retry-after", "0.5")], "", Advice::After(Duration::from_millis(500))),
            (&date, "", Advice::After(Duration::from_secs(9))),
            (&past, "", Advice::After(Duration::ZERO)),
            (
                &[],
                "{\"message\":\"retry-after: 12.5ms, allowed: 44000/minute\"}",
                Advice::After(Duration::from_micros(12_500)),
            ),
            (&[("retry-after", "soon")], "", Advice::Throttled),
            (&[], "", Advice::Throttled),
        ] {
            assert_eq!(Advice::for_status(429, &headers(pairs), body), want, "{pairs:?} {body}");
        }
        assert_eq!(Advice::for_status(503, &HeaderMap::new(), ""), Advice::Backoff);
        assert_eq!(Advice::for_status(501, &headers(&[("retry-after", "7")]), ""), Advice::Never);
    }

    #[test]
    fn waits_are_bounded() {
        let policy = RetryPolicy::default();
        for next in 1..40 {
            assert!(backoff(&policy, next, Advice::Backoff) <= policy.cap);
            assert!(backoff(&policy, next, Advice::Throttled) >= policy.base);
        }
        assert!(backoff(&policy, 1, Advice::After(Duration::from_secs(9999))) < Duration::from_secs(122));
    }

    #[test]
    fn bucket_runs_dry() {
        let bucket = Bucket::default();
        assert_eq!((0..100).filter(|_| bucket.take()).count(), 20);
    }
}
