//! What every case stands on: a cgroup and a bpffs of its own, the programs, a proxy that says what it knows.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
pub use callgate_harness::Client;
use callgate_harness::{Place, TempBpffs, TestCgroup};
use callgate_model::{CgroupId, Mode, NetnsCookie, Origin};
use callgate_redirect::{Config, Listeners, NetnsRef, NetnsSockets, Redirect};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Everything of one case; goes away with it. Fields are dropped in this order.
pub struct World {
    pub heart: Heart,
    pub proxy: Proxy,
    pub redirect: Arc<Redirect>,
    pub config: Config,
    pub cgroup: TestCgroup,
    pub bpffs: TempBpffs,
}

impl World {
    /// Loaded, listening in this namespace, beating; nothing is enrolled.
    pub fn new() -> Result<Self> {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Result<Self> {
        let bpffs = TempBpffs::mount()?;
        let cgroup = TestCgroup::new("redirect")?;
        let mut config = Config { bpffs: bpffs.path().into(), ..Config::new("test") };
        // A machine under load may keep the heart from beating for a while; cases about that set their own.
        config.stale_after = Duration::from_secs(30);
        change(&mut config);
        let redirect = Arc::new(Redirect::load(&config)?);
        let proxy = Proxy::start(&redirect, &NetnsRef::current()?)?;
        let heart = Heart::start(&redirect);
        Ok(Self { heart, proxy, redirect, config, cgroup, bpffs })
    }

    /// The same, its cgroup enrolled, and a client born there.
    pub fn enrolled(mode: Mode) -> Result<(Self, Client)> {
        let world = Self::new()?;
        let client = world.enrol_and_start(mode)?;
        Ok((world, client))
    }

    pub fn enrol_and_start(&self, mode: Mode) -> Result<Client> {
        self.redirect.enrol(self.cgroup.path(), mode)?;
        Client::start(&Place::here().cgroup(&self.cgroup))
    }

    pub fn id(&self) -> Result<CgroupId> {
        Ok(CgroupId(self.cgroup.id()?))
    }

    /// The pins of an enrolment.
    pub fn links(&self, id: CgroupId) -> std::path::PathBuf {
        self.bpffs.path().join("callgate/v2/test/links").join(id.to_string())
    }
}

/// Beats until dropped, or told to rest.
pub struct Heart {
    rests: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Heart {
    pub fn start(redirect: &Arc<Redirect>) -> Self {
        let (rests, stopped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (redirect, pause, end) = (Arc::clone(redirect), Arc::clone(&rests), Arc::clone(&stopped));
        // The first one here, so that nothing depends on when the thread runs.
        redirect.beat().expect("beat");
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                if !pause.load(Ordering::Relaxed) {
                    redirect.beat().expect("beat");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { rests, stopped, thread: Some(thread) }
    }

    pub fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Accepts, and answers with what the kernel said of the connection: `DESTINATION pid=… uid=… enrolled=… netns=…`.
pub struct Proxy {
    pub netns: NetnsCookie,
    pub sockets: NetnsSockets,
    pub addresses: Vec<SocketAddr>,
    /// Where questions of DNS come to.
    pub dns: Vec<SocketAddr>,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Proxy {
    pub fn start(redirect: &Arc<Redirect>, netns: &NetnsRef) -> Result<Self> {
        Ok(Self::serve(redirect, redirect.listen(netns)?))
    }

    pub fn serve(redirect: &Arc<Redirect>, listeners: Listeners) -> Self {
        let Listeners { netns, v4, v6, dns4, dns6, sockets } = listeners;
        let stopped = Arc::new(AtomicBool::new(false));
        let listeners: Vec<TcpListener> = v4.into_iter().chain(v6).collect();
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let accept = |listener: TcpListener| {
            let (redirect, stopped) = (Arc::clone(redirect), Arc::clone(&stopped));
            std::thread::spawn(move || accept(&listener, &redirect, netns, &stopped))
        };
        let mut threads: Vec<JoinHandle<()>> = listeners.into_iter().map(accept).collect();
        let resolvers: Vec<UdpSocket> = dns4.into_iter().chain(dns6).collect();
        let dns = resolvers.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        threads.extend(resolvers.into_iter().map(|socket| {
            let (redirect, stopped) = (Arc::clone(redirect), Arc::clone(&stopped));
            std::thread::spawn(move || resolve(&socket, &redirect, netns, &stopped))
        }));
        Self { netns, sockets, addresses, dns, stopped, threads }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, redirect: &Redirect, netns: NetnsCookie, stopped: &AtomicBool) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while !stopped.load(Ordering::Relaxed) {
        let _again = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout));
        while let Ok((stream, peer)) = listener.accept() {
            let origin = redirect.origin(netns, peer);
            std::thread::spawn(move || answer(&stream, origin));
        }
    }
}

/// Answers each datagram with what the kernel said of it.
fn resolve(socket: &UdpSocket, redirect: &Redirect, netns: NetnsCookie, stopped: &AtomicBool) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let mut buffer = [0; 512];
    while !stopped.load(Ordering::Relaxed) {
        let _again = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout));
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _gone = socket.send_to(shown(redirect.asker(netns, peer)).as_bytes(), peer);
        }
    }
}

fn answer(mut stream: &TcpStream, origin: Option<Origin>) {
    let _gone = stream.write_all(shown(origin).as_bytes());
    // Reads to the end before closing: a close with unread bytes resets the connection under the client.
    let _gone = stream.shutdown(Shutdown::Write);
    let _gone = stream.set_nonblocking(false);
    let _gone = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let _gone = std::io::copy(&mut stream, &mut std::io::sink());
}

/// The line that the proxy answers with.
pub fn shown(origin: Option<Origin>) -> String {
    let Some(o) = origin else { return "none\n".into() };
    let (to, pid, uid) = (o.destination, o.pid, o.uid);
    format!("{to} pid={pid} uid={uid} enrolled={} cgroup={} netns={}\n", o.enrolled, o.cgroup, o.netns.0)
}

/// The value of `key=…` in a client's or the proxy's line.
pub fn field(line: &str, key: &str) -> Result<String> {
    let found = line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    found.map(str::to_owned).with_context(|| format!("no `{key}` in `{line}`"))
}

/// Where the proxy believes that a connection was going.
pub fn said(line: &str) -> Result<String> {
    field(line, "said")
}

/// Waits until nothing is waiting to be accepted.
pub fn nothing_pending(redirect: &Redirect) -> Result<()> {
    callgate_harness::eventually("no origin is left", Duration::from_secs(5), || {
        (redirect.pending() == 0).then_some(())
    })
}

/// Paths below, for messages.
pub fn listed(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        bail!("{} is gone", folder.display());
    }
    let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}
