//! What every case stands on: cgroups and a bpffs of its own, the map of enrolments, the warden, clients.

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
pub use callgate_harness::Client;
use callgate_harness::{Place, TempBpffs, TestCgroup, eventually};
use callgate_model::{CgroupId, KernelDenial, KernelEvent};
use callgate_warden::{Answer, Config, Events, Means, Older, Severed, Warden};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType, libbpf_sys};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Modes of an enrolment in the redirect's map.
pub const ENFORCE: u32 = 0;
pub const OBSERVE: u32 = 1;
/// Entries that enrol nobody: where strict mode stands, and what it leaves alone.
pub const STRICT: u32 = 2;
pub const EXEMPT: u32 = 3;

/// Everything of one case; goes away with it. Fields are dropped in this order.
pub struct World {
    /// None once it was let go, as by a crash.
    pub warden: Option<Warden>,
    pub events: Events,
    pub config: Config,
    pub inside: PathBuf,
    pub outside: PathBuf,
    pub id: CgroupId,
    enrolments: MapHandle,
    _root: TestCgroup,
    _bpffs: TempBpffs,
}

impl World {
    /// The warden at a root of the case's own, with a cgroup that may be enrolled and one that is not.
    pub fn new() -> Result<Self> {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Result<Self> {
        let bpffs = TempBpffs::mount()?;
        let root = TestCgroup::new("warden")?;
        let (inside, outside) = (root.child("inside")?, root.child("outside")?);
        let enrolments = enrolments_map(&bpffs.path().join("ENROLMENTS"))?;
        let mut config = Config {
            pins: bpffs.path().join("warden"),
            enrolments: bpffs.path().join("ENROLMENTS"),
            client_sockets: None,
            cgroup_root: root.path().into(),
            older: Older::Destroy,
            means: None,
            netlink: Answer::Refuse,
            has_seccomp: false,
        };
        change(&mut config);
        let warden = Warden::start(&config)?;
        for needed in ["sockets", "guard", "exec", "arrivals"] {
            let feature = warden.features().iter().find(|feature| feature.name == needed);
            let feature = feature.with_context(|| format!("no feature `{needed}`"))?;
            ensure!(
                feature.ok && feature.detail.starts_with("loads") && !feature.detail.contains("without"),
                "{feature:?}"
            );
        }
        let events = warden.events().context("the events are there once")?;
        let id = CgroupId(inside.metadata()?.ino());
        Ok(Self { warden: Some(warden), events, config, inside, outside, id, enrolments, _root: root, _bpffs: bpffs })
    }

    pub fn warden(&self) -> Result<&Warden> {
        self.warden.as_ref().context("the warden is gone")
    }

    /// What the redirect does when it enrols.
    pub fn enrol(&self, mode: u32) -> Result<()> {
        self.tell(self.id.0, mode)
    }

    /// As the redirect tells of the cgroup with this id.
    pub fn tell(&self, id: u64, mode: u32) -> Result<()> {
        let value: Vec<u8> = [mode.to_ne_bytes(), [0; 4]].concat();
        Ok(self.enrolments.update(&id.to_ne_bytes(), &value, MapFlags::ANY)?)
    }

    pub fn sever(&self) -> Result<Severed> {
        Ok(self.warden()?.sever(&self.inside, self.id)?)
    }

    pub fn client(&self, cgroup: &Path) -> Result<Client> {
        Client::start(&Place::here().cgroup_path(cgroup))
    }

    /// Waits for an event that `wanted` likes; others before it are dropped.
    pub fn event(&mut self, wanted: impl Fn(&KernelDenial) -> bool) -> Result<KernelDenial> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let mut seen = Vec::new();
        let found = runtime.block_on(async {
            let wait = async {
                while let Some(event) = self.events.next().await {
                    if wanted(&event) {
                        return Some(event);
                    }
                    seen.push(event);
                }
                None
            };
            tokio::time::timeout(PATIENCE, wait).await
        });
        found.ok().flatten().with_context(|| format!("no such event; seen: {seen:?}"))
    }

    /// That nothing but what `fine` likes was told so far.
    pub fn no_event(&mut self, fine: impl Fn(&KernelDenial) -> bool) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        // What was before this look was told before it ended.
        self.warden()?.sweep()?;
        let next = |events: &mut Events| {
            runtime.block_on(async { tokio::time::timeout(Duration::from_millis(300), events.next()).await })
        };
        while let Ok(Some(event)) = next(&mut self.events) {
            ensure!(fine(&event), "{event:?}");
        }
        Ok(())
    }

    pub fn is_of(&self, event: &KernelDenial, kind: KernelEvent, pid: u32) -> bool {
        event.event == kind && event.cgroup == self.id && event.pid == pid
    }
}

/// A map like the redirect's, pinned where that pins it.
fn enrolments_map(pin: &Path) -> Result<MapHandle> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
        map_flags: libbpf_sys::BPF_F_NO_PREALLOC,
        ..Default::default()
    };
    let mut map = MapHandle::create(MapType::Hash, Some("ENROLMENTS"), 8, 8, 4096, &options)?;
    map.pin(pin)?;
    Ok(map)
}

/// Both means of destroying.
pub const MEANS: [Means; 2] = [Means::Kernel, Means::Diag];

/// Something to talk to: TCP and UDP, on IPv4 and IPv6, of the test's own network namespace.
pub struct Sink {
    pub tcp4: TcpListener,
    pub tcp6: TcpListener,
    pub udp4: UdpSocket,
    pub udp6: UdpSocket,
    accepted: VecDeque<TcpStream>,
}

impl Sink {
    pub fn new() -> Result<Self> {
        let v6 = (Ipv6Addr::LOCALHOST, 0);
        let sink = Self {
            tcp4: TcpListener::bind("127.0.0.1:0")?,
            tcp6: TcpListener::bind(v6)?,
            udp4: UdpSocket::bind("127.0.0.1:0")?,
            udp6: UdpSocket::bind(v6)?,
            accepted: VecDeque::new(),
        };
        sink.udp4.set_read_timeout(Some(PATIENCE))?;
        sink.udp6.set_read_timeout(Some(PATIENCE))?;
        Ok(sink)
    }

    pub fn mapped(address: SocketAddr) -> String {
        format!("[::ffff:127.0.0.1]:{}", address.port())
    }

    /// Accepts the next one, and reads its first byte.
    pub fn accept(&mut self, v6: bool) -> Result<()> {
        let listener = if v6 { &self.tcp6 } else { &self.tcp4 };
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut [0])?;
        self.accepted.push_back(stream);
        Ok(())
    }
}

/// Waits until `done`.
pub fn soon(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    eventually(what, PATIENCE, || done().then_some(()))
}
