//! Rows of JSON as aligned text.

use serde_json::Value;

use crate::cli::words::{self, Show, Tone};

/// A column: its heading, where in a row its value is (a JSON pointer), and how that is shown.
pub(crate) type Column = (&'static str, &'static str, Show);

const GAP: &str = "  ";
/// No column is made narrower than this to fit the others in.
const NARROWEST: usize = 8;

/// Cells that stand below each other.
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

struct Cell {
    text: String,
    tone: Tone,
}

impl Table {
    pub(crate) fn of(rows: &[Value], columns: &[Column]) -> Self {
        let cell = |row: &Value, (_, pointer, show): &Column| {
            let text = words::show(row.pointer(pointer), *show);
            Cell {
                tone: show.tone(&text),
                text,
            }
        };
        Self {
            headings: columns.iter().map(|(heading, ..)| *heading).collect(),
            rows: rows
                .iter()
                .map(|row| columns.iter().map(|column| cell(row, column)).collect())
                .collect(),
        }
    }

    /// The text, in lines of at most `width` columns where that can be done.
    pub(crate) fn render(&self, width: Option<usize>, colour: bool) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        let headings: Vec<Cell> = self
            .headings
            .iter()
            .map(|heading| Cell {
                text: (*heading).to_owned(),
                tone: Tone::Heading,
            })
            .collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if index > 0 {
                    line.push_str(GAP);
                }
                let shown = cut(&cell.text, *width);
                let padding = " ".repeat(width - columns(&shown));
                let shown = cell.tone.paint(&shown, colour);
                if self.is_number(index) {
                    line.push_str(&padding);
                    line.push_str(&shown);
                } else {
                    line.push_str(&shown);
                    line.push_str(&padding);
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Columns of numbers are read from their right edge.
    fn is_number(&self, index: usize) -> bool {
        let cells = self.rows.iter().filter_map(|row| row.get(index));
        let mut told = cells
            .filter(|cell| cell.text != words::NOTHING)
            .map(|cell| cell.text.parse::<f64>())
            .peekable();
        told.peek().is_some() && told.all(|number| number.is_ok())
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headings.iter().map(|text| columns(text)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(columns(&cell.text));
            }
        }
        let Some(limit) = limit else { return widths };
        let room = limit.saturating_sub(GAP.len() * widths.len().saturating_sub(1));
        // The widest gives way first, but no id does: it is to be copied.
        while widths.iter().sum::<usize>() > room {
            let others = widths.iter_mut().zip(&self.headings);
            let others = others.filter(|(_, heading)| !heading.ends_with("ID"));
            match others.map(|(width, _)| width).max() {
                Some(widest) if *widest > NARROWEST => *widest -= 1,
                _ => break,
            }
        }
        widths
    }
}

/// Names and values below each other, for one thing.
pub(crate) fn fields(value: &Value, rows: &[Column]) -> String {
    let longest = rows.iter().map(|(name, ..)| columns(name)).max();
    let longest = longest.unwrap_or_default();
    let mut text = String::new();
    for (name, pointer, show) in rows {
        let padding = " ".repeat(longest - columns(name));
        let shown = words::show(value.pointer(pointer), *show);
        text.push_str(format!("{name}{padding}{GAP}{shown}").trim_end());
        text.push('\n');
    }
    text
}

/// `text` in at most `width` columns.
fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut used = 0;
    for c in text.chars() {
        let more = char_columns(c);
        if used + more + 1 > width {
            break;
        }
        used += more;
        shown.push(c);
    }
    shown.push('…');
    shown
}

fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

/// What a terminal gives a character: the scripts of East Asia and emoji take two columns. Near enough for a table.
fn char_columns(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36F | 0x200B..=0x200F | 0xFE00..=0xFE0F => 0,
        0x1100..=0x115F
        | 0x2E80..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        ("ID", "/id", Show::Text),
        ("N", "/n", Show::Text),
        ("NOTE", "/note", Show::Text),
    ];

    fn table() -> Table {
        let rows = [
            json!({"id": "a", "n": 5, "note": "short"}),
            json!({"id": "通义千问", "n": 120, "note": "a note\tof\nmany words that goes on and on"}),
            json!({"id": "c"}),
        ];
        Table::of(&rows, COLUMNS)
    }

    #[test]
    fn columns_stand_below_each_other() {
        let lines = "\
ID          N  NOTE
a           5  short
通义千问  120  a note of many words that goes on and on
c           -  -
";
        assert_eq!(table().render(None, false), lines);
    }

    #[test]
    fn the_widest_column_gives_way_to_the_width() {
        let text = table().render(Some(30), false);
        assert!(text.contains("通义千问  120  a note of many…\n"), "{text}");
        assert!(text.lines().all(|line| columns(line) <= 30), "{text}");
        let least = table().render(Some(3), false);
        assert!(
            least.contains("通义千问  120  a note …\n"),
            "an id stays whole: {least}"
        );
    }

    #[test]
    fn colour_changes_no_width() {
        let rows = [json!({"s": "ok", "t": "x"})];
        let table = Table::of(&rows, &[("S", "/s", Show::State), ("T", "/t", Show::Text)]);
        assert_eq!(table.render(None, false), "S   T\nok  x\n");
        assert_eq!(
            table.render(None, true),
            "\u{1b}[1mS\u{1b}[0m   \u{1b}[1mT\u{1b}[0m\n\u{1b}[32mok\u{1b}[0m  x\n"
        );
    }

    #[test]
    fn one_thing_is_shown_by_its_names() {
        let text = fields(
            &json!({"id": "a"}),
            &[("id", "/id", Show::Text), ("note", "/note", Show::Text)],
        );
        assert_eq!(text, "id    a\nnote  -\n");
    }
}
