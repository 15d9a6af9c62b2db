//! A label governs a pod, and its removal frees it, within two seconds; nobody else notices.

use anyhow::{Context as _, Result, ensure};

use super::pods::{Pods, Said};
use super::{NAMESPACE, Site, Step};

pub const STEP: Step = Step { name: "a label governs a pod", run };

const LABEL: &str = "callgate.dev/enroll";

fn run(site: &Site<'_>) -> Result<String> {
    let pods = Pods::start(site)?;
    let (on, off) = (format!("{LABEL}=true"), format!("{LABEL}-"));
    pods.with_agent("", |agent| {
        for client in ["client", "bystander"] {
            pods.expect(client, "/denied", Said::Answered).context("before any label")?;
        }
        pods.label("pod", "client", &on)?;
        let denied_after = pods.soon("client", Said::Denied).context("after the label")?;
        pods.expect("client", "/allowed", Said::Answered).context("what the policy permits")?;
        pods.expect("bystander", "/denied", Said::Answered).context("a pod without a label")?;
        let workloads = agent.says(&["callgate", "workloads", "--json"])?;
        let workload = format!("k8s/{NAMESPACE}/default");
        ensure!(workloads.contains(&format!("\"{workload}\"")), "no {workload} among {workloads}");
        pods.label("pod", "client", &off)?;
        let freed_after = pods.soon("client", Said::Answered).context("after the label was taken away")?;
        // The namespace's label governs every pod in it, but those that say otherwise.
        pods.label("pod", "bystander", &format!("{LABEL}=false"))?;
        pods.label("namespace", NAMESPACE, &on)?;
        pods.soon("client", Said::Denied).context("after the namespace's label")?;
        pods.expect("bystander", "/denied", Said::Answered).context("a pod that says no")?;
        pods.label("namespace", NAMESPACE, &off)?;
        pods.soon("client", Said::Answered).context("after the namespace's label was taken away")?;
        Ok(format!("denied after {} ms, free again after {} ms", denied_after.as_millis(), freed_after.as_millis()))
    })
}
