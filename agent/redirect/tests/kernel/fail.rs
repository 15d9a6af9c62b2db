//! What an enrolment says of the time without a living agent: refused, past the gate, or past it and told one by one.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_harness::{Canary, CanaryConfig, Hit, Netns, Place, eventually};
use callgate_model::{CgroupId, FailMode, KernelEvent, Mode};
use callgate_redirect::{NetnsRef, PastTheGate, Refusal};

use crate::Case;
use crate::refusals::denials;
use crate::world::{Client, Proxy, World, said};

pub const CASES: &[Case] = &[
    ("failing_open_lets_tcp_by_while_stale_and_tells", failing_open_lets_tcp_by_while_stale_and_tells),
    ("failing_open_lets_nothing_else_by", failing_open_lets_nothing_else_by),
    ("failing_open_lets_questions_of_dns_by", failing_open_lets_questions_of_dns_by),
    ("failing_as_observed_tells_each_destination", failing_as_observed_tells_each_destination),
    (
        "a_dead_listener_under_a_fresh_heartbeat_lets_nothing_by",
        a_dead_listener_under_a_fresh_heartbeat_lets_nothing_by,
    ),
    ("the_deepest_enrolment_says_how_it_fails", the_deepest_enrolment_says_how_it_fails),
    ("failing_open_ends_with_the_next_enrolment", failing_open_ends_with_the_next_enrolment),
    ("what_went_past_outlives_the_process", what_went_past_outlives_the_process),
];

const SOON: Duration = Duration::from_secs(5);

/// A world whose heart can be stopped, and its client.
fn failing(fail: FailMode) -> Result<(World, Client)> {
    let world = World::with(|config| config.stale_after = Duration::from_millis(500))?;
    world.redirect.enrol_failing(world.cgroup.path(), Mode::Enforce, fail)?;
    let client = Client::start(&Place::here().cgroup(&world.cgroup))?;
    Ok((world, client))
}

fn here() -> Result<Canary> {
    Canary::start(CanaryConfig::at([127, 0, 0, 1]))
}

/// Connections that arrived past the gate: our proxy does not dial.
fn arrived(canary: &Canary) -> u64 {
    canary.hits().iter().filter(|hit| matches!(hit, Hit::Connection { .. })).count() as u64
}

/// That the next connection arrives there.
fn goes_past(client: &mut Client, canary: &Canary) -> Result<()> {
    let before = arrived(canary);
    client.ok(&format!("reach {}", canary.address()))?;
    eventually("the connection", SOON, || (arrived(canary) > before).then_some(()))
}

/// Stops the heart, and waits until connections to `to` go past; how many did.
fn until_past(world: &World, client: &mut Client, to: &str) -> Result<u64> {
    world.heart.rest(true);
    eventually("a connection past the gate", SOON, || {
        let before = world.redirect.stats().past;
        client.ask(&format!("reach {to}")).ok()?;
        (world.redirect.stats().past > before).then_some(())
    })?;
    Ok(world.redirect.stats().past)
}

fn told(world: &World) -> Result<Vec<PastTheGate>> {
    world.heart.rest(false);
    eventually("what went past", SOON, || Some(world.redirect.take_past()).filter(|past| !past.is_empty()))
}

fn failing_open_lets_tcp_by_while_stale_and_tells() -> Result<()> {
    let (world, mut client) = failing(FailMode::Open)?;
    let canary = here()?;
    let to = canary.address().to_string();
    eventually("a connection", SOON, || client.ok(&format!("tcp {to}")).ok())?;
    canary.silent()?;
    let before = world.redirect.stats();
    ensure!(before.past == 0 && world.redirect.take_past().is_empty(), "{before:?}");

    let mut past = until_past(&world, &mut client, &to)?;
    let redirected = world.redirect.stats().redirected;
    // Both families' hooks, and connections whose first packet carries data.
    for how in ["reach", "fastopen-reach"] {
        for to in [to.clone(), format!("[::ffff:127.0.0.1]:{}", canary.address().port())] {
            client.ok(&format!("{how} {to}"))?;
            past += 1;
        }
    }
    // Several connections of one socket are several.
    client.ok(&format!("reach-twice {to} {to}"))?;
    past += 2;
    let stats = world.redirect.stats();
    ensure!(stats.past == past && stats.redirected == redirected, "{past}: {stats:?}");
    ensure!(stats.refused(Refusal::Egress) == 0, "{stats:?}");
    eventually("every connection is there", SOON, || (arrived(&canary) >= past).then_some(()))?;
    ensure!(arrived(&canary) == past, "{} arrived of {past}", arrived(&canary));
    ensure!(world.redirect.take_past().is_empty(), "taken while they are counted");

    let told = told(&world)?;
    ensure!(told.len() == 1 && told[0].cgroup == world.id()? && told[0].connections == past, "{told:?}");
    ensure!(told[0].first <= told[0].last && told[0].last.elapsed()? < Duration::from_secs(60), "{told:?}");
    ensure!(world.redirect.take_past().is_empty(), "told twice");
    // Through the gate again, without a new enrolment.
    let line = client.ok(&format!("tcp {to}"))?;
    ensure!(said(&line)? == to && world.redirect.stats().past == past, "{line}");
    // No event for each: that is what `observe` is for. The probes before it was stale may have been refused.
    client.refused("udp 198.51.100.7:443", Refusal::Udp.errno())?;
    let events = denials(&world.redirect, 1)?;
    ensure!(events.iter().all(|event| !event.observed), "{events:?}");
    Ok(())
}

fn failing_open_lets_nothing_else_by() -> Result<()> {
    let (world, mut client) = failing(FailMode::Open)?;
    let canary = here()?;
    let to = canary.address().to_string();
    client.ok("keep 2 2")?;
    until_past(&world, &mut client, &to)?;
    client.refused(&format!("udp {to}"), Refusal::Udp.errno())?;
    client.refused(&format!("udp-connect {to}"), Refusal::Udp.errno())?;
    client.refused(&format!("kept-connect {to}"), Refusal::Udp.errno())?;
    for kind in ["socket 2 3 1", "socket 2 1 262"] {
        client.refused(kind, Refusal::Protocol.errno())?;
    }
    let own = world.proxy.addresses[0];
    client.refused(&format!("reach {own}"), Refusal::OwnPort.errno())?;
    ensure!(!canary.hits().iter().any(|hit| matches!(hit, Hit::Datagram { .. })), "{:?}", canary.hits());
    Ok(())
}

fn failing_as_observed_tells_each_destination() -> Result<()> {
    let (world, mut client) = failing(FailMode::Observe)?;
    let canaries = [here()?, here()?];
    let to = canaries.each_ref().map(|canary| canary.address().to_string());
    let mut past = until_past(&world, &mut client, &to[0])?;
    client.ok(&format!("reach {}", to[1]))?;
    past += 1;
    let events = denials(&world.redirect, usize::try_from(past)?)?;
    let seen: Vec<_> = events.iter().filter(|event| event.observed).collect();
    ensure!(seen.len() as u64 == past, "{past}: {events:?}");
    let pid: u32 = client.ok("pid")?.parse()?;
    for event in &seen {
        ensure!(event.event == KernelEvent::Stale && event.pid == pid && event.protocol == 6, "{event:?}");
        ensure!(event.cgroup == world.id()? && to.contains(&event.destination), "{event:?}");
    }
    ensure!(seen.last().is_some_and(|event| event.destination == to[1]), "{seen:?}");
    let told = told(&world)?;
    ensure!(told[0].connections == past, "{told:?}");
    Ok(())
}

fn a_dead_listener_under_a_fresh_heartbeat_lets_nothing_by() -> Result<()> {
    let (world, mut client) = failing(FailMode::Open)?;
    let canary = here()?;
    let World { heart, proxy, redirect, .. } = world;
    let _registered = proxy.sockets.clone();
    drop(proxy);
    client.refused(&format!("reach {}", canary.address()), Refusal::NoListener.errno())?;
    canary.silent()?;
    ensure!(redirect.stats().past == 0);
    drop(heart);
    Ok(())
}

fn the_deepest_enrolment_says_how_it_fails() -> Result<()> {
    let (world, mut outer) = failing(FailMode::Closed)?;
    let child = world.cgroup.child("open")?;
    world.redirect.enrol_failing(&child, Mode::Enforce, FailMode::Open)?;
    let mut inner = Client::start(&Place::here().cgroup_path(&child))?;
    let canary = here()?;
    let to = canary.address().to_string();
    let past = until_past(&world, &mut inner, &to)?;
    goes_past(&mut inner, &canary)?;
    outer.refused(&format!("reach {to}"), Refusal::Stale.errno())?;
    let told = told(&world)?;
    // Once, although the programs of both cgroups run.
    let id = CgroupId(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&child)?));
    ensure!(told.len() == 1 && told[0].cgroup == id && told[0].connections == past + 1, "{told:?}");
    Ok(())
}

fn failing_open_ends_with_the_next_enrolment() -> Result<()> {
    let (world, mut client) = failing(FailMode::Open)?;
    let canary = here()?;
    let to = canary.address().to_string();
    let past = until_past(&world, &mut client, &to)?;
    world.redirect.enrol(world.cgroup.path(), Mode::Enforce)?;
    client.refused(&format!("reach {to}"), Refusal::Stale.errno())?;
    ensure!(world.redirect.stats().past == past);
    Ok(())
}

fn what_went_past_outlives_the_process() -> Result<()> {
    let (world, mut client) = failing(FailMode::Open)?;
    let canary = here()?;
    let to = canary.address().to_string();
    let past = until_past(&world, &mut client, &to)?;
    let World { heart, proxy, redirect, config, cgroup, bpffs } = world;
    drop((heart, proxy));
    drop(std::sync::Arc::try_unwrap(redirect).ok().context("still shared")?);
    goes_past(&mut client, &canary).context("with no process at all")?;
    let redirect = callgate_redirect::Redirect::load(&config)?;
    goes_past(&mut client, &canary).context("before the first beat of the next process")?;
    redirect.beat()?;
    let told = redirect.take_past();
    ensure!(told.len() == 1 && told[0].connections == past + 2, "{past}: {told:?}");
    drop((redirect, cgroup, bpffs));
    Ok(())
}

fn failing_open_lets_questions_of_dns_by() -> Result<()> {
    let (world, mut client) = failing(FailMode::Open)?;
    let netns = Netns::new("resolver")?;
    let resolver = netns.enter(|| UdpSocket::bind("127.0.0.53:53"))??;
    resolver.set_read_timeout(Some(SOON * 4))?;
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = resolver.recv_from(&mut buffer) {
            let _gone = resolver.send_to(b"itself", peer);
        }
    });
    let _proxy = Proxy::start(&world.redirect, &NetnsRef::at(&netns.path())?)?;
    let mut there = Client::start(&Place::here().cgroup(&world.cgroup).netns(&netns))?;
    let to = "127.0.0.53:53";
    ensure!(said(&there.ok(&format!("dns connected {to}"))?)? == to, "not ours");

    let canary = here()?;
    until_past(&world, &mut client, &canary.address().to_string())?;
    for how in ["connected", "unconnected"] {
        let line = there.ok(&format!("dns {how} {to}"))?;
        ensure!(said(&line)? == "itself", "{how}: {line}");
    }
    there.refused("dns connected 127.0.0.53:54", Refusal::Udp.errno())?;
    there.ok("keep 2 2")?;
    there.ok(&format!("kept-connect {to}"))?;
    there.ok("kept-send")?;
    let told = told(&world)?;
    ensure!(told.len() == 1 && told[0].questions == 3, "{told:?}");
    // A socket that was connected meanwhile is no way past the agent that is back; a new one asks us.
    there.refused("kept-send", Refusal::Egress.errno())?;
    ensure!(said(&there.ok(&format!("dns connected {to}"))?)? == to, "not ours again");
    Ok(())
}
