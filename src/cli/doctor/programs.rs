//! Programs of the machine that builds start.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::finding::Finding;

/// The first executable file of this name in the folders of `path`; relative ones are passed over.
pub(super) fn in_path(name: &str, path: &OsStr) -> Option<PathBuf> {
    let executable = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(name)).find(executable)
}

/// Why a program that should bring rights along does not; nothing where it does.
pub(super) fn lacks_rights(program: &Path) -> Option<String> {
    let meta = std::fs::metadata(program).ok()?;
    let is_setuid = meta.permissions().mode() & 0o4000 != 0;
    let has_capability = rustix::fs::getxattr(program, "security.capability", &mut [0; 64]).is_ok();
    let flags = rustix::fs::statvfs(program).map(|found| found.f_flag);
    let is_void = flags.is_ok_and(|flags| flags.contains(rustix::fs::StatVfsMountFlags::NOSUID));
    if is_void {
        return Some(format!("{} lies on a file system mounted nosuid", program.display()));
    }
    let lacking = !is_setuid && !has_capability;
    lacking.then(|| format!("{} is neither set-user-id nor has a file capability", program.display()))
}

/// Findings of the programs that sources need.
pub(super) fn find(path: &OsStr) -> Vec<Finding> {
    let ssh = ["ssh", "ssh-agent"].map(|name| in_path(name, path).ok_or(name));
    vec![git(in_path("git", path).as_deref()), secure_shell(&ssh)]
}

fn git(found: Option<&Path>) -> Finding {
    match found {
        Some(path) => Finding::good("git", path.display().to_string()),
        None => Finding::missing(
            "git",
            "not in PATH",
            "git repositories can be neither contexts nor sources of ADD",
            "install the package git",
        ),
    }
}

fn secure_shell(found: &[Result<PathBuf, &str>; 2]) -> Finding {
    let absent: Vec<_> = found.iter().filter_map(|one| one.as_ref().err().copied()).collect();
    if absent.is_empty() {
        let paths = found.iter().flatten().map(|path| path.display().to_string());
        return Finding::good("ssh", paths.collect::<Vec<_>>().join(", "));
    }
    Finding::missing(
        "ssh",
        format!("not in PATH: {}", absent.join(", ")),
        "git repositories by ssh, and keys given to --ssh, do not work; the socket of an agent does",
        "install the package openssh-client",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn executables_of_absolute_folders_are_found() {
        let place = tempfile::tempdir().unwrap();
        let [first, second] = ["a", "b"].map(|name| place.path().join(name));
        for (folder, mode) in [(&first, 0o644), (&second, 0o755)] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("tool"), "x").unwrap();
            std::fs::set_permissions(folder.join("tool"), PermissionsExt::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([Path::new("b"), &first, &second]).unwrap();
        assert_eq!(in_path("tool", &path), Some(second.join("tool")));
        assert_eq!(in_path("other", &path), None);
        assert!(lacks_rights(&second.join("tool")).is_some());
    }

    #[test]
    fn what_is_absent_is_named() {
        assert_eq!(git(None).verdict, Verdict::Missing);
        let found = secure_shell(&[Ok("/usr/bin/ssh".into()), Err("ssh-agent")]);
        assert_eq!(found.fact, "not in PATH: ssh-agent");
        let all = secure_shell(&[Ok("/usr/bin/ssh".into()), Ok("/usr/bin/ssh-agent".into())]);
        assert_eq!(all.verdict, Verdict::Good);
    }
}
