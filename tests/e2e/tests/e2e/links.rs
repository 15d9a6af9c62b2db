//! Others at the same cgroup: what they take from us is put back, what is theirs we leave alone.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, PYTHON, Site};
use callgate_harness::{eventually, program, run};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("what_somebody_detaches_is_back_within_a_second", what_somebody_detaches_is_back_within_a_second)
        .needs(&["netns", "curl", "python3"])
        .alone(),
    Case::new("an_enrolment_deleted_from_the_map_is_back_within_a_second", an_entry_is_back)
        .needs(&["netns", "curl", "python3"])
        .alone(),
    Case::new("a_foreign_program_works_before_with_and_after_us", a_foreign_program_works_before_with_and_after_us)
        .needs(&["netns", "python3"]),
];

/// Within which links must be back. Source: requirement K14.
const BACK: Duration = Duration::from_secs(1);

/// Programs that an enrolment attaches.
const LINKS: usize = 11;

/// What `clients/bpf.py` says.
fn bpf(arguments: &[&str]) -> Result<String> {
    let mut python = Command::new(PYTHON);
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/bpf.py")).args(arguments);
    Ok(run(python, Duration::from_secs(20))?.ok()?.stdout.trim().to_owned())
}

/// Programs for `connect()` at the enrolled cgroup.
fn programs(site: &Site) -> Result<Vec<u32>> {
    let told = bpf(&["query", &site.enrolled.display().to_string()])?;
    told.split_whitespace().map(|id| id.parse().context("an id")).collect()
}

fn links(site: &Site) -> usize {
    let id = std::fs::metadata(&site.enrolled).map(|found| std::os::unix::fs::MetadataExt::ino(&found));
    let folder = site.bpffs().join("callgate/v2/agent/links").join(id.unwrap_or(0).to_string());
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

fn alarms(site: &Site) -> Result<usize> {
    let told = |record: &serde_json::Value| record["detail"].as_str().is_some_and(|text| text.contains("detached"));
    let records = site.records("agent", "agent records", |records| !records.is_empty())?;
    Ok(records.iter().filter(|record| record["state"] == "alarm" && told(record)).count())
}

fn what_somebody_detaches_is_back_within_a_second() -> Result<()> {
    let site = Site::new()?;
    let enrolled = site.enrolled.display().to_string();
    let before = programs(&site)?;
    ensure!(before.len() == 1 && links(&site) == LINKS, "{before:?}");

    ensure!(bpf(&["detach", &enrolled])? == LINKS.to_string());
    let since = Instant::now();
    eventually("the links", BACK, || programs(&site).ok().filter(|now| *now == before))?;
    ensure!(since.elapsed() < BACK, "{:?}", since.elapsed());
    // Removing pins does as well.
    let folder = site.bpffs().join("callgate/v2/agent/links");
    for entry in std::fs::read_dir(&folder)? {
        std::fs::remove_file(entry?.path().join("egress"))?;
    }
    eventually("the pin", BACK, || (links(&site) == LINKS).then_some(()))?;
    ensure!(site.curl(&[&site.api_url("/v1/users/7")])?.ok()?.stdout.ends_with("\n200"));

    eventually("two alarms on record", Duration::from_secs(10), || alarms(&site).ok().filter(|count| *count == 2))?;
    let status = site.callgate(&["status"])?.ok()?.stdout;
    ensure!(status.contains("somebody detached kernel programs"), "{status}");
    // Ended by us is no alarm, and stays ended.
    site.callgate(&["unenroll", &enrolled])?.ok()?;
    ensure!(links(&site) == 0 && programs(&site)?.is_empty());
    Ok(())
}

fn an_entry_is_back() -> Result<()> {
    let site = Site::new()?;
    let enrolled = site.enrolled.display().to_string();
    let map = site.bpffs().join("callgate/v2/agent/maps/ENROLMENTS").display().to_string();
    bpf(&["forget", &enrolled, &map])?;
    // Until then the programs take the task for a stranger, and refuse.
    let answers = || site.curl(&[&site.api_url("/v1/users/7")]).ok().filter(|answer| answer.stdout.ends_with("\n200"));
    eventually("calls go on", BACK + BACK, answers)?;
    let told =
        |record: &serde_json::Value| record["detail"].as_str().is_some_and(|text| text.contains("map of enrolments"));
    site.records("agent", "the alarm on record", |records| records.iter().any(told))?;
    Ok(())
}

fn a_foreign_program_works_before_with_and_after_us() -> Result<()> {
    let mut site = Site::new()?;
    let enrolled = site.enrolled.display().to_string();
    let ours = programs(&site)?;
    site.callgate(&["unenroll", &enrolled])?.ok()?;
    let foreign: u32 = bpf(&["attach", &enrolled, "9"])?.parse()?;
    // EPERM is the foreign program's; without it nobody listens there.
    let works = |site: &Site| -> Result<()> {
        let mut python = site.inside(PYTHON);
        python.args(["-c", "import socket; print(socket.socket().connect_ex(('127.0.0.1', 9)))"]);
        let told = run(python, Duration::from_secs(20))?.ok()?.stdout;
        ensure!(told.trim() == "1", "connect gives {told}");
        ensure!(programs(site)?.contains(&foreign), "it is detached");
        Ok(())
    };
    works(&site)?;
    site.callgate(&["enroll", &enrolled, "--name", "site"])?.ok()?;
    works(&site)?;
    ensure!(programs(&site)?.len() == 2);
    // It outlives our repair, our end, our pins, and ours outlives it.
    ensure!(bpf(&["detach", &enrolled, &foreign.to_string()])? == LINKS.to_string());
    eventually("our links", BACK, || programs(&site).ok().filter(|now| now.len() == 2))?;
    works(&site)?;
    site.callgate(&["unenroll", &enrolled])?.ok()?;
    works(&site)?;
    ensure!(programs(&site)? == [foreign]);
    site.callgate(&["enroll", &enrolled, "--name", "site"])?.ok()?;
    site.stop_agent()?;
    let mut unenroll = Command::new(program("callgate")?);
    unenroll.args(["unenroll", &enrolled, "--config"]).arg(site.path("agent.toml"));
    unenroll.arg("--socket").arg(site.path("run/agent.sock"));
    run(unenroll, Duration::from_secs(20))?.ok()?;
    works(&site)?;
    ensure!(programs(&site)? == [foreign] && !ours.contains(&foreign));
    Ok(())
}
