//! Pods that call and are called, and what the callers see.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{GONE_WITHIN, NAMESPACE, Site};
use crate::exec;

/// From a change in the cluster to the first call that shows it. Source: the promise of the documentation.
const PROMISED: Duration = Duration::from_secs(2);
/// Longest start of a pod whose image is on the node.
const READY_WITHIN: &str = "--timeout=60s";
/// From the making of a Service to the first call that reaches it.
const SERVED_WITHIN: Duration = Duration::from_secs(20);
/// Of the server: over TLS, and in plain text.
pub const PORT: u16 = 8443;
pub const PLAIN_PORT: u16 = 8080;
/// What the server is called, and its Service.
pub const SERVER: &str = "server";

/// Pages of the server: the policy permits the first two, and masks what is in the second.
pub const ALLOWED: &str = "/v1/health";
pub const PERSON: &str = "/v1/users/7";
pub const DENIED: &str = "/v1/secrets/1";

/// What a client saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// The server's answer.
    Answered(String),
    /// The gate's: 403.
    Denied,
    /// No connection.
    Refused,
    /// A certificate that the client does not trust.
    Untrusted,
    /// It was cut, as every connection is that is older than an enrolment.
    Cut,
}

impl Said {
    /// The same without what it was answered.
    pub fn kind(&self) -> &'static str {
        match self {
            Said::Answered(_) => "answered",
            Said::Denied => "denied",
            Said::Refused => "refused",
            Said::Untrusted => "untrusted",
            Said::Cut => "cut",
        }
    }
}

/// A TLS server, and two clients: `client` and `bystander`.
///
/// Their names in the cluster have a number of their own: kubelet may look for the containers of an earlier pod of the
/// same name for a while.
pub struct Pods<'a> {
    site: &'a Site<'a>,
    number: usize,
    address: String,
}

/// Of the pods that are started next.
static NUMBER: AtomicUsize = AtomicUsize::new(1);

impl<'a> Pods<'a> {
    /// Starts them anew and waits until they are ready.
    pub fn start(site: &'a Site<'a>) -> Result<Pods<'a>> {
        let mut pods = Pods { site, number: NUMBER.fetch_add(1, Ordering::Relaxed), address: String::new() };
        exec::run(&mut pods.kubectl(&["delete", "pod", "--all", GONE_WITHIN]))?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "server-ca", "namespace": NAMESPACE },
            "stringData": { "ca.pem": site.clients.ca, "ca.key": site.clients.ca_key },
        });
        site.cluster.apply(&secret)?;
        let server_name = pods.name(SERVER);
        site.cluster.apply(&server(&server_name, &site.clients.built.reference))?;
        for name in ["client", "bystander"] {
            site.cluster.apply(&pods.client(name))?;
        }
        for name in [SERVER, "client", "bystander"] {
            pods.ready(name)?;
        }
        let address = ["get", "pod", &server_name, "--output=jsonpath={.status.podIP}"];
        let found = exec::output(&mut pods.kubectl(&address))?;
        found.trim().clone_into(&mut pods.address);
        Ok(pods)
    }

    /// What the pod `name` is called in the cluster.
    pub fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.number)
    }

    /// The service as policies name it.
    pub fn service(&self) -> String {
        format!("{}:{PORT}", self.address)
    }

    /// Sets a label of a pod (`KEY=VALUE`), or takes it away (`KEY-`).
    pub fn label(&self, name: &str, label: &str) -> Result<()> {
        exec::run(&mut self.kubectl(&["label", "--overwrite", "pod", &self.name(name), label]))
    }

    /// The same of their namespace.
    pub fn label_namespace(&self, label: &str) -> Result<()> {
        exec::run(&mut self.kubectl(&["label", "--overwrite", "namespace", NAMESPACE, label]))
    }

    /// That a call ends so; what was answered.
    pub fn expect(&self, client: &str, path: &str, expected: &str) -> Result<String> {
        let said = self.call(client, path)?;
        ensure!(said.kind() == expected, "{client}, {path}: {said:?}, expected it to be {expected}");
        Ok(if let Said::Answered(body) = said { body } else { String::new() })
    }

    /// Calls [`DENIED`] until it ends as expected, which must be soon. The time that a call itself takes is part of it.
    pub fn soon(&self, client: &str, expected: &str) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let said = self.call(client, DENIED)?;
            let took = start.elapsed();
            ensure!(took <= PROMISED, "{client}: {said:?} after {took:?}, expected it to be {expected}");
            if said.kind() == expected {
                return Ok(took);
            }
        }
    }

    /// What a pod saw whose init container calls [`DENIED`] with its first instruction, born with these labels.
    pub fn born_calling(&self, name: &str, labels: Value) -> Result<Said> {
        let mut born = self.client(name);
        let url = self.url(DENIED);
        let call: Vec<String> = CURL.iter().chain([&url.as_str()]).map(|word| (*word).to_owned()).collect();
        born["spec"]["restartPolicy"] = "Never".into();
        // It fails where it is refused; what it printed counts.
        born["spec"]["initContainers"] = json!([container(name, &self.site.clients.built.reference, &call)]);
        born["spec"]["initContainers"][0]["name"] = "first".into();
        born["spec"]["containers"][0]["command"] = json!(["callgate-testkit", "--version"]);
        born["metadata"]["labels"] = labels;
        self.site.cluster.apply(&born)?;
        let name = self.name(name);
        super::pod::wait(self.site, &name)?;
        let printed = exec::output(&mut self.kubectl(&["logs", &name, "--container=first"]))?;
        seen(&printed).with_context(|| format!("what `{name}` saw"))
    }

    /// Makes one more client, and says why the scheduler does not place it.
    pub fn unscheduled(&self, name: &str) -> Result<String> {
        self.add(name, json!({}))?;
        let name = self.name(name);
        exec::run(&mut self.kubectl(&["wait", "--for=condition=PodScheduled=false", READY_WITHIN, "pod", &name]))?;
        let why = "--output=jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].message}";
        exec::output(&mut self.kubectl(&["get", "pod", &name, why]))
    }

    /// An annotation of a pod, its dots escaped; empty if it has none.
    pub fn annotation(&self, name: &str, escaped: &str) -> Result<String> {
        let path = format!("--output=jsonpath={{.metadata.annotations.{escaped}}}");
        exec::output(&mut self.kubectl(&["get", "pod", &self.name(name), &path]))
    }

    /// Waits until a pod is ready.
    pub fn ready(&self, name: &str) -> Result<()> {
        exec::run(&mut self.kubectl(&["wait", "--for=condition=Ready", READY_WITHIN, "pod", &self.name(name)]))
    }

    /// That no container has ended and was started anew: whatever was done to the pods, nobody was harmed.
    pub fn unharmed(&self) -> Result<()> {
        let counts = "--output=jsonpath={.items[*].status.containerStatuses[*].restartCount}";
        let said = exec::output(&mut self.kubectl(&["get", "pods", counts]))?;
        ensure!(said.split_whitespace().all(|count| count == "0"), "containers were started anew: {said}");
        Ok(())
    }

    fn call(&self, client: &str, path: &str) -> Result<Said> {
        self.ask(client, &[&self.url(path)])
    }

    /// What curl in `client` saw, which is given these words.
    pub fn ask(&self, client: &str, words: &[&str]) -> Result<Said> {
        let output = self.exec(client).args(CURL).args(words).output().context("kubectl")?;
        let context = || format!("{client}, {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        seen(&String::from_utf8_lossy(&output.stdout)).with_context(context)
    }

    /// Calls `url` until it is answered: Services are known by and by.
    pub fn until_answered(&self, client: &str, url: &str) -> Result<()> {
        let start = Instant::now();
        while !self.ask(client, &[url]).is_ok_and(|said| said.kind() == "answered") {
            ensure!(start.elapsed() < SERVED_WITHIN, "{url} is not to be reached");
        }
        Ok(())
    }

    /// Where the server has `path`.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}:{PORT}{path}", self.address)
    }

    /// kubectl in the namespace of the pods.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut kubectl = self.site.cluster.kubectl();
        kubectl.args(["--namespace", NAMESPACE]).args(arguments);
        kubectl
    }

    /// kubectl that runs in a pod what is added to it.
    pub fn exec(&self, name: &str) -> Command {
        self.kubectl(&["exec", &self.name(name), "--"])
    }

    /// Makes one more client, born with these labels.
    pub fn add(&self, name: &str, labels: Value) -> Result<()> {
        self.add_with(name, |pod| pod["metadata"]["labels"] = labels)
    }

    /// Makes one more client, changed so.
    pub fn add_with(&self, name: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut client = self.client(name);
        change(&mut client);
        self.site.cluster.apply(&client)
    }

    /// On the node whose agent is asked.
    fn client(&self, name: &str) -> Value {
        // Something that goes on for ever, and calls nobody.
        let idle = ["callgate-testkit", "canary", "--listen", "127.0.0.1:0"].map(str::to_owned);
        let mut client = pod(&self.name(name), json!([container(name, &self.site.clients.built.reference, &idle)]));
        client["spec"]["affinity"] = super::pod::on(&self.site.nodes[0]);
        client
    }
}

/// One call, and how it ended: the body, then the status and curl's exit code on a line of their own.
const CURL: [&str; 6] = ["curl", "--silent", "--max-time", "10", "--write-out", "\n%{http_code} %{exitcode}"];

fn seen(printed: &str) -> Result<Said> {
    let (body, last) = printed.trim_end().rsplit_once('\n').unwrap_or(("", printed.trim_end()));
    // Exit codes: `man curl`.
    match last.split_once(' ') {
        Some(("200", "0")) => Ok(Said::Answered(body.to_owned())),
        Some(("403", "0")) => Ok(Said::Denied),
        Some(("000", "7")) => Ok(Said::Refused),
        Some(("000", "35" | "52" | "56")) => Ok(Said::Cut),
        Some(("000", "60")) => Ok(Said::Untrusted),
        _ => bail!("no answer: {printed:?}"),
    }
}

fn server(name: &str, image: &str) -> Value {
    // The server's own address is in its certificate, so it is asked for when it is known.
    let serve =
        ["callgate-testkit", "upstream", "--listen", "0.0.0.0:8443", "--ca", "/ca", "--tls", "server,$(POD_IP)"];
    let mut container = container(SERVER, image, &serve.map(str::to_owned));
    let plain = ["callgate-testkit", "upstream", "--listen", "0.0.0.0:8080"].map(str::to_owned);
    let plain = self::container("plain", image, &plain);
    container["env"] = json!([{ "name": "POD_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }]);
    container["volumeMounts"] = json!([{ "name": "ca", "mountPath": "/ca" }]);
    container["readinessProbe"] = json!({ "tcpSocket": { "port": PORT }, "periodSeconds": 1 });
    let mut pod = pod(name, json!([container, plain]));
    pod["metadata"]["labels"] = json!({ "app": SERVER });
    pod["spec"]["volumes"] = json!([{ "name": "ca", "secret": { "secretName": "server-ca" } }]);
    pod
}

fn container(name: &str, image: &str, command: &[String]) -> Value {
    json!({ "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": command })
}

fn pod(name: &str, containers: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": containers },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_curl_prints_is_understood() {
        assert_eq!(seen("{\"a\":1}\n200 0").unwrap(), Said::Answered("{\"a\":1}".into()));
        assert_eq!(seen("no\n403 0").unwrap(), Said::Denied);
        assert_eq!(seen("\n000 7").unwrap(), Said::Refused);
        assert_eq!(seen("\n000 60").unwrap(), Said::Untrusted);
        assert!(seen("\n000 28").is_err());
        assert!(seen("").is_err());
    }
}
