//! Credentials that a process believes to have, and the rules by which it changes them.
//!
//! Sources: credentials(7), setuid(2), setresuid(2), setfsuid(2), setgroups(2), execve(2).

use rustix::io::Errno;

use crate::image::Identity;

/// Supplementary groups that a process can have.
const GROUP_LIMIT: usize = 65_536;

/// User and group ids of a process: real, effective, saved, and for files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) ruid: u32,
    pub(super) euid: u32,
    pub(super) suid: u32,
    pub(super) fsuid: u32,
    pub(super) rgid: u32,
    pub(super) egid: u32,
    pub(super) sgid: u32,
    pub(super) fsgid: u32,
    pub(super) groups: Vec<u32>,
}

impl Credentials {
    /// Those of a user who has just logged in.
    pub(super) fn of(identity: &Identity) -> Self {
        let (uid, gid) = (identity.uid, identity.gid);
        Self {
            ruid: uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            rgid: gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: identity.groups.clone(),
        }
    }

    /// Whether the process may do what is root's.
    pub(super) fn is_root(&self) -> bool {
        self.euid == 0
    }

    /// Whether new files are root's, as the kernel makes them.
    pub(super) fn makes_files_of_root(&self) -> bool {
        self.fsuid == 0 && self.fsgid == 0
    }

    /// Whether access to files counts the process to the group.
    pub(super) fn is_member(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
