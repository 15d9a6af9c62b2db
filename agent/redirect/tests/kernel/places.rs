//! Which cgroups may be enrolled.

use anyhow::{Result, bail, ensure};
use callgate_harness::{Place, TestCgroup, cgroup2_mount};
use callgate_model::Mode;
use callgate_redirect::{Config, Redirect, RedirectError};

use crate::Case;
use crate::world::{Client, World, field, said};

pub const CASES: &[Case] = &[
    ("refuses_the_root_of_the_mount", refuses_the_root_of_the_mount),
    ("refuses_what_is_no_cgroup", refuses_what_is_no_cgroup),
    ("refuses_to_nest_in_another_instance", refuses_to_nest_in_another_instance),
    ("the_deepest_enrolment_counts", the_deepest_enrolment_counts),
    ("a_removed_cgroup_is_still_unenrolled", a_removed_cgroup_is_still_unenrolled),
];

fn refuses_the_root_of_the_mount() -> Result<()> {
    let world = World::new()?;
    let root = cgroup2_mount()?;
    match world.redirect.enrol(&root, Mode::Enforce) {
        Err(RedirectError::RootCgroup(path)) => ensure!(path == root),
        other => bail!("{other:?}"),
    }
    ensure!(world.redirect.enrolled()?.is_empty());
    Ok(())
}

fn refuses_what_is_no_cgroup() -> Result<()> {
    let world = World::new()?;
    match world.redirect.enrol(std::path::Path::new("/proc"), Mode::Enforce) {
        Err(RedirectError::NotCgroup2(_)) => {}
        other => bail!("{other:?}"),
    }
    match world.redirect.enrol(&world.cgroup.path().join("missing"), Mode::Enforce) {
        Err(RedirectError::Cgroup { .. }) => {}
        other => bail!("{other:?}"),
    }
    ensure!(world.redirect.enrolled()?.is_empty());
    Ok(())
}

fn refuses_to_nest_in_another_instance() -> Result<()> {
    let world = World::new()?;
    let other = Redirect::load(&Config { instance: "other".into(), ..world.config.clone() })?;
    other.enrol(world.cgroup.path(), Mode::Enforce)?;
    let below = world.cgroup.child("below")?;
    for path in [world.cgroup.path(), below.as_path()] {
        match world.redirect.enrol(path, Mode::Enforce) {
            Err(RedirectError::Nested { instance, .. }) => ensure!(instance == "other"),
            other => bail!("{other:?}"),
        }
    }
    other.teardown()?;
    world.redirect.enrol(&below, Mode::Enforce)?;
    Ok(())
}

fn the_deepest_enrolment_counts() -> Result<()> {
    let (world, mut above) = World::enrolled(Mode::Enforce)?;
    let child = world.cgroup.child("below")?;
    let id = world.redirect.enrol(&child, Mode::Enforce)?;
    // The programs of both run here, one after the other.
    let mut below = Client::start(&Place::here().cgroup_path(&child))?;
    for to in ["198.51.100.7:80", "[2001:db8::7]:80", "[::ffff:198.51.100.7]:80"] {
        let line = below.ok(&format!("tcp {to}"))?;
        ensure!(field(&line, "enrolled")? == id.to_string(), "{line}");
        ensure!(said(&line)? == to.replace("[::ffff:198.51.100.7]", "198.51.100.7"), "{line}");
    }
    let line = above.ok("tcp 198.51.100.7:80")?;
    ensure!(field(&line, "enrolled")? == world.cgroup.id()?.to_string(), "{line}");
    Ok(())
}

fn a_removed_cgroup_is_still_unenrolled() -> Result<()> {
    let world = World::new()?;
    let cgroup = TestCgroup::new("short")?;
    let id = world.redirect.enrol(cgroup.path(), Mode::Enforce)?;
    drop(cgroup);
    ensure!(world.redirect.enrolled()? == [id]);
    world.redirect.unenrol(id)?;
    ensure!(world.redirect.enrolled()?.is_empty());
    Ok(())
}
