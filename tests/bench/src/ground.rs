//! What the calls are made on: an installation, a relay beside it, and upstreams that cost little.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Site, site};
use callgate_harness::{LoadReport, Place, Running, TempBpffs, Upstream, UpstreamConfig, load::Protocol, program, run};

use crate::measure::Extent;
use crate::relay;
use crate::rows::{Row, Way};

/// What the gate judges by: everything is masked but gRPC, whose messages cannot be.
const POLICIES: &str = r#"
@id("bench")
@mask("pii,secrets")
permit (principal == Callgate::Workload::"cgroup/bench", action == Callgate::Action::"call", resource in Callgate::Service::"api.callgate.test")
when { resource.method == "GET" && (resource.path == "/v1/kib" || resource.path like "/bytes/*") };

@id("bench-plain")
@mask("pii,secrets")
permit (principal == Callgate::Workload::"cgroup/bench", action == Callgate::Action::"call", resource in Callgate::Service::"plain.callgate.test")
when { resource.method == "GET" && resource.path == "/v1/kib" };

@id("bench-grpc")
permit (principal == Callgate::Workload::"cgroup/bench", action == Callgate::Action::"call", resource in Callgate::Service::"api.callgate.test")
when { resource.protocol == "grpc" && resource.rpc_service == "bench.Echo" };

@id("no-deletes")
forbid (principal, action == Callgate::Action::"call", resource)
when { resource.method == "DELETE" };
"#;

/// Message of a gRPC call. Unit: bytes. Source: a small unary request; the answer is the same.
const MESSAGE: usize = 128;

/// Longest time of one round.
const PATIENCE: Duration = Duration::from_secs(300);

/// Everything that is needed to make calls. Fields are dropped in this order.
pub struct Ground {
    relay: Running,
    relayed: PathBuf,
    secure: Upstream,
    plain: Upstream,
    agent: u32,
    site: Site,
    _bpffs: TempBpffs,
}

impl Ground {
    /// An installation with everything on; with a collector that drains the spool, or none that answers.
    pub fn new(draining: bool) -> Result<Ground> {
        let mut site = Site::without_agent()?;
        site.write("policies/site.cedar", POLICIES)?;
        // As in production, but for the spool: it must hold what no collector takes.
        let config = std::fs::read_to_string(site.path("agent.toml"))?;
        let config = config
            .replace("log_level = \"debug\"", "log_level = \"info\"")
            .replace("stale_after_ms = 1000\n", "spool_max_mib = 8192\n");
        ensure!(
            config.contains("spool_max_mib") && config.contains("\"info\""),
            "the site's configuration has changed"
        );
        site.write("agent.toml", &config)?;
        if draining {
            site.start_collector()?;
        }
        site.start_agent()?;
        let enrolled = site.enrolled.display().to_string();
        site.callgate(&["enroll", &enrolled, "--name", "bench"])?.ok()?;
        let bare = |tls| UpstreamConfig {
            tls,
            bare: true,
            netns: Some(site.netns.path()),
            ..UpstreamConfig::at(site.address)
        };
        let secure = Upstream::start(bare(Some(site.ca.server(&[site::API])?)))?;
        let plain = Upstream::start(bare(None))?;
        let bpffs = TempBpffs::mount()?;
        let relayed = site.root.child("relayed")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run-relay").arg("--bpffs").arg(bpffs.path()).arg("--cgroup").arg(&relayed);
        let relay = Running::start(command)?;
        relay.line(Duration::from_secs(20), |line| line == relay::READY)?;
        let agent = site.agent()?.pid();
        let ground = Ground { relay, relayed, secure, plain, agent, site, _bpffs: bpffs };
        ground.masks()?;
        Ok(ground)
    }

    /// The process between caller and upstream.
    pub fn between(&self, way: Way) -> Option<u32> {
        match way {
            Way::Direct => None,
            Way::Relay => Some(self.relay.pid()),
            Way::Gate => Some(self.agent),
        }
    }

    /// One round of `row` on `way`; `before_start` runs when the connections are open and nothing was called yet.
    pub fn load(
        &self,
        row: &Row,
        way: Way,
        extent: &Extent,
        before_start: impl FnOnce() -> Result<()>,
    ) -> Result<LoadReport> {
        let (place, trusted) = match way {
            Way::Direct => (Place::here(), "upstream.pem"),
            Way::Relay => (Place::here().cgroup_path(&self.relayed), "upstream.pem"),
            Way::Gate => (Place::here().cgroup_path(&self.site.enrolled), "run/ca.pem"),
        };
        let (scheme, host, upstream) =
            if row.tls { ("https", site::API, &self.secure) } else { ("http", site::PLAIN, &self.plain) };
        let address = upstream.address();
        let mut command = place.command(program("callgate-testkit")?);
        command.arg("load").arg(format!("{scheme}://{host}:{}{}", address.port(), row.path));
        command.args(["--connect-to", &address.to_string(), "--timeout", "60"]);
        command.arg("--ca").arg(self.site.path(trusted));
        command.args(["--connections", &row.connections.to_string(), "--streams", &row.streams.to_string()]);
        let protocol = match row.protocol {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
            Protocol::Grpc => "grpc",
        };
        command.args(["--protocol", protocol]);
        if row.protocol == Protocol::Grpc {
            command.args(["--body", &MESSAGE.to_string()]);
        }
        match row.calls {
            Some(calls) => command.args(["--calls", &(calls / extent.share).max(1).to_string()]),
            None => {
                command.args(["--calls", &u64::MAX.to_string(), "--seconds", &extent.time.as_secs_f64().to_string()])
            }
        };
        if let Some(rate) = row.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if row.fresh {
            command.arg("--fresh");
        }
        command.arg("--hold");
        let mut load = Running::start(command)?;
        load.line(PATIENCE, |line| line.contains("\"open\""))?;
        before_start()?;
        load.write("\n")?;
        let line = load.line(PATIENCE, |line| line.contains("\"calls\""))?;
        let mut report: LoadReport = serde_json::from_str(&line).context("the load generator's report")?;
        let latencies = std::mem::take(&mut report.latencies);
        ensure!(report.calls > 0 && report.status(200) == report.calls, "{} {way:?}: {report:?}", row.name);
        Ok(LoadReport { latencies, ..report })
    }

    /// A gate that lets the sample's e-mail address pass would be measured without its masker.
    fn masks(&self) -> Result<()> {
        let mut curl = self.site.inside("curl");
        let address = self.secure.address();
        curl.args(["--silent", "--show-error", "--max-time", "20", "--resolve"]);
        curl.arg(format!("{}:{}:{}", site::API, address.port(), address.ip()));
        curl.arg(format!("https://{}:{}/v1/kib", site::API, address.port()));
        let answer = run(curl, PATIENCE)?.ok()?.stdout;
        ensure!(answer.contains("\"items\""), "no answer through the gate: {answer}");
        ensure!(!answer.contains(&callgate_harness::samples::email(7)), "the gate does not mask: {answer}");
        Ok(())
    }
}
