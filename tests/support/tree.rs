//! Layer entries, the tree that they merge into, and its text form:
//!
//! ```text
//! 0755 0:0 d epoch /o
//! 0644 0:0 f epoch /o/a.txt "hello\n"
//! 0777 0:0 l epoch /o/link -> a.txt
//! 0644 0:0 f 1600000000 /o/big 4096 sha256:0123456789ab
//! 0644 0:0 f epoch /o/second = /o/first
//! ```
//!
//! `epoch` is the time that the tests build with. A hard link's later names
//! point at the first one. Extended attributes follow as `name=0xHEX`.

use std::collections::BTreeMap;
use std::io::Read;
use std::rc::Rc;

use super::image::sha256;

/// The time that data-driven builds are made with, seconds since 1970.
pub(crate) const EPOCH: i64 = 1_700_000_000;

/// Content up to this size is kept, and shown if it is text.
const KEPT: u64 = 4 << 10;

/// One entry of a layer's archive.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Name as in the archive, without a trailing slash.
    pub(crate) name: Vec<u8>,
    /// What it is; a hard link is [`Kind::Hard`] here.
    pub(crate) node: Rc<Node>,
}

/// Kinds of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// A regular file: its size, digest, and its bytes if they are few or an
    /// ELF header's worth.
    File { size: u64, digest: String, head: Vec<u8> },
    /// A symbolic link's target.
    Symlink(Vec<u8>),
    /// Another name of the file of this name in the archive.
    Hard(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character or block device.
    Device { block: bool, major: u32, minor: u32 },
}

/// A file with its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// What it is.
    pub(crate) kind: Kind,
    /// Permission bits, 07777.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u64,
    /// Group.
    pub(crate) gid: u64,
    /// Whole seconds since 1970.
    pub(crate) mtime: i64,
    /// Extended attributes.
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

impl Node {
    /// The bytes of a regular file: all of a small one, the first of a large one.
    pub(crate) fn head(&self) -> &[u8] {
        match &self.kind {
            Kind::File { head, .. } => head,
            _ => &[],
        }
    }
}

impl Entry {
    /// All entries of an archive. Owner names, absolute names and names with
    /// dots in them have no place in a layer.
    pub(crate) fn read_all(archive: &[u8]) -> Vec<Self> {
        let mut reader = tar::Archive::new(archive);
        reader.entries().expect("a tar archive").map(|entry| Self::read(entry.expect("an entry"))).collect()
    }

    fn read(mut entry: tar::Entry<'_, &[u8]>) -> Self {
        let mut xattrs = BTreeMap::new();
        let mut mtime = None;
        if let Some(extensions) = entry.pax_extensions().expect("PAX records") {
            for extension in extensions {
                let extension = extension.expect("a PAX record");
                let key = extension.key().expect("UTF-8");
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    xattrs.insert(name.to_owned(), extension.value_bytes().to_owned());
                } else if key == "mtime" {
                    let text = extension.value().expect("UTF-8");
                    mtime = Some(text.split('.').next().expect("a part").parse().expect("seconds"));
                }
            }
        }
        let full = entry.path_bytes().into_owned();
        let name = full.strip_suffix(b"/").unwrap_or(&full).to_owned();
        assert!(!name.starts_with(b"/") && !name.starts_with(b"./"), "layer entry {}", escape(&name));
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
        let header = entry.header().clone();
        assert!(
            header.username_bytes().is_none_or(<[u8]>::is_empty)
                && header.groupname_bytes().is_none_or(<[u8]>::is_empty),
            "layer entry {} carries an owner's name",
            escape(&name)
        );
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => Kind::Symlink(link.expect("a target")),
            tar::EntryType::Link => Kind::Hard(link.expect("a target")),
            tar::EntryType::Fifo => Kind::Fifo,
            kind @ (tar::EntryType::Char | tar::EntryType::Block) => Kind::Device {
                block: kind == tar::EntryType::Block,
                major: header.device_major().expect("major").unwrap_or(0),
                minor: header.device_minor().expect("minor").unwrap_or(0),
            },
            tar::EntryType::Regular => {
                let size = entry.size();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("content");
                assert_eq!(size, content.len() as u64, "layer entry {} is cut off", escape(&name));
                let digest = sha256(&content);
                content.truncate(if size > KEPT { 64 } else { content.len() });
                Kind::File { size, digest, head: content }
            }
            other => panic!("layer entry {} has type {other:?}", escape(&name)),
        };
        let node = Node {
            kind,
            mode: header.mode().expect("mode") & 0o7777,
            uid: header.uid().expect("uid"),
            gid: header.gid().expect("gid"),
            mtime: mtime.unwrap_or_else(|| header.mtime().expect("mtime").cast_signed()),
            xattrs,
        };
        Self { name, node: Rc::new(node) }
    }
}

/// A merged file tree. Names are absolute.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<Vec<u8>, Rc<Node>>,
}

impl Tree {
    /// Lays layers over each other, lowest first.
    pub(crate) fn merge<'a>(layers: impl Iterator<Item = &'a [Entry]>) -> Self {
        let mut tree = Self::default();
        for layer in layers {
            // Whiteouts hide what is below, wherever they stand in the archive.
            for entry in layer {
                tree.hide(&entry.name);
            }
            for entry in layer {
                tree.add(entry);
            }
        }
        tree
    }

    fn hide(&mut self, name: &[u8]) {
        let (parent, last) = split(name);
        if last == b".wh..wh..opq" {
            self.remove_below(&parent);
        } else if let Some(hidden) = last.strip_prefix(b".wh.")
            && !hidden.starts_with(b".wh.")
        {
            let path = join(&parent, hidden);
            self.remove_below(&path);
            self.nodes.remove(&path);
        }
    }

    fn add(&mut self, entry: &Entry) {
        let (parent, last) = split(&entry.name);
        if last.starts_with(b".wh.") {
            return;
        }
        let path = join(&parent, last);
        let node = match &entry.node.kind {
            Kind::Hard(target) => {
                let target = join(b"", target);
                Rc::clone(self.nodes.get(&target).unwrap_or_else(|| {
                    panic!("hard link {} to {}, which is not there", escape(&path), escape(&target))
                }))
            }
            Kind::Directory => Rc::clone(&entry.node),
            _ => {
                self.remove_below(&path);
                Rc::clone(&entry.node)
            }
        };
        self.nodes.insert(path, node);
    }

    fn remove_below(&mut self, path: &[u8]) {
        let prefix = join(path, b"");
        self.nodes.retain(|name, _| !name.starts_with(&prefix));
    }

    /// The node at an absolute path; links are not followed.
    pub(crate) fn get(&self, path: impl AsRef<[u8]>) -> Option<&Node> {
        self.nodes.get(path.as_ref()).map(Rc::as_ref)
    }

    /// The text of a small file.
    #[track_caller]
    pub(crate) fn text(&self, path: &str) -> String {
        let node = self.get(path).unwrap_or_else(|| panic!("no {path} in the image"));
        String::from_utf8_lossy(node.head()).into_owned()
    }

    /// All paths with their nodes, sorted by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_slice(), node.as_ref()))
    }

    /// One line for each path.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.changes(&Self::default())
    }

    /// One line for each path that is new or different against `base`, and
    /// `- PATH` for each that is gone. The time of a directory that was there
    /// before does not count: writing into it changes it.
    pub(crate) fn changes(&self, base: &Self) -> Vec<String> {
        let mut first_names: BTreeMap<*const Node, &[u8]> = BTreeMap::new();
        let mut lines: Vec<(&[u8], String)> = Vec::new();
        for (path, node) in &self.nodes {
            let first = *first_names.entry(Rc::as_ptr(node)).or_insert(path);
            let old = base.nodes.get(path);
            let same = old.is_some_and(|old| {
                let mut old = old.as_ref().clone();
                if node.kind == Kind::Directory {
                    old.mtime = node.mtime;
                }
                old == **node
            });
            if !same {
                lines.push((path, line(path, node, first)));
            }
        }
        for path in base.nodes.keys().filter(|path| !self.nodes.contains_key(*path)) {
            lines.push((path, format!("- {}", escape(path))));
        }
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

fn line(path: &[u8], node: &Node, first: &[u8]) -> String {
    let (letter, rest) = match &node.kind {
        Kind::Directory => ('d', String::new()),
        Kind::File { .. } if first != path => ('f', format!(" = {}", escape(first))),
        Kind::File { size, head, .. } if *size <= 80 && std::str::from_utf8(head).is_ok() => {
            ('f', format!(" {:?}", String::from_utf8_lossy(head)))
        }
        Kind::File { size, digest, .. } => ('f', format!(" {size} {}", &digest[..19])),
        Kind::Symlink(target) => ('l', format!(" -> {}", escape(target))),
        Kind::Hard(target) => ('h', format!(" = {}", escape(target))),
        Kind::Fifo => ('p', String::new()),
        Kind::Device { block, major, minor } => (if *block { 'b' } else { 'c' }, format!(" {major},{minor}")),
    };
    let time = if node.mtime == EPOCH { "epoch".to_owned() } else { node.mtime.to_string() };
    let mut text =
        format!("{:04o} {}:{} {letter} {time} {}{rest}", node.mode, node.uid, node.gid, escape(path));
    for (name, value) in &node.xattrs {
        text.push_str(&format!(" {name}=0x"));
        value.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    }
    text
}

/// A name as text: bytes that are no printable ASCII as `\xNN`.
pub(crate) fn escape(name: &[u8]) -> String {
    name.iter()
        .map(|byte| match byte {
            b' '..=b'~' if *byte != b'\\' => char::from(*byte).to_string(),
            other => format!("\\x{other:02x}"),
        })
        .collect()
}

/// Parent and last component of an archive name.
fn split(name: &[u8]) -> (Vec<u8>, &[u8]) {
    match name.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (join(b"", &name[..at]), &name[at + 1..]),
        None => (Vec::new(), name),
    }
}

/// `PARENT/NAME`.
fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    [parent, b"/", name].concat()
}
