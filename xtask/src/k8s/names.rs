//! Services by their names, as pods call each other: through the cluster's DNS, short and whole, with and without TLS.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::labels;
use super::pods::{ALLOWED, DENIED, PLAIN_PORT, PORT, Pods, SERVER};
use super::{NAMESPACE, Site, Step};
use crate::exec;

pub const STEP: Step = Step { name: "services by name", run };

fn run(site: &Site<'_>) -> Result<String> {
    site.release.apply(&[])?;
    let pods = Pods::start(site)?;
    site.cluster.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": SERVER, "namespace": NAMESPACE },
        "spec": { "selector": { "app": SERVER }, "ports": [
            { "name": "tls", "port": PORT, "targetPort": PORT }, { "name": "plain", "port": PLAIN_PORT, "targetPort": PLAIN_PORT },
        ] },
    }))?;
    let whole = format!("{SERVER}.{NAMESPACE}.svc.{}", domain(&pods)?);
    let hosts = [SERVER.to_owned(), format!("{SERVER}.{NAMESPACE}"), whole.clone()];
    let plain = |host: &str, path: &str| format!("http://{host}:{PLAIN_PORT}{path}");
    let tls = |path: &str| format!("https://{SERVER}:{PORT}{path}");
    pods.until_answered("client", &plain(SERVER, ALLOWED)).context("before the label")?;
    pods.until_answered("client", &tls(ALLOWED)).context("before the label, over TLS")?;

    site.cluster.apply(&policy(&whole))?;
    labels::accepted(site)?;
    pods.label("client", "callgate.dev/enroll=true")?;
    pods.soon("client", "denied").context("after the label")?;
    let expect = |words: &[&str], expected: &str| {
        let said = pods.ask("client", words)?;
        ensure!(said.kind() == expected, "{words:?}: {said:?}, expected it to be {expected}");
        Ok(())
    };
    for host in &hosts {
        expect(&[&plain(host, ALLOWED)], "answered")?;
        expect(&[&plain(host, DENIED)], "denied")?;
    }
    expect(&[&tls(ALLOWED)], "answered")?;
    expect(&[&tls(DENIED)], "denied")?;
    // The caller's word alone is none: neither for another service, nor for one of another namespace.
    for host in ["kubernetes", &format!("{SERVER}.default")] {
        expect(&["--header", &format!("Host: {host}:{PLAIN_PORT}"), &plain(SERVER, ALLOWED)], "denied")?;
    }
    let said = site.release.on_collector(&["callgate", "audit", "search", "--json"])?;
    let service = format!("{whole}:{PLAIN_PORT}");
    ensure!(said.contains(&service), "no record of a call to {service}");
    let asked = |line: &str| line.contains("\"dns\"") && line.contains(&whole);
    ensure!(said.lines().any(asked), "no record of a question for {whole}");
    exec::run(&mut pods.kubectl(&["delete", "service", SERVER]))?;
    Ok(format!("{} are one service, {service}", hosts.join(", ")))
}

/// Where the cluster's names end, as kubelet tells pods.
fn domain(pods: &Pods<'_>) -> Result<String> {
    let read = "print(open('/etc/resolv.conf').read())";
    let said = exec::output(pods.exec("client").args(["python3", "-c", read]))?;
    let domain = said.split_whitespace().find_map(|word| word.strip_prefix("svc."));
    Ok(domain.with_context(|| format!("kubelet searches no names of Services: {said}"))?.to_owned())
}

fn policy(whole: &str) -> serde_json::Value {
    let permit = |service: String| {
        format!(
            "permit (principal, action == Callgate::Action::\"call\", resource in Callgate::Service::\"{service}\") \
             when {{ resource.path == \"{ALLOWED}\" }};\n"
        )
    };
    let mut policy = labels::policy("nothing:1");
    let cedar = permit(format!("{whole}:{PLAIN_PORT}")) + &permit(format!("{SERVER}:{PORT}"));
    policy["spec"]["cedar"] = cedar.into();
    policy
}
