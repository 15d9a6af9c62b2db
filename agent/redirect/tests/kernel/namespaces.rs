//! Network namespaces: a listener in each, and the same address in two of them told apart.

use std::time::Duration;

use anyhow::{Result, ensure};
use callgate_harness::{Canary, CanaryConfig, Netns, Place};
use callgate_model::{KernelEvent, Mode};
use callgate_redirect::{NetnsRef, Refusal};

use crate::Case;
use crate::refusals::denials;
use crate::world::{Client, Proxy, World, field, said};

pub const CASES: &[Case] = &[
    ("a_namespace_without_listener_is_refused", a_namespace_without_listener_is_refused),
    ("the_same_address_in_two_namespaces_is_told_apart", the_same_address_in_two_namespaces_is_told_apart),
    ("upstream_sockets_start_in_the_namespace", upstream_sockets_start_in_the_namespace),
];

fn a_namespace_without_listener_is_refused() -> Result<()> {
    let (world, mut here) = World::enrolled(Mode::Enforce)?;
    let netns = Netns::new("none")?;
    let mut there = Client::start(&Place::here().cgroup(&world.cgroup).netns(&netns))?;
    // As after `unshare --net` in a workload: no way out, and said so, with the namespace and the process.
    there.refused("tcp 198.51.100.7:80", Refusal::NoListener.errno())?;
    let told = denials(&world.redirect, 1)?;
    let cookie = NetnsRef::at(&netns.path())?.cookie()?;
    ensure!(told.len() == 1 && told[0].event == KernelEvent::NoListener && !told[0].observed, "{told:?}");
    ensure!(told[0].netns == cookie && told[0].pid == there.pid() && told[0].cgroup == world.id()?, "{told:?}");
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
