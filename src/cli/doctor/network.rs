//! What is set for the network: servers of names, proxies, certificates.

use std::path::{Path, PathBuf};

use super::super::environment::Environment;
use super::finding::Finding;
use super::read;
use crate::registry::AUTHORITY_FILES;

/// All findings of this file.
pub(super) fn find(environment: &Environment) -> Vec<Finding> {
    let named: Vec<_> = environment.ca_file().into_iter().chain(environment.ca_dirs()).collect();
    let usual = AUTHORITY_FILES.map(PathBuf::from).into_iter().find(|path| path.is_file());
    // Values may hold passwords, so that only the names are shown.
    let network = environment.git().network;
    let proxies = network.iter().map(|(name, _)| name.as_str());
    let proxies: Vec<_> = proxies.filter(|name| name.to_ascii_lowercase().ends_with("_proxy")).collect();
    vec![
        names(read("/etc/resolv.conf").as_deref()),
        Finding::good("proxies", if proxies.is_empty() { "none set".to_owned() } else { proxies.join(", ") }),
        certificates(usual.as_deref(), &named),
    ]
}

fn names(text: Option<&str>) -> Finding {
    let words = text.unwrap_or_default().lines().map(str::split_whitespace);
    let servers =
        words.filter_map(|mut words| (words.next() == Some("nameserver")).then(|| words.next()).flatten());
    let servers: Vec<_> = servers.collect();
    if !servers.is_empty() {
        return Finding::good("names", format!("asked of {}", servers.join(", ")));
    }
    let fact = match text {
        Some(_) => "/etc/resolv.conf names no server",
        None => "/etc/resolv.conf cannot be read",
    };
    Finding::degraded(
        "names",
        fact,
        "names are asked of this machine itself, and commands that do not find it there have no names",
        "write `nameserver ADDRESS` into /etc/resolv.conf",
    )
}

fn certificates(usual: Option<&Path>, named: &[PathBuf]) -> Finding {
    let absent: Vec<_> = named.iter().filter(|path| !path.exists()).collect();
    if let Some(first) = absent.first() {
        return Finding::missing(
            "certificates",
            format!("{} does not exist", first.display()),
            "no server can be asked by https",
            "correct or unset SSL_CERT_FILE and SSL_CERT_DIR",
        );
    }
    let mut all: Vec<String> = Vec::new();
    for path in usual.into_iter().chain(named.iter().map(PathBuf::as_path)) {
        let path = path.display().to_string();
        if !all.contains(&path) {
            all.push(path);
        }
    }
    if !all.is_empty() {
        return Finding::good("certificates", all.join(", "));
    }
    Finding::degraded(
        "certificates",
        "this machine has none",
        "only the authorities that are built in are believed, none of your own network",
        "install the package ca-certificates, or set SSL_CERT_FILE",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn servers_of_names() {
        let found = names(Some("# x\nsearch a b\nnameserver 10.0.0.1\nnameserver\nnameserver ::1 # y\n"));
        assert_eq!(found.fact, "asked of 10.0.0.1, ::1");
        assert_eq!(names(Some("search a\n")).verdict, Verdict::Degraded);
        assert!(names(None).fact.contains("cannot be read"));
    }

    #[test]
    fn certificates_that_are_named_must_exist() {
        assert_eq!(certificates(None, &[]).verdict, Verdict::Degraded);
        assert_eq!(certificates(Some(Path::new("/etc/ssl/cert.pem")), &[]).verdict, Verdict::Good);
        assert_eq!(certificates(Some(Path::new("/")), &["/".into()]).fact, "/");
        assert_eq!(certificates(None, &["/nonexistent/ca.pem".into()]).verdict, Verdict::Missing);
    }
}
