//! Credentials that a process believes to have, and the rules by which it changes them.
//!
//! A process whose effective user is root counts as one with every capability, and any other as one with
//! none.
//!
//! Sources: credentials(7), setuid(2), setresuid(2), setfsuid(2), setgroups(2), execve(2).

use rustix::io::Errno;

use crate::image::Identity;

/// Supplementary groups that a process can have.
pub(super) const GROUP_LIMIT: usize = 65_536;

/// The id that stands for "as it is", and that nobody has.
const KEEP: u32 = u32::MAX;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o010;

/// Four ids: of a process's users, or of its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ids {
    /// Who started it.
    pub(super) real: u32,
    /// Whose rights it has.
    pub(super) effective: u32,
    /// Whose rights it may take on again.
    pub(super) saved: u32,
    /// Whose new files are.
    pub(super) file: u32,
}

impl Ids {
    fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, file: id }
    }

    fn has(&self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// setuid(2), setgid(2).
    fn set(self, free: bool, id: u32) -> Result<Self, Errno> {
        if id == KEEP {
            return Err(Errno::INVAL);
        }
        if free {
            return Ok(Self::all(id));
        }
        if id != self.real && id != self.saved {
            return Err(Errno::PERM);
        }
        Ok(Self { effective: id, file: id, ..self })
    }

    /// setreuid(2), setregid(2).
    fn set_two(self, free: bool, real: u32, effective: u32) -> Result<Self, Errno> {
        let may_real = real == KEEP || free || real == self.real || real == self.effective;
        if !may_real || !(effective == KEEP || free || self.has(effective)) {
            return Err(Errno::PERM);
        }
        let mut new = self;
        if real != KEEP {
            new.real = real;
        }
        if effective != KEEP {
            new.effective = effective;
        }
        if real != KEEP || effective != KEEP && effective != self.real {
            new.saved = new.effective;
        }
        new.file = new.effective;
        Ok(new)
    }

    /// setresuid(2), setresgid(2).
    fn set_three(self, free: bool, ids: [u32; 3]) -> Result<Self, Errno> {
        if !free && ids.iter().any(|id| *id != KEEP && !self.has(*id)) {
            return Err(Errno::PERM);
        }
        let chosen = |id, old| if id == KEEP { old } else { id };
        let effective = chosen(ids[1], self.effective);
        let file = if ids == [KEEP; 3] { self.file } else { effective };
        Ok(Self { real: chosen(ids[0], self.real), effective, saved: chosen(ids[2], self.saved), file })
    }

    /// setfsuid(2), setfsgid(2): what is not permitted has no effect.
    fn set_file(self, free: bool, id: u32) -> Self {
        let permitted = id != KEEP && (free || id == self.file || self.has(id));
        Self { file: if permitted { id } else { self.file }, ..self }
    }

    /// A program is executed, as that of `effective` where it is set-id.
    fn execute(self, effective: Option<u32>) -> Self {
        let effective = effective.unwrap_or(self.effective);
        Self { effective, saved: effective, file: effective, ..self }
    }
}

/// User and group ids of a process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Credentials {
    /// Its users.
    pub(super) users: Ids,
    /// Its groups.
    pub(super) main_groups: Ids,
    /// Its supplementary groups.
    pub(super) groups: Vec<u32>,
}

/// A change that a process asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    User(u32),
    Group(u32),
    TwoUsers(u32, u32),
    TwoGroups(u32, u32),
    Users([u32; 3]),
    MainGroups([u32; 3]),
    FileUser(u32),
    FileGroup(u32),
    Groups(Vec<u32>),
    /// A program with this owner, group and mode.
    Execute(u32, u32, u32),
}

impl Credentials {
    /// Those of a user who has just logged in.
    pub(super) fn of(identity: &Identity) -> Self {
        let (users, main_groups) = (Ids::all(identity.uid), Ids::all(identity.gid));
        Self { users, main_groups, groups: sorted(&identity.groups) }
    }

    /// The user that new files belong to.
    pub(super) fn file_user(&self) -> u32 {
        self.users.file
    }

    /// The group that new files belong to, but for directories that pass on their own.
    pub(super) fn file_group(&self) -> u32 {
        self.main_groups.file
    }

    /// Whether the process may do what is root's.
    pub(super) fn is_root(&self) -> bool {
        self.users.effective == 0
    }

    /// Whether new files are root's, as the kernel makes them.
    pub(super) fn makes_files_of_root(&self) -> bool {
        self.users.file == 0 && self.main_groups.file == 0
    }

    /// Whether access to files counts the process to the group.
    pub(super) fn is_member(&self, gid: u32) -> bool {
        self.main_groups.file == gid || self.groups.contains(&gid)
    }

    /// The credentials after a change.
    ///
    /// # Errors
    ///
    /// `EPERM` or `EINVAL`, as the kernel has it.
    pub(super) fn after(&self, change: &Change) -> Result<Self, Errno> {
        let root = self.is_root();
        let users = |users| Self { users, ..self.clone() };
        let groups = |main_groups| Self { main_groups, ..self.clone() };
        Ok(match change {
            Change::User(id) => users(self.users.set(root, *id)?),
            Change::Group(id) => groups(self.main_groups.set(root, *id)?),
            Change::TwoUsers(real, effective) => users(self.users.set_two(root, *real, *effective)?),
            Change::TwoGroups(real, effective) => groups(self.main_groups.set_two(root, *real, *effective)?),
            Change::Users(ids) => users(self.users.set_three(root, *ids)?),
            Change::MainGroups(ids) => groups(self.main_groups.set_three(root, *ids)?),
            Change::FileUser(id) => users(self.users.set_file(root, *id)),
            Change::FileGroup(id) => groups(self.main_groups.set_file(root, *id)),
            Change::Groups(_) if !root => return Err(Errno::PERM),
            Change::Groups(list) => Self { groups: sorted(list), ..self.clone() },
            Change::Execute(uid, gid, mode) => {
                let user = (mode & SET_UID != 0).then_some(*uid);
                let both = SET_GID | GROUP_EXECUTES;
                let group = (mode & both == both).then_some(*gid);
                Self {
                    users: self.users.execute(user),
                    main_groups: self.main_groups.execute(group),
                    groups: self.groups.clone(),
                }
            }
        })
    }
}

/// Groups in the order in which the kernel keeps them.
fn sorted(groups: &[u32]) -> Vec<u32> {
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(real: u32, effective: u32, saved: u32, file: u32) -> Ids {
        Ids { real, effective, saved, file }
    }

    fn user(users: Ids) -> Credentials {
        Credentials { users, main_groups: Ids::all(7), groups: vec![20] }
    }

    /// What a sequence of changes comes to, from the credentials of root.
    #[test]
    fn users_change_by_the_rules_of_the_kernel() {
        let root = ids(0, 0, 0, 0);
        let app = Ids::all(5);
        // A daemon that has put its rights aside, and a set-user-id program of user 5, run by 9.
        let aside = ids(0, 5, 0, 5);
        let lent = ids(9, 5, 5, 5);
        for (before, change, after) in [
            (root, Change::User(5), Ok(app)),
            (root, Change::User(KEEP), Err(Errno::INVAL)),
            (app, Change::User(0), Err(Errno::PERM)),
            (app, Change::User(5), Ok(app)),
            (aside, Change::User(0), Ok(root)),
            (lent, Change::User(9), Ok(ids(9, 9, 5, 9))),
            (lent, Change::User(8), Err(Errno::PERM)),
            (root, Change::TwoUsers(KEEP, 5), Ok(ids(0, 5, 5, 5))),
            (root, Change::TwoUsers(KEEP, 0), Ok(root)),
            (root, Change::TwoUsers(5, 5), Ok(app)),
            (lent, Change::TwoUsers(5, 9), Ok(ids(5, 9, 9, 9))),
            (lent, Change::TwoUsers(8, KEEP), Err(Errno::PERM)),
            (ids(9, 5, 3, 5), Change::TwoUsers(3, KEEP), Err(Errno::PERM)),
            (ids(9, 5, 3, 5), Change::TwoUsers(KEEP, 3), Ok(ids(9, 3, 3, 3))),
            (root, Change::Users([KEEP, 5, KEEP]), Ok(aside)),
            (aside, Change::Users([KEEP, 0, KEEP]), Ok(root)),
            (app, Change::Users([0, KEEP, KEEP]), Err(Errno::PERM)),
            (app, Change::Users([KEEP; 3]), Ok(app)),
            (ids(0, 0, 0, 5), Change::Users([KEEP; 3]), Ok(ids(0, 0, 0, 5))),
            (ids(0, 0, 0, 5), Change::Users([KEEP, KEEP, 0]), Ok(root)),
            (root, Change::FileUser(5), Ok(ids(0, 0, 0, 5))),
            (app, Change::FileUser(0), Ok(app)),
            (lent, Change::FileUser(9), Ok(ids(9, 5, 5, 9))),
            (root, Change::FileUser(KEEP), Ok(root)),
            (app, Change::Execute(0, 0, 0o4755), Ok(ids(5, 0, 0, 0))),
            (app, Change::Execute(0, 0, 0o755), Ok(app)),
            (aside, Change::Execute(0, 0, 0o755), Ok(ids(0, 5, 5, 5))),
        ] {
            let found = user(before).after(&change).map(|after| after.users);
            assert_eq!(found, after, "{before:?} {change:?}");
        }
    }

    #[test]
    fn groups_belong_to_root_and_to_set_group_id_programs() {
        let root = user(Ids::all(0));
        let app = user(Ids::all(5));
        assert_eq!(root.after(&Change::Groups(vec![2, 1])).unwrap().groups, [1, 2]);
        assert_eq!(app.after(&Change::Groups(Vec::new())), Err(Errno::PERM));
        assert_eq!(app.after(&Change::Group(20)), Err(Errno::PERM));
        assert_eq!(root.after(&Change::Group(20)).unwrap().main_groups, Ids::all(20));
        assert_eq!(root.after(&Change::MainGroups([KEEP, 4, KEEP])).unwrap().main_groups, ids(7, 4, 7, 4));
        let executed = |mode| app.after(&Change::Execute(0, 42, mode)).unwrap().main_groups;
        assert_eq!(executed(0o2755), ids(7, 42, 42, 42));
        assert_eq!(executed(0o2745), Ids::all(7));
        assert!(app.is_member(20) && app.is_member(7) && !app.is_member(5));
    }
}
