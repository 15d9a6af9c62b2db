//! `tidy`: the rules of the repository that no compiler knows.
//!
//! Each rule gives findings (`path:line: what`), all are printed, one is enough to fail.
//! A line that must break a rule says so with `tidy: allow(RULE)` and why, on it or on the line before.

mod code;
mod edges;
mod files;
mod manifests;
mod sources;
mod words;

use std::fmt;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::{exec, paths};

/// `cargo xtask tidy`.
pub fn main() -> Result<()> {
    check(&paths::repository()?)
}

/// All rules, as part of another task.
pub fn check(repository: &Path) -> Result<()> {
    let files = files::of(repository)?;
    let mut findings = Vec::new();
    findings.extend(edges::check(repository)?);
    findings.extend(manifests::check(&files)?);
    findings.extend(files::check(&files));
    findings.extend(files::check_generated(repository, &files)?);
    findings.extend(sources::check(&files));
    findings.extend(words::check(&files));
    for finding in &findings {
        println!("{finding}");
    }
    ensure!(findings.is_empty(), "tidy: {} findings", findings.len());
    println!("    {} files", files.len());
    Ok(())
}

/// A broken rule.
struct Finding {
    path: String,
    /// From 1; 0 where the whole file is meant.
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: impl Into<String>, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: path.into(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(formatter, "{}: {}", self.path, self.what),
            line => write!(formatter, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// Whether line `number` (from 1) of `text` may break `rule`: it, or the one before, says so.
fn is_allowed(text: &str, number: usize, rule: &str) -> bool {
    let mark = format!("tidy: allow({rule})");
    text.lines().skip(number.saturating_sub(2)).take(2).any(|line| line.contains(&mark))
}

/// What `cargo metadata` says of the whole tree.
pub fn metadata(repository: &Path) -> Result<serde_json::Value> {
    let words = ["metadata", "--format-version", "1", "--locked", "--offline"];
    let text = exec::output(exec::cargo().current_dir(repository).args(words))?;
    Ok(serde_json::from_str(&text)?)
}
