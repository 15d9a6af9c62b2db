//! The chart with its default values, as far as the cluster has what they name; and a pod that was there before it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::pods::Pods;
use super::{NAMESPACE, Site, Step};

pub const STEP: Step = Step { name: "install the chart", run };

/// From readiness to a record in the collector. Source: agents ship each 200 ms.
const RECORDED_WITHIN: Duration = Duration::from_secs(20);

fn run(site: &Site<'_>) -> Result<String> {
    // As after a boot of the node: it has the label, and no agent has ever been there.
    let pods = Pods::start(site)?;
    pods.label("client", "callgate.dev/enroll=true")?;
    site.release.apply(&[])?;
    let said = site.release.on_node(&site.nodes[0], &["callgate", "status", "--json"])?;
    let status: Value = serde_json::from_str(said.lines().next().unwrap_or_default())?;
    ensure!(status.is_object(), "callgate status says {said}");
    pods.soon("client", "denied").context("a pod with the label that is older than any agent")?;
    let told = format!("{NAMESPACE}/{}` was started while no agent", pods.name("client"));
    let start = Instant::now();
    while !site.release.on_collector(&["callgate", "audit", "search", "--json"])?.contains(&told) {
        ensure!(start.elapsed() < RECORDED_WITHIN, "no record of a pod that is older than any agent");
    }
    let version = site.release.on_node(&site.nodes[0], &["callgate-agent", "--version"])?;
    Ok(format!("agent, collector and controller are ready: {}", version.trim()))
}
