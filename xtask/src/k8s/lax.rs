//! Without strict mode a pod that starts while no agent is alive passes, and that is on record once one is.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::pods::{DENIED, Pods};
use super::{NAMESPACE, Site, Step};

pub const STEP: Step = Step { name: "an agent's absence, without strict mode", run };

/// From the agent's return to the record in the collector. Source: agents ship each 200 ms, and look for it again after
/// it was away within seconds.
const RECORDED_WITHIN: Duration = Duration::from_secs(20);

fn run(site: &Site<'_>) -> Result<String> {
    site.release.apply(&[])?;
    let pods = Pods::start(site)?;
    pods.label("client", "callgate.dev/enroll=true")?;
    pods.soon("client", "denied").context("after the label")?;
    pods.unharmed()?;
    site.release.end_agents()?;
    pods.expect("client", DENIED, "refused").context("enrolled, without an agent")?;
    // Without admission, whose roots are those of the node's gate: it calls past it.
    let labels = json!({ "callgate.dev/enroll": "true", "callgate.dev/trust": "mount" });
    let late = pods.born_calling("born-unseen", labels).context("born without an agent")?;
    ensure!(late.kind() == "answered", "a pod that was born without an agent: {late:?}");
    site.release.apply(&[])?;
    let recorded = recorded(site).context("the pod that was born without an agent")?;
    pods.expect("client", DENIED, "denied").context("enrolled, with an agent again")?;
    Ok(format!(
        "enrolled pods refused; one that was born meanwhile passed, on record {} s after the agent was back",
        recorded.as_secs()
    ))
}

/// Waits until the collector has a record of that pod.
fn recorded(site: &Site<'_>) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let said = site.release.on_collector(&["callgate", "audit", "search", "--json"])?;
        if said.lines().any(|line| line.contains(&format!("{NAMESPACE}/born-unseen"))) {
            return Ok(start.elapsed());
        }
        ensure!(start.elapsed() < RECORDED_WITHIN, "no record of it: {said}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
