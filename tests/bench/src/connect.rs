//! What connect() costs a process: without hooks in the kernel, with hooks on another cgroup, with hooks on its own.
//!
//! Each connect goes to a listener on loopback that accepts and closes; only the system call is timed. With hooks on
//! the process's own cgroup the kernel redirects it to the listener of the hooks, which does the same. The warden is
//! loaded wherever hooks are, as with an agent: its guard by task runs for every connect below the cgroups' parent.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use callgate_harness::{Place, TempBpffs, TestCgroup, run};
use callgate_model::NetnsCookie;
use callgate_redirect::{Listeners, Redirect};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::hooks::{Guard, Hooks};
use crate::measure::{Extent, Spread};

/// What `FILTER` looks at.
pub const NAME: &str = "connect()";

/// Connects of one round.
const CONNECTS: u64 = 10_000;

/// Options of `callgate-bench time-connects`.
#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    to: SocketAddr,
    #[arg(long)]
    count: u64,
}

/// Where the hooks are, seen from the process that connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Where {
    Nowhere,
    OnAnotherCgroup,
    OnItsCgroup,
}

impl Where {
    const ALL: [Where; 3] = [Where::Nowhere, Where::OnAnotherCgroup, Where::OnItsCgroup];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nowhere => "no hooks of ours",
            Self::OnAnotherCgroup => "hooks on another cgroup",
            Self::OnItsCgroup => "enrolled",
        }
    }
}

/// One row: what the rounds gave.
#[derive(Debug, Serialize)]
pub struct Connects {
    pub hooks: Where,
    /// The fastest of a round; `min` of it is the fastest of all. Unit: nanoseconds.
    pub least_ns: Spread,
    /// Half of the connects were faster. Unit: nanoseconds.
    pub p50_ns: Spread,
    /// 99 of 100 were faster. Unit: nanoseconds.
    pub p99_ns: Spread,
}

/// What one round gave. Unit: nanoseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Round {
    least_ns: u64,
    p50_ns: u64,
    p99_ns: u64,
}

/// All three, interleaved.
pub fn measure(extent: &Extent) -> Result<Vec<Connects>> {
    eprintln!("measuring: {NAME}");
    let root = TestCgroup::new("connect")?;
    let (own, other) = (root.child("own")?, root.child("other")?);
    let bpffs = TempBpffs::mount()?;
    let mut rounds: [Vec<Round>; 3] = Default::default();
    for _ in 0..extent.rounds {
        for (hooks, rounds) in Where::ALL.into_iter().zip(&mut rounds) {
            rounds.push(round(hooks, [root.path(), &own, &other], bpffs.path(), CONNECTS / extent.share)?);
        }
    }
    let made = Where::ALL.into_iter().zip(&rounds).map(|(hooks, rounds)| Connects {
        hooks,
        least_ns: Spread::of(rounds.iter().map(|round| round.least_ns as f64)),
        p50_ns: Spread::of(rounds.iter().map(|round| round.p50_ns as f64)),
        p99_ns: Spread::of(rounds.iter().map(|round| round.p99_ns as f64)),
    });
    Ok(made.collect())
}

fn round(hooks: Where, [root, own, other]: [&Path; 3], bpffs: &Path, count: u64) -> Result<Round> {
    let plain = TcpListener::bind("127.0.0.1:0")?;
    let to = plain.local_addr()?;
    let _plain = Acceptor::start(plain, None)?;
    if hooks == Where::Nowhere {
        return connect_from(own, to, count);
    }
    // The listeners are registered for as long as `sockets` live.
    let (loaded, Listeners { netns, v4, sockets: _registered, .. }) = Hooks::load(bpffs)?;
    let guard = Guard::start(&loaded, root)?;
    let _redirected = Acceptor::start(v4.context("no IPv4 here")?, Some((Arc::clone(&loaded.redirect), netns)))?;
    loaded.enrol(if hooks == Where::OnItsCgroup { own } else { other })?;
    let round = connect_from(own, to, count)?;
    let redirected = loaded.redirect.stats().redirected;
    let expected = if hooks == Where::OnItsCgroup { count } else { 0 };
    ensure!(redirected == expected, "{hooks:?}: {redirected} of {count} connects were redirected");
    drop(guard);
    Ok(round)
}

fn connect_from(cgroup: &Path, to: SocketAddr, count: u64) -> Result<Round> {
    let mut command = Place::here().cgroup_path(cgroup).command(std::env::current_exe()?);
    command.args(["time-connects", "--to", &to.to_string(), "--count", &count.to_string()]);
    let finished = run(command, Duration::from_secs(120))?.ok()?;
    serde_json::from_str(finished.stdout.trim()).context("what the connecting process printed")
}

/// `callgate-bench time-connects`: times each connect().
pub fn main(options: &Options) -> Result<()> {
    let to = options.to.into();
    let mut times = Vec::new();
    for _ in 0..options.count {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Closed by a reset: no port waits in TIME_WAIT, however many there are.
        socket.set_linger(Some(Duration::ZERO))?;
        let start = Instant::now();
        socket.connect(&to)?;
        times.push(start.elapsed().as_nanos() as u64);
    }
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().context("no connect was made");
    println!("{}", serde_json::to_string(&Round { least_ns: at(0)?, p50_ns: at(50)?, p99_ns: at(99)? })?);
    Ok(())
}

/// Accepts and closes, until dropped.
struct Acceptor {
    stopped: Arc<AtomicBool>,
    wake: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// With hooks, each connection's record is taken too, or their map would fill up.
    fn start(listener: TcpListener, hooks: Option<(Arc<Redirect>, NetnsCookie)>) -> Result<Acceptor> {
        listener.set_nonblocking(false)?;
        let wake = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stopped);
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let Ok((_closed, peer)) = listener.accept() else { continue };
                if let Some((redirect, netns)) = &hooks {
                    let _none_for_the_waking_one = redirect.origin(*netns, peer);
                }
            }
        });
        Ok(Acceptor { stopped, wake, thread: Some(thread) })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _woken = std::net::TcpStream::connect(self.wake);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
