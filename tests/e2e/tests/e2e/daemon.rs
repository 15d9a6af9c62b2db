//! The agent as a daemon: real clients in an enrolled cgroup, decided, masked and recorded; and what the kernel refuses.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, Site};
use callgate_harness::{Place, eventually, run, samples};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("curl_is_decided_masked_and_recorded", curl_is_decided_masked_and_recorded).needs(&["netns", "curl"]),
    Case::new("a_denied_call_never_reaches_the_service", a_denied_call_never_reaches_the_service)
        .needs(&["netns", "curl"]),
    Case::new("udp_and_raw_sockets_are_refused_and_recorded", udp_and_raw_sockets_are_refused_and_recorded)
        .needs(&["netns", "python3"]),
    Case::new("what_is_not_enrolled_is_untouched", what_is_not_enrolled_is_untouched).needs(&["netns", "curl"]),
    Case::new("policies_are_reloaded_and_a_broken_one_is_refused", policies_are_reloaded_and_a_broken_one_is_refused)
        .needs(&["netns", "curl"]),
    Case::new("the_control_socket_turns_a_workload_away", the_control_socket_turns_a_workload_away).needs(&["netns"]),
    Case::new("the_collector_turns_a_workload_away", the_collector_turns_a_workload_away).needs(&["netns"]),
    Case::new("a_cgroup_is_waited_for_and_comes_back", a_cgroup_is_waited_for_and_comes_back).needs(&["netns"]),
    Case::new("an_enrolment_is_not_renamed_unasked", an_enrolment_is_not_renamed_unasked).needs(&["netns"]),
    Case::new("an_enrolment_is_ended_without_an_agent", an_enrolment_is_ended_without_an_agent)
        .needs(&["netns", "curl"]),
    Case::new("what_is_unfit_is_told_before_the_start", what_is_unfit_is_told_before_the_start).needs(&["netns"]),
    Case::new("status_tells_an_agent_from_another_socket", status_tells_an_agent_from_another_socket).needs(&["netns"]),
    Case::new("unenrolled_means_untouched_again", unenrolled_means_untouched_again).needs(&["netns", "curl"]),
];

fn curl_is_decided_masked_and_recorded() -> Result<()> {
    let site = Site::new()?;
    let answer = site.curl(&[&site.api_url("/v1/users/7")])?.ok()?;
    ensure!(answer.stdout.ends_with("\n200"), "{}", answer.stdout);
    for secret in [samples::email(7), samples::card(7)] {
        ensure!(!answer.stdout.contains(&secret), "{}", answer.stdout);
    }
    ensure!(answer.stdout.contains(&samples::name(7)), "{}", answer.stdout);
    let records = site.records("begin", "the call's record", |records| records.len() == 1)?;
    let begin = &records[0];
    ensure!(begin["workload"] == "cgroup/site", "{begin}");
    ensure!(begin["decision"]["verdict"] == "allow" && begin["decision"]["policies"][0] == "read-users", "{begin}");
    let executable = &begin["process"]["executable"];
    ensure!(executable["path"].as_str().is_some_and(|path| path.ends_with("curl")), "{begin}");
    ensure!(executable["sha256"].as_str().is_some_and(|digest| digest.len() == 64), "{begin}");
    let all = site.records("", "the call's end", |records| records.iter().any(|r| r["kind"] == "end"))?;
    let text = format!("{all:?}");
    for secret in [samples::email(7), samples::card(7), samples::jwt(7)] {
        ensure!(!text.contains(&secret), "the record holds `{secret}`");
    }
    let verified = site.callgate(&["audit", "verify"])?;
    ensure!(verified.code() == 0, "{}{}", verified.stdout, verified.stderr);
    Ok(())
}

fn a_denied_call_never_reaches_the_service() -> Result<()> {
    let site = Site::new()?;
    let denied = site.curl(&["-X", "DELETE", &site.api_url("/v1/users/7")])?.ok()?;
    ensure!(denied.stdout.ends_with("\n403") && denied.stdout.contains("no-deletes"), "{}", denied.stdout);
    let unknown = site.curl(&[&site.api_url("/v2/x")])?.ok()?;
    ensure!(unknown.stdout.contains("no_permit"), "{}", unknown.stdout);
    ensure!(site.api.request_count() == 0, "{:?}", site.api.requests());
    // A TLS service that no policy names is not dialled at all.
    let before = site.api.connections();
    let other = format!("other.callgate.test:{}:{}", site.api.address().port(), site.api.address().ip());
    let url = format!("https://other.callgate.test:{}/", site.api.address().port());
    let refused = site.curl(&["--resolve", &other, &url])?.ok()?;
    ensure!(refused.stdout.ends_with("\n403"), "{}", refused.stdout);
    ensure!(site.api.connections() == before);
    // Nothing was permitted on it, and so its record says.
    let outcome =
        |record: &serde_json::Value| record["service"].as_str().is_some_and(|name| name.starts_with("other."));
    let records = site.records("connection", "the connection", |records| records.iter().any(outcome))?;
    let refused = records.iter().find(|record| outcome(record)).context("no connection")?;
    ensure!(refused["outcome"] == "refused" && refused["reason"] == refused["decision"]["reason"], "{refused}");
    Ok(())
}

const DATAGRAMS: &str = r#"
import errno, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
def attempt(what, do):
    try:
        do()
        print(what, "sent")
    except OSError as error:
        print(what, errno.errorcode.get(error.errno, error.errno))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
attempt("sendto", lambda: udp.sendto(b"x", (host, port)))
attempt("connect", lambda: udp.connect((host, 443)))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt("mptcp", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))
attempt("sctp", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP))
"#;

fn udp_and_raw_sockets_are_refused_and_recorded() -> Result<()> {
    let site = Site::new()?;
    let mut python = site.inside("python3");
    python.args(["-c", DATAGRAMS, &site.address.to_string(), "9999"]);
    let finished = run(python, Duration::from_secs(20))?.ok()?;
    ensure!(!finished.stdout.contains("sent"), "{}", finished.stdout);
    for line in ["sendto EACCES", "connect EACCES", "raw EPROTONOSUPPORT", "mptcp EPROTONOSUPPORT"] {
        ensure!(finished.stdout.contains(line), "no `{line}` in {}", finished.stdout);
    }
    let records = site.records("kernel_denial", "the refusals", |records| records.len() >= 4)?;
    ensure!(records.iter().all(|record| record["workload"] == "cgroup/site"), "{records:?}");
    Ok(())
}

fn what_is_not_enrolled_is_untouched() -> Result<()> {
    let site = Site::new()?;
    let mut curl = Place::here().command("curl");
    curl.args(site.curl_arguments()).args(["-X", "DELETE", &site.plain_url("/v1/users/7")]);
    let finished = run(curl, Duration::from_secs(20))?.ok()?;
    ensure!(!finished.stdout.contains("refused_by_callgate"), "{}", finished.stdout);
    ensure!(site.plain.request_count() == 1);
    Ok(())
}

fn policies_are_reloaded_and_a_broken_one_is_refused() -> Result<()> {
    let site = Site::new()?;
    ensure!(site.curl_as_nobody(&[&site.api_url("/new")])?.stdout.ends_with("\n403"));
    let more = r#"@id("new") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.callgate.test") when { resource.path == "/new" };"#;
    site.write("policies/new.cedar", more)?;
    eventually("the new policy to hold", Duration::from_secs(10), || {
        site.curl_as_nobody(&[&site.api_url("/new")]).ok().filter(|answer| !answer.stdout.ends_with("\n403"))
    })?;
    site.write("policies/broken.cedar", "permit (principal, action, resource) when { resource.pth == 1 };")?;
    let status = eventually("the alarm", Duration::from_secs(10), || {
        site.callgate(&["status"]).ok().filter(|status| status.stdout.contains("broken.cedar"))
    })?;
    ensure!(status.stdout.contains("path"), "no nearest name in {}", status.stdout);
    ensure!(!site.curl_as_nobody(&[&site.api_url("/new")])?.stdout.ends_with("\n403"), "the last good set is gone");
    Ok(())
}

const CONTROL: &str = r#"
import socket, sys
control = socket.socket(socket.AF_UNIX)
control.settimeout(5)
control.connect(sys.argv[1])
control.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
print("answer", control.recv(100).hex())
"#;

fn the_control_socket_turns_a_workload_away() -> Result<()> {
    turns_a_workload_away(&Site::new()?, "run/agent.sock")
}

fn the_collector_turns_a_workload_away() -> Result<()> {
    let mut site = Site::new()?;
    turns_a_workload_away(&site, "collector.sock")?;
    // Enforcement outlives the agent, and so does this.
    site.kill_agent()?;
    turns_a_workload_away(&site, "collector.sock")
}

fn turns_a_workload_away(site: &Site, socket: &str) -> Result<()> {
    let socket = site.path(socket).display().to_string();
    let ask = |mut python: std::process::Command| {
        python.args(["-c", CONTROL, &socket]);
        run(python, Duration::from_secs(20))
    };
    let outside = ask(std::process::Command::new("python3"))?;
    ensure!(outside.stdout.len() > "answer \n".len(), "{}{}", outside.stdout, outside.stderr);
    let inside = ask(site.inside("python3"))?;
    ensure!(inside.stdout.is_empty() || inside.stdout == "answer \n", "{}", inside.stdout);
    Ok(())
}

fn unenrolled_means_untouched_again() -> Result<()> {
    let site = Site::new()?;
    ensure!(site.callgate(&["workloads"])?.stdout.contains("cgroup/site"));
    site.callgate(&["unenroll", &site.enrolled.display().to_string()])?.ok().context("unenroll")?;
    ensure!(site.callgate(&["workloads"])?.stdout.contains("nothing is enrolled"));
    let answer = site.curl(&["-X", "DELETE", &site.plain_url("/v1/users/7")])?.ok()?;
    ensure!(!answer.stdout.contains("refused_by_callgate"), "{}", answer.stdout);
    Ok(())
}

fn alarms(site: &Site) -> Result<String> {
    let status = site.callgate(&["status"])?.ok()?.stdout;
    Ok(status.lines().filter(|line| line.starts_with("alarm")).collect::<Vec<_>>().join("\n"))
}

fn a_cgroup_is_waited_for_and_comes_back() -> Result<()> {
    const SOON: Duration = Duration::from_secs(10);
    let mut site = Site::without_agent()?;
    let late = site.root.path().join("late");
    site.configure(&format!("[[enroll]]\ncgroup = \"{}\"\nname = \"late\"\n", late.display()))?;
    site.start_collector()?;
    site.start_agent()?;
    // The rest works, and an alarm says what is missing, and since when.
    site.callgate(&["enroll", &site.enrolled.display().to_string(), "--name", "site"])?.ok()?;
    let told = alarms(&site)?;
    ensure!(told.contains("there is no cgroup") && told.contains("cgroup/late") && told.contains("since"), "{told}");
    let listed = |site: &Site| site.callgate(&["workloads"]).map(|listed| listed.stdout).unwrap_or_default();
    let comes = |site: &Site| -> Result<()> {
        std::fs::create_dir(&late)?;
        eventually("the enrolment", SOON, || listed(site).contains("cgroup/late").then_some(()))?;
        eventually("the end of the alarm", SOON, || alarms(site).ok().filter(String::is_empty)).map(drop)
    };
    let goes = |site: &Site| -> Result<()> {
        std::fs::remove_dir(&late)?;
        eventually("the alarm", SOON, || alarms(site).ok().filter(|told| told.contains("cgroup/late")))?;
        ensure!(!listed(site).contains("cgroup/late"), "{}", listed(site));
        Ok(())
    };
    comes(&site)?;
    goes(&site)?;
    ensure!(listed(&site).contains("cgroup/site"), "{}", listed(&site));
    comes(&site)?;
    // One that was enrolled on the fly is waited for as well, also by the next agent.
    std::fs::remove_dir(&site.enrolled)?;
    eventually("the alarm", SOON, || alarms(&site).ok().filter(|told| told.contains("cgroup/site")))?;
    site.stop_agent()?;
    site.start_agent()?;
    ensure!(alarms(&site)?.contains("cgroup/site"), "{}", alarms(&site)?);
    std::fs::create_dir(&site.enrolled)?;
    eventually("the enrolment", SOON, || listed(&site).contains("cgroup/site").then_some(()))?;
    // And ended by `unenroll`, also while it is away.
    std::fs::remove_dir(&site.enrolled)?;
    eventually("the alarm", SOON, || alarms(&site).ok().filter(|told| told.contains("cgroup/site")))?;
    site.callgate(&["unenroll", &site.enrolled.display().to_string()])?.ok()?;
    ensure!(alarms(&site)?.is_empty(), "{}", alarms(&site)?);
    std::fs::create_dir(&site.enrolled)?;
    goes(&site)?;
    comes(&site)?;
    ensure!(!listed(&site).contains("cgroup/site"), "{}", listed(&site));
    Ok(())
}

fn an_enrolment_is_not_renamed_unasked() -> Result<()> {
    let site = Site::new()?;
    let path = site.enrolled.display().to_string();
    let again = site.callgate(&["enroll", &path, "--name", "site"])?.ok()?;
    ensure!(again.stdout.starts_with("already enrolled"), "{}", again.stdout);
    for other in [["--name", "other"].as_slice(), &[], &["--name", "site", "--observe"]] {
        let refused = site.callgate(&[&["enroll", path.as_str()], other].concat())?;
        ensure!(refused.code() == 1 && refused.stderr.contains("--replace"), "{}{}", refused.stdout, refused.stderr);
    }
    let listed = site.callgate(&["workloads"])?.stdout;
    ensure!(listed.contains("cgroup/site") && listed.contains("enforce"), "{listed}");
    site.callgate(&["enroll", &path, "--name", "other", "--replace"])?.ok()?;
    ensure!(site.callgate(&["workloads"])?.stdout.contains("cgroup/other"));
    let unfit = site.callgate(&["enroll", &path, "--name", "x/y"])?;
    ensure!(unfit.code() == 2 && unfit.stderr.contains("is no name of a workload"), "{}", unfit.stderr);
    for outside in ["/tmp", "/", "../x"] {
        let refused = site.callgate(&["enroll", outside])?;
        ensure!(refused.code() == 1 && refused.stderr.contains(outside), "{}{}", refused.stdout, refused.stderr);
    }
    Ok(())
}

fn an_enrolment_is_ended_without_an_agent() -> Result<()> {
    let mut site = Site::new()?;
    let path = site.enrolled.display().to_string();
    site.agent()?.signal(rustix::process::Signal::STOP)?;
    let socket = site.path("run/agent.sock");
    std::fs::rename(&socket, site.path("run/aside.sock"))?;
    // An agent that lives but does not answer keeps what is its own.
    let refused = site.callgate(&["unenroll", &path])?;
    ensure!(refused.code() == 1 && refused.stderr.contains("in use by another process"), "{}", refused.stderr);
    site.kill_agent()?;
    ensure!(site.curl(&[&site.plain_url("/v1/users/7")])?.code() == 7, "it is not enforced without an agent");
    let ended = site.callgate(&["unenroll", &path])?.ok()?;
    ensure!(ended.stdout.contains("no agent runs"), "{}", ended.stdout);
    let answer = site.curl(&["-X", "DELETE", &site.plain_url("/v1/users/7")])?.ok()?;
    ensure!(!answer.stdout.contains("refused_by_callgate"), "{}", answer.stdout);
    let again = site.callgate(&["unenroll", &path])?;
    ensure!(again.code() == 1 && again.stderr.contains("no enrolment of"), "{}", again.stderr);
    site.start_agent()?;
    ensure!(site.callgate(&["workloads"])?.stdout.contains("nothing is enrolled"));
    Ok(())
}

fn what_is_unfit_is_told_before_the_start() -> Result<()> {
    let site = Site::without_agent()?;
    let check = |file: &str| {
        let mut agent = std::process::Command::new(callgate_harness::program("callgate-agent")?);
        agent.arg("--config").arg(site.path(file)).arg("--check");
        run(agent, Duration::from_secs(20))
    };
    check("agent.toml")?.ok()?;
    let fit = std::fs::read_to_string(site.path("agent.toml"))?;
    let unfit = [
        (fit.replace("upstream.pem", "other.pem"), "other.pem"),
        (fit.replace("unix:", "tcp:"), "collector"),
        (format!("{fit}[[enroll]]\ncgroup = \"/tmp\"\n"), "`/tmp`"),
        (fit.replace("/policies\"", "/nowhere\""), "nowhere"),
    ];
    for (text, named) in unfit {
        site.write("unfit.toml", &text)?;
        let refused = check("unfit.toml")?;
        ensure!(refused.code() == 2 && refused.stderr.contains(named), "{named}: {}", refused.stderr);
    }
    Ok(())
}

fn status_tells_an_agent_from_another_socket() -> Result<()> {
    let mut site = Site::new()?;
    let pid = site.agent()?.pid();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("no limit of cores")?;
    ensure!(core.split_whitespace().filter(|word| *word == "0").count() == 2, "{core}");
    let mut status = std::process::Command::new(callgate_harness::program("callgate")?);
    status.arg("status").arg("--state-dir").arg(site.path("state")).arg("--socket").arg(site.path("collector.sock"));
    let refused = run(status, Duration::from_secs(20))?;
    ensure!(refused.code() == 1 && refused.stderr.contains("does not answer as an agent does"), "{}", refused.stderr);
    Ok(())
}
