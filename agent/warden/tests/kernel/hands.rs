//! Connected sockets of another cgroup in the hands of enrolled tasks, and how long they work there.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use callgate_model::{KernelDenial, KernelEvent};

use crate::Case;
use crate::severs::hand_over;
use crate::world::{Client, ENFORCE, OBSERVE, PATIENCE, Sink, World};

pub const CASES: &[Case] = &[
    ("a_connection_that_is_handed_in_is_cut_off_at_once", received),
    ("a_connection_that_is_taken_by_pidfd_is_cut_off_at_once", taken),
    ("a_connection_that_enters_with_its_task_is_cut_off", entering),
    ("what_an_inherited_listener_accepted_goes_on", inherited_listener),
    ("a_raw_socket_that_is_handed_in_ends_its_holder", raw_socket),
    ("in_observe_mode_foreign_connections_go_on_and_are_reported_once", observes),
];

/// How long a socket that is handed in may work in most rounds. Looking each second alone would give half a second.
const AT_ONCE: Duration = Duration::from_millis(400);

/// The same in the worst one: a second, and what a machine takes that has far more to do than it can.
const AT_LAST: Duration = Duration::from_secs(4);

/// How often it is tried.
const ROUNDS: usize = 10;

fn micros(answer: &str) -> Result<Duration> {
    let micros = answer.split(' ').find_map(|word| word.strip_prefix("us=")).context("no `us=`")?;
    Ok(Duration::from_micros(micros.parse()?))
}

fn show(what: &str, mut windows: Vec<Duration>) -> Result<()> {
    windows.sort_unstable();
    let (median, worst) = (windows[windows.len() / 2], windows[windows.len() - 1]);
    println!("window of {what}: median {median:?}, worst {worst:?} of {}", windows.len());
    ensure!(median < AT_ONCE && worst < AT_LAST, "{what}: {windows:?}");
    Ok(())
}

/// A helper with one connection out, of each protocol.
fn helper(world: &World, sink: &mut Sink, kind: &str) -> Result<(Client, String)> {
    let mut helper = world.client(&world.outside)?;
    let to = if kind == "tcp" { sink.tcp4.local_addr()? } else { sink.udp6.local_addr()? };
    let socket = helper.ok(&format!("{kind} {to}"))?;
    if kind == "tcp" {
        sink.accept(false)?;
    }
    Ok((helper, socket))
}

fn is_severed(world: &World, event: &KernelDenial, pid: u32) -> bool {
    world.is_of(event, KernelEvent::Severed, pid) && !event.observed
}

fn received() -> Result<()> {
    for kind in ["tcp", "udp"] {
        let (mut world, mut sink) = (World::new()?, Sink::new()?);
        world.enrol(ENFORCE)?;
        let mut windows = Vec::new();
        for round in 0..ROUNDS {
            let (mut helper, socket) = helper(&world, &mut sink, kind)?;
            let mut client = world.client(&world.inside)?;
            let path = std::env::temp_dir().join(format!("callgate-test-{}-{kind}-{round}", std::process::id()));
            let given = helper.tell(&format!("give {socket} {}", path.display()))?;
            helper.running.line(PATIENCE, |line| line.starts_with("listening"))?;
            let answer = client.ok(&format!("hammer {}", path.display()));
            std::fs::remove_file(&path)?;
            windows.push(micros(&answer?)?);
            helper.answer(given)?;
            let (pid, id) = (client.pid(), world.id);
            world.event(|event| event.event == KernelEvent::Severed && event.cgroup == id && event.pid == pid)?;
        }
        show(&format!("SCM_RIGHTS, {kind}"), windows)?;
    }
    Ok(())
}

fn taken() -> Result<()> {
    let (mut world, mut sink) = (World::new()?, Sink::new()?);
    world.enrol(ENFORCE)?;
    let mut windows = Vec::new();
    for _ in 0..ROUNDS {
        let (mut helper, socket) = helper(&world, &mut sink, "tcp")?;
        let fd = helper.ok(&format!("fd {socket}"))?;
        let mut client = world.client(&world.inside)?;
        windows.push(micros(&client.ok(&format!("getfd {} {fd}", helper.pid()))?)?);
        let (pid, id) = (client.pid(), world.id);
        let event = world.event(|event| event.event == KernelEvent::Severed && event.pid == pid)?;
        ensure!(event.cgroup == id && event.destination == sink.tcp4.local_addr()?.to_string(), "{event:?}");
    }
    show("pidfd_getfd", windows)
}

fn entering() -> Result<()> {
    let (world, mut sink) = (World::new()?, Sink::new()?);
    world.enrol(ENFORCE)?;
    let (mut helper, socket) = helper(&world, &mut sink, "tcp")?;
    helper.ok(&format!("send {socket}"))?;
    let start = Instant::now();
    helper.ok(&format!("move {}", world.inside.display()))?;
    // Until it cannot any more.
    crate::world::soon("the connection is cut off", || helper.ok(&format!("send {socket}")).is_err())?;
    show("entering the cgroup", vec![start.elapsed()])
}

fn inherited_listener() -> Result<()> {
    let (mut world, _sink) = (World::new()?, Sink::new()?);
    world.enrol(ENFORCE)?;
    let (mut helper, mut client) = (world.client(&world.outside)?, world.client(&world.inside)?);
    let said = helper.ok("listen 127.0.0.1:0")?;
    let (listener, address) = said.split_once(' ').unwrap_or_default();
    let listener = hand_over(&mut helper, listener, &mut client, &world.config.pins)?;
    let _stream = TcpStream::connect(address)?;
    let accepted = client.ok(&format!("accept {listener}"))?;
    let swept = world.warden()?.sweep()?;
    ensure!(swept.destroyed.is_empty() && swept.uncovered.is_empty(), "{swept:?}");
    client.ok(&format!("send {accepted}"))?;
    world.no_event(|_| false)
}

fn raw_socket() -> Result<()> {
    for (family, kind, protocol) in [(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP), (libc::AF_PACKET, 3, 0)] {
        let mut world = World::new()?;
        world.enrol(ENFORCE)?;
        let (mut helper, mut client) = (world.client(&world.outside)?, world.client(&world.inside)?);
        let raw = helper.ok(&format!("socket {family} {kind} {protocol}"))?;
        // It may be ended before it can say that it has it.
        let _ended = hand_over(&mut helper, &raw, &mut client, &world.config.pins);
        client.dies()?;
        let (pid, id) = (client.pid(), world.id);
        let event = world.event(|event| event.event == KernelEvent::Family)?;
        ensure!(event.pid == pid && event.cgroup == id && event.family == family.cast_unsigned(), "{event:?}");
        helper.ok("pid")?;
    }
    Ok(())
}

fn observes() -> Result<()> {
    let (mut world, mut sink) = (World::new()?, Sink::new()?);
    world.enrol(OBSERVE)?;
    let (mut helper, socket) = helper(&world, &mut sink, "tcp")?;
    let mut client = world.client(&world.inside)?;
    let socket = hand_over(&mut helper, &socket, &mut client, &world.config.pins)?;
    let pid = client.pid();
    let event = world.event(|event| event.event == KernelEvent::Severed)?;
    ensure!(event.observed && event.pid == pid && !is_severed(&world, &event, pid), "{event:?}");
    world.no_event(|_| false)?;
    client.ok(&format!("send {socket}"))?;
    Ok(())
}
