//! An agent replaced under load: no connection is refused, and every call is on record.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, Site, site};
use callgate_harness::{LoadReport, Running, count, eventually, program};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("an_upgrade_under_load_refuses_nobody", an_upgrade_under_load_refuses_nobody)
        .needs(&["netns", "python3"])
        .alone(),
    Case::new("a_workload_cannot_take_over", a_workload_cannot_take_over).needs(&["netns", "python3"]),
    Case::new("a_relieved_agent_that_stays_holds_nothing", a_relieved_agent_that_stays_holds_nothing)
        .needs(&["netns", "curl"]),
    Case::new("uninstall_leaves_nothing_and_touches_nobody_else", uninstall_leaves_nothing_and_touches_nobody_else)
        .needs(&["netns", "curl"]),
];

/// Asks for both addresses of a name, fifty times a second, until its input ends; tells how it went.
const RESOLVE: &str = "\
import socket, sys, select, time, json
asked = failed = slowest = 0
while not select.select([sys.stdin], [], [], 0.02)[0]:
    began = time.monotonic()
    try:
        asked += 1
        socket.getaddrinfo('www.example', 80)
    except socket.gaierror:
        failed += 1
    slowest = max(slowest, time.monotonic() - began)
print(json.dumps({'asked': asked, 'failed': failed, 'slowest_s': slowest}))
";

/// Longest answer. Source: less than the 5 s after which a resolver asks again (resolv.conf(5)).
const SLOWEST_S: f64 = 4.0;

/// Longest wait for an agent to end or to change.
const PATIENCE: Duration = Duration::from_secs(20);

/// New connections each second. Source: the issue's.
const RATE: u64 = 1_000;

fn an_upgrade_under_load_refuses_nobody() -> Result<()> {
    let mut site = Site::new()?;
    let upgrades = count("upgrades");
    // From two seconds before the first to two after the last.
    let calls = RATE * (4 + 3 * upgrades);
    let plain = site.plain.address();
    let url = format!("http://{}:{}/v1/users/{{n}}", site::PLAIN, plain.port());
    let mut command = site.inside(&program("callgate-testkit")?.display().to_string());
    command.args(["load", &url, "--connect-to", &plain.to_string(), "--fresh", "--connections", "64"]);
    command.args(["--rate", &RATE.to_string(), "--calls", &calls.to_string()]);
    let mut load = Running::start(command)?;
    let mut resolve = site.inside("python3");
    resolve.args(["-c", RESOLVE]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut resolve = resolve.spawn().context("python3")?;
    site.plain.wait_for(RATE as usize, Duration::from_secs(30))?;
    for number in 0..upgrades {
        let before = site.plain.request_count();
        site.upgrade_agent().with_context(|| format!("upgrade {number}"))?;
        site.plain.wait_for(before + RATE as usize, Duration::from_secs(30))?;
    }
    let status = load.wait(Duration::from_secs(600))?;
    ensure!(status.success(), "{status}: {}", load.stderr());
    drop(resolve.stdin.take());
    let told: serde_json::Value = serde_json::from_slice(&resolve.wait_with_output()?.stdout)?;
    ensure!(told["asked"].as_u64() > Some(50 * upgrades) && told["failed"] == 0, "{told}");
    ensure!(told["slowest_s"].as_f64().is_some_and(|slowest| slowest < SLOWEST_S), "{told}");
    let text = load.stdout();
    let report: LoadReport = serde_json::from_str(text.lines().last().context("the load generator said nothing")?)?;
    ensure!(report.status(200) == calls, "{report:?}\n{}", site.agent()?.stderr());
    ensure!(site.plain.request_count() as u64 == calls, "{} of {calls} at the upstream", site.plain.request_count());
    let of = |records: &[serde_json::Value], kind: &str| {
        records.iter().filter(|record| record["kind"] == kind).count() as u64
    };
    // What an agent still had when it was replaced is shipped by it, or by the next.
    let records = site.records("", "an end for every call", |records| of(records, "end") >= calls)?;
    ensure!(of(&records, "begin") == calls && of(&records, "end") == calls, "{} begins", of(&records, "begin"));
    let cut = records.iter().filter(|record| record["kind"] == "end" && record["outcome"] != "complete").count();
    ensure!(cut == 0, "{cut} calls did not complete");
    let verified = site.callgate(&["audit", "verify"])?;
    ensure!(verified.code() == 0 && verified.stdout.contains("e2e/agent.2"), "{}", verified.stdout);
    // The enrolment is the successor's now, and the control socket too.
    let workloads = site.callgate(&["workloads"])?.ok()?;
    ensure!(workloads.stdout.contains("site"), "{}", workloads.stdout);
    Ok(())
}

fn a_workload_cannot_take_over() -> Result<()> {
    let mut site = Site::new()?;
    let socket = site.path("run/handover.sock").display().to_string();
    let ask = "import socket,sys\n\
               s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n\
               s.settimeout(10)\n\
               s.connect(sys.argv[1])\n\
               print(len(s.recv(1000)))";
    let mut inside = site.inside("python3");
    inside.args(["-c", ask, &socket]);
    let refused = callgate_harness::run(inside, Duration::from_secs(20))?;
    ensure!(refused.stdout.trim() != "" || refused.code() != 0, "{refused:?}");
    ensure!(refused.stdout.trim().is_empty() || refused.stdout.trim() == "0", "{}", refused.stdout);
    // From outside the same is answered; hanging up then changes nothing.
    let mut outside = std::process::Command::new("python3");
    outside.args(["-c", ask, &socket]);
    let answered = callgate_harness::run(outside, Duration::from_secs(20))?.ok()?;
    ensure!(answered.stdout.trim().parse::<usize>()? > 0);
    ensure!(site.agent()?.is_running());
    let served = site.curl(&[&site.api_url("/v1/users/1")])?;
    ensure!(served.stdout.ends_with("\n200"), "{} {}", served.stdout, served.stderr);
    Ok(())
}

/// As in Kubernetes, where kubelet would start an agent again that ends, and where both pods are there for a while.
fn a_relieved_agent_that_stays_holds_nothing() -> Result<()> {
    let mut site = Site::new()?;
    let mut before = site.upgrade_agent_with(&["--stay"])?;
    ensure!(before.wait(PATIENCE)?.success(), "without the option an agent ends");
    let mut relieved = site.upgrade_agent_with(&["--stay"])?;
    let words = format!("/proc/{}/cmdline", relieved.pid());
    eventually("the relieved agent to be idle", PATIENCE, || {
        std::fs::read_to_string(&words).is_ok_and(|words| words.contains("--idle")).then_some(())
    })?;
    ensure!(site.curl(&[&site.api_url("/v1/users/1")])?.stdout.ends_with("\n200"), "the successor does not serve");
    // Its successor is gone without a word: nothing that the idle one holds keeps the next from the node.
    site.kill_agent()?;
    ensure!(
        site.curl(&[&site.api_url("/v1/users/1")])?.code() == 7,
        "somebody serves beside the agent that was killed"
    );
    site.start_agent()?;
    ensure!(site.curl(&[&site.api_url("/v1/users/1")])?.stdout.ends_with("\n200"), "the node is not served any more");
    ensure!(relieved.is_running(), "it did not stay: {}", relieved.stderr());
    relieved.signal(rustix::process::Signal::TERM)?;
    ensure!(relieved.wait(PATIENCE)?.success(), "{}", relieved.stderr());
    Ok(())
}

fn uninstall_leaves_nothing_and_touches_nobody_else() -> Result<()> {
    let mut site = Site::new()?;
    let config = site.path("agent.toml").display().to_string();
    let pins = site.bpffs().join("callgate");
    let uninstall = |more: &[&str]| site_callgate(&config, more);
    // Not while the agent lives.
    let alive = uninstall(&[])?;
    ensure!(alive.code() == 1 && alive.stderr.contains("stop it first"), "{alive:?}");
    ensure!(
        site.curl(&[&site.api_url("/v1/users/1")])?.stdout.ends_with("\n200"),
        "enforcement went with a refused uninstall"
    );
    site.stop_agent()?;
    ensure!(site.curl(&[&site.api_url("/v1/users/1")])?.code() == 7, "enforcement ended with the agent");
    let dry = uninstall(&["--dry-run"])?;
    ensure!(dry.code() == 0 && dry.stdout.contains("would remove") && pins.is_dir(), "{dry:?}");
    let done = uninstall(&[])?;
    ensure!(done.code() == 0, "{done:?}");
    ensure!(!pins.exists(), "pins are left");
    ensure!(!site.path("run").exists(), "the runtime directory is left");
    ensure!(site.path("state/spool/agent").is_dir(), "records went without `--purge`");
    // Nothing stands between the workload and the world: a destination that no policy permits answers.
    let url = site.plain_url("/v2/anything");
    let open = site.curl(&[&url])?;
    ensure!(open.stdout.ends_with("\n200") || open.stdout.ends_with("\n404"), "{open:?}");
    // A later agent starts afresh, and enrols nothing by itself.
    site.start_agent()?;
    let workloads = site.callgate(&["workloads"])?.ok()?;
    ensure!(workloads.stdout.contains("nothing is enrolled"), "{}", workloads.stdout);
    site.stop_agent()?;
    let purged = uninstall(&["--purge"])?;
    ensure!(purged.code() == 0 && !site.path("state").exists(), "{purged:?}");
    Ok(())
}

fn site_callgate(config: &str, more: &[&str]) -> Result<callgate_harness::Finished> {
    let mut command = std::process::Command::new(program("callgate")?);
    command.args(["uninstall", "--config", config]).args(more);
    callgate_harness::run(command, Duration::from_secs(30))
}
