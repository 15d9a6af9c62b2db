//! The agent is killed in the middle of a load, and started again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::Site;
use callgate_harness::{Canary, LoadReport, Running, eventually, program};

use crate::clients;
use crate::table::Table;

/// How long the loads run. Unit: seconds.
const LOAD_S: &str = "4";

/// Shows it.
pub fn show(table: &mut Table, site: &mut Site, canary: &Canary) {
    table.row("agent killed (SIGKILL) under load", "then refusals only; nothing leaks", || under_load(site, canary));
    table.row("a call while no agent runs", "refused", || {
        let before = site.api.bytes_received();
        let answer = clients::curl(site, &[&site.api_url("/v1/health")])?;
        ensure!(answer.status == 0, "status {}", answer.status);
        ensure!(site.api.bytes_received() == before, "bytes reached the upstream");
        Ok(answer.body)
    });
    table.row("agent started again", "calls are answered again", || {
        site.start_agent()?;
        eventually("an answer", Duration::from_secs(15), || {
            let answer = clients::curl(site, &[&site.api_url("/v1/health")]).ok()?;
            (answer.status == 200).then(|| format!("200 {}", answer.body))
        })
    });
}

fn under_load(site: &mut Site, canary: &Canary) -> Result<String> {
    let before = site.api.request_count();
    let allowed = load(site, &site.api_url("/v1/users/{n}"), site.api.address())?;
    let leaking = load(site, &format!("http://{}/leak/{{n}}", canary.address()), canary.address())?;
    site.api.wait_for(before + 50, Duration::from_secs(10))?;
    std::thread::sleep(Duration::from_millis(500));
    site.kill_agent()?;
    // What the agent had sent is read by the upstream within this time; nothing may follow.
    std::thread::sleep(Duration::from_millis(500));
    let bytes = site.api.bytes_received();
    let (allowed, leaking) = (report(allowed)?, report(leaking)?);
    canary.silent()?;
    let later = site.api.bytes_received() - bytes;
    ensure!(later == 0, "{later} bytes reached the upstream after the kill");
    ensure!(allowed.status(200) > 0 && allowed.refused() > 0, "the load was not cut in the middle: {allowed:?}");
    ensure!(allowed.statuses.keys().all(|status| *status == 200), "permitted calls were refused: {allowed:?}");
    ensure!(leaking.statuses.keys().all(|status| *status == 403), "the canary's load was answered: {leaking:?}");
    ensure!(leaking.refused() > 0, "the kill changed nothing for the canary's load: {leaking:?}");
    Ok(format!(
        "permitted: {} answered, {} cut, then {} refused {:?}\nnot permitted: {} times 403, {} cut, then {} refused\n\
         0 bytes at the upstream after the kill, 0 at the canary",
        allowed.status(200),
        allowed.broken + allowed.tls_failed,
        allowed.refused(),
        allowed.not_connected.keys().collect::<Vec<_>>(),
        leaking.status(403),
        leaking.broken + leaking.tls_failed,
        leaking.refused(),
    ))
}

fn load(site: &Site, url: &str, address: std::net::SocketAddr) -> Result<Running> {
    let mut load = site.inside(&program("callgate-testkit")?.display().to_string());
    load.args(["load", url, "--connect-to", &address.to_string(), "--connections", "4", "--timeout", "2"]);
    load.args(["--calls", "100000000", "--seconds", LOAD_S]);
    Running::start(load)
}

fn report(mut load: Running) -> Result<LoadReport> {
    let line = load.line(Duration::from_secs(20), |line| line.starts_with('{'))?;
    load.wait(Duration::from_secs(10))?;
    serde_json::from_str(&line).context("the report of the load")
}
