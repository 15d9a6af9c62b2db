//! Containers come to trust the gate by mounts over their own CA files: clients without any variable succeed, those of a
//! container without trust do not, and unenrolment undoes it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, PYTHON, Site, site};
use callgate_harness::{Finished, Place, Running, eventually, run};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("clients_in_containers_trust_the_gate_by_mounts", clients_in_containers_trust_the_gate_by_mounts)
        .needs(&["netns", "curl", "python3", "node", "java"]),
    Case::new(
        "trust_outlives_the_agent_and_ends_with_the_enrolment",
        trust_outlives_the_agent_and_ends_with_the_enrolment,
    )
    .needs(&["netns", "curl"]),
    Case::new(
        "a_container_that_hangs_holds_one_thread_and_gets_no_late_mount",
        a_container_that_hangs_holds_one_thread_and_gets_no_late_mount,
    )
    .needs(&["netns", "fuse"]),
];

const SOON: Duration = Duration::from_secs(15);
const WITHIN: Duration = Duration::from_secs(60);

/// Makes a root directory of a container's own out of the host's programs, and goes there.
const MADE: &str = r#"
set -e
root=$1; address=$2; host=$3
mount -t tmpfs container "$root"; cd "$root"
mkdir -p usr etc proc dev tmp old venv/lib/python3.9/site-packages/certifi
mount --rbind /usr usr; mount --rbind /dev dev; mount -t proc proc proc
for name in bin sbin lib lib64; do [ -e /$name ] && ln -s usr/$name $name; done
for name in ssl alternatives java-17-openjdk nsswitch.conf passwd group ld.so.cache; do
  [ ! -e /etc/$name ] || cp -a /etc/$name etc/
done
cp -L /etc/ssl/certs/ca-certificates.crt venv/lib/python3.9/site-packages/certifi/cacert.pem
echo "$address $host" > etc/hosts
pivot_root . old; umount -l /old
exec sleep 1000000
"#;

struct Container {
    first: Running,
    cgroup: PathBuf,
    _root: tempfile::TempDir,
}

impl Container {
    fn new(site: &Site, cgroup: &Path) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let mut command = Place::here().cgroup_path(cgroup).command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", MADE, "sh"]);
        command.arg(root.path()).arg(site.address.to_string()).arg(site::API);
        let first = Running::start(command)?;
        let container = Self { first, cgroup: cgroup.to_owned(), _root: root };
        let name = format!("/proc/{}/comm", container.first.pid());
        eventually("the container", SOON, || (std::fs::read_to_string(&name).ok()? == "sleep\n").then_some(()))?;
        Ok(container)
    }

    fn command(&self, words: &[&str]) -> Command {
        let of = |what: &str| format!("/proc/{}/{what}", self.first.pid());
        let mut command = Place::here().cgroup_path(&self.cgroup).command("nsenter");
        command.arg(format!("--mount={}", of("ns/mnt"))).arg(format!("--root={}", of("root"))).arg("--wd=/");
        command.arg("--").args(words).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin");
        command
    }

    fn run(&self, words: &[&str]) -> Result<Finished> {
        run(self.command(words), WITHIN)
    }

    /// Waits until every mount is there, as the agent says.
    fn is_trusted(&self, site: &Site) -> Result<usize> {
        eventually("the mounts", SOON, || {
            let mounts = self.mounts();
            let told = trust_of(site, "cgroup/trusted").ok()?;
            (mounts >= 2 && told == format!("mount ({mounts} files)")).then_some(mounts)
        })
    }

    fn mounts(&self) -> usize {
        let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.first.pid())).unwrap_or_default();
        table.lines().filter(|line| line.contains(" tmpfs callgate-trust ")).count()
    }
}

/// Two enrolled cgroups: `trusted` with mounts, `plain` without.
fn set_up() -> Result<(Site, PathBuf, PathBuf)> {
    let mut site = Site::without_agent()?;
    let (trusted, plain) = (site.root.child("trusted")?, site.root.child("plain")?);
    let entry = |path: &Path, more: &str| format!("\n[[enroll]]\ncgroup = \"{}\"\n{more}", path.display());
    site.configure(
        &(entry(&trusted, "name = \"trusted\"\ntrust = \"mount\"\n") + &entry(&plain, "name = \"plain\"\n")),
    )?;
    site.start_collector()?;
    site.start_agent()?;
    Ok((site, trusted, plain))
}

fn trust_of(site: &Site, id: &str) -> Result<String> {
    let listed = site.callgate(&["workloads", "--json"])?.ok()?;
    let rows = listed.stdout.lines().map(serde_json::from_str::<serde_json::Value>);
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let row = rows.iter().find(|row| row["id"] == id).with_context(|| listed.stdout.clone())?;
    Ok(row["trust"].as_str().unwrap_or_default().to_owned())
}

fn clients(url: &str) -> Vec<(&'static str, Vec<String>)> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let python = |context: &str| {
        let script = format!(
            "import ssl, sys, urllib.request as u; c = ssl.create_default_context({context}); \
                              print(u.urlopen(sys.argv[1], context=c, timeout=20).status)"
        );
        words(&[PYTHON, "-c", &script, url])
    };
    let node = "fetch(process.argv[1]).then(a => console.log(a.status), e => { console.error(e); process.exit(1) })";
    let java = "class C { public static void main(String[] a) throws Exception { \
                var c = (java.net.HttpURLConnection) java.net.URI.create(a[0]).toURL().openConnection(); \
                System.out.println(c.getResponseCode()); } }";
    let in_java = format!("mkdir -p /tmp/java && cd /tmp/java && echo '{java}' > C.java && exec java C.java \"$1\"");
    vec![
        ("curl", words(&["curl", "-sS", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}\n", url])),
        ("python by the hashed directory", python("")),
        ("python by certifi", python("cafile='/venv/lib/python3.9/site-packages/certifi/cacert.pem'")),
        ("node", words(&["node", "--use-openssl-ca", "-e", node, url])),
        ("java", words(&["sh", "-c", &in_java, "sh", url])),
    ]
}

fn clients_in_containers_trust_the_gate_by_mounts() -> Result<()> {
    let (site, trusted, plain) = set_up()?;
    let (with, without) = (Container::new(&site, &trusted)?, Container::new(&site, &plain)?);
    let mounts = with.is_trusted(&site)?;
    let url = site.api_url("/v1/health");
    for (client, words) in clients(&url) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = with.run(&words)?.ok().with_context(|| format!("{client}, with trust"))?;
        ensure!(said.stdout.trim() == "200", "{client}: {said:?}");
        let said = without.run(&words)?;
        ensure!(said.code() != 0 && !said.stdout.contains("200"), "{client}, without trust: {said:?}");
    }
    ensure!(without.mounts() == 0);
    ensure!(trust_of(&site, "cgroup/plain")? == "none");
    // A container that comes later is found as it comes, and one that is restarted is not mounted twice.
    let another = Container::new(&site, &trusted)?;
    eventually("the mounts of another one", SOON, || (another.mounts() == mounts).then_some(()))?;
    ensure!(with.mounts() == mounts);
    let doctor =
        site.callgate(&["doctor", "--json", "--config", &site.path("agent.toml").display().to_string()])?.ok()?;
    let rows = doctor.stdout.lines().map(serde_json::from_str::<serde_json::Value>).collect::<Result<Vec<_>, _>>()?;
    for (name, detail) in [("trust by mounts", "mounts can be made"), ("trust in force", "mount: 1, none: 1")] {
        let row = rows.iter().find(|row| row["name"] == name).with_context(|| format!("no row {name}"))?;
        ensure!(row["ok"] == true && row["detail"] == detail, "{row}");
    }
    Ok(())
}

fn trust_outlives_the_agent_and_ends_with_the_enrolment() -> Result<()> {
    let (mut site, trusted, _) = set_up()?;
    let container = Container::new(&site, &trusted)?;
    let mounts = container.is_trusted(&site)?;
    let url = site.api_url("/v1/health");
    let curl = ["curl", "-sS", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}", &url];
    let ca = std::fs::read(site.path("run/trust/ca.pem"))?;
    site.kill_agent()?;
    site.start_agent()?;
    ensure!(std::fs::read(site.path("run/trust/ca.pem"))? == ca, "a restart made another CA");
    let before = trust_of(&site, "cgroup/trusted");
    ensure!(container.mounts() == mounts, "{before:?}");
    eventually("what is there, known again", SOON, || {
        trust_of(&site, "cgroup/trusted").ok().filter(|told| told.contains("files)"))
    })?;
    ensure!(container.mounts() == mounts, "mounted twice");
    ensure!(container.run(&curl)?.ok()?.stdout == "200");
    let processes = container.run(&["sha256sum", "/etc/ssl/certs/ca-certificates.crt"])?.ok()?;
    let trusted = trusted.display().to_string();
    site.callgate(&["unenroll", &trusted])?.ok()?;
    ensure!(container.mounts() == 0, "mounts stay");
    ensure!(container.run(&["sha256sum", "/etc/ssl/certs/ca-certificates.crt"])?.ok()?.stdout != processes.stdout);
    let of_host = std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt")?;
    let inside = container.run(&["cat", "/etc/ssl/certs/ca-certificates.crt"])?.ok()?;
    ensure!(of_host == inside.stdout, "not as it was");
    Ok(())
}

fn a_container_that_hangs_holds_one_thread_and_gets_no_late_mount() -> Result<()> {
    let (mut site, trusted, _) = set_up()?;
    let path = trusted.display().to_string();
    site.callgate(&["unenroll", &path])?.ok()?;
    let container = Container::new(&site, &trusted)?;
    let hang = "exec 3<>/dev/fuse; mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 dead /venv; \
                exec sleep 1000000";
    let hanging = Running::start(container.command(&["sh", "-c", hang]))?;
    let table = || std::fs::read_to_string(format!("/proc/{}/mountinfo", container.first.pid())).unwrap_or_default();
    eventually("a file system that nobody serves", SOON, || table().contains(" /venv ").then_some(()))?;
    let pid = site.agent()?.pid();
    for round in 0..6 {
        site.callgate(&["enroll", &path, "--name", "trusted"])?.ok()?;
        let hangs = || trust_of(&site, "cgroup/trusted").ok().filter(|told| told == "mount (failed)");
        eventually("the container hangs", SOON, hangs)?;
        ensure!(threads(pid)? == 1, "round {round}: {} threads wait", threads(pid)?);
        site.callgate(&["unenroll", &path])?.ok()?;
        ensure!(threads(pid)? == 1, "round {round}: it must hang still");
    }
    // Who holds the file system ends, and whoever waits for it goes on.
    drop(hanging);
    eventually("the thread's end", SOON, || (threads(pid).ok()? == 0).then_some(()))?;
    ensure!(container.mounts() == 0 && table().contains(" /venv "), "{}", table());
    Ok(())
}

/// How many threads of the agent look into containers.
fn threads(agent: u32) -> Result<usize> {
    let tasks = std::fs::read_dir(format!("/proc/{agent}/task"))?;
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    Ok(names.filter(|name| name == "trust-space\n").count())
}
