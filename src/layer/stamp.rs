//! [`Stamp`]: what tells a file that changed from one that did not, without opening it.

/// What the system says of a file. Two that are equal are of the same data and attributes, if the
/// first was settled when these were read.
///
/// The change time is set by the kernel at every change of data, attributes, mode or names, and no
/// call sets it back: it shows what a modification time that was set on purpose hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The file system.
    pub device: u64,
    /// The file on it.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Modification, seconds since 1970 and nanoseconds.
    pub modified: (i64, u64),
    /// Change, seconds since 1970 and nanoseconds.
    pub changed: (i64, u64),
}

/// How long a file must have been left alone before its times are believed: the coarsest clock of
/// any file system is that of FAT, of two seconds.
const SETTLED_AFTER: i64 = 2;

impl Stamp {
    /// What a call has said.
    pub fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Whether a change after `now` (seconds since 1970) is sure to give other times. Not so for a
    /// file that has only just changed, whose clock may not have moved on, nor for one of the future.
    pub fn is_settled(&self, now: i64) -> bool {
        self.modified.0.max(self.changed.0).saturating_add(SETTLED_AFTER) < now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_lately_is_not_settled() {
        for (modified, changed, settled) in [
            (90, 90, true),
            (0, 97, true),
            (0, 98, false),
            (98, 0, false),
            (0, 100, false),
            (200, 0, false),
            (0, i64::MAX, false),
            (i64::MIN, i64::MIN, true),
        ] {
            let stat = Stamp {
                device: 1,
                inode: 2,
                size: 3,
                modified: (modified, 0),
                changed: (changed, 999_999_999),
            };
            assert_eq!(stat.is_settled(100), settled, "{stat:?}");
        }
    }
}
