//! Floods of HTTP/2 against the running agent, and its farewell: each flood costs little, and others are served on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, PYTHON, Site, Used, site};
use callgate_harness::{Running, run};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("floods_cost_little_and_are_cut", floods_cost_little_and_are_cut)
        .needs(&["netns", "python3", "curl"])
        .alone(),
    Case::new("open_calls_of_http2_end_in_order", open_calls_of_http2_end_in_order).needs(&["netns", "python3"]),
];

/// Most processor time of the agent for one flood. Source: ours; the dearest, the stall, took 0.5 s unoptimised on 2 cores.
const CPU: Duration = Duration::from_secs(2);

/// Most memory that one flood may add. Unit: bytes. Source: sixteen connections' windows.
const MEMORY: u64 = 64 << 20;

/// A flood by its name in `clients/flood.py`.
struct Flood {
    kind: &'static str,
    /// Streams or frames.
    count: u64,
    /// Whether the gate must break the connection off.
    cut: bool,
}

const FLOODS: &[Flood] = &[
    Flood { kind: "rapid_reset", count: 100_000, cut: true },
    Flood { kind: "refused_streams", count: 100_000, cut: true },
    Flood { kind: "malformed_streams", count: 100_000, cut: true },
    Flood { kind: "continuation", count: 100_000, cut: true },
    Flood { kind: "empty_continuation", count: 100_000, cut: true },
    Flood { kind: "settings", count: 100_000, cut: true },
    Flood { kind: "ping", count: 100_000, cut: true },
    Flood { kind: "empty_data", count: 100_000, cut: true },
    Flood { kind: "window_update", count: 100_000, cut: true },
    Flood { kind: "priority", count: 100_000, cut: true },
    Flood { kind: "hpack_bomb", count: 2_000, cut: true },
    // A client that reads slowly is none to cut: what waits for it is bounded.
    Flood { kind: "stall", count: 200, cut: false },
];

fn floods_cost_little_and_are_cut() -> Result<()> {
    let mut site = Site::new()?;
    let faults: Vec<String> = FLOODS
        .iter()
        .filter_map(|flood| one(&mut site, flood).err().map(|fault| format!("{}: {fault:#}", flood.kind)))
        .collect();
    ensure!(faults.is_empty(), "{faults:#?}");
    Ok(())
}

fn one(site: &mut Site, flood: &Flood) -> Result<()> {
    let pid = site.agent()?.pid();
    let requests = site.plain.request_count();
    let before = Used::afresh(pid)?;
    let mut python = site.inside(PYTHON);
    let address = site.plain.address();
    python.args(["-c", include_str!("../../clients/flood.py"), flood.kind, site::PLAIN]);
    python.args([address.ip().to_string(), address.port().to_string(), flood.count.to_string()]);
    let finished = run(python, Duration::from_secs(60))?.ok()?;
    let started = Instant::now();
    let served = site.curl(&[&site.plain_url("/v1/health")])?.ok().context("the next client")?;
    let waited = started.elapsed();
    let after = Used::of(pid)?;
    let cpu = after.cpu.saturating_sub(before.cpu);
    let memory = after.peak.saturating_sub(before.resident);
    println!(
        "{}: {cpu:?} of CPU, {} KiB more, next client after {waited:?}; {}",
        flood.kind,
        memory >> 10,
        finished.stdout.trim()
    );
    ensure!(served.stdout.ends_with("\n200"), "the next client got {}", served.stdout);
    ensure!(waited < Duration::from_secs(5), "the next client waited {waited:?}");
    ensure!(cpu <= CPU, "{cpu:?} of the processor");
    ensure!(memory <= MEMORY, "{memory} bytes more");
    let seen: serde_json::Value = serde_json::from_str(&finished.stdout)?;
    ensure!(seen["closed"] == flood.cut, "{seen}");
    if !flood.cut {
        let asked = (site.plain.request_count() - requests) as u64;
        ensure!(asked > flood.count, "only {asked} calls of {} went on", flood.count);
    }
    Ok(())
}

fn open_calls_of_http2_end_in_order() -> Result<()> {
    let mut site = Site::new()?;
    let address = site.plain.address();
    let mut python = site.inside(PYTHON);
    python.args(["-c", include_str!("../../clients/drain.py"), site::PLAIN]);
    python.args([address.ip().to_string(), address.port().to_string()]);
    let mut client = Running::start(python)?;
    let within = Duration::from_secs(20);
    client.line(within, |line| line == "open")?;
    site.stop_agent()?;
    client.wait(within)?;
    let said = client.stdout();
    let lines: Vec<&str> = said.lines().collect();
    let place = |wanted: &str| {
        let found = lines.iter().position(|line| line.starts_with(wanted));
        found.with_context(|| format!("no `{wanted}` in {said}{}", client.stderr()))
    };
    ensure!(place("goaway")? < place("ended")? && place("ended")? < place("closed")?, "{said}");
    ensure!(!said.contains("reset") && !said.contains("late call answered"), "{said}");
    let new = lines[place("new ")?];
    ensure!(new != "new HTTP/1.1 200", "a new connection was served: {said}");
    ensure!(site.plain.request_count() == 1, "{:?}", site.plain.requests());
    // What was still to be shipped is shipped by the next agent.
    site.start_agent()?;
    let ends = site.records("end", "the call's end", |records| !records.is_empty())?;
    ensure!(ends[0]["outcome"] == "complete" && ends[0]["status"] == 200, "{}", ends[0]);
    ensure!(site.callgate(&["audit", "verify"])?.code() == 0);
    Ok(())
}
