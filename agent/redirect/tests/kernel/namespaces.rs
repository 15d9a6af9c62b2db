//! Network namespaces: a listener in each, and the same address in two of them told apart.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_harness::{Canary, CanaryConfig, Netns, Place};
use callgate_model::Mode;
use callgate_redirect::{NetnsRef, Refusal};

use crate::Case;
use crate::world::{Client, Proxy, World, field, said};

pub const CASES: &[Case] = &[
    ("a_namespace_without_listener_is_refused", a_namespace_without_listener_is_refused),
    ("the_same_address_in_two_namespaces_is_told_apart", the_same_address_in_two_namespaces_is_told_apart),
    ("upstream_sockets_start_in_the_namespace", upstream_sockets_start_in_the_namespace),
    ("dns_passes_to_the_resolvers_alone", dns_passes_to_the_resolvers_alone),
];

fn a_namespace_without_listener_is_refused() -> Result<()> {
    let (world, mut here) = World::enrolled(Mode::Enforce)?;
    let netns = Netns::new("none")?;
    let mut there = Client::start(&Place::here().cgroup(&world.cgroup).netns(&netns))?;
    there.refused("tcp 198.51.100.7:80", Refusal::NoListener.errno())?;
    here.ok("tcp 198.51.100.7:80")?;

    let proxy = Proxy::start(&world.redirect, &NetnsRef::at(&netns.path())?)?;
    there.ok("tcp 198.51.100.7:80")?;
    // Forgotten with the last of its sockets.
    drop(proxy);
    there.refused("tcp 198.51.100.7:80", Refusal::NoListener.errno())
}

fn the_same_address_in_two_namespaces_is_told_apart() -> Result<()> {
    let world = World::new()?;
    world.redirect.enrol(world.cgroup.path(), Mode::Enforce)?;
    let namespaces = [Netns::new("a")?, Netns::new("b")?];
    let mut cookies = Vec::new();
    let mut kept = Vec::new();
    for (netns, to) in namespaces.iter().zip(["198.51.100.1:1", "198.51.100.2:2"]) {
        let proxy = Proxy::start(&world.redirect, &NetnsRef::at(&netns.path())?)?;
        let mut client = Client::start(&Place::here().cgroup(&world.cgroup).netns(netns))?;
        for source in ["127.0.0.1:20001", "127.0.0.1:20002"] {
            let line = client.ok(&format!("bound {source} {to}"))?;
            ensure!(said(&line)? == to && field(&line, "source")? == source, "{line}");
            ensure!(field(&line, "netns")? == proxy.netns.0.to_string(), "{line}");
        }
        cookies.push(proxy.netns);
        kept.push((proxy, client));
    }
    ensure!(cookies[0] != cookies[1] && !cookies.contains(&world.proxy.netns), "{cookies:?}");
    Ok(())
}

fn upstream_sockets_start_in_the_namespace() -> Result<()> {
    let world = World::new()?;
    let netns = Netns::new("up")?;
    let proxy = Proxy::start(&world.redirect, &NetnsRef::at(&netns.path())?)?;
    let canary = Canary::start(CanaryConfig { netns: Some(netns.path()), ..CanaryConfig::at([127, 0, 0, 1]) })?;
    // Nobody listens on that port here, only there.
    let sockets = proxy.sockets.clone();
    drop(proxy);
    let socket = sockets.tcp(false)?;
    ensure!(socket.nonblocking()?, "blocks");
    socket.set_nonblocking(false)?;
    socket.connect(&canary.address().into())?;
    callgate_harness::eventually("the connection is there", Duration::from_secs(5), || {
        (!canary.hits().is_empty()).then_some(())
    })
}

fn dns_passes_to_the_resolvers_alone() -> Result<()> {
    let netns = Netns::new("dns")?;
    let resolvers = ["127.0.0.53", "::1"];
    let world = World::with(|config| config.resolvers = resolvers.iter().filter_map(|ip| ip.parse().ok()).collect())?;
    let servers = netns.enter(|| -> Result<Vec<UdpSocket>> {
        let at = ["127.0.0.53:53", "[::1]:53", "127.0.0.54:53", "127.0.0.53:54"];
        at.iter().map(|at| UdpSocket::bind(at).with_context(|| (*at).to_owned())).collect()
    })??;
    for server in servers {
        server.set_read_timeout(Some(Duration::from_secs(20)))?;
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = server.recv_from(&mut buffer) {
                let _gone = server.send_to(b"answer", peer);
            }
        });
    }
    world.redirect.enrol(world.cgroup.path(), Mode::Enforce)?;
    let mut client = Client::start(&Place::here().cgroup(&world.cgroup).netns(&netns))?;
    let mut passed = 0;
    for to in ["127.0.0.53:53", "[::1]:53", "[::ffff:127.0.0.53]:53"] {
        for how in ["connected", "unconnected"] {
            let answer = client.ok(&format!("dns {how} {to}"))?;
            ensure!(answer == "answer", "{how} {to}: {answer}");
            passed += 1;
        }
    }
    for to in ["127.0.0.54:53", "127.0.0.53:54", "[::ffff:127.0.0.54]:53"] {
        for how in ["connected", "unconnected"] {
            client.refused(&format!("dns {how} {to}"), Refusal::Udp.errno())?;
        }
    }
    let stats = world.redirect.stats();
    // At least: a datagram of a connected, v4-mapped socket is judged once more when it is sent.
    ensure!(
        stats.dns >= passed && stats.refused(Refusal::Udp) == 6 && stats.refused(Refusal::Egress) == 0,
        "{stats:?}"
    );
    Ok(())
}
