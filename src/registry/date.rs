//! Points in time as HTTP headers write them.

use jiff::fmt::{rfc2822, strtime};
use jiff::tz::TimeZone;

/// The forms that old servers send: those of RFC 850 and of C's `asctime`.
const OBSOLETE: [&str; 2] = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// Reads an HTTP date as seconds since 1970; `None` for any other text.
///
/// Source: RFC 9110, section 5.6.7.
pub(super) fn http_date(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(date) = rfc2822::parse(text) {
        return Some(date.timestamp().as_second());
    }
    OBSOLETE.iter().find_map(|form| {
        let date = strtime::parse(form, text).ok()?.to_datetime().ok()?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms() {
        for (text, want) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            (" Sun, 06 Nov 1994 08:49:37 GMT ", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("yesterday", None),
            ("0", None),
            ("", None),
        ] {
            assert_eq!(http_date(text), want, "{text}");
        }
    }
}
