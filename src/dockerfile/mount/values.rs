//! The values of single keys.

/// The words for a truth value.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The permissions of a file, in octal digits.
pub(super) fn mode(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = digits.then(|| u32::from_str_radix(text, 8).ok())??;
    (mode <= 0o7777).then_some(mode)
}

/// The number of a user or group. The highest one stands for "no change" where owners are set, so
/// it is none.
pub(super) fn owner(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?.filter(|number| *number != u32::MAX)
}

/// A number of bytes: `4096`, `64k`, `1.5 GiB`, units in any case and of 1024.
pub(super) fn size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    // Digits beyond the 15th are less than a byte of any unit.
    let fraction = &fraction[..fraction.len().min(15)];
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let parts = (fraction.parse::<u128>().ok()? << shift) / scale;
    let whole = u128::from(whole.parse::<u64>().ok()?) << shift;
    u64::try_from(whole + parts).ok()
}

/// The last part of a path; empty if it has none.
pub(super) fn last_part(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default()
}

/// Whether an absolute path leads back to the root.
pub(super) fn is_root(path: &str) -> bool {
    let depth = path.split('/').fold(0usize, |depth, part| match part {
        "" | "." => depth,
        ".." => depth.saturating_sub(1),
        _ => depth + 1,
    });
    path.starts_with('/') && depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, want) in [("755", Some(0o755)), ("0", Some(0)), ("007777", Some(0o7777))] {
            assert_eq!(mode(text), want, "{text}");
        }
        for text in ["", "8", "10000", "+7", "0o7", "u=rw", "7_7", "77777777777777"] {
            assert_eq!(mode(text), None, "{text}");
        }
        for (text, want) in [("0", Some(0)), ("1000", Some(1000)), ("4294967294", Some(u32::MAX - 1))] {
            assert_eq!(owner(text), want, "{text}");
        }
        for text in ["", "+1", "-1", "4294967295", "99999999999", "root", "1 "] {
            assert_eq!(owner(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, want) in [
            ("0", 0),
            ("4096", 4096),
            ("1b", 1),
            ("64k", 64 << 10),
            ("64K", 64 << 10),
            ("1m", 1 << 20),
            ("1Mb", 1 << 20),
            ("2GiB", 2 << 30),
            ("1.5k", 1536),
            ("0.5 g", 1 << 29),
            ("1t", 1 << 40),
            ("1p", 1 << 50),
            ("0.0000000000000000001k", 0),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Some(want), "{text}");
        }
        for text in [
            "",
            "k",
            "-1",
            "1x",
            "1kk",
            "1ib",
            ".5k",
            "1.",
            "1.2.3k",
            "1  k",
            "1e3",
            "16384p",
            "18446744073709551616",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn paths() {
        for (path, last, root) in [
            ("/", "", true),
            ("//", "", true),
            ("/a/..", "..", true),
            ("/./../..", "..", true),
            ("/a/../b", "b", false),
            ("a", "a", false),
            ("a/b/", "b", false),
            ("", "", false),
            (".", ".", false),
        ] {
            assert_eq!((last_part(path), is_root(path)), (last, root), "{path}");
        }
    }
}
