//! The agent: puts every part together, and takes them apart again in the right order.
//!
//! Wiring only. Started by `callgate-agent` for a host, and in process by `callgate run` for one command.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use callgate_audit::{Recorder, Recovery, SpoolConfig};
use callgate_enroll::{Enrolment, Owner, Roster, cgroup};
use callgate_identity::{Attestor, Authority, upstream_config};
use callgate_model::{
    AgentRecord, AgentState, CgroupId, EnrolmentChange, EnrolmentRecord, FailMode, Mode, RecordKind, StreamId, Workload,
};
use callgate_proto::v1::{SpoolStatus, StatusReply, UplinkStatus};
use callgate_proxy::{DeclaredServices, Gate, Limits, Listener, Metrics, Names, OwnPorts, Tallies, Tally, UpstreamTls};
use callgate_redirect::{NetnsRef, Redirect};
use callgate_uplink::{Endpoint, Uplink};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::ground::KernelGround;
use crate::heartbeat::{self, Pulses};
use crate::policy_source::Policies;
use crate::{kernel_events, observe};

/// Most records of one start that are kept in memory for alarms. Older ones are in the audit trail.
const ALARMS_MAX: usize = 16;

/// How often the users of workloads are looked up, so that files which they can write are not reloaded.
const UIDS_LOOK: Duration = Duration::from_secs(1);

/// What an agent is started with.
pub struct Setup {
    /// Names pins, enrolments and the chain: `agent`, or `run-ID`.
    pub instance: String,
    /// The configuration.
    pub config: Config,
    /// The policies, loaded.
    pub policies: Policies,
    /// The CA.
    pub authority: Arc<Authority>,
    /// Ports beside the agent's own that no workload may reach: the collector's.
    pub own_ports: Vec<SocketAddr>,
    /// For an agent of one run: its trust files. Its enrolments end with this process, which a sweep can tell.
    pub run: Option<PathBuf>,
}

/// A running agent.
pub struct Agent {
    instance: String,
    config: Config,
    started: SystemTime,
    gate: Arc<Gate>,
    redirect: Arc<Redirect>,
    ground: Arc<KernelGround>,
    policies: Policies,
    run: Option<PathBuf>,
    pulses: Pulses,
    uplink: tokio::sync::Mutex<Option<Uplink>>,
    uplink_status: Option<tokio::sync::watch::Receiver<callgate_uplink::UplinkStatus>>,
    alarms: Arc<Mutex<Vec<String>>>,
    stopping: CancellationToken,
    metrics_address: Option<SocketAddr>,
}

impl Agent {
    /// Starts an agent: everything serves when this returns; what was enrolled before is enrolled again.
    ///
    /// # Errors
    /// Names the part that does not start, and what to do about it.
    pub async fn start(setup: Setup) -> Result<Arc<Self>> {
        let Setup { instance, config, policies, authority, mut own_ports, run } = setup;
        let mut registry = Registry::default();
        let stopping = CancellationToken::new();
        let stream = StreamId(format!("{}/{instance}", config.node_name()));
        let (recorder, recovery) = open_spool(&config, &instance, &stream)?;
        recorder.register(&mut registry);
        let redirect = Arc::new(load_redirect(&config, &instance)?);
        let metrics_listener = match config.metrics_listen {
            Some(address) => Some(observe::listen(address).await?),
            None => None,
        };
        let metrics_address = metrics_listener.as_ref().map(|(_, bound)| *bound);
        own_ports.extend(metrics_address);
        let endpoint = config.collector.as_deref().map(str::parse::<Endpoint>).transpose();
        let endpoint = endpoint.map_err(|error| anyhow::anyhow!("in the config: `collector`: {error}"))?;
        own_ports.extend(endpoint.as_ref().and_then(Endpoint::address));
        let ground = Arc::new(KernelGround::new(Arc::clone(&redirect)));
        let metrics = Metrics::register(&mut registry);
        let gate = Arc::new(Gate {
            ground: Arc::clone(&ground) as Arc<dyn callgate_proxy::Ground>,
            roster: Arc::new(Roster::new()),
            policies: policies.current(),
            authority,
            upstream_tls: UpstreamTls::new(&*upstream_config(&config.upstream_ca, &[])?),
            attestor: Arc::new(Attestor::new()),
            recorder: recorder.clone(),
            names: Names::new(DeclaredServices::new(
                config.service.iter().map(|service| (service.name.clone(), service.addresses.clone())),
            )),
            own_ports: OwnPorts::new(own_ports),
            metrics,
            tallies: Tallies::default(),
            limits: Limits {
                connections: config.connections_max,
                drain: Duration::from_secs(config.drain_timeout_s),
                ..Limits::default()
            },
            connections: Arc::new(Semaphore::new(config.connections_max)),
            stopping: stopping.clone(),
        });
        let uplink = endpoint.map(|endpoint| Uplink::start(recorder.clone(), endpoint, &mut registry));
        let agent = Arc::new(Self {
            instance,
            config,
            started: SystemTime::now(),
            gate,
            redirect,
            ground,
            policies,
            run,
            pulses: Pulses::default(),
            uplink_status: uplink.as_ref().map(Uplink::watch),
            uplink: tokio::sync::Mutex::new(uplink),
            alarms: Arc::default(),
            stopping,
            metrics_address,
        });
        agent.listen(&NetnsRef::current()?)?;
        agent.spawn_tasks(metrics_listener.map(|(listener, _)| listener), registry)?;
        agent.tell(AgentState::Started, &told(&recovery));
        agent.resume()?;
        Ok(agent)
    }

    /// Which cgroups are enrolled.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.gate.roster
    }

    /// Tells that workloads run under `uid` too: what it can write is not reloaded.
    pub fn expect_uid(&self, uid: u32) {
        self.policies.set_workload_uids([uid]);
    }

    /// Counts of one workload.
    #[must_use]
    pub fn tally(&self, cgroup: CgroupId) -> Arc<Tally> {
        self.gate.tallies.of(cgroup)
    }

    /// Where metrics are served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Enrols the cgroup at `path`, and listens in every network namespace that its processes are in.
    ///
    /// # Errors
    /// If there is no such cgroup, it lies outside of the configured root, or the kernel refuses.
    pub fn enrol_path(&self, path: &Path, name: Option<String>, mode: Mode) -> Result<Arc<Workload>> {
        let path = self.cgroup_path(path)?;
        let below = path.strip_prefix(cgroup::cgroup2_mount()?).unwrap_or(&path).to_owned();
        let label = name.unwrap_or_else(|| below.display().to_string());
        let workload = Workload {
            id: format!("cgroup/{label}"),
            cgroup: cgroup::id_of(&path)?,
            cgroup_path: below,
            mode,
            fail: FailMode::Closed,
            session: None,
            weakened: Vec::new(),
        };
        self.enrol(workload, EnrolmentChange::Enrolled)
    }

    /// Enrols `workload`: listeners first, then the roster, then the kernel.
    ///
    /// # Errors
    /// If the kernel refuses, or the enrolment cannot be kept on disk.
    pub fn enrol(&self, workload: Workload, change: EnrolmentChange) -> Result<Arc<Workload>> {
        let path = cgroup::cgroup2_mount()?.join(&workload.cgroup_path);
        for pid in cgroup::processes(&path).unwrap_or_default() {
            // A process may be gone by now; the others still need their listener.
            if let Ok(netns) = NetnsRef::of_pid(pid)
                && let Err(error) = self.listen(&netns)
            {
                warn!(pid, %error, "no listener in this process's network namespace: it will be refused");
            }
        }
        let workload = Arc::new(workload);
        let enrolment = self.enrolment(&workload, &path);
        enrolment.save(&self.config.state_dir)?;
        self.gate.roster.insert(Workload::clone(&workload));
        if let Err(error) = self.redirect.enrol(&path, workload.mode) {
            self.gate.roster.remove(workload.cgroup);
            enrolment.remove(&self.config.state_dir)?;
            return Err(error).with_context(|| format!("cannot enrol `{}`", path.display()));
        }
        self.record(enrolment_record(change, &workload));
        self.policies.set_workload_uids(workload_uids(&self.gate.roster)?);
        info!(workload = %workload.id, cgroup = %workload.cgroup, ?change, "enrolled");
        Ok(workload)
    }

    /// Ends the enrolment of the cgroup at `path`.
    ///
    /// # Errors
    /// If it is not enrolled, or the kernel's programs cannot be detached.
    pub fn unenrol_path(&self, path: &Path) -> Result<()> {
        let resolved = self.cgroup_path(path);
        let below =
            |w: &&Arc<Workload>| w.cgroup_path == path || resolved.as_ref().is_ok_and(|p| p.ends_with(&w.cgroup_path));
        let listed = self.gate.roster.list();
        let Some(workload) = listed.iter().find(below) else {
            bail!("`{}` is not enrolled: `callgate workloads` lists what is", path.display());
        };
        self.unenrol(workload)
    }

    /// Ends an enrolment.
    ///
    /// # Errors
    /// If the kernel's programs cannot be detached.
    pub fn unenrol(&self, workload: &Workload) -> Result<()> {
        self.redirect.unenrol(workload.cgroup)?;
        self.gate.roster.remove(workload.cgroup);
        self.gate.tallies.forget(workload.cgroup);
        let path = cgroup::cgroup2_mount()?.join(&workload.cgroup_path);
        self.enrolment(workload, &path).remove(&self.config.state_dir)?;
        self.record(enrolment_record(EnrolmentChange::Unenrolled, workload));
        info!(workload = %workload.id, "unenrolled");
        Ok(())
    }

    /// Stops serving: open calls end or are cut off, records are shipped. Enforcement stays as it is.
    pub async fn stop(&self) {
        self.stopping.cancel();
        let all = u32::try_from(self.config.connections_max).unwrap_or(u32::MAX);
        let drained = self.gate.connections.acquire_many(all);
        if tokio::time::timeout(Duration::from_secs(self.config.drain_timeout_s), drained).await.is_err() {
            warn!("connections were still open at the end of the drain time");
        }
        self.tell(AgentState::Stopped, "stopped in order");
        if let Err(error) = self.gate.recorder.sync() {
            error!(%error, "the last records could not be written to disk");
        }
        if let Some(uplink) = self.uplink.lock().await.take() {
            if !uplink.drain(Duration::from_secs(self.config.drain_timeout_s)).await {
                warn!("not every record was acknowledged: they stay in the spool");
            }
            uplink.stop().await;
        }
    }

    /// Ends every enrolment of this instance and removes its pins: for an agent whose workloads end with it.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    pub fn tear_down(&self) -> Result<()> {
        self.redirect.teardown().context("cannot remove the pins of this run")
    }

    /// Whether the collector has acknowledged every record.
    #[must_use]
    pub fn all_shipped(&self) -> bool {
        let status = self.gate.recorder.status();
        status.acked_seq == status.last_seq
    }

    /// Where this agent's spool is.
    #[must_use]
    pub fn spool_dir(&self) -> PathBuf {
        spool_dir(&self.config, &self.instance)
    }

    /// What keeps the agent from serving; empty when it serves.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let spool = self.gate.recorder.status();
        if let Some(failed) = &spool.failed {
            faults.push(format!("the audit spool failed, so calls are refused until a restart: {failed}"));
        }
        if spool.disk_full {
            faults.push("the disk of the audit spool is full, so calls are refused".to_owned());
        }
        faults
    }

    /// How the agent is.
    #[must_use]
    pub fn status(&self) -> StatusReply {
        let spool = self.gate.recorder.status();
        let policies = self.gate.policies.load();
        let faults = self.faults();
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner).clone();
        alarms.extend(faults.iter().cloned());
        let uplink = self.uplink_status.as_ref().map(|status| status.borrow().clone());
        StatusReply {
            version: env!("CARGO_PKG_VERSION").into(),
            instance: self.instance.clone(),
            pid: std::process::id(),
            started_us: self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as u64,
            ready: faults.is_empty(),
            alarms,
            workloads: self.gate.roster.list().len() as u64,
            connections: (self.config.connections_max - self.gate.connections.available_permits()) as u64,
            policy_set: policies.hash().to_owned(),
            policies: policies.len() as u64,
            spool: Some(SpoolStatus {
                stream: self.gate.recorder.stream().to_string(),
                last_seq: spool.last_seq,
                durable_seq: spool.durable_seq,
                acked_seq: spool.acked_seq,
                bytes: spool.bytes,
                max_bytes: spool.max_bytes,
            }),
            uplink: uplink.map(|status| UplinkStatus {
                endpoint: self.config.collector.clone().unwrap_or_default(),
                connected: status.connected,
                error: status.error.unwrap_or_default(),
            }),
        }
    }

    /// Opens listeners in `netns`, unless there are some.
    fn listen(&self, netns: &NetnsRef) -> Result<()> {
        if self.ground.knows(netns.cookie()?) {
            return Ok(());
        }
        let listeners = self.redirect.listen(netns)?;
        self.ground.add(listeners.netns, listeners.sockets);
        for socket in [listeners.v4, listeners.v6].into_iter().flatten() {
            let listener = Listener::new(socket, listeners.netns)?;
            self.pulses.watch(listener.pulse());
            tokio::spawn(listener.serve(Arc::clone(&self.gate)));
        }
        Ok(())
    }

    fn spawn_tasks(self: &Arc<Self>, metrics: Option<tokio::net::TcpListener>, registry: Registry) -> Result<()> {
        self.redirect.beat()?;
        let beat = heartbeat::beat(
            Arc::clone(&self.redirect),
            self.pulses.clone(),
            self.config.stale_after(),
            self.stopping.clone(),
        );
        tokio::spawn(beat);
        tokio::spawn(kernel_events::pump(self.redirect.events()?, Arc::clone(&self.gate)));
        if let Some(logs) = self.redirect.logs() {
            tokio::spawn(async move {
                if let Err(error) = logs.forward().await {
                    warn!(%error, "the kernel programs' log ended");
                }
            });
        }
        let agent = Arc::clone(self);
        tokio::spawn(async move { agent.watch_policies().await });
        if let Some(listener) = metrics {
            let agent = Arc::downgrade(self);
            let ready: observe::Readiness = Arc::new(move || {
                agent.upgrade().map_or_else(|| vec!["the agent is gone".into()], |agent| agent.faults())
            });
            tokio::spawn(observe::serve(listener, Arc::new(registry), ready, self.stopping.clone()));
        }
        Ok(())
    }

    /// Records changes of the policy set, and raises an alarm for those that were refused.
    async fn watch_policies(&self) {
        let mut look = tokio::time::interval(UIDS_LOOK);
        loop {
            let change = tokio::select! {
                () = self.stopping.cancelled() => return,
                _ = look.tick() => {
                    match workload_uids(&self.gate.roster) {
                        Ok(uids) => self.policies.set_workload_uids(uids),
                        Err(error) => warn!(%error, "the users of workloads cannot be told"),
                    }
                    continue;
                }
                change = self.policies.changed() => change,
            };
            let Some(change) = change else { return };
            if change.refused.is_empty() {
                info!(policy_set = %change.policy_set, policies = change.policies, "policies reloaded");
            } else {
                self.alarm(format!("policies were not reloaded: {}", change.refused));
            }
            self.record(RecordKind::Policy(change));
        }
    }

    /// Enrols again what was enrolled when the last agent of this instance ended.
    fn resume(&self) -> Result<()> {
        let mut kept: HashMap<CgroupId, Enrolment> = HashMap::new();
        for enrolment in Enrolment::all(&self.config.state_dir) {
            match enrolment {
                Ok(enrolment) if enrolment.instance == self.instance => {
                    kept.insert(enrolment.cgroup, enrolment);
                }
                Ok(_) => {}
                Err(error) => self.alarm(format!("an enrolment cannot be read: {error}")),
            }
        }
        let mount = cgroup::cgroup2_mount()?;
        for id in self.redirect.enrolled()? {
            // An id is not reused, but a directory's path may be: both must still belong together.
            match kept.remove(&id).filter(|e| cgroup::id_of(&e.cgroup_path).is_ok_and(|now| now == id)) {
                Some(enrolment) => {
                    self.enrol(workload_of(enrolment, &mount), EnrolmentChange::Resumed)?;
                }
                None => {
                    warn!(cgroup = %id, "pins of a cgroup that is gone or that no enrolment names: removed");
                    self.redirect.unenrol(id)?;
                }
            }
        }
        for (id, enrolment) in kept {
            warn!(cgroup = %id, "an enrolment without pins: forgotten");
            enrolment.remove(&self.config.state_dir)?;
        }
        Ok(())
    }

    fn enrolment(&self, workload: &Workload, path: &Path) -> Enrolment {
        Enrolment {
            instance: self.instance.clone(),
            owner: self.run.is_some().then(Owner::this_process),
            cgroup: workload.cgroup,
            cgroup_path: path.to_owned(),
            workload: workload.id.clone(),
            mode: workload.mode,
            weakened: workload.weakened.clone(),
            spool: self.run.is_some().then(|| self.spool_dir()),
            trust: self.run.clone(),
        }
    }

    fn cgroup_path(&self, path: &Path) -> Result<PathBuf> {
        let mount = cgroup::cgroup2_mount()?;
        let path =
            if path.starts_with(&mount) { path.to_owned() } else { mount.join(path.strip_prefix("/").unwrap_or(path)) };
        let path = path.canonicalize().with_context(|| format!("there is no cgroup `{}`", path.display()))?;
        let root = self.config.cgroup_root.clone().unwrap_or(mount);
        if path == root || !path.starts_with(&root) {
            bail!("`{}` does not lie below the enforcement root `{}`", path.display(), root.display());
        }
        Ok(path)
    }

    fn alarm(&self, text: String) {
        error!(alarm = %text);
        self.tell(AgentState::Alarm, &text);
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        if alarms.len() == ALARMS_MAX {
            alarms.remove(0);
        }
        alarms.push(text);
    }

    fn tell(&self, state: AgentState, detail: &str) {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.record(RecordKind::Agent(AgentRecord { state, version, detail: detail.to_owned() }));
    }

    fn record(&self, kind: RecordKind) {
        if let Err(error) = self.gate.recorder.write(kind) {
            error!(%error, "a record could not be written");
        }
    }
}

/// Where the spool of `instance` is.
#[must_use]
pub fn spool_dir(config: &Config, instance: &str) -> PathBuf {
    config.state_dir.join("spool").join(instance)
}

fn open_spool(config: &Config, instance: &str, stream: &StreamId) -> Result<(Recorder, Recovery)> {
    let dir = spool_dir(config, instance);
    let spool = SpoolConfig { max_bytes: config.spool_max_mib << 20, ..SpoolConfig::new(dir.clone(), stream.clone()) };
    Recorder::open(spool).with_context(|| format!("cannot open the audit spool `{}`", dir.display()))
}

fn load_redirect(config: &Config, instance: &str) -> Result<Redirect> {
    let config = callgate_redirect::Config {
        instance: instance.to_owned(),
        bpffs: config.bpffs.clone(),
        log_level: config.kernel_log_level.as_str().parse()?,
        stale_after: config.stale_after(),
        resolvers: config.resolvers()?,
    };
    Redirect::load(&config).context("cannot load the kernel programs: `callgate doctor` tells what is missing")
}

fn told(recovery: &Recovery) -> String {
    match recovery.interrupted.len() {
        0 => "started".to_owned(),
        n => format!("started; {n} calls that were open when the last agent ended are closed as interrupted"),
    }
}

fn workload_of(enrolment: Enrolment, mount: &Path) -> Workload {
    Workload {
        id: enrolment.workload,
        cgroup: enrolment.cgroup,
        cgroup_path: enrolment.cgroup_path.strip_prefix(mount).unwrap_or(&enrolment.cgroup_path).to_owned(),
        mode: enrolment.mode,
        fail: FailMode::Closed,
        session: None,
        weakened: enrolment.weakened,
    }
}

fn enrolment_record(change: EnrolmentChange, workload: &Workload) -> RecordKind {
    RecordKind::Enrolment(EnrolmentRecord {
        change,
        workload: workload.id.clone(),
        cgroup: workload.cgroup,
        cgroup_path: workload.cgroup_path.display().to_string(),
        weakened: workload.weakened.clone(),
    })
}

/// The uids of every process of every workload: files that one of them could write are never reloaded.
fn workload_uids(roster: &Roster) -> Result<Vec<u32>> {
    let mount = cgroup::cgroup2_mount()?;
    let mut uids = Vec::new();
    for workload in roster.list().iter() {
        for pid in cgroup::processes(&mount.join(&workload.cgroup_path)).unwrap_or_default() {
            uids.extend(callgate_identity::uid_of(pid));
        }
    }
    uids.sort_unstable();
    uids.dedup();
    Ok(uids)
}
