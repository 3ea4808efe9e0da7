//! A block of lines on a terminal that is drawn again in place.

use console::{Term, truncate_str};

/// The block.
#[derive(Debug)]
pub struct Redraw {
    term: Term,
    drawn: usize,
}

impl Redraw {
    /// On stdout or stderr.
    pub fn new(term: Term) -> Self {
        Self { term, drawn: 0 }
    }

    /// Draws the lines where the last ones were. Lines are cut to the terminal's width, and only as
    /// many as fit its height are drawn.
    pub fn draw(&mut self, lines: &[String]) {
        let (rows, columns) = self.term.size();
        let rows = usize::from(rows).saturating_sub(1).max(1);
        // A terminal that cannot be written to is gone, and with it who would read an error.
        let _ = self.term.clear_last_lines(self.drawn);
        let mut text = String::new();
        for line in lines.iter().take(rows) {
            text.push_str(&truncate_str(line, usize::from(columns), "…"));
            text.push('\n');
        }
        let _ = self.term.write_str(&text);
        self.drawn = lines.len().min(rows);
    }
}
