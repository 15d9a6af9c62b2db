//! The guards themselves: what a test makes on the machine is there while it runs, and gone afterwards.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callgate_e2e::Case;
use callgate_harness::{Canary, CanaryConfig, Netns, Place, Running, TestCgroup, Upstream, UpstreamConfig, Veth, run};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("a_cgroup_is_removed_with_the_processes_in_it", a_cgroup_is_removed_with_the_processes_in_it),
    Case::new("a_process_is_born_in_its_place", a_process_is_born_in_its_place).needs(&["netns", "curl"]),
    Case::new("a_canary_hears_across_namespaces", a_canary_hears_across_namespaces).needs(&["netns", "ipv6"]),
];

fn a_cgroup_is_removed_with_the_processes_in_it() -> Result<()> {
    let cgroup = TestCgroup::new("life")?;
    let child = cgroup.child("inner")?;
    let mut sleep = Place::here().cgroup_path(&child).command("sleep");
    sleep.arg("600");
    let mut running = Running::start(sleep)?;
    callgate_harness::eventually("the process is in the cgroup", Duration::from_secs(5), || {
        let processes = std::fs::read_to_string(child.join("cgroup.procs")).ok()?;
        (processes.trim() == running.pid().to_string()).then_some(())
    })?;
    let path = cgroup.path().to_owned();
    ensure!(cgroup.id()? != 0 && cgroup.processes()?.is_empty());
    drop(cgroup);
    ensure!(!path.exists(), "{} is still there", path.display());
    running.wait(Duration::from_secs(5))?;
    Ok(())
}

fn a_process_is_born_in_its_place() -> Result<()> {
    let netns = Netns::new("place")?;
    let veth = Veth::to_host(&netns)?;
    let cgroup = TestCgroup::new("place")?;
    let upstream = Upstream::start(UpstreamConfig::at(veth.a))?;
    let mut curl = Place::here().cgroup(&cgroup).netns(&netns).command("curl");
    curl.args(["--silent", "--show-error", "--max-time", "5", &format!("http://{}/v1/health", upstream.address())]);
    let finished = run(curl, Duration::from_secs(10))?.ok()?;
    ensure!(finished.stdout == r#"{"status":"ok"}"#, "answer: {}", finished.stdout);
    let requests = upstream.requests();
    ensure!(requests.len() == 1 && requests[0].peer.ip() == veth.b, "log: {requests:?}");

    let mut where_am_i = Place::here().cgroup(&cgroup).command("cat");
    where_am_i.arg("/proc/self/cgroup");
    let finished = run(where_am_i, Duration::from_secs(10))?.ok()?;
    let name = cgroup.path().file_name().and_then(|name| name.to_str()).context("a name")?;
    ensure!(finished.stdout.contains(name), "in {}", finished.stdout);
    Ok(())
}

fn a_canary_hears_across_namespaces() -> Result<()> {
    let (near, far) = (Netns::new("near")?, Netns::new("far")?);
    let veth = Veth::between(&near, &far)?;
    for address in veth.b_addresses() {
        let canary = Canary::start(CanaryConfig { netns: Some(far.path()), ..CanaryConfig::at(address) })?;
        canary.silent()?;
        near.enter(|| std::net::TcpStream::connect(canary.address()))??;
        callgate_harness::eventually("the connection", Duration::from_secs(5), || canary.silent().err())?;
        // From the host's own namespace there is no way there.
        let mut ping = Command::new("ip");
        ping.args(["route", "get", &address.to_string()]);
        let route = run(ping, Duration::from_secs(5))?;
        ensure!(!route.stdout.contains("dev cgt"), "the host has a route: {}", route.stdout);
    }
    Ok(())
}
