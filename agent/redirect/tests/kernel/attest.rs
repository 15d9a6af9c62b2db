//! Links that others take away are put back, and what is ended stays ended.

use std::fs;

use anyhow::{Result, ensure};
use callgate_harness::TestCgroup;
use callgate_model::Mode;
use callgate_redirect::{ENTRY, Refusal};

use crate::Case;
use crate::world::{World, listed};

pub const CASES: &[Case] = &[
    ("nothing_is_missing_where_nobody_touched_anything", nothing_is_missing_where_nobody_touched_anything),
    ("a_removed_pin_is_put_back_with_its_link", a_removed_pin_is_put_back_with_its_link),
    ("all_pins_of_a_cgroup_are_put_back", all_pins_of_a_cgroup_are_put_back),
    ("an_entry_of_the_map_is_put_back", an_entry_of_the_map_is_put_back),
    ("what_was_ended_is_not_put_back", what_was_ended_is_not_put_back),
];

const TO: &str = "198.51.100.7:443";

/// Programs that an enrolment attaches.
const LINKS: usize = 11;

fn nothing_is_missing_where_nobody_touched_anything() -> Result<()> {
    let (world, _client) = World::enrolled(Mode::Enforce)?;
    // Also after a swap, when the programs are others'.
    for _ in 0..2 {
        let repairs = world.redirect.attest();
        ensure!(repairs.is_empty(), "{repairs:?}");
        world.redirect.enrol(world.cgroup.path(), Mode::Enforce)?;
    }
    Ok(())
}

fn a_removed_pin_is_put_back_with_its_link() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let links = world.links(world.id()?);
    for name in ["sendmsg4", "connect4", "egress"] {
        fs::remove_file(links.join(name))?;
        let repairs = world.redirect.attest();
        ensure!(repairs.len() == 1 && repairs[0].missing == [name] && repairs[0].error.is_none(), "{repairs:?}");
        ensure!(listed(&links)?.len() == LINKS, "{:?}", listed(&links)?);
        ensure!(world.redirect.attest().is_empty());
    }
    client.refused(&format!("udp {TO}"), Refusal::Udp.errno())?;
    client.ok(&format!("tcp {TO}"))?;
    Ok(())
}

fn all_pins_of_a_cgroup_are_put_back() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    fs::remove_dir_all(world.links(world.id()?))?;
    let repairs = world.redirect.attest();
    ensure!(repairs.len() == 1 && repairs[0].missing.len() == LINKS, "{repairs:?}");
    client.refused(&format!("udp {TO}"), Refusal::Udp.errno())?;
    client.ok(&format!("tcp {TO}"))?;
    world.redirect.unenrol(world.id()?)?;
    ensure!(!world.links(world.id()?).exists());
    Ok(())
}

/// Somebody deletes the entry of the cgroup, or has it observe alone.
fn an_entry_of_the_map_is_put_back() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let pin = aya::maps::MapData::from_pin(world.redirect.enrolments_pin())?;
    let mut map = aya::maps::HashMap::<_, u64, [u32; 2]>::try_from(aya::maps::Map::HashMap(pin))?;
    let id = world.id()?;
    let before = map.get(&id.0, 0)?;
    for change in [None, Some([1, 0])] {
        match change {
            None => map.remove(&id.0)?,
            Some(entry) => map.insert(id.0, entry, 0)?,
        }
        let repairs = world.redirect.attest();
        ensure!(repairs.len() == 1 && repairs[0].missing == [ENTRY] && repairs[0].error.is_none(), "{repairs:?}");
        ensure!(repairs[0].path == world.cgroup.path() && repairs[0].cgroup == id, "{repairs:?}");
        ensure!(map.get(&id.0, 0)? == before && world.redirect.attest().is_empty());
        client.refused(&format!("udp {TO}"), Refusal::Udp.errno())?;
    }
    // What is ended stays so.
    world.redirect.unenrol(id)?;
    ensure!(world.redirect.attest().is_empty() && map.get(&id.0, 0).is_err());
    Ok(())
}

fn what_was_ended_is_not_put_back() -> Result<()> {
    let (world, _client) = World::enrolled(Mode::Enforce)?;
    let gone = TestCgroup::new("gone")?;
    let id = world.redirect.enrol(gone.path(), Mode::Enforce)?;
    drop(gone);
    ensure!(world.redirect.attest().is_empty(), "a cgroup that is gone is missed");
    world.redirect.unenrol(id)?;
    world.redirect.unenrol(world.id()?)?;
    ensure!(world.redirect.attest().is_empty());
    ensure!(!world.links(world.id()?).exists() && world.redirect.enrolled()?.is_empty());
    Ok(())
}
