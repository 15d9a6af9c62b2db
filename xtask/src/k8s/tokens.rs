//! A pod's service account is a caller by its token, which the cluster's API stands by; with the pod the token ends.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::pods::{ALLOWED, Pods};
use super::{GONE_WITHIN, NAMESPACE, Site, Step, labels};
use crate::exec;

pub const STEP: Step = Step { name: "service accounts as callers", run };

/// Whom tokens of pods are made for, and the chart's value that takes them.
const AUDIENCE: &str = "callgate-xtask";
/// A service that is not the gate.
const OTHER: &str = "another-service";
/// From a pod's end to that of its token. Source: a review counts for 10 seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Prints the status of a call with the token in `argv[2]`, or in the file there; with neither it is a call without.
const CALL: &str = "import os, ssl, sys, urllib.request as u, urllib.error as e\n\
    url, token = sys.argv[1:3]\n\
    token = open(token).read() if os.path.exists(token) else token\n\
    r = u.Request(url, headers={'x-callgate-caller': token} if token else {})\n\
    try: print(u.urlopen(r, context=ssl.create_default_context(), timeout=10).status)\n\
    except e.HTTPError as error: print(error.code)";

fn run(site: &Site<'_>) -> Result<String> {
    site.release.apply(&[&format!("agent.tokens.audience={{{AUDIENCE}}}")])?;
    let pods = Pods::start(site)?;
    site.cluster.apply(&policy(&pods.service()))?;
    labels::accepted(site)?;
    for name in ["a", "b"] {
        pods.add_with(name, |pod| {
            pod["metadata"]["labels"] = json!({ "callgate.dev/enroll": "true" });
            pod["spec"]["volumes"] =
                json!([{ "name": "tokens", "projected": { "sources": [token(AUDIENCE), token(OTHER)] } }]);
            pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "tokens", "mountPath": "/tokens" }]);
        })?;
        pods.ready(name)?;
    }
    let own = format!("/tokens/{AUDIENCE}");
    ensure!(call(&pods, "a", "")? == "403", "a call without a caller was not denied");
    let said = call(&pods, "a", &own)?;
    ensure!(said == "200", "a call with the pod's token: {said}");
    let said = call(&pods, "a", &format!("/tokens/{OTHER}"))?;
    ensure!(said == "401", "a call with a token for another service: {said}");
    let token =
        exec::output(pods.exec("a").args(["python3", "-c", "print(open(__import__('sys').argv[1]).read())", &own]))?;
    let token = token.trim();
    // It is no more than a text, until its pod ends.
    let said = call(&pods, "b", token)?;
    ensure!(said == "200", "a call with the token of a pod that is there: {said}");
    let (head, signature) = token.rsplit_once('.').context("no JWT")?;
    let said = call(&pods, "b", &format!("{head}.{}", signature.chars().rev().collect::<String>()))?;
    ensure!(said == "401", "a call with a forged token: {said}");
    exec::run(&mut pods.kubectl(&["delete", "pod", &pods.name("a"), GONE_WITHIN]))?;
    let start = Instant::now();
    while call(&pods, "b", token)? != "401" {
        ensure!(start.elapsed() < ENDS_WITHIN, "the token outlived its pod");
    }
    let ended_after = start.elapsed();
    recorded(site, signature)?;
    Ok(format!("a token ended {:.1} s after its pod", ended_after.as_secs_f64()))
}

/// The page is for the service account alone that the pods have.
fn policy(service: &str) -> Value {
    let mut policy = labels::policy(service);
    let cedar = format!(
        "permit (principal, action == Callgate::Action::\"call\", resource in Callgate::Service::\"{service}\") \
         when {{ resource.path == \"{ALLOWED}\" && context has caller && \
         context.caller.sub == \"system:serviceaccount:{NAMESPACE}:default\" }};\n"
    );
    policy["spec"]["cedar"] = cedar.into();
    policy
}

fn token(audience: &str) -> Value {
    json!({ "serviceAccountToken": { "audience": audience, "expirationSeconds": 600, "path": audience } })
}

fn call(pods: &Pods<'_>, pod: &str, token: &str) -> Result<String> {
    Ok(exec::output(pods.exec(pod).args(["python3", "-c", CALL, &pods.url(ALLOWED), token]))?.trim().to_owned())
}

/// That records name the caller, and hold nothing of its token.
fn recorded(site: &Site<'_>, signature: &str) -> Result<()> {
    let said = site.release.on_collector(&["callgate", "audit", "search", "--json"])?;
    let caller = format!("system:serviceaccount:{NAMESPACE}:default");
    ensure!(said.contains(&caller), "no record names the caller {caller}");
    ensure!(!said.contains(signature), "a token is on record");
    Ok(())
}
