//! What the hooks of the redirect cannot see, through the whole agent: cut, refused or ended, and on record.

use std::time::Duration;

use anyhow::{Result, ensure};
use callgate_e2e::{Case, Site};
use callgate_harness::{Place, Running};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("a_connection_older_than_the_enrolment_is_cut", older_connection).needs(&["netns", "python3"]),
    Case::new("a_task_that_asks_for_a_packet_socket_is_ended", packet_socket).needs(&["netns", "python3"]),
    Case::new("a_task_that_asks_for_netlink_beyond_routes_is_ended_or_reported", netlink).needs(&["netns", "python3"]),
    Case::new("who_holds_net_raw_is_not_enrolled_where_the_configuration_says_so", net_raw_refused)
        .needs(&["netns", "python3"]),
    Case::new("who_holds_net_raw_later_is_an_alarm_until_it_is_dropped", net_raw_reported).needs(&["netns", "python3"]),
    Case::new("a_process_that_enters_with_a_socket_gets_nowhere", entering).needs(&["netns", "python3"]),
    Case::new("connections_of_an_enrolled_workload_outlive_the_agents_restart", restart).needs(&["netns", "python3"]),
    Case::new("doctor_tells_what_the_kernel_takes_of_the_warden", doctor),
];

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs lines of Python from its input, and says how each went, with its number.
const SHELL: &str = r#"
import errno, socket, sys
held = {}
print("here", flush=True)
for number, line in enumerate(sys.stdin, 1):
    try:
        print(number, "done", eval(line), flush=True)
    except OSError as error:
        print(number, "failed", errno.errorcode.get(error.errno, error), flush=True)
"#;

struct Shell {
    running: Running,
    asked: u32,
}

impl Shell {
    fn start(place: &Place) -> Result<Self> {
        let mut python = place.command("python3");
        python.args(["-c", SHELL]);
        let shell = Self { running: Running::start(python)?, asked: 0 };
        shell.running.line(PATIENCE, |line| line == "here")?;
        Ok(shell)
    }

    /// `done VALUE` or `failed ERRNO`.
    fn ask(&mut self, python: &str) -> Result<String> {
        self.asked += 1;
        self.running.write(&format!("{python}\n"))?;
        let number = format!("{} ", self.asked);
        let line = self.running.line(PATIENCE, |line| line.starts_with(&number))?;
        Ok(line.strip_prefix(&number).unwrap_or_default().to_owned())
    }
}

fn connect(to: std::net::SocketAddr) -> String {
    format!("held.setdefault('out', socket.create_connection(('{}', {}), 5)).send(b'x')", to.ip(), to.port())
}

fn denials(site: &Site, event: &str) -> Result<Vec<serde_json::Value>> {
    let wanted = |record: &serde_json::Value| record["event"] == event;
    let found = site.records("kernel_denial", event, |records| records.iter().any(wanted))?;
    Ok(found.into_iter().filter(wanted).collect())
}

fn older_connection() -> Result<()> {
    let site = Site::new()?;
    let (late, other) = (site.root.child("late")?, site.root.child("other")?);
    let mut workload = Shell::start(&Place::here().cgroup_path(&late))?;
    let mut neighbour = Shell::start(&Place::here().cgroup_path(&other))?;
    for shell in [&mut workload, &mut neighbour] {
        let said = shell.ask(&connect(site.plain.address()))?;
        ensure!(said == "done 1", "{said}");
    }
    site.callgate(&["enroll", &late.display().to_string(), "--name", "late"])?.ok()?;
    let said = workload.ask("held['out'].send(b'y' * 2)")?;
    ensure!(said == "failed ECONNABORTED", "{said}");
    let said = neighbour.ask("held['out'].send(b'y' * 2)")?;
    ensure!(said == "done 2", "{said}");
    let found = denials(&site, "severed")?;
    ensure!(found.len() == 1 && found[0]["workload"] == "cgroup/late", "{found:?}");
    ensure!(found[0]["destination"] == site.plain.address().to_string() && found[0]["observed"] == false, "{found:?}");
    Ok(())
}

fn packet_socket() -> Result<()> {
    let site = Site::new()?;
    let mut workload = Shell::start(&Place::here().cgroup_path(&site.enrolled))?;
    let said = workload.ask("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).family.value")?;
    ensure!(said == "done 16", "{said}");
    workload.running.write("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n")?;
    let status = workload.running.wait(PATIENCE)?;
    ensure!(std::os::unix::process::ExitStatusExt::signal(&status) == Some(9), "{status}");
    let found = denials(&site, "family")?;
    ensure!(found[0]["workload"] == "cgroup/site" && found[0]["family"] == 17, "{found:?}");
    Ok(())
}

/// Everything but the enrolment, with one more key in the agent's configuration.
fn with_key(key: &str) -> Result<Site> {
    let mut site = Site::without_agent()?;
    let text = std::fs::read_to_string(site.path("agent.toml"))?;
    // Before the first table.
    site.write("agent.toml", &format!("{key}\n{text}"))?;
    site.start_collector()?;
    site.start_agent()?;
    Ok(site)
}

/// SOCK_DIAG, which lists every socket of the host.
const DIAG: &str = "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4).family.value";

fn netlink() -> Result<()> {
    let site = Site::new()?;
    let mut workload = Shell::start(&Place::here().cgroup_path(&site.enrolled))?;
    workload.running.write(&format!("{DIAG}\n"))?;
    let status = workload.running.wait(PATIENCE)?;
    ensure!(std::os::unix::process::ExitStatusExt::signal(&status) == Some(9), "{status}");
    let found = denials(&site, "family")?;
    // A look into the task's hands may see the socket too, before it is gone.
    let ended =
        |record: &serde_json::Value| record["family"] == 16 && record["protocol"] == 4 && record["observed"] == false;
    ensure!(found.iter().any(ended), "{found:?}");

    let site = with_key("netlink = \"report\"")?;
    site.callgate(&["enroll", &site.enrolled.display().to_string(), "--name", "site"])?.ok()?;
    let mut workload = Shell::start(&Place::here().cgroup_path(&site.enrolled))?;
    let said = workload.ask(DIAG)?;
    ensure!(said == "done 16", "{said}");
    let found = denials(&site, "family")?;
    ensure!(found[0]["protocol"] == 4 && found[0]["observed"] == true, "{found:?}");
    Ok(())
}

/// Drops every capability but CAP_SETPCAP, in all sets.
const DROP: &str = "__import__('ctypes').CDLL(None).capset((__import__('ctypes').c_uint32 * 2)(0x20080522, 0), \
                    (__import__('ctypes').c_uint32 * 6)(256, 256, 0, 0, 0, 0))";

fn alarms(site: &Site) -> Result<String> {
    let status = site.callgate(&["status"])?.ok()?.stdout;
    Ok(status.lines().filter(|line| line.starts_with("alarm")).collect::<Vec<_>>().join("\n"))
}

fn net_raw_refused() -> Result<()> {
    let site = with_key("net_raw = \"refuse\"")?;
    let mut workload = Shell::start(&Place::here().cgroup_path(&site.enrolled))?;
    let enroll = || site.callgate(&["enroll", &site.enrolled.display().to_string(), "--name", "site"]);
    let refused = enroll()?;
    let said = format!("{}{}", refused.stdout, refused.stderr);
    ensure!(refused.code() != 0 && said.contains("CAP_NET_RAW") && said.contains("cap-drop"), "{said}");
    ensure!(said.contains(&workload.running.pid().to_string()), "{said}");
    ensure!(site.callgate(&["workloads"])?.stdout.contains("nothing is enrolled"));
    let said = workload.ask(DROP)?;
    ensure!(said == "done 0", "{said}");
    enroll()?.ok()?;
    Ok(())
}

fn net_raw_reported() -> Result<()> {
    let site = Site::new()?;
    ensure!(!alarms(&site)?.contains("CAP_NET_RAW"), "{}", alarms(&site)?);
    let mut workload = Shell::start(&Place::here().cgroup_path(&site.enrolled))?;
    let is_told = |yes: bool| {
        let alarms = || alarms(&site).ok().filter(|told| told.contains("CAP_NET_RAW") == yes);
        callgate_harness::eventually("the alarm, or its end", PATIENCE, alarms)
    };
    ensure!(is_told(true)?.contains("cgroup/site"));
    workload.ask(DROP)?;
    is_told(false)?;
    Ok(())
}

fn entering() -> Result<()> {
    let site = Site::new()?;
    let other = site.root.child("other")?;
    let mut workload = Shell::start(&Place::here().cgroup_path(&other))?;
    workload.ask("held.setdefault('out', socket.socket()).fileno()")?;
    let said = workload.ask(&format!("open('{}/cgroup.procs', 'w').write('0')", site.enrolled.display()))?;
    ensure!(said.starts_with("done"), "{said}");
    let to = site.plain.address();
    let said = workload.ask(&format!("held['out'].connect(('{}', {}))", to.ip(), to.port()))?;
    ensure!(said == "failed EPERM", "{said}");
    ensure!(site.plain.request_count() == 0);
    let found = denials(&site, "foreign")?;
    ensure!(found[0]["workload"] == "cgroup/site" && found[0]["destination"] == to.to_string(), "{found:?}");
    Ok(())
}

/// What an enrolled cgroup has is none of the older ones for the next agent.
fn restart() -> Result<()> {
    let mut site = Site::new()?;
    let mut workload = Shell::start(&Place::here().cgroup_path(&site.enrolled))?;
    let said = workload.ask(&connect(site.plain.address()))?;
    ensure!(said == "done 1", "{said}");
    site.kill_agent()?;
    site.start_agent()?;
    let found = site.records("enrolment", "resumed", |records| records.iter().any(|one| one["change"] == "resumed"))?;
    ensure!(!found.is_empty());
    let all = site.records("", "all", |_| true)?;
    ensure!(!all.iter().any(|record| record["event"] == "severed"), "{all:?}");
    Ok(())
}

fn doctor() -> Result<()> {
    let site = Site::without_agent()?;
    let config = site.path("agent.toml").display().to_string();
    let said = site.callgate(&["doctor", "--json", "--config", &config])?.ok()?;
    for part in ["sockets", "guard", "arrivals", "lsm", "sock_diag destroy"] {
        let row = said.stdout.lines().find(|line| line.contains(&format!("\"name\":\"{part}\"")));
        ensure!(row.is_some_and(|row| row.contains("\"required\":false")), "no `{part}` in {}", said.stdout);
    }
    Ok(())
}
