//! Becoming the user of a command: limits, capabilities, groups, ids.
//!
//! Sources: capabilities(7), getrlimit(2).

use std::io;

use nix::unistd::{Gid, Uid};
use rustix::fs::{Gid as FileGid, Uid as FileUid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::image::Identity;

use super::isolation::Isolation;
use super::wire::{Failure, Step};

/// What root can do in a command: the 14 capabilities that Docker gives by default.
pub(super) const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// What a real root can do in a command, with nothing around it but the changed root directory: it can
/// neither leave that, nor make a device, which would be one of the machine.
const IN_CHROOT: CapabilitySet = KEPT.difference(CapabilitySet::SYS_CHROOT.union(CapabilitySet::MKNOD));

/// What root can do in a command.
fn allowed(isolation: Isolation) -> CapabilitySet {
    match isolation {
        Isolation::Userns | Isolation::OneId => KEPT,
        Isolation::Chroot => IN_CHROOT,
        Isolation::Ptrace => CapabilitySet::empty(),
    }
}

/// The kernel's limit of this name.
pub(super) fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

/// Sets limits by name, soft and hard value; [`u64::MAX`] is none.
pub(super) fn set_limits(limits: &[(String, u64, u64)]) -> Result<(), Failure> {
    for (name, soft, hard) in limits {
        let step = format!("ulimit {name}");
        let found = resource(name).ok_or_else(|| io::Error::other("there is no such limit"));
        let value = |value: &u64| Some(*value).filter(|value| *value != u64::MAX);
        let limit = Rlimit { current: value(soft), maximum: value(hard) };
        rustix::process::setrlimit(found.step(&step)?, limit).step(&step)?;
    }
    Ok(())
}

/// Takes on the user's ids and what belongs to them. Any other user than root has no capability,
/// until it executes a program that is set-user-id root.
pub(super) fn assume(identity: &Identity, isolation: Isolation) -> Result<(), Failure> {
    // A user without capabilities, who cannot gain any, has nothing to bound.
    if isolation != Isolation::Ptrace {
        bound_capabilities(isolation).step("capability bounding set")?;
    }
    rustix::thread::clear_ambient_capability_set().step("ambient capabilities")?;
    if identity.uid != 0 {
        // Or the user could not open /dev/stdout.
        let (uid, gid) = (FileUid::from_raw(identity.uid), FileGid::from_raw(identity.gid));
        for output in [
            rustix::fs::fchown(io::stdout(), Some(uid), Some(gid)),
            rustix::fs::fchown(io::stderr(), Some(uid), Some(gid)),
        ] {
            output.map_err(unmapped).step("user")?;
        }
    }
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let unmapped = |error: nix::errno::Errno| unmapped(Errno::from_raw_os_error(error as i32));
    nix::unistd::setgroups(&groups).map_err(unmapped).step("supplementary groups")?;
    nix::unistd::setresgid(gid, gid, gid).map_err(unmapped).step("group")?;
    nix::unistd::setresuid(uid, uid, uid).map_err(unmapped).step("user")?;
    let kept = if identity.uid != 0 {
        CapabilitySet::empty()
    } else if isolation == Isolation::Chroot {
        // A container may have less.
        allowed(isolation) & rustix::thread::capabilities(None).step("capget")?.permitted
    } else {
        allowed(isolation)
    };
    set_capabilities(kept).step("capset")
}

/// Takes on what belongs to a user whose ids a supervisor simulates: to the kernel it is root, with what
/// is left to root once the next program is executed.
pub(super) fn assume_simulated() -> Result<(), Failure> {
    bound_capabilities(Isolation::OneId).step("capability bounding set")?;
    rustix::thread::clear_ambient_capability_set().step("ambient capabilities")
}

/// The kernel calls an id that the namespace does not have an invalid argument.
pub(super) fn unmapped(error: Errno) -> io::Error {
    match error {
        Errno::INVAL => io::Error::other(
            "an id of the user is beyond the ids of this user namespace; more subordinate ids \
             in /etc/subuid and /etc/subgid would help",
        ),
        other => other.into(),
    }
}

/// Drops every capability of this process, for good.
pub(super) fn drop_all_capabilities() -> Result<(), Errno> {
    set_capabilities(CapabilitySet::empty())
}

fn set_capabilities(set: CapabilitySet) -> Result<(), Errno> {
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() },
    )
}

/// Takes away, for good and for all that this process executes, what no command may do.
///
/// # Errors
///
/// Fails without the capability SETPCAP where something is left to take away.
pub(super) fn bound_capabilities(isolation: Isolation) -> Result<(), Errno> {
    let allowed = allowed(isolation);
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if allowed.contains(capability) {
            continue;
        }
        match rustix::thread::capability_is_in_bounding_set(capability) {
            // Beyond the last that this kernel knows.
            Err(Errno::INVAL) => break,
            Ok(false) => {}
            Ok(true) => rustix::thread::remove_capability_from_bounding_set(capability)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_the_documented_ones() {
        assert_eq!(KEPT.bits(), 0xa804_25fb);
        assert_eq!(KEPT.bits().count_ones(), 14);
        assert_eq!(IN_CHROOT.bits().count_ones(), 12);
        assert!(!IN_CHROOT.intersects(CapabilitySet::SYS_CHROOT | CapabilitySet::MKNOD));
    }

    #[test]
    fn unknown_limits_are_refused() {
        let limits = [("files".to_owned(), 1, 1)];
        assert_eq!(set_limits(&limits).unwrap_err().step, "ulimit files");
    }
}
