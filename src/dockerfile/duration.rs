//! Durations as HEALTHCHECK writes them, in the syntax of Go.
//!
//! Owns: reading (`1m30s`, `500ms`, `1.5h`) and printing. Refuses: a number
//! without a unit, unknown units, values beyond 64 bits of nanoseconds.
//!
//! Sources: BuildKit's Dockerfile reference; Go's documentation of
//! `time.ParseDuration` and `Duration.String`.

const SECOND: u64 = 1_000_000_000;

/// Units by name, in nanoseconds. The two signs for micro are both in use.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

/// Reads a duration, in nanoseconds; it may be negative.
///
/// # Errors
///
/// What is wrong, naming the text.
pub fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let whole = take(&mut rest, |c| c.is_ascii_digit());
        let fraction = match rest.strip_prefix('.') {
            Some(after) => {
                rest = after;
                take(&mut rest, |c| c.is_ascii_digit())
            }
            None => "",
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let name = take(&mut rest, |c| c != '.' && !c.is_ascii_digit());
        if name.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let unit = UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, size)| i128::from(*size));
        let unit = unit.ok_or_else(|| format!("time: unknown unit {name:?} in duration {text:?}"))?;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        total += i128::from(whole) * unit;
        // Digits beyond the 18th are less than a nanosecond of any unit.
        let digits = &fraction[..fraction.len().min(18)];
        if let Ok(value) = digits.parse::<u64>() {
            let scale = (0..digits.len()).fold(1, |scale, _| scale * 10);
            total += i128::from(value) * unit / scale;
        }
        if total > 1 << 63 {
            return Err(invalid());
        }
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// Cuts the longest run of accepted characters off the front.
fn take<'a>(rest: &mut &'a str, accept: impl Fn(char) -> bool) -> &'a str {
    let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
    let (taken, after) = rest.split_at(end);
    *rest = after;
    taken
}

/// Prints nanoseconds the way Go does: `1m30s`, `1.5s`, `500ms`, `0s`.
#[must_use]
pub fn format(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let size = nanoseconds.unsigned_abs();
    if size == 0 {
        return "0s".to_owned();
    }
    if size < SECOND {
        let (unit, name) = match size {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "\u{b5}s"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(size, unit));
    }
    let minutes = size / SECOND / 60;
    let seconds = decimal(size - minutes * 60 * SECOND, SECOND);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` with all its decimals and no zero at their end; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let fraction = value % unit;
    if fraction == 0 {
        return (value / unit).to_string();
    }
    let digits = (unit + fraction).to_string();
    format!("{}.{}", value / unit, digits[1..].trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_prints() {
        for (text, want, printed) in [
            ("0", 0, "0s"),
            ("+0", 0, "0s"),
            ("0s", 0, "0s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("2s", 2_000_000_000, "2s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            (".5s", 500_000_000, "500ms"),
            ("1.s", 1_000_000_000, "1s"),
            ("500ms", 500_000_000, "500ms"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("1h0m0.25s", 3_600_250_000_000, "1h0m0.25s"),
            ("5m", 300_000_000_000, "5m0s"),
            ("10us", 10_000, "10\u{b5}s"),
            ("10\u{b5}s", 10_000, "10\u{b5}s"),
            ("1.5\u{3bc}s", 1_500, "1.5\u{b5}s"),
            ("7ns", 7, "7ns"),
            ("-1.5s", -1_500_000_000, "-1.5s"),
            ("0.3333333333333333333333h", 1_200_000_000_000 - 1, "19m59.999999999s"),
            ("9223372036854775807ns", i64::MAX, "2562047h47m16.854775807s"),
            ("-9223372036854775808ns", i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
            assert_eq!(format(want), printed, "{text}");
        }
    }

    #[test]
    fn faults() {
        for (text, want) in [
            ("", r#"time: invalid duration """#),
            ("-", r#"time: invalid duration "-""#),
            ("x", r#"time: invalid duration "x""#),
            (".s", r#"time: invalid duration ".s""#),
            ("5", r#"time: missing unit in duration "5""#),
            ("1m5", r#"time: missing unit in duration "1m5""#),
            ("5d", r#"time: unknown unit "d" in duration "5d""#),
            ("1 s", r#"time: unknown unit " s" in duration "1 s""#),
            ("9223372036854775808ns", r#"time: invalid duration "9223372036854775808ns""#),
            ("99999999999999999999h", r#"time: invalid duration "99999999999999999999h""#),
        ] {
            assert_eq!(parse(text), Err(want.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(value in any::<i64>()) {
            prop_assert_eq!(parse(&format(value)), Ok(value));
        }

        #[test]
        fn any_text(text in r"[-+0-9.a-zµ]{0,12}|.{0,6}") {
            let _ = parse(&text);
        }
    }
}
