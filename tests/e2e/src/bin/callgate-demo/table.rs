//! The table of what happened: a row is printed when it is known, and all again at the end.

use std::time::Instant;

use anyhow::Result;

/// Width of the columns but the last. Unit: characters.
const WIDTHS: [usize; 3] = [40, 38, 6];

/// The rows so far.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    expected: String,
    seen: String,
    ok: bool,
}

impl Table {
    /// Makes something happen; `happen` gives what was seen, or an error if it was not what was expected.
    pub fn row(&mut self, what: &str, expected: &str, happen: impl FnOnce() -> Result<String>) {
        println!("==> {what}");
        let start = Instant::now();
        let (seen, ok) = match happen() {
            Ok(seen) => (seen, true),
            Err(error) => (format!("{error:#}"), false),
        };
        println!("    {} ({:.1} s): {}", word(ok), start.elapsed().as_secs_f64(), seen.replace('\n', "\n    "));
        self.rows.push(Row { what: what.to_owned(), expected: expected.to_owned(), seen, ok });
    }

    /// How many rows were not as expected.
    pub fn failed(&self) -> usize {
        self.rows.iter().filter(|row| !row.ok).count()
    }

    /// Prints all rows.
    pub fn print(&self) {
        println!();
        line("what", "expected", "ok", "seen");
        for row in &self.rows {
            let mut seen = row.seen.lines();
            line(&row.what, &row.expected, word(row.ok), seen.next().unwrap_or_default());
            seen.take(4).for_each(|more| line("", "", "", more));
        }
    }
}

fn word(ok: bool) -> &'static str {
    if ok { "ok" } else { "FAILED" }
}

fn line(what: &str, expected: &str, ok: &str, seen: &str) {
    let [a, b, c] = WIDTHS;
    let text = format!("{what:a$}  {expected:b$}  {ok:c$}  {seen}");
    println!("{}", text.trim_end());
}
