//! DNS messages: one question, and what is believed of its answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest name in a message, in bytes; and most bytes of a label.
const LONGEST_NAME: usize = 255;
const LONGEST_LABEL: usize = 63;
/// Most addresses that are taken from one answer.
const MOST_ADDRESSES: usize = 64;
/// Most aliases that are followed in one answer.
const MOST_ALIASES: usize = 16;
/// The class of the Internet.
const INTERNET: u16 = 1;
/// The type of an alias.
const CNAME: u16 = 5;
/// Bytes of a message's head.
const HEAD: usize = 12;

/// Which addresses are asked for: the numbers of record types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// IPv4.
    A = 1,
    /// IPv6.
    Aaaa = 28,
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The addresses, also none.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    Unknown,
    /// It did not fit: ask again by TCP.
    Truncated,
    /// The server cannot or will not say; its code.
    Failed(u8),
}

/// The message that asks for `name`; `None` where that cannot be a name.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    // One question; the server is to find the answer wherever it is.
    let mut message = Vec::with_capacity(HEAD + name.len() + 6);
    message.extend(id.to_be_bytes());
    message.extend([0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        if label.is_empty()
            || label.len() > LONGEST_LABEL
            || !label.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return None;
        }
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    if message.len() - HEAD > LONGEST_NAME {
        return None;
    }
    message.extend((kind as u16).to_be_bytes());
    message.extend(INTERNET.to_be_bytes());
    Some(message)
}

/// Reads what came for `question`; `None` for what is no answer to it, or is broken.
pub(super) fn answer(message: &[u8], question: &[u8]) -> Option<Answer> {
    let (mut asked, mut got) = (Reader::new(question)?, Reader::new(message)?);
    let flags = u16::from_be_bytes([message[2], message[3]]);
    let code = (flags & 0x0f) as u8;
    let count = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    // The same id, an answer, to a query.
    if message[..2] != question[..2] || flags & 0xf800 != 0x8000 {
        return None;
    }
    // A server that could not read the question may leave it out.
    if count(4) == 0 && !matches!(code, 0 | 3) {
        return Some(Answer::Failed(code));
    }
    let name = asked.name()?;
    let kind = asked.number()?;
    if count(4) != 1 || got.name()? != name || got.number()? != kind || got.number()? != INTERNET {
        return None;
    }
    match code {
        0 if flags & 0x0200 != 0 => return Some(Answer::Truncated),
        0 => {}
        3 => return Some(Answer::Unknown),
        code => return Some(Answer::Failed(code)),
    }
    let (mut addresses, mut aliases) = (Vec::new(), Vec::new());
    for _ in 0..count(6) {
        let owner = got.name()?;
        let (record, class) = (got.number()?, got.number()?);
        // How long it may be kept: it is used once.
        got.take(4)?;
        let length = got.number()?;
        let start = got.at;
        let data = got.take(length.into())?;
        if class != INTERNET {
            continue;
        }
        if record == CNAME {
            aliases.push((owner, Reader { message, at: start }.name()?));
        } else if record == kind {
            let address = match <[u8; 4]>::try_from(data) {
                Ok(bytes) if kind == Kind::A as u16 => Ipv4Addr::from(bytes).into(),
                _ if kind == Kind::Aaaa as u16 => Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into(),
                _ => return None,
            };
            addresses.push((owner, address));
        }
    }
    Some(Answer::Addresses(follow(name, &addresses, &aliases)))
}

/// The addresses of `name`, by way of aliases; records of other names do not count.
fn follow(mut name: Vec<u8>, addresses: &[(Vec<u8>, IpAddr)], aliases: &[(Vec<u8>, Vec<u8>)]) -> Vec<IpAddr> {
    for _ in 0..=MOST_ALIASES {
        let of_name = addresses.iter().filter(|(owner, _)| *owner == name);
        let found: Vec<IpAddr> = of_name.map(|(_, address)| *address).take(MOST_ADDRESSES).collect();
        if !found.is_empty() {
            return found;
        }
        match aliases.iter().find(|(owner, _)| *owner == name) {
            Some((_, target)) => name.clone_from(target),
            None => break,
        }
    }
    Vec::new()
}

/// Reads a message behind its head.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(message: &'a [u8]) -> Option<Self> {
        (message.len() >= HEAD).then_some(Self { message, at: HEAD })
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let bytes = self.message.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A name in small letters, as labels behind their lengths.
    fn name(&mut self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        // The rest of a name may stand at an earlier place; each place before the last one, so that
        // this ends.
        let (mut at, mut before, mut end) = (self.at, self.at, None);
        loop {
            let length = *self.message.get(at)?;
            match length {
                0 => break,
                1..=63 => {
                    let label = self.message.get(at..at + 1 + usize::from(length))?;
                    name.push(length);
                    name.extend(label[1..].iter().map(u8::to_ascii_lowercase));
                    if name.len() >= LONGEST_NAME {
                        return None;
                    }
                    at += label.len();
                }
                0xc0.. => {
                    let place = usize::from(length & 0x3f) << 8 | usize::from(*self.message.get(at + 1)?);
                    if place >= before {
                        return None;
                    }
                    end = end.or(Some(at + 2));
                    (at, before) = (place, place);
                }
                _ => return None,
            }
        }
        self.at = end.unwrap_or(at + 1);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to the question, with these flags and records.
    fn reply(question: &[u8], flags: u16, records: &[&[u8]]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        message.extend(records.concat());
        message
    }

    /// A record of the name at `owner`.
    fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
        let mut record = owner.to_vec();
        record.extend(kind.to_be_bytes());
        record.extend([0, 1, 0, 0, 0, 60]);
        record.extend((data.len() as u16).to_be_bytes());
        record.extend(data);
        record
    }

    const ITSELF: &[u8] = &[0xc0, 12];
    const OTHER: &[u8] = b"\x05other\x00";

    #[test]
    fn questions() {
        let want = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01r\x07example\0\0\x1c\0\x01";
        assert_eq!(question(0x1234, "r.example", Kind::Aaaa).unwrap(), want);
        for bad in ["", ".", "a..b", ".a", "a b", "ä", &"a".repeat(64), &["a"; 128].join(".")] {
            assert_eq!(question(1, bad, Kind::A), None, "{bad}");
        }
        assert!(question(1, &["a"; 127].join("."), Kind::A).is_some());
    }

    #[test]
    fn answers() {
        let asked = question(7, "R.example", Kind::A).unwrap();
        let alias = record(ITSELF, CNAME, OTHER);
        let (of_itself, of_other) = (record(ITSELF, 1, &[10, 0, 0, 1]), record(OTHER, 1, &[10, 0, 0, 2]));
        let loops = [record(ITSELF, CNAME, OTHER), record(OTHER, CNAME, ITSELF)];
        let found = |addresses: &[[u8; 4]]| {
            Some(Answer::Addresses(addresses.iter().map(|bytes| Ipv4Addr::from(*bytes).into()).collect()))
        };
        for (what, flags, records, want) in [
            ("plain", 0x8180, &[&of_itself[..]][..], found(&[[10, 0, 0, 1]])),
            ("two", 0x8180, &[&of_itself, &of_itself], found(&[[10, 0, 0, 1]; 2])),
            ("alias", 0x8180, &[&alias, &of_other], found(&[[10, 0, 0, 2]])),
            ("alias last", 0x8180, &[&of_other, &alias], found(&[[10, 0, 0, 2]])),
            ("somebody else's", 0x8180, &[&of_other], found(&[])),
            ("aliases in a circle", 0x8180, &[&loops[0], &loops[1]], found(&[])),
            ("none", 0x8180, &[], found(&[])),
            ("another type", 0x8180, &[&record(ITSELF, 16, b"text")], found(&[])),
            ("another length", 0x8180, &[&record(ITSELF, 1, &[0; 16])], None),
            ("unknown", 0x8183, &[], Some(Answer::Unknown)),
            ("server failure", 0x8182, &[], Some(Answer::Failed(2))),
            ("truncated", 0x8380, &[], Some(Answer::Truncated)),
            ("no answer", 0x0180, &[&of_itself], None),
            ("not to a query", 0x8980, &[&of_itself], None),
        ] {
            assert_eq!(answer(&reply(&asked, flags, records), &asked), want, "{what}");
        }
        for other in [
            question(8, "r.example", Kind::A),
            question(7, "q.example", Kind::A),
            question(7, "r.example", Kind::Aaaa),
        ] {
            assert_eq!(answer(&reply(&other.unwrap(), 0x8180, &[&of_itself]), &asked), None);
        }
        // The case of letters does not matter.
        let small = question(7, "r.EXAMPLE", Kind::A).unwrap();
        assert_eq!(answer(&reply(&small, 0x8180, &[&of_itself]), &asked), found(&[[10, 0, 0, 1]]));
        // Without the question.
        let mut bare = reply(&asked, 0x8181, &[])[..HEAD].to_vec();
        bare[5] = 0;
        assert_eq!(answer(&bare, &asked), Some(Answer::Failed(1)));
        let six = question(7, "r.example", Kind::Aaaa).unwrap();
        let reply = reply(&six, 0x8180, &[&record(ITSELF, 28, &Ipv6Addr::LOCALHOST.octets())]);
        assert_eq!(answer(&reply, &six), Some(Answer::Addresses(vec![Ipv6Addr::LOCALHOST.into()])));
    }

    #[test]
    fn broken_answers() {
        let asked = question(7, "r.example", Kind::A).unwrap();
        let whole =
            reply(&asked, 0x8180, &[&record(ITSELF, CNAME, OTHER), &record(OTHER, 1, &[10, 0, 0, 2])]);
        for length in 0..whole.len() {
            assert_eq!(answer(&whole[..length], &asked), None, "{length} bytes");
        }
        // A name that goes on at itself, ahead, or for ever.
        let at = asked.len() as u8;
        for owner in [vec![0xc0, at], vec![0xc0, at + 2], vec![0x80, 0], [[63; 64]; 4].concat()] {
            let broken = reply(&asked, 0x8180, &[&record(&owner, 1, &[10, 0, 0, 1])]);
            assert_eq!(answer(&broken, &asked), None, "{owner:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..80), count in 0_u16..9) {
            let asked = question(7, "r.example", Kind::A).unwrap();
            let mut message = reply(&asked, 0x8180, &[]);
            message[6..8].copy_from_slice(&count.to_be_bytes());
            message.extend(tail);
            answer(&message, &asked);
        }
    }
}
