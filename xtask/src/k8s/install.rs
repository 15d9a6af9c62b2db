//! The chart with its default values, as far as the cluster has what they name.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Site, Step};

pub const STEP: Step = Step { name: "install the chart", run };

fn run(site: &Site<'_>) -> Result<String> {
    site.release.apply(&[])?;
    let said = site.release.on_node(&site.nodes[0], &["callgate", "status", "--json"])?;
    let status: Value = serde_json::from_str(said.lines().next().unwrap_or_default())?;
    ensure!(status.is_object(), "callgate status says {said}");
    let version = site.release.on_node(&site.nodes[0], &["callgate-agent", "--version"])?;
    Ok(format!("agent, collector and controller are ready: {}", version.trim()))
}
