//! What to run and in which root, and how that goes to the helper process.

use std::path::{Path, PathBuf};

use super::codec::{Malformed, Reader, Writer};
use super::hidden::Hidden;
use super::isolation::Isolation;
use super::mount::Mount;

/// A command, its root, and what it may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSpec {
    /// The root directory.
    pub root: RootPlace,
    /// How the command is kept apart.
    pub isolation: Isolation,
    /// Owners other than root that the root's layers give to symbolic links, pipes, sockets and devices,
    /// for a supervisor that simulates owners: such files cannot carry them.
    pub special_owners: Vec<SpecialOwner>,
    /// Programs that stand in for foreign processors where no handler of the kernel does: the command's
    /// calls to execute a foreign program are turned into calls of these.
    pub interpreters: Vec<Interpreter>,
    /// Program and arguments. A program without slash is looked up in the `PATH` of `env`.
    pub argv: Vec<Vec<u8>>,
    /// The whole environment, except that `HOME` is added where it is missing.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Variables with values that only the command may see; they replace those of `env`.
    pub hidden_env: Vec<(Vec<u8>, Hidden)>,
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
    /// Further mounts, in order: a later one may lie inside an earlier one.
    pub mounts: Vec<Mount>,
    /// Existing empty directory for what has to be mounted somewhere before a part of it can be
    /// mounted in the root; commands may share it, and none sees it.
    pub aside: PathBuf,
    /// Bytes of `/dev/shm`; 64 MiB where nothing is said.
    pub shm_size: Option<u64>,
    /// Limits as name (`nofile`, `nproc`, ...), soft and hard value; [`u64::MAX`] is no limit.
    pub ulimits: Vec<(String, u64, u64)>,
    /// Whether the kernel tells programs that the machine is the 32-bit one of its kind.
    pub linux32: bool,
}

/// Where the root of a command is, and where its changes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootPlace {
    /// Layers, mounted on top of each other.
    Overlay {
        /// Lower directories, lowest first. The first is the one of
        /// [`prepare_stubs`](super::prepare_stubs). At most 500.
        lowers: Vec<PathBuf>,
        /// Directory that receives the changes. Its owner, mode and times are those of `/`.
        upper: PathBuf,
        /// Empty directory on the file system of `upper`.
        work: PathBuf,
        /// Existing empty directory that the root is mounted on; steps may share it.
        merged: PathBuf,
    },
    /// A whole tree of our own, which the command changes in place.
    Directory {
        /// The tree. No other command uses it at the same time.
        path: PathBuf,
    },
}

impl RootPlace {
    /// The directory in which the command's changes are found afterwards.
    pub fn changed(&self) -> &Path {
        match self {
            Self::Overlay { upper, .. } => upper,
            Self::Directory { path } => path,
        }
    }
}

/// The owner of a file that cannot carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialOwner {
    /// Path from the root, without leading slash.
    pub path: PathBuf,
    /// User that it belongs to.
    pub uid: u32,
    /// Group that it belongs to.
    pub gid: u32,
}

/// A program that runs the programs of another processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// The processor, as the `e_machine` of ELF files says it.
    pub machine: u16,
    /// The interpreter: a static program of the host.
    pub path: PathBuf,
}

impl Interpreter {
    /// Where commands find it: in a directory of ours, which is in no layer.
    pub(super) fn place(&self) -> PathBuf {
        Path::new(INTERPRETERS).join(self.path.file_name().unwrap_or_default())
    }
}

/// The directory of interpreters in the roots of commands.
const INTERPRETERS: &str = "/dev/.fanfold";

/// The network of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// That of the build itself.
    Host,
    /// Only a loopback device.
    None,
}

impl RunSpec {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.root.encode(&mut out);
        out.bytes(self.isolation.name().as_bytes());
        out.list(&self.special_owners, |out, owner| {
            out.path(&owner.path);
            out.number(u64::from(owner.uid));
            out.number(u64::from(owner.gid));
        });
        out.list(&self.interpreters, |out, interpreter| {
            out.number(u64::from(interpreter.machine));
            out.path(&interpreter.path);
        });
        for path in [&self.resolv_conf, &self.hosts, &self.aside] {
            out.path(path);
        }
        out.list(&self.argv, |out, argument| out.bytes(argument));
        out.list(&self.env, |out, (name, value)| {
            out.bytes(name);
            out.bytes(value);
        });
        out.list(&self.hidden_env, |out, (name, value)| {
            out.bytes(name);
            out.bytes(value.bytes());
        });
        out.bytes(&self.cwd);
        out.bytes(self.user.as_bytes());
        out.number(u64::from(self.network == Network::None));
        out.bytes(self.hostname.as_bytes());
        out.list(&self.extra_hosts, |out, (name, address)| {
            out.bytes(name.as_bytes());
            out.bytes(address.as_bytes());
        });
        out.list(&self.mounts, |out, mount| mount.encode(out));
        out.list(self.shm_size.as_slice(), |out, size| out.number(*size));
        out.list(&self.ulimits, |out, (name, soft, hard)| {
            out.bytes(name.as_bytes());
            out.number(*soft);
            out.number(*hard);
        });
        out.number(u64::from(self.linux32));
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let input = &mut input;
        let root = RootPlace::decode(input)?;
        let isolation = input.text()?.parse().map_err(|_| Malformed)?;
        let special_owners = input.list(|input| {
            Ok(SpecialOwner { path: input.path()?, uid: input.small()?, gid: input.small()? })
        })?;
        let interpreters = input.list(|input| {
            let machine = u16::try_from(input.number()?).map_err(|_| Malformed)?;
            Ok(Interpreter { machine, path: input.path()? })
        })?;
        let [resolv_conf, hosts, aside] = [input.path()?, input.path()?, input.path()?];
        let spec = Self {
            root,
            isolation,
            special_owners,
            interpreters,
            argv: input.list(Reader::bytes)?,
            env: input.list(|input| Ok((input.bytes()?, input.bytes()?)))?,
            hidden_env: input.list(|input| Ok((input.bytes()?, Hidden::new(input.bytes()?))))?,
            cwd: input.bytes()?,
            user: input.text()?,
            network: if input.number()? == 0 { Network::Host } else { Network::None },
            hostname: input.text()?,
            resolv_conf,
            hosts,
            extra_hosts: input.list(|input| Ok((input.text()?, input.text()?)))?,
            mounts: input.list(Mount::decode)?,
            aside,
            shm_size: input.list(Reader::number)?.first().copied(),
            ulimits: input.list(|input| Ok((input.text()?, input.number()?, input.number()?)))?,
            linux32: input.number()? != 0,
        };
        input.finish()?;
        Ok(spec)
    }
}

const OVERLAY: u64 = 0;
const DIRECTORY: u64 = 1;

impl RootPlace {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Overlay { lowers, upper, work, merged } => {
                out.number(OVERLAY);
                out.list(lowers, |out, path| out.path(path));
                for path in [upper, work, merged] {
                    out.path(path);
                }
            }
            Self::Directory { path } => {
                out.number(DIRECTORY);
                out.path(path);
            }
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.number()? {
            OVERLAY => Self::Overlay {
                lowers: input.list(Reader::path)?,
                upper: input.path()?,
                work: input.path()?,
                merged: input.path()?,
            },
            DIRECTORY => Self::Directory { path: input.path()? },
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::sandbox::mount::Discard;

    fn spec() -> RunSpec {
        RunSpec {
            root: RootPlace::Overlay {
                lowers: vec!["/l/0".into(), OsString::from_vec(b"/l/\xff".to_vec()).into()],
                upper: "/u".into(),
                work: "/w".into(),
                merged: "/m".into(),
            },
            isolation: Isolation::Userns,
            special_owners: vec![SpecialOwner { path: "run/initctl".into(), uid: 5, gid: u32::MAX }],
            interpreters: vec![Interpreter { machine: 183, path: "/usr/bin/qemu-aarch64".into() }],
            argv: vec![b"/bin/sh".to_vec(), b"-c".to_vec(), b"echo \xfe".to_vec(), Vec::new()],
            env: vec![(b"A".to_vec(), b"\xff=\n".to_vec()), (b"B".to_vec(), Vec::new())],
            hidden_env: vec![(b"TOKEN".to_vec(), Hidden::new(b"hunter2".to_vec()))],
            cwd: b"/".to_vec(),
            user: "app:web".into(),
            network: Network::None,
            hostname: "fanfold".into(),
            resolv_conf: "/r".into(),
            hosts: "/h".into(),
            extra_hosts: vec![("a".into(), "10.0.0.1".into())],
            mounts: vec![
                Mount::Layers {
                    lowers: vec!["/b".into()],
                    discard: None,
                    source: b"s".to_vec(),
                    target: b"/t".to_vec(),
                },
                Mount::Layers {
                    lowers: Vec::new(),
                    discard: Some(Discard { upper: "/du".into(), work: "/dw".into() }),
                    source: b"\xff".to_vec(),
                    target: b"/\xfe".to_vec(),
                },
                Mount::Directory { path: "/c".into(), target: b"/c".to_vec(), read_only: true },
                Mount::Directory { path: "/c".into(), target: b"/d".to_vec(), read_only: false },
                Mount::Tmpfs { target: b"/m".to_vec(), size: Some(4096) },
                Mount::Tmpfs { target: b"/n".to_vec(), size: None },
                Mount::File {
                    content: Hidden::new(b"hunter2\0\xff".to_vec()),
                    target: b"/run/secrets/a".to_vec(),
                    mode: 0o400,
                    uid: 1000,
                    gid: 1001,
                    secret: true,
                },
                Mount::Socket { path: "/s".into(), target: b"/run/s".to_vec(), uid: 3, gid: 4 },
            ],
            aside: "/a".into(),
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
        let root = RootPlace::Directory { path: "/r".into() };
        let other = RunSpec { root, isolation: Isolation::Ptrace, interpreters: Vec::new(), ..spec() };
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

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:#?}", spec(), spec());
        assert!(!shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
        assert!(shown.contains("7 bytes") && shown.contains("9 bytes"), "{shown}");
    }
}
