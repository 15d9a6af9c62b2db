//! Every crate takes versions, features and lints from the workspace: one place says what the whole tree uses.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::Finding;
use super::files::File;

/// All manifests but the workspace's own.
pub fn check(files: &[File]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let manifest: Table = file.text.parse().with_context(|| format!("parse {}", file.path))?;
        if manifest.get("lints").and_then(|lints| lints.get("workspace")) != Some(&Value::Boolean(true)) {
            findings.push(Finding::new(&file.path, 0, "does not take the workspace's lints"));
        }
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in manifest.get(table).and_then(Value::as_table).into_iter().flatten() {
                if value.get("workspace") != Some(&Value::Boolean(true)) {
                    let what = format!("`{name}` in [{table}] does not come from the workspace");
                    findings.push(Finding::new(&file.path, 0, what));
                }
            }
        }
    }
    Ok(findings)
}
