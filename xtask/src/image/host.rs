//! Folders of this machine in an image for tests: runtimes of other languages.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::libraries;
use super::tree::Tree;

/// What no program needs: names begin so.
const LEFT_OUT: &[&str] = &["__pycache__", "config-", "idlelib", "test"];

/// Puts everything of the folder `from` at `to`, and the libraries that its own ones load. Symbolic links are followed;
/// one that leads nowhere is left out.
pub fn add(from: &Path, to: &str, tree: &mut Tree) -> Result<()> {
    below(from, from, to, tree)
}

fn below(root: &Path, from: &Path, to: &str, tree: &mut Tree) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if LEFT_OUT.iter().any(|left_out| name.starts_with(left_out)) {
            continue;
        }
        let (path, to) = (entry.path(), format!("{to}/{name}"));
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            below(root, &path, &to, tree)?;
            continue;
        }
        if name.ends_with(".so") {
            libraries::put(&libraries::loaded_from_elsewhere(&path, root)?, tree)?;
        }
        // Nobody has to know which are programs.
        tree.file(&to, 0o755, fs::read(&path)?);
    }
    Ok(())
}
