//! Text in columns.

use crate::progress::escape;

/// Aligns rows of cells under their head; nothing in them acts on a terminal. Columns that are empty
/// below the head are left out.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| escape::one_line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let filled: Vec<usize> =
        (0..columns).filter(|column| rows.iter().skip(1).any(|row| !cell(row, *column).is_empty())).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for column in &filled {
            let width = rows.iter().map(|row| cell(row, *column).chars().count()).max().unwrap_or(0);
            line.push_str(&format!("{:<width$}  ", cell(row, *column)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["NAME", "TEXT", "HOW"]), row(["a", "", "x\x1b[2J\ny"]), row(["long name", "", ""])];
        assert_eq!(table(&rows), "NAME       HOW\na          x y\nlong name\n");
    }
}
