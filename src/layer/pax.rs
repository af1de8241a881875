//! PAX extended header records: `<length> <key>=<value>\n`, where the length counts itself.
//!
//! Source: POSIX.1-2017, `pax`, section "pax Extended Header".

use std::collections::BTreeMap;

/// Writes one record set, sorted by key.
pub(super) fn encode(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        // A space, the equals sign and the newline.
        let body = key.len() + value.len() + 3;
        let mut length = body + digits(body);
        // The length may be the number that needs one digit more.
        while body + digits(length) != length {
            length = body + digits(length);
        }
        out.extend_from_slice(length.to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Key and value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// Reads a record set in its own order, duplicates included (the sparse format 0.0 repeats keys).
///
/// # Errors
///
/// Says what is wrong with the first bad record: nothing is skipped, because a reader that
/// resumes at another place than the next one sees another archive.
pub(super) fn parse(mut set: &[u8]) -> Result<Vec<Record<'_>>, &'static str> {
    let mut records = Vec::new();
    while !set.is_empty() {
        let space = set.iter().take(20).position(|&byte| byte == b' ').ok_or("PAX record without length")?;
        let length = decimal(&set[..space]).ok_or("PAX record with a bad length")?;
        let length = usize::try_from(length).map_err(|_| "PAX record with a bad length")?;
        if length > set.len() || length < space + 3 {
            return Err("PAX record with a bad length");
        }
        let (record, rest) = set.split_at(length);
        let Some((b'\n', body)) = record[space + 1..].split_last() else {
            return Err("PAX record does not end in a newline");
        };
        let equals = body.iter().position(|&byte| byte == b'=').ok_or("PAX record without `=`")?;
        let (key, value) = (&body[..equals], &body[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err("PAX record with a bad key");
        }
        records.push((key, value));
        set = rest;
    }
    Ok(records)
}

/// An unsigned decimal number of plain digits.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The whole seconds of a PAX time, rounded down: `-1.5` is -2.
pub(super) fn seconds(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let whole = i64::try_from(decimal(whole)?).ok()?;
    let partial = fraction.iter().any(|&digit| digit != b'0');
    Some(if negative { -whole - i64::from(partial) } else { whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_itself() {
        for size in [1, 4, 5, 6, 90, 93, 94, 95, 96, 97, 990, 991, 992, 993, 9990] {
            let records = BTreeMap::from([(b"k".to_vec(), vec![b'v'; size])]);
            let set = encode(&records);
            assert!(set.starts_with(format!("{} k=", set.len()).as_bytes()), "{size}");
            assert_eq!(parse(&set).unwrap(), [(&b"k"[..], &vec![b'v'; size][..])]);
        }
    }

    #[test]
    fn bad_records_are_refused() {
        for set in [
            "x",
            "5 a=b\n",
            "7 a=b\n",
            "6 a=bX",
            "+6 a=b\n",
            "5 ab\n",
            "5 =b\n",
            "0 a=b\n",
            "3 \n",
            "99999999999999999999 a=b\n",
            "6 a=b\n\0",
        ] {
            assert!(parse(set.as_bytes()).is_err(), "{set:?}");
        }
        assert_eq!(parse(b"8 a==b\n\n").unwrap(), [(&b"a"[..], &b"=b\n"[..])]);
    }

    #[test]
    fn times() {
        for (text, want) in [
            ("0", Some(0)),
            ("12.5", Some(12)),
            ("-1.5", Some(-2)),
            ("-1.000", Some(-1)),
            ("12.", Some(12)),
            ("", None),
            ("1e3", None),
            ("--1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), want, "{text}");
        }
    }
}
