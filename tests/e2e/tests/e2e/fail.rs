//! The agent killed, stopped and out of memory, under new connections of workloads that fail in each of the three ways.
//!
//! Of memory: the limit is the process's own (`RLIMIT_DATA`), set from outside while it serves, since the controller of
//! cgroup v2 is not to be had where cgroup v1 has it. The next allocation fails, and the agent aborts, as it does for
//! any allocator that says no; the kernel's OOM killer ends a process by SIGKILL, which is the first of these cases.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, PYTHON, Site};
use callgate_harness::{Canary, CanaryConfig, Hit, Place, Running, eventually, run};
use rustix::process::Signal;

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("a_killed_agent_refuses_or_lets_by_as_enrolled", killed).needs(&["netns", "python3"]).alone(),
    Case::new("a_stopped_agent_refuses_or_lets_by_as_enrolled", stopped).needs(&["netns", "python3"]).alone(),
    Case::new("an_agent_without_memory_refuses_or_lets_by_as_enrolled", out_of_memory)
        .needs(&["netns", "python3"])
        .alone(),
    Case::new("how_a_workload_fails_is_configured_shown_and_recorded", configured).needs(&["netns"]),
];

const SOON: Duration = Duration::from_secs(30);
/// How many connections of a kind are waited for.
const ENOUGH: usize = 20;

/// One workload, what it knocks at, and its knocking.
struct Caller {
    cgroup: PathBuf,
    canary: Canary,
    knocking: Running,
}

impl Caller {
    fn start(site: &Site, name: &str, fail: Option<&str>) -> Result<Self> {
        let cgroup = site.root.child(name)?;
        if let Some(fail) = fail {
            let path = cgroup.display().to_string();
            site.callgate(&["enroll", &path, "--name", name, "--fail", fail])?.ok()?;
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
        let netns = Some(site.netns.path());
        let canary =
            Canary::start(CanaryConfig { netns, answer: Some(answer.to_vec()), ..CanaryConfig::at(site.address) })?;
        let mut python = Place::here().cgroup_path(&cgroup).command(PYTHON);
        python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/knock.py"));
        python.args([canary.address().ip().to_string(), canary.address().port().to_string()]);
        Ok(Self { cgroup, canary, knocking: Running::start(python)? })
    }

    /// How each connection went so far.
    fn said(&self) -> Vec<String> {
        self.knocking.stdout().lines().map(str::to_owned).collect()
    }

    /// Waits for [`ENOUGH`] more of one kind.
    fn wait_for(&self, kind: &str) -> Result<()> {
        let count = || self.said().iter().filter(|said| *said == kind).count();
        let wanted = count() + ENOUGH;
        let found = eventually(&format!("`{kind}`"), SOON, || (count() >= wanted).then_some(()));
        found.with_context(|| format!("{}: {}", self.cgroup.display(), phases(&self.said()).join(" ")))
    }

    fn arrived(&self) -> usize {
        self.canary.hits().iter().filter(|hit| matches!(hit, Hit::Connection { .. })).count()
    }
}

/// How it went, without repetitions: `403 refused 200`, and so on.
fn phases(said: &[String]) -> Vec<String> {
    let mut phases = said.to_vec();
    phases.dedup();
    phases
}

struct Callers {
    closed: Caller,
    open: Caller,
    observe: Caller,
    unenrolled: Caller,
}

impl Callers {
    fn start(site: &Site) -> Result<Self> {
        let all = Self {
            closed: Caller::start(site, "closed", Some("closed"))?,
            open: Caller::start(site, "open", Some("open"))?,
            observe: Caller::start(site, "observe", Some("observe"))?,
            unenrolled: Caller::start(site, "unenrolled", None)?,
        };
        for caller in [&all.closed, &all.open, &all.observe] {
            caller.wait_for("403")?;
        }
        all.unenrolled.wait_for("200")?;
        Ok(all)
    }

    /// The agent is away.
    fn without_agent(&self) -> Result<()> {
        self.closed.wait_for("refused")?;
        for caller in [&self.open, &self.observe, &self.unenrolled] {
            caller.wait_for("200")?;
        }
        Ok(())
    }

    /// The agent is back: everything is as before, and nobody had to be started anew.
    fn with_agent_again(&self) -> Result<()> {
        for caller in [&self.closed, &self.open, &self.observe] {
            caller.wait_for("403")?;
        }
        self.unenrolled.wait_for("200")
    }

    /// What each one saw, from the first connection to the last, and what the record says of it.
    fn judge(mut self, site: &Site) -> Result<()> {
        let callers = [&mut self.closed, &mut self.open, &mut self.observe, &mut self.unenrolled];
        for caller in callers {
            caller.knocking.kill()?;
        }
        self.closed.canary.silent()?;
        let said = self.closed.said();
        ensure!(
            said.iter().all(|one| ["403", "refused", "cut", "late"].contains(&one.as_str())),
            "{:?}",
            phases(&said)
        );
        ensure!(phases(&self.unenrolled.said()) == ["200"], "unenrolled: {:?}", phases(&self.unenrolled.said()));
        for caller in [&self.open, &self.observe] {
            // Through the gate, past it, and through it again: never to and fro.
            let mut seen = phases(&caller.said());
            seen.retain(|one| one == "403" || one == "200");
            seen.dedup();
            ensure!(seen == ["403", "200", "403"], "{}: {:?}", caller.cgroup.display(), phases(&caller.said()));
        }
        for (caller, workload) in [(&self.open, "cgroup/open"), (&self.observe, "cgroup/observe")] {
            let told = format!("{} connections of `{workload}` went past the gate", caller.arrived());
            let alarm =
                |record: &serde_json::Value| record["detail"].as_str().is_some_and(|text| text.starts_with(&told));
            site.records("agent", &told, |records| records.iter().any(alarm))?;
            let status = site.callgate(&["status"])?.stdout;
            ensure!(status.contains(&told), "`{told}` is not in {status}");
        }
        let past = |records: &[serde_json::Value]| -> Vec<serde_json::Value> {
            let past = |one: &&serde_json::Value| one["event"] == "stale" && one["observed"] == true;
            records.iter().filter(past).cloned().collect()
        };
        let wanted = self.observe.arrived();
        let records = site.records("kernel_denial", "every observed one", |all| past(all).len() >= wanted)?;
        let (past, to) = (past(&records), self.observe.canary.address().to_string());
        ensure!(past.len() == wanted, "{} recorded of {wanted}", past.len());
        ensure!(
            past.iter().all(|one| one["workload"] == "cgroup/observe" && one["destination"] == to),
            "{:?}",
            past[0]
        );
        ensure!(!records.iter().any(|one| one["event"] == "severed"), "a connection was cut");
        Ok(())
    }
}

/// A connection past the gate, kept open: sends a byte for each line that it is told.
const KEPT: &str = r#"
import socket, sys
kept = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
print("there", flush=True)
for line in sys.stdin:
    kept.sendall(b"x")
    print("sent", flush=True)
"#;

/// Takes the agent away and brings it back, under new connections throughout.
fn away_and_back(
    site: &mut Site,
    away: impl FnOnce(&mut Site, &Callers) -> Result<()>,
    back: impl FnOnce(&mut Site) -> Result<()>,
) -> Result<()> {
    let callers = Callers::start(site)?;
    away(site, &callers)?;
    callers.without_agent()?;
    let to = callers.open.canary.address();
    let mut python = Place::here().cgroup_path(&callers.open.cgroup).command(PYTHON);
    python.args(["-c", KEPT, &to.ip().to_string(), &to.port().to_string()]);
    let mut kept = Running::start(python)?;
    kept.line(SOON, |line| line == "there")?;
    back(site)?;
    callers.with_agent_again()?;
    // What was opened meanwhile goes on: it is told of, not cut.
    kept.write("\n")?;
    kept.line(SOON, |line| line == "sent")?;
    eventually("its byte", SOON, || callers.open.canary.raw().contains(&b'x').then_some(()))?;
    callers.judge(site)
}

fn killed() -> Result<()> {
    away_and_back(&mut Site::new()?, |site, _| site.kill_agent(), Site::start_agent)
}

fn stopped() -> Result<()> {
    // It recovers by itself.
    let (stop, go_on) = (Signal::STOP, Signal::CONT);
    away_and_back(&mut Site::new()?, |site, _| site.agent()?.signal(stop), |site| site.agent()?.signal(go_on))
}

/// Connections that want memory of the agent: heads that do not end.
const GREEDY: &str = r#"
import socket, sys, time
held = []
print("here", flush=True)
while True:
    try:
        greedy = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
        greedy.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 16000)
        held.append(greedy)
    except OSError:
        time.sleep(0.05)
"#;

fn out_of_memory() -> Result<()> {
    let mut site = Site::new()?;
    let away = |site: &mut Site, callers: &Callers| {
        let mut limit = Command::new("prlimit");
        limit.args(["--pid", &site.agent()?.pid().to_string(), "--data=1"]);
        run(limit, SOON)?.ok()?;
        let to = callers.closed.canary.address();
        let mut python = Place::here().cgroup_path(&callers.closed.cgroup).command(PYTHON);
        python.args(["-c", GREEDY, &to.ip().to_string(), &to.port().to_string()]);
        let greedy = Running::start(python)?;
        greedy.line(SOON, |line| line == "here")?;
        let status = site.agent()?.wait(SOON)?;
        ensure!(status.signal() == Some(Signal::ABORT.as_raw()), "{status}: {}", site.agent_log());
        ensure!(site.agent_log().contains("memory allocation of"), "{}", site.agent_log());
        Ok(())
    };
    away_and_back(&mut site, away, Site::start_agent)
}

fn configured() -> Result<()> {
    let mut site = Site::without_agent()?;
    let (path, other) = (site.root.child("by-config")?, site.root.child("by-hand")?);
    site.configure(&format!("\n[[enroll]]\ncgroup = \"{}\"\nname = \"shop\"\nfail = \"open\"\n", path.display()))?;
    site.start_collector()?;
    site.start_agent()?;
    let told = |site: &Site, id: &str| -> Result<serde_json::Value> {
        let listed = site.callgate(&["workloads", "--json"])?.ok()?.stdout;
        let mut all = listed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        all.find(|one| one["id"] == id).with_context(|| format!("no `{id}` in {listed}"))
    };
    eventually("the workload", SOON, || told(&site, "cgroup/shop").ok())?;
    ensure!(told(&site, "cgroup/shop")?["fail"] == "open");
    let other = other.display().to_string();
    site.callgate(&["enroll", &other, "--name", "hand"])?.ok()?;
    ensure!(told(&site, "cgroup/hand")?["fail"] == "closed");
    let refused = site.callgate(&["enroll", &other, "--name", "hand", "--fail", "observe"])?;
    ensure!(refused.code() == 1 && refused.stderr.contains("fails closed"), "{}", refused.stderr);
    site.callgate(&["enroll", &other, "--name", "hand", "--fail", "observe", "--replace"])?.ok()?;
    // Kept by the next agent.
    site.stop_agent()?;
    site.start_agent()?;
    ensure!(told(&site, "cgroup/hand")?["fail"] == "observe" && told(&site, "cgroup/shop")?["fail"] == "open");
    let weakened = |one: &serde_json::Value, how: &str| one["weakened"].to_string().contains(how);
    site.records("enrolment", "what weakens them", |records| {
        ["fail-open", "fail-observe"].iter().all(|how| records.iter().any(|one| weakened(one, how)))
    })?;
    Ok(())
}
