//! Enrolment by the configuration: units, patterns and containers as they come and go, strict mode, and what is told.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, PYTHON, Site, site};
use callgate_harness::{Place, count, eventually, run};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new(
        "units_patterns_and_containers_are_enrolled_as_they_come",
        units_patterns_and_containers_are_enrolled_as_they_come,
    )
    .needs(&["netns"]),
    Case::new("strict_mode_refuses_until_a_rule_has_classified", strict_mode_refuses_until_a_rule_has_classified)
        .needs(&["netns", "python3"]),
    Case::new("the_record_and_policy_know_the_container", the_record_and_policy_know_the_container)
        .needs(&["netns", "curl"]),
    Case::new("cgroups_that_come_and_go_leave_nothing", cgroups_that_come_and_go_leave_nothing)
        .needs(&["netns"])
        .alone()
        .within(Duration::from_secs(14_400)),
];

const SOON: Duration = Duration::from_secs(10);
const POD: &str = "8a1f3f2e-1f0a-4c3e-9d56-0b3f5f7a9c11";
const ID: &str = "6f8c1e2d3b4a59687f8e9d0c1b2a39485766758493a2b1c0dfeecdbcab9a8978";
const OTHER: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";

/// Collector and agent, with `more` in the agent's configuration.
fn configured(more: impl FnOnce(&Site) -> String) -> Result<Site> {
    let mut site = Site::without_agent()?;
    // Keys come before the tables of the site's own configuration.
    let text = fs::read_to_string(site.path("agent.toml"))?;
    let more = more(&site);
    let (keys, tables): (Vec<_>, Vec<_>) = more.split("\n\n").partition(|part| !part.starts_with("[["));
    site.write("agent.toml", &format!("{}\n{text}\n{}", keys.join("\n"), tables.join("\n")))?;
    site.start_collector()?;
    site.start_agent()?;
    Ok(site)
}

fn make(path: &Path) -> Result<u64> {
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    Ok(fs::metadata(path)?.ino())
}

fn listed(site: &Site) -> String {
    site.callgate(&["workloads"]).map(|listed| listed.stdout).unwrap_or_default()
}

fn comes(site: &Site, id: &str) -> Result<()> {
    eventually(&format!("`{id}`"), SOON, || listed(site).contains(id).then_some(()))
}

fn goes(site: &Site, id: &str) -> Result<()> {
    eventually(&format!("the end of `{id}`"), SOON, || (!listed(site).contains(id)).then_some(()))
}

fn docker(site: &Site, id: &str, name: &str, label: &str) -> Result<()> {
    fs::create_dir_all(site.path("docker").join(id))?;
    let text = format!(r#"{{"ID":"{id}","Name":"/{name}","Config":{{"Labels":{{"callgate.dev/enroll":"{label}"}}}}}}"#);
    site.write(&format!("docker/{id}/config.v2.json"), &text)
}

fn units_patterns_and_containers_are_enrolled_as_they_come() -> Result<()> {
    let mut site = configured(|site| {
        let root = site.root.path().display();
        format!(
            "\n\n[[enroll]]\nunit = \"nginx.service\"\n\n[[enroll]]\nslice = \"shop-web.slice\"\nmode = \"observe\"\n\n\
             [[enroll]]\ncgroup = \"{root}/kubepods*/**/pod*\"\nname = \"pod-{{pod}}\"\n\n\
             [[enroll]]\ncontainer = {{ runtime = \"docker\", label = \"callgate.dev/enroll=true\", root = \"{}\" }}\n",
            site.path("docker").display()
        )
    })?;
    let root = site.root.path().to_owned();
    ensure!(listed(&site).contains("nothing is enrolled"), "{}", listed(&site));
    let (nginx, web) = (root.join("system.slice/nginx.service"), root.join("shop.slice/shop-web.slice"));
    let pod = root.join(format!("kubepods/burstable/pod{POD}"));
    let container = root.join(format!("system.slice/docker-{ID}.scope"));
    docker(&site, ID, "db", "true")?;
    docker(&site, OTHER, "other", "false")?;
    let made = |paths: &[&PathBuf]| paths.iter().try_for_each(|path| make(path).map(drop));
    made(&[&nginx, &web, &pod, &container, &root.join(format!("system.slice/docker-{OTHER}.scope"))])?;
    // What only looks like it.
    made(&[
        &root.join("user.slice/user-1.slice/user@1.service/nginx.service"),
        &root.join("system.slice/quiet.service"),
    ])?;
    let all = ["unit/nginx.service", "unit/shop-web.slice", &format!("cgroup/pod-{POD}"), "container/db"];
    for id in all {
        comes(&site, id)?;
    }
    let told = listed(&site);
    ensure!(told.matches("enforce").count() == 3 && told.matches("observe").count() == 1, "{told}");
    ensure!(!told.contains("other") && !told.contains("user@1") && !told.contains("quiet"), "{told}");
    // Each ends with its cgroup, without an alarm, and comes again with it.
    fs::remove_dir(&nginx)?;
    fs::remove_dir(&pod)?;
    goes(&site, "unit/nginx.service")?;
    goes(&site, "cgroup/pod-")?;
    let status = site.callgate(&["status"])?.ok()?.stdout;
    ensure!(!status.lines().any(|line| line.starts_with("alarm")), "{status}");
    make(&nginx)?;
    comes(&site, "unit/nginx.service")?;
    // What an operator ends stays ended until it is born anew.
    site.callgate(&["unenroll", &container.display().to_string()])?.ok()?;
    make(&root.join("system.slice/nudge.service"))?;
    ensure!(!listed(&site).contains("container/db"), "{}", listed(&site));
    fs::remove_dir(&container)?;
    make(&container)?;
    comes(&site, "container/db")?;
    // The next agent takes over what is there, and lets go what went, or has no rule any more.
    site.stop_agent()?;
    fs::remove_dir(&nginx)?;
    let text = fs::read_to_string(site.path("agent.toml"))?.replace("shop-web.slice", "shop-eu.slice");
    site.write("agent.toml", &text)?;
    site.start_agent()?;
    goes(&site, "unit/shop-web.slice")?;
    ensure!(listed(&site).contains("container/db") && !listed(&site).contains("unit/"), "{}", listed(&site));
    Ok(())
}

/// `connect()` to where nobody listens, from a process that is born in `cgroup`; the errno.
fn connect(cgroup: &Path, to: &str) -> Result<String> {
    let mut python = Place::here().cgroup_path(cgroup).command(PYTHON);
    let (host, port) = to.rsplit_once(':').context("an address")?;
    python.args(["-c", &format!("import socket; print(socket.socket().connect_ex(('{host}', {port})))")]);
    Ok(run(python, Duration::from_secs(20))?.ok()?.stdout.trim().to_owned())
}

fn strict_mode_refuses_until_a_rule_has_classified() -> Result<()> {
    let mut site = configured(|site| {
        let root = site.root.path().display();
        format!(
            "strict = \"{root}\"\nunenrolled = [\"{root}/system.slice/*.service\"]\n\n\
             [[enroll]]\ncgroup = \"{root}/pods/*\"\nname = \"{{name}}\"\n"
        )
    })?;
    let root = site.root.path().to_owned();
    let (unknown, exempt, pod) = (root.join("unknown"), root.join("system.slice/sshd.service"), root.join("pods/shop"));
    for path in [&unknown, &exempt, &pod] {
        make(path)?;
    }
    let to = site.plain.address().to_string();
    // ENETUNREACH, from the first instruction on; each refusal is on record, with the cgroup's path.
    ensure!(connect(&unknown, &to)? == "101" && connect(&unknown, "127.0.0.1:9")? == "101");
    let records = site.records("kernel_denial", "the refusal", |records| !records.is_empty())?;
    let path = unknown.strip_prefix(callgate_harness::cgroup2_mount()?)?.display().to_string();
    ensure!(records[0]["event"] == "unclassified" && records[0]["cgroup_path"] == path, "{}", records[0]);
    comes(&site, "cgroup/shop")?;
    ensure!(connect(&pod, &to)? == "0", "an enrolled one is redirected");
    eventually("the exemption", SOON, || connect(&exempt, &to).ok().filter(|errno| errno == "0"))?;
    // Born and used at once, again and again: refused or redirected, never let through.
    for round in 0..20 {
        let path = root.join(format!("pods/p{round}"));
        make(&path)?;
        let errno = connect(&path, "127.0.0.1:9")?;
        // Redirected connects succeed, whoever listens at the other end.
        ensure!(errno == "0" || errno == "101", "round {round}: errno {errno}");
        fs::remove_dir(&path)?;
    }
    // It stands without an agent, too.
    site.kill_agent()?;
    ensure!(connect(&unknown, &to)? == "101");
    ensure!(connect(&exempt, &to)? == "0");
    site.start_agent()?;
    ensure!(connect(&unknown, &to)? == "101" && connect(&exempt, &to)? == "0");
    // And ends where it is no longer configured.
    site.stop_agent()?;
    let text = fs::read_to_string(site.path("agent.toml"))?;
    let kept: Vec<&str> =
        text.lines().filter(|line| !line.starts_with("strict") && !line.starts_with("unenrolled")).collect();
    site.write("agent.toml", &kept.join("\n"))?;
    site.start_agent()?;
    ensure!(connect(&unknown, &to)? == "0");
    Ok(())
}

fn the_record_and_policy_know_the_container() -> Result<()> {
    let mut site = Site::without_agent()?;
    site.write(
        "policies/container.cedar",
        &format!(
            "@id(\"by-container\") permit (principal, action == Callgate::Action::\"call\", \
             resource in Callgate::Service::\"{}\") when {{ principal.container_id == \"{ID}\" && \
             principal.pod_uid == \"{POD}\" && principal.cgroup like \"*/pod{POD}\" && resource.path == \"/v1/mine\" }};\n",
            site::PLAIN
        ),
    )?;
    let pod = site.root.path().join(format!("kubepods/burstable/pod{POD}"));
    let (container, other) = (pod.join(ID), pod.join(OTHER));
    make(&container)?;
    make(&other)?;
    site.start_collector()?;
    site.start_agent()?;
    site.callgate(&["enroll", &pod.display().to_string(), "--name", "shop"])?.ok()?;
    let status = |site: &mut Site, cgroup: &Path| -> Result<String> {
        site.enrolled = cgroup.to_owned();
        let answer = site.curl(&[&site.plain_url("/v1/mine")])?.ok()?;
        Ok(answer.stdout.lines().last().unwrap_or_default().to_owned())
    };
    // The site's own policies permit this service whatever the path, so both pass.
    let _first = status(&mut site, &container)?;
    let records = site.records("begin", "the call", |records| !records.is_empty())?;
    let placement = &records[0]["process"]["placement"];
    ensure!(placement["container_id"] == ID && placement["pod_uid"] == POD, "{}", records[0]);
    ensure!(records[0]["decision"]["policies"].to_string().contains("by-container"), "{}", records[0]);
    let _second = status(&mut site, &other)?;
    let records = site.records("begin", "both calls", |records| records.len() == 2)?;
    let second = records.iter().find(|record| record["process"]["placement"]["container_id"] == OTHER);
    let second = second.context("the other container's call")?;
    ensure!(!second["decision"]["policies"].to_string().contains("by-container"), "{second}");
    // Found by the container's id, and shown.
    let found = site.callgate(&["audit", "search", "--text", ID, "--json"])?.ok()?.stdout;
    ensure!(found.contains(ID) && !found.contains(OTHER), "{found}");
    let call = records[0]["call"].as_str().context("a call id")?;
    let shown = site.callgate(&["audit", "show", call])?.ok()?.stdout;
    ensure!(shown.contains("container") && shown.contains(POD), "{shown}");
    Ok(())
}

fn cgroups_that_come_and_go_leave_nothing() -> Result<()> {
    /// How many are there at once.
    const BATCH: u64 = 20;
    let site = configured(|site| {
        format!("\n\n[[enroll]]\ncgroup = \"{}/jobs/*\"\nname = \"{{name}}\"\n", site.root.path().display())
    })?;
    let jobs = site.root.path().join("jobs");
    make(&jobs)?;
    let (total, mut made) = (count("cgroups_followed"), 0);
    let links = site.bpffs().join("callgate/v2/agent/links");
    let written = site.path("state/enrolments");
    let entries = |folder: &Path| fs::read_dir(folder).map_or(0, Iterator::count);
    let mut ids = BTreeSet::new();
    while made < total {
        let batch = BATCH.min(total - made);
        for number in 0..batch {
            // The same names again and again, other cgroups.
            let id = make(&jobs.join(format!("job{number}")))?;
            ensure!(ids.insert(id), "the id {id} was given twice");
        }
        // Every third batch goes before anybody can have seen it.
        if made / BATCH % 3 != 2 {
            eventually("the enrolments", Duration::from_secs(60), || (entries(&links) as u64 == batch).then_some(()))?;
            let now: BTreeSet<String> =
                fs::read_dir(&links)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            ensure!(now.iter().all(|id| id.parse().is_ok_and(|id: u64| ids.contains(&id))), "{now:?}");
        }
        for number in 0..batch {
            fs::remove_dir(jobs.join(format!("job{number}")))?;
        }
        let ended =
            eventually("the end of the enrolments", Duration::from_secs(30), || (entries(&links) == 0).then_some(()));
        if let Err(error) = ended {
            let status = site.callgate(&["status"])?.stdout;
            let log = site.agent_log();
            return Err(error.context(format!("{status}\n{}\n{log}", listed(&site))));
        }
        made += batch;
    }
    eventually("no file is left", SOON, || (entries(&written) == 0).then_some(()))?;
    ensure!(listed(&site).contains("nothing is enrolled"), "{}", listed(&site));
    let status = site.callgate(&["status"])?.ok()?.stdout;
    ensure!(!status.lines().any(|line| line.starts_with("alarm")), "{status}");
    // Each one that was enrolled was let go, on record.
    let records = site.records("enrolment", "an end for each", |records| {
        let of = |change: &str| records.iter().filter(|record| record["change"] == change).count();
        of("enrolled") == of("unenrolled") && of("enrolled") > 0
    })?;
    ensure!(records.len() as u64 >= total, "{} records of {total} cgroups", records.len());
    Ok(())
}
