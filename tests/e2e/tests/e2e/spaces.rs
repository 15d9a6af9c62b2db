//! Network namespaces: the agent listens where its workloads are, and holds none that they have left.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, PYTHON, Site};
use callgate_harness::{Netns, Place, Running, Veth, count, eventually, run};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("a_namespace_that_no_workload_is_in_any_more_is_left", left).needs(&["netns", "python3"]),
    Case::new("namespaces_that_come_and_go_leave_nothing", come_and_go)
        .needs(&["netns", "python3"])
        .alone()
        .within(Duration::from_secs(3_600)),
];

const SOON: Duration = Duration::from_secs(20);

/// A process in a namespace and a cgroup of its own.
struct Guest {
    running: Running,
    cgroup: PathBuf,
    netns: Netns,
}

impl Guest {
    fn start(site: &Site, name: &str) -> Result<Self> {
        let netns = Netns::new("guest")?;
        let cgroup = site.root.child(name)?;
        let running = Self::one_more(&netns, &cgroup)?;
        Ok(Self { running, cgroup, netns })
    }

    /// One that ends with its input.
    fn one_more(netns: &Netns, cgroup: &Path) -> Result<Running> {
        Running::start(Place::here().cgroup_path(cgroup).netns(netns).command("cat"))
    }

    /// Ends it and removes its cgroup; the namespace's name is left.
    fn ends(mut self) -> Result<Netns> {
        self.running.kill()?;
        eventually("the end of the cgroup", SOON, || std::fs::remove_dir(&self.cgroup).ok())?;
        Ok(self.netns)
    }
}

/// What `connect()` gives in that cgroup and namespace, whoever listens behind the gate.
fn connect(cgroup: &Path, netns: &Netns) -> Result<String> {
    let mut python = Place::here().cgroup_path(cgroup).netns(netns).command(PYTHON);
    python.args(["-c", "import socket; print(socket.socket().connect_ex(('198.51.100.7', 80)))"]);
    Ok(run(python, SOON)?.ok()?.stdout.trim().to_owned())
}

/// What the agent holds: namespaces beside its own, and descriptors.
#[derive(Debug)]
struct Held {
    namespaces: usize,
    descriptors: usize,
}

fn held(pid: u32) -> Result<Held> {
    let own = std::fs::read_link("/proc/self/ns/net")?;
    let links =
        std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let links: Vec<PathBuf> = links.collect();
    let foreign: BTreeSet<&PathBuf> =
        links.iter().filter(|link| link.to_string_lossy().starts_with("net:[") && **link != own).collect();
    Ok(Held { namespaces: foreign.len(), descriptors: links.len() })
}

/// Entries of the kernel's map of listeners.
fn registered(site: &Site) -> Result<usize> {
    let mut python = Command::new(PYTHON);
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/bpf.py")).arg("entries");
    python.arg(listeners(site)?);
    Ok(run(python, SOON)?.ok()?.stdout.trim().parse()?)
}

/// The pin, whatever the layout's version.
fn listeners(site: &Site) -> Result<PathBuf> {
    let mut versions = std::fs::read_dir(site.bpffs().join("callgate"))?.flatten();
    let version = versions.next().context("no pins")?;
    Ok(version.path().join("agent/maps/LISTENERS"))
}

fn left() -> Result<()> {
    let mut site = Site::new()?;
    let pid = site.agent()?.pid();
    let before = held(pid)?;
    ensure!(before.namespaces == 0 && registered(&site)? == 1, "{before:?}");
    let guest = Guest::start(&site, "guest")?;
    let veth = Veth::to_host(&guest.netns)?;
    let (first, second) = (guest.cgroup.display().to_string(), site.root.child("second")?);
    site.callgate(&["enroll", &first, "--name", "first"])?.ok()?;
    eventually("a listener", SOON, || connect(&guest.cgroup, &guest.netns).ok().filter(|errno| errno == "0"))?;
    ensure!(held(pid)?.namespaces == 1 && registered(&site)? == 2, "{:?}", held(pid)?);

    // Two workloads in one: it stays until the second goes.
    let mut other = Guest::one_more(&guest.netns, &second)?;
    site.callgate(&["enroll", &second.display().to_string(), "--name", "second"])?.ok()?;
    let netns = guest.ends()?;
    site.callgate(&["unenroll", &first])?.ok()?;
    ensure!(connect(&second, &netns)? == "0", "the other workload lost its listener");
    ensure!(held(pid)?.namespaces == 1);
    site.callgate(&["unenroll", &second.display().to_string()])?.ok()?;
    eventually("the namespace is left", SOON, || (held(pid).ok()?.namespaces == 0).then_some(()))?;
    eventually("its entry is gone", SOON, || (registered(&site).ok()? == 1).then_some(()))?;

    // Entered again with the next workload; refused in between, were it enrolled, by name in the kernel's tests.
    site.callgate(&["enroll", &second.display().to_string(), "--name", "second"])?.ok()?;
    eventually("a listener again", SOON, || connect(&second, &netns).ok().filter(|errno| errno == "0"))?;
    // The heart beats on without the loops that ended.
    ensure!(site.curl(&[&site.api_url("/v1/users/7")])?.ok()?.stdout.ends_with("\n200"));
    other.kill()?;
    site.callgate(&["unenroll", &second.display().to_string()])?.ok()?;
    eventually("the namespace is left", SOON, || (held(pid).ok()?.namespaces == 0).then_some(()))?;
    // Nobody holds it: the kernel frees it with its last name, and the other end of the link with it.
    let links = || {
        let mut ip = Command::new("ip");
        ip.args(["-o", "addr", "show"]);
        run(ip, SOON).map(|shown| shown.stdout).unwrap_or_default()
    };
    ensure!(links().contains(&veth.a.to_string()));
    drop(netns);
    eventually("the end of the namespace", SOON, || (!links().contains(&veth.a.to_string())).then_some(()))
}

fn come_and_go() -> Result<()> {
    /// How many are there at once.
    const BATCH: usize = 20;
    let mut site = Site::without_agent()?;
    site.configure(&format!("\n[[enroll]]\ncgroup = \"{}/guest-*\"\n", site.root.path().display()))?;
    site.start_collector()?;
    site.start_agent()?;
    let pid = site.agent()?.pid();
    let total = usize::try_from(count("namespaces_followed"))?;
    let mut after_first = None;
    for batch in 0..total.div_ceil(BATCH) {
        let guests = (0..BATCH.min(total - batch * BATCH)).map(|n| Guest::start(&site, &format!("guest-{n}")));
        let guests = guests.collect::<Result<Vec<_>>>()?;
        let wanted = guests.len();
        eventually("a listener in each", SOON, || (held(pid).ok()?.namespaces == wanted).then_some(()))?;
        eventually("each registered", SOON, || (registered(&site).ok()? == wanted + 1).then_some(()))?;
        ensure!(connect(&guests[0].cgroup, &guests[0].netns)? == "0");
        for guest in guests {
            guest.ends()?;
        }
        eventually("all are left", SOON, || (held(pid).ok()?.namespaces == 0).then_some(()))?;
        eventually("no entry is left", SOON, || (registered(&site).ok()? == 1).then_some(()))?;
        // The pool of threads for what blocks grows once; from then on nothing grows.
        let now = held(pid)?;
        let first = after_first.get_or_insert(now.descriptors);
        ensure!(now.descriptors <= *first + 2, "{first} descriptors after the first batch, {now:?} after {batch} more");
    }
    eventually("its threads end", SOON, || {
        let parked = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        (!tasks.map(parked).any(|name| name.trim() == "callgate-netns")).then_some(())
    })?;
    let status = site.callgate(&["status"])?.ok()?.stdout;
    ensure!(!status.lines().any(|line| line.starts_with("alarm")), "{status}");
    Ok(())
}
