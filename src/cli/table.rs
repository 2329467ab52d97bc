//! Tables and emphasis for people.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::desk::view::Witnessed;

/// Columns of the widest cell but the last; a longer one is cut and ends in an ellipsis.
const CELL_COLUMNS_MAX: usize = 60;

/// How emphasis is written: by escape sequences or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// For a terminal.
    Colour,
    /// For a file, a pipe, or where `NO_COLOR` is set.
    Plain,
}

impl Paint {
    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.wrapped("1", text)
    }

    /// What must be seen first: FLASH, an alarm.
    pub fn alarm(self, text: &str) -> String {
        self.wrapped("1;31", text)
    }

    fn wrapped(self, code: &str, text: &str) -> String {
        match self {
            Paint::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
            Paint::Plain => text.to_owned(),
        }
    }
}

/// Rows under a heading, in columns two spaces apart. Cells must already be safe for a terminal.
pub fn table<const N: usize>(paint: Paint, heading: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| cut(cell))).collect();
    let mut widths = heading.map(UnicodeWidthStr::width);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    let mut text = paint.bold(&aligned(heading, &widths));
    text.push('\n');
    for row in &rows {
        let line = aligned(row.each_ref().map(String::as_str), &widths);
        let line = if row.iter().any(|cell| cell == "FLASH") { paint.alarm(&line) } else { line };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Who has witnessed what a row shows, as a cell.
pub fn witnessed(witnessed: Option<Witnessed>) -> String {
    match witnessed {
        None => "not yet".to_owned(),
        Some(Witnessed { of: 0, .. }) => "by nobody".to_owned(),
        Some(Witnessed { by, of }) => format!("by {by} of {of}"),
    }
}

fn aligned<const N: usize>(cells: [&str; N], widths: &[usize; N]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(cell);
        let blanks = width.saturating_sub(cell.width()) + 2;
        line.extend(std::iter::repeat_n(' ', blanks));
    }
    line.truncate(line.trim_end().len());
    line
}

fn cut(cell: &str) -> String {
    if cell.width() <= CELL_COLUMNS_MAX {
        return cell.to_owned();
    }
    let mut columns = 0;
    let mut text: String = cell
        .chars()
        .take_while(|symbol| {
            columns += symbol.width().unwrap_or(0);
            columns < CELL_COLUMNS_MAX
        })
        .collect();
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_by_what_a_terminal_shows() {
        let rows = [["บันทึก".to_owned(), "x".to_owned()], ["ab".to_owned(), "y".to_owned()]];
        let text = table(Paint::Plain, ["ONE", "TWO"], &rows);
        assert_eq!(text, "ONE   TWO\nบันทึก  x\nab    y\n");
    }

    #[test]
    fn a_long_cell_is_cut() {
        let text = table(Paint::Plain, ["A"], &[["x".repeat(61)], ["y".repeat(60)]]);
        assert_eq!(text, format!("A\n{}…\n{}\n", "x".repeat(59), "y".repeat(60)));
    }

    #[test]
    fn flash_stands_out_only_in_colour() {
        let rows = [["FLASH".to_owned()]];
        assert!(table(Paint::Colour, ["P"], &rows).contains("\x1b[1;31mFLASH\x1b[0m"));
        assert!(!table(Paint::Plain, ["P"], &rows).contains('\x1b'));
    }
}
