//! Extended attributes.
//!
//! Those in which owners and modes are recorded do not exist for a command. Those with a meaning for the
//! kernel cannot be set, as in any container without privileges: programs that want capabilities fall back
//! to set-id bits.

use nix::libc;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::image::OWNER_RECORD;

use super::super::super::notification::Answer;
use super::super::access::{READ, WRITE};
use super::super::walk::Found;
use super::{Call, Outcome, done};

/// The kernel's bounds on a name and a value.
const NAME_LIMIT: usize = 255;
const VALUE_LIMIT: usize = 65_536;
/// Attributes that users may set.
const OF_USERS: &[u8] = b"user.";
/// Attributes of our own.
const OWN: &[u8] = b"user.fanfold.";

/// setxattr(2)
pub(in super::super) fn setxattr(call: &Call<'_>) -> Outcome {
    set(call, &named(call, true, true)?)
}

/// lsetxattr(2)
pub(in super::super) fn lsetxattr(call: &Call<'_>) -> Outcome {
    set(call, &named(call, false, true)?)
}

/// fsetxattr(2)
pub(in super::super) fn fsetxattr(call: &Call<'_>) -> Outcome {
    set(call, &opened(call, true)?)
}

/// getxattr(2)
pub(in super::super) fn getxattr(call: &Call<'_>) -> Outcome {
    get(call, &named(call, true, false)?)
}

/// lgetxattr(2)
pub(in super::super) fn lgetxattr(call: &Call<'_>) -> Outcome {
    get(call, &named(call, false, false)?)
}

/// fgetxattr(2)
pub(in super::super) fn fgetxattr(call: &Call<'_>) -> Outcome {
    get(call, &opened(call, false)?)
}

/// listxattr(2)
pub(in super::super) fn listxattr(call: &Call<'_>) -> Outcome {
    list(call, &named(call, true, false)?)
}

/// llistxattr(2)
pub(in super::super) fn llistxattr(call: &Call<'_>) -> Outcome {
    list(call, &named(call, false, false)?)
}

/// flistxattr(2)
pub(in super::super) fn flistxattr(call: &Call<'_>) -> Outcome {
    list(call, &opened(call, false)?)
}

/// removexattr(2)
pub(in super::super) fn removexattr(call: &Call<'_>) -> Outcome {
    remove(call, &named(call, true, true)?)
}

/// lremovexattr(2)
pub(in super::super) fn lremovexattr(call: &Call<'_>) -> Outcome {
    remove(call, &named(call, false, true)?)
}

/// fremovexattr(2)
pub(in super::super) fn fremovexattr(call: &Call<'_>) -> Outcome {
    remove(call, &opened(call, true)?)
}

/// The file that the first argument names.
fn named(call: &Call<'_>, follow: bool, change: bool) -> Result<Found, Errno> {
    let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    let path = call.path(0)?;
    if change {
        call.target_to_change(libc::AT_FDCWD, &path, flags)
    } else {
        call.target(libc::AT_FDCWD, &path, flags)
    }
}

/// The file that the first argument is open on.
fn opened(call: &Call<'_>, change: bool) -> Result<Found, Errno> {
    if !change {
        return call.opened(call.int(0));
    }
    let found = call.opened_to_change(call.int(0))?;
    call.check_writable(&found)?;
    Ok(found)
}

/// The name that the second argument points to.
fn name(call: &Call<'_>) -> Result<Vec<u8>, Errno> {
    let name = call.task.string(call.arguments[1], NAME_LIMIT + 1).map_err(|error| match error {
        Errno::NAMETOOLONG => Errno::RANGE,
        other => other,
    })?;
    if name.is_empty() { Err(Errno::RANGE) } else { Ok(name) }
}

fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(OWN) || name == OWNER_RECORD.to_bytes()
}

/// Whether the caller may set or remove an attribute.
fn check_change(call: &Call<'_>, found: &Found, name: &[u8]) -> Result<(), Errno> {
    if name.starts_with(b"trusted.") || is_hidden(name) {
        return Err(Errno::PERM);
    }
    if !name.starts_with(OF_USERS) {
        return Err(Errno::OPNOTSUPP);
    }
    call.check(&*call.credentials()?, found, WRITE)
}

fn set(call: &Call<'_>, found: &Found) -> Outcome {
    let name = name(call)?;
    let size = usize::try_from(call.arguments[3]).map_err(|_| Errno::TOOBIG)?;
    if size > VALUE_LIMIT {
        return Err(Errno::TOOBIG);
    }
    let mut value = vec![0; size];
    call.task.read(call.arguments[2], &mut value)?;
    check_change(call, found, &name)?;
    let flags = XattrFlags::from_bits_retain(call.unsigned(4));
    let own = call.paths.view.own_path(&found.file);
    rustix::fs::setxattr(own, name, &value, flags).map(done)
}

fn remove(call: &Call<'_>, found: &Found) -> Outcome {
    let name = name(call)?;
    check_change(call, found, &name)?;
    rustix::fs::removexattr(call.paths.view.own_path(&found.file), name).map(done)
}

fn get(call: &Call<'_>, found: &Found) -> Outcome {
    let name = name(call)?;
    if is_hidden(&name) {
        return Err(Errno::NODATA);
    }
    if name.starts_with(OF_USERS) {
        call.check(&*call.credentials()?, found, READ)?;
    }
    let mut value = vec![0; VALUE_LIMIT];
    let length = rustix::fs::getxattr(call.paths.view.own_path(&found.file), name, &mut value)?;
    give(call, 2, &value[..length])
}

fn list(call: &Call<'_>, found: &Found) -> Outcome {
    let mut all = vec![0; VALUE_LIMIT];
    let length = rustix::fs::listxattr(call.paths.view.own_path(&found.file), &mut all)?;
    give(call, 1, &without_hidden(&all[..length]))
}

fn without_hidden(names: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(names.len());
    for name in names.split_inclusive(|byte| *byte == 0) {
        if !is_hidden(name.strip_suffix(b"\0").unwrap_or(name)) {
            shown.extend_from_slice(name);
        }
    }
    shown
}

/// Writes to the buffer that argument `index` and the next one are; without size only its length is asked.
fn give(call: &Call<'_>, index: usize, value: &[u8]) -> Outcome {
    let size = call.arguments[index + 1];
    if size != 0 {
        if (value.len() as u64) > size {
            return Err(Errno::RANGE);
        }
        call.task.write(call.arguments[index], value)?;
    }
    Ok(Answer::Value(value.len() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_hidden() {
        let names = b"user.a\0user.fanfold.mode\0user.containers.override_stat\0security.b\0";
        assert_eq!(without_hidden(names), b"user.a\0security.b\0");
        assert!(!is_hidden(b"user.fanfolded"));
    }
}
