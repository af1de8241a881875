//! Handlers that the host's kernel already has, as `/proc/sys/fs/binfmt_misc` shows them.

use std::path::PathBuf;

/// A registered handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The program that is run.
    pub interpreter: PathBuf,
    /// The letters of its flags, such as `POCF`.
    pub flags: String,
    enabled: bool,
    offset: usize,
    magic: Vec<u8>,
    mask: Vec<u8>,
}

impl Registered {
    /// Reads the text of an entry; `None` for one that does not go by magic bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let magic = bytes(field("magic")?)?;
        let mask = match field("mask") {
            Some(mask) => bytes(mask)?,
            None => vec![0xff; magic.len()],
        };
        Some(Self {
            interpreter: field("interpreter")?.into(),
            flags: field("flags:").unwrap_or_default().to_owned(),
            enabled: text.lines().next() == Some("enabled"),
            offset: field("offset")?.parse().ok()?,
            magic,
            mask,
        })
    }

    /// Whether the kernel hands it programs that begin like this.
    #[must_use]
    pub fn takes(&self, program: &[u8]) -> bool {
        let Some(found) = program.get(self.offset..self.offset + self.magic.len()) else { return false };
        let pairs = found.iter().zip(&self.magic).zip(self.mask.iter().chain(std::iter::repeat(&0xff)));
        self.enabled && pairs.into_iter().all(|((byte, magic), mask)| (byte ^ magic) & mask == 0)
    }

    /// The letters among `wanted` that its flags lack.
    #[must_use]
    pub fn lacks(&self, wanted: &str) -> String {
        wanted.chars().filter(|flag| !self.flags.contains(*flag)).collect()
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    (text.len().is_multiple_of(2) && text.is_ascii()).then_some(())?;
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: OPF\noffset 0\n\
                          magic 7f454c460201010000000000000000000200b700\n\
                          mask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn entries_are_read() {
        let handler = Registered::parse(DEBIAN).unwrap();
        assert_eq!(handler.flags, "OPF");
        assert_eq!(handler.lacks("POCF"), "C");
        let probe = |platform: &str| crate::probe(&platform.parse().unwrap()).unwrap();
        assert!(handler.takes(&probe("linux/arm64")));
        assert!(!handler.takes(&probe("linux/amd64")));
        assert!(!handler.takes(b"\x7fELF"));
        let disabled = Registered::parse(&DEBIAN.replace("enabled", "disabled")).unwrap();
        assert!(!disabled.takes(&probe("linux/arm64")));
    }

    #[test]
    fn other_texts_are_none() {
        for text in
            ["", "enabled", "enabled\ninterpreter /x\nflags: \nextension .py\n", "magic 7\ninterpreter /x"]
        {
            assert_eq!(Registered::parse(text), None, "{text:?}");
        }
    }
}
