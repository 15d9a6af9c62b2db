//! The agent's image starts in the cluster, and is the one that was built.

use anyhow::{Result, ensure};

use super::{Site, Step, pod};

pub const STEP: Step = Step { name: "the image runs as a pod", run };

fn run(site: &Site<'_>) -> Result<String> {
    let said = pod::run(site, "version", &["/usr/bin/callgate-agent", "--version"])?;
    let said = said.trim();
    let tag = site.agent_image()?.rsplit(':').next().unwrap_or_default();
    ensure!(said == format!("callgate-agent {tag}"), "it says `{said}`, and the image is {tag}");
    Ok(said.to_owned())
}
