//! An agent is replaced under load, and no call of an enrolled pod is refused.
//!
//! By two sets of agents, the old one and the new, as for clusters before 1.22; a newer one's own surge is the same.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::pods::{ALLOWED, DENIED, Pods};
use super::{GONE_WITHIN, Site, Step};
use crate::exec;

pub const STEP: Step = Step { name: "an upgrade under load", run };

/// Calls a second, each with a connection of its own.
const RATE: &str = "100";
/// How long they go on: longer than an upgrade takes. Unit: seconds.
const SECONDS: u64 = 40;

fn run(site: &Site<'_>) -> Result<String> {
    site.release.apply(&[])?;
    let pods = Pods::start(site)?;
    site.cluster.apply(&super::labels::policy(&pods.service()))?;
    super::labels::accepted(site)?;
    pods.label("client", "callgate.dev/enroll=true")?;
    pods.soon("client", "denied").context("after the label")?;
    let calls = (SECONDS * RATE.parse::<u64>()?).to_string();
    let seconds = SECONDS.to_string();
    let url = pods.url(ALLOWED);
    let mut load = pods.exec("client");
    load.args(["callgate-testkit", "load", &url, "--fresh"]);
    load.args(["--ca", "/etc/ssl/certs/ca-certificates.crt", "--rate", RATE, "--calls", &calls, "--seconds", &seconds]);
    let load = load.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().context("kubectl")?;
    let upgraded = replace(site);
    let output = load.wait_with_output()?;
    let took = upgraded?;
    let report: Value = serde_json::from_slice(&output.stdout).context("the report of the load")?;
    let (calls, statuses) = (report["calls"].as_u64().unwrap_or(0), &report["statuses"]);
    let done = statuses["200"].as_u64().unwrap_or(0);
    ensure!(done == calls && calls > 100, "calls were refused during the upgrade: {report}");
    pods.expect("client", DENIED, "denied").context("after the upgrade")?;
    Ok(format!("{} calls during it, none refused; the new agent served after {took:.1} s", done))
}

/// Puts the new set beside the old one, and removes the old; seconds until the new one served.
fn replace(site: &Site<'_>) -> Result<f64> {
    let start = std::time::Instant::now();
    site.release.apply(&["agent.generation=next"])?;
    let took = start.elapsed().as_secs_f64();
    exec::run(&mut site.release.kubectl(&["delete", "daemonset", "callgate-agent", GONE_WITHIN]))?;
    Ok(took)
}
