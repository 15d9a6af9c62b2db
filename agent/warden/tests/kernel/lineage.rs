//! Which program executed which: told in order, past forks and new parents, and never shorter than it is.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_harness::{Place, Running, eventually};
use callgate_model::{ExecutionId, StartedBy};
use callgate_warden::{Lineages, Warden};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};

use crate::Case;
use crate::world::{ENFORCE, PATIENCE, World};

pub const CASES: &[Case] = &[
    ("programs_are_told_in_the_order_of_their_execution", in_order),
    ("a_process_that_its_parents_left_has_those_who_started_it", reparented),
    ("a_process_older_than_its_enrolment_ends_the_chain", older),
    ("an_entry_that_comes_in_later_ends_the_chain", entering),
    ("what_made_room_is_missed_and_no_entry", made_room),
    ("what_found_no_room_is_missed_and_no_entry", no_room),
    ("chains_go_on_without_an_agent_and_with_its_successor", successor),
    ("processes_outside_and_dead_ones_have_no_row", without_row),
];

/// For each line that it reads starts a program under a name of its choice, and says its number.
const STARTER: &str = r#"
import subprocess, sys
for line in sys.stdin:
    print("started", subprocess.Popen(["trusted", "600"], executable="/bin/sleep").pid, flush=True)
"#;

/// Its grandchild says its number and becomes another program once nobody of its family is left.
const LEAVER: &str = r#"
import os, sys, time
def orphan(parent):
    while os.getppid() == parent:
        time.sleep(0.001)
first = os.getpid()
if os.fork() == 0:
    second = os.getpid()
    if os.fork() == 0:
        os.setsid()
        orphan(second)
        sys.stdin.readline()
        print("started", os.getpid(), flush=True)
        os.execv("/bin/sleep", ["trusted", "600"])
    os._exit(0)
os.wait()
"#;

/// The system's own: another one may be a chain of scripts.
const PYTHON: &str = "/usr/bin/python3";

/// In `cgroup`, `sh` that becomes `env` that becomes Python that runs `program`.
fn python(cgroup: &Path, program: &str) -> Result<Running> {
    let mut command = Place::here().cgroup_path(cgroup).command("sh");
    command.args(["-c", "exec env \"$0\" -c \"$1\"", PYTHON, program]);
    Running::start(command)
}

/// Has a starter start one more.
fn start(starter: &mut Running, earlier: &mut Vec<String>) -> Result<u32> {
    starter.write("\n")?;
    let said = starter.line(PATIENCE, |line| line.starts_with("started") && !earlier.contains(&line.to_owned()))?;
    earlier.push(said.clone());
    said.trim_start_matches("started ").parse().context("a process id")
}

/// The names of what process `pid` executes and of those who started it, and what is behind them.
fn chain(lineages: &Lineages, pid: u32) -> Option<(Vec<String>, StartedBy)> {
    let (executed, mut by) = lineages.current(pid)?;
    let mut names = Vec::new();
    while let StartedBy::Execution(id) = by {
        let Some(execution) = lineages.execution(id) else { break };
        if names.is_empty() {
            assert_eq!(execution.executed.inode, executed.inode);
        }
        names.push(execution.name.rsplit('/').next().unwrap_or_default().to_owned());
        by = execution.by;
    }
    Some((names, by))
}

/// That the chain of `pid`, which is about to execute `names[0]`, comes to be this.
fn becomes(lineages: &Lineages, pid: u32, names: &[&str], end: StartedBy) -> Result<()> {
    let mut last = None;
    let expected = (names.iter().map(|name| (*name).to_owned()).collect(), end);
    let found = eventually("the chain", PATIENCE, || {
        last = chain(lineages, pid);
        (last.as_ref() == Some(&expected)).then_some(())
    });
    found.with_context(|| format!("it is {last:?}, and not {expected:?}"))
}

const FULL: [&str; 4] = ["sleep", "python3", "env", "sh"];

fn in_order() -> Result<()> {
    let world = World::new()?;
    world.enrol(ENFORCE)?;
    let lineages = world.warden()?.lineages()?;
    let mut starter = python(&world.inside, STARTER)?;
    let pid = start(&mut starter, &mut Vec::new())?;
    becomes(&lineages, pid, &FULL, StartedBy::Nobody)?;
    // All three were one process, which executed one after the other.
    let (_, by) = lineages.current(starter.pid()).context("nothing of the starter")?;
    ensure!(matches!(by, StartedBy::Execution(id) if lineages.execution(id).is_some_and(|e| e.pid == starter.pid())));
    becomes(&lineages, starter.pid(), &FULL[1..], StartedBy::Nobody)
}

fn reparented() -> Result<()> {
    let world = World::new()?;
    world.enrol(ENFORCE)?;
    let lineages = world.warden()?.lineages()?;
    let mut leaver = python(&world.inside, LEAVER)?;
    leaver.write("\n")?;
    let said = leaver.line(PATIENCE, |line| line.starts_with("started"))?;
    let pid: u32 = said.trim_start_matches("started ").parse()?;
    becomes(&lineages, pid, &FULL, StartedBy::Nobody)?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).context("a parent")?;
    ensure!(parent.parse::<u32>()? != leaver.pid(), "{stat}");
    Ok(())
}

fn older() -> Result<()> {
    let world = World::new()?;
    let lineages = world.warden()?.lineages()?;
    let mut starter = python(&world.inside, STARTER)?;
    let mut said = Vec::new();
    start(&mut starter, &mut said)?;
    world.enrol(ENFORCE)?;
    ensure!(lineages.current(starter.pid()).is_none());
    let pid = start(&mut starter, &mut said)?;
    becomes(&lineages, pid, &["sleep"], StartedBy::Nobody)
}

fn entering() -> Result<()> {
    let world = World::new()?;
    world.enrol(ENFORCE)?;
    let lineages = world.warden()?.lineages()?;
    let client = world.client(&world.inside)?;
    let (names, end) = chain(&lineages, client.pid()).context("no row")?;
    ensure!(names.len() == 1 && end == StartedBy::Nobody, "{names:?} {end:?}");
    Ok(())
}

fn map(world: &World, name: &str) -> Result<MapHandle> {
    Ok(MapHandle::from_pinned_path(world.config.pins.join(name))?)
}

fn made_room() -> Result<()> {
    let world = World::new()?;
    world.enrol(ENFORCE)?;
    let (lineages, rows) = (world.warden()?.lineages()?, map(&world, "LINEAGE")?);
    let mut starter = python(&world.inside, STARTER)?;
    becomes(&lineages, starter.pid(), &FULL[1..], StartedBy::Nobody)?;
    // There is always room for one more; which row makes it is the kernel's choice, and here it is the starter's.
    let value = vec![0; rows.value_size() as usize];
    for other in 0..2 * u64::from(rows.max_entries()) {
        rows.update(&(u64::MAX / 2 + other).to_ne_bytes(), &value, MapFlags::ANY)?;
    }
    let (_, by) = lineages.current(starter.pid()).context("nothing of the starter")?;
    let StartedBy::Execution(ExecutionId(id)) = by else { anyhow::bail!("{by:?}") };
    let _made_room_already = rows.delete(&id.to_ne_bytes());
    let pid = start(&mut starter, &mut Vec::new())?;
    let chain = eventually("its own row", PATIENCE, || {
        chain(&lineages, pid).filter(|(names, _)| names.first().is_some_and(|name| name == "sleep"))
    })?;
    ensure!(chain.0 == ["sleep"] && matches!(chain.1, StartedBy::Execution(ExecutionId(_))), "{chain:?}");
    Ok(())
}

fn no_room() -> Result<()> {
    let world = World::new()?;
    world.enrol(ENFORCE)?;
    let (lineages, processes) = (world.warden()?.lineages()?, map(&world, "PROCESSES")?);
    let mut starter = python(&world.inside, STARTER)?;
    let mut said = Vec::new();
    let known = start(&mut starter, &mut said)?;
    becomes(&lineages, known, &FULL, StartedBy::Nobody)?;
    let value = vec![0; processes.value_size() as usize];
    // Numbers that no process has.
    let mut others = (0..processes.max_entries()).map(|other| (0x4000_0000 + other).to_ne_bytes());
    while others.next().is_some_and(|other| processes.update(&other, &value, MapFlags::ANY).is_ok()) {}
    let lost = start(&mut starter, &mut said)?;
    // Starting it waited for its exec.
    std::fs::read_link(format!("/proc/{lost}/exe"))?;
    ensure!(lineages.current(lost).is_none());
    for other in 0..processes.max_entries() {
        let _absent = processes.delete(&(0x4000_0000 + other).to_ne_bytes());
    }
    // What was noted before is what it was.
    becomes(&lineages, known, &FULL, StartedBy::Nobody)?;
    let after = start(&mut starter, &mut said)?;
    becomes(&lineages, after, &FULL, StartedBy::Nobody)?;
    // But nobody knows of whoever seems to be new.
    let client = world.client(&world.inside)?;
    let (names, end) = chain(&lineages, client.pid()).context("no row")?;
    ensure!(names.len() == 1 && end == StartedBy::Untold, "{names:?} {end:?}");
    Ok(())
}

fn successor() -> Result<()> {
    let mut world = World::new()?;
    world.enrol(ENFORCE)?;
    let lineages = world.warden()?.lineages()?;
    let mut starter = python(&world.inside, STARTER)?;
    let mut said = Vec::new();
    let mut next = |lineages: &Lineages| -> Result<()> {
        let pid = start(&mut starter, &mut said)?;
        becomes(lineages, pid, &FULL, StartedBy::Nobody)
    };
    next(&lineages)?;
    world.warden = None;
    next(&lineages)?;
    // Its programs run beside those of the one before for a moment; an execution is one all the same.
    let warden = Warden::start(&world.config)?;
    next(&lineages)?;
    next(&warden.lineages()?)?;
    world.warden = Some(warden);
    Ok(())
}

fn without_row() -> Result<()> {
    let world = World::new()?;
    world.enrol(ENFORCE)?;
    let lineages = world.warden()?.lineages()?;
    let outside = world.client(&world.outside)?;
    ensure!(lineages.current(outside.pid()).is_none());
    let inside = world.client(&world.inside)?;
    let pid = inside.pid();
    ensure!(lineages.current(pid).is_some());
    drop(inside);
    eventually("its row is gone", Duration::from_secs(5), || lineages.current(pid).is_none().then_some(()))
}
