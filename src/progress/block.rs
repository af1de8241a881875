//! The live block: lines at the foot of the terminal that are drawn again in
//! place, while finished lines scroll away above them.

use super::terminal::Size;

// Hidden and shown within one write, as are the two for wrapping: a process
// that is killed between two writes leaves the terminal as it was.
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";
const CLEAR_BELOW: &str = "\x1b[J";

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Normal,
    Bold,
    Dim,
    Red,
    Yellow,
}

/// A line of the screen: text without control characters, and its look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) style: Style,
    pub(super) text: String,
}

impl Row {
    pub(super) fn new(style: Style, text: impl Into<String>) -> Self {
        Self { style, text: text.into() }
    }

    pub(super) fn write(&self, color: bool, out: &mut Vec<u8>) {
        let code = match self.style {
            Style::Normal => "",
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "31",
            Style::Yellow => "33",
        };
        if color && !code.is_empty() {
            out.extend_from_slice(format!("\x1b[{code}m{}\x1b[0m", self.text).as_bytes());
        } else {
            out.extend_from_slice(self.text.as_bytes());
        }
        out.push(b'\n');
    }
}

/// What is drawn at present. The cursor stands in the line below it.
#[derive(Debug, Default)]
pub(super) struct Block {
    rows: Vec<Row>,
}

impl Block {
    /// Replaces the block: `above` scrolls away for good, `rows` are the new block.
    pub(super) fn replace(
        &mut self,
        above: &mut Vec<u8>,
        rows: Vec<Row>,
        size: Size,
        color: bool,
        out: &mut Vec<u8>,
    ) {
        if above.is_empty() && rows == self.rows {
            return;
        }
        out.extend_from_slice(HIDE_CURSOR.as_bytes());
        self.erase(size, out);
        out.append(above);
        if !rows.is_empty() {
            out.extend_from_slice(WRAP_OFF.as_bytes());
            for row in &rows {
                row.write(color, out);
            }
            out.extend_from_slice(WRAP_ON.as_bytes());
        }
        out.extend_from_slice(SHOW_CURSOR.as_bytes());
        self.rows = rows;
    }

    /// A terminal that became narrower has broken the old lines in two, so
    /// their height follows from the width of now.
    fn erase(&self, size: Size, out: &mut Vec<u8>) {
        let width = size.columns.max(1);
        let height: usize = self.rows.iter().map(|row| columns(&row.text).div_ceil(width).max(1)).sum();
        if height > 0 {
            out.extend_from_slice(format!("\x1b[{height}A\r{CLEAR_BELOW}").as_bytes());
        }
    }
}

/// Columns that a character takes. East Asian and emoji ranges are coarse;
/// wrapping is off while the block is drawn, so an error cuts a line at worst.
fn column(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200d | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Columns that a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

/// The start of a text that fits, with `…` in its last column if it was cut.
/// Tabs become spaces, as their width depends on where they stand.
pub(super) fn cut(text: &str, width: usize) -> String {
    let mut kept = String::new();
    let mut used = 0;
    // The place to cut at, should the text turn out too long.
    let mut fits = 0;
    for c in text.chars() {
        let (piece, wide) = match c {
            '\t' => (' ', 1),
            c => (c, column(c)),
        };
        used += wide;
        if used > width {
            kept.truncate(fits);
            if width > 0 {
                kept.push('…');
            }
            break;
        }
        kept.push(piece);
        if used < width {
            fits = kept.len();
        }
    }
    kept
}

/// A text at the left and one at the right edge; the left one gives way.
pub(super) fn spread(left: &str, right: &str, width: usize) -> String {
    let taken = columns(right) + 1;
    let mut line = cut(left, width.saturating_sub(taken));
    let gap = width.saturating_sub(columns(&line) + taken) + 1;
    line.push_str(&" ".repeat(gap));
    line.push_str(right);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_columns() {
        for (text, width, want) in [
            ("abcdef", 6, "abcdef"),
            ("abcdef", 5, "abcd…"),
            ("a\tb", 3, "a b"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("e\u{301}e\u{301}", 2, "e\u{301}e\u{301}"),
            ("ab", 1, "…"),
            ("ab", 0, ""),
        ] {
            assert_eq!(cut(text, width), want, "{text} {width}");
        }
        assert_eq!(spread("RUN make", "1.2s", 16), "RUN make    1.2s");
        assert_eq!(spread("RUN make all", "1.2s", 12), "RUN ma… 1.2s");
    }

    #[test]
    fn a_narrower_terminal_has_a_higher_block() {
        let mut block = Block::default();
        let mut out = Vec::new();
        let rows = vec![Row::new(Style::Dim, "x".repeat(39)), Row::new(Style::Normal, "y")];
        let size = |columns| Size { columns, rows: 24 };
        block.replace(&mut Vec::new(), rows.clone(), size(40), true, &mut out);
        let want = format!("\x1b[?25l\x1b[?7l\x1b[2m{}\x1b[0m\ny\n\x1b[?7h\x1b[?25h", "x".repeat(39));
        assert_eq!(String::from_utf8_lossy(&out), want);
        out.clear();
        block.replace(&mut Vec::new(), rows, size(20), true, &mut out);
        assert!(out.is_empty(), "nothing changed");
        block.replace(&mut b"done\n".to_vec(), Vec::new(), size(20), false, &mut out);
        assert_eq!(out, b"\x1b[?25l\x1b[3A\r\x1b[Jdone\n\x1b[?25h");
    }
}
