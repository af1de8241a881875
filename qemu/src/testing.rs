//! Programs and directories for the tests of this crate.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;

use fanfold_platforms::Platform;

use crate::probe::program;

/// A directory that vanishes with the value.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty directory; `name` must be unique among the tests.
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("fanfold-qemu-{}-{name}", process::id()));
        fs::create_dir(&dir).expect("a new directory");
        Self(dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file anew, with its directories.
    pub(crate) fn file(&self, name: &str, content: &[u8], mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("its directory");
        if path.exists() {
            fs::remove_file(&path).expect("the former file");
        }
        fs::write(&path, content).expect("the file");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("its mode");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("the directory is still there");
    }
}

/// A static program for this host that prints `text` and exits with 0.
pub(crate) fn host_program(text: &[u8]) -> Vec<u8> {
    let len = u32::try_from(text.len()).expect("a short text");
    let mut code = Vec::new();
    if cfg!(target_arch = "x86_64") {
        // mov edi, 1; lea rsi, [rip + 21]; mov edx, len
        code.extend(b"\xbf\x01\0\0\0\x48\x8d\x35\x15\0\0\0\xba");
        code.extend(len.to_le_bytes());
        // mov eax, 1; syscall; mov eax, 60; xor edi, edi; syscall
        code.extend(b"\xb8\x01\0\0\0\x0f\x05\xb8\x3c\0\0\0\x31\xff\x0f\x05");
    } else if cfg!(target_arch = "aarch64") {
        // mov x0, 1; adr x1, pc + 28; mov x2, len; mov x8, 64; svc 0;
        // mov x8, 93; mov x0, 0; svc 0
        let words = [
            0xd280_0020,
            0x1000_00e1,
            0xd280_0002 | len << 5,
            0xd280_0808,
            0xd400_0001,
            0xd280_0ba8,
            0xd280_0000,
            0xd400_0001,
        ];
        code.extend(words.iter().flat_map(|word: &u32| word.to_le_bytes()));
    } else {
        panic!("no test program for {}", Platform::host());
    }
    code.extend(text);
    own(&code)
}

/// A static program for this host that never ends.
pub(crate) fn endless_program() -> Vec<u8> {
    if cfg!(target_arch = "x86_64") {
        own(b"\xeb\xfe")
    } else if cfg!(target_arch = "aarch64") {
        own(b"\0\0\0\x14")
    } else {
        panic!("no test program for {}", Platform::host());
    }
}

fn own(code: &[u8]) -> Vec<u8> {
    program(Platform::host().elf_machine().expect("a known host"), 0, code)
}
