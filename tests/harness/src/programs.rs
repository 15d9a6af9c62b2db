//! The programs of this repository, as they were built beside the running one.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The program called `name`: in the folder of this one, or (from a test binary in `deps`) the one above.
///
/// # Errors
/// When it was not built; `cargo xtask test` builds all.
pub fn program(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("the path of this program")?;
    let folders = this.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("`{name}` is not built: run `cargo build --bins`, or `cargo xtask test`, which does"))
}
