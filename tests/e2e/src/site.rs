//! A whole installation for one test: collector, agent, an upstream in a network namespace of its own, an enrolled cgroup.
//!
//! Everything lies in a temporary directory, a cgroup of the test's own and a bpffs of the test's own,
//! and goes when the site is dropped, whatever state the test left it in.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_harness::{
    Finished, NameServer, Netns, Place, Running, TempBpffs, TestCa, TestCgroup, Upstream, UpstreamConfig, Veth,
    eventually, program, run,
};

/// Host of the TLS upstream.
pub const API: &str = "api.callgate.test";
/// Host of the plain-text upstream.
pub const PLAIN: &str = "plain.callgate.test";

/// Policies of every site.
pub const POLICIES: &str = r#"
@id("read-users")
@mask("pii")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.callgate.test")
when { resource.method == "GET" && resource.path like "/v1/users/*" };

@id("git-fetch")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.callgate.test")
when {
  resource.path == "/v1/health" ||
  (resource.method == "GET" && resource.path like "/git/*/info/refs") ||
  (resource.method == "POST" && resource.path like "/git/*/git-upload-pack")
};

@id("grpc")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.callgate.test")
when { resource.method == "POST" && ["/test.v1.Echo/Say", "/test.v1.Echo/Hidden"].contains(resource.path) };

@id("grpc-hidden")
@mask("pii")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.callgate.test")
when { resource.path == "/test.v1.Echo/Hidden" };

@id("large")
@mask("pii")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.callgate.test")
when { resource.path like "/bytes/*" || resource.path like "/stream/*" || resource.path == "/v1/files" };

@id("plain-users")
@mask("pii")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"plain.callgate.test")
when { resource.path like "/v1/users/*" };

@id("plain")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"plain.callgate.test");

@id("no-deletes")
forbid (principal, action == Callgate::Action::"call", resource)
when { resource.method == "DELETE" };
"#;

const START: Duration = Duration::from_secs(20);

/// Longest wait for records. Source: 250,000 of them take 20 s to be stored and read beside other work.
const RECORDS: Duration = Duration::from_secs(60);

/// One installation. Fields are dropped in this order: processes first, the cgroup and the file systems last.
pub struct Site {
    agent: Option<Running>,
    collector: Option<Running>,
    /// The upstream behind TLS.
    pub api: Upstream,
    /// The upstream in plain text.
    pub plain: Upstream,
    /// What the agent asks for names.
    pub names: NameServer,
    /// The upstreams' certificate authority.
    pub ca: TestCa,
    /// The enrolled cgroup's directory.
    pub enrolled: PathBuf,
    /// Where upstreams live, seen from the host.
    pub address: IpAddr,
    /// The cgroup below which everything lies.
    pub root: TestCgroup,
    bpffs: TempBpffs,
    directory: tempfile::TempDir,
    /// The link to the upstreams: `a` is here, `b` there.
    pub veth: Veth,
    /// The namespace of the upstreams.
    pub netns: Netns,
}

impl Site {
    /// Everything but the agent: for `callgate run`.
    pub fn without_agent() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("callgate-site-").tempdir()?;
        let netns = Netns::new("up")?;
        let veth = Veth::to_host(&netns)?;
        let address = IpAddr::V4(veth.b);
        let ca = TestCa::new()?;
        let git = Some(directory.path().join("git"));
        let at =
            |tls| UpstreamConfig { tls, git: git.clone(), netns: Some(netns.path()), ..UpstreamConfig::at(address) };
        let api = Upstream::start(at(Some(ca.server(&[API])?)))?;
        let plain = Upstream::start(at(None))?;
        let root = TestCgroup::new("site")?;
        let enrolled = root.child("enrolled")?;
        let site = Self {
            agent: None,
            collector: None,
            api,
            plain,
            names: NameServer::start()?,
            ca,
            enrolled,
            address,
            root,
            bpffs: TempBpffs::mount()?,
            directory,
            veth,
            netns,
        };
        std::fs::create_dir(site.path("policies"))?;
        site.write("policies/site.cedar", POLICIES)?;
        site.write("upstream.pem", site.ca.pem())?;
        site.write("agent.toml", &site.agent_config(&site.collector_endpoint()))?;
        site.write("run.toml", &site.agent_config(""))?;
        // The workload's user must reach the trust bundle.
        rustix::fs::chmod(site.directory.path(), rustix::fs::Mode::from_raw_mode(0o755))?;
        Ok(site)
    }

    /// Everything, with the cgroup enrolled.
    pub fn new() -> Result<Self> {
        let mut site = Self::without_agent()?;
        site.start("site")?;
        Ok(site)
    }

    /// Everything, with the cgroup enrolled as `workload`, under the policies of `directory` instead of [`POLICIES`].
    pub fn with_policies(directory: &Path, workload: &str) -> Result<Self> {
        let mut site = Self::without_agent()?;
        std::fs::remove_file(site.path("policies/site.cedar"))?;
        let mut copied = 0;
        for entry in std::fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "cedar") {
                let name = file.file_name().context("a file has a name")?;
                std::fs::copy(&file, site.path("policies").join(name))?;
                copied += 1;
            }
        }
        ensure!(copied > 0, "no policy in {}", directory.display());
        site.start(workload)?;
        Ok(site)
    }

    fn start(&mut self, workload: &str) -> Result<()> {
        self.start_collector()?;
        self.start_agent()?;
        let enrolled = self.enrolled.display().to_string();
        self.callgate(&["enroll", &enrolled, "--name", workload])?.ok()?;
        Ok(())
    }

    fn agent_config(&self, collector: &str) -> String {
        let d = self.directory.path().display();
        let collector = if collector.is_empty() { String::new() } else { format!("collector = \"{collector}\"\n") };
        format!(
            "policy_dir = \"{d}/policies\"\nstate_dir = \"{d}/state\"\nruntime_dir = \"{d}/run\"\n\
             bpffs = \"{}\"\ncgroup_root = \"{}\"\nnode = \"e2e\"\n{collector}\
             metrics_listen = \"127.0.0.1:0\"\nupstream_ca = [\"{d}/upstream.pem\"]\n\
             stale_after_ms = 1000\nlog_level = \"debug\"\ndrain_timeout_s = 5\n\n\
             [dns]\nupstreams = [\"{}\"]\n\n\
             [[service]]\nname = \"{PLAIN}\"\naddresses = [\"{}\"]\n",
            self.bpffs.path().display(),
            self.root.path().display(),
            self.names.address(),
            self.address,
        )
    }

    fn collector_endpoint(&self) -> String {
        format!("unix:{}", self.path("collector.sock").display())
    }

    /// Starts the collector.
    pub fn start_collector(&mut self) -> Result<()> {
        let d = self.directory.path().display().to_string();
        let (listen, bpffs) = (self.collector_endpoint(), self.bpffs.path().display());
        let text = format!("listen = [\"{listen}\"]\nstore_dir = \"{d}/store\"\nbpffs = \"{bpffs}\"\n");
        self.write("collector.toml", &text)?;
        let mut command = Command::new(program("callgate-collector")?);
        command.arg("--config").arg(self.path("collector.toml"));
        self.collector = Some(Running::start(command)?);
        let socket = self.path("collector.sock");
        eventually("the collector's socket", START, || socket.exists().then_some(()))
    }

    /// Starts the agent and waits until it serves.
    pub fn start_agent(&mut self) -> Result<()> {
        let agent = self.spawned_agent(&[])?;
        self.agent = Some(self.ready_agent(agent)?);
        Ok(())
    }

    /// Replaces the agent by another one that takes over from it.
    pub fn upgrade_agent(&mut self) -> Result<()> {
        let successor = self.begin_upgrade()?;
        self.end_upgrade(successor)
    }

    /// Starts an agent that takes over from the running one, and leaves it to it.
    pub fn begin_upgrade(&self) -> Result<Running> {
        self.spawned_agent(&["--take-over"])
    }

    /// Starts an agent that takes over, with further options, waits until it serves, and gives the one before it.
    pub fn upgrade_agent_with(&mut self, more: &[&str]) -> Result<Running> {
        let successor = self.spawned_agent(&[&["--take-over"], more].concat())?;
        let successor = self.ready_agent(successor)?;
        self.agent.replace(successor).context("no agent runs")
    }

    /// Waits until `successor` serves and the agent before it is gone.
    pub fn end_upgrade(&mut self, successor: Running) -> Result<()> {
        let successor = self.ready_agent(successor)?;
        let mut before = self.agent.replace(successor).context("no agent runs")?;
        let status = before.wait(Duration::from_secs(20))?;
        ensure!(status.success(), "the agent before ended with {status}: {}", before.stderr());
        Ok(())
    }

    fn spawned_agent(&self, more: &[&str]) -> Result<Running> {
        let mut command = Command::new(program("callgate-agent")?);
        command.arg("--config").arg(self.path("agent.toml")).args(more);
        Running::start(command)
    }

    fn ready_agent(&self, mut agent: Running) -> Result<Running> {
        let ready = agent.error_line(START, |line| line.contains("\"ready\"") || line.contains("ready control"));
        if let Err(error) = ready {
            let running = agent.is_running();
            return Err(error.context(format!("agent (running: {running}): {}", agent.stderr())));
        }
        // The agent says that it is ready just before it listens for control commands.
        let socket = self.path("run/agent.sock");
        eventually("the agent's socket", START, || socket.exists().then_some(()))?;
        Ok(agent)
    }

    /// The agent.
    pub fn agent(&mut self) -> Result<&mut Running> {
        self.agent.as_mut().context("no agent runs")
    }

    /// What the agent said so far.
    pub fn agent_log(&self) -> String {
        self.agent.as_ref().map(Running::stderr).unwrap_or_default()
    }

    /// Ends the agent in order.
    pub fn stop_agent(&mut self) -> Result<()> {
        let mut agent = self.agent.take().context("no agent runs")?;
        agent.signal(rustix::process::Signal::TERM)?;
        let status = agent.wait(Duration::from_secs(20))?;
        ensure!(status.success(), "agent ended with {status}: {}", agent.stderr());
        Ok(())
    }

    /// Kills the agent.
    pub fn kill_agent(&mut self) -> Result<()> {
        self.agent.take().context("no agent runs")?.kill()?;
        Ok(())
    }

    /// The site's bpffs.
    pub fn bpffs(&self) -> &Path {
        self.bpffs.path()
    }

    /// Adds lines to the agent's configuration.
    pub fn configure(&self, more: &str) -> Result<()> {
        let text = std::fs::read_to_string(self.path("agent.toml"))?;
        self.write("agent.toml", &format!("{text}{more}"))
    }

    /// A path in the site's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file in the site's directory.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let mut file = std::fs::File::create(self.path(name))?;
        Ok(file.write_all(text.as_bytes())?)
    }

    /// Runs `callgate` with these arguments; control commands find the agent by themselves.
    pub fn callgate(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = Command::new(program("callgate")?);
        command.args(arguments);
        match arguments.first() {
            Some(&"enroll" | &"unenroll" | &"workloads" | &"status") => {
                command.arg("--socket").arg(self.path("run/agent.sock"));
            }
            Some(&"audit" | &"session" | &"discover") => {
                command.arg("--store").arg(self.store());
            }
            Some(&"policy") if arguments.get(1) == Some(&"suggest") => {
                command.arg("--store").arg(self.store());
            }
            _ => {}
        }
        match arguments.first() {
            Some(&"status") => {
                command.arg("--state-dir").arg(self.path("state"));
            }
            Some(&"unenroll") => {
                command.arg("--config").arg(self.path("agent.toml"));
            }
            _ => {}
        }
        run(command, RECORDS)
    }

    fn store(&self) -> PathBuf {
        // `run` keeps its store with its state; the daemon's collector has one of its own.
        let own = self.path("store");
        if own.exists() { own } else { self.path("state/store") }
    }

    /// `callgate run` with this site's configuration.
    pub fn run(&self, arguments: &[&str], command: &[&str]) -> Result<Command> {
        let mut run = Command::new(program("callgate")?);
        run.arg("run").arg("--config").arg(self.path("run.toml")).arg("--policy").arg(self.path("policies"));
        run.args(arguments).arg("--").args(command);
        Ok(run)
    }

    /// A command in the enrolled cgroup that trusts the agent's CA.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Place::here().cgroup_path(&self.enrolled).command(program);
        let ca = self.path("run/ca.pem");
        for name in ["CURL_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
            command.env(name, &ca);
        }
        command
    }

    /// `curl` inside, resolving the upstreams' names; prints the body and then the status.
    pub fn curl(&self, arguments: &[&str]) -> Result<Finished> {
        let mut curl = self.inside("curl");
        curl.args(self.curl_arguments());
        curl.args(arguments);
        run(curl, Duration::from_secs(30))
    }

    /// The same, as a user who cannot write the policies: files that a workload can write are never reloaded.
    pub fn curl_as_nobody(&self, arguments: &[&str]) -> Result<Finished> {
        let mut curl = self.inside("setpriv");
        curl.args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl"]).args(self.curl_arguments());
        curl.args(arguments);
        run(curl, Duration::from_secs(30))
    }

    /// What `curl` needs to find the upstreams.
    pub fn curl_arguments(&self) -> Vec<String> {
        let resolve = |host: &str, address: SocketAddr| format!("{host}:{}:{}", address.port(), address.ip());
        vec![
            "--silent".into(),
            "--show-error".into(),
            "--max-time".into(),
            "20".into(),
            "--write-out".into(),
            "\n%{http_code}".into(),
            "--resolve".into(),
            resolve(API, self.api.address()),
            "--resolve".into(),
            resolve(PLAIN, self.plain.address()),
        ]
    }

    /// URL of the TLS upstream.
    pub fn api_url(&self, path: &str) -> String {
        format!("https://{API}:{}{path}", self.api.address().port())
    }

    /// URL of the plain-text upstream.
    pub fn plain_url(&self, path: &str) -> String {
        format!("http://{PLAIN}:{}{path}", self.plain.address().port())
    }

    /// Records of `kind` (empty: of every kind) that `audit search` finds, as JSON, once `enough` says so.
    pub fn records(
        &self,
        kind: &str,
        what: &str,
        enough: impl Fn(&[serde_json::Value]) -> bool,
    ) -> Result<Vec<serde_json::Value>> {
        let mut last = String::new();
        let found = eventually(what, RECORDS, || {
            // Into a file: it may be a hundred megabytes.
            let output = self.path("records.json");
            let mut search = Command::new(program("callgate").ok()?);
            search.args(["audit", "search", "--json", "--limit", "1000000", "--store"]).arg(self.store());
            search.stdout(std::fs::File::create(&output).ok()?).status().ok()?;
            let text = std::fs::read_to_string(&output).ok()?;
            last = text.chars().take(4000).collect();
            let records: Vec<serde_json::Value> =
                text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let of_kind = |record: &serde_json::Value| kind.is_empty() || record["kind"] == kind;
            let records: Vec<serde_json::Value> = records.into_iter().filter(of_kind).collect();
            enough(&records).then_some(records)
        });
        found.with_context(|| format!("last seen: {last}"))
    }
}
