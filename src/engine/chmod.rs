//! `--chmod`: octal, or symbolic as chmod(1) reads it with an umask of zero.

use super::StepFailure;

/// What to do with the mode of every copied entry but links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chmod {
    /// Set it to this.
    Octal(u32),
    /// Change it by these clauses, in order.
    Symbolic(Vec<Clause>),
}

/// One clause, e.g. `go=rX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    /// Whose bits: a mask over `0700`, `0070` and `0007`.
    who: u32,
    actions: Vec<(Operator, Permissions)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Permissions {
    /// Bits `rwx` as in the lowest three.
    bits: u32,
    /// `X`: execute where it is a directory or somebody may execute already.
    conditional: bool,
    setid: bool,
    sticky: bool,
    /// Bits copied from user, group or others: the shift of the source.
    copied: Option<u32>,
}

impl Chmod {
    /// Reads the flag's value.
    ///
    /// # Errors
    ///
    /// Fails for what is neither an octal number up to 07777 nor a symbolic mode.
    pub(super) fn parse(text: &str) -> Result<Self, StepFailure> {
        let bad = || {
            StepFailure::refused(format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            ))
            .with_hint("or a symbolic mode such as u=rwX,go=rX")
        };
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Ok(Self::Octal(mode)),
                _ => Err(bad()),
            };
        }
        let clauses: Option<Vec<_>> = text.split(',').map(clause).collect();
        clauses.map(Self::Symbolic).ok_or_else(bad)
    }

    /// The mode of an entry that had `mode`.
    pub(super) fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(clauses) => {
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, directory))
            }
        }
    }

    /// The mode of parent directories that are made for the copy.
    pub(super) fn parents(&self) -> u32 {
        match self {
            Self::Octal(mode) => mode & 0o777,
            Self::Symbolic(_) => 0o755,
        }
    }
}

fn clause(text: &str) -> Option<Clause> {
    let actions_at = text.find(['+', '-', '='])?;
    let (who_text, mut rest) = text.split_at(actions_at);
    let mut who = 0;
    for letter in who_text.chars() {
        who |= match letter {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => 0o777,
            _ => return None,
        };
    }
    let mut actions = Vec::new();
    while let Some(first) = rest.chars().next() {
        let operator = match first {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            '=' => Operator::Set,
            _ => return None,
        };
        rest = &rest[1..];
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        actions.push((operator, permissions(&rest[..end])?));
        rest = &rest[end..];
    }
    Some(Clause { who: if who_text.is_empty() { 0o777 } else { who }, actions })
}

fn permissions(text: &str) -> Option<Permissions> {
    let mut permissions = Permissions::default();
    if let "u" | "g" | "o" = text {
        permissions.copied = Some(match text {
            "u" => 6,
            "g" => 3,
            _ => 0,
        });
        return Some(permissions);
    }
    for letter in text.chars() {
        match letter {
            'r' => permissions.bits |= 4,
            'w' => permissions.bits |= 2,
            'x' => permissions.bits |= 1,
            'X' => permissions.conditional = true,
            's' => permissions.setid = true,
            't' => permissions.sticky = true,
            _ => return None,
        }
    }
    Some(permissions)
}

impl Clause {
    fn apply(&self, mode: u32, directory: bool) -> u32 {
        self.actions.iter().fold(mode, |mode, (operator, permissions)| {
            let mut bits = permissions.copied.map_or(permissions.bits, |shift| mode >> shift & 7);
            if permissions.conditional && (directory || mode & 0o111 != 0) {
                bits |= 1;
            }
            let mut change = (bits << 6 | bits << 3 | bits) & self.who;
            let mut affected = self.who;
            for (class, bit) in [(0o700, 0o4000), (0o070, 0o2000)] {
                if self.who & class != 0 {
                    affected |= bit;
                    if permissions.setid {
                        change |= bit;
                    }
                }
            }
            if permissions.sticky {
                change |= 0o1000;
            }
            match operator {
                Operator::Add => mode | change,
                Operator::Remove => mode & !change,
                // As chmod(1): a directory keeps its set-id bits unless they are named.
                Operator::Set => {
                    let kept = if directory { 0o6000 } else { 0 };
                    mode & !(affected & !kept) | change
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, mode, directory, want) in [
            ("640", 0o755, true, 0o640),
            ("04755", 0o600, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("go-w", 0o666, false, 0o644),
            ("u+s,o+t", 0o755, false, 0o5755),
            ("g=u", 0o740, false, 0o770),
            ("a=", 0o777, false, 0),
            ("u=rw+x", 0o000, false, 0o700),
        ] {
            assert_eq!(Chmod::parse(text).unwrap().apply(mode, directory), want, "{text} on {mode:o}");
        }
    }

    #[test]
    fn faults() {
        for text in ["9", "10000", "", "z=r", "u", "u=q", "0x1", "u=rwx,", "-1q"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
