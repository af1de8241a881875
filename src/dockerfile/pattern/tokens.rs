//! The pieces of a compiled pattern, and the one matcher that runs them.
//!
//! Matching keeps the set of positions that the pieces read so far can end at,
//! so it takes at most (pieces x path length) steps, whatever the pattern.

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// These bytes. Never empty, never next to another literal.
    Literal(Vec<u8>),
    /// One character, but not `/`.
    One,
    /// One character that is in one of the ranges, or (negated) in none.
    Class { negated: bool, ranges: Vec<(u32, u32)> },
    /// Any run of characters without `/`.
    Star,
    /// Nothing, or anything that ends in `/`.
    Dirs,
    /// Anything at all.
    Rest,
}

/// Bytes that are not part of a valid UTF-8 character count from here, so that
/// none of them equals a character.
const STRAY: u32 = 0x11_0000;

/// The character (or stray byte) at `at`, which is inside `bytes`, and its length in bytes.
fn unit_at(bytes: &[u8], at: usize) -> (u32, usize) {
    let first = bytes[at];
    let length = match first {
        0..=0x7f => return (u32::from(first), 1),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return (STRAY + u32::from(first), 1),
    };
    let decoded = bytes
        .get(at..at + length)
        .and_then(|unit| std::str::from_utf8(unit).ok())
        .and_then(|unit| unit.chars().next());
    match decoded {
        Some(character) => (u32::from(character), length),
        None => (STRAY + u32::from(first), 1),
    }
}

/// Reads a pattern. Only with `double_star` does `**` mean more than `*`.
pub(super) fn read(pattern: &[u8], double_star: bool) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'*' if double_star && pattern.get(at + 1) == Some(&b'*') => {
                at += 2;
                if pattern.get(at) == Some(&b'/') {
                    at += 1;
                }
                tokens.push(if at == pattern.len() { Token::Rest } else { Token::Dirs });
            }
            b'*' => {
                at += 1;
                if tokens.last() != Some(&Token::Star) {
                    tokens.push(Token::Star);
                }
            }
            b'?' => {
                at += 1;
                tokens.push(Token::One);
            }
            b'[' => tokens.push(read_class(pattern, &mut at)?),
            b'\\' => {
                let byte = pattern.get(at + 1).ok_or("nothing follows the `\\`")?;
                push_literal(&mut tokens, *byte);
                at += 2;
            }
            byte => {
                push_literal(&mut tokens, byte);
                at += 1;
            }
        }
    }
    // `**.md` hits any path with that ending, also below directories and with
    // something before it in the name, but only if no other wildcard follows.
    let plain = |byte: &u8| !b"*?[]\\".contains(byte);
    let tail = pattern.get(2..).unwrap_or_default();
    if tokens.len() == 2 && tokens[0] == Token::Dirs && tail[0] != b'/' && tail.iter().all(plain) {
        tokens[0] = Token::Rest;
    }
    Ok(tokens)
}

fn push_literal(tokens: &mut Vec<Token>, byte: u8) {
    if let Some(Token::Literal(bytes)) = tokens.last_mut() {
        bytes.push(byte);
    } else {
        tokens.push(Token::Literal(vec![byte]));
    }
}

/// Reads the class whose `[` is at `at`, and moves `at` behind its `]`.
fn read_class(pattern: &[u8], at: &mut usize) -> Result<Token, &'static str> {
    const OPEN: &str = "the `[` has no `]`";
    *at += 1;
    let negated = pattern.get(*at) == Some(&b'^');
    if negated {
        *at += 1;
    }
    let mut ranges = Vec::new();
    loop {
        if pattern.get(*at) == Some(&b']') && !ranges.is_empty() {
            *at += 1;
            return Ok(Token::Class { negated, ranges });
        }
        let low = read_member(pattern, at).ok_or(OPEN)?;
        let mut high = low;
        if pattern.get(*at) == Some(&b'-') {
            *at += 1;
            high = read_member(pattern, at).ok_or("the `-` in `[ ]` has no end")?;
        }
        if high < low {
            return Err("a range in `[ ]` ends before it begins");
        }
        ranges.push((low, high));
    }
}

/// Reads one member of a class: a character, or any character after `\`.
fn read_member(pattern: &[u8], at: &mut usize) -> Option<u32> {
    match pattern.get(*at)? {
        b'-' | b']' => return None,
        b'\\' => *at += 1,
        _ => {}
    }
    if *at >= pattern.len() {
        return None;
    }
    let (unit, length) = unit_at(pattern, *at);
    *at += length;
    Some(unit)
}

/// Whether the whole of `path` matches.
pub(super) fn matches(tokens: &[Token], path: &[u8]) -> bool {
    match tokens {
        [Token::Literal(bytes)] => return bytes == path,
        [Token::Literal(bytes), ..] if !path.starts_with(bytes) => return false,
        [.., Token::Literal(bytes)] if !path.ends_with(bytes) => return false,
        _ => {}
    }
    let mut at = vec![false; path.len() + 1];
    at[0] = true;
    for token in tokens {
        step(token, path, &mut at);
        if !at.contains(&true) {
            return false;
        }
    }
    at[path.len()]
}

/// Whether some path that begins with `start` and is longer may match.
pub(super) fn may_match_longer(tokens: &[Token], start: &[u8]) -> bool {
    let mut at = vec![false; start.len() + 1];
    at[0] = true;
    for token in tokens {
        let overruns = match token {
            Token::Literal(bytes) => (0..start.len()).any(|p| at[p] && bytes.starts_with(&start[p..])),
            Token::Dirs | Token::Rest => true,
            Token::One | Token::Class { .. } | Token::Star => false,
        };
        // A piece that begins at the end of `start` reads what comes after it.
        if overruns || at[start.len()] {
            return true;
        }
        step(token, start, &mut at);
        if !at.contains(&true) {
            return false;
        }
    }
    false
}

/// Moves every position over one piece.
fn step(token: &Token, path: &[u8], at: &mut [bool]) {
    let end = path.len();
    match token {
        // Downwards, so that no moved position is moved again.
        Token::Literal(bytes) => {
            for p in (0..=end).rev() {
                if std::mem::take(&mut at[p]) && path[p..].starts_with(bytes) {
                    at[p + bytes.len()] = true;
                }
            }
        }
        Token::One | Token::Class { .. } => {
            for p in (0..=end).rev() {
                if std::mem::take(&mut at[p]) && p < end {
                    let (unit, length) = unit_at(path, p);
                    if accepts(token, unit) {
                        at[p + length] = true;
                    }
                }
            }
        }
        Token::Star => {
            for p in 0..end {
                if at[p] && path[p] != b'/' {
                    at[p + unit_at(path, p).1] = true;
                }
            }
        }
        Token::Dirs => {
            let mut begun = false;
            for p in 0..=end {
                let closes = begun && path[p - 1] == b'/';
                begun |= at[p];
                at[p] |= closes;
            }
        }
        Token::Rest => {
            let mut begun = false;
            for reached in at {
                begun |= *reached;
                *reached = begun;
            }
        }
    }
}

fn accepts(token: &Token, unit: u32) -> bool {
    match token {
        Token::Class { negated, ranges } => {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&unit)) != *negated
        }
        _ => unit != u32::from(b'/'),
    }
}
