//! Clients of several languages in pods come to trust the gate: those of a pod that runs already, by mounts; those of one
//! that is born with the label, by admission as well.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::languages::{CLIENTS, Client};
use super::pods::{ALLOWED, Pods};
use super::{Site, Step, labels};

pub const STEP: Step = Step { name: "clients in pods trust the gate", run };

/// From a label to the last mount over a CA file; clients that were started before read their roots once.
const MOUNTED_WITHIN: Duration = Duration::from_secs(5);

fn run(site: &Site<'_>) -> Result<String> {
    site.release.apply(&[])?;
    let pods = Pods::start(site)?;
    site.cluster.apply(&labels::policy(&pods.service()))?;
    labels::accepted(site)?;
    // It has the server's own CA among the roots of curl and Go alone.
    for client in CLIENTS {
        let trusts = ["curl", "Go"].contains(&client.name);
        let said = call(&pods, "client", client)?;
        ensure!((said == "status 200") == trusts, "{} before the label: {said}", client.name);
    }
    let label = json!({ "callgate.dev/enroll": "true" });
    pods.label("client", "callgate.dev/enroll=true")?;
    pods.soon("client", "denied").context("after the label")?;
    let mut called = 0;
    for client in CLIENTS.iter().filter(|client| !client.at_birth) {
        trusts(&pods, "client", client).context("in a pod that was labelled as it ran")?;
        called += 1;
    }
    pods.unharmed()?;
    pods.add("born", label)?;
    pods.ready("born")?;
    for client in CLIENTS {
        trusts(&pods, "born", client).context("in a pod that was born with the label")?;
        called += 1;
    }
    // What was done to a pod that runs is undone.
    pods.label("client", "callgate.dev/enroll-")?;
    pods.soon("client", "answered").context("after the label was taken away")?;
    for client in CLIENTS {
        let trusts = ["curl", "Go"].contains(&client.name);
        let said = call(&pods, "client", client)?;
        ensure!((said == "status 200") == trusts, "{} after the label was taken away: {said}", client.name);
    }
    let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
    Ok(format!("{called} calls over TLS by {}", names.join(", ")))
}

/// Waits until a call of `client` succeeds.
fn trusts(pods: &Pods<'_>, pod: &str, client: &Client) -> Result<()> {
    let start = Instant::now();
    loop {
        let said = call(pods, pod, client)?;
        if said == "status 200" {
            return Ok(());
        }
        ensure!(start.elapsed() < MOUNTED_WITHIN, "{}: {said}", client.name);
    }
}

/// The last line of what it prints, or of its complaints.
fn call(pods: &Pods<'_>, pod: &str, client: &Client) -> Result<String> {
    let output = pods.exec(pod).args(client.command).arg(pods.url(ALLOWED)).output().context("kubectl")?;
    let said = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    Ok(String::from_utf8_lossy(said).lines().last().unwrap_or_default().trim().to_owned())
}
