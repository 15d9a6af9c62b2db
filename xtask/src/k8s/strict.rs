//! Strict mode at the root of all pods: a pod is governed from its first instruction, with the agent and without.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::pods::{ALLOWED, DENIED, Pods, Said};
use super::{Site, Step};

pub const STEP: Step = Step { name: "strict mode, from the first instruction", run };

/// What admission writes at a pod to which it has added trust.
const TRUSTED_BY: &str = "callgate\\.dev/trust-by";
/// Pods that are born one after the other.
const BORN: usize = 5;

fn run(site: &Site<'_>) -> Result<String> {
    site.release.apply(&["agent.strict=true"])?;
    let pods = Pods::start(site)?;
    for client in ["client", "bystander"] {
        pods.expect(client, DENIED, "answered").context("exempt, as it has no label")?;
    }
    let mut refused = 0;
    for number in 0..BORN {
        let said = pods.born_calling(&format!("born-{number}"), json!({ "callgate.dev/enroll": "true" }))?;
        ensure!(said.kind() != "answered", "a pod that was born with the label called out before it was governed");
        refused += usize::from(said == Said::Refused);
    }
    let by = pods.annotation("born-0", TRUSTED_BY)?;
    ensure!(
        ["webhook", "policy"].contains(&by.as_str()),
        "admission added no trust to a pod born with the label: `{by}`"
    );
    pods.label("client", "callgate.dev/enroll=true")?;
    pods.soon("client", "denied").context("after the label")?;
    // A new agent is in no cgroup that anybody has classified: it must not refuse itself.
    site.release.restart_agents()?;
    let log = site.release.log_on(&site.nodes[0])?;
    ensure!(!log.contains("has not listed the pods"), "an agent does not reach the API under strict mode: {log}");
    pods.soon("client", "denied").context("after the agent was restarted")?;
    site.release.end_agents()?;
    pods.expect("client", ALLOWED, "refused").context("enrolled, without an agent")?;
    pods.expect("bystander", DENIED, "answered").context("exempt, without an agent")?;
    let late = pods.born_calling("born-unclassified", json!({})).context("born without an agent")?;
    ensure!(late == Said::Refused, "a pod that nobody classified: {late:?}");
    Ok(format!("{BORN} pods with the label at birth: {refused} refused, {} judged; trust by {by}", BORN - refused))
}
