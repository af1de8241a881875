//! The ids that this process could give to a user namespace.

use std::fs;

use super::super::mapping;

/// Ids of a user, as the machine's files give them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// Name of the user, or its number where it has no name.
    pub user: String,
    /// Whether it is root, which gives the ids that it has itself.
    pub is_root: bool,
    /// First id and number of each range of user ids.
    pub uids: Vec<(u32, u32)>,
    /// First id and number of each range of group ids.
    pub gids: Vec<(u32, u32)>,
}

/// Reads the ids of this process's user: those of its namespace for root, subordinate ones for others.
pub fn ids() -> Ids {
    let read = |file: &str| {
        fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    };
    let uid = rustix::process::geteuid().as_raw();
    let passwd = read("/etc/passwd");
    let name = mapping::user_name(&passwd, uid);
    let ranges = |own: &str, subordinate: &str| {
        if uid == 0 {
            return mapping::parse_map(&read(own)).iter().map(|range| (range.inside, range.count)).collect();
        }
        mapping::parse_subordinate(&read(subordinate), name, uid)
    };
    Ids {
        is_root: uid == 0,
        uids: ranges("/proc/self/uid_map", "/etc/subuid"),
        gids: ranges("/proc/self/gid_map", "/etc/subgid"),
        user: name.map_or_else(|| uid.to_string(), str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_the_ids_of_its_namespace() {
        let found = ids();
        if found.is_root {
            assert!(!found.uids.is_empty() && !found.gids.is_empty());
        }
        assert!(!found.user.is_empty());
    }
}
