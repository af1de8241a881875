//! What the mode of a file lets a simulated user do.

use rustix::io::Errno;

use super::credentials::Credentials;
use super::owners::Owner;

/// To read, to write, to execute or search: the bits of a mode for one class of users.
pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const EXECUTE: u32 = 1;
/// Only the owner of a file takes it out of such a directory.
const STICKY: u32 = 0o1000;

/// Checks that a user may do all of `wanted` with a file.
pub(super) fn check(
    credentials: &Credentials,
    owner: Owner,
    is_directory: bool,
    wanted: u32,
) -> Result<(), Errno> {
    let granted = if credentials.file_user() == 0 {
        let executable = is_directory || owner.mode & 0o111 != 0;
        READ | WRITE | if executable { EXECUTE } else { 0 }
    } else if credentials.file_user() == owner.uid {
        owner.mode >> 6
    } else if credentials.is_member(owner.gid) {
        owner.mode >> 3
    } else {
        owner.mode
    };
    if wanted & !granted == 0 { Ok(()) } else { Err(Errno::ACCESS) }
}

/// Checks that a user may change mode and times of a file.
pub(super) fn check_owner(credentials: &Credentials, owner: Owner) -> Result<(), Errno> {
    let owns = credentials.file_user() == 0 || credentials.file_user() == owner.uid;
    if owns { Ok(()) } else { Err(Errno::PERM) }
}

/// Checks that a user may take a file out of a directory in which it may write.
pub(super) fn check_sticky(credentials: &Credentials, parent: Owner, file: Owner) -> Result<(), Errno> {
    if parent.mode & STICKY == 0 || check_owner(credentials, parent).is_ok() {
        return Ok(());
    }
    check_owner(credentials, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Identity;

    fn user(uid: u32) -> Credentials {
        Credentials::of(&Identity { uid, gid: uid, groups: vec![50], home: String::new() })
    }

    #[test]
    fn modes_count_for_users_and_not_for_root() {
        let owner = |mode| Owner { uid: 5, gid: 50, mode };
        let allowed = |uid, mode, wanted| check(&user(uid), owner(mode), false, wanted).is_ok();
        for (uid, mode, wanted, expected) in [
            (0, 0o000, READ | WRITE, true),
            (0, 0o000, EXECUTE, false),
            (0, 0o001, EXECUTE, true),
            (5, 0o400, READ, true),
            (5, 0o077, READ, false),
            (6, 0o040, READ, true),
            (6, 0o604, READ, false),
        ] {
            assert_eq!(allowed(uid, mode, wanted), expected, "{uid} {mode:o} {wanted}");
        }
        assert!(check(&user(0), owner(0), true, EXECUTE).is_ok());
        let (directory, file) =
            (Owner { uid: 0, gid: 0, mode: 0o1777 }, Owner { uid: 7, gid: 7, mode: 0o666 });
        assert!(check_sticky(&user(7), directory, file).is_ok());
        assert_eq!(check_sticky(&user(8), directory, file), Err(Errno::PERM));
    }
}
