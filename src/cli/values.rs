//! Values of flags: `NAME=VALUE`, sizes, limits, annotations.

use fanfold_platforms::Platform;

use super::errors::Failure;
use crate::coordinator::{Annotation, Scope};

/// Splits `NAME=VALUE`.
pub(super) fn pair(flag: &str, text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("{flag} {text}: write {flag} NAME=VALUE"))),
    }
}

/// Reads a truth value in the forms that BuildKit takes.
pub(super) fn switch(flag: &str, text: &str) -> Result<bool, Failure> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Failure::usage(format!("{flag}={text}: write 1 or 0"))),
    }
}

/// Reads `HOST:IP` or `HOST=IP`; the address may be IPv6, also in brackets.
pub(super) fn host(text: &str) -> Result<(String, String), Failure> {
    let fault = || Failure::usage(format!("--add-host {text}: write --add-host HOST:IP"));
    let at = text.find(['=', ':']).ok_or_else(fault)?;
    let (name, address) = (&text[..at], &text[at + 1..]);
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() || name.contains(char::is_whitespace) || address.parse::<std::net::IpAddr>().is_err() {
        return Err(fault());
    }
    Ok((name.to_owned(), address.to_owned()))
}

/// Reads a size: bytes, or with b, k, m or g.
pub(super) fn size(flag: &str, text: &str) -> Result<u64, Failure> {
    let fault = || Failure::usage(format!("{flag} {text}: write a size such as 64m"));
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor: u64 = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => return Err(fault()),
    };
    let number: u64 = digits.parse().map_err(|_| fault())?;
    number.checked_mul(factor).ok_or_else(fault)
}

/// Looks whether each `--insecure-registry` is a host, with a port or without.
pub(super) fn registries(texts: &[String]) -> Result<(), Failure> {
    match texts.iter().find(|text| text.is_empty() || text.contains('/')) {
        Some(text) => Err(Failure::usage(format!("--insecure-registry {text}: write HOST or HOST:PORT"))),
        None => Ok(()),
    }
}

/// Names of resource limits.
const LIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads `NAME=SOFT[:HARD]`; -1 is no limit.
pub(super) fn ulimit(text: &str) -> Result<(String, u64, u64), Failure> {
    let (name, value) = pair("--ulimit", text)?;
    if !LIMITS.contains(&name.as_str()) {
        return Err(Failure::usage(format!(
            "--ulimit {text}: no such limit; there are {}",
            LIMITS.join(", ")
        )));
    }
    let number = |text: &str| match text {
        "-1" => Ok(u64::MAX),
        text => {
            text.parse().map_err(|_| Failure::usage(format!("--ulimit {name}: `{text}` is not a number")))
        }
    };
    let (soft, hard) = value.split_once(':').unwrap_or((&value, &value));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(Failure::usage(format!("--ulimit {text}: the soft limit is above the hard one")));
    }
    Ok((name, soft, hard))
}

/// Reads `[SCOPE[[PLATFORM]],…:]NAME=VALUE`.
pub(super) fn annotations(text: &str) -> Result<Vec<Annotation>, Failure> {
    let (name, value) = pair("--annotation", text)?;
    let (scopes, key) = match name.split_once(':') {
        Some((_, "")) => return Err(Failure::usage(format!("--annotation {text}: the name is missing"))),
        Some((scopes, key)) => (scopes, key.to_owned()),
        _ => ("manifest", name.clone()),
    };
    scopes
        .split(',')
        .map(|scope| {
            let (scope, platform) = match scope.strip_suffix(']').and_then(|scope| scope.split_once('[')) {
                Some((scope, platform)) => {
                    let parsed: Platform = platform
                        .parse()
                        .map_err(|error| Failure::usage(format!("--annotation {text}: {error}")))?;
                    (scope, Some(parsed))
                }
                None => (scope, None),
            };
            let scope = match scope {
                "manifest" => Scope::Manifest,
                "index" => Scope::Index,
                "manifest-descriptor" => Scope::ManifestDescriptor,
                other => {
                    return Err(Failure::usage(format!(
                        "--annotation {text}: no such scope `{other}`; there are manifest, index and manifest-descriptor"
                    )));
                }
            };
            if scope == Scope::Index && platform.is_some() {
                return Err(Failure::usage(format!("--annotation {text}: the index is for all platforms")));
            }
            Ok(Annotation { scope, platform, key: key.clone(), value: value.clone() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [("64m", 64 << 20), ("1G", 1 << 30), ("512", 512), ("2kb", 2048)] {
            assert_eq!(size("--shm-size", text).unwrap(), want, "{text}");
        }
        for text in ["", "m", "1.5m", "1t", "-1"] {
            assert!(size("--shm-size", text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(host("a:1.2.3.4").unwrap(), ("a".into(), "1.2.3.4".into()));
        assert_eq!(host("a=::1").unwrap(), ("a".into(), "::1".into()));
        assert_eq!(host("a:[::1]").unwrap(), ("a".into(), "::1".into()));
        assert!(host("a").is_err() && host(":1.2.3.4").is_err() && host("a:b").is_err());
    }

    #[test]
    fn hosts_of_registries() {
        assert!(registries(&["localhost:5000".to_owned(), "[::1]:5000".to_owned()]).is_ok());
        assert!(
            registries(&["http://localhost".to_owned()]).is_err() && registries(&[String::new()]).is_err()
        );
    }

    #[test]
    fn limits() {
        assert_eq!(ulimit("nofile=1024:-1").unwrap(), ("nofile".into(), 1024, u64::MAX));
        assert!(ulimit("nofile=2:1").is_err() && ulimit("files=1").is_err() && ulimit("nofile").is_err());
    }

    #[test]
    fn annotation_scopes() {
        let found = annotations("index,manifest[linux/arm64]:a.b=c:d").unwrap();
        assert_eq!(found[0].scope, Scope::Index);
        assert_eq!(found[1].scope, Scope::Manifest);
        assert_eq!(found[1].platform.as_ref().unwrap().to_string(), "linux/arm64");
        assert_eq!((found[1].key.as_str(), found[1].value.as_str()), ("a.b", "c:d"));
        assert_eq!(annotations("k=v").unwrap()[0].scope, Scope::Manifest);
        assert!(annotations("layer:k=v").is_err() && annotations("index[linux/arm64]:k=v").is_err());
    }
}
