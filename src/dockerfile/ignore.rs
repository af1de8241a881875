//! `.dockerignore`: which paths of a context a build does not see.
//!
//! Owns: reading the file, deciding each path, saying which rule decided.
//!
//! Refuses: `!` alone and malformed patterns, with their line.
//!
//! Invariants:
//! - A rule hits a path if its pattern matches the path or one of its parents;
//!   the last rule that hits decides. So a path's verdict is its parent's,
//!   unless a *later* rule matches the path itself, and walking from the top
//!   costs one lookup for each path.
//! - Rules are found by the literal text that a match must begin or end with,
//!   so 100,000 of them cost no more than a few.
//!
//! Sources: BuildKit's Dockerfile reference.

use std::collections::{BTreeMap, HashMap};

use super::pattern::{Pattern, PatternError};

/// A line that is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgnoreError {
    /// `!` with nothing behind it.
    #[error("illegal exclusion pattern: \"!\"")]
    Alone {
        /// The line, from 1.
        line: u32,
    },
    /// A pattern that cannot be read.
    #[error("{source}")]
    Pattern {
        /// The line, from 1.
        line: u32,
        /// What is wrong with it.
        source: PatternError,
    },
}

impl IgnoreError {
    /// The line of the fault, from 1.
    #[must_use]
    pub const fn line(&self) -> u32 {
        match self {
            Self::Alone { line } | Self::Pattern { line, .. } => *line,
        }
    }
}

/// What the rules say of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    /// The path is not part of the context.
    pub ignored: bool,
    /// The rule that decided, for [`Ignore::rule`]; `None` if no rule hit.
    pub rule: Option<usize>,
}

impl Verdict {
    /// The verdict on the root, where a walk begins: never ignored.
    #[must_use]
    pub const fn root() -> Self {
        Self { ignored: false, rule: None }
    }
}

#[derive(Debug, Clone)]
struct Rule {
    line: u32,
    text: String,
    reinclude: bool,
    pattern: Pattern,
}

/// How long the keys of [`Ignore::cores`] are.
const CORE_LENGTHS: [usize; 6] = [32, 16, 8, 4, 2, 1];

/// Rules by a literal text that each of their matches has at a known place.
#[derive(Debug, Clone, Default)]
struct Buckets {
    /// Latest rule first.
    rules: HashMap<Vec<u8>, Vec<usize>>,
    /// The lengths of the keys, each once.
    lengths: Vec<usize>,
}

/// A compiled list of rules.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    /// What the file is called, for messages.
    name: Option<String>,
    rules: Vec<Rule>,
    exact: HashMap<Vec<u8>, usize>,
    /// By what their matches begin with.
    heads: Buckets,
    /// By what their matches end with.
    tails: Buckets,
    /// By what their matches contain.
    cores: Buckets,
    /// Rules that are all wildcards, latest first.
    others: Vec<usize>,
    /// Re-including rules by the literal text that their matches begin with.
    reincluding: BTreeMap<Vec<u8>, Vec<usize>>,
}

impl Ignore {
    /// No rules: nothing is ignored.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads a `.dockerignore` file.
    ///
    /// # Errors
    ///
    /// `!` alone and malformed patterns.
    pub fn parse(text: &[u8]) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        Self::compile(text.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.starts_with(b"#")))
    }

    /// Compiles patterns given one by one, as `--exclude` does: no comments.
    /// Their "lines" count from 1.
    ///
    /// # Errors
    ///
    /// `!` alone and malformed patterns.
    pub fn from_patterns<S: AsRef<str>>(patterns: &[S]) -> Result<Self, IgnoreError> {
        Self::compile(patterns.iter().map(|pattern| pattern.as_ref().as_bytes()).zip(1..))
    }

    fn compile<'a>(lines: impl Iterator<Item = (&'a [u8], u32)>) -> Result<Self, IgnoreError> {
        let mut ignore = Self::none();
        // Of equal patterns only the last can ever decide.
        let mut latest = HashMap::new();
        for (text, line) in lines {
            let text = trim(text);
            if text.is_empty() {
                continue;
            }
            let (reinclude, pattern) = normalize(text).ok_or(IgnoreError::Alone { line })?;
            let compiled =
                Pattern::compile_bytes(&pattern).map_err(|source| IgnoreError::Pattern { line, source })?;
            latest.insert(pattern, ignore.rules.len());
            let text = String::from_utf8_lossy(text).into_owned();
            ignore.rules.push(Rule { line, text, reinclude, pattern: compiled });
        }
        let mut latest: Vec<usize> = latest.into_values().collect();
        latest.sort_unstable_by(|a, b| b.cmp(a));
        for index in latest {
            ignore.index(index);
        }
        Ok(ignore)
    }

    /// Enters a rule into the tables; called with the latest rule first.
    fn index(&mut self, index: usize) {
        let Rule { pattern, reinclude, .. } = &self.rules[index];
        let (head, tail, core) = (pattern.head(), pattern.tail(), pattern.core());
        if *reinclude {
            self.reincluding.entry(head.to_vec()).or_default().push(index);
        }
        // The longest text tells most paths apart.
        if let Some(path) = pattern.exact() {
            // `a` and `\a` are one path; the latest came first.
            self.exact.entry(path.to_vec()).or_insert(index);
        } else if core.is_empty() {
            self.others.push(index);
        } else if head.len() == core.len() {
            self.heads.push(head, index);
        } else if tail.len() == core.len() {
            self.tails.push(tail, index);
        } else {
            // Keys of few lengths, as each is looked for everywhere in a path.
            let length = CORE_LENGTHS.into_iter().find(|length| *length <= core.len()).unwrap_or(1);
            self.cores.push(&core[core.len() - length..], index);
        }
    }

    /// Whether there are no rules at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The line (from 1) and the text, trimmed, of the rule that a verdict names.
    ///
    /// # Panics
    ///
    /// If `index` is not from a verdict of these rules.
    #[must_use]
    pub fn rule(&self, index: usize) -> (u32, &str) {
        let rule = &self.rules[index];
        (rule.line, &rule.text)
    }

    /// The same rules, from a file that is called something else than `.dockerignore`.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The rule that a verdict names, for messages: `.dockerignore:3: *.log`.
    ///
    /// # Panics
    ///
    /// As [`Ignore::rule`].
    #[must_use]
    pub fn describe(&self, index: usize) -> String {
        let (line, text) = self.rule(index);
        format!("{}:{line}: {text}", self.name.as_deref().unwrap_or(".dockerignore"))
    }

    /// The rule that hides a copy's source, as [`Ignore::describe`] gives it. The whole context is
    /// hidden where every name in it is. `None` where nothing hides the source, and where any rule
    /// re-includes: then only a walk can tell.
    #[must_use]
    pub fn hides_source(&self, source: &str) -> Option<String> {
        if self.rules.iter().any(|rule| rule.reinclude) {
            return None;
        }
        let cleaned = clean(format!("/{source}").as_bytes());
        let path = cleaned.strip_prefix(b"/").unwrap_or(&cleaned);
        // No rule is about this name alone.
        let verdict = self.verdict_of(if path.is_empty() { b"\x01" } else { path });
        verdict.rule.filter(|_| verdict.ignored).map(|rule| self.describe(rule))
    }

    /// The verdict on `path` (relative to the context, clean, without a final
    /// slash), given that on its parent directory.
    #[must_use]
    pub fn verdict(&self, path: &[u8], parent: &Verdict) -> Verdict {
        if path.is_empty() {
            return Verdict::root();
        }
        match self.last_match(path, parent.rule) {
            Some(rule) => Verdict { ignored: !self.rules[rule].reinclude, rule: Some(rule) },
            None => Verdict::root(),
        }
    }

    /// The verdict on `path`, from the root down.
    #[must_use]
    pub fn verdict_of(&self, path: &[u8]) -> Verdict {
        let ends = (0..path.len()).filter(|end| path[*end] == b'/').chain([path.len()]);
        ends.fold(Verdict::root(), |parent, end| self.verdict(&path[..end], &parent))
    }

    /// Whether something below `dir` could be part of the context. False lets a
    /// walk leave out `dir` with everything below it; it is false only if `dir`
    /// is ignored and no later `!` rule can match anything below it.
    #[must_use]
    pub fn may_reinclude_below(&self, dir: &[u8]) -> bool {
        let Verdict { ignored: true, rule: Some(decided) } = self.verdict_of(dir) else {
            return true;
        };
        let start = [dir, b"/"].concat();
        let later = |rules: &[usize]| rules.first().is_some_and(|rule| *rule > decided);
        let mut extending =
            self.reincluding.range(start.clone()..).take_while(|(head, _)| head.starts_with(&start));
        if extending.any(|(_, rules)| later(rules)) {
            return true;
        }
        let heads = (0..start.len()).filter_map(|end| self.reincluding.get(&start[..end]));
        heads
            .flat_map(|rules| rules.iter().take_while(|rule| **rule > decided))
            .any(|rule| self.rules[*rule].pattern.may_match_below(dir))
    }

    /// The last rule after `decided` that matches the path itself, else `decided`.
    fn last_match(&self, path: &[u8], decided: Option<usize>) -> Option<usize> {
        let mut best = decided.max(self.exact.get(path).copied());
        let mut consider = |rules: &[usize]| {
            let later = rules.iter().take_while(|rule| Some(**rule) > best);
            let hit = later.copied().find(|rule| self.rules[*rule].pattern.matches(path));
            best = hit.or(best);
        };
        for length in self.heads.lengths(path) {
            if let Some(rules) = self.heads.get(&path[..length]) {
                consider(rules);
            }
        }
        for length in self.tails.lengths(path) {
            if let Some(rules) = self.tails.get(&path[path.len() - length..]) {
                consider(rules);
            }
        }
        for length in self.cores.lengths(path) {
            path.windows(length).filter_map(|key| self.cores.get(key)).for_each(&mut consider);
        }
        consider(&self.others);
        best
    }
}

impl Buckets {
    fn push(&mut self, key: &[u8], rule: usize) {
        if !self.lengths.contains(&key.len()) {
            self.lengths.push(key.len());
        }
        self.rules.entry(key.to_vec()).or_default().push(rule);
    }

    /// The lengths of keys that fit into `path`.
    fn lengths(&self, path: &[u8]) -> impl Iterator<Item = usize> {
        self.lengths.iter().copied().filter(|length| *length <= path.len())
    }

    fn get(&self, key: &[u8]) -> Option<&[usize]> {
        self.rules.get(key).map(Vec::as_slice)
    }
}

/// Splits off `!` and cleans the rest; `None` for `!` alone.
///
/// A pattern is cleaned as read and again as compiled, and only then is its `!`
/// looked at, so `./!x` re-includes `x`. It is what others do with such files.
fn normalize(text: &[u8]) -> Option<(bool, Vec<u8>)> {
    let bare = text.strip_prefix(b"!");
    let mut pattern = trim(bare.unwrap_or(text)).to_vec();
    if !pattern.is_empty() {
        pattern = clean(&pattern);
        if pattern.len() > 1 && pattern[0] == b'/' {
            pattern.remove(0);
        }
    }
    if bare.is_some() {
        pattern.insert(0, b'!');
    }
    let pattern = clean(trim(&pattern));
    match pattern.strip_prefix(b"!") {
        Some([]) => None,
        Some(rest) => Some((true, rest.to_vec())),
        None => Some((false, pattern)),
    }
}

/// Cuts white space (as Unicode has it, where the line is text) at both ends.
fn trim(line: &[u8]) -> &[u8] {
    match std::str::from_utf8(line) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => line.trim_ascii(),
    }
}

/// The shortest equal path: no empty parts, no `.`, `..` resolved where possible.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            b".." if rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests;
