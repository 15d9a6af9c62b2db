//! Where the exam takes place: network namespaces of its own, an agent, an enrolled cgroup, canaries and their ear.
//!
//! The whole exam lives in a network namespace of its own, which has loopback and one link, to the canaries: nothing
//! that a control sends can leave the machine. The caller enters it first, see [`Ground`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::Site;
use callgate_harness::{Canary, CanaryConfig, Netns, Place, Running, eventually, netns, program, run};

use super::addresses::{self, Link};
use super::ear::Ear;
use super::helpers::Helpers;
use super::run::Session;
use super::starters::Starters;
use super::{Row, Verdict};
use crate::order::{self, Order};
use crate::vector::{Family, Vector, Way};

/// The canary that answers HTTP; the others tempt by their number (and answer as well).
const PORT: u16 = 80;
const PORTS: [u16; 4] = [PORT, 443, 53, 853];
/// What a canary answers: the control's proof that it is connected.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ncanary";
/// How long a socket that should be cut is used. Source: twice the second in which it must be found.
const WATCHED: Duration = Duration::from_secs(2);
/// Longest wait for a living agent that was stopped. Source: its heartbeat comes each 100 ms.
const BRIEF: Duration = Duration::from_secs(3);
/// Longest wait for what takes milliseconds.
pub const SOON: Duration = Duration::from_secs(20);

/// The network namespace that the exam lives in.
#[derive(Debug)]
pub struct Ground {
    _netns: Netns,
}

impl Ground {
    /// Makes it and moves this thread, and all that it starts from now on, into it.
    ///
    /// # Errors
    /// Without root.
    pub fn enter() -> Result<Ground> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the exam changes cgroups and loads kernel programs: run as root"
        );
        match callgate_harness::sweep() {
            Ok(all) => all.iter().for_each(|left| eprintln!("removed what an exam or test had left: {left}")),
            // Another test's sweep may have been faster; what is really in the way is told by what comes next.
            Err(error) => eprintln!("sweep: {error:#}"),
        }
        super::starters::sweep()?;
        let netns = Netns::new("exam")?;
        netns::enter_this_thread(&std::fs::File::open(netns.path())?)?;
        // Ping without privileges is off in a new namespace; where it is on, it must be stopped.
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")?;
        Ok(Ground { _netns: netns })
    }
}

/// Everything. Fields are dropped in this order.
pub struct Scene {
    /// `callgate run`, where that is what is examined.
    pub session: Option<Session>,
    other: Option<Session>,
    pub(super) helpers: Helpers,
    starters: Option<Starters>,
    decoy: Running,
    canaries: Vec<Canary>,
    /// Hears what arrives.
    pub ear: Ear,
    free: PathBuf,
    hostile: PathBuf,
    link: Link,
    next: u16,
    gate: Vec<SocketAddr>,
    /// The installation.
    pub site: Site,
}

impl Scene {
    /// With an agent and an enrolled cgroup.
    pub fn with_agent() -> Result<Scene> {
        let mut scene = Scene::on(Site::new()?)?;
        scene.look_at_gate()?;
        Ok(scene)
    }

    /// With `callgate run` instead, as the user of `way`.
    pub fn under_run(way: Way) -> Result<Scene> {
        let mut scene = Scene::on(Site::without_agent()?)?;
        scene.starters = Some(Starters::new(&scene.hostile, way)?);
        // What is outside is there when the run begins: that is what it must hide.
        scene.helpers.of(way, &scene.hostile)?;
        scene.other = Some(Session::start(&scene.site, &scene.hostile, way)?);
        let session = Session::start(&scene.site, &scene.hostile, way)?;
        scene.gate = listening(session.pid())?;
        scene.session = Some(session);
        Ok(scene)
    }

    fn on(site: Site) -> Result<Scene> {
        addresses::answer_on_all(site.netns.name(), site.veth.a6.is_some())?;
        netns::ip(&["route", "add", "default", "via", &site.veth.b.to_string()])?;
        if let Some(b6) = site.veth.b6 {
            netns::ip(&["-6", "route", "add", "default", "via", &b6.to_string()])?;
        }
        let any: IpAddr = if site.veth.b6.is_some() { "::".parse()? } else { "0.0.0.0".parse()? };
        let canary = |port: &u16| {
            let listen = SocketAddr::new(any, *port);
            let config = CanaryConfig { listen, answer: Some(ANSWER.to_vec()), ..CanaryConfig::at(any) };
            Canary::start(CanaryConfig { netns: Some(site.netns.path()), ..config })
        };
        let canaries = PORTS.iter().map(canary).collect::<Result<Vec<_>>>()?;
        let far = addresses::veth(Some(site.netns.name()))?;
        let ear = Ear::new(&site.netns, far.index, site.address)?;
        // Where every user can execute it, which a build's folder may not be.
        let hostile = site.path("callgate-hostile");
        std::fs::copy(program("callgate-hostile")?, &hostile)?;
        let open = site.path("outside");
        std::fs::create_dir(&open)?;
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode;
        std::fs::set_permissions(&open, mode(0o777))?;
        std::fs::set_permissions(&hostile, mode(0o755))?;
        let free = site.root.child("free")?;
        let mut sleep = Command::new("sleep");
        sleep.arg("86400");
        let link = addresses::veth(None)?;
        Ok(Scene {
            session: None,
            other: None,
            helpers: Helpers::new(open),
            starters: None,
            decoy: Running::start(sleep)?,
            canaries,
            ear,
            free,
            hostile,
            link,
            next: 0,
            gate: Vec::new(),
            site,
        })
    }

    /// How many orders were given.
    pub fn attempts(&self) -> u16 {
        self.next
    }

    /// Whether there is IPv6.
    pub fn has_v6(&self) -> bool {
        self.site.veth.b6.is_some()
    }

    /// The hostile program.
    pub fn hostile(&self) -> &Path {
        &self.hostile
    }

    /// Where processes are that are not enrolled.
    pub fn free(&self) -> &Path {
        &self.free
    }

    /// An order for one attempt in the cgroup at `cgroup`, whose enrolment is to be attacked or, in a control, another.
    pub fn order(&mut self, vector: &Vector, way: Way, family: Family, cgroup: &Path, inside: bool) -> Result<Order> {
        self.next = self.next.checked_add(1).context("more attempts than addresses")?;
        let source = match (family, self.site.veth.a6) {
            (Family::V6, Some(a6)) => a6.into(),
            _ => IpAddr::V4(self.site.veth.a),
        };
        let [a, b, c, _] = self.site.veth.a.octets();
        let attacked = if inside { self.agent_pid() } else { self.decoy.pid() };
        let cgroup_id = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(cgroup)?);
        let (maps, links) = self.pins(cgroup_id);
        let log = self.site.agent().map(|agent| agent.stderr()).unwrap_or_default();
        Ok(Order {
            vector: vector.name.into(),
            way,
            family,
            nonce: format!("bypass-{}-{:05}.", std::process::id(), self.next),
            to: addresses::of(family, self.next),
            port: PORT,
            device: self.link.name.clone(),
            device_index: self.link.index,
            source,
            broadcast: Ipv4Addr::new(a, b, c, 255),
            gate: self.gate.clone(),
            metrics: metrics(&log),
            agent: attacked,
            agent_uid: 0,
            control_socket: self.site.path("run/agent.sock"),
            collector_socket: self.site.path("collector.sock"),
            links,
            maps,
            cgroup_id,
            cgroup: cgroup.to_owned(),
            elsewhere: self.free.clone(),
            far: self.site.netns.path(),
            helper: None,
            starters: self.starters.as_ref().map(|starters| starters.order()).unwrap_or_default(),
            inside,
            watched_ms: if inside { WATCHED.as_millis() as u64 } else { 0 },
            settled: false,
        })
    }

    fn agent_pid(&mut self) -> u32 {
        let session = self.session.as_ref().map(Session::pid);
        session.or_else(|| self.site.agent().ok().map(|agent| agent.pid())).unwrap_or(0)
    }

    /// The maps and the links of a cgroup, of whatever instance has it.
    fn pins(&self, cgroup: u64) -> (PathBuf, PathBuf) {
        let below = |path: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let schemas = below(&self.site.bpffs().join("callgate"));
        let instances: Vec<PathBuf> = schemas.iter().flat_map(|schema| below(schema)).collect();
        let id = cgroup.to_string();
        let found = instances.iter().find(|instance| instance.join("links").join(&id).exists());
        let instance = found.or(instances.first()).cloned().unwrap_or_default();
        (instance.join("maps"), instance.join("links").join(id))
    }

    /// Finds the gate's ports; they change when the agent starts anew.
    pub fn look_at_gate(&mut self) -> Result<()> {
        let metrics = metrics(&self.site.agent()?.stderr());
        let pid = self.site.agent()?.pid();
        self.gate = listening(pid)?;
        self.gate.retain(|address| Some(*address) != metrics);
        ensure!(!self.gate.is_empty(), "the agent listens nowhere");
        Ok(())
    }

    /// That the gate lets through what policy allows: one that refuses everything would pass any exam.
    ///
    /// # Errors
    /// When it does not.
    pub fn is_alive(&mut self) -> Result<()> {
        self.answers(SOON)
    }

    fn answers(&self, within: Duration) -> Result<()> {
        let url = self.site.plain_url("/v1/users/7");
        eventually("an allowed call through the gate", within, || {
            let mut curl = self.site.inside("curl");
            curl.args(self.site.curl_arguments()).arg(&url);
            run(curl, SOON).ok().filter(|answer| answer.stdout.ends_with("\n200"))
        })
        .map(drop)
    }

    /// A fresh cgroup, enrolled if it is to be attacked.
    pub fn fresh(&mut self, name: &str) -> Result<PathBuf> {
        self.site.root.child(name)
    }

    /// Enrols it.
    pub fn enrol(&self, cgroup: &Path) -> Result<()> {
        let name = cgroup.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.site.callgate(&["enroll", &cgroup.display().to_string(), "--name", &name])?.ok().map(drop)
    }

    /// Starts the agent again, if it is dead, and waits until calls are redirected.
    pub fn revive(&mut self) -> Result<()> {
        if self.site.agent().is_ok_and(|agent| agent.is_running()) {
            self.site.agent()?.signal(rustix::process::Signal::CONT)?;
            // One that was killed a moment ago may count as running until its memory is gone.
            if self.answers(BRIEF).is_ok() {
                return Ok(());
            }
        }
        let _dead = self.site.kill_agent();
        self.site.start_agent()?;
        self.look_at_gate()?;
        self.is_alive()
    }

    /// That the agent's records know what was said to be proxied.
    ///
    /// # Errors
    /// When one is not there.
    pub fn recorded(&self, rows: &[Row]) -> Result<()> {
        let proxied = |row: &&Row| row.verdict == Verdict::Proxied && !row.way.is_run() && row.nonce_is_said();
        let wanted: Vec<&str> = rows.iter().filter(proxied).map(|row| row.nonce.as_str()).collect();
        let all = |records: &[serde_json::Value]| {
            let text: Vec<String> = records.iter().map(|record| record["function"].to_string()).collect();
            let text = text.concat();
            wanted.iter().all(|nonce| text.contains(nonce))
        };
        self.site.records("begin", "a record of every proxied attempt", all).map(drop)
    }

    /// A process in `cgroup`.
    pub fn start(&self, cgroup: &Path, words: &[&str]) -> Result<Running> {
        let mut command = Place::here().cgroup_path(cgroup).command(&self.hostile);
        command.args(words);
        Running::start(command)
    }

    /// The enrolled cgroup; for a control of what destroys enforcement under `run`, that of another run.
    pub fn enrolled(&self, inside: bool) -> Result<PathBuf> {
        match if inside { &self.session } else { &self.other } {
            Some(session) => Ok(session.cgroup().to_owned()),
            None => Ok(self.site.enrolled.clone()),
        }
    }

    /// How many bytes or connections the canaries had.
    pub fn hits(&self) -> usize {
        self.canaries.iter().map(|canary| canary.hits().len()).sum()
    }
}

/// Where the agent says that it serves metrics.
fn metrics(log: &str) -> Option<SocketAddr> {
    let (_, after) = log.split_once("metrics")?;
    let start = after.find("127.0.0.1:")?;
    let end = after[start + 10..].find(|letter: char| !letter.is_ascii_digit())?;
    after[start..start + 10 + end].parse().ok()
}

/// Where a process listens on loopback.
fn listening(pid: u32) -> Result<Vec<SocketAddr>> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
    let inodes: Vec<String> = links
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut found = Vec::new();
    for (file, host) in [("tcp", "127.0.0.1"), ("tcp6", "::1")] {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/net/{file}")) else { continue };
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(&"0A"), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9)) else {
                continue;
            };
            if inodes.iter().any(|mine| mine == inode) {
                let port = local.rsplit_once(':').context("a port")?.1;
                found.push(SocketAddr::new(host.parse()?, u16::from_str_radix(port, 16)?));
            }
        }
    }
    Ok(found)
}

impl Row {
    /// Whether the vector says its nonce in an HTTP request of its own.
    fn nonce_is_said(&self) -> bool {
        // These ask with the address of another host, or say nothing that is a call.
        !matches!(self.vector.as_str(), "metrics_port" | "loopback_forwarder")
    }
}

/// The order's helper, of the process that serves a way.
pub fn helper(scene: &mut Scene, way: Way, keep: Option<SocketAddr>) -> Result<order::Helper> {
    let hostile = scene.hostile.clone();
    let helper = scene.helpers.of(way, &hostile)?;
    helper.keep(keep)
}
