//! User and group id maps: those of this process, and the subordinate ranges of a user.
//!
//! Owns: parsing of `/proc/PID/uid_map`, `/etc/subuid` and `/etc/subgid`.
//!
//! Sources: user_namespaces(7), subuid(5).

use std::fmt;

/// A run of consecutive ids, one line of `/proc/PID/uid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id as seen inside the namespace.
    pub inside: u32,
    /// First id as seen in the parent namespace.
    pub outside: u32,
    /// Number of ids.
    pub count: u32,
}

/// How the ids of the build's user namespace come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
    /// Whether every id stands for itself, as it does for a root that starts a build.
    pub identity: bool,
}

impl Mapping {
    /// The map of a process that is root in its namespace, and has no other id.
    pub(super) fn single() -> Self {
        let only = |outside| vec![IdRange { inside: 0, outside, count: 1 }];
        Self {
            uids: only(rustix::process::geteuid().as_raw()),
            gids: only(rustix::process::getegid().as_raw()),
            identity: false,
        }
    }

    /// Whether files of this user and group can be owned by them in the namespace.
    pub fn has(&self, uid: u32, gid: u32) -> bool {
        let within = |ranges: &[IdRange], id: u32| {
            ranges.iter().any(|range| range.inside <= id && id - range.inside < range.count)
        };
        within(&self.uids, uid) && within(&self.gids, gid)
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.identity {
            return f.write_str("user namespace with every id of root");
        }
        let ids: u64 = self.uids.iter().map(|range| u64::from(range.count)).sum();
        if ids == 1 {
            return f.write_str("user namespace with one id");
        }
        write!(f, "user namespace with {ids} ids")?;
        match self.uids.get(1) {
            Some(range) => write!(f, ", subordinate ids from {}", range.outside),
            None => Ok(()),
        }
    }
}

/// Parses the content of `/proc/PID/uid_map` or `gid_map`; lines that are none are left out.
pub(super) fn parse_map(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().map(str::parse);
            let inside = fields.next()?.ok()?;
            let outside = fields.next()?.ok()?;
            let count = fields.next()?.ok()?;
            Some(IdRange { inside, outside, count })
        })
        .collect()
}

/// The map of a nested namespace in which every id of a namespace with map `own` stands for
/// itself.
pub(super) fn nested(own: &[IdRange]) -> Vec<IdRange> {
    own.iter().map(|range| IdRange { outside: range.inside, ..*range }).collect()
}

/// The map as the kernel takes it: in one write, a line for each range.
pub(super) fn render(ranges: &[IdRange]) -> String {
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
}

/// The map of a plain user: id 0 is the user's own, 1 and on are the subordinate ids.
pub(super) fn with_subordinate(own: u32, subordinate: &[(u32, u32)]) -> Vec<IdRange> {
    let mut ranges = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut inside = 1u32;
    for &(outside, count) in subordinate {
        // More ids than fit are of no use: the rest of the range is left out.
        let count = count.min(u32::MAX - 1 - inside);
        if count > 0 {
            ranges.push(IdRange { inside, outside, count });
            inside += count;
        }
    }
    ranges
}

/// The ranges, as first id and count, that `/etc/subuid` or `/etc/subgid` gives to a user by name
/// or by number.
///
/// Lines with another shape than `NAME:START:COUNT` and ranges beyond 32 bits are left out, as
/// newuidmap does.
pub(super) fn parse_subordinate(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let start: u32 = fields.next()?.trim().parse().ok()?;
            let count: u32 = fields.next()?.trim().parse().ok()?;
            let mine = name == Some(owner) || number == owner;
            let whole = fields.next().is_none() && count > 0 && start.checked_add(count).is_some();
            (mine && whole).then_some((start, count))
        })
        .collect()
}

/// The name of a user by number in the content of `/etc/passwd`.
///
/// The file alone is read: no name service is asked.
pub(super) fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    #[test]
    fn maps() {
        let text = "         0       1000          1\n         1     100000      65536\n";
        let own = parse_map(text);
        assert_eq!(own, [range(0, 1000, 1), range(1, 100_000, 65536)]);
        assert_eq!(render(&nested(&own)), "0 0 1\n1 1 65536\n");
        let host = parse_map("0 0 4294967295\n");
        assert_eq!(render(&nested(&host)), "0 0 4294967295\n");
        assert_eq!(parse_map("junk\n1 2\n-1 0 5\n"), []);
    }

    #[test]
    fn subordinate_ids() {
        let text = "# comment\nalice:100000:65536\n1000:300000:10\nbob:1:2\nalice:x:1\n\
                    alice:4294967295:1\nalice:7:0\nalice:5:6:7\nalice:400000:1\n";
        let found = parse_subordinate(text, Some("alice"), 1000);
        assert_eq!(found, [(100_000, 65536), (300_000, 10), (400_000, 1)]);
        assert_eq!(parse_subordinate(text, None, 1000), [(300_000, 10)]);
        assert_eq!(parse_subordinate(text, Some("carol"), 1001), []);
    }

    #[test]
    fn map_of_a_plain_user() {
        assert_eq!(
            with_subordinate(1000, &[(100_000, 65536), (300_000, 10)]),
            [range(0, 1000, 1), range(1, 100_000, 65536), range(65537, 300_000, 10)]
        );
        let whole = with_subordinate(5, &[(10, u32::MAX - 20), (1, 100)]);
        let last = whole.last().unwrap();
        assert!(last.inside.checked_add(last.count).is_some());
    }

    #[test]
    fn names() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nalice:x:1000:1000::/:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("alice"));
        assert_eq!(user_name(passwd, 1001), None);
    }

    #[test]
    fn display() {
        let uids = with_subordinate(1000, &[(100_000, 65536)]);
        let mapping = Mapping { gids: uids.clone(), uids, identity: false };
        assert_eq!(mapping.to_string(), "user namespace with 65537 ids, subordinate ids from 100000");
    }
}
