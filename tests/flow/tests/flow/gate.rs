//! A gate on plain sockets: the data path whole and real, with a ground that knows where every connection goes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use callgate_audit::{Recorder, SpoolConfig};
use callgate_dns::{Resolver, Settings, Upstreams};
use callgate_enroll::Roster;
use callgate_harness::TestCa;
use callgate_identity::callers::{IssuerConfig, Issuers};
use callgate_identity::{Attestor, Authority, upstream_config};
use callgate_mask::{PseudonymKey, kinds_named};
use callgate_model::{
    CgroupId, Executed, FailMode, Mode, Monotonic, NetnsCookie, Origin, Record, RecordKind, SessionId, StreamId,
    Workload,
};
use callgate_policy::PolicySet;
use callgate_proto::decode_record;
use callgate_proxy::{
    DeclaredServices, Dns, Gate, Ground, Limits, Listener, Masks, Metrics, Names, OwnPorts, Tallies, Traces, Unopened,
    UpstreamTls, Workers,
};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The cgroup of `run/flow`, which connections come from unless told otherwise.
pub const CGROUP: CgroupId = CgroupId(7);
const NETNS: NetnsCookie = NetnsCookie(1);

/// What the kernel would have noted of this process.
fn executed_here() -> Executed {
    let file = std::fs::metadata("/proc/self/exe").expect("an executable");
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a process");
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = after_name.split(' ').nth(19).and_then(|field| field.parse().ok()).expect("field 22");
    Executed { start: Duration::from_millis(ticks * 10), device: file.dev(), inode: file.ino() }
}

/// Every connection goes to one place, and comes from one workload at a time.
struct OneWay {
    destination: SocketAddr,
    enrolled: Arc<AtomicU64>,
}

impl Ground for OneWay {
    fn asker(&self, _netns: NetnsCookie, _peer: SocketAddr) -> Option<Origin> {
        None
    }

    fn origin(&self, netns: NetnsCookie, _peer: SocketAddr) -> Option<Origin> {
        let mut now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec += 1;
        Some(Origin {
            destination: self.destination,
            enrolled: CgroupId(self.enrolled.load(Ordering::SeqCst)),
            cgroup: CGROUP,
            netns,
            pid: std::process::id(),
            uid: 0,
            gid: 0,
            connected_at: Monotonic(Duration::new(now.tv_sec as u64, now.tv_nsec as u32)),
            executed: Some(executed_here()),
        })
    }

    fn socket(&self, _netns: NetnsCookie, v6: bool) -> io::Result<socket2::Socket> {
        let domain = if v6 { socket2::Domain::IPV6 } else { socket2::Domain::IPV4 };
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

fn workload(cgroup: CgroupId, id: &str, mode: Mode) -> Workload {
    Workload {
        id: id.into(),
        cgroup,
        cgroup_path: "flow".into(),
        mode,
        fail: FailMode::Closed,
        session: Some(SessionId::new()),
        weakened: Vec::new(),
    }
}

/// How a gate is to be.
pub struct GateConfig<'a> {
    /// Text of its policies.
    pub policies: &'a str,
    /// Where every connection goes.
    pub destination: SocketAddr,
    /// Names declared to live there.
    pub names: &'a [&'a str],
    /// CA of the upstream.
    pub upstream_ca: Option<&'a TestCa>,
    /// Whether verdicts are enforced.
    pub mode: Mode,
    /// Who vouches for callers.
    pub issuers: &'a [IssuerConfig],
    /// For how long TLS stays unopened once a client refused our certificate, in observe mode.
    pub unopened_for: Duration,
    /// Makes spans of calls.
    pub traces: Option<Traces>,
}

impl<'a> GateConfig<'a> {
    /// Enforces `policies` on the way to `destination`.
    pub fn new(policies: &'a str, destination: SocketAddr) -> Self {
        Self {
            policies,
            destination,
            names: &[],
            upstream_ca: None,
            mode: Mode::Enforce,
            issuers: &[],
            unopened_for: Unopened::HOLDS_FOR,
            traces: None,
        }
    }
}

/// A running gate; on drop it stops.
pub struct FlowGate {
    /// Where clients connect to.
    pub address: SocketAddr,
    /// What clients must trust.
    pub ca_pem: String,
    recorder: Recorder,
    gate: Arc<Gate>,
    registry: Registry,
    enrolled: Arc<AtomicU64>,
    stopping: CancellationToken,
    runtime: Option<tokio::runtime::Runtime>,
    _spool: tempfile::TempDir,
}

impl FlowGate {
    /// Starts one.
    pub fn start(config: &GateConfig<'_>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let entered = runtime.enter();
        let spool = tempfile::tempdir()?;
        let (recorder, _) =
            Recorder::open(SpoolConfig::new(spool.path().join("spool"), StreamId("flow/agent".into())))?;
        let files = [("flow.cedar".to_owned(), config.policies.to_owned())];
        let (policies, _) = PolicySet::parse(&files, kinds_named).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let roots: Vec<PathBuf> = match config.upstream_ca {
            Some(ca) => {
                let path = spool.path().join("upstream.pem");
                std::fs::write(&path, ca.pem())?;
                vec![path]
            }
            None => Vec::new(),
        };
        let authority = Arc::new(Authority::new("Callgate flow")?);
        let ca_pem = authority.ca_pem();
        let stopping = CancellationToken::new();
        let roster = Roster::new();
        roster.insert(workload(CGROUP, "run/flow", config.mode));
        let address: IpAddr = config.destination.ip();
        let declared = config.names.iter().map(|name| ((*name).to_owned(), vec![address]));
        let mut registry = Registry::default();
        let enrolled = Arc::new(AtomicU64::new(CGROUP.0));
        let gate = Arc::new(Gate {
            ground: Arc::new(OneWay { destination: config.destination, enrolled: Arc::clone(&enrolled) }),
            roster: Arc::new(roster),
            policies: Arc::new(ArcSwap::from_pointee(policies)),
            authority,
            upstream_tls: UpstreamTls::new(&*upstream_config(&roots, &[])?),
            masks: Masks::new(Arc::default(), Some(PseudonymKey::new(&[7; 32]))),
            issuers: Arc::new(Issuers::new(config.issuers)?),
            pods: None,
            attestor: Arc::new(Attestor::new()),
            recorder: recorder.clone(),
            names: Names::new(DeclaredServices::new(declared), None),
            dns: Dns::new(
                Resolver::new(Settings { upstreams: Upstreams::Fixed(Vec::new()), ..Settings::default() })?,
                50,
            ),
            own_ports: OwnPorts::default(),
            metrics: Metrics::register(&mut registry),
            traces: config.traces.clone(),
            tallies: Tallies::default(),
            unopened: Unopened::new(config.unopened_for),
            workers: Workers::start()?,
            limits: Limits::default(),
            held_back: Arc::new(Semaphore::new(Limits::HELD_BACK_KIB)),
            connections: Arc::new(Semaphore::new(1000)),
            stopping: stopping.clone(),
        });
        let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = socket.local_addr()?;
        tokio::spawn(Listener::new(socket, NETNS)?.serve(Arc::clone(&gate)));
        drop(entered);
        let runtime = Some(runtime);
        Ok(Self { address, ca_pem, recorder, gate, registry, enrolled, stopping, runtime, _spool: spool })
    }

    /// Enrols `cgroup` as `id`, or changes its mode. Connections come from it from here on.
    pub fn comes_from(&self, cgroup: CgroupId, id: &str, mode: Mode) {
        self.gate.roster.insert(workload(cgroup, id, mode));
        self.enrolled.store(cgroup.0, Ordering::SeqCst);
    }

    /// What a scraper would read.
    pub fn metrics(&self) -> Result<String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Every record so far, once `enough` says so of them.
    pub fn records(&self, what: &str, enough: impl Fn(&[Record]) -> bool) -> Result<Vec<Record>> {
        callgate_harness::eventually(what, std::time::Duration::from_secs(10), || {
            let records = self.all_records().ok()?;
            enough(&records).then_some(records)
        })
    }

    fn all_records(&self) -> Result<Vec<Record>> {
        self.recorder.sync()?;
        let mut reader = self.recorder.reader(1);
        let mut records = Vec::new();
        loop {
            let batch = reader.next_batch(1000)?;
            if batch.is_empty() {
                return Ok(records);
            }
            for sealed in batch {
                records.push(decode_record(&sealed.body).context("a record does not decode")?);
            }
        }
    }
}

impl Drop for FlowGate {
    fn drop(&mut self) {
        self.stopping.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// How many records of a kind there are.
pub fn ends(records: &[Record]) -> usize {
    records.iter().filter(|record| matches!(record.kind, RecordKind::End(_))).count()
}
