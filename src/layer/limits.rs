//! [`Limits`]: more than any honest layer holds, less than what would harm the host.

/// Bounds on what is read from an archive. The specification gives none; no honest layer comes near these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of one archive.
    pub entries: u64,
    /// Uncompressed bytes of one archive, holes of sparse files included.
    pub total_bytes: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Largest uncompressed size as a multiple of the compressed size, once 100 MiB are exceeded.
    pub ratio: u64,
    /// Components of one path.
    pub depth: usize,
    /// Bytes of one extended attribute.
    pub xattr_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            entries: 2_000_000,
            total_bytes: 256 * GIB,
            file_bytes: 128 * GIB,
            ratio: 1000,
            depth: 1024,
            xattr_bytes: 64 << 10,
        }
    }
}
