//! Calls by which a process asks for its credentials, or changes them.
//!
//! Sources: getresuid(2), getgroups(2), setgroups(2), capset(2), getrlimit(2).

use nix::libc;
use rustix::io::Errno;

use super::credential_sets::CredentialSets;
use super::credentials::{Change, Credentials, GROUP_LIMIT};
use super::notification::Answer;
use super::task::Task;

/// The calls that [`answer`] knows.
pub(super) const CALLS: [libc::c_long; 21] = [
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    // The limit that carries the number of the credentials, and no other one.
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
    libc::SYS_prlimit64,
    libc::SYS_chroot,
];

/// Answers one of [`CALLS`]; `None` for another.
pub(super) fn answer(
    sets: &CredentialSets,
    task: &Task<'_>,
    call: libc::c_long,
    arguments: &[u64; 6],
) -> Option<Answer> {
    let [first, second, third] = [arguments[0] as u32, arguments[1] as u32, arguments[2] as u32];
    let change = match call {
        libc::SYS_setuid => Change::User(first),
        libc::SYS_setgid => Change::Group(first),
        libc::SYS_setreuid => Change::TwoUsers(first, second),
        libc::SYS_setregid => Change::TwoGroups(first, second),
        libc::SYS_setresuid => Change::Users([first, second, third]),
        libc::SYS_setresgid => Change::MainGroups([first, second, third]),
        libc::SYS_setfsuid => Change::FileUser(first),
        libc::SYS_setfsgid => Change::FileGroup(first),
        libc::SYS_setgroups => match read_groups(task, arguments[1], first) {
            Ok(groups) => Change::Groups(groups),
            Err(errno) => return Some(Answer::Failed(errno)),
        },
        _ => return asked(sets, task, call, arguments),
    };
    if !task.is_waiting() {
        return Some(Answer::Failed(Errno::SRCH));
    }
    Some(match (sets.change(task.thread(), &change), change) {
        (Ok(before), Change::FileUser(_)) => Answer::Value(before.users.file.into()),
        (Ok(before), Change::FileGroup(_)) => Answer::Value(before.main_groups.file.into()),
        (result, _) => result.map(drop).into(),
    })
}

/// Answers a question.
fn asked(sets: &CredentialSets, task: &Task<'_>, call: libc::c_long, arguments: &[u64; 6]) -> Option<Answer> {
    let limit = |resource: u64, old: u64| {
        if resource as u32 != libc::RLIMIT_RTTIME {
            return Answer::Continue;
        }
        if old == 0 {
            return Answer::DONE;
        }
        let (soft, hard) = sets.shown_limit();
        task.write(old, &[soft.to_ne_bytes(), hard.to_ne_bytes()].concat()).into()
    };
    match call {
        libc::SYS_getrlimit => return Some(limit(arguments[0], arguments[1])),
        libc::SYS_setrlimit => return Some(limit(arguments[0], 0)),
        libc::SYS_prlimit64 => return Some(limit(arguments[1], arguments[3])),
        _ => {}
    }
    let credentials = match sets.of(task.thread()) {
        Ok(credentials) => credentials,
        Err(errno) => return Some(Answer::Failed(errno)),
    };
    let Credentials { users, main_groups, groups } = &*credentials;
    let three = |ids: [u32; 3]| {
        let written = ids.iter().zip(arguments).try_for_each(|(id, at)| task.write(*at, &id.to_ne_bytes()));
        Answer::from(written)
    };
    Some(match call {
        libc::SYS_getuid => Answer::Value(users.real.into()),
        libc::SYS_geteuid => Answer::Value(users.effective.into()),
        libc::SYS_getgid => Answer::Value(main_groups.real.into()),
        libc::SYS_getegid => Answer::Value(main_groups.effective.into()),
        libc::SYS_getresuid => three([users.real, users.effective, users.saved]),
        libc::SYS_getresgid => three([main_groups.real, main_groups.effective, main_groups.saved]),
        libc::SYS_getgroups => match write_groups(task, groups, arguments[0] as i32, arguments[1]) {
            Ok(count) => Answer::Value(count),
            Err(errno) => Answer::Failed(errno),
        },
        // Root's capabilities are the kernel's. Without real ones, another user could not read what belongs
        // to it: to the kernel that is root's.
        libc::SYS_capset if credentials.is_root() => Answer::Continue,
        libc::SYS_capset => Answer::DONE,
        libc::SYS_chroot if credentials.is_root() => Answer::Continue,
        libc::SYS_chroot => Answer::Failed(Errno::PERM),
        _ => return None,
    })
}

fn read_groups(task: &Task<'_>, address: u64, count: u32) -> Result<Vec<u32>, Errno> {
    let count = count as usize;
    if count > GROUP_LIMIT {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![0; count * 4];
    if count > 0 {
        task.read(address, &mut bytes)?;
    }
    let (ids, _) = bytes.as_chunks::<4>();
    Ok(ids.iter().map(|id| u32::from_ne_bytes(*id)).collect())
}

fn write_groups(task: &Task<'_>, groups: &[u32], room: i32, address: u64) -> Result<i64, Errno> {
    let room = usize::try_from(room).map_err(|_| Errno::INVAL)?;
    if room > 0 {
        if groups.len() > room {
            return Err(Errno::INVAL);
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|id| id.to_ne_bytes()).collect();
        if !bytes.is_empty() {
            task.write(address, &bytes)?;
        }
    }
    Ok(groups.len() as i64)
}
