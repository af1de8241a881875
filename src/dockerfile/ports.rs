//! Ports of EXPOSE.
//!
//! Owns: ranges, protocols, the forms with a host port or address (of which only
//! the container's port counts). Refuses: unknown protocols, numbers above 65535.
//!
//! Sources: BuildKit's Dockerfile reference.

use std::collections::HashSet;
use std::net::IpAddr;

use super::expand::{ExpandError, expand_words};

/// An EXPOSE that names no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// A protocol other than tcp, udp, sctp.
    #[error("invalid port: {word:?}: invalid proto: {protocol}")]
    Protocol {
        /// The word.
        word: String,
        /// What stands behind its `/`, in lower case.
        protocol: String,
    },
    /// Not a number or range from 0 to 65535.
    #[error("invalid containerPort: {0}")]
    ContainerPort(String),
    /// The same of the host's side.
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    /// What stands first of three is not an address.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// Nothing where the container's port should be.
    #[error("no port specified: {0}<empty>")]
    NoPort(String),
    /// Two ranges of different length.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The container's range.
        container: String,
        /// The host's range.
        host: String,
    },
    /// A variable that could not be expanded.
    #[error(transparent)]
    Expand(#[from] ExpandError),
}

/// What an EXPOSE instruction declares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exposed {
    /// `80/tcp`, each once, in the order of the sorted words.
    pub ports: Vec<String>,
    /// The words after expansion, for the checks on their form.
    pub words: Vec<String>,
    /// Variables that had no value, each once.
    pub undefined: Vec<String>,
}

/// Sorts the words of the instruction, expands each into words, and reads these.
///
/// # Errors
///
/// A word that cannot be expanded, or that is no port.
pub fn expose(
    words: &[String],
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Exposed, PortError> {
    let mut sorted: Vec<&String> = words.iter().collect();
    sorted.sort();
    let mut exposed = Exposed::default();
    for word in sorted {
        let (words, undefined) = expand_words(word, escape, lookup)?;
        exposed.words.extend(words);
        for name in undefined {
            if !exposed.undefined.contains(&name) {
                exposed.undefined.push(name);
            }
        }
    }
    exposed.ports = parse(&exposed.words)?;
    Ok(exposed)
}

/// Reads expanded words, in their order, each port once.
///
/// # Errors
///
/// The first word that is no port.
pub fn parse(words: &[String]) -> Result<Vec<String>, PortError> {
    let mut seen = HashSet::new();
    let mut ports = Vec::new();
    for word in words {
        let (first, last, protocol) = parse_word(word)?;
        for number in first..=last {
            if seen.insert((number, protocol)) {
                ports.push(format!("{number}/{protocol}"));
            }
        }
    }
    Ok(ports)
}

/// Whether the word names an address or a host port, which EXPOSE ignores.
#[must_use]
pub fn names_host(word: &str) -> bool {
    word.contains(':')
}

/// Whether the protocol is written with capitals.
#[must_use]
pub fn has_upper_case_protocol(word: &str) -> bool {
    word.split_once('/').is_some_and(|(_, protocol)| protocol.bytes().any(|byte| byte.is_ascii_uppercase()))
}

fn parse_word(word: &str) -> Result<(u16, u16, &'static str), PortError> {
    let (before, container) = word.rsplit_once(':').unwrap_or(("", word));
    let (address, host) = before.rsplit_once(':').unwrap_or(("", before));
    let (container, protocol) = container.split_once('/').unwrap_or((container, ""));
    if container.is_empty() {
        return Err(PortError::NoPort(word.to_owned()));
    }
    let protocol = match protocol.to_lowercase().as_str() {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        other => {
            return Err(PortError::Protocol { word: word.to_owned(), protocol: other.to_owned() });
        }
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(PortError::Address(address.to_owned()));
    }
    let (first, last) =
        parse_range(container).ok_or_else(|| PortError::ContainerPort(container.to_owned()))?;
    if !host.is_empty() {
        let (low, high) = parse_range(host).ok_or_else(|| PortError::HostPort(host.to_owned()))?;
        // One container port may be published somewhere in a range of the host.
        if first != last && last - first != high - low {
            return Err(PortError::Ranges { container: container.to_owned(), host: host.to_owned() });
        }
    }
    Ok((first, last, protocol))
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_number(first)?, parse_number(last)?);
    (first <= last).then_some((first, last))
}

fn parse_number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn forms() {
        for (word, want) in [
            ("80", &["80/tcp"] as &[&str]),
            ("0", &["0/tcp"]),
            ("65535/udp", &["65535/udp"]),
            ("080", &["80/tcp"]),
            ("80/", &["80/tcp"]),
            ("443/TCP", &["443/tcp"]),
            ("53/Udp", &["53/udp"]),
            ("9/sctp", &["9/sctp"]),
            ("80-82/udp", &["80/udp", "81/udp", "82/udp"]),
            ("7-7", &["7/tcp"]),
            ("8080:80", &["80/tcp"]),
            (":80", &["80/tcp"]),
            ("127.0.0.1:8080:80/udp", &["80/udp"]),
            ("127.0.0.1::80", &["80/tcp"]),
            ("[::1]:8080:80", &["80/tcp"]),
            ("::1:8080:80", &["80/tcp"]),
            ("8080-8081:80-81", &["80/tcp", "81/tcp"]),
            ("8080-8090:80", &["80/tcp"]),
        ] {
            assert_eq!(parse(&owned(&[word])).unwrap(), owned(want), "{word}");
        }
        assert_eq!(parse(&owned(&["0-65535", "0-65535"])).unwrap().len(), 65536);
    }

    #[test]
    fn faults() {
        for (word, want) in [
            ("80/foo", r#"invalid port: "80/foo": invalid proto: foo"#),
            ("80/FOO", r#"invalid port: "80/FOO": invalid proto: foo"#),
            ("80/tcp/udp", r#"invalid port: "80/tcp/udp": invalid proto: tcp/udp"#),
            ("x", "invalid containerPort: x"),
            ("65536", "invalid containerPort: 65536"),
            ("-1", "invalid containerPort: -1"),
            ("+1", "invalid containerPort: +1"),
            ("82-80", "invalid containerPort: 82-80"),
            ("80-", "invalid containerPort: 80-"),
            ("1-2-3", "invalid containerPort: 1-2-3"),
            ("x:80", "invalid hostPort: x"),
            ("nohost:1:80", "invalid IP address: nohost"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("/tcp", "no port specified: /tcp<empty>"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        ] {
            assert_eq!(parse(&owned(&[word])).unwrap_err().to_string(), want, "{word}");
        }
    }

    #[test]
    fn words_are_sorted_then_expanded_then_split() {
        let lookup = |name: &str| (name == "P").then(|| "90  80/udp".to_owned());
        let exposed = expose(&owned(&["80", "443/TCP", "$P", "80", "$NO"]), '\\', &lookup).unwrap();
        assert_eq!(exposed.ports, ["90/tcp", "80/udp", "443/tcp", "80/tcp"]);
        assert_eq!(exposed.words, ["90", "80/udp", "443/TCP", "80", "80"]);
        assert_eq!(exposed.undefined, ["NO"]);
        assert!(expose(&owned(&["${"]), '\\', &lookup).is_err());
    }

    #[test]
    fn forms_that_a_check_reports() {
        assert!(names_host("8080:80") && !names_host("80/tcp"));
        assert!(has_upper_case_protocol("80/TCP") && !has_upper_case_protocol("80/tcp"));
    }

    proptest! {
        #[test]
        fn any_word(word in r"[0-9:/\[\]tcp.-]{0,12}|.{0,6}") {
            let _ = parse(&[word]);
        }
    }
}
