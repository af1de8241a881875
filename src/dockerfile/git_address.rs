//! [`GitAddress`]: a git repository as a source, with the commit, directory and options it names.

use std::fmt;

use super::git_remote::{GitRemote, check_characters, scp_parts, unescape};
use super::suggest::nearest;

/// Keys of an address's query.
const KEYS: [&str; 10] = [
    "ref",
    "branch",
    "tag",
    "commit",
    "checksum",
    "subdir",
    "submodules",
    "keep-git-dir",
    "mtime",
    "fetch-by-commit",
];

/// Transports that must never be mistaken for a path of the build context.
const LOCAL_TRANSPORTS: [&str; 3] = ["file://", "ext::", "fd::"];

/// Shortest checksum or commit: what git itself takes for one.
const SHORTEST_HASH: usize = 4;
/// Longest one: SHA-256.
const LONGEST_HASH: usize = 64;

/// Why an address is not usable. No variant holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GitAddressError {
    /// Neither a URL nor `user@host:path`.
    #[error("it is neither a URL nor of the form user@host:path")]
    NotRemote,
    /// More than 4096 bytes.
    #[error("the git address is longer than 4096 bytes")]
    TooLong,
    /// Characters that no honest address holds.
    #[error("the git address holds control characters")]
    Character,
    /// `%` without two hexadecimal digits, or bytes that are not UTF-8.
    #[error("the git address has an invalid URL escape; write a percent sign as %25")]
    Escape,
    /// A transport that could run programs or read local files, or is unknown.
    #[error("git transport {0:?} is not allowed; use https, ssh, http or git")]
    Transport(String),
    /// A part that is missing or not allowed.
    #[error("{part} of the git address is not usable: {reason}")]
    Part {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// Two references.
    #[error("ref conflicts: {0:?} vs {1:?}")]
    RefConflict(String, String),
    /// Two directories.
    #[error("subdir conflicts: {0:?} vs {1:?}")]
    SubdirConflict(String, String),
    /// Two commits.
    #[error("checksum conflicts: {0:?} vs {1:?}")]
    ChecksumConflict(String, String),
    /// A branch and a tag.
    #[error("branch conflicts with tag")]
    BranchAndTag,
    /// A key without its value.
    #[error("query {0:?} has no value")]
    NoValue(String),
    /// A key that stands there twice.
    #[error("query {0:?} has multiple values")]
    MultipleValues(String),
    /// A value that its key does not take.
    #[error("invalid {key} value: {value:?}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A key that is not known.
    #[error("unexpected query {key:?}{}", .nearest.as_ref().map(|known| format!(" (did you mean {known:?}?)")).unwrap_or_default())]
    Unexpected {
        /// The key.
        key: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// `fetch-by-commit` without a whole commit hash.
    #[error("fetch-by-commit needs the whole commit hash as `checksum`")]
    FetchByCommit,
}

/// What the files of a git source have as modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GitTime {
    /// The time of the commit: the same for everybody.
    #[default]
    Commit,
    /// The time of the build.
    Checkout,
}

/// A git repository as a source.
///
/// `Display` is the address without credentials, for messages and history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitAddress {
    /// Where the repository is.
    pub remote: GitRemote,
    /// A branch, tag, full reference or commit; `None` means what the server's HEAD means.
    pub reference: Option<String>,
    /// The commit that the reference must mean, in lower-case hexadecimal; may be a prefix.
    pub checksum: Option<String>,
    /// The directory whose content is meant: relative, clean, never empty.
    pub subdir: Option<String>,
    /// Whether submodules are fetched; `None` where nothing is said (they are).
    pub submodules: Option<bool>,
    /// Whether `.git` is kept; `None` where nothing is said.
    pub keep_git_dir: Option<bool>,
    /// What the files' times are.
    pub mtime: GitTime,
    /// Whether the commit in `checksum` is fetched without asking what the reference means now.
    pub fetch_by_commit: bool,
}

impl GitAddress {
    /// Reads a source of ADD or the value of a named context. `None`: it is no git address.
    ///
    /// Git addresses are `http://` and `https://` URLs whose path ends in `.git`, `git://` and
    /// `ssh://` URLs and `user@host:path`, each with an optional query and `#ref:subdir`.
    ///
    /// # Errors
    ///
    /// Fails for git addresses that are hostile or have unknown, double or conflicting options.
    ///
    /// Source: BuildKit's `dfgitutil`, with its texts.
    pub fn parse(text: &str) -> Result<Option<Self>, GitAddressError> {
        if let Some(transport) = LOCAL_TRANSPORTS.iter().find(|local| has_prefix(text, local)) {
            return Err(GitAddressError::Transport(transport.trim_end_matches(['/', ':']).to_owned()));
        }
        if !is_git(text) {
            return Ok(None);
        }
        check_characters(text)?;
        let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (remote, query) = before.split_once('?').unwrap_or((before, ""));
        let fragment = if remote.contains("://") { unescape(fragment)? } else { fragment.to_owned() };
        let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
        let mut address = Self {
            remote: GitRemote::parse(remote)?,
            reference: given(reference),
            checksum: None,
            subdir: given(subdir),
            submodules: None,
            keep_git_dir: None,
            mtime: GitTime::default(),
            fetch_by_commit: false,
        };
        address.read_query(query)?;
        address.check()?;
        Ok(Some(address))
    }

    /// As [`GitAddress::parse`], for a build context: `github.com/owner/name` is one as well.
    ///
    /// # Errors
    ///
    /// As [`GitAddress::parse`].
    pub fn parse_context(text: &str) -> Result<Option<Self>, GitAddressError> {
        let Some(rest) = text.strip_prefix("github.com/") else {
            return Self::parse(text);
        };
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (path, options) = rest.split_at(end);
        // The suffix makes it one of the URLs that mean git; it is not part of what was written.
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        Self::parse(&format!("https://github.com/{path}.git{options}"))
    }

    fn read_query(&mut self, query: &str) -> Result<(), GitAddressError> {
        let (mut tag, mut branch): (Option<String>, Option<String>) = (None, None);
        let mut seen: Vec<&str> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (unescape(key)?, unescape(&value.replace('+', " "))?);
            let Some(known) = KEYS.into_iter().find(|known| *known == key) else {
                let nearest = nearest(&key, KEYS);
                return Err(GitAddressError::Unexpected { key, nearest });
            };
            if seen.contains(&known) {
                return Err(GitAddressError::MultipleValues(key));
            }
            seen.push(known);
            if value.is_empty() && !matches!(known, "submodules" | "keep-git-dir" | "fetch-by-commit") {
                return Err(GitAddressError::NoValue(key));
            }
            match known {
                "ref" => {
                    self.reference = Some(one(self.reference.take(), value, GitAddressError::RefConflict)?);
                }
                "tag" => tag = Some(below("refs/tags/", value)),
                "branch" => branch = Some(below("refs/heads/", value)),
                "subdir" => {
                    self.subdir = Some(one(self.subdir.take(), value, GitAddressError::SubdirConflict)?);
                }
                "checksum" | "commit" => {
                    self.checksum =
                        Some(one(self.checksum.take(), value, GitAddressError::ChecksumConflict)?);
                }
                "submodules" => self.submodules = Some(boolean(known, value)?),
                "keep-git-dir" => self.keep_git_dir = Some(boolean(known, value)?),
                "fetch-by-commit" => self.fetch_by_commit = boolean(known, value)?,
                _ => {
                    self.mtime = match value.as_str() {
                        "commit" => GitTime::Commit,
                        "checkout" => GitTime::Checkout,
                        _ => return Err(GitAddressError::Value { key: "mtime", value }),
                    }
                }
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err(GitAddressError::BranchAndTag);
        }
        if let Some(name) = tag.or(branch) {
            self.reference = Some(one(self.reference.take(), name, GitAddressError::RefConflict)?);
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), GitAddressError> {
        if let Some(checksum) = &mut self.checksum {
            *checksum = Self::read_checksum(checksum)?;
            if self.reference.is_none() {
                self.reference = Some(checksum.clone());
            }
        }
        if let Some(reference) = &self.reference {
            check_reference(reference)?;
        }
        if let Some(subdir) = self.subdir.take() {
            self.subdir = clean_subdir(&subdir)?;
        }
        let whole = self.checksum.as_deref().is_some_and(is_whole_hash);
        if self.fetch_by_commit && !whole {
            return Err(GitAddressError::FetchByCommit);
        }
        Ok(())
    }

    /// Reads a commit hash or the beginning of one, as `ADD --checksum` takes it for git sources,
    /// into lower case.
    ///
    /// # Errors
    ///
    /// Fails for everything but 4 to 64 hexadecimal digits.
    pub fn read_checksum(text: &str) -> Result<String, GitAddressError> {
        let hexadecimal = text.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !hexadecimal || !(SHORTEST_HASH..=LONGEST_HASH).contains(&text.len()) {
            return Err(GitAddressError::Value { key: "checksum", value: text.to_owned() });
        }
        Ok(text.to_ascii_lowercase())
    }

    /// The commit, where the address says it in full: nothing has to be asked.
    pub fn commit(&self) -> Option<String> {
        let named = if self.fetch_by_commit { self.checksum.as_deref() } else { self.reference.as_deref() };
        named.filter(|name| is_whole_hash(name)).map(str::to_ascii_lowercase)
    }

    /// The address without credentials: what `Display` writes.
    pub fn redacted(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for GitAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remote)?;
        match (&self.reference, &self.subdir) {
            (None, None) => Ok(()),
            (Some(reference), None) => write!(f, "#{reference}"),
            (reference, Some(subdir)) => write!(f, "#{}:{subdir}", reference.as_deref().unwrap_or_default()),
        }
    }
}

/// `text` without names and passwords in URLs, e.g. for history lines and messages.
pub fn without_userinfo(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        rest = match userinfo(after) {
            0 => after,
            // The @ goes as well.
            length => &after[length + 1..],
        };
    }
    shown + rest
}

/// The length in bytes of the name and password that stand before an `@`, behind `://`; 0 if there
/// are none.
pub(super) fn userinfo(after: &str) -> usize {
    let end = after.find(|letter: char| letter.is_whitespace() || "/?#\"'".contains(letter));
    after[..end.unwrap_or(after.len())].rfind('@').unwrap_or(0)
}

/// Whether a text is meant as a git address, usable or not.
fn is_git(text: &str) -> bool {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let before = &text[..end];
    if has_prefix(text, "http://") || has_prefix(text, "https://") {
        return before.ends_with(".git");
    }
    has_prefix(text, "git://") || has_prefix(text, "ssh://") || scp_parts(before).is_some()
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn below(prefix: &str, name: String) -> String {
    if name.starts_with(prefix) { name } else { format!("{prefix}{name}") }
}

fn one(
    earlier: Option<String>,
    value: String,
    conflict: fn(String, String) -> GitAddressError,
) -> Result<String, GitAddressError> {
    match earlier {
        Some(earlier) if earlier != value => Err(conflict(earlier, value)),
        _ => Ok(value),
    }
}

fn boolean(key: &'static str, value: String) -> Result<bool, GitAddressError> {
    match value.as_str() {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(GitAddressError::Value { key, value }),
    }
}

fn is_whole_hash(text: &str) -> bool {
    matches!(text.len(), 40 | LONGEST_HASH) && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Refuses what is an option, a pattern or an expression to git.
///
/// Source: git-check-ref-format(1).
fn check_reference(name: &str) -> Result<(), GitAddressError> {
    let component = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    let reason = if name.starts_with('-') {
        "it must not begin with `-`"
    } else if name.contains(['~', '^', ':', '?', '*', '[', '\\', ' ']) {
        "it must not hold blanks or any of `~^:?*[\\`"
    } else if name.starts_with('+') {
        "it must not begin with `+`"
    } else if name.contains("..") || name.contains("@{") || name == "@" {
        "it must not hold `..` or `@{`"
    } else if name.ends_with('.') || name.split('/').any(component) {
        "it has a part that is empty, begins or ends with a dot or ends with `.lock`"
    } else {
        return Ok(());
    };
    Err(GitAddressError::Part { part: "ref", reason })
}

/// The directory as a clean relative path; `None` for the root.
fn clean_subdir(text: &str) -> Result<Option<String>, GitAddressError> {
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let reason = if parts.contains(&"..") {
        "it must not hold `..`"
    } else if parts.iter().any(|part| part.eq_ignore_ascii_case(".git")) {
        "`.git` is no part of a commit"
    } else {
        return Ok(given(&parts.join("/")));
    };
    Err(GitAddressError::Part { part: "subdir", reason })
}

#[cfg(test)]
#[path = "git_address_tests.rs"]
mod tests;
