//! A node without an agent takes no new pods, where the chart is told so.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::pods::Pods;
use super::{Site, Step};
use crate::exec;

pub const STEP: Step = Step { name: "a node without an agent", run };

const KEY: &str = "callgate.dev/agent-not-ready";
const VALUE: &str = "agent.startupTaint=true";
/// From an agent's end, or its readiness, to the node's taint.
const CHANGED_WITHIN: Duration = Duration::from_secs(15);

fn run(site: &Site<'_>) -> Result<String> {
    site.release.apply(&[VALUE])?;
    untainted(site)?;
    let pods = Pods::start(site)?;
    site.release.end_agents()?;
    let tainted_after = until(site, |tainted, nodes| tainted == nodes).context("after the agents ended")?;
    let waiting = pods.unscheduled("late")?;
    ensure!(waiting.contains(KEY), "a new pod does not wait for the taint: {waiting}");
    site.release.apply(&[VALUE])?;
    untainted(site)?;
    pods.ready("late").context("a pod that waited for an agent")?;
    Ok(format!(
        "tainted {:.1} s after its agent ended; a new pod waited for the next agent",
        tainted_after.as_secs_f64()
    ))
}

fn untainted(site: &Site<'_>) -> Result<Duration> {
    until(site, |tainted, _| tainted == 0).context("with agents that are ready")
}

/// Waits until so many of the nodes have the taint.
fn until(site: &Site<'_>, is_it: impl Fn(usize, usize) -> bool) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let said = exec::output(site.cluster.kubectl().args(["get", "nodes", "--output=json"]))?;
        let said: Value = serde_json::from_str(&said)?;
        let nodes = said["items"].as_array().context("no list of nodes")?;
        let has = |node: &&Value| {
            let taints = node["spec"]["taints"].as_array();
            taints.is_some_and(|taints| taints.iter().any(|taint| taint["key"] == KEY))
        };
        let tainted = nodes.iter().filter(has).count();
        if is_it(tainted, nodes.len()) {
            return Ok(start.elapsed());
        }
        ensure!(start.elapsed() < CHANGED_WITHIN, "{tainted} of {} nodes have the taint", nodes.len());
        std::thread::sleep(Duration::from_millis(200));
    }
}
