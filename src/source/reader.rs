//! [`Reader`]: reads data and attributes of a context's files, one after the other.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

use rustix::fs::{FileType, Mode, OFlags, fgetxattr, flistxattr, fstat, openat};
use rustix::io::Errno;

use super::facts::Facts;
use super::stat_cache::seconds;
use super::{Context, SourceError};
use crate::image::DataHash;
use crate::layer::{LayerPath, Stamp, Xattrs, keep_xattr, open_beneath};

/// Bytes that are read at once; also the most that an attribute or a list of their names can have
/// on Linux.
const AT_ONCE: usize = 64 << 10;

/// One thread's way to the files of a context.
pub(super) struct Reader<'c> {
    context: &'c Context,
    /// The directory of the file that was read last, and its path.
    directory: Option<(Vec<u8>, OwnedFd)>,
    buffer: Vec<u8>,
}

impl<'c> Reader<'c> {
    pub(super) fn new(context: &'c Context) -> Self {
        Self { context, directory: None, buffer: vec![0; AT_ONCE] }
    }

    /// Reads what identifies a file or directory.
    pub(super) fn facts(&mut self, path: &LayerPath) -> Result<Facts, SourceError> {
        let fail = |error: io::Error| SourceError::io("read", path.as_os_path(), error);
        if self.context.directory().is_none() {
            let node = self.context.tree().get(path);
            let xattrs = node.map(|node| node.entry.xattrs).unwrap_or_default();
            let data = match self.context.tree().file(path) {
                Some(_) => {
                    let data = self.context.content(path).open()?;
                    Some(DataHash::read(data, &mut self.buffer).map_err(fail)?)
                }
                None => None,
            };
            return Ok(Facts { data, xattrs, stat: None, seen: None });
        }
        self.facts_beneath(path).map_err(fail)
    }

    fn facts_beneath(&mut self, path: &LayerPath) -> io::Result<Facts> {
        // Before anything is looked at: what changes from now on is not what is read here.
        let now = self.context.known().clock().map(|clock| clock());
        let file = self.open(path)?;
        let stat = fstat(&file)?;
        let xattrs = self.xattrs(&file)?;
        let is_file = FileType::from_raw_mode(stat.st_mode).is_file();
        let stat = Stamp::of(&stat);
        // What is added to the file while it is read does not count.
        let data = match is_file {
            true => Some(DataHash::read(File::from(file).take(stat.size), &mut self.buffer)?),
            false => None,
        };
        let is_settled = |now: SystemTime| stat.is_settled(seconds(now));
        let settled = now.is_some_and(is_settled).then_some(stat);
        Ok(Facts { data, xattrs, stat: settled, seen: Some(stat) })
    }

    /// Opens a file or directory without following any link and without waiting for anybody.
    fn open(&mut self, path: &LayerPath) -> io::Result<OwnedFd> {
        let Some(root) = self.context.directory() else { return Err(Errno::NOENT.into()) };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let (above, name) = match path.as_bytes().iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path.as_bytes()[..slash], &path.as_bytes()[slash + 1..]),
            None => return open_beneath(root, path.as_bytes(), flags),
        };
        if self.directory.as_ref().is_none_or(|(current, _)| current != above) {
            let opened = open_beneath(root, above, OFlags::PATH | OFlags::DIRECTORY)?;
            self.directory = Some((above.to_vec(), opened));
        }
        let directory = self.directory.as_ref().map_or(root, |(_, directory)| directory.as_fd());
        Ok(openat(directory, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// The attributes that belong into an image. File systems without any have none.
    fn xattrs(&mut self, file: &OwnedFd) -> io::Result<Xattrs> {
        let mut xattrs = Xattrs::new();
        let length = match flistxattr(file, &mut self.buffer[..]) {
            Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(xattrs),
            Ok(length) => length,
            Err(errno) => return Err(errno.into()),
        };
        let names = self.buffer[..length].to_vec();
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let size = fgetxattr(file, name, &mut self.buffer[..])?;
            if let Some(kept) = keep_xattr(name, &self.buffer[..size]) {
                xattrs.insert(name.to_vec(), kept);
            }
        }
        Ok(xattrs)
    }
}
