//! Sizes, times and digests in a form for people.

use std::time::Duration;

/// Bytes with a decimal unit and one digit after the point, e.g. `12.3 MB`.
pub fn bytes(count: u64) -> String {
    if count < 1000 {
        return format!("{count} B");
    }
    // Tenths of a unit are rounded in integers, so that 999,999 bytes are
    // 1.0 MB and never 1000.0 kB.
    let mut tenths = (u128::from(count) * 10 + 500) / 1000;
    let mut unit = 0;
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        unit += 1;
        let divisor = 1000_u128.pow(u32::try_from(unit).unwrap_or(0) + 1);
        tenths = (u128::from(count) * 10 + divisor / 2) / divisor;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A span of time, e.g. `0.4s`, `59.9s`, `2m05s`, `1h00m`.
pub fn duration(span: Duration) -> String {
    let tenths = (span.as_millis() + 50) / 100;
    if tenths < 600 {
        return format!("{}.{}s", tenths / 10, tenths % 10);
    }
    let seconds = (span.as_millis() + 500) / 1000;
    if seconds < 3600 {
        return format!("{}m{:02}s", seconds / 60, seconds % 60);
    }
    format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60)
}

/// The first twelve hexadecimal digits of a digest, without its algorithm.
///
/// Text that is no digest comes back whole.
pub fn short_digest(digest: &str) -> &str {
    match digest.split_once(':') {
        Some((_, hex)) if hex.is_ascii() => &hex[..hex.len().min(12)],
        _ => digest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits_and_a_unit() {
        for (count, want) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1049, "1.0 kB"),
            (1050, "1.1 kB"),
            (999_949, "999.9 kB"),
            (999_999, "1.0 MB"),
            (12_345_678, "12.3 MB"),
            (999_999_999, "1.0 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(count), want, "{count}");
        }
    }

    #[test]
    fn durations_change_unit_without_a_sixty() {
        for (milliseconds, want) in [
            (0, "0.0s"),
            (49, "0.0s"),
            (1250, "1.3s"),
            (59_940, "59.9s"),
            (59_960, "1m00s"),
            (125_000, "2m05s"),
            (3_599_600, "1h00m"),
            (7_380_000, "2h03m"),
        ] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), want, "{milliseconds}");
        }
    }

    #[test]
    fn digests_are_cut_and_other_text_is_not() {
        for (digest, want) in [
            ("sha256:0123456789abcdef0123", "0123456789ab"),
            ("sha256:0123", "0123"),
            ("latest", "latest"),
            ("sha256:é", "sha256:é"),
        ] {
            assert_eq!(short_digest(digest), want);
        }
    }
}
