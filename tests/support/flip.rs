//! Damage to a file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Changes a bit in the middle of a file.
pub(crate) fn flip(path: &Path) {
    let file = File::options().read(true).write(true).open(path).expect("open");
    let middle = file.metadata().expect("metadata").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).expect("read");
    file.write_all_at(&[byte[0] ^ 4], middle).expect("write");
}
