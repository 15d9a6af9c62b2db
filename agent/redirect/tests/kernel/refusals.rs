//! What is not redirected is refused, each cause with its errno and its event.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_harness::{Canary, CanaryConfig, Place, TestCgroup, eventually};
use callgate_model::{KernelDenial, KernelEvent, Mode};
use callgate_redirect::{Redirect, Refusal};

use crate::Case;
use crate::world::{Client, World, said};

pub const CASES: &[Case] = &[
    ("refuses_udp_in_every_form", refuses_udp_in_every_form),
    ("refuses_dns_over_tls", refuses_dns_over_tls),
    ("refuses_every_protocol_but_tcp_and_udp", refuses_every_protocol_but_tcp_and_udp),
    ("refuses_our_own_port", refuses_our_own_port),
    ("refuses_a_task_that_left_the_cgroup", refuses_a_task_that_left_the_cgroup),
    ("drops_packets_of_sockets_older_than_the_enrolment", drops_packets_of_sockets_older_than_the_enrolment),
    ("drops_the_syn_of_what_was_not_redirected", drops_the_syn_of_what_was_not_redirected),
    ("observe_lets_through_and_reports", observe_lets_through_and_reports),
    ("a_flood_of_refusals_is_bounded_and_counted", a_flood_of_refusals_is_bounded_and_counted),
];

fn refuses_udp_in_every_form() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let canary = Canary::start(CanaryConfig::at([127, 0, 0, 1]))?;
    let port = canary.address().port();
    let errno = Refusal::Udp.errno();
    let mut attempts = 0;
    for to in [format!("127.0.0.1:{port}"), format!("[::ffff:127.0.0.1]:{port}"), format!("[::1]:{port}")] {
        client.refused(&format!("udp {to}"), errno)?;
        client.refused(&format!("udp-connect {to}"), errno)?;
        attempts += 2;
    }
    // QUIC, at once: clients fall back to TCP; and DNS over QUIC.
    for to in ["198.51.100.7:443", "[2001:db8::7]:443", "198.51.100.7:853"] {
        client.refused(&format!("udp {to}"), errno)?;
        client.refused(&format!("udp-connect {to}"), errno)?;
        attempts += 2;
    }
    canary.silent()?;
    let reported = denials(&world.redirect, attempts)?;
    let first = &reported[0];
    ensure!(reported.iter().all(|denial| denial.event == KernelEvent::Udp && !denial.observed), "{reported:?}");
    ensure!(first.destination == format!("127.0.0.1:{port}"), "{first:?}");
    ensure!((first.cgroup, first.pid, first.uid) == (world.id()?, client.pid(), 0), "{first:?}");
    ensure!((first.family, first.socket_type, first.protocol) == (2, 2, 17), "{first:?}");
    ensure!(first.netns == world.proxy.netns, "{first:?}");
    ensure!(world.redirect.stats().refused(Refusal::Udp) == attempts as u64);
    Ok(())
}

fn refuses_dns_over_tls() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let all = ["198.51.100.7:853", "[2001:db8::7]:853", "[::ffff:198.51.100.7]:853"];
    for to in all {
        client.refused(&format!("tcp {to}"), Refusal::Dot.errno())?;
    }
    let reported = denials(&world.redirect, all.len())?;
    ensure!(reported.iter().all(|denial| denial.event == KernelEvent::Dot && !denial.observed), "{reported:?}");
    ensure!(reported[0].destination == all[0] && world.redirect.stats().redirected == 0, "{reported:?}");
    // What is only observed goes on, and is reported.
    world.redirect.enrol(world.cgroup.path(), Mode::Observe)?;
    ensure!(said(&client.ok(&format!("tcp {}", all[0]))?)? == all[0]);
    let reported = denials(&world.redirect, 1)?;
    ensure!(reported[0].event == KernelEvent::Dot && reported[0].observed, "{reported:?}");
    Ok(())
}

fn refuses_every_protocol_but_tcp_and_udp() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let mut outside = Client::start(&Place::here())?;
    let mut refused = 0;
    for domain in [2, 10] {
        client.ok(&format!("socket {domain} 1 6"))?;
        client.ok(&format!("socket {domain} 1 0"))?;
        client.ok(&format!("socket {domain} 2 17"))?;
        // MPTCP, SCTP (both styles), UDP-Lite, ping, raw ICMP, raw everything, DCCP.
        for rest in ["1 262", "1 132", "5 132", "2 136", "2 1", "3 1", "3 255", "6 33"] {
            let command = format!("socket {domain} {rest}");
            if outside.ask(&command)?.starts_with("ok") {
                client.refused(&command, Refusal::Protocol.errno())?;
                refused += 1;
            } else {
                // Not in this kernel: no hook runs, and nothing is to be refused.
                ensure!(client.ask(&command)?.starts_with("errno"), "{command}");
            }
        }
    }
    ensure!(refused >= 4, "only {refused} protocols of this kernel could be tried");
    let reported = denials(&world.redirect, refused)?;
    ensure!(reported.iter().all(|denial| denial.event == KernelEvent::Protocol), "{reported:?}");
    ensure!(reported.iter().all(|denial| denial.destination.is_empty()), "{reported:?}");
    Ok(())
}

fn refuses_our_own_port() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let mut attempts = 0;
    for port in world.proxy.addresses.iter().map(|address| address.port()) {
        for host in ["127.0.0.1", "127.0.0.2", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]"] {
            client.refused(&format!("tcp {host}:{port}"), Refusal::OwnPort.errno())?;
            attempts += 1;
        }
        // A connection that was redirected once does not open the door for its socket.
        client.refused(&format!("twice 198.51.100.7:80 127.0.0.1:{port}"), Refusal::OwnPort.errno())?;
        attempts += 1;
        // The port of another host is none of ours.
        let line = client.ok(&format!("tcp 198.51.100.7:{port}"))?;
        ensure!(said(&line)? == format!("198.51.100.7:{port}"), "{line}");
    }
    let reported = denials(&world.redirect, attempts)?;
    ensure!(reported.iter().all(|denial| denial.event == KernelEvent::OwnPort), "{reported:?}");
    Ok(())
}

fn refuses_a_task_that_left_the_cgroup() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let canary = Canary::start(CanaryConfig::at([127, 0, 0, 1]))?;
    let elsewhere = TestCgroup::new("elsewhere")?;
    for kind in [1, 2] {
        client.ok(&format!("move {}", world.cgroup.path().display()))?;
        client.ok(&format!("keep 2 {kind}"))?;
        client.ok(&format!("move {}", elsewhere.path().display()))?;
        client.refused(&format!("kept-connect {}", canary.address()), Refusal::Foreign.errno())?;
    }
    canary.silent()?;
    let reported = denials(&world.redirect, 2)?;
    ensure!(reported.iter().all(|denial| denial.event == KernelEvent::Foreign && denial.cgroup.0 == 0), "{reported:?}");
    Ok(())
}

fn drops_packets_of_sockets_older_than_the_enrolment() -> Result<()> {
    let world = World::new()?;
    let canary = Canary::start(CanaryConfig::at([127, 0, 0, 1]))?;
    let mut client = Client::start(&Place::here().cgroup(&world.cgroup))?;
    client.ok("keep 2 2")?;
    client.ok(&format!("kept-connect {}", canary.address()))?;
    world.redirect.enrol(world.cgroup.path(), Mode::Enforce)?;
    client.refused("kept-send", Refusal::Egress.errno())?;
    canary.silent()?;
    let reported = denials(&world.redirect, 1)?;
    ensure!(reported[0].event == KernelEvent::Egress, "{reported:?}");
    ensure!(reported[0].destination == canary.address().to_string(), "{reported:?}");
    ensure!(reported[0].cgroup == world.id()?, "{reported:?}");
    Ok(())
}

/// As if some way to connect went around the connect hooks: their links are taken away, egress is left.
fn drops_the_syn_of_what_was_not_redirected() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let canaries = [
        Canary::start(CanaryConfig::at([127, 0, 0, 1]))?,
        Canary::start(CanaryConfig::at(std::net::Ipv6Addr::LOCALHOST))?,
    ];
    for name in ["connect4", "connect6"] {
        std::fs::remove_file(world.links(world.id()?).join(name))?;
    }
    for canary in &canaries {
        // Removing a pin detaches some time later; until then the connection is redirected.
        eventually("the link goes", Duration::from_secs(5), || {
            client
                .ask(&format!("brief {}", canary.address()))
                .is_ok_and(|answer| answer.starts_with("errno"))
                .then_some(())
        })?;
        canary.silent()?;
    }
    let reported = denials(&world.redirect, 2)?;
    ensure!(reported.iter().all(|denial| denial.event == KernelEvent::Egress && denial.protocol == 6), "{reported:?}");
    ensure!(reported[0].destination == canaries[0].address().to_string(), "{reported:?}");
    Ok(())
}

fn observe_lets_through_and_reports() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Observe)?;
    let canary = Canary::start(CanaryConfig::at([127, 0, 0, 1]))?;
    client.ok(&format!("udp {}", canary.address()))?;
    client.ok("socket 2 3 1")?;
    eventually("the datagram arrives", Duration::from_secs(5), || (!canary.hits().is_empty()).then_some(()))?;
    let line = client.ok("tcp 198.51.100.7:80")?;
    ensure!(said(&line)? == "198.51.100.7:80", "{line}");

    let reported = denials(&world.redirect, 2)?;
    let events: Vec<KernelEvent> = reported.iter().map(|denial| denial.event).collect();
    ensure!(events == [KernelEvent::Udp, KernelEvent::Protocol], "{reported:?}");
    ensure!(reported.iter().all(|denial| denial.observed && denial.cgroup.0 != 0), "{reported:?}");
    ensure!(world.redirect.stats().observed == 2, "{:?}", world.redirect.stats());

    // A connected socket is reported once, not with each of its datagrams.
    client.ok("keep 2 2")?;
    client.ok(&format!("kept-connect {}", canary.address()))?;
    client.ok("kept-send")?;
    client.ok("kept-send")?;
    ensure!(world.redirect.stats().observed == 3, "{:?}", world.redirect.stats());

    // Enforcing from now on, without a new enrolment in between; sockets that were let through lose that too.
    world.redirect.enrol(world.cgroup.path(), Mode::Enforce)?;
    client.refused("kept-send", Refusal::Egress.errno())?;
    client.refused(&format!("udp {}", canary.address()), Refusal::Udp.errno())
}

fn a_flood_of_refusals_is_bounded_and_counted() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    for _ in 0..3_000 {
        client.tell("udp 198.51.100.7:443")?;
    }
    client.refused("udp 198.51.100.7:443", Refusal::Udp.errno())?;
    let stats = world.redirect.stats();
    ensure!(stats.refused(Refusal::Udp) == 3_001, "{stats:?}");
    let read = denials(&world.redirect, 1)?.len() as u64;
    ensure!(read + stats.events_lost == 3_001, "{read} read, {stats:?}");
    Ok(())
}

/// At least `wanted` events, and whatever else is there.
pub fn denials(redirect: &Redirect, wanted: usize) -> Result<Vec<KernelDenial>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut events = redirect.events()?;
        let mut read = Vec::new();
        loop {
            let patience = Duration::from_millis(if read.len() < wanted { 5_000 } else { 20 });
            match tokio::time::timeout(patience, events.next()).await {
                Ok(denial) => read.push(denial?),
                Err(_) if read.len() < wanted => {
                    return Err(anyhow::anyhow!("{read:?}")).context(format!("{} of {wanted} events", read.len()));
                }
                Err(_) => return Ok(read),
            }
        }
    })
}
