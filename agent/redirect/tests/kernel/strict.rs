//! Strict mode: below one cgroup, what is neither enrolled nor exempt gets nowhere.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use callgate_harness::{Canary, CanaryConfig, Place, TestCgroup, cgroup2_mount};
use callgate_model::{CgroupId, KernelEvent, Mode};
use callgate_redirect::{Redirect, RedirectError, Refusal};

use crate::Case;
use crate::world::{Client, World, field, listed, nothing_pending};

pub const CASES: &[Case] = &[
    ("what_is_born_below_is_refused_until_it_is_enrolled", what_is_born_below_is_refused_until_it_is_enrolled),
    ("what_is_exempt_is_untouched", what_is_exempt_is_untouched),
    ("an_exempt_task_cannot_use_a_workloads_socket", an_exempt_task_cannot_use_a_workloads_socket),
    ("strict_mode_outlives_its_owner_and_ends_when_told", strict_mode_outlives_its_owner_and_ends_when_told),
    (
        "strict_mode_never_stands_at_the_root_or_over_itself_alone",
        strict_mode_never_stands_at_the_root_or_over_itself_alone,
    ),
    ("cgroups_leave_nothing_in_the_map", cgroups_leave_nothing_in_the_map),
];

const UNCLASSIFIED: Refusal = Refusal::Unclassified;

fn what_is_born_below_is_refused_until_it_is_enrolled() -> Result<()> {
    let world = World::new()?;
    let canary = Canary::start(CanaryConfig::at([127, 0, 0, 1]))?;
    let to = canary.address();
    let root = world.redirect.guard(world.cgroup.path())?;
    ensure!(world.redirect.guarded()? == [root] && world.redirect.enrolled()?.is_empty());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut events = runtime.block_on(async { world.redirect.events() })?;
    let path = world.cgroup.child("pod")?;
    let mut client = Client::start(&Place::here().cgroup_path(&path))?;
    let errno = UNCLASSIFIED.errno();
    let v6 = format!("[::1]:{}", to.port());
    for command in ["tcp", "udp"] {
        for address in [to.to_string(), v6.clone(), format!("[::ffff:127.0.0.1]:{}", to.port())] {
            client.refused(&format!("{command} {address}"), errno)?;
        }
    }
    let denial = runtime.block_on(events.next())?;
    ensure!(denial.event == KernelEvent::Unclassified && denial.pid == client.pid(), "{denial:?}");
    let id = CgroupId(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path)?));
    ensure!(denial.cgroup == id && denial.destination == to.to_string(), "{denial:?}");
    ensure!(world.redirect.stats().refused(UNCLASSIFIED) >= 6);
    canary.silent()?;

    // The same process, without a restart.
    world.redirect.enrol(&path, Mode::Enforce)?;
    let line = client.ok(&format!("tcp {to}"))?;
    ensure!(field(&line, "enrolled")? == id.to_string(), "{line}");
    client.refused(&format!("udp {to}"), Refusal::Udp.errno())?;
    world.redirect.unenrol(id)?;
    client.refused(&format!("tcp {to}"), errno)?;
    canary.silent()?;
    nothing_pending(&world.redirect)
}

fn what_is_exempt_is_untouched() -> Result<()> {
    let world = World::new()?;
    let canary = Canary::start(CanaryConfig::at([127, 0, 0, 1]))?;
    let to = canary.address();
    let path = world.cgroup.child("daemon")?;
    let id = CgroupId(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path)?));
    world.redirect.exempt(id)?;
    world.redirect.guard(world.cgroup.path())?;
    let mut exempt = Client::start(&Place::here().cgroup_path(&path))?;
    exempt.ok(&format!("udp {to}"))?;
    // An enrolment above or at it counts first, and the exemption is there again after it.
    world.redirect.enrol(&path, Mode::Enforce)?;
    exempt.refused(&format!("udp {to}"), Refusal::Udp.errno())?;
    world.redirect.exempt(id)?;
    exempt.refused(&format!("udp {to}"), Refusal::Udp.errno())?;
    world.redirect.unenrol(id)?;
    exempt.refused(&format!("udp {to}"), UNCLASSIFIED.errno())?;
    world.redirect.exempt_only(&BTreeSet::from([id]))?;
    exempt.refused(&format!("udp {to}"), UNCLASSIFIED.errno())?;
    world.redirect.exempt(id)?;
    exempt.ok(&format!("udp {to}"))?;
    world.redirect.exempt_only(&BTreeSet::new())?;
    exempt.refused(&format!("udp {to}"), UNCLASSIFIED.errno())?;
    Ok(())
}

fn an_exempt_task_cannot_use_a_workloads_socket() -> Result<()> {
    let world = World::new()?;
    let (workload, helper) = (world.cgroup.child("workload")?, world.cgroup.child("helper")?);
    world.redirect.enrol(&workload, Mode::Enforce)?;
    world.redirect.exempt(CgroupId(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&helper)?)))?;
    world.redirect.guard(world.cgroup.path())?;
    let mut client = Client::start(&Place::here().cgroup_path(&workload))?;
    client.ok("keep 2 1")?;
    client.ok(&format!("move {}", helper.display()))?;
    client.refused("kept-connect 198.51.100.7:80", Refusal::Foreign.errno())?;
    Ok(())
}

fn strict_mode_outlives_its_owner_and_ends_when_told() -> Result<()> {
    let World { heart, proxy, redirect, config, cgroup, bpffs } = World::new()?;
    let mut client = Client::start(&Place::here().cgroup(&cgroup))?;
    let id = redirect.guard(cgroup.path())?;
    drop((heart, proxy));
    ensure!(std::sync::Arc::try_unwrap(redirect).is_ok(), "still shared");
    let refused = |client: &mut Client| client.refused("tcp 127.0.0.1:9", UNCLASSIFIED.errno());
    refused(&mut client)?;
    ensure!(!callgate_redirect::remove_idle_pins(bpffs.path(), "test")?, "strict mode was swept away");
    let redirect = Redirect::load(&config)?;
    ensure!(redirect.guarded()? == [id]);
    refused(&mut client)?;
    // Taken over, put back when somebody takes it away, and ended.
    redirect.guard(cgroup.path())?;
    ensure!(redirect.attest().is_empty());
    let folder = bpffs.path().join("callgate/v2/test/strict").join(id.to_string());
    std::fs::remove_file(folder.join("strict_conn4"))?;
    ensure!(redirect.attest().first().is_some_and(|repair| repair.missing == ["strict_conn4"]));
    ensure!(listed(&folder)?.len() == 6);
    refused(&mut client)?;
    redirect.unguard(id)?;
    ensure!(redirect.guarded()?.is_empty() && redirect.attest().is_empty());
    client.refused("tcp 127.0.0.1:9", 111)?;
    redirect.guard(cgroup.path())?;
    redirect.teardown()?;
    client.refused("tcp 127.0.0.1:9", 111)?;
    Ok(())
}

fn strict_mode_never_stands_at_the_root_or_over_itself_alone() -> Result<()> {
    let world = World::new()?;
    match world.redirect.guard(&cgroup2_mount()?) {
        Err(RedirectError::RootCgroup(_)) => {}
        other => bail!("{other:?}"),
    }
    match world.redirect.guard(std::path::Path::new("/proc")) {
        Err(RedirectError::NotCgroup2(_)) => {}
        other => bail!("{other:?}"),
    }
    ensure!(world.redirect.guarded()?.is_empty());
    Ok(())
}

fn cgroups_leave_nothing_in_the_map() -> Result<()> {
    let world = World::new()?;
    world.redirect.guard(world.cgroup.path())?;
    let mut seen = BTreeSet::new();
    for _ in 0..callgate_harness::count("cgroups_in_maps") {
        let path = world.cgroup.child("short")?;
        let id = world.redirect.enrol(&path, Mode::Enforce)?;
        ensure!(seen.insert(id), "{id} was given twice");
        std::fs::remove_dir(&path)?;
        world.redirect.unenrol(id)?;
    }
    // Of strict mode alone.
    ensure!(world.redirect.known_cgroups() == 1, "{} entries are left", world.redirect.known_cgroups());
    ensure!(world.redirect.enrolled()?.is_empty() && world.redirect.attest().is_empty());
    let _other = TestCgroup::new("other")?;
    Ok(())
}
