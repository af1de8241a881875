//! Which of a host's addresses is tried first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Sorts by what this machine can reach, and then IPv6 before IPv4, as RFC 6724 has it in short: but
/// not where it would be reached from an address of another kind, such as a private one that some
/// router has to translate. Addresses of the same rank keep their order, which servers vary.
pub(super) fn best_first(addresses: &mut [IpAddr]) {
    if addresses.len() > 1 {
        addresses.sort_by_cached_key(|address| rank(*address, source(*address)));
    }
}

/// The address that the kernel would send from; `None` where it has no way. Nothing is sent.
fn source(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // The port does not matter, but must be one.
    socket.connect((to, 443)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The lower the better.
fn rank(to: IpAddr, from: Option<IpAddr>) -> u8 {
    match (to, from) {
        (_, None) => 3,
        (IpAddr::V4(_), Some(_)) => 1,
        (IpAddr::V6(to), Some(IpAddr::V6(from))) if is_private(to) != is_private(from) => 2,
        (IpAddr::V6(_), Some(_)) => 0,
    }
}

fn is_private(address: Ipv6Addr) -> bool {
    address.is_unique_local() || address.is_unicast_link_local() || address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        for (to, from, want) in [
            ("10.0.0.1", Some("10.0.0.2"), 1),
            ("2001:db8::1", Some("2001:db8::2"), 0),
            ("2001:db8::1", Some("fd00::2"), 2),
            ("fd00::1", Some("fd00::2"), 0),
            ("::1", Some("::1"), 0),
            ("2001:db8::1", None, 3),
            ("10.0.0.1", None, 3),
        ] {
            let from = from.map(|text| text.parse().unwrap());
            assert_eq!(rank(to.parse().unwrap(), from), want, "{to} from {from:?}");
        }
        let mut addresses: Vec<IpAddr> =
            ["127.0.0.2", "127.0.0.1"].iter().map(|text| text.parse().unwrap()).collect();
        let before = addresses.clone();
        best_first(&mut addresses);
        assert_eq!(addresses, before);
    }
}
