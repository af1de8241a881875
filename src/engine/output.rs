//! What a command prints, line by line, with secrets hidden.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;

use crate::secrets::{Mask, Secrets};

/// Longest piece of a line that is handed on at once: a line without an end must not fill memory.
const LONGEST_LINE: u64 = 64 << 10;

/// One line that a command printed, without its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLine {
    /// Whether it came from standard error.
    pub stderr: bool,
    /// The bytes: untrusted.
    pub text: Vec<u8>,
}

/// Hides the secrets of a build in what its commands print.
#[derive(Debug, Default)]
pub(super) struct Masking {
    mask: Mask,
    /// Bytes of the longest line of a secret; 0 where there is none.
    longest: usize,
}

impl Masking {
    pub(super) fn new(secrets: &Secrets) -> Self {
        let lines = secrets.ids().filter_map(|id| secrets.get(id)).flat_map(|value| value.split(is_end));
        Self { longest: lines.map(<[u8]>::len).max().unwrap_or(0), mask: secrets.mask() }
    }
}

fn is_end(byte: &u8) -> bool {
    *byte == b'\n'
}

/// Hands on a stream line by line until its last writer is gone.
///
/// Where a piece of a line that is too long ends, a secret may begin: as many bytes as the longest
/// one has are kept back for the next piece.
pub(super) fn forward(
    stream: OwnedFd,
    stderr: bool,
    masking: &Masking,
    output: &(dyn Fn(OutputLine) + Sync),
) {
    forward_from(BufReader::new(File::from(stream)), masking, &|text| output(OutputLine { stderr, text }));
}

fn forward_from(mut reader: impl BufRead, masking: &Masking, output: &dyn Fn(Vec<u8>)) {
    let mut text = Vec::new();
    loop {
        let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text).unwrap_or(0);
        let ended = text.last().is_some_and(is_end);
        if ended {
            text.pop();
        }
        text = masking.mask.line(text);
        let more = !ended && read as u64 == LONGEST_LINE;
        let kept = if more { masking.longest.min(text.len()) } else { 0 };
        let rest = text.split_off(text.len() - kept);
        if ended || !text.is_empty() {
            output(text);
        }
        if read == 0 {
            return;
        }
        text = rest;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn lines(input: &[u8], masking: &Masking) -> Vec<Vec<u8>> {
        let lines = RefCell::new(Vec::new());
        forward_from(input, masking, &|line| lines.borrow_mut().push(line));
        lines.into_inner()
    }

    #[test]
    fn lines_are_told_apart() {
        for (input, want) in
            [("", &[][..]), ("a", &["a"]), ("a\n", &["a"]), ("a\n\nb", &["a", "", "b"]), ("\n", &[""])]
        {
            assert_eq!(
                lines(input.as_bytes(), &Masking::default()),
                want.iter().map(|line| line.as_bytes()).collect::<Vec<_>>()
            );
        }
        let piece = LONGEST_LINE as usize;
        let found = lines(&vec![b'x'; 2 * piece + 1], &Masking::default());
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [piece, piece, 1]);
    }

    #[test]
    fn secrets_are_hidden_wherever_a_piece_ends() {
        let mut secrets = Secrets::default();
        secrets.insert("key", *b"first-line\nhunter2hunter2\n");
        let masking = Masking::new(&secrets);
        assert_eq!(lines(b"a hunter2hunter2 b\nfirst-line", &masking), [&b"a *** b"[..], b"***"]);
        for before in 0..40 {
            let mut input = vec![b'x'; LONGEST_LINE as usize - 20 + before];
            input.extend_from_slice(b"hunter2hunter2");
            input.resize(3 * LONGEST_LINE as usize, b'y');
            let joined = lines(&input, &masking).concat();
            assert!(!joined.windows(7).any(|window| window == b"hunter2"), "{before}");
            assert_eq!(joined.len(), input.len() - 14 + 3, "{before}");
        }
    }
}
