//! The exam again while something happens: load, a killed and a stopped agent, one that is replaced or restarted ever again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use callgate_harness::{Running, program};
use rustix::process::Signal;

use super::scene::Scene;
use super::{Row, pass, steady};
use crate::vector::{Vector, Way};

/// Load while everything is tried. Unit: connections a second.
const RATE: &str = "1000";
/// What two loaded cores must reach of it at least, while everything else goes on beside it.
const LEAST: u64 = 50;
/// Connections that are opened at once at most.
const CONNECTIONS: &str = "16";
/// How long an agent lives in the phase of restarts. Source: half of what one pass takes at least.
const LIFE: Duration = Duration::from_secs(2);
/// Longer than the heartbeat of a site may be old.
const STALE: Duration = Duration::from_millis(1500);
/// An address of the canaries that no attempt has: the numbers end below it.
const LOADED: &str = "10.201.255.255:80";

/// The phases, in order.
pub fn passes(scene: &mut Scene, vectors: &[&Vector], rows: &mut Vec<Row>, tell: &mut dyn FnMut(&Row)) -> Result<()> {
    let steady = steady(vectors);
    let by = |way: Way| matches!(way, Way::User | Way::Root);

    let _load = load(scene)?;
    let (opened, started) = (opened()?, Instant::now());
    pass(scene, "load", &steady, &by, rows, tell)?;
    let (more, seconds) = (self::opened()?.saturating_sub(opened), started.elapsed().as_secs());
    eprintln!("load: {more} connections in {seconds} s");
    ensure!(more > seconds * LEAST, "{more} connections in {seconds} s are no load");
    scene.is_alive()?;

    scene.site.kill_agent()?;
    pass(scene, "agent killed", &steady, &by, rows, tell)?;
    scene.revive()?;

    scene.site.agent()?.signal(Signal::STOP)?;
    std::thread::sleep(STALE); // tidy: the time without a heartbeat is what is tested
    pass(scene, "agent stopped", &steady, &by, rows, tell)?;
    scene.revive()?;

    upgrades(scene, &steady, &by, rows, tell)?;
    scene.is_alive()?;

    restarts(scene, &steady, &by, rows, tell)?;
    scene.revive()?;
    Ok(())
}

/// Connections of the enrolled cgroup to a canary, each of which policy refuses, until it is ended.
fn load(scene: &Scene) -> Result<Running> {
    let mut command = scene.site.inside(&program("callgate-testkit")?.display().to_string());
    command.arg("load").arg(format!("http://{LOADED}/load")).args(["--fresh", "--rate", RATE]);
    command.args(["--connections", CONNECTIONS, "--calls", "1000000000", "--seconds", "86400"]);
    Running::start(command)
}

/// Connections that were opened in this network namespace so far.
fn opened() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, numbers) = (lines.next().context("names")?, lines.next().context("numbers")?);
    let mut both = names.split(' ').zip(numbers.split(' '));
    let (_, number) = both.find(|(name, _)| *name == "ActiveOpens").context("ActiveOpens")?;
    Ok(number.parse()?)
}

/// At the beginning of each attempt a successor starts, which takes over in its midst or soon after it.
fn upgrades(
    scene: &mut Scene,
    vectors: &[&Vector],
    by: &dyn Fn(Way) -> bool,
    rows: &mut Vec<Row>,
    tell: &mut dyn FnMut(&Row),
) -> Result<()> {
    for vector in vectors {
        let successor = scene.site.begin_upgrade()?;
        pass(scene, "agent upgraded", &[*vector], by, rows, tell)?;
        scene.site.end_upgrade(successor)?;
        scene.look_at_gate()?;
    }
    Ok(())
}

/// Between two attempts the agent is killed and started again, in turns, for as long as one pass takes.
fn restarts(
    scene: &mut Scene,
    vectors: &[&Vector],
    by: &dyn Fn(Way) -> bool,
    rows: &mut Vec<Row>,
    tell: &mut dyn FnMut(&Row),
) -> Result<()> {
    for vector in vectors {
        let pid = scene.site.agent()?.pid();
        let ended = Arc::new(AtomicBool::new(false));
        let (end, process) = (Arc::clone(&ended), rustix::process::Pid::from_raw(pid as i32).context("a process")?);
        // Killed in the midst of the attempt, whenever that is.
        let killer = std::thread::spawn(move || {
            let mut waited = Duration::ZERO;
            while waited < LIFE && !end.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(7));
                waited += Duration::from_millis(7);
                if waited > Duration::from_millis(20) {
                    let _gone = rustix::process::kill_process(process, Signal::KILL);
                    return;
                }
            }
        });
        let tried = pass(scene, "agent restarted", &[*vector], by, rows, tell);
        ended.store(true, Ordering::Relaxed);
        let _panicked = killer.join();
        tried?;
        let _dead = scene.site.kill_agent();
        scene.site.start_agent()?;
        scene.look_at_gate()?;
    }
    Ok(())
}
