//! resolv.conf: which servers are asked, for which names, how patiently.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// Servers that are used, from the first.
const MOST_SERVERS: usize = 3;

/// What resolv.conf says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// At least one.
    pub(super) servers: Vec<SocketAddr>,
    /// Domains that a name may be meant in.
    search: Vec<String>,
    /// From this number of dots on, a name is asked for as it is first.
    ndots: usize,
    /// How long one server may take.
    pub(super) timeout: Duration,
    /// Rounds over all servers; at least one.
    pub(super) attempts: u32,
    /// Whether TCP alone is spoken.
    pub(super) tcp: bool,
    /// Whether IPv6 addresses are not asked for.
    pub(super) no_aaaa: bool,
}

impl Settings {
    /// Reads the text of a file; words that are not known are passed over, as every reader of it does.
    /// `domain` is the machine's own, which is searched where the file names none; servers listen at
    /// `port`. Without any server, this machine is asked.
    pub(super) fn parse(text: &str, domain: &str, port: u16) -> Self {
        let mut settings = Self {
            servers: Vec::new(),
            search: if domain.is_empty() { Vec::new() } else { vec![domain.to_owned()] },
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            tcp: false,
            no_aaaa: false,
        };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace().take_while(|word| !word.starts_with(['#', ';']));
            match words.next() {
                Some("nameserver") => {
                    settings.servers.extend(words.next().and_then(|word| server(word, port)));
                }
                // The last of these lines counts.
                Some("domain") => settings.search = words.take(1).map(domain_of).collect(),
                Some("search") => settings.search = words.map(domain_of).collect(),
                Some("options") => words.for_each(|word| settings.option(word)),
                _ => {}
            }
        }
        settings.servers.truncate(MOST_SERVERS);
        if settings.servers.is_empty() {
            settings.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        }
        settings
    }

    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        match (name, value.parse::<u32>()) {
            ("ndots", Ok(number)) => self.ndots = number.min(15) as usize,
            ("timeout", Ok(number)) => self.timeout = Duration::from_secs(number.clamp(1, 30).into()),
            ("attempts", Ok(number)) => self.attempts = number.clamp(1, 5),
            ("use-vc", _) => self.tcp = true,
            ("no-aaaa", _) => self.no_aaaa = true,
            _ => {}
        }
    }

    /// The names to ask for, in their order, until one has an address. A dot at the end says that a
    /// name is whole.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(whole) = name.strip_suffix('.') {
            return vec![whole.to_owned()];
        }
        let as_it_is = name.to_owned();
        let mut candidates: Vec<String> = self
            .search
            .iter()
            .map(|domain| if domain.is_empty() { as_it_is.clone() } else { format!("{name}.{domain}") })
            .collect();
        let place = if name.matches('.').count() >= self.ndots { 0 } else { candidates.len() };
        candidates.insert(place, as_it_is);
        let mut seen = Vec::new();
        candidates.retain(|candidate| {
            let new = !seen.contains(candidate);
            seen.push(candidate.clone());
            new
        });
        candidates
    }
}

/// A domain without the dots around it; the root's is empty.
fn domain_of(word: &str) -> String {
    word.trim_matches('.').to_owned()
}

/// The address of a server; one of a link names its interface, as in `fe80::1%eth0`.
fn server(word: &str, port: u16) -> Option<SocketAddr> {
    let Some((address, interface)) = word.split_once('%') else {
        return Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, port));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = interface.parse().ok().or_else(|| interface_number(interface))?;
    Some(SocketAddrV6::new(address, port, 0, scope).into())
}

/// The kernel's number of a network interface.
fn interface_number(name: &str) -> Option<u32> {
    if name.contains('/') || name.starts_with('.') {
        return None;
    }
    std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}

/// The domain of this machine's own name; empty where it has none.
pub(super) fn machine_domain() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.split_once('.').map(|(_, domain)| domain_of(domain)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let kubernetes = "search team.svc.cluster.local svc.cluster.local cluster.local\n\
                          nameserver 10.96.0.10\noptions ndots:5\n";
        let settings = Settings::parse(kubernetes, "", 53);
        assert_eq!(settings.servers, ["10.96.0.10:53".parse().unwrap()]);
        for (name, want) in [
            (
                "registry",
                &[
                    "registry.team.svc.cluster.local",
                    "registry.svc.cluster.local",
                    "registry.cluster.local",
                    "registry",
                ][..],
            ),
            (
                "a.b.c.d.e.f",
                &[
                    "a.b.c.d.e.f",
                    "a.b.c.d.e.f.team.svc.cluster.local",
                    "a.b.c.d.e.f.svc.cluster.local",
                    "a.b.c.d.e.f.cluster.local",
                ],
            ),
            ("registry.", &["registry"]),
        ] {
            assert_eq!(settings.candidates(name), want, "{name}");
        }

        let full = "# comment\n; another\ndomain old.example\nsearch a.example. b.example # c\n\
                    nameserver 10.0.0.1#53\nnameserver 10.0.0.1 # x\nnameserver ::1\nnameserver fe80::1%7\n\
                    nameserver fe80::1%no/such\nnameserver 10.0.0.4\n\
                    options ndots:99 timeout:0 attempts:9 rotate use-vc no-aaaa timeout:x\n";
        let settings = Settings::parse(full, "home.example", 53);
        let want = ["10.0.0.1:53", "[::1]:53", "[fe80::1%7]:53"];
        assert_eq!(settings.servers, want.map(|text| text.parse().unwrap()));
        assert_eq!(settings.search, ["a.example", "b.example"]);
        assert_eq!((settings.ndots, settings.timeout.as_secs(), settings.attempts), (15, 1, 5));
        assert!(settings.tcp && settings.no_aaaa);

        let none = Settings::parse("", "home.example", 53);
        assert_eq!(none.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(none.candidates("host"), ["host.home.example", "host"]);
        assert_eq!(none.candidates("host.org"), ["host.org", "host.org.home.example"]);
        assert_eq!(Settings::parse("search .", "home.example", 53).candidates("host"), ["host"]);
        assert_eq!(Settings::parse("search", "home.example", 53).candidates("host"), ["host"]);
    }
}
