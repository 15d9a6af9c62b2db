//! Families of sockets that have no hook, and netlink beyond routes.

use anyhow::{Result, ensure};
use callgate_model::KernelEvent;
use callgate_warden::Answer;

use crate::Case;
use crate::world::{Client, ENFORCE, OBSERVE, World};

pub const CASES: &[Case] = &[
    ("a_socket_of_a_family_without_a_hook_ends_the_task", ends),
    ("netlink_beyond_routes_ends_the_task", ends_netlink),
    ("netlink_beyond_routes_is_only_reported_where_the_configuration_says_so", reports_netlink),
    ("a_call_that_made_nothing_ends_nobody", made_nothing),
    ("a_descriptor_shared_with_another_process_ends_that_one_too", shared),
    ("ip_unix_and_route_sockets_are_made_by_every_way", lets),
    ("tasks_that_are_not_enrolled_make_what_they_like", not_enrolled),
    ("in_observe_mode_the_task_goes_on_and_is_reported", observes),
    ("where_seccomp_refuses_nothing_is_attached_to_system_calls", left_to_seccomp),
];

/// Family, type, protocol: packet (raw, datagram), vsock.
const UNHOOKED: [[u32; 3]; 3] = [[17, 3, 0], [17, 2, 0], [40, 1, 0]];

/// SOCK_DIAG, XFRM, AUDIT, KOBJECT_UEVENT, GENERIC.
const NETLINK: [[u32; 3]; 5] = [[16, 3, 4], [16, 3, 6], [16, 2, 9], [16, 3, 15], [16, 3, 16]];

/// A family that no kernel has.
const NO_FAMILY: [u32; 3] = [77, 1, 0];

/// The ways to ask for one.
fn ways([family, kind, protocol]: [u32; 3]) -> Vec<String> {
    let mut ways = vec!["socket", "uring"];
    if cfg!(target_arch = "x86_64") {
        ways.extend(["compat-socket", "socketcall"]);
    }
    ways.into_iter().map(|way| format!("{way} {family} {kind} {protocol}")).collect()
}

fn ends() -> Result<()> {
    let mut world = World::new()?;
    world.enrol(ENFORCE)?;
    let below = world.inside.join("below");
    std::fs::create_dir(&below)?;
    UNHOOKED.into_iter().try_for_each(|triple| all_end(&mut world, &below, triple))?;
    // AF_INET with SOCK_PACKET, its flags beside it: the kernel makes a packet socket of it.
    for way in ["socket 2 10 768", &format!("socket 2 {} 768", 10 | libc::SOCK_CLOEXEC)] {
        let mut client = world.client(&below)?;
        client.dies_of(way)?;
        let pid = client.pid();
        let event = world.event(|event| event.event == KernelEvent::Family && event.pid == pid)?;
        ensure!(event.family == 17, "{way}: {event:?}");
    }
    Ok(())
}

fn all_end(world: &mut World, cgroup: &std::path::Path, triple: [u32; 3]) -> Result<()> {
    for way in ways(triple) {
        let mut client = world.client(cgroup)?;
        client.dies_of(&way)?;
        let (pid, id) = (client.pid(), world.id);
        let event = world.event(|event| event.event == KernelEvent::Family && event.pid == pid)?;
        let told = [event.family, event.socket_type, event.protocol];
        ensure!(event.cgroup == id && told == triple, "{way}: {event:?}");
        ensure!(!event.observed && event.uid == 0, "{way}: {event:?}");
    }
    Ok(())
}

fn ends_netlink() -> Result<()> {
    let mut world = World::new()?;
    world.enrol(ENFORCE)?;
    let inside = world.inside.clone();
    NETLINK.into_iter().try_for_each(|triple| all_end(&mut world, &inside, triple))
}

fn reports_netlink() -> Result<()> {
    let mut world = World::with(|config| config.netlink = Answer::Report)?;
    world.enrol(ENFORCE)?;
    let mut client = world.client(&world.inside)?;
    for way in NETLINK.into_iter().flat_map(ways) {
        client.ok(&way)?;
        let event = world.event(|event| event.event == KernelEvent::Family && event.protocol != 0)?;
        ensure!(event.observed && event.family == 16, "{way}: {event:?}");
    }
    // Netlink alone is meant.
    client.dies_of("socket 17 3 0")
}

fn made_nothing() -> Result<()> {
    let mut world = World::new()?;
    world.enrol(ENFORCE)?;
    let mut client = world.client(&world.inside)?;
    for way in ways(NO_FAMILY).iter().filter(|way| !way.starts_with("uring")) {
        client.refused(way, libc::EAFNOSUPPORT)?;
    }
    // Neither has pairs.
    client.refused("socketpair 17 3 0", libc::EOPNOTSUPP)?;
    client.refused("socketpair 16 3 9", libc::EOPNOTSUPP)?;
    world.no_event(|_| false)
}

/// A process that shares its descriptors makes one and is ended; the other, which holds it, must end too.
fn shared() -> Result<()> {
    let mut world = World::new()?;
    world.enrol(ENFORCE)?;
    for triple in ["17 3 0", "16 3 9"] {
        let mut client = world.client(&world.inside)?;
        client.tell(&format!("shared-socket {triple}"))?;
        client.dies()?;
        let pid = client.pid();
        world.event(|event| event.event == KernelEvent::Family && event.pid == pid)?;
    }
    Ok(())
}

fn lets() -> Result<()> {
    let mut world = World::new()?;
    world.enrol(ENFORCE)?;
    let mut client = world.client(&world.inside)?;
    for triple in [[1, 1, 0], [2, 1, 0], [2, 2, 0], [10, 1, 0], [16, 3, 0], [16, 2, 0]] {
        for way in ways(triple) {
            client.ok(&way)?;
        }
    }
    client.ok("socketpair 1 1 0")?;
    world.no_event(|_| false)
}

fn makes_anything(client: &mut Client) -> Result<()> {
    client.ok("socket 17 3 0")?;
    client.ok("socket 16 3 9")?;
    ways(NO_FAMILY).iter().try_for_each(|way| client.refused(way, libc::EAFNOSUPPORT))
}

fn not_enrolled() -> Result<()> {
    let mut world = World::new()?;
    world.enrol(ENFORCE)?;
    makes_anything(&mut world.client(&world.outside)?)?;
    world.no_event(|_| false)
}

fn observes() -> Result<()> {
    let mut world = World::new()?;
    world.enrol(OBSERVE)?;
    let mut client = world.client(&world.inside)?;
    for way in ways([17, 3, 0]) {
        client.ok(&way)?;
        let event = world.event(|event| event.event == KernelEvent::Family)?;
        ensure!(event.observed && event.family == 17, "{event:?}");
    }
    Ok(())
}

fn left_to_seccomp() -> Result<()> {
    let world = World::with(|config| config.has_seccomp = true)?;
    let pinned = |name: &str| world.config.pins.join(name).exists();
    ensure!(!pinned("call_exit") && !pinned("call_uring"), "attached all the same");
    ensure!(pinned("arrival_received"), "arrivals are told whatever seccomp does");
    Ok(())
}
