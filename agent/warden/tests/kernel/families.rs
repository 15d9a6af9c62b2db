//! Families of sockets that have no hook.

use anyhow::{Result, ensure};
use callgate_model::KernelEvent;

use crate::Case;
use crate::world::{ENFORCE, OBSERVE, World};

pub const CASES: &[Case] = &[
    ("asking_for_a_family_without_a_hook_ends_the_task", ends),
    ("ip_unix_and_netlink_sockets_are_made_by_every_way", lets),
    ("tasks_that_are_not_enrolled_make_what_they_like", not_enrolled),
    ("in_observe_mode_the_task_goes_on_and_is_reported", observes),
];

/// Packet, vsock, Bluetooth, CAN, one that no kernel has.
const FAMILIES: [u32; 5] = [17, 40, 31, 29, 77];

/// The ways to ask for one.
fn ways(family: u32) -> Vec<String> {
    let mut ways = vec![format!("socket {family} 3 0"), format!("uring {family}")];
    if cfg!(target_arch = "x86_64") {
        ways.extend([format!("compat-socket {family}"), format!("socketcall {family}")]);
    }
    ways
}

fn ends() -> Result<()> {
    let mut world = World::new()?;
    world.enrol(ENFORCE)?;
    let below = world.inside.join("below");
    std::fs::create_dir(&below)?;
    for family in FAMILIES {
        for way in ways(family) {
            let mut client = world.client(&below)?;
            client.dies_of(&way)?;
            let (pid, id) = (client.pid(), world.id);
            // socketcall(2) is judged twice, so there may be a second event of the one before.
            let event = world.event(|event| event.event == KernelEvent::Family && event.pid == pid)?;
            ensure!(event.cgroup == id && event.family == family, "{way}: {event:?}");
            ensure!(!event.observed && event.uid == 0, "{way}: {event:?}");
        }
    }
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

fn lets() -> Result<()> {
    let mut world = World::new()?;
    world.enrol(ENFORCE)?;
    let mut client = world.client(&world.inside)?;
    for family in [1, 2, 10] {
        for way in ways(family) {
            client.ok(&way.replace(" 3 0", " 1 0"))?;
        }
    }
    client.ok("socket 16 3 0")?;
    world.no_event(|_| false)
}

fn not_enrolled() -> Result<()> {
    let mut world = World::new()?;
    world.enrol(ENFORCE)?;
    let mut client = world.client(&world.outside)?;
    client.ok("socket 17 3 0")?;
    for way in ways(77) {
        client.refused(&way, &[libc::EAFNOSUPPORT])?;
    }
    world.no_event(|_| false)
}

fn observes() -> Result<()> {
    let mut world = World::new()?;
    world.enrol(OBSERVE)?;
    let mut client = world.client(&world.inside)?;
    for way in ways(17) {
        // Only that it is still there: not each way can make a packet socket.
        client.ask(&way)?;
        client.ok("pid")?;
        let event = world.event(|event| event.event == KernelEvent::Family)?;
        ensure!(event.observed && event.family == 17, "{event:?}");
    }
    Ok(())
}
