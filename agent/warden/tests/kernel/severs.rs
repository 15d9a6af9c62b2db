//! Sockets that are older than the enrolment.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Result, ensure};
use callgate_harness::{Netns, Place};
use callgate_model::{KernelEvent, NetnsCookie};
use callgate_warden::{Means, Older, Severed};

use crate::Case;
use crate::world::{Client, ENFORCE, MEANS, Sink, World};

pub const CASES: &[Case] = &[
    ("destroys_connections_and_datagram_sockets_of_both_families", destroys_every_kind),
    ("destroys_those_of_cgroups_below", destroys_below),
    ("leaves_other_cgroups_alone", leaves_others),
    ("leaves_listeners_and_what_they_accepted", leaves_inbound),
    ("a_connection_from_a_listeners_port_is_no_inbound_one", not_fooled_by_ports),
    ("looks_into_each_network_namespace", other_namespaces),
    ("looks_into_namespaces_that_only_a_descriptor_leads_to", namespaces_of_descriptors),
    ("reports_and_leaves_where_it_is_told_to", reports),
];

/// What a write to a destroyed TCP socket says; the second time it is EPIPE.
const GONE: &[i32] = &[libc::ECONNABORTED, libc::EPIPE, libc::EDESTADDRREQ, libc::ENOTCONN];

fn by(means: Means) -> Result<World> {
    World::with(|config| config.means = Some(means))
}

fn severed(world: &World, destroyed: usize, inbound: usize) -> Result<Severed> {
    world.enrol(ENFORCE)?;
    let severed = world.sever()?;
    ensure!(severed.uncovered.is_empty() && severed.unseen.is_empty(), "{severed:?}");
    ensure!((severed.destroyed.len(), severed.inbound) == (destroyed, inbound), "{severed:?}");
    ensure!(
        severed.destroyed.iter().all(|one| one.event == KernelEvent::Severed && one.cgroup == world.id),
        "{severed:?}"
    );
    Ok(severed)
}

/// One connected socket of each kind, by which data goes out.
fn all_kinds(client: &mut Client, sink: &mut Sink) -> Result<Vec<String>> {
    let (tcp4, tcp6) = (sink.tcp4.local_addr()?, sink.tcp6.local_addr()?);
    let (udp4, udp6) = (sink.udp4.local_addr()?, sink.udp6.local_addr()?);
    let mut sockets = Vec::new();
    for (to, v6) in [(tcp4.to_string(), false), (tcp6.to_string(), true), (Sink::mapped(tcp4), false)] {
        sockets.push(client.ok(&format!("tcp {to}"))?);
        sink.accept(v6)?;
    }
    for (to, udp) in [(udp4.to_string(), &sink.udp4), (udp6.to_string(), &sink.udp6), (Sink::mapped(udp4), &sink.udp4)]
    {
        sockets.push(client.ok(&format!("udp {to}"))?);
        udp.recv(&mut [0])?;
    }
    for socket in &sockets {
        client.ok(&format!("send {socket}"))?;
    }
    Ok(sockets)
}

fn destroys_every_kind() -> Result<()> {
    for means in MEANS {
        let (world, mut sink) = (by(means)?, Sink::new()?);
        ensure!(world.warden()?.means() == Some(means));
        let mut client = world.client(&world.inside)?;
        let sockets = all_kinds(&mut client, &mut sink)?;
        // Not connected: it is destroyed too, and may only go on by sendmsg, which has a hook.
        let unconnected = client.ok("bound udp 127.0.0.1:0")?;
        client.ok(&format!("sendto {unconnected} {}", sink.udp4.local_addr()?))?;
        let done = severed(&world, 7, 0)?;
        let tcp4 = sink.tcp4.local_addr()?.to_string();
        ensure!(done.destroyed.iter().filter(|one| one.destination == tcp4).count() == 2, "{done:?}");
        ensure!(done.destroyed.iter().all(|one| one.netns != NetnsCookie(0)), "{done:?}");
        for socket in sockets {
            client.refused_by(&format!("send {socket}"), GONE)?;
            client.refused_by(&format!("send {socket}"), GONE)?;
        }
        client.refused(&format!("sendto {unconnected} {}", sink.udp4.local_addr()?), libc::ECONNABORTED)?;
    }
    Ok(())
}

fn destroys_below() -> Result<()> {
    let (world, mut sink) = (World::new()?, Sink::new()?);
    let below = world.inside.join("a");
    std::fs::create_dir(&below)?;
    std::fs::create_dir(below.join("b"))?;
    let mut client = world.client(&below.join("b"))?;
    let sockets = all_kinds(&mut client, &mut sink)?;
    severed(&world, sockets.len(), 0)?;
    for socket in sockets {
        client.refused_by(&format!("send {socket}"), GONE)?;
    }
    Ok(())
}

fn leaves_others() -> Result<()> {
    for means in MEANS {
        let (world, mut sink) = (by(means)?, Sink::new()?);
        let mut other = world.client(&world.outside)?;
        // In the same namespace, so that both are shown.
        let _inside = world.client(&world.inside)?;
        let sockets = all_kinds(&mut other, &mut sink)?;
        severed(&world, 0, 0)?;
        world.warden()?.sweep()?;
        for socket in sockets {
            other.ok(&format!("send {socket}"))?;
        }
    }
    Ok(())
}

/// A listener in the client, and a connection to it.
fn served(client: &mut Client) -> Result<(String, String, TcpStream, String)> {
    let said = client.ok("listen 127.0.0.1:0")?;
    let (listener, address) = said.split_once(' ').unwrap_or_default();
    let stream = TcpStream::connect(address)?;
    let accepted = client.ok(&format!("accept {listener}"))?;
    Ok((listener.to_owned(), address.to_owned(), stream, accepted))
}

fn leaves_inbound() -> Result<()> {
    for means in MEANS {
        let world = by(means)?;
        let mut client = world.client(&world.inside)?;
        let (listener, address, mut stream, accepted) = served(&mut client)?;
        severed(&world, 0, 1)?;
        world.warden()?.sweep()?;
        client.ok(&format!("send {accepted}"))?;
        stream.write_all(b"x")?;
        let _second = TcpStream::connect(address)?;
        client.ok(&format!("accept {listener}"))?;
    }
    Ok(())
}

fn not_fooled_by_ports() -> Result<()> {
    let (world, mut sink) = (World::new()?, Sink::new()?);
    let mut client = world.client(&world.inside)?;
    let (_, address, _stream, accepted) = served(&mut client)?;
    // Binding beside a listener is refused, so the other way round: first out, then the listener's port in use.
    let port = address.rsplit(':').next().unwrap_or_default();
    let to = sink.tcp4.local_addr()?;
    let out = client.ok(&format!("from 127.0.0.2:{port} {to}"))?;
    sink.accept(false)?;
    severed(&world, 1, 1)?;
    client.refused_by(&format!("send {out}"), GONE)?;
    client.ok(&format!("send {accepted}"))?;
    Ok(())
}

fn other_namespaces() -> Result<()> {
    for means in MEANS {
        let world = by(means)?;
        let netns = Netns::new("sever")?;
        let mut sink = netns.enter(Sink::new)??;
        let mut client = Client::start(&Place::here().cgroup_path(&world.inside).netns(&netns))?;
        let sockets = all_kinds(&mut client, &mut sink)?;
        // And one in this namespace, of the same cgroup.
        let mut here = Sink::new()?;
        let mut second = world.client(&world.inside)?;
        let in_this = all_kinds(&mut second, &mut here)?;
        severed(&world, sockets.len() + in_this.len(), 0)?;
        for (client, sockets) in [(&mut client, sockets), (&mut second, in_this)] {
            for socket in sockets {
                client.refused_by(&format!("send {socket}"), GONE)?;
            }
        }
    }
    Ok(())
}

/// A task made a socket in a namespace, handed it to another one of its cgroup, and is gone.
fn namespaces_of_descriptors() -> Result<()> {
    let world = World::new()?;
    let netns = Netns::new("sever")?;
    let mut sink = netns.enter(Sink::new)??;
    let mut maker = Client::start(&Place::here().cgroup_path(&world.inside).netns(&netns))?;
    let mut keeper = world.client(&world.inside)?;
    let made = maker.ok(&format!("tcp {}", sink.tcp4.local_addr()?))?;
    sink.accept(false)?;
    let kept = hand_over(&mut maker, &made, &mut keeper, &world.config.pins)?;
    maker.running.kill()?;
    keeper.ok(&format!("send {kept}"))?;
    world.enrol(ENFORCE)?;
    let done = world.sever()?;
    ensure!(done.unseen.is_empty(), "{done:?}");
    keeper.refused_by(&format!("send {kept}"), GONE)
}

/// Gives a socket of one client to another; its number there.
pub fn hand_over(from: &mut Client, socket: &str, to: &mut Client, near: &Path) -> Result<String> {
    let folder = near.parent().unwrap_or(near).with_extension("sockets");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{}-{socket}", from.pid()));
    let shown = path.display().to_string();
    let given = from.tell(&format!("give {socket} {shown}"))?;
    from.running.line(crate::world::PATIENCE, |line| line.ends_with(&shown))?;
    let number = to.ok(&format!("receive {}", path.display()))?;
    let answer = from.answer(given)?;
    ensure!(answer.starts_with("ok"), "{answer}");
    std::fs::remove_file(&path)?;
    let _not_empty = std::fs::remove_dir(&folder);
    Ok(number)
}

fn reports() -> Result<()> {
    let (world, mut sink) = (World::with(|config| config.older = Older::Report)?, Sink::new()?);
    let mut client = world.client(&world.inside)?;
    let sockets = all_kinds(&mut client, &mut sink)?;
    world.enrol(ENFORCE)?;
    let done = world.sever()?;
    ensure!(done.destroyed.is_empty() && done.uncovered.len() == sockets.len(), "{done:?}");
    ensure!(done.uncovered.iter().all(|one| one.observed), "{done:?}");
    for socket in sockets {
        client.ok(&format!("send {socket}"))?;
    }
    Ok(())
}
