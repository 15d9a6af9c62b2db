//! DNS over UDP goes to us, whichever resolver is asked; the workload sees that one answer.

use std::net::UdpSocket;

use anyhow::{Context as _, Result, ensure};
use callgate_harness::{Netns, Place};
use callgate_model::Mode;
use callgate_redirect::{NetnsRef, Refusal};

use crate::Case;
use crate::world::{Client, Proxy, World, field, nothing_pending, said};

pub const CASES: &[Case] = &[
    ("dns_comes_to_us_whichever_resolver_is_asked", dns_comes_to_us_whichever_resolver_is_asked),
    ("dns_of_bound_sockets_comes_to_us", dns_of_bound_sockets_comes_to_us),
    ("dns_senders_are_never_swapped", dns_senders_are_never_swapped),
    ("dns_in_two_namespaces_is_told_apart", dns_in_two_namespaces_is_told_apart),
    ("a_socket_that_asked_sends_nothing_else", a_socket_that_asked_sends_nothing_else),
    ("a_stranger_who_asks_us_is_nobody", a_stranger_who_asks_us_is_nobody),
    ("whoever_binds_our_dns_port_hears_nothing", whoever_binds_our_dns_port_hears_nothing),
    ("dns_of_a_stale_agent_is_refused", dns_of_a_stale_agent_is_refused),
];

const TO: &str = "192.0.2.53:53";

fn dns_comes_to_us_whichever_resolver_is_asked() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let mut asked = 0;
    for (to, known_as) in [
        (TO, TO),
        ("[2001:db8::53]:53", "[2001:db8::53]:53"),
        ("[::ffff:192.0.2.53]:53", TO),
        ("127.0.0.53:53", "127.0.0.53:53"),
        ("[::1]:53", "[::1]:53"),
    ] {
        for how in ["connected", "unconnected"] {
            let line = client.ok(&format!("dns {how} {to}"))?;
            ensure!(said(&line)? == known_as, "{how} {to}: {line}");
            ensure!(field(&line, "from")? == to, "{how} {to}: {line}");
            ensure!(field(&line, "peer")? == if how == "connected" { to } else { "none" }, "{how} {to}: {line}");
            for (key, value) in [("pid", u64::from(client.pid())), ("enrolled", world.cgroup.id()?)] {
                ensure!(field(&line, key)? == value.to_string(), "{key} is not {value}: {line}");
            }
            asked += 1;
        }
    }
    let stats = world.redirect.stats();
    ensure!(stats.dns == asked && stats.contested == 0, "{stats:?}");
    ensure!(stats.refused.iter().all(|(_, count)| *count == 0), "{stats:?}");
    nothing_pending(&world.redirect)
}

fn dns_of_bound_sockets_comes_to_us() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    for how in ["connected", "unconnected"] {
        for from in ["127.0.0.9:0", "0.0.0.0:0"] {
            let line = client.ok(&format!("dns-bound {from} {how} {TO}"))?;
            ensure!(said(&line)? == TO && field(&line, "from")? == TO, "{from} {how}: {line}");
        }
    }
    // Tied to a device, connect() unties it; sendmsg() is too late for its own datagram, which is not let out there.
    let line = client.ok(&format!("dns-device eth0 connected {TO}"))?;
    ensure!(said(&line)? == TO && field(&line, "first")? == "0", "{line}");
    let line = client.ok(&format!("dns-device eth0 unconnected {TO}"))?;
    ensure!(said(&line)? == TO && field(&line, "first")? == Refusal::Egress.errno().to_string(), "{line}");
    nothing_pending(&world.redirect)
}

fn dns_senders_are_never_swapped() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let line = client.ok(&format!("dns-churn 4000 8 {TO} [2001:db8::53]:53"))?;
    ensure!(line.starts_with("0 wrong"), "{line}");
    nothing_pending(&world.redirect)
}

fn dns_in_two_namespaces_is_told_apart() -> Result<()> {
    let world = World::new()?;
    world.redirect.enrol(world.cgroup.path(), Mode::Enforce)?;
    let mut kept = Vec::new();
    for label in ["a", "b"] {
        let netns = Netns::new(label)?;
        let mut client = Client::start(&Place::here().cgroup(&world.cgroup).netns(&netns))?;
        client.refused(&format!("dns unconnected {TO}"), Refusal::NoListener.errno())?;
        let proxy = Proxy::start(&world.redirect, &NetnsRef::at(&netns.path())?)?;
        let line = client.ok(&format!("dns-bound 127.0.0.1:20053 unconnected {TO}"))?;
        ensure!(field(&line, "netns")? == proxy.netns.0.to_string() && said(&line)? == TO, "{line}");
        kept.push((proxy, client, netns));
    }
    ensure!(kept[0].0.netns != kept[1].0.netns);
    Ok(())
}

fn a_socket_that_asked_sends_nothing_else() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    for other in ["198.51.100.7:443", "127.0.0.1:54"] {
        client.refused(&format!("dns-then {TO} {other}"), Refusal::Udp.errno())?;
    }
    // Ours by its own address is asked like any other, by a socket that asks; it is no way to anything else.
    let ours = world.proxy.dns.first().context("no socket for DNS")?;
    client.ok(&format!("dns-then {TO} {ours}"))?;
    client.refused(&format!("udp {ours}"), Refusal::Udp.errno())
}

fn a_stranger_who_asks_us_is_nobody() -> Result<()> {
    let (world, _client) = World::enrolled(Mode::Enforce)?;
    let mut outside = Client::start(&Place::here())?;
    for ours in &world.proxy.dns {
        let line = outside.ok(&format!("dns unconnected {ours}"))?;
        ensure!(said(&line)? == "none", "{line}");
    }
    Ok(())
}

fn whoever_binds_our_dns_port_hears_nothing() -> Result<()> {
    let World { heart, proxy, redirect, config: _, cgroup, bpffs: _bpffs } = World::new()?;
    redirect.enrol(cgroup.path(), Mode::Enforce)?;
    let mut client = Client::start(&Place::here().cgroup(&cgroup))?;
    client.ok(&format!("dns-keep {TO}"))?;
    // Our socket is gone, the map still names its port.
    let (ours, _registered) = (*proxy.dns.first().context("no socket for DNS")?, proxy.sockets.clone());
    drop(proxy);
    let thief = UdpSocket::bind(ours)?;
    thief.set_nonblocking(true)?;
    client.refused("kept-send", Refusal::Egress.errno())?;
    client.refused(&format!("dns unconnected {TO}"), Refusal::NoListener.errno())?;
    client.refused(&format!("dns connected {TO}"), Refusal::NoListener.errno())?;
    ensure!(thief.recv_from(&mut [0; 64]).is_err(), "the thief was sent a question");
    drop((heart, redirect));
    Ok(())
}

fn dns_of_a_stale_agent_is_refused() -> Result<()> {
    let world = World::with(|config| config.stale_after = std::time::Duration::from_millis(500))?;
    let mut client = world.enrol_and_start(Mode::Enforce)?;
    world.heart.rest(true);
    let stale = format!("errno {}", Refusal::Stale.errno());
    callgate_harness::eventually("a stale agent", std::time::Duration::from_secs(10), || {
        client.ask(&format!("dns unconnected {TO}")).is_ok_and(|answer| answer == stale).then_some(())
    })?;
    client.refused(&format!("dns connected {TO}"), Refusal::Stale.errno())
}
