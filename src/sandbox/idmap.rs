//! Giving a new user namespace its ids: by writing the maps as root, or by newuidmap and newgidmap.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use nix::unistd::Pid;

use super::enter::Config;
use super::mapping::{self, IdRange, Mapping};
use super::refusal::EnterError;

/// The ids that a namespace is to get, and who writes them.
pub(super) struct Plan {
    pub(super) mapping: Mapping,
    writer: Writer,
}

/// Who writes the maps.
enum Writer {
    /// This process: root.
    Own,
    /// This process, a map of its own id alone, which any user may write for a namespace that can never
    /// drop a group.
    OwnSingle,
    /// newuidmap and newgidmap, for a user that may not write the maps itself.
    Helpers(PathBuf, PathBuf),
}

impl Plan {
    /// Finds out what this process can have.
    pub(super) fn new(config: &Config) -> Result<Self, EnterError> {
        let uid = rustix::process::geteuid().as_raw();
        if uid == 0 {
            let own = |file| read(file).map(|text| mapping::nested(&mapping::parse_map(&text)));
            let (uids, gids) = (own("/proc/self/uid_map")?, own("/proc/self/gid_map")?);
            return Ok(Self { mapping: Mapping { uids, gids, identity: true }, writer: Writer::Own });
        }
        let writer = Writer::Helpers(find("newuidmap", &config.path)?, find("newgidmap", &config.path)?);
        let passwd = read("/etc/passwd").unwrap_or_default();
        let name = mapping::user_name(&passwd, uid);
        let subordinate = |file: &'static str, own: u32| {
            // A missing file and a file without the user come to the same.
            let text = read(file).unwrap_or_default();
            let ranges = mapping::parse_subordinate(&text, name, uid);
            if ranges.is_empty() {
                let user = name.map_or_else(|| uid.to_string(), str::to_owned);
                return Err(EnterError::NoSubordinateIds { user, file });
            }
            Ok(mapping::with_subordinate(own, &ranges))
        };
        let uids = subordinate("/etc/subuid", uid)?;
        let gids = subordinate("/etc/subgid", rustix::process::getegid().as_raw())?;
        Ok(Self { mapping: Mapping { uids, gids, identity: false }, writer })
    }

    /// The user's own id as root, and no other.
    pub(super) fn single() -> Self {
        Self { mapping: Mapping::single(), writer: Writer::OwnSingle }
    }

    /// Maps the ids of the new `child` once it says so, and has it go on.
    pub(super) fn apply(&self, child: Pid, socket: &mut UnixStream) -> Result<(), EnterError> {
        let lost = |error| EnterError::call("waiting for the new process", error);
        socket.read_exact(&mut [0]).map_err(lost)?;
        match &self.writer {
            Writer::Own | Writer::OwnSingle => {
                if matches!(self.writer, Writer::OwnSingle) {
                    fs::write(format!("/proc/{child}/setgroups"), "deny")
                        .map_err(|source| EnterError::WriteMap { file: "setgroups", source })?;
                }
                for (file, ranges) in [("uid_map", &self.mapping.uids), ("gid_map", &self.mapping.gids)] {
                    write_map(child.as_raw(), file, ranges)
                        .map_err(|source| EnterError::WriteMap { file, source })?;
                }
            }
            Writer::Helpers(newuidmap, newgidmap) => {
                run_helper("newuidmap", newuidmap, child, &self.mapping.uids)?;
                run_helper("newgidmap", newgidmap, child, &self.mapping.gids)?;
            }
        }
        socket.write_all(b"g").map_err(lost)?;
        let mut answer = [0];
        socket.read_exact(&mut answer).map_err(lost)?;
        if &answer == b"+" {
            return Ok(());
        }
        let mut message = String::new();
        socket.read_to_string(&mut message).map_err(lost)?;
        Err(EnterError::inside(message))
    }
}

fn read(file: &'static str) -> Result<String, EnterError> {
    fs::read(file)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|error| EnterError::call(file, error))
}

fn find(program: &'static str, path: &OsStr) -> Result<PathBuf, EnterError> {
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|file| {
            fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
        .ok_or(EnterError::NoHelper(program))
}

/// Writes a map in one write(2), the only form that the kernel takes.
pub(super) fn write_map(process: i32, file: &str, ranges: &[IdRange]) -> io::Result<()> {
    let mut map = fs::OpenOptions::new().write(true).open(format!("/proc/{process}/{file}"))?;
    map.write_all(mapping::render(ranges).as_bytes())
}

fn run_helper(name: &'static str, program: &Path, child: Pid, ranges: &[IdRange]) -> Result<(), EnterError> {
    let ids = ranges.iter().flat_map(|range| [range.inside, range.outside, range.count]);
    let output = Command::new(program)
        .arg(child.to_string())
        .args(ids.map(|id| id.to_string()))
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| EnterError::call(name, error))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(EnterError::HelperFailed { program: name, message })
}
