//! The hosts file: addresses with their names.

use std::net::IpAddr;

/// The addresses that `text` gives a name, in its order.
///
/// A line is an address and names, `#` begins a comment; lines that begin with anything else are
/// passed over, as every reader of the file does.
pub(super) fn lookup(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next() else { continue };
        if words.any(|word| word.strip_suffix('.').unwrap_or(word).eq_ignore_ascii_case(name))
            && let Ok(address) = address.parse()
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = "127.0.0.1\tlocalhost # and more: commented\n\
                    ::1 localhost ip6-localhost\n\
                    # 10.0.0.9 registry.example\n\
                    10.0.0.1 Registry.Example r   # r2\n\
                    10.0.0.1 registry.example.\n\
                    10.0.0.2 registry.example\n\
                    nonsense registry.example\n\
                    fe80::1%eth0 scoped\n\
                    10.0.0.3\n\r\n";
        for (name, want) in [
            ("localhost", &["127.0.0.1", "::1"][..]),
            ("ip6-localhost", &["::1"]),
            ("registry.example", &["10.0.0.1", "10.0.0.2"]),
            ("REGISTRY.example.", &["10.0.0.1", "10.0.0.2"]),
            ("r", &["10.0.0.1"]),
            ("r2", &[]),
            ("commented", &[]),
            ("scoped", &[]),
            ("10.0.0.3", &[]),
            ("", &[]),
        ] {
            let want: Vec<IpAddr> = want.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(lookup(text, name), want, "{name}");
        }
    }
}
