//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`.
//!
//! `*` and `?` stop at line ends, as in BuildKit. The work is bounded by the
//! positions reached, never exponential.

/// A piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    Any,
    Star,
}

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct ShellPattern {
    pieces: Vec<Piece>,
}

impl ShellPattern {
    /// Reads a pattern; the error is the character that may not be escaped.
    pub(super) fn compile(pattern: &str) -> Result<Self, Option<char>> {
        let mut pieces = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                '*' => Piece::Star,
                '?' => Piece::Any,
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Piece::Char(escaped),
                    other => return Err(other),
                },
                c => Piece::Char(c),
            });
        }
        Ok(Self { pieces })
    }

    /// Cuts the shortest or longest match off the front.
    pub(super) fn trim_prefix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let cut = pick(&ends(&self.pieces, &chars, vec![0]), longest);
        chars[cut.unwrap_or(0)..].iter().collect()
    }

    /// Cuts the shortest or longest match off the end.
    pub(super) fn trim_suffix(&self, value: &str, longest: bool) -> String {
        let mut chars: Vec<char> = value.chars().rev().collect();
        let cut = pick(&ends(&self.reversed(), &chars, vec![0]), longest);
        chars.drain(..cut.unwrap_or(0));
        chars.iter().rev().collect()
    }

    /// Replaces the first match, or all that do not overlap; each is the longest
    /// at the leftmost place. `None` if the result is longer than `limit` bytes.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool, limit: usize) -> Option<String> {
        let chars: Vec<char> = value.chars().collect();
        // Where matches begin is where matches of the mirrored pattern end.
        let mirrored: Vec<char> = chars.iter().rev().copied().collect();
        let begins = ends(&self.reversed(), &mirrored, (0..=chars.len()).collect());
        let mut result = String::new();
        let mut copied = 0;
        let mut replaced = 0;
        for begin in begins.iter().rev().map(|end| chars.len() - end) {
            if begin < copied || (replaced > 0 && !all) {
                continue;
            }
            let end = pick(&ends(&self.pieces, &chars, vec![begin]), true).unwrap_or(begin);
            // An empty match right behind the last match is part of that one.
            if end == begin && begin == copied && replaced > 0 {
                continue;
            }
            result.extend(&chars[copied..begin]);
            result.push_str(replacement);
            if result.len() > limit {
                return None;
            }
            copied = end;
            replaced += 1;
        }
        result.extend(&chars[copied..]);
        Some(result)
    }

    fn reversed(&self) -> Vec<Piece> {
        self.pieces.iter().rev().copied().collect()
    }
}

fn pick(ends: &[usize], longest: bool) -> Option<usize> {
    if longest { ends.last().copied() } else { ends.first().copied() }
}

/// Where matches that begin at one of `at` (ascending) end, ascending.
fn ends(pieces: &[Piece], value: &[char], mut at: Vec<usize>) -> Vec<usize> {
    for piece in pieces {
        match piece {
            Piece::Char(wanted) => at.retain(|p| value.get(*p) == Some(wanted)),
            Piece::Any => at.retain(|p| value.get(*p).is_some_and(|c| *c != '\n')),
            Piece::Star => {
                at = stretch(value, &at);
                continue;
            }
        }
        at.iter_mut().for_each(|p| *p += 1);
    }
    at
}

/// Every position from one of `at` up to the end of its line.
fn stretch(value: &[char], at: &[usize]) -> Vec<usize> {
    let mut reached = Vec::new();
    let mut next = 0;
    for begin in at {
        if *begin < next {
            continue;
        }
        next = *begin;
        loop {
            reached.push(next);
            next += 1;
            if value.get(next - 1).is_none_or(|c| *c == '\n') {
                break;
            }
        }
    }
    reached
}
