//! The agent killed under load: only refusals, nothing leaks, and the record is whole after the restart.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, Site, site};
use callgate_harness::{Canary, CanaryConfig, LoadReport, Running, count, eventually, program, run};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("a_killed_agent_leaks_nothing_and_resumes", a_killed_agent_leaks_nothing_and_resumes)
        .needs(&["netns", "curl"])
        .alone(),
    Case::new("a_stopped_agent_means_refusal", a_stopped_agent_means_refusal).needs(&["netns", "curl"]).alone(),
    Case::new("client_upstream_and_collector_count_the_same", client_upstream_and_collector_count_the_same)
        .needs(&["netns"])
        .alone()
        .within(Duration::from_secs(900)),
];

/// The load generator in the enrolled cgroup.
fn load(site: &Site, arguments: &[&str]) -> Result<std::process::Command> {
    let testkit = program("callgate-testkit")?;
    let mut command = site.inside(&testkit.display().to_string());
    command.arg("load").args(arguments).arg("--ca").arg(site.path("run/ca.pem"));
    Ok(command)
}

fn report(text: &str) -> Result<LoadReport> {
    let line = text.lines().last().context("the load generator said nothing")?;
    serde_json::from_str(line).with_context(|| format!("not a report: {line}"))
}

/// The report of a load generator that was started beside the test.
fn ended(load: &mut Running) -> Result<LoadReport> {
    let status = load.wait(Duration::from_secs(30))?;
    ensure!(status.success(), "{status}: {}", load.stderr());
    report(&load.stdout())
}

fn a_killed_agent_leaks_nothing_and_resumes() -> Result<()> {
    let mut site = Site::new()?;
    let canary = Canary::start(CanaryConfig { netns: Some(site.netns.path()), ..CanaryConfig::at(site.address) })?;
    let api = site.api.address().to_string();
    let allowed = format!("https://{}:{}/v1/users/{{n}}", site::API, site.api.address().port());
    let forbidden = format!("http://{}/", canary.address());
    let common = ["--connections", "8", "--calls", "1000000000", "--seconds", "12", "--fresh"];
    let mut first = vec![allowed.as_str(), "--connect-to", &api];
    first.extend(common);
    let mut second = vec![forbidden.as_str()];
    second.extend(common);
    let mut good = Running::start(load(&site, &first)?)?;
    let mut bad = Running::start(load(&site, &second)?)?;
    site.api.wait_for(50, Duration::from_secs(20))?;
    site.kill_agent()?;
    let at_kill = site.api.request_count();
    std::thread::sleep(Duration::from_secs(3)); // tidy: the time without an agent is what is tested
    let before_restart = site.api.request_count();
    // Requests that were under way at the kill may still be logged; nothing new comes.
    ensure!(
        before_restart <= at_kill + 16,
        "{at_kill} requests at the kill, {before_restart} after 3 s without an agent"
    );
    site.start_agent()?;
    site.api.wait_for(before_restart + 20, Duration::from_secs(20)).context("service did not resume")?;
    let (good, bad) = (ended(&mut good)?, ended(&mut bad)?);
    canary.silent()?;
    ensure!(good.status(200) > 0 && good.refused() > 0, "{good:?}");
    ensure!(bad.status(403) > 0 && bad.status(200) == 0 && bad.refused() > 0, "{bad:?}");

    let verified = eventually("a whole chain", Duration::from_secs(20), || {
        site.callgate(&["audit", "verify"]).ok().filter(|verified| verified.code() == 0)
    })?;
    ensure!(verified.stdout.contains("e2e/agent"), "{}", verified.stdout);
    // Every begin has its end, and what the kill cut off says so.
    let open = |records: &[serde_json::Value]| {
        let of = |kind: &str| -> BTreeSet<String> {
            records.iter().filter(|r| r["kind"] == kind).filter_map(|r| r["call"].as_str().map(str::to_owned)).collect()
        };
        of("begin").difference(&of("end")).count()
    };
    site.records("", "an end for every begin", |records| !records.is_empty() && open(records) == 0)?;
    Ok(())
}

fn a_stopped_agent_means_refusal() -> Result<()> {
    let mut site = Site::new()?;
    site.agent()?.signal(rustix::process::Signal::STOP)?;
    std::thread::sleep(Duration::from_millis(1500)); // tidy: longer than stale_after_ms
    let refused = site.curl(&[&site.api_url("/v1/users/1")])?;
    ensure!(refused.code() == 7, "{} {}", refused.code(), refused.stderr);
    site.agent()?.signal(rustix::process::Signal::CONT)?;
    eventually("service after the stop", Duration::from_secs(10), || {
        site.curl(&[&site.api_url("/v1/users/1")]).ok().filter(|answer| answer.stdout.ends_with("\n200"))
    })?;
    Ok(())
}

fn client_upstream_and_collector_count_the_same() -> Result<()> {
    let site = Site::new()?;
    let calls = count("accounting_calls");
    let connections = count("accounting_connections").to_string();
    let api = site.api.address().to_string();
    let half = (calls / 2).to_string();
    let one = |path: &str| -> Result<LoadReport> {
        let url = format!("https://{}:{}{path}", site::API, site.api.address().port());
        let arguments = [url.as_str(), "--connect-to", &api, "--connections", &connections, "--calls", &half];
        let finished = run(load(&site, &arguments)?, Duration::from_secs(600))?.ok()?;
        report(&finished.stdout)
    };
    let allowed = one("/v1/users/{n}")?;
    let denied = one("/v2/{n}")?;
    ensure!(allowed.status(200) == calls / 2, "{allowed:?}");
    ensure!(denied.status(403) == calls / 2, "{denied:?}");
    ensure!(site.api.request_count() as u64 == calls / 2, "{} at the upstream", site.api.request_count());
    let of = |records: &[serde_json::Value], kind: &str| {
        records.iter().filter(|record| record["kind"] == kind).count() as u64
    };
    let records = site.records("", "an end for every call", |records| of(records, "end") >= calls)?;
    ensure!(
        of(&records, "begin") == calls && of(&records, "end") == calls,
        "{calls} calls, {} begins",
        of(&records, "begin")
    );
    let denied =
        records.iter().filter(|record| record["kind"] == "begin" && record["decision"]["verdict"] == "deny").count();
    ensure!(denied as u64 == calls / 2, "{denied} denials recorded");
    ensure!(site.callgate(&["audit", "verify"])?.code() == 0);
    Ok(())
}
