//! Hides secret values in text.

use std::collections::HashMap;

/// Values shorter than this are words that turn up anywhere; hiding them would hide everything.
const SHORTEST: usize = 4;
/// What is shown instead.
const SHOWN: &[u8] = b"***";

/// Finds values and their lines in what commands print, and hides them.
#[derive(Clone, Default)]
pub struct Mask {
    /// Values by their first bytes, longest first: a secret may be a file of thousands of lines, and a
    /// command may print a lot.
    hidden: HashMap<[u8; SHORTEST], Vec<Vec<u8>>>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mask").finish_non_exhaustive()
    }
}

impl Mask {
    /// Hides these values: each line of a value, without the blanks around it.
    pub(super) fn new<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut hidden: HashMap<_, Vec<Vec<u8>>> = HashMap::new();
        for line in values.flat_map(|value| value.split(|byte| *byte == b'\n')).map(<[u8]>::trim_ascii) {
            if let Some(first) = line.first_chunk() {
                hidden.entry(*first).or_default().push(line.to_vec());
            }
        }
        for values in hidden.values_mut() {
            values.sort_by(|left, right| right.len().cmp(&left.len()).then_with(|| left.cmp(right)));
            values.dedup();
        }
        Self { hidden }
    }

    /// The line with every value in it hidden, also where one begins in another.
    pub fn line(&self, line: Vec<u8>) -> Vec<u8> {
        if self.hidden.is_empty() {
            return line;
        }
        let mut shown = Vec::with_capacity(line.len());
        let mut hidden_to = 0;
        for at in 0..line.len() {
            if let Some(length) = self.begins(&line[at..]) {
                if at >= hidden_to {
                    shown.extend_from_slice(SHOWN);
                }
                hidden_to = hidden_to.max(at + length);
            }
            if at >= hidden_to {
                shown.push(line[at]);
            }
        }
        shown
    }

    /// The length of the longest value that a text begins with.
    fn begins(&self, text: &[u8]) -> Option<usize> {
        let values = self.hidden.get(text.first_chunk::<SHORTEST>()?)?;
        values.iter().find(|value| text.starts_with(value)).map(Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_their_lines_are_hidden() {
        let values: [&[u8]; 5] =
            [b"hunter2hunter2\n", b"key-one\n  key-two\n", b"abc", b"hunter2", b"ter2-tail"];
        let mask = Mask::new(values.into_iter());
        for (line, want) in [
            ("plain", "plain"),
            ("it is hunter2hunter2!", "it is ***!"),
            ("hunter2 hunter2", "*** ***"),
            ("key-onekey-two", "******"),
            ("hunter2hunter2-tail", "***"),
            ("xhunter2-tailx", "x***x"),
            ("abc stays", "abc stays"),
            ("", ""),
        ] {
            assert_eq!(mask.line(line.into()), want.as_bytes(), "{line}");
        }
        assert_eq!(Mask::default().line(b"x".to_vec()), b"x");
    }

    #[test]
    fn large_secrets_take_no_time() {
        let lines: Vec<_> = (0..10_000).map(|number| format!("{number:05}-line-of-a-secret\n")).collect();
        let secret = lines.concat();
        let mask = Mask::new([secret.as_bytes()].into_iter());
        let text = format!("{} ", lines[77].trim()).repeat(2000);
        assert_eq!(mask.line(text.into_bytes()), b"*** ".repeat(2000));
    }
}
