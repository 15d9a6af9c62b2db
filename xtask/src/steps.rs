//! A task is steps; each is announced, timed, and stands in the table at the end.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The steps so far. The table is printed when this is dropped, also after a failure.
pub struct Steps {
    task: &'static str,
    start: Instant,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    took: Duration,
    result: String,
}

impl Steps {
    /// No step yet.
    pub fn new(task: &'static str) -> Steps {
        Steps { task, start: Instant::now(), rows: Vec::new() }
    }

    /// Runs one step.
    pub fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.judged(name, work, |_| true)
    }

    /// The same where the result tells whether it is good.
    pub fn judged<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<T>,
        is_good: impl FnOnce(&T) -> bool,
    ) -> Result<T> {
        println!("==> {}: {name}", self.task);
        let start = Instant::now();
        let result = work();
        let word = if result.as_ref().is_ok_and(is_good) { "ok" } else { "FAILED" };
        self.rows.push(Row { name: name.to_owned(), took: start.elapsed(), result: word.to_owned() });
        println!("    {name}: {word} ({:.1} s)", start.elapsed().as_secs_f64());
        result
    }

    /// Notes something beside the "ok" of the step just run: `skipped: …`, `12 passed`.
    pub fn note(&mut self, note: impl Into<String>) {
        if let Some(row) = self.rows.last_mut() {
            row.result = note.into();
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        println!("\n{}", self.task);
        for row in &self.rows {
            println!("  {:width$}  {:>8.1} s  {}", row.name, row.took.as_secs_f64(), row.result);
        }
        println!("  {:width$}  {:>8.1} s", "total", self.start.elapsed().as_secs_f64());
    }
}
