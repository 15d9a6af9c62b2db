//! What holds while no agent lives, and what a successor and an end leave.

use anyhow::{Context as _, Result, ensure};
use callgate_warden::{Warden, WardenError, probe};

use crate::Case;
use crate::world::{Client, ENFORCE, Sink, World};

pub const CASES: &[Case] = &[
    ("guard_and_families_hold_without_an_agent", without_an_agent),
    ("a_successor_takes_over_and_leaves_no_second_link", successor),
    ("teardown_leaves_nothing_attached_and_no_pin", teardown),
    ("a_root_that_is_not_there_is_an_error_that_names_it", no_root),
    ("probing_finds_what_starting_finds", probing),
];

/// Moves a fresh task with a fresh socket inside, and tells how its connect() went.
fn enters(world: &World, sink: &Sink) -> Result<String> {
    let to = sink.tcp4.local_addr()?;
    let mut client = world.client(&world.outside)?;
    let socket = client.ok(&format!("made tcp {to}"))?;
    client.ok(&format!("move {}", world.inside.display()))?;
    client.ask(&format!("connect {socket} {to}"))
}

fn refused() -> String {
    format!("errno {}", libc::EPERM)
}

fn without_an_agent() -> Result<()> {
    let (mut world, sink) = (World::new()?, Sink::new()?);
    world.enrol(ENFORCE)?;
    world.warden = None;
    ensure!(enters(&world, &sink)? == refused());
    let mut client = world.client(&world.inside)?;
    client.dies_of("socket 17 3 0")
}

fn successor() -> Result<()> {
    let (mut world, sink) = (World::new()?, Sink::new()?);
    world.enrol(ENFORCE)?;
    let names = |world: &World| -> Result<Vec<String>> {
        let entries = std::fs::read_dir(&world.config.pins)?;
        let mut names: Vec<String> =
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    };
    let before = names(&world)?;
    ensure!(before.iter().any(|name| name == "guard_connect4"), "{before:?}");
    world.warden = None;
    world.warden = Some(Warden::start(&world.config)?);
    ensure!(names(&world)? == before, "{:?}", names(&world)?);
    ensure!(enters(&world, &sink)? == refused());
    Ok(())
}

fn teardown() -> Result<()> {
    let (world, sink) = (World::new()?, Sink::new()?);
    world.enrol(ENFORCE)?;
    ensure!(enters(&world, &sink)? == refused());
    world.warden()?.teardown()?;
    ensure!(!world.config.pins.exists(), "{} is still there", world.config.pins.display());
    // Links whose pins are gone are detached soon after.
    crate::world::soon("nothing is refused any more", || {
        enters(&world, &sink).is_ok_and(|said| said.starts_with("ok"))
    })?;
    let mut client: Client = world.client(&world.inside)?;
    crate::world::soon("nobody is ended any more", || {
        client.ask("socket 17 3 0").is_ok_and(|said| said.starts_with("ok")) || {
            client = world.client(&world.inside).expect("a client");
            false
        }
    })
}

fn no_root() -> Result<()> {
    let world = World::new()?;
    let mut config = world.config.clone();
    config.cgroup_root = "/no/such/cgroup".into();
    config.pins = config.pins.with_file_name("other");
    let error = Warden::start(&config).err().context("it started")?;
    ensure!(matches!(&error, WardenError::Root { .. }) && error.to_string().contains("/no/such/cgroup"), "{error}");
    Ok(())
}

fn probing() -> Result<()> {
    let world = World::new()?;
    let probed = probe::probe_all();
    for feature in world.warden()?.features() {
        let same = probed.iter().find(|one| one.name == feature.name).with_context(|| feature.name)?;
        ensure!(same.ok == feature.ok, "{same:?} but {feature:?}");
    }
    let diag = probed.iter().find(|one| one.name == "sock_diag destroy").context("no diag")?;
    ensure!(diag.ok, "{diag:?}");
    Ok(())
}
