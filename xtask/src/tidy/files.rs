//! The files of the repository, those that must be there, and those that are made from others.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Finding;
use crate::exec;

/// A text file of the repository.
pub struct File {
    /// From the root, with slashes.
    pub path: String,
    pub text: String,
}

const MUST_BE_THERE: &[&str] = &[
    ".ci/run",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "deny.toml",
    "rust-toolchain.toml",
    "tests/counts.toml",
];

/// A file made from the code: it must say what the code says.
struct Generated {
    path: &'static str,
    make: fn(&Path) -> Result<String>,
}

/// Docs tables made from code come here, one line each.
const GENERATED: &[Generated] = &[];

/// Every text file that is committed or would be.
pub fn of(repository: &Path) -> Result<Vec<File>> {
    let mut git = Command::new("git");
    // The clone may belong to another user than the one who tests it.
    git.current_dir(repository).args(["-c", "safe.directory=*", "ls-files", "-z"]);
    git.args(["--cached", "--others", "--exclude-standard"]);
    let mut files = Vec::new();
    for path in exec::output(&mut git)?.split('\0').filter(|path| !path.is_empty()) {
        // Deleted but not yet committed, or no text.
        let Ok(text) = std::fs::read_to_string(repository.join(path)) else { continue };
        files.push(File { path: path.to_owned(), text });
    }
    Ok(files)
}

/// That all are there.
pub fn check(files: &[File]) -> Vec<Finding> {
    let has = |path: &str| files.iter().any(|file| file.path == path);
    MUST_BE_THERE
        .iter()
        .filter(|path| !has(path))
        .map(|path| Finding::new(*path, 0, "is missing, or ignored by git"))
        .collect()
}

/// That generated files are what they would be made to be now.
pub fn check_generated(repository: &Path, files: &[File]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for Generated { path, make } in GENERATED {
        let made = make(repository).with_context(|| format!("make {path}"))?;
        if files.iter().all(|file| file.path != *path || file.text != made) {
            findings.push(Finding::new(*path, 0, "is not what the code says"));
        }
    }
    Ok(findings)
}
