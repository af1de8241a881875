//! Users and groups of an image, from its own `/etc/passwd` and `/etc/group`.
//!
//! The host's name service is never asked: an image's `USER app` means the image's `app`.

/// The account files of an image.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    passwd: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, in the order of the group file, without the primary one.
    pub groups: Vec<u32>,
    /// Home directory; `/` where there is no passwd entry.
    pub home: String,
}

/// A user or group that cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The name stands in no passwd entry.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// The name stands in no group entry.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// A number beyond what the kernel holds.
    #[error("`{0}` is not a user or group id: ids are 0 to 2147483647")]
    OutOfRange(String),
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// What `user` or `group` text means: a number, or a name to look up.
enum Id<'a> {
    Number(u32),
    Name(&'a str),
}

/// Text of digits alone is a number, and must fit; a sign or a letter makes it a name. So no text
/// becomes root by wrapping around.
fn id(text: &str) -> Result<Id<'_>, AccountError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse::<u32>() {
            Ok(number) if number <= i32::MAX as u32 => Ok(Id::Number(number)),
            _ => Err(AccountError::OutOfRange(text.to_owned())),
        };
    }
    Ok(Id::Name(text))
}

fn lines(file: Option<&Vec<u8>>) -> impl Iterator<Item = &str> {
    file.map(Vec::as_slice)
        .unwrap_or_default()
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
}

impl Accounts {
    /// Account files by content; `None` for a missing one.
    pub fn new(passwd: Option<Vec<u8>>, group: Option<Vec<u8>>) -> Self {
        Self { passwd, group }
    }

    fn users(&self) -> impl Iterator<Item = User<'_>> {
        lines(self.passwd.as_ref()).filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            let home = fields.nth(1).unwrap_or("");
            Some(User { name, uid, gid, home })
        })
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        lines(self.group.as_ref()).filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let gid = fields.nth(1)?.parse().ok()?;
            Some(Group { name, gid, members: fields.next().unwrap_or("") })
        })
    }

    /// The names of users, in the order of the file.
    pub fn user_names(&self) -> impl Iterator<Item = &str> {
        self.users().map(|user| user.name)
    }

    /// The names of groups, in the order of the file.
    pub fn group_names(&self) -> impl Iterator<Item = &str> {
        self.groups().map(|group| group.name)
    }

    fn find_user(&self, text: &str) -> Result<(u32, Option<User<'_>>), AccountError> {
        match id(text)? {
            Id::Number(uid) => Ok((uid, self.users().find(|user| user.uid == uid))),
            Id::Name(name) => match self.users().find(|user| user.name == name) {
                Some(user) => Ok((user.uid, Some(user))),
                None => Err(AccountError::NoUser(name.to_owned())),
            },
        }
    }

    fn find_group(&self, text: &str) -> Result<u32, AccountError> {
        match id(text)? {
            Id::Number(gid) => Ok(gid),
            Id::Name(name) => self
                .groups()
                .find(|group| group.name == name)
                .map(|group| group.gid)
                .ok_or_else(|| AccountError::NoGroup(name.to_owned())),
        }
    }

    /// Resolves USER text, `user[:group]`, names or numbers; empty means root.
    ///
    /// A user without group gets the primary and supplementary groups of its entries; an unknown
    /// number gets group 0 and no others; an explicit group is the only one. The group is also the
    /// first of the supplementary ones, so that a set-group-id program cannot get rid of it.
    ///
    /// # Errors
    ///
    /// Fails for an unknown name and for a number above 2147483647.
    pub fn identity(&self, text: &str) -> Result<Identity, AccountError> {
        let (user_text, group_text) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let user_text = if user_text.is_empty() { "0" } else { user_text };
        let (uid, user) = self.find_user(user_text)?;
        let home = user.as_ref().map(|user| user.home).filter(|home| !home.is_empty());
        let home = home.unwrap_or("/").to_owned();
        if let Some(group) = group_text {
            let gid = self.find_group(group)?;
            return Ok(Identity { uid, gid, groups: vec![gid], home });
        }
        let gid = user.as_ref().map_or(0, |user| user.gid);
        let mut groups = vec![gid];
        if let Some(user) = &user {
            for group in self.groups() {
                let member = group.members.split(',').any(|member| member.trim() == user.name);
                if member && !groups.contains(&group.gid) {
                    groups.push(group.gid);
                }
            }
        }
        Ok(Identity { uid, gid, groups, home })
    }

    /// Resolves `--chown` text: `u`, `u:g` or `:g`, names or numbers, to user and group id.
    ///
    /// A name alone brings its primary group; a number alone is its own group.
    ///
    /// # Errors
    ///
    /// Fails for an unknown name and for a number above 2147483647.
    pub fn owner(&self, text: &str) -> Result<(u32, u32), AccountError> {
        let (user_text, group_text) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let (uid, primary) = match user_text {
            "" => (0, 0),
            text => match (id(text)?, self.find_user(text)?) {
                (Id::Number(uid), _) => (uid, uid),
                (Id::Name(_), (uid, user)) => (uid, user.map_or(0, |user| user.gid)),
            },
        };
        match group_text {
            None | Some("") => Ok((uid, primary)),
            Some(group) => Ok((uid, self.find_group(group)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::new(
            Some(b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbad line\n\xff:x:1:1::/:\n".to_vec()),
            Some(b"root:x:0:\nweb:x:33:app,other\napp:x:1001:app\nlog:x:44:root,app\n".to_vec()),
        )
    }

    fn identity(text: &str) -> (u32, u32, Vec<u32>, String) {
        let found = accounts().identity(text).unwrap();
        (found.uid, found.gid, found.groups, found.home)
    }

    #[test]
    fn users() {
        assert_eq!(identity(""), (0, 0, vec![0, 44], "/root".into()));
        assert_eq!(identity("app"), (1000, 1001, vec![1001, 33, 44], "/home/app".into()));
        assert_eq!(identity("1000"), (1000, 1001, vec![1001, 33, 44], "/home/app".into()));
        assert_eq!(identity("4242"), (4242, 0, vec![0], "/".into()));
        assert_eq!(identity("app:web"), (1000, 33, vec![33], "/home/app".into()));
        assert_eq!(identity("7:8"), (7, 8, vec![8], "/".into()));
    }

    #[test]
    fn nothing_becomes_root_by_accident() {
        for text in ["4294967296", "-1", "2147483648:0", "0x0", "1e3", "nosuch", "app:nosuch"] {
            assert!(accounts().identity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn owners() {
        let owner = |text: &str| accounts().owner(text);
        assert_eq!(owner("app"), Ok((1000, 1001)));
        assert_eq!(accounts().user_names().collect::<Vec<_>>(), ["root", "app"]);
        assert_eq!(accounts().group_names().collect::<Vec<_>>(), ["root", "web", "app", "log"]);
        assert_eq!(owner("77"), Ok((77, 77)));
        assert_eq!(owner(":web"), Ok((0, 33)));
        assert_eq!(owner("1:2"), Ok((1, 2)));
        assert_eq!(owner("app:5"), Ok((1000, 5)));
        assert_eq!(owner("nosuch"), Err(AccountError::NoUser("nosuch".into())));
    }
}
