//! Pods that call and are called, and what the callers see.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::agent::Agent;
use super::{NAMESPACE, Site};
use crate::exec;

/// From a change in the cluster to the first call that shows it. Source: the promise of the documentation.
const PROMISED: Duration = Duration::from_secs(2);
/// Longest start of a pod whose image is on the node.
const READY_WITHIN: &str = "--timeout=60s";
const PORT: &str = "8080";

/// What a client saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// The server's answer.
    Answered,
    /// The gate's: 403.
    Denied,
    /// No connection.
    Refused,
}

/// A server with the pages `/allowed` and `/denied`, and two clients: `client` and `bystander`.
pub struct Pods<'a> {
    site: &'a Site<'a>,
    address: String,
}

impl<'a> Pods<'a> {
    /// Starts them anew and waits until they are ready.
    pub fn start(site: &'a Site<'a>) -> Result<Pods<'a>> {
        let mut pods = Pods { site, address: String::new() };
        exec::run(&mut pods.kubectl(&["delete", "pod", "--all", "--timeout=60s"]))?;
        let serve = "mkdir /www; for page in allowed denied; do echo served > /www/$page; done; \
                     exec httpd -f -p 8080 -h /www";
        site.cluster.apply(&pod("server", &["sh", "-c", serve]))?;
        for name in ["client", "bystander"] {
            site.cluster.apply(&pod(name, &["sleep", "1000000"]))?;
        }
        let all = ["pod/server", "pod/client", "pod/bystander"];
        exec::run(pods.kubectl(&["wait", "--for=condition=Ready", READY_WITHIN]).args(all))?;
        let found = exec::output(&mut pods.kubectl(&["get", "pod", "server", "--output=jsonpath={.status.podIP}"]))?;
        found.trim().clone_into(&mut pods.address);
        Ok(pods)
    }

    /// Goes through `steps` with an agent that permits `/allowed` to this namespace, and takes the agent away, with its
    /// enforcement. `more` of its configuration.
    pub fn with_agent(&self, more: &str, steps: impl FnOnce(&Agent<'_>) -> Result<String>) -> Result<String> {
        let policies = format!(
            "@id(\"allowed\") permit (principal in Callgate::Namespace::\"{NAMESPACE}\", \
             action == Callgate::Action::\"call\", resource in Callgate::Service::\"{}:{PORT}\") \
             when {{ resource.path == \"/allowed\" }};\n",
            self.address
        );
        let agent = Agent::start(self.site, &policies, more)?;
        let result = steps(&agent);
        if result.is_err() {
            agent.tell();
        }
        // What failed first is told.
        let left = agent.leave();
        let said = result?;
        left?;
        for client in ["client", "bystander"] {
            self.expect(client, "/denied", Said::Answered).context("after the agent was taken away")?;
        }
        Ok(said)
    }

    /// Sets labels (`KEY=VALUE`), or takes them away (`KEY-`).
    pub fn label(&self, kind: &str, name: &str, label: &str) -> Result<()> {
        exec::run(&mut self.kubectl(&["label", "--overwrite", kind, name, label]))
    }

    /// That a call is answered so.
    pub fn expect(&self, client: &str, path: &str, expected: Said) -> Result<()> {
        let said = self.call(client, path)?;
        ensure!(said == expected, "{client}, {path}: {said:?}, expected {expected:?}");
        Ok(())
    }

    /// Calls `/denied` until the answer is as expected, which must be soon. The time that a call itself takes is part
    /// of it.
    pub fn soon(&self, client: &str, expected: Said) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let said = self.call(client, "/denied")?;
            let took = start.elapsed();
            ensure!(took <= PROMISED, "{client}: {said:?} after {took:?}, expected {expected:?}");
            if said == expected {
                return Ok(took);
            }
        }
    }

    /// What a pod saw whose first container calls `/denied` with its first instruction, born with the label or without.
    pub fn born_calling(&self, name: &str, enrolled: bool) -> Result<Said> {
        let mut born = pod(name, &["tcpget", &self.address, PORT, "/denied"]);
        born["spec"]["restartPolicy"] = "Never".into();
        if enrolled {
            born["metadata"]["labels"] = json!({ "callgate.dev/enroll": "true" });
        }
        self.site.cluster.apply(&born)?;
        super::pod::wait(self.site, name)?;
        seen(&exec::output(&mut self.kubectl(&["logs", name]))?).with_context(|| format!("what `{name}` saw"))
    }

    fn call(&self, client: &str, path: &str) -> Result<Said> {
        let output =
            self.kubectl(&["exec", client, "--", "tcpget", &self.address, PORT, path]).output().context("kubectl")?;
        let context = || format!("{client}, {path}: {}", String::from_utf8_lossy(&output.stderr));
        seen(&String::from_utf8_lossy(&output.stdout)).with_context(context)
    }

    fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut kubectl = self.site.cluster.kubectl();
        kubectl.args(["--namespace", NAMESPACE]).args(arguments);
        kubectl
    }
}

fn seen(printed: &str) -> Result<Said> {
    let status = printed.lines().next().and_then(|line| line.split(' ').nth(1));
    match status {
        Some("200") if printed.trim_end().ends_with("served") => Ok(Said::Answered),
        Some("403") => Ok(Said::Denied),
        _ if printed.starts_with("connect: ") => Ok(Said::Refused),
        _ => bail!("no answer: {printed:?}"),
    }
}

fn pod(name: &str, command: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": name, "image": "localhost/busybox:1", "imagePullPolicy": "IfNotPresent", "command": command,
            }],
        },
    })
}
