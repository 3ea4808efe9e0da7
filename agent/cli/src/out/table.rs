//! Borderless tables: upper-case heads, two spaces between columns. Cut to fit a terminal, never
//! when piped.

use console::{measure_text_width, truncate_str};

use super::paint::{Paint, Tone};
use super::text::clean;

/// What a column is.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its head, upper case.
    pub head: &'static str,
    /// Numbers align right.
    pub right: bool,
    /// Columns with lower numbers are cut first; 9 is never cut.
    pub keep: u8,
}

impl Column {
    /// A column of text that is never cut.
    pub const fn new(head: &'static str) -> Self {
        Self { head, right: false, keep: 9 }
    }
    /// A column of text that may be cut; lower numbers go first.
    pub const fn cut(head: &'static str, keep: u8) -> Self {
        Self { head, right: false, keep }
    }
    /// A column of numbers.
    pub const fn number(head: &'static str, keep: u8) -> Self {
        Self { head, right: true, keep }
    }
}

/// One cell: a text, and the tone of the state word.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: clean(&text.into()), tone: None }
    }
}

impl Cell {
    /// A state word with its mark.
    pub fn state(tone: Tone, word: &str, paint: &Paint) -> Self {
        Self { text: format!("{} {}", paint.mark(tone), clean(word)), tone: Some(tone) }
    }
}

/// Narrowest width that a cut column keeps before it goes altogether.
const NARROWEST: usize = 10;

/// A table.
#[derive(Debug, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as there are columns.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table's lines. Columns that are empty in every row are left out.
    pub fn render(&self, paint: &Paint, heads: bool, width: Option<usize>) -> String {
        let widths = self.widths(heads, width);
        let mut out = String::new();
        if heads {
            let head: Vec<Cell> = self.columns.iter().map(|c| Cell::from(c.head)).collect();
            self.line(&mut out, &head, &widths, paint);
        }
        for row in &self.rows {
            self.line(&mut out, row, &widths, paint);
        }
        out
    }

    fn widths(&self, heads: bool, limit: Option<usize>) -> Vec<usize> {
        let mut widths = Vec::with_capacity(self.columns.len());
        for (at, column) in self.columns.iter().enumerate() {
            let cells = self.rows.iter().filter_map(|r| r.get(at)).map(|c| measure_text_width(&c.text));
            let widest = cells.max().unwrap_or(0);
            let empty = widest == 0 && !self.rows.is_empty() && column.keep < 9;
            widths.push(if empty { 0 } else { widest.max(if heads { column.head.len() } else { 0 }) });
        }
        let Some(limit) = limit else { return widths };
        let mut order: Vec<usize> = (0..self.columns.len()).filter(|at| self.columns[*at].keep < 9).collect();
        order.sort_by_key(|at| (self.columns[*at].keep, std::cmp::Reverse(*at)));
        for at in order {
            let over = total(&widths).saturating_sub(limit);
            if over == 0 || widths[at] == 0 {
                continue;
            }
            let left = widths[at].saturating_sub(over);
            widths[at] = if left >= NARROWEST { left } else { 0 };
        }
        widths
    }

    fn line(&self, out: &mut String, row: &[Cell], widths: &[usize], paint: &Paint) {
        let mut line = String::new();
        for ((cell, width), column) in row.iter().zip(widths).zip(&self.columns) {
            if *width == 0 {
                continue;
            }
            let text = truncate_str(&cell.text, *width, paint.ellipsis());
            let pad = " ".repeat(width.saturating_sub(measure_text_width(&text)));
            let text = cell.tone.map_or_else(|| text.to_string(), |tone| paint.tone(tone, &text));
            if !line.is_empty() {
                line.push_str("  ");
            }
            line.push_str(&if column.right { format!("{pad}{text}") } else { format!("{text}{pad}") });
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

fn total(widths: &[usize]) -> usize {
    let shown = widths.iter().filter(|w| **w > 0).count();
    widths.iter().sum::<usize>() + 2 * shown.saturating_sub(1)
}
