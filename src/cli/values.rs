//! Values of flags: `NAME=VALUE`, sizes, limits, annotations.

use std::time::Duration;

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

/// The least memory that a command can begin with.
const LEAST_MEMORY: u64 = 6 << 20;
/// The least share of a core that the kernel gives, in thousandths.
const LEAST_CPUS: u64 = 10;

/// Reads `--memory`: bytes, or with b, k, m or g.
pub(super) fn memory(text: &str) -> Result<u64, Failure> {
    let bytes = size("--memory", text)?;
    if bytes < LEAST_MEMORY {
        return Err(Failure::usage(format!("--memory {text}: no command can begin with less than 6m")));
    }
    Ok(bytes)
}

/// Reads `--cpus`, a number of cores such as 1.5, as thousandths.
pub(super) fn cpus(text: &str) -> Result<u64, Failure> {
    let fault = || Failure::usage(format!("--cpus {text}: write a number of cores such as 2 or 0.5"));
    let thousandths = decimal(text, 1000).filter(|number| *number <= 1_000_000).ok_or_else(fault)?;
    if thousandths < LEAST_CPUS {
        return Err(Failure::usage(format!("--cpus {text}: the kernel shares out no less than 0.01")));
    }
    Ok(thousandths)
}

/// Reads `--pids`.
pub(super) fn pids(text: &str) -> Result<u64, Failure> {
    match text.parse() {
        // The kernel knows no more ids, and process 1 and the command are there always.
        Ok(number @ 2..=4_194_304) => Ok(number),
        _ => Err(Failure::usage(format!("--pids {text}: write a number from 2 to 4194304"))
            .with_hint("drop the flag for no limit")),
    }
}

/// Reads a span of time such as `90s`, `1h30m` or `1.5h`.
pub(super) fn duration(flag: &str, text: &str) -> Result<Duration, Failure> {
    let fault = || Failure::usage(format!("{flag} {text}: write a time such as 90s, 10m or 1h30m"));
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len()
            - rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.').len();
        let (number, after) = rest.split_at(digits);
        let letters =
            after.len() - after.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let factor = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(fault()),
        };
        total = decimal(number, factor).and_then(|number| total.checked_add(number)).ok_or_else(fault)?;
        rest = after;
    }
    if total == 0 {
        return Err(fault().with_hint("drop the flag for no limit"));
    }
    Ok(Duration::from_millis(total))
}

/// A decimal number times `factor`, with what is beyond whole numbers cut off.
fn decimal(text: &str, factor: u64) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !is_number(whole) || !is_number(part) || part.len() > 9 {
        return None;
    }
    let number = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok() };
    let part = number(part)?.checked_mul(factor)? / 10_u64.pow(u32::try_from(part.len()).ok()?);
    number(whole)?.checked_mul(factor)?.checked_add(part)
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
    fn times() {
        for (text, want) in [
            ("90s", 90_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            (".5s", 500),
        ] {
            assert_eq!(duration("--timeout", text).unwrap(), Duration::from_millis(want), "{text}");
        }
        for text in
            ["", "0s", "90", "m", "1d", "-1s", "1.s.", "1..5s", "99999999999999999999h", "1h 30m", "5 s"]
        {
            assert!(duration("--timeout", text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_of_cgroups() {
        for (text, want) in
            [("2", 2000), ("0.5", 500), ("1.25", 1250), ("0.01", 10), (".1", 100), ("1.", 1000)]
        {
            assert_eq!(cpus(text).unwrap(), want, "{text}");
        }
        for text in ["", ".", "0", "0.009", "-1", "1e3", "100000", "one", "1.2.3", "+1"] {
            assert!(cpus(text).is_err(), "{text}");
        }
        assert_eq!(memory("64m").unwrap(), 64 << 20);
        assert!(memory("1m").is_err() && memory("-1").is_err());
        assert_eq!(pids("20").unwrap(), 20);
        assert!(pids("0").is_err() && pids("1").is_err() && pids("-1").is_err() && pids("max").is_err());
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
