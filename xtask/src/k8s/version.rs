//! The agent's image starts in the cluster, and is the one that was built.

use anyhow::{Result, ensure};

use super::{Site, Step, pod};

pub const STEP: Step = Step { name: "the image runs as a pod", run };

fn run(site: &Site<'_>) -> Result<String> {
    let said = pod::on_every_node(site, "version", &["/usr/bin/callgate-agent", "--version"])?;
    let tag = site.agent_image()?.rsplit(':').next().unwrap_or_default();
    let right = format!("callgate-agent {tag}");
    for said in said {
        ensure!(said.trim() == right, "it says `{said}`, and the image is {tag}");
    }
    Ok(right)
}
