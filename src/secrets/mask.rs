//! Hides secret values in text.

/// Values shorter than this are words that turn up anywhere; hiding them would hide everything.
const SHORTEST: usize = 4;
/// What is shown instead.
const SHOWN: &[u8] = b"***";

/// Finds values and their lines in what commands print, and hides them.
#[derive(Clone, Default)]
pub struct Mask {
    /// Longest first: a value that holds another one is hidden as a whole.
    hidden: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mask").finish_non_exhaustive()
    }
}

impl Mask {
    /// Hides these values: each line of a value, without the blanks around it.
    pub(super) fn new<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let lines = values.flat_map(|value| value.split(|byte| *byte == b'\n'));
        let mut hidden: Vec<Vec<u8>> =
            lines.map(<[u8]>::trim_ascii).filter(|line| line.len() >= SHORTEST).map(<[u8]>::to_vec).collect();
        hidden.sort_by(|left, right| right.len().cmp(&left.len()).then_with(|| left.cmp(right)));
        hidden.dedup();
        Self { hidden }
    }

    /// The line with every value in it hidden.
    pub fn line(&self, mut line: Vec<u8>) -> Vec<u8> {
        for value in &self.hidden {
            while let Some(at) = line.windows(value.len()).position(|window| window == value) {
                line.splice(at..at + value.len(), SHOWN.iter().copied());
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_their_lines_are_hidden() {
        let values: [&[u8]; 4] = [b"hunter2hunter2\n", b"key-one\n  key-two\n", b"abc", b"hunter2"];
        let mask = Mask::new(values.into_iter());
        for (line, want) in [
            ("plain", "plain"),
            ("it is hunter2hunter2!", "it is ***!"),
            ("hunter2 hunter2", "*** ***"),
            ("key-onekey-two", "******"),
            ("abc stays", "abc stays"),
            ("", ""),
        ] {
            assert_eq!(mask.line(line.into()), want.as_bytes(), "{line}");
        }
        assert_eq!(Mask::default().line(b"x".to_vec()), b"x");
    }
}
