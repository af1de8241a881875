//! The working directory, file systems, sizes.

use nix::libc;
use rustix::fs::{FileType, OFlags, StatFs};
use rustix::io::Errno;

use super::super::super::notification::Answer;
use super::super::access::WRITE;
use super::{Call, Outcome};

/// getcwd(2)
pub(in super::super) fn getcwd(call: &Call<'_>) -> Outcome {
    let mut path = call.paths.view.working_directory(call.task)?.path();
    path.push(0);
    if path.len() as u64 > call.arguments[1] {
        return Err(Errno::RANGE);
    }
    call.task.write(call.arguments[0], &path)?;
    Ok(Answer::Value(path.len() as i64))
}

/// truncate(2)
pub(in super::super) fn truncate(call: &Call<'_>) -> Outcome {
    let found = call.find(libc::AT_FDCWD, &call.path(0)?, true)?;
    let length = u64::try_from(call.arguments[1] as i64).map_err(|_| Errno::INVAL)?;
    match FileType::from_raw_mode(found.stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR),
        _ => return Err(Errno::INVAL),
    }
    call.check(&*call.credentials()?, &found, WRITE)?;
    call.check_writable(&found)?;
    let file = call.paths.view.reopen(&found.file, OFlags::WRONLY)?;
    rustix::fs::ftruncate(&file, length)?;
    Ok(Answer::DONE)
}

/// statfs(2)
pub(in super::super) fn statfs(call: &Call<'_>) -> Outcome {
    let found = call.find(libc::AT_FDCWD, &call.path(0)?, true)?;
    call.task.write(call.arguments[1], &file_system(&rustix::fs::fstatfs(&found.file)?))?;
    Ok(Answer::DONE)
}

/// `struct statfs` of x86-64.
fn file_system(found: &StatFs) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(120);
    let mut put = |number: u64| bytes.extend_from_slice(&number.to_ne_bytes());
    put(found.f_type as u64);
    put(found.f_bsize as u64);
    put(found.f_blocks);
    put(found.f_bfree);
    put(found.f_bavail);
    put(found.f_files);
    put(found.f_ffree);
    // The number of the file system, which is not told to users.
    put(0);
    put(found.f_namelen as u64);
    put(found.f_frsize as u64);
    put(found.f_flags as u64);
    for _ in 0..4 {
        put(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_has_the_kernels_size() {
        assert_eq!(file_system(&rustix::fs::statfs("/").unwrap()).len(), size_of::<libc::statfs>());
    }
}
