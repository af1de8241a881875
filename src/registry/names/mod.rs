//! Host names to addresses, without the C library: in a static program its resolver would still load
//! plugins (NSS) from the machine.
//!
//! Asked in this order: the hosts file, what names this machine (`localhost`), the DNS servers of
//! resolv.conf. What other plugins of a C library know (mDNS, LDAP, the names of virtual machines) is
//! not known here.
//!
//! The files are read for each name, so that a change of network needs no new start. What servers
//! send is believed only where it answers the question that was sent, and is bounded in every way.
//!
//! Sources: hosts(5), resolv.conf(5); RFC 1034 and 1035 (DNS), 3596 (AAAA), 6761 (localhost),
//! 6724 (order of addresses), 7766 (TCP).

mod hosts;
mod message;
mod order;
mod query;
mod settings;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::{self, Either};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::Instant;

use super::transport::is_loopback;
use message::Kind;
use query::{Found, Query};
use settings::Settings;

/// How long the addresses of one family wait for those of the other.
const GRACE: Duration = Duration::from_millis(500);

/// Why a host name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    /// A server says so; it will say so again.
    #[error("`{name}` is not known to the DNS server {server}")]
    Unknown {
        /// The name as it was asked for.
        name: String,
        /// The last server that said so.
        server: IpAddr,
    },
    /// The name is known, but not for hosts.
    #[error("`{0}` has no address in the DNS")]
    NoAddress(String),
    /// Text that cannot be asked for.
    #[error("`{0}` is not a host name")]
    Malformed(String),
    /// Servers are silent, unreachable or in trouble.
    #[error("{0}")]
    Failed(String),
}

impl NameError {
    /// Whether the next try ends the same way.
    pub(super) fn is_lasting(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

/// Finds the addresses of host names as this machine's files say.
#[derive(Debug, Clone)]
pub(super) struct Names {
    hosts: PathBuf,
    settings: PathBuf,
    port: u16,
    patience: Duration,
}

impl Names {
    /// By the files of this machine; no name takes longer than `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        Self { hosts: "/etc/hosts".into(), settings: "/etc/resolv.conf".into(), port: 53, patience }
    }

    /// The addresses of `name`, the best first; at least one.
    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let deadline = Instant::now() + self.patience;
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let mut addresses = hosts::lookup(&read(&self.hosts)?, name);
        if addresses.is_empty() && is_loopback(name.trim_end_matches('.')) {
            addresses = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        }
        if addresses.is_empty() {
            addresses = self.ask(name, deadline).await?;
        }
        order::best_first(&mut addresses);
        Ok(addresses)
    }

    /// Asks for the name and, as resolv.conf says, for it in the search domains.
    async fn ask(&self, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, NameError> {
        let settings = Settings::parse(&read(&self.settings)?, &settings::machine_domain(), self.port);
        let mut verdict = NameError::Malformed(name.to_owned());
        for candidate in settings.candidates(name) {
            let query = |kind| Query { settings: &settings, name: &candidate, kind, deadline };
            match both(query(Kind::Aaaa), query(Kind::A)).await {
                Some(Found::Addresses(addresses)) => return Ok(addresses),
                // Another domain may still have it; that nothing has an address says more than
                // that the last one does not know it, and trouble says more than both.
                Some(Found::Nothing) if verdict.is_lasting() => {
                    verdict = NameError::NoAddress(name.to_owned());
                }
                Some(Found::Unknown(server))
                    if matches!(verdict, NameError::Malformed(_) | NameError::Unknown { .. }) =>
                {
                    verdict = NameError::Unknown { name: name.to_owned(), server };
                }
                Some(Found::Trouble(why)) => verdict = NameError::Failed(why),
                // Servers that do not answer will not for another domain.
                Some(Found::Silence(why)) => return Err(NameError::Failed(why)),
                Some(Found::Nothing | Found::Unknown(_)) | None => {}
            }
        }
        Err(verdict)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, name) = (self.clone(), name.as_str().to_owned());
        Box::pin(async move {
            let addresses = names.lookup(&name).await?;
            // The port is the URL's.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// Puts the answers for both families together; `None` for a name that cannot be asked for.
///
/// Each family has a socket of its own: some networks lose the second of two packets between the
/// same ports.
async fn both(first: Query<'_>, second: Query<'_>) -> Option<Found> {
    let (one, rest) = match future::select(Box::pin(first.ask()), Box::pin(second.ask())).await {
        Either::Left((one, rest)) | Either::Right((one, rest)) => (one?, rest),
    };
    // A server that has the one and is silent about the other must not cost seconds.
    let other = match one {
        Found::Addresses(_) => tokio::time::timeout(GRACE, rest).await.unwrap_or(Some(Found::Nothing)),
        _ => rest.await,
    };
    Some(match (one, other?) {
        (Found::Addresses(mut one), Found::Addresses(other)) => {
            one.extend(other);
            Found::Addresses(one)
        }
        (found @ Found::Addresses(_), _) | (_, found @ Found::Addresses(_)) => found,
        (found @ Found::Silence(_), _) | (_, found @ Found::Silence(_)) => found,
        (found @ Found::Trouble(_), _) | (_, found @ Found::Trouble(_)) => found,
        (found @ Found::Nothing, _) | (_, found @ Found::Nothing) => found,
        (found @ Found::Unknown(_), Found::Unknown(_)) => found,
    })
}

/// The text of a file; empty where there is none.
fn read(path: &Path) -> Result<String, NameError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(String::new())
        }
        Err(error) => Err(NameError::Failed(format!("failed to read {}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests;
