//! Names of signals, for STOPSIGNAL.
//!
//! Owns: telling a signal that Linux has from a slip of the pen. The text is
//! stored as written. Refuses: unknown names, 0, negative numbers.
//!
//! Sources: BuildKit's Dockerfile reference.

use super::suggest;

/// The names without `SIG`; the real-time ones are computed.
const NAMES: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// Accepts `SIGTERM`, `TERM`, `SIGRTMIN+3`, `RTMAX-1` (in any case) and numbers.
///
/// # Errors
///
/// `invalid signal: TEXT`, with the signal that was probably meant.
pub fn check(text: &str) -> Result<(), String> {
    let known = match text.parse::<i32>() {
        Ok(number) => number > 0,
        Err(_) => {
            let name = text.to_ascii_uppercase();
            let name = name.strip_prefix("SIG").unwrap_or(&name);
            NAMES.contains(&name) || is_real_time(name)
        }
    };
    if known { Ok(()) } else { Err(format!("invalid signal: {text}{}", meant(text))) }
}

/// ` (did you mean X?)`, where a name with the same first letter is near, and the word has more than
/// three letters: the names are short, and almost any word would be near to one.
fn meant(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    let (prefix, name) = match upper.strip_prefix("SIG") {
        Some(name) => ("SIG", name),
        None => ("", upper.as_str()),
    };
    let first = name.chars().next();
    let known = NAMES.iter().filter(|known| name.len() > 3 && known.chars().next() == first);
    suggest::nearest(name, known).map(|name| format!(" (did you mean {prefix}{name}?)")).unwrap_or_default()
}

/// `RTMIN`, `RTMIN+1` to `+15`, `RTMAX-14` to `-1`, `RTMAX`.
fn is_real_time(name: &str) -> bool {
    let (offset, sign, last) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(offset), _) => (offset, '+', 15),
        (_, Some(offset)) => (offset, '-', 14),
        (None, None) => return false,
    };
    let Some(digits) = offset.strip_prefix(sign) else {
        return offset.is_empty();
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    plain && digits.parse::<u8>().is_ok_and(|number| number <= last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for text in [
            "SIGTERM",
            "TERM",
            "term",
            "SigKill",
            "9",
            "15",
            "64",
            "SIGRTMIN",
            "RTMIN+1",
            "SIGRTMIN+15",
            "RTMAX",
            "SIGRTMAX-14",
            "rtmax-1",
            "USR1",
            "SIGSTKFLT",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in [
            "NOPE",
            "",
            "SIG",
            "0",
            "-9",
            "SIGSIGTERM",
            "RTMIN+16",
            "RTMIN+0",
            "RTMIN-1",
            "RTMAX-15",
            "RTMAX+1",
            "RTMIN+",
            "RTMIN++1",
            "99999999999",
            "\u{e9}",
        ] {
            assert_eq!(check(text), Err(format!("invalid signal: {text}")));
        }
        for (text, want) in
            [("SIGTEMR", "SIGTERM"), ("sigint1", "SIGINT"), ("TERM ", "TERM"), ("QUITT", "QUIT")]
        {
            assert_eq!(check(text), Err(format!("invalid signal: {text} (did you mean {want}?)")));
        }
    }
}
