//! TCP goes to the proxy, which knows where it was going and whose it is.

use anyhow::{Result, ensure};
use callgate_harness::{Canary, CanaryConfig, Place};
use callgate_model::Mode;
use callgate_redirect::NetnsRef;

use crate::Case;
use crate::world::{Client, World, field, nothing_pending, said};

pub const CASES: &[Case] = &[
    ("redirects_v4", redirects_v4),
    ("redirects_v6", redirects_v6),
    ("redirects_v4_mapped_as_v4", redirects_v4_mapped_as_v4),
    ("redirects_connections_to_loopback_too", redirects_connections_to_loopback_too),
    ("the_unspecified_address_is_recorded_as_loopback", the_unspecified_address_is_recorded_as_loopback),
    ("knows_who_connected", knows_who_connected),
    ("other_cgroups_are_not_touched", other_cgroups_are_not_touched),
    ("upstream_sockets_of_the_agent_are_not_redirected", upstream_sockets_of_the_agent_are_not_redirected),
];

/// Dials, and checks what the proxy and the application see. `peer`: what getpeername must answer.
fn dial(to: &str, origin: &str, peer: &str) -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let line = client.ok(&format!("tcp {to}"))?;
    ensure!(said(&line)? == origin, "dialled {to}: {line}");
    ensure!(field(&line, "peer")? == peer, "dialled {to}: {line}");
    ensure!(world.redirect.stats().redirected == 1, "{:?}", world.redirect.stats());
    nothing_pending(&world.redirect)
}

fn redirects_v4() -> Result<()> {
    dial("198.51.100.7:80", "198.51.100.7:80", "198.51.100.7:80")
}

fn redirects_v6() -> Result<()> {
    dial("[2001:db8::7]:443", "[2001:db8::7]:443", "[2001:db8::7]:443")
}

fn redirects_v4_mapped_as_v4() -> Result<()> {
    dial("[::ffff:198.51.100.7]:8080", "198.51.100.7:8080", "[::ffff:198.51.100.7]:8080")
}

fn redirects_connections_to_loopback_too() -> Result<()> {
    let canary = Canary::start(CanaryConfig::at([127, 0, 0, 1]))?;
    let to = canary.address().to_string();
    dial(&to, &to, &to)?;
    canary.silent()
}

fn the_unspecified_address_is_recorded_as_loopback() -> Result<()> {
    dial("0.0.0.0:9", "127.0.0.1:9", "127.0.0.1:9")?;
    dial("[::]:9", "[::1]:9", "[::1]:9")
}

fn knows_who_connected() -> Result<()> {
    let world = World::new()?;
    world.redirect.enrol(world.cgroup.path(), Mode::Enforce)?;
    let child = world.cgroup.child("below")?;
    let below = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&child)?);
    let mut client = Client::start(&Place::here().cgroup_path(&child))?;
    let line = client.ok("tcp 198.51.100.7:80")?;
    let netns = NetnsRef::current()?.cookie()?.0;
    for (key, value) in [
        ("pid", u64::from(client.pid())),
        ("uid", 0),
        ("enrolled", world.cgroup.id()?),
        ("cgroup", below),
        ("netns", netns),
    ] {
        ensure!(field(&line, key)? == value.to_string(), "{key} is not {value}: {line}");
    }
    Ok(())
}

fn other_cgroups_are_not_touched() -> Result<()> {
    let (world, _enrolled) = World::enrolled(Mode::Enforce)?;
    let canary = Canary::start(CanaryConfig { answer: None, ..CanaryConfig::at([127, 0, 0, 1]) })?;
    let mut outside = Client::start(&Place::here())?;
    outside.ok(&format!("forget {}", canary.address()))?;
    outside.ok(&format!("udp {}", canary.address()))?;
    outside.ok("socket 2 3 1")?;
    callgate_harness::eventually("the canary heard both", std::time::Duration::from_secs(5), || {
        (canary.hits().len() >= 3).then_some(())
    })?;
    let stats = world.redirect.stats();
    ensure!(stats.redirected == 0 && stats.refused.iter().all(|(_, count)| *count == 0), "{stats:?}");
    Ok(())
}

fn upstream_sockets_of_the_agent_are_not_redirected() -> Result<()> {
    let (world, _client) = World::enrolled(Mode::Enforce)?;
    let canary = Canary::start(CanaryConfig::at([127, 0, 0, 1]))?;
    let socket = world.proxy.sockets.tcp(false)?;
    socket.set_nonblocking(false)?;
    socket.connect(&canary.address().into())?;
    ensure!(world.redirect.stats().redirected == 0);
    Ok(())
}
