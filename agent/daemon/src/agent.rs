//! The agent: puts every part together, and takes them apart again in the right order.
//!
//! Wiring only. Started by `callgate-agent` for a host, and in process by `callgate run` for one command.
//! What it enrols is in [`enrolling`] and [`following`], where it listens in [`spaces`], what the warden does for it in
//! [`warding`], how it keeps the kernel programs in place in [`attesting`], what it says of capabilities in [`capable`],
//! how it says that it is well in [`health`] and [`status`], what that takes in [`ready`], how containers come to trust our
//! CA in [`trusting`], and how it ends in [`ending`].

mod attesting;
mod capable;
mod cluster;
mod ending;
mod enrolling;
mod following;
mod health;
mod past;
mod pseudonyms;
#[cfg(test)]
mod published;
mod ready;
mod spaces;
mod status;
mod trusting;
mod wanted;
mod warding;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use callgate_dns::Resolver;
use callgate_enroll::Roster;
use callgate_identity::callers::Issuers;
use callgate_identity::{Authority, upstream_config};
use callgate_model::{AgentState, CgroupId};
use callgate_proxy::{
    DeclaredServices, Dns, DnsListener, Gate, Limits, Listener, Masks, Metrics, Names, OwnPorts, Tallies, Tally,
    Unopened, UpstreamTls, Workers,
};
use callgate_redirect::{NetnsRef, Redirect};
use callgate_uplink::{ClientTls, Uplink};
use callgate_warden::Warden;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::alarms::Alarms;
use crate::config::Config;
use crate::ground::KernelGround;
use crate::handover::{Inheritance, Standing};
use crate::heartbeat::{self, Pulses};
use crate::policy_source::Policies;
use crate::spool::{self, Opened, spool_dir};
use crate::traces::Exporter;
use crate::{kernel_events, observe};
use attesting::LinksMissing;
use cluster::Joined;
use following::Found;
use past::WentPast;
use ready::InPlace;
use spaces::Spaces;
use trusting::Trusting;
pub use trusting::take_trust_back;
use wanted::Wanted;

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
    /// What the agent before has left, where this one takes over from it.
    pub inheritance: Option<Inheritance>,
    /// For an agent of one run: its trust files. Its enrolments end with this process, which a sweep can tell.
    pub run: Option<PathBuf>,
    /// Whether every workload is born with a seccomp filter that refuses sockets without a hook.
    pub has_seccomp: bool,
}

/// A running agent.
pub struct Agent {
    instance: String,
    config: Config,
    started: SystemTime,
    gate: Arc<Gate>,
    redirect: Arc<Redirect>,
    ground: Arc<KernelGround>,
    /// None: it could not be started, which is an alarm.
    warden: Option<Warden>,
    /// When the policy set in force was taken.
    policies_taken: Mutex<SystemTime>,
    policies: Policies,
    run: Option<PathBuf>,
    pulses: Pulses,
    uplink: tokio::sync::Mutex<Option<Uplink>>,
    uplink_status: Option<tokio::sync::watch::Receiver<callgate_uplink::UplinkStatus>>,
    collector_tls: Option<ClientTls>,
    exporter: Mutex<Option<Exporter>>,
    alarms: Alarms,
    links_missing: LinksMissing,
    in_place: InPlace,
    went_past: WentPast,
    wanted: Mutex<Wanted>,
    standing: Mutex<Vec<Standing>>,
    spaces: Mutex<Spaces>,
    /// Listeners that do not accept yet, and what ends them; none once they do.
    waiting: Mutex<Option<Vec<(Listener, CancellationToken)>>>,
    /// Sockets for DNS that are not read yet, and what ends them; none once they are.
    unread: Mutex<Option<Vec<(DnsListener, CancellationToken)>>>,
    handed_over: CancellationToken,
    /// Whether a successor is taking over; held while links are attested.
    handing_over: Mutex<bool>,
    /// Names the spool that is written.
    slot: String,
    found: Mutex<Found>,
    /// None: the configuration names no cluster.
    joined: Option<Joined>,
    trusting: Trusting,
    stopping: CancellationToken,
    metrics_address: Option<SocketAddr>,
    metrics_listener: Option<OwnedFd>,
}

impl Agent {
    /// Starts an agent: everything serves when this returns; what was enrolled before is enrolled again.
    ///
    /// # Errors
    /// Names the part that does not start, and what to do about it.
    pub async fn start(setup: Setup) -> Result<Arc<Self>> {
        let Setup { instance, config, policies, authority, mut own_ports, inheritance, run, has_seccomp } = setup;
        let mut registry = Registry::default();
        let stopping = CancellationToken::new();
        let (lock, standing, metrics, predecessor) = match inheritance.map(Inheritance::into_parts) {
            Some((lock, standing, metrics, predecessor)) => (Some(lock), standing, metrics, Some(predecessor)),
            None => (None, Vec::new(), None, None),
        };
        let Opened { slot, recorder, recovery } = spool::open(&config, &instance)?;
        recorder.register(&mut registry);
        let redirect = Arc::new(load_redirect(&config, &instance, lock)?);
        redirect.exempt_own().context("strict mode stands, and this agent cannot be exempted from it")?;
        let metrics_listener = observe::listen(config.metrics_listen, metrics).await?;
        let metrics_address = metrics_listener.as_ref().map(TcpListener::local_addr).transpose()?;
        own_ports.extend(metrics_address);
        let route = config.route().context("in the config")?;
        let others = route.clone();
        own_ports.extend(route.as_ref().and_then(|route| route.endpoint().address()));
        let collector_tls = route.as_ref().and_then(|route| route.tls().cloned());
        let ground = Arc::new(KernelGround::new(Arc::clone(&redirect)));
        let warden = warding::start(&config, &redirect, has_seccomp);
        warding::register(&mut registry, &warden);
        let unwarded = warding::lacking(&warden);
        let metrics = Metrics::register(&mut registry);
        let resolver = Resolver::new(config.dns.settings()?).context("in the config: `[dns]`")?;
        resolver.register(&mut registry);
        let exporting =
            config.traces.as_ref().map(|traces| Exporter::start(&config, traces, &mut registry)).transpose()?;
        let (exporter, traces) = exporting.unzip();
        let joined = Joined::new(&config).await?;
        let trusting = Trusting::new(&authority, &config.runtime_dir)?;
        let mut issuers = Issuers::new(&config.issuer).context("in the config: `[[issuer]]`")?;
        if let Some((tokens, api)) = joined.as_ref().and_then(|joined| joined.issuer(&config)) {
            issuers = issuers.with_cluster(tokens, api).context("in the config: `[kubernetes.tokens]`")?;
        }
        let issuers = Arc::new(issuers);
        let gate = Arc::new(Gate {
            ground: Arc::clone(&ground) as Arc<dyn callgate_proxy::Ground>,
            roster: Arc::new(Roster::new()),
            policies: policies.current(),
            authority,
            upstream_tls: UpstreamTls::new(&*upstream_config(&config.upstream_ca, &[])?),
            masks: Masks::new(config.detectors()?, Some(pseudonyms::key(&config.state_dir)?)),
            issuers,
            attestor: Arc::new(warding::attestor(&warden)),
            pods: joined.as_ref().map(|joined| Arc::clone(&joined.pods)),
            recorder: recorder.clone(),
            names: Names::new(
                DeclaredServices::new(
                    config.service.iter().map(|service| (service.name.clone(), service.addresses.clone())),
                ),
                config.cluster_domain(),
            ),
            dns: Dns::new(resolver, config.dns.records_per_s),
            own_ports: OwnPorts::new(own_ports),
            metrics,
            traces,
            tallies: Tallies::default(),
            unopened: Unopened::default(),
            workers: Workers::start().context("cannot start the threads that carry connections")?,
            limits: Limits {
                connections: config.connections_max,
                drain: Duration::from_secs(config.drain_timeout_s),
                arguments: config.arguments_max_kib << 10,
                ..Limits::default()
            },
            held_back: Arc::new(Semaphore::new(Limits::HELD_BACK_KIB)),
            connections: Arc::new(Semaphore::new(config.connections_max)),
            stopping: stopping.clone(),
        });
        tokio::spawn(fetch_keys(Arc::clone(&gate.issuers)));
        let alarms = Alarms::register(&mut registry);
        let links_missing = LinksMissing::register(&mut registry);
        let went_past = WentPast::register(&mut registry);
        let uplink = route.map(|route| Uplink::start(recorder.clone(), route, &mut registry));
        let agent = Arc::new(Self {
            instance,
            config,
            started: SystemTime::now(),
            gate,
            redirect,
            ground,
            warden: warden.ok(),
            policies_taken: Mutex::new(SystemTime::now()),
            policies,
            run,
            pulses: Pulses::default(),
            uplink_status: uplink.as_ref().map(Uplink::watch),
            uplink: tokio::sync::Mutex::new(uplink),
            collector_tls,
            exporter: Mutex::new(exporter),
            alarms,
            links_missing,
            in_place: InPlace::default(),
            went_past,
            wanted: Mutex::default(),
            standing: Mutex::default(),
            spaces: Mutex::default(),
            waiting: Mutex::new(Some(Vec::new())),
            unread: Mutex::new(Some(Vec::new())),
            handed_over: CancellationToken::new(),
            handing_over: Mutex::default(),
            slot,
            found: Mutex::default(),
            joined,
            trusting,
            stopping,
            metrics_address,
            metrics_listener: metrics_listener
                .as_ref()
                .map(|listener| listener.as_fd().try_clone_to_owned())
                .transpose()?,
        });
        for standing in standing {
            agent.adopt(standing)?;
        }
        agent.listen(&NetnsRef::current()?, None)?;
        agent.tell(AgentState::Started, &spool::told(&recovery));
        agent.say_what_is_unwarded(&unwarded);
        // What is enrolled is known again before the first connection is accepted: none is turned away as unknown.
        agent.resume()?;
        agent.follow_cluster();
        agent.follow_policies();
        agent.keep_certificate();
        tokio::join!(agent.know_pods(), agent.know_policies());
        agent.accept();
        let lived_until = agent.redirect.last_beat();
        agent.redirect.beat()?;
        if predecessor.is_none() {
            agent.tell_of_unseen(lived_until);
        }
        if let Some(predecessor) = predecessor {
            if let Err(error) = tokio::task::spawn_blocking(move || predecessor.relieve()).await? {
                warn!(error = format!("{error:#}"), "the agent before did not say that it has let go");
            }
            agent.redirect.share(false);
        }
        // One process at a time reads datagrams: a note of the kernel's may stand for several of one sender.
        agent.answer();
        agent.spawn_tasks(metrics_listener, registry)?;
        if let Some(route) = others {
            let (config, instance, slot) = (agent.config.clone(), agent.instance.clone(), agent.slot.clone());
            tokio::spawn(spool::ship_others(config, instance, slot, route, agent.stopping.clone()));
        }
        Ok(agent)
    }

    /// Cancelled when a successor serves: then this agent is to [`stop`](Self::stop), and leave what both share alone.
    #[must_use]
    pub fn handed_over(&self) -> &CancellationToken {
        &self.handed_over
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

    /// Where this agent's spool is.
    #[must_use]
    pub fn spool_dir(&self) -> PathBuf {
        spool_dir(&self.config, &self.slot)
    }

    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) fn ownership(&self) -> BorrowedFd<'_> {
        self.redirect.ownership()
    }

    pub(crate) fn standing(&self) -> MutexGuard<'_, Vec<Standing>> {
        lock(&self.standing)
    }

    pub(crate) fn metrics_listener(&self) -> Option<BorrowedFd<'_>> {
        self.metrics_listener.as_ref().map(AsFd::as_fd)
    }

    fn spawn_tasks(self: &Arc<Self>, metrics: Option<TcpListener>, registry: Registry) -> Result<()> {
        let beat = heartbeat::beat(
            Arc::clone(&self.redirect),
            self.pulses.clone(),
            self.config.stale_after(),
            self.stopping.clone(),
        );
        tokio::spawn(beat);
        let (refusals, gate) = (self.redirect.events()?, Arc::clone(&self.gate));
        let found = self.warden.as_ref().and_then(Warden::events);
        tokio::spawn(kernel_events::pump(refusals, found, gate));
        if let Some(logs) = self.redirect.logs() {
            tokio::spawn(async move {
                if let Err(error) = logs.forward().await {
                    warn!(%error, "the kernel programs' log ended");
                }
            });
        }
        self.deliver_trust()?;
        let agent = Arc::clone(self);
        tokio::spawn(async move { agent.watch_policies().await });
        tokio::spawn(Arc::clone(self).look_after());
        tokio::spawn(Arc::clone(self).attest_links());
        tokio::spawn(Arc::clone(self).tell_of_past());
        if let Some(listener) = metrics {
            let probes = self.probes();
            tokio::spawn(callgate_observe::serve(listener, Arc::new(registry), probes, self.stopping.clone()));
        }
        Ok(())
    }
}

fn load_redirect(config: &Config, instance: &str, lock: Option<OwnedFd>) -> Result<Redirect> {
    let config = callgate_redirect::Config {
        instance: instance.to_owned(),
        bpffs: config.bpffs.clone(),
        log_level: config.kernel_log_level.as_str().parse()?,
        stale_after: config.stale_after(),
    };
    let loaded = match lock {
        Some(lock) => Redirect::take_over(&config, lock),
        None => Redirect::load(&config),
    };
    loaded.context("cannot load the kernel programs: `callgate doctor` tells what is missing")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fetches the keys of all issuers, so that no call has to wait for them, and says which could not be had.
async fn fetch_keys(issuers: Arc<Issuers>) {
    let learning = Arc::clone(&issuers);
    tokio::spawn(async move { learning.learn_cluster().await });
    for issuer in issuers.warm().await {
        warn!(issuer, "the keys of an issuer cannot be fetched: its tokens are refused until they can");
    }
}
