//! What to run and in which root, and how that goes to the helper process.
//!
//! The form is private to one executable: strings with a 32-bit length before them, in the order
//! of the fields, as arguments and environment may be any bytes.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A command, its root, and what it may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSpec {
    /// Lower directories, lowest first. The first is the one of
    /// [`prepare_stubs`](super::prepare_stubs). At most 500.
    pub lowers: Vec<PathBuf>,
    /// Directory that receives the changes. Its owner, mode and times are those of `/`.
    pub upper: PathBuf,
    /// Empty directory on the file system of `upper`.
    pub work: PathBuf,
    /// Existing empty directory that the root is mounted on; steps may share it.
    pub merged: PathBuf,
    /// Program and arguments. A program without slash is looked up in the `PATH` of `env`.
    pub argv: Vec<Vec<u8>>,
    /// The whole environment, except that `HOME` is added where it is missing.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory, absolute in the root; it must exist.
    pub cwd: Vec<u8>,
    /// USER text, `user[:group]`; empty means root.
    pub user: String,
    /// What the command can reach.
    pub network: Network,
    /// Host name that the command sees.
    pub hostname: String,
    /// File that becomes `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// File that becomes `/etc/hosts`.
    pub hosts: PathBuf,
    /// Name and address of hosts that are added to `/etc/hosts`.
    pub extra_hosts: Vec<(String, String)>,
    /// Further mounts, in order.
    pub binds: Vec<Bind>,
    /// Bytes of `/dev/shm`; 64 MiB where nothing is said.
    pub shm_size: Option<u64>,
    /// Limits as name (`nofile`, `nproc`, ...), soft and hard value; [`u64::MAX`] is no limit.
    pub ulimits: Vec<(String, u64, u64)>,
    /// Whether the kernel tells programs that the machine is the 32-bit one of its kind.
    pub linux32: bool,
}

/// The network of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// That of the build itself.
    Host,
    /// Only a loopback device.
    None,
}

/// A file or directory of another root that is mounted into the root of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Directory that `source` cannot lead out of.
    pub root: PathBuf,
    /// Path inside `root`; links are resolved there.
    pub source: Vec<u8>,
    /// Path in the root of the command, made when it is missing and removed again afterwards.
    pub target: Vec<u8>,
    /// Whether the command may only read it.
    pub read_only: bool,
}

/// Bytes that are no [`RunSpec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed step description")]
pub(super) struct Malformed;

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn path(&mut self, value: &Path) {
        self.bytes(value.as_os_str().as_bytes());
    }

    fn list<T>(&mut self, values: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(values.len() as u64);
        for value in values {
            write(self, value);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?.try_into().map_err(|_| Malformed)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        let count = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        Ok(self.take(count)?.to_vec())
    }

    fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    fn path(&mut self) -> Result<PathBuf, Malformed> {
        Ok(OsString::from_vec(self.bytes()?).into())
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let count = self.number()?;
        // No allocation ahead: a false count ends at the end of the bytes.
        (0..count).map(|_| read(self)).collect()
    }
}

impl RunSpec {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.list(&self.lowers, |out, path| out.path(path));
        for path in [&self.upper, &self.work, &self.merged, &self.resolv_conf, &self.hosts] {
            out.path(path);
        }
        out.list(&self.argv, |out, argument| out.bytes(argument));
        out.list(&self.env, |out, (name, value)| {
            out.bytes(name);
            out.bytes(value);
        });
        out.bytes(&self.cwd);
        out.bytes(self.user.as_bytes());
        out.number(u64::from(self.network == Network::None));
        out.bytes(self.hostname.as_bytes());
        out.list(&self.extra_hosts, |out, (name, address)| {
            out.bytes(name.as_bytes());
            out.bytes(address.as_bytes());
        });
        out.list(&self.binds, |out, bind| {
            out.path(&bind.root);
            out.bytes(&bind.source);
            out.bytes(&bind.target);
            out.number(u64::from(bind.read_only));
        });
        out.list(self.shm_size.as_slice(), |out, size| out.number(*size));
        out.list(&self.ulimits, |out, (name, soft, hard)| {
            out.bytes(name.as_bytes());
            out.number(*soft);
            out.number(*hard);
        });
        out.number(u64::from(self.linux32));
        out.0
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader(bytes);
        let input = &mut input;
        let lowers = input.list(Reader::path)?;
        let [upper, work, merged, resolv_conf, hosts] =
            [input.path()?, input.path()?, input.path()?, input.path()?, input.path()?];
        let spec = Self {
            lowers,
            upper,
            work,
            merged,
            argv: input.list(Reader::bytes)?,
            env: input.list(|input| Ok((input.bytes()?, input.bytes()?)))?,
            cwd: input.bytes()?,
            user: input.text()?,
            network: if input.number()? == 0 { Network::Host } else { Network::None },
            hostname: input.text()?,
            resolv_conf,
            hosts,
            extra_hosts: input.list(|input| Ok((input.text()?, input.text()?)))?,
            binds: input.list(|input| {
                Ok(Bind {
                    root: input.path()?,
                    source: input.bytes()?,
                    target: input.bytes()?,
                    read_only: input.number()? != 0,
                })
            })?,
            shm_size: input.list(Reader::number)?.first().copied(),
            ulimits: input.list(|input| Ok((input.text()?, input.number()?, input.number()?)))?,
            linux32: input.number()? != 0,
        };
        if input.0.is_empty() { Ok(spec) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> RunSpec {
        RunSpec {
            lowers: vec!["/l/0".into(), OsString::from_vec(b"/l/\xff".to_vec()).into()],
            upper: "/u".into(),
            work: "/w".into(),
            merged: "/m".into(),
            argv: vec![b"/bin/sh".to_vec(), b"-c".to_vec(), b"echo \xfe".to_vec(), Vec::new()],
            env: vec![(b"A".to_vec(), b"\xff=\n".to_vec()), (b"B".to_vec(), Vec::new())],
            cwd: b"/".to_vec(),
            user: "app:web".into(),
            network: Network::None,
            hostname: "fanfold".into(),
            resolv_conf: "/r".into(),
            hosts: "/h".into(),
            extra_hosts: vec![("a".into(), "10.0.0.1".into())],
            binds: vec![Bind {
                root: "/b".into(),
                source: b"s".to_vec(),
                target: b"/t".to_vec(),
                read_only: true,
            }],
            shm_size: Some(1 << 30),
            ulimits: vec![("nofile".into(), 10, u64::MAX)],
            linux32: true,
        }
    }

    #[test]
    fn round_trip() {
        assert_eq!(RunSpec::decode(&spec().encode()), Ok(spec()));
        let other = RunSpec { shm_size: None, network: Network::Host, linux32: false, ..spec() };
        assert_eq!(RunSpec::decode(&other.encode()), Ok(other));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = spec().encode();
        for end in 0..bytes.len() {
            assert_eq!(RunSpec::decode(&bytes[..end]), Err(Malformed), "{end}");
        }
        assert_eq!(RunSpec::decode(&[&bytes[..], b"x"].concat()), Err(Malformed));
        assert_eq!(RunSpec::decode(&[0xff; 64]), Err(Malformed));
    }
}
