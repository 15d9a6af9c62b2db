//! The first bench: the same calls directly and through the gate, interleaved in one run.
//!
//! The gate is whole: redirect, decision, masking and audit on, the collector draining. Load generator, upstream, agent
//! and collector share the machine's cores, so the ratio is the figure to keep, not the calls per second.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Site, site};
use callgate_harness::{LoadReport, Place, program, run};

/// Rounds of each pair; the median counts.
const ROUNDS: usize = 5;

/// Calls of one round over kept-alive connections.
const CALLS: u64 = 20_000;

/// Calls of one round with a connection each.
const FRESH_CALLS: u64 = 2_000;

/// One kind of load.
struct Load {
    name: &'static str,
    tls: bool,
    fresh: bool,
}

const LOADS: [Load; 4] = [
    Load { name: "h1 keep-alive, plain", tls: false, fresh: false },
    Load { name: "h1 keep-alive, TLS", tls: true, fresh: false },
    Load { name: "new connection per call, plain", tls: false, fresh: true },
    Load { name: "new connection per call, TLS", tls: true, fresh: true },
];

fn main() -> Result<()> {
    let mut site = Site::new()?;
    let agent = site.agent()?.pid();
    println!(
        "load                             direct/s   gate/s  ratio  p50 µs  p99 µs  agent CPU ms per 10,000 calls"
    );
    for load in &LOADS {
        let (mut direct, mut gated) = (Vec::new(), Vec::new());
        let before = cpu_ticks(agent)?;
        for _ in 0..ROUNDS {
            direct.push(call(&site, load, Place::here(), &site.path("upstream.pem"))?);
            gated.push(call(&site, load, Place::here().cgroup_path(&site.enrolled), &site.path("run/ca.pem"))?);
        }
        let ticks = cpu_ticks(agent)? - before;
        let calls: u64 = gated.iter().map(|report| report.calls).sum();
        let (direct, gated) = (median(direct), median(gated));
        println!(
            "{:<32} {:>8.0} {:>8.0}  {:>5.2} {:>7} {:>7} {:>10.0}",
            load.name,
            direct.per_second,
            gated.per_second,
            gated.per_second / direct.per_second,
            gated.p50_us,
            gated.p99_us,
            // Linux counts in hundredths of a second (USER_HZ).
            ticks as f64 * 10.0 * 10_000.0 / calls as f64,
        );
    }
    Ok(())
}

fn call(site: &Site, load: &Load, place: Place, trusted: &Path) -> Result<LoadReport> {
    let testkit = program("callgate-testkit")?;
    let mut command: Command = place.command(&testkit);
    let (host, scheme, upstream) =
        if load.tls { (site::API, "https", &site.api) } else { (site::PLAIN, "http", &site.plain) };
    let address = upstream.address();
    let calls = if load.fresh { FRESH_CALLS } else { CALLS };
    command.arg("load").arg(format!("{scheme}://{host}:{}/v1/users/{{n}}", address.port()));
    command.args(["--connections", "20", "--calls", &calls.to_string(), "--connect-to", &address.to_string()]);
    command.arg("--ca").arg(trusted);
    if load.fresh {
        command.arg("--fresh");
    }
    let finished = run(command, Duration::from_secs(300))?.ok()?;
    let report: LoadReport = serde_json::from_str(finished.stdout.trim()).context("the load generator's report")?;
    ensure!(report.status(200) == calls, "not every call was answered: {report:?}");
    Ok(report)
}

fn median(mut reports: Vec<LoadReport>) -> LoadReport {
    reports.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    reports.swap_remove(reports.len() / 2)
}

/// User and system time of a process so far, in clock ticks.
fn cpu_ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("unexpected /proc/PID/stat")?.1;
    let times: Vec<u64> = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ensure!(times.len() == 2, "unexpected /proc/PID/stat");
    Ok(times.iter().sum())
}
