//! Without strict mode a pod that starts while no agent is alive passes, and that is on record once one is.

use anyhow::{Context as _, Result, ensure};

use super::pods::{DENIED, Pods};
use super::{NAMESPACE, Site, Step};

pub const STEP: Step = Step { name: "an agent's absence, without strict mode", run };

fn run(site: &Site<'_>) -> Result<String> {
    site.release.apply(&[])?;
    let pods = Pods::start(site)?;
    pods.label("pod", "client", "callgate.dev/enroll=true")?;
    pods.soon("client", "denied").context("after the label")?;
    site.release.end_agents()?;
    pods.expect("client", DENIED, "refused").context("enrolled, without an agent")?;
    let late = pods.born_calling("born-unseen", true).context("born without an agent")?;
    ensure!(late.kind() == "answered", "a pod that was born without an agent: {late:?}");
    Ok(format!("in {NAMESPACE}"))
}
