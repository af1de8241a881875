//! Registration of an emulator with the kernel's `binfmt_misc`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fanfold_platforms::Platform;

use crate::cpu::{CannotEmulate, emulated};
use crate::target::{Target, bytes_of, elf_identity};

/// `P` keeps `argv[0]`, `O` hands the open program over, `C` takes credentials
/// from the program so that setuid works, `F` opens the emulator now, outside
/// of any image. Without F the emulator would be looked up inside the image,
/// without P programs such as busybox lose their name.
const FLAGS: &[u8] = b"POCF";

/// The kernel refuses longer lines.
const MAX_LINE: usize = 1920;

/// A handler that cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// The kernel would give the host's own programs to the emulator, which
    /// is such a program itself and so could not start either.
    #[error("{0} is the host's own machine; a handler for it would replace the native loader")]
    Native(Platform),
    /// No emulator exists for the platform.
    #[error(transparent)]
    CannotEmulate(#[from] CannotEmulate),
    /// The name of the entry is not a plain file name.
    #[error("handler name {0:?} must be a file name without \":\"")]
    BadName(String),
    /// The path is not absolute, or holds a character that ends a field.
    #[error("emulator path {0:?} must be absolute, without \":\" and control characters")]
    BadPath(PathBuf),
    /// The line exceeds what the kernel takes.
    #[error("registration of {0:?} is longer than {MAX_LINE} bytes")]
    TooLong(PathBuf),
}

/// The name that platforms with one handler have in common: their architecture.
///
/// arm/v5, v6 and v7 have the same ELF header, hence one handler; the variant
/// is chosen by [`crate::cpu_model`]. `None` if there is no emulator.
#[must_use]
pub fn handler_key(platform: &Platform) -> Option<&'static str> {
    Target::of(platform).map(|target| target.architecture)
}

/// The name of the platform's entry in `binfmt_misc`, such as `fanfold-arm64`.
#[must_use]
pub fn entry_name(platform: &Platform) -> Option<String> {
    handler_key(platform).map(|key| format!("fanfold-{key}"))
}

/// The line that makes `emulator` run the platform's programs. It must reach
/// the `register` file in a single write, in a mount of `binfmt_misc` that
/// belongs to a user namespace of our own.
///
/// # Errors
///
/// The platform is the host's or has no emulator, or a field cannot be written.
/// A machine that the host's kernel may run besides its own (386 on amd64) is
/// not refused: whether it does so is for the caller's probe to say, and if it
/// does, it must not be registered.
pub fn registration(platform: &Platform, emulator: &Path, name: &str) -> Result<Vec<u8>, RegistrationError> {
    let (target, machine) = emulated(platform)?;
    if Platform::host().elf_machine() == Some(machine) {
        return Err(RegistrationError::Native(platform.clone()));
    }
    let reserved = ["", ".", "..", "register", "status"];
    let bad = |byte: u8| byte == b':' || byte.is_ascii_control();
    if reserved.contains(&name) || name.bytes().any(|byte| byte == b'/' || bad(byte)) {
        return Err(RegistrationError::BadName(name.to_owned()));
    }
    let path = emulator.as_os_str().as_bytes();
    if !emulator.is_absolute() || path.iter().copied().any(bad) {
        return Err(RegistrationError::BadPath(emulator.to_owned()));
    }

    let mut magic = elf_identity(machine).to_vec();
    magic.extend(bytes_of(machine, 2, 2));
    magic.extend(bytes_of(machine, u64::from(machine.e_machine), 2));
    let magic = escaped(&magic);
    let mask = escaped(&target.mask);
    let fields: [&[u8]; 8] =
        [b"", name.as_bytes(), b"M", b"0", magic.as_bytes(), mask.as_bytes(), path, FLAGS];
    let line = fields.join(&b':');
    if line.len() > MAX_LINE {
        return Err(RegistrationError::TooLong(emulator.to_owned()));
    }
    Ok(line)
}

/// Bytes as `\xNN`: the kernel takes zeros and delimiters in no other way.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(architecture: &str) -> Platform {
        Platform::new("linux", architecture, None, None)
    }

    #[test]
    fn lines_are_those_of_the_golden_data() {
        let mut seen = 0;
        for line in include_str!("golden.txt").lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let ["BINFMT", architecture, program, magic, mask] = fields[..] else {
                continue;
            };
            seen += 1;
            let platform = linux(architecture);
            assert_eq!(Target::of(&platform).expect(architecture).program(), program);
            let name = entry_name(&platform).expect(architecture);
            let path = format!("/usr/bin/{program}");
            let got = registration(&platform, Path::new(&path), &name);
            if platform == Platform::host() {
                assert_eq!(got, Err(RegistrationError::Native(platform)));
                continue;
            }
            let want = format!(":fanfold-{architecture}:M:0:{magic}:{mask}:{path}:POCF");
            assert_eq!(String::from_utf8(got.expect(architecture)), Ok(want));
        }
        assert_eq!(seen, 9);
    }

    #[test]
    fn what_cannot_be_registered_is_refused() {
        let foreign = linux(if cfg!(target_arch = "s390x") { "riscv64" } else { "s390x" });
        let long = format!("/{}", "x".repeat(2000));
        let cases = [
            ("/usr/bin/qemu", "a:b", "handler name \"a:b\" must be a file name without \":\""),
            ("/usr/bin/qemu", "status", "handler name \"status\" must be"),
            ("/usr/bin/qemu", "a/b", "handler name \"a/b\" must be"),
            ("qemu", "a", "emulator path \"qemu\" must be absolute"),
            ("/a:b/qemu", "a", "emulator path \"/a:b/qemu\" must be absolute, without \":\""),
            ("/a\nb", "a", "emulator path \"/a\\nb\" must be absolute"),
            (long.as_str(), "a", "registration of \"/xxx"),
        ];
        for (path, name, want) in cases {
            let error = registration(&foreign, Path::new(path), name).expect_err(want);
            assert!(error.to_string().starts_with(want), "{error}");
        }
        let error = registration(&linux("vax"), Path::new("/q"), "vax").expect_err("no vax");
        assert!(matches!(error, RegistrationError::CannotEmulate(_)), "{error}");
    }

    #[test]
    fn variants_share_a_handler() {
        for name in ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"] {
            assert_eq!(handler_key(&name.parse().expect(name)), Some("arm"));
        }
        assert_eq!(handler_key(&linux("sparc64")), None);
    }
}
