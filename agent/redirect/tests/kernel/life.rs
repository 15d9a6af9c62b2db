//! Heartbeat, death, return, and the end of an enrolment: enforcement never drops before it is told to.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::links::PinnedLink;
use callgate_harness::{Canary, CanaryConfig, TestCgroup, eventually};
use callgate_model::{CgroupId, Mode};
use callgate_redirect::{Bound, Config, NetnsRef, Redirect, RedirectError, Refusal, instances, remove_pins};

use crate::Case;
use crate::world::{Client, Heart, Proxy, World, listed, said};

pub const CASES: &[Case] = &[
    ("refuses_everything_until_the_first_beat_and_listener", refuses_everything_until_the_first_beat_and_listener),
    ("a_stale_heartbeat_refuses_and_recovers", a_stale_heartbeat_refuses_and_recovers),
    ("with_its_owner_dead_everything_is_refused", with_its_owner_dead_everything_is_refused),
    ("whoever_binds_our_port_is_not_given_the_connections", whoever_binds_our_port_is_not_given_the_connections),
    ("swapping_the_programs_opens_no_gap", swapping_the_programs_opens_no_gap),
    ("a_swap_that_was_cut_off_is_completed", a_swap_that_was_cut_off_is_completed),
    ("unenrol_leaves_no_link_and_no_pin", unenrol_leaves_no_link_and_no_pin),
    ("teardown_and_remove_pins_leave_nothing", teardown_and_remove_pins_leave_nothing),
    ("one_process_at_a_time_has_an_instance", one_process_at_a_time_has_an_instance),
    ("a_successor_that_gives_up_takes_nothing_away", a_successor_that_gives_up_takes_nothing_away),
];

const TO: &str = "198.51.100.7:80";
const SOON: Duration = Duration::from_secs(5);

fn refuses_everything_until_the_first_beat_and_listener() -> Result<()> {
    let bpffs = callgate_harness::TempBpffs::mount()?;
    let cgroup = TestCgroup::new("early")?;
    let config = Config { bpffs: bpffs.path().into(), ..Config::new("test") };
    let redirect = Arc::new(Redirect::load(&config)?);
    redirect.enrol(cgroup.path(), Mode::Enforce)?;
    let mut client = Client::start(&callgate_harness::Place::here().cgroup(&cgroup))?;
    client.refused(&format!("tcp {TO}"), Refusal::Stale.errno())?;
    let _heart = Heart::start(&redirect);
    client.refused(&format!("tcp {TO}"), Refusal::NoListener.errno())?;
    let _proxy = Proxy::start(&redirect, &NetnsRef::current()?)?;
    client.ok(&format!("tcp {TO}"))?;
    Ok(())
}

fn a_stale_heartbeat_refuses_and_recovers() -> Result<()> {
    let stale_after = Duration::from_millis(500);
    let world = World::with(|config| config.stale_after = stale_after)?;
    let mut client = world.enrol_and_start(Mode::Enforce)?;
    eventually("a connection", SOON, || client.ok(&format!("tcp {TO}")).ok())?;
    world.heart.rest(true);
    let stale = format!("errno {}", Refusal::Stale.errno());
    eventually("a refusal", SOON, || client.ask(&format!("tcp {TO}")).is_ok_and(|a| a == stale).then_some(()))?;
    for to in [TO, "[2001:db8::7]:80", "[::ffff:198.51.100.7]:80"] {
        client.refused(&format!("tcp {to}"), Refusal::Stale.errno())?;
    }
    world.heart.rest(false);
    eventually("a connection again", SOON, || client.ok(&format!("tcp {TO}")).ok())?;
    Ok(())
}

fn with_its_owner_dead_everything_is_refused() -> Result<()> {
    let World { heart, proxy, redirect, config, cgroup, bpffs } = World::new()?;
    let canary = Canary::start(CanaryConfig::at([127, 0, 0, 1]))?;
    let to = canary.address();
    redirect.enrol(cgroup.path(), Mode::Enforce)?;
    let mut client = Client::start(&callgate_harness::Place::here().cgroup(&cgroup))?;
    client.ok(&format!("tcp {to}"))?;

    // Listeners closed and programs let go, as the kernel does for a killed process: nothing is taken back in order.
    // The heartbeat is still fresh.
    std::mem::forget(proxy.sockets.clone());
    drop((heart, proxy));
    ensure!(Arc::try_unwrap(redirect).is_ok(), "still shared");
    client.refused(&format!("tcp {to}"), Refusal::NoListener.errno())?;
    client.refused(&format!("udp {to}"), Refusal::Udp.errno())?;

    // The next process finds the enrolment, and refuses until it is ready.
    let redirect = Arc::new(Redirect::load(&config)?);
    let id = CgroupId(cgroup.id()?);
    ensure!(redirect.enrolled()? == [id], "{:?}", redirect.enrolled()?);
    client.refused(&format!("tcp {to}"), Refusal::NoListener.errno())?;
    let proxy = Proxy::start(&redirect, &NetnsRef::current()?)?;
    let heart = Heart::start(&redirect);
    let line = client.ok(&format!("tcp {to}"))?;
    ensure!(said(&line)? == to.to_string(), "by the programs of the dead: {line}");
    redirect.enrol(cgroup.path(), Mode::Enforce)?;
    let line = client.ok(&format!("tcp {to}"))?;
    ensure!(said(&line)? == to.to_string(), "by our own programs: {line}");
    canary.silent()?;
    drop((heart, proxy, redirect, bpffs));
    Ok(())
}

fn whoever_binds_our_port_is_not_given_the_connections() -> Result<()> {
    let World { heart, proxy, redirect, config: _, cgroup, bpffs: _bpffs } = World::new()?;
    redirect.enrol(cgroup.path(), Mode::Enforce)?;
    let mut client = Client::start(&callgate_harness::Place::here().cgroup(&cgroup))?;
    // The listener is gone, the map still names its port.
    let (port, _registered) = (proxy.addresses[0].port(), proxy.sockets.clone());
    drop(proxy);
    let thief = TcpListener::bind(("127.0.0.1", port))?;
    thief.set_nonblocking(true)?;
    client.refused(&format!("tcp {TO}"), Refusal::NoListener.errno())?;
    ensure!(thief.accept().is_err(), "the thief was given a connection");
    drop((heart, redirect));
    Ok(())
}

fn swapping_the_programs_opens_no_gap() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let canary = Canary::start(CanaryConfig::at([127, 0, 0, 1]))?;
    let stop = tempfile_name(&world)?;
    let hammering = client.tell(&format!("hammer {} {}", stop.display(), canary.address()))?;
    for _ in 0..40 {
        world.redirect.enrol(world.cgroup.path(), Mode::Enforce)?;
    }
    std::fs::write(&stop, "")?;
    let line = client.answer(hammering)?;
    canary.silent()?;
    ensure!(line.contains(" refused=0 other=0"), "{line}");
    let stats = world.redirect.stats();
    ensure!(stats.refused.iter().all(|(_, count)| *count == 0), "{stats:?}");
    ensure!(listed(&world.links(world.id()?))?.len() == 11, "{:?}", listed(&world.links(world.id()?))?);
    std::fs::remove_file(&stop)?;
    Ok(())
}

fn a_swap_that_was_cut_off_is_completed() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let links = world.links(world.id()?);
    // Killed between removing the old link and renaming the new one; and between pinning the new and removing the old.
    std::fs::rename(links.join("connect4"), links.join("connect4_new"))?;
    world.redirect.enrol(world.cgroup.path(), Mode::Enforce)?;
    let names: BTreeSet<String> = listed(&links)?.into_iter().collect();
    ensure!(names.len() == 11 && names.contains("connect4"), "{names:?}");
    client.ok(&format!("tcp {TO}"))?;
    Ok(())
}

fn unenrol_leaves_no_link_and_no_pin() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let id = world.id()?;
    let canary = Canary::start(CanaryConfig::at([127, 0, 0, 1]))?;
    client.refused(&format!("udp {}", canary.address()), Refusal::Udp.errno())?;
    let links = link_ids(&world.links(id))?;
    ensure!(links.len() == 11 && alive(&links)?.len() == 11, "{links:?}");

    world.redirect.unenrol(id)?;
    ensure!(!world.links(id).exists() && world.redirect.enrolled()?.is_empty());
    // At once: what the workload does next is not hooked any more.
    client.ok(&format!("udp {}", canary.address()))?;
    eventually("the links go", SOON, || alive(&links).is_ok_and(|left| left.is_empty()).then_some(()))?;
    match world.redirect.unenrol(id) {
        Err(RedirectError::NotEnrolled(unknown)) => ensure!(unknown == id),
        other => bail!("{other:?}"),
    }
    Ok(())
}

fn teardown_and_remove_pins_leave_nothing() -> Result<()> {
    for by_teardown in [true, false] {
        let World { heart, proxy, redirect, config, cgroup, bpffs } = World::new()?;
        redirect.enrol(cgroup.path(), Mode::Enforce)?;
        ensure!(instances(bpffs.path())? == ["test"]);
        drop((heart, proxy));
        let redirect = Arc::try_unwrap(redirect).ok().context("still shared")?;
        if by_teardown {
            redirect.teardown()?;
        } else {
            drop(redirect);
            remove_pins(bpffs.path(), "test")?;
        }
        ensure!(instances(bpffs.path())?.is_empty(), "{:?}", instances(bpffs.path())?);
        // Nothing there is nothing to do.
        remove_pins(&config.bpffs, "test")?;
    }
    Ok(())
}

fn one_process_at_a_time_has_an_instance() -> Result<()> {
    let world = World::new()?;
    for tried in [Redirect::load(&world.config).map(drop), remove_pins(world.bpffs.path(), "test")] {
        match tried {
            Err(RedirectError::InUse(instance)) => ensure!(instance == "test"),
            other => bail!("{other:?}"),
        }
    }
    let other = Config { instance: "other".into(), ..world.config.clone() };
    Redirect::load(&other)?.teardown()?;
    Ok(())
}

fn a_successor_that_gives_up_takes_nothing_away() -> Result<()> {
    let bpffs = callgate_harness::TempBpffs::mount()?;
    let cgroup = TestCgroup::new("heir")?;
    let config = Config { bpffs: bpffs.path().into(), ..Config::new("test") };
    let redirect = Arc::new(Redirect::load(&config)?);
    redirect.enrol(cgroup.path(), Mode::Enforce)?;
    let _heart = Heart::start(&redirect);
    let netns = NetnsRef::current()?;
    let listeners = redirect.listen(&netns)?;
    let copy = |one: &Option<TcpListener>| one.as_ref().map(TcpListener::try_clone).transpose();
    let bound = Bound { v4: copy(&listeners.v4)?, v6: copy(&listeners.v6)?, ..Bound::default() };
    let _proxy = Proxy::serve(&redirect, listeners);
    let mut client = Client::start(&callgate_harness::Place::here().cgroup(&cgroup))?;
    client.ok(&format!("tcp {TO}"))?;

    let successor = Redirect::take_over(&config, redirect.ownership().try_clone_to_owned()?)?;
    let adopted = successor.adopt(&netns, bound)?;
    successor.enrol(cgroup.path(), Mode::Enforce)?;
    drop((adopted, successor));
    client.ok(&format!("tcp {TO}"))?;
    // Somebody else's lock, or none, takes over nothing.
    let other = std::fs::File::open(bpffs.path())?;
    ensure!(matches!(Redirect::take_over(&config, other.into()), Err(RedirectError::InUse(_))));
    client.ok(&format!("tcp {TO}")).map(drop)
}

fn link_ids(folder: &Path) -> Result<BTreeSet<u32>> {
    let ids = listed(folder)?.into_iter().map(|name| {
        let pinned = PinnedLink::from_pin(folder.join(name))?;
        Ok(aya::programs::links::FdLink::from(pinned).info()?.id())
    });
    ids.collect()
}

fn alive(wanted: &BTreeSet<u32>) -> Result<BTreeSet<u32>> {
    Ok(aya::programs::loaded_links().flatten().map(|link| link.id()).filter(|id| wanted.contains(id)).collect())
}

/// A file outside of the bpffs, named after the case's cgroup.
fn tempfile_name(world: &World) -> Result<std::path::PathBuf> {
    Ok(std::env::temp_dir().join(format!("callgate-test-{}-stop-{}", std::process::id(), world.cgroup.id()?)))
}
