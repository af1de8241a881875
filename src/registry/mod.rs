//! Client for OCI registries: authentication, pull, push. Also for files on web servers.
//!
//! Owns: host names, schemes and TLS, challenges and tokens, credential files and helpers, redirects, retries,
//! the number of requests in flight per host, resumed downloads, uploads, mounts, copies from registry to
//! registry, look-ups of cache records.
//! Refuses: content that does not hash to its digest, more bytes than a descriptor promises, plain
//! HTTP to registries that are neither loopback nor listed, a plain-text token server behind an HTTPS
//! registry, a step from HTTPS to plain HTTP.
//!
//! Invariants:
//! - Credentials and tokens go to the registry they are for and to the token server it named, never
//!   across a redirect or to an upload location on another host.
//! - No secret, no query string and no control byte of a server's text reaches an error or a notice.
//! - What is left on disk under the caller's name has been verified as a whole; so is what was sent on to
//!   another registry, before its last byte.
//! - A request body is opened anew for each attempt, so every request can be sent again.
//!
//! Sources: OCI distribution-spec 1.1; the token and OAuth2 documents of the distribution project;
//! RFC 9110 (ranges, redirects, Retry-After), RFC 7235 (challenges).

mod auth;
mod auth_file;
mod authorities;
mod challenge;
mod client;
mod config;
mod credentials;
mod date;
mod download;
mod endpoint;
mod error;
mod exchange;
mod feed;
mod flight;
mod follow;
mod helpers;
mod known;
mod limiter;
mod manifests;
mod names;
mod payload;
mod records;
mod redact;
mod refusal;
mod retry;
mod session;
mod sink;
mod token;
mod transport;
mod upload;
mod web;
mod web_url;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use authorities::AUTHORITY_FILES;
pub use client::{Client, Pushed, Target};
pub use config::{Config, RetryCallback, Timeouts};
pub use credentials::CredentialFiles;
pub use error::{ErrorKind, RegistryError};
pub use follow::{Arrival, Follow, Follower};
pub use retry::{RetryNotice, RetryPolicy};
pub use web::{Download, Downloaded, WebFile};
pub use web_url::{Authorization, WebUrl, WebUrlError};
