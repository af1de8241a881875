//! Where the cgroups of this process are, by what the kernel says of it and its mounts. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::limits::Controller;

/// The cgroups that this process is in, as directories.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// That of version 2, or why there is none.
    pub(super) two: Result<PathBuf, String>,
    /// Those of version 1, with the names of their controllers.
    one: Vec<(Vec<String>, Result<PathBuf, String>)>,
}

/// A mount of a cgroup file system.
struct Mounted {
    is_two: bool,
    options: Vec<String>,
    /// The cgroup that is at the mount's top.
    root: Vec<u8>,
    at: Vec<u8>,
}

impl Hierarchies {
    /// Reads /proc/self/cgroup and /proc/self/mountinfo.
    pub(super) fn find(own: &str, mounts: &str) -> Self {
        let mounted: Vec<Mounted> = mounts.lines().filter_map(mount).collect();
        let mut two = Err("the kernel has none".to_owned());
        let mut one = Vec::new();
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let serves = |mount: &&Mounted| match controllers {
                "" => mount.is_two,
                _ => {
                    !mount.is_two
                        && controllers.split(',').all(|name| mount.options.iter().any(|o| o == name))
                }
            };
            let found = directory(path.as_bytes(), mounted.iter().filter(serves));
            if controllers.is_empty() {
                two = found;
            } else {
                one.push((controllers.split(',').map(str::to_owned).collect(), found));
            }
        }
        Self { two, one }
    }

    /// The cgroup of version 1 with a controller, or why there is none.
    pub(super) fn one(&self, controller: Controller) -> Result<PathBuf, String> {
        let mut all = self.one.iter();
        match all.find(|(names, _)| names.iter().any(|name| name == controller.name())) {
            Some((_, found)) => found.clone(),
            None => Err(format!("there is no {} controller", controller.name())),
        }
    }
}

/// A line of mountinfo, where it is of a cgroup file system.
fn mount(line: &str) -> Option<Mounted> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let is_two = match right.next()? {
        "cgroup" => false,
        "cgroup2" => true,
        _ => return None,
    };
    let options = right.nth(1)?.split(',').map(str::to_owned).collect();
    let mut left = left.split(' ').skip(3);
    Some(Mounted { is_two, options, root: unescape(left.next()?), at: unescape(left.next()?) })
}

/// Blanks, tabs, line ends and backslashes are written as three octal digits.
fn unescape(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut out = Vec::new();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) if *byte == b'\\' => {
                out.push(escaped);
                rest = &after[3..];
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// The directory of the cgroup `path` in one of the mounts.
fn directory<'a>(path: &[u8], mounts: impl Iterator<Item = &'a Mounted>) -> Result<PathBuf, String> {
    let mut seen = false;
    for mount in mounts {
        seen = true;
        let top = if mount.root == b"/" { &b""[..] } else { &mount.root };
        let Some(rest) = path.strip_prefix(top) else { continue };
        // Above the top of a cgroup namespace nothing is known by its path.
        let leads_out = path.split(|byte| *byte == b'/').any(|part| part == b"..");
        if leads_out || !(rest.is_empty() || rest.starts_with(b"/")) {
            continue;
        }
        let rest = if rest == b"/" { &b""[..] } else { rest };
        return Ok(OsString::from_vec([&mount.at, rest].concat()).into());
    }
    let shown = String::from_utf8_lossy(path);
    Err(if seen {
        format!("the cgroup {shown} of this process is not below what is mounted")
    } else {
        "it is not mounted".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid() {
        let own = "4:memory:/a/b\n2:cpu,cpuacct:/\n1:name=systemd:/x\n0::/user.slice\n";
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpuacct,cpu\n\
            35 31 0:32 /a /sys/fs/cgroup/my\\040memory rw - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Hierarchies::find(own, mounts);
        assert_eq!(found.two, Ok("/sys/fs/cgroup/unified/user.slice".into()));
        assert_eq!(found.one(Controller::Memory), Ok("/sys/fs/cgroup/my memory/b".into()));
        assert_eq!(found.one(Controller::Cpu), Ok("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert!(found.one(Controller::Pids).unwrap_err().contains("no pids controller"));
    }

    #[test]
    fn what_cannot_be_reached_is_told() {
        let mount = "41 31 0:38 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        for (own, mounts, want) in [
            ("0::/\n", "", "not mounted"),
            ("0::/\n", mount, "not below"),
            ("0::/../x\n", "41 31 0:38 / /c rw - cgroup2 cgroup2 rw\n", "not below"),
            ("0::/ab\n", "41 31 0:38 /a /c rw - cgroup2 cgroup2 rw\n", "not below"),
            ("", "", "none"),
        ] {
            let reason = Hierarchies::find(own, mounts).two.unwrap_err();
            assert!(reason.contains(want), "{own:?}: {reason}");
        }
    }

    #[test]
    fn damaged_lines_are_passed_over() {
        let found = Hierarchies::find("x\n0:\n\n", "1 2\n - cgroup2\na b c - cgroup2 x\n");
        assert!(found.two.is_err() && found.one.is_empty());
        assert_eq!(unescape("a\\134\\04"), b"a\\\\04");
    }
}
