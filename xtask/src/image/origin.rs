//! Where an image comes from: version, commit, and the one time that all in it has.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::exec;

/// The state of the repository that an image is made of.
pub struct Origin {
    pub version: String,
    /// The commit; with `-dirty` where files differ from it.
    pub revision: String,
    /// Seconds since 1970: `SOURCE_DATE_EPOCH`, else when the commit was made.
    pub time: u64,
    /// The same as RFC 3339 writes it.
    pub date: String,
}

impl Origin {
    /// Of the repository as it is now.
    pub fn of(repository: &Path) -> Result<Origin> {
        let git = |words: &[&str]| {
            let mut git = Command::new("git");
            // The clone may belong to another user than the one who builds.
            git.current_dir(repository).args(["-c", "safe.directory=*"]).args(words);
            Ok::<_, anyhow::Error>(exec::output(&mut git)?.trim().to_owned())
        };
        let dirty = if git(&["status", "--porcelain"])?.is_empty() { "" } else { "-dirty" };
        let time = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(time) => time,
            Err(_) => git(&["log", "-1", "--format=%ct"])?,
        };
        let manifest: toml::Table = std::fs::read_to_string(repository.join("Cargo.toml"))?.parse()?;
        let package = manifest.get("workspace").and_then(|workspace| workspace.get("package"));
        let version = package.and_then(|package| package.get("version")?.as_str());
        Ok(Origin {
            version: version.context("Cargo.toml has no workspace.package.version")?.to_owned(),
            revision: format!("{}{dirty}", git(&["rev-parse", "HEAD"])?),
            date: date_of(&time)?,
            time: time.parse().with_context(|| format!("SOURCE_DATE_EPOCH={time}"))?,
        })
    }
}

fn date_of(time: &str) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", &format!("--date=@{time}")]);
    Ok(exec::output(&mut date)?.trim().to_owned())
}
