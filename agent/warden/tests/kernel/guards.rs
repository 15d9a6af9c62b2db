//! Sockets of another cgroup that are not connected yet: the guard by task.

use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, ensure};
use callgate_model::KernelEvent;

use crate::Case;
use crate::severs::hand_over;
use crate::world::{Client, ENFORCE, EXEMPT, OBSERVE, STRICT, Sink, World};

pub const CASES: &[Case] = &[
    ("a_task_that_enters_with_a_socket_gets_nowhere", entering),
    ("a_socket_that_is_handed_in_gets_nowhere", handed_in),
    ("a_socket_of_the_tasks_own_cgroup_is_not_the_guards_affair", own_sockets),
    ("tasks_that_are_not_enrolled_are_left_alone", not_enrolled),
    ("what_strict_mode_leaves_alone_is_not_enrolled", exempt),
    ("in_observe_mode_it_reports_and_lets_pass", observes),
];

struct Way {
    socket: String,
    command: String,
    to: String,
}

/// An unconnected socket for each way out.
fn ways(client: &mut Client, sink: &Sink) -> Result<Vec<Way>> {
    let (tcp4, tcp6) = (sink.tcp4.local_addr()?, sink.tcp6.local_addr()?);
    let (udp4, udp6) = (sink.udp4.local_addr()?, sink.udp6.local_addr()?);
    let mut ways = Vec::new();
    for (command, kind, to) in [
        ("connect", "tcp", tcp4.to_string()),
        ("connect", "tcp", tcp6.to_string()),
        ("connect", "tcp", Sink::mapped(tcp4)),
        ("connect", "udp", udp4.to_string()),
        ("connect", "udp", udp6.to_string()),
        ("connect", "udp", Sink::mapped(udp4)),
        ("sendto", "udp", udp4.to_string()),
        ("sendto", "udp", udp6.to_string()),
        ("sendto", "udp", Sink::mapped(udp4)),
    ] {
        let socket = client.ok(&format!("made {kind} {to}"))?;
        ways.push(Way { socket, command: command.into(), to });
    }
    Ok(ways)
}

fn nothing_arrived(sink: &Sink) -> Result<()> {
    sink.tcp4.set_nonblocking(true)?;
    sink.tcp6.set_nonblocking(true)?;
    sink.udp4.set_nonblocking(true)?;
    sink.udp6.set_nonblocking(true)?;
    ensure!(sink.tcp4.accept().is_err() && sink.tcp6.accept().is_err(), "a connection came through");
    ensure!(sink.udp4.recv(&mut [0]).is_err() && sink.udp6.recv(&mut [0]).is_err(), "a datagram came through");
    Ok(())
}

fn entering() -> Result<()> {
    let (mut world, sink) = (World::new()?, Sink::new()?);
    world.enrol(ENFORCE)?;
    let mut client = world.client(&world.outside)?;
    let ways = ways(&mut client, &sink)?;
    client.ok(&format!("move {}", world.inside.display()))?;
    for Way { socket, command, to } in &ways {
        client.refused(&format!("{command} {socket} {to}"), libc::EPERM)?;
        let (pid, shown) = (client.pid(), to.replace("::ffff:", "").replace("[127.0.0.1]", "127.0.0.1"));
        let event = world.event(|event| event.event == KernelEvent::Foreign)?;
        ensure!(event.destination == shown && event.pid == pid && !event.observed, "{event:?}, sent to {to}");
        ensure!(event.cgroup == world.id && event.netns.0 != 0, "{event:?}");
    }
    nothing_arrived(&sink)
}

fn handed_in() -> Result<()> {
    let (world, sink) = (World::new()?, Sink::new()?);
    world.enrol(ENFORCE)?;
    let mut helper = world.client(&world.outside)?;
    let mut client = world.client(&world.inside)?;
    for Way { socket, command, to } in ways(&mut helper, &sink)? {
        let received = hand_over(&mut helper, &socket, &mut client, &world.config.pins)?;
        client.refused(&format!("{command} {received} {to}"), libc::EPERM)?;
    }
    nothing_arrived(&sink)
}

fn exempt() -> Result<()> {
    let (world, sink) = (World::new()?, Sink::new()?);
    world.enrol(ENFORCE)?;
    let root = world.outside.parent().context("a cgroup has one above it")?;
    world.tell(std::fs::metadata(root)?.ino(), STRICT)?;
    world.tell(std::fs::metadata(&world.outside)?.ino(), EXEMPT)?;
    let mut helper = world.client(&world.outside)?;
    let mut client = world.client(&world.inside)?;
    // Its sockets are no way out for whoever is enrolled.
    for Way { socket, command, to } in ways(&mut helper, &sink)? {
        let received = hand_over(&mut helper, &socket, &mut client, &world.config.pins)?;
        client.refused(&format!("{command} {received} {to}"), libc::EPERM)?;
    }
    nothing_arrived(&sink)?;
    // And it may ask for what an enrolled task may not: AF_PACKET, and netlink of the firewall.
    for ask in ["socket 17 3 0", "socket 16 3 12"] {
        helper.ok(ask)?;
    }
    Ok(())
}

fn own_sockets() -> Result<()> {
    let (mut world, sink) = (World::new()?, Sink::new()?);
    world.enrol(ENFORCE)?;
    let below = world.inside.join("below");
    std::fs::create_dir(&below)?;
    for cgroup in [world.inside.clone(), below] {
        let mut client = world.client(&cgroup)?;
        for Way { socket, command, to } in ways(&mut client, &sink)? {
            client.ok(&format!("{command} {socket} {to}"))?;
        }
    }
    world.no_event(|_| false)
}

fn not_enrolled() -> Result<()> {
    let (mut world, sink) = (World::new()?, Sink::new()?);
    world.enrol(ENFORCE)?;
    let (mut first, mut second) = (world.client(&world.outside)?, world.client(&world.outside)?);
    for Way { socket, command, to } in ways(&mut first, &sink)? {
        let received = hand_over(&mut first, &socket, &mut second, &world.config.pins)?;
        second.ok(&format!("{command} {received} {to}"))?;
    }
    world.no_event(|_| false)
}

fn observes() -> Result<()> {
    let (mut world, sink) = (World::new()?, Sink::new()?);
    world.enrol(OBSERVE)?;
    let mut client = world.client(&world.outside)?;
    let ways = ways(&mut client, &sink)?;
    client.ok(&format!("move {}", world.inside.display()))?;
    for Way { socket, command, to } in &ways {
        client.ok(&format!("{command} {socket} {to}"))?;
        let event = world.event(|event| event.event == KernelEvent::Foreign)?;
        ensure!(event.observed, "{event:?}");
    }
    Ok(())
}
