//! Unusual ways to connect, and servers: all of them work.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_harness::{Place, eventually};
use callgate_model::Mode;
use callgate_redirect::NetnsRef;

use crate::Case;
use crate::world::{Client, Heart, World, field, nothing_pending, said, shown};

pub const CASES: &[Case] = &[
    ("redirects_sockets_that_are_bound_or_do_not_block", redirects_sockets_that_are_bound_or_do_not_block),
    ("redirects_a_socket_that_is_used_again", redirects_a_socket_that_is_used_again),
    ("servers_in_the_cgroup_answer", servers_in_the_cgroup_answer),
    ("what_was_sent_before_the_accept_is_still_served", what_was_sent_before_the_accept_is_still_served),
    ("aborted_connections_leave_nothing_behind", aborted_connections_leave_nothing_behind),
    ("connections_that_cannot_be_told_apart_are_refused", connections_that_cannot_be_told_apart_are_refused),
];

const TO: &str = "198.51.100.7:80";

fn redirects_sockets_that_are_bound_or_do_not_block() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    for command in [
        format!("nonblocking {TO}"),
        format!("fastopen {TO}"),
        format!("bound 127.0.0.5:0 {TO}"),
        format!("bound 0.0.0.0:0 {TO}"),
        // curl --interface does this; loopback cannot be reached so without our help.
        format!("device eth0 {TO}"),
    ] {
        let line = client.ok(&command)?;
        ensure!(said(&line)? == TO, "`{command}`: {line}");
        ensure!(field(&line, "peer")? == TO, "`{command}`: {line}");
    }
    nothing_pending(&world.redirect)
}

fn redirects_a_socket_that_is_used_again() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let line = client.ok("twice 198.51.100.1:1 198.51.100.2:2")?;
    ensure!(said(&line)? == "198.51.100.2:2", "{line}");
    ensure!(field(&line, "peer")? == "198.51.100.2:2", "{line}");
    nothing_pending(&world.redirect)
}

fn servers_in_the_cgroup_answer() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let at: SocketAddr = client.ok("serve")?.parse()?;
    // From outside, as a probe does; and from a second process inside, by way of the proxy.
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut said_by_server = String::new();
    stream.read_to_string(&mut said_by_server).context("the server's answer")?;
    ensure!(said_by_server == "served\n", "{said_by_server:?}");

    let mut inside = Client::start(&Place::here().cgroup(&world.cgroup))?;
    let line = inside.ok(&format!("tcp {at}"))?;
    ensure!(said(&line)? == at.to_string(), "{line}");
    Ok(())
}

fn what_was_sent_before_the_accept_is_still_served() -> Result<()> {
    let mut world = World::new()?;
    let listeners = world.redirect.listen(&NetnsRef::current()?)?;
    let mut client = world.enrol_and_start(Mode::Enforce)?;
    let source: SocketAddr = client.ok(&format!("forget {TO}"))?.parse()?;
    let listener = listeners.v4.as_ref().context("v4")?;
    let (mut stream, peer) = eventually("a connection", Duration::from_secs(5), || listener.accept().ok())?;
    ensure!(peer == source, "{peer} is not {source}");
    let line = shown(world.redirect.origin(listeners.netns, peer));
    ensure!(line.starts_with(TO), "{line}");
    // Once only.
    ensure!(world.redirect.origin(listeners.netns, peer).is_none());
    stream.set_nonblocking(false)?;
    let mut sent = String::new();
    stream.read_to_string(&mut sent)?;
    ensure!(sent == "forgotten\n", "{sent:?}");
    world.heart = Heart::start(&world.redirect);
    nothing_pending(&world.redirect)
}

fn aborted_connections_leave_nothing_behind() -> Result<()> {
    let world = World::new()?;
    // Nobody accepts on these.
    let listeners = world.redirect.listen(&NetnsRef::current()?)?;
    let mut client = world.enrol_and_start(Mode::Enforce)?;
    for _ in 0..100 {
        client.ok(&format!("abort {TO}"))?;
        client.ok("abort [2001:db8::7]:80")?;
    }
    ensure!(world.redirect.stats().redirected == 200);
    nothing_pending(&world.redirect)?;
    drop(listeners);
    Ok(())
}

/// Two listeners in one namespace, one source address and port, neither connection accepted yet: a swap if either were
/// believed.
fn connections_that_cannot_be_told_apart_are_refused() -> Result<()> {
    let world = World::new()?;
    let first = world.redirect.listen(&NetnsRef::current()?)?;
    let mut client = world.enrol_and_start(Mode::Enforce)?;
    let from = "127.0.0.6:20003";
    client.ok(&format!("hold {from} 198.51.100.1:1"))?;
    let second = world.redirect.listen(&NetnsRef::current()?)?;
    client.ok(&format!("hold {from} 198.51.100.2:2"))?;
    for listeners in [&first, &second] {
        let listener = listeners.v4.as_ref().context("v4")?;
        let (_, peer) = eventually("a connection", Duration::from_secs(5), || listener.accept().ok())?;
        ensure!(peer.to_string() == from, "{peer}");
        ensure!(world.redirect.origin(listeners.netns, peer).is_none(), "one was believed");
    }
    ensure!(world.redirect.stats().contested == 1, "{:?}", world.redirect.stats());
    nothing_pending(&world.redirect)
}
