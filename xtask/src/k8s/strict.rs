//! Strict mode at the root of all pods: a pod is governed from its first instruction, with the agent and without.

use anyhow::{Context as _, Result, ensure};

use super::pods::{Pods, Said};
use super::{Site, Step};

pub const STEP: Step = Step { name: "strict mode, from the first instruction", run };

/// Pods that are born one after the other.
const BORN: usize = 5;

fn run(site: &Site<'_>) -> Result<String> {
    let pods = Pods::start(site)?;
    pods.with_agent("strict = \"kubepods\"", |agent| {
        for client in ["client", "bystander"] {
            pods.expect(client, "/denied", Said::Answered).context("exempt, as it has no label")?;
        }
        let mut refused = 0;
        for number in 0..BORN {
            let said = pods.born_calling(&format!("born-{number}"), true)?;
            ensure!(said != Said::Answered, "a pod that was born with the label called out before it was governed");
            refused += usize::from(said == Said::Refused);
        }
        pods.label("pod", "client", "callgate.dev/enroll=true")?;
        pods.soon("client", Said::Denied).context("after the label")?;
        agent.dies()?;
        pods.expect("client", "/allowed", Said::Refused).context("enrolled, without an agent")?;
        pods.expect("bystander", "/denied", Said::Answered).context("exempt, without an agent")?;
        let late = pods.born_calling("born-unclassified", false).context("born without an agent")?;
        ensure!(late == Said::Refused, "a pod that nobody classified: {late:?}");
        Ok(format!("{BORN} pods with the label at birth: {refused} refused, {} judged", BORN - refused))
    })
}
