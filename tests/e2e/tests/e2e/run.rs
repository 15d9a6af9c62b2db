//! `callgate run`: curl, Python, Node and git behind the gate; the record of each; exit codes; what a crash leaves.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, Site, site};
use callgate_harness::{Running, eventually, run, samples};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("run_curl_is_masked_and_recorded", run_curl).needs(&["netns", "curl"]),
    Case::new("run_python_is_masked_and_denied", run_python).needs(&["netns", "python3"]),
    Case::new("run_node_is_masked", run_node).needs(&["netns", "node"]),
    Case::new("run_git_clones_and_may_not_push", run_git).needs(&["netns", "git"]),
    Case::new("run_gives_the_commands_exit_code", run_gives_the_commands_exit_code).needs(&["netns"]),
    Case::new("run_without_a_policy_says_how_to_get_one", run_without_a_policy_says_how_to_get_one),
    Case::new("run_takes_policies_from_its_configuration", run_takes_policies_from_its_configuration).needs(&["netns"]),
    Case::new("a_second_interrupt_ends_a_run_at_once", a_second_interrupt_ends_a_run_at_once).needs(&["netns"]),
    Case::new("what_died_before_enrolling_is_swept", what_died_before_enrolling_is_swept).needs(&["netns"]),
    Case::new("the_command_is_as_dumpable_as_any", the_command_is_as_dumpable_as_any).needs(&["netns", "python3"]),
    Case::new("what_was_observed_becomes_a_policy", what_was_observed_becomes_a_policy).needs(&["netns", "curl"]),
    Case::new("run_observes_without_refusing", run_observes_without_refusing).needs(&["netns", "curl"]),
    Case::new("a_crashed_run_leaves_nothing_for_long", a_crashed_run_leaves_nothing_for_long).needs(&["netns", "curl"]),
];

const WITHIN: Duration = Duration::from_secs(60);

fn run_curl() -> Result<()> {
    let site = Site::without_agent()?;
    let arguments = site.curl_arguments();
    let url = site.api_url("/v1/users/7");
    let command: Vec<&str> =
        ["curl"].into_iter().chain(arguments.iter().map(String::as_str)).chain([url.as_str()]).collect();
    let finished = run(site.run(&["--as", "shop"], &command)?, WITHIN)?.ok()?;
    ensure!(finished.stdout.ends_with("\n200"), "{}{}", finished.stdout, finished.stderr);
    ensure!(!finished.stdout.contains(&samples::email(7)), "{}", finished.stdout);
    ensure!(finished.stderr.contains("\ncallgate: 1 call, 0 denied, "), "{}", finished.stderr);
    // What is offered can be pasted.
    let (_, replay) = finished.stderr.trim_end().rsplit_once("replay: callgate ").context("no replay is offered")?;
    let callgate = callgate_harness::program("callgate")?;
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{} {replay}", callgate.display())]);
    let shown = run(shell, WITHIN)?.ok()?;
    ensure!(shown.stdout.contains("GET") && shown.stdout.contains("/v1/users/7"), "{}", shown.stdout);
    let records = site.records("", "the records", |records| records.iter().any(|r| r["kind"] == "end"))?;
    let begin = records.iter().find(|record| record["kind"] == "begin").context("no begin")?;
    ensure!(begin["workload"] == "run/shop", "{begin}");
    ensure!(site.callgate(&["audit", "verify"])?.code() == 0);
    let sessions = site.callgate(&["session", "list", "--json"])?.ok()?;
    ensure!(sessions.stdout.lines().count() == 1, "{}", sessions.stdout);
    let left = std::fs::read_dir(site.root.path().join("callgate")).map(Iterator::count).unwrap_or(0);
    let left = if left == 0 {
        0
    } else {
        std::fs::read_dir(site.root.path().join("callgate"))?
            .filter(|e| e.as_ref().is_ok_and(|e| e.path().is_dir()))
            .count()
    };
    ensure!(left == 0, "the run's cgroup is still there");
    Ok(())
}

const PYTHON: &str = r#"
import http.client, socket, ssl, sys
host, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
context = ssl.create_default_context()
def call(method, path):
    plain = socket.create_connection((address, port))
    connection = http.client.HTTPSConnection(host, port, context=context)
    connection.sock = context.wrap_socket(plain, server_hostname=host)
    connection.request(method, path)
    answer = connection.getresponse()
    print(answer.status, answer.read().decode())
call("GET", "/v1/users/8")
call("DELETE", "/v1/users/8")
"#;

fn run_python() -> Result<()> {
    let site = Site::without_agent()?;
    let (address, port) = (site.address.to_string(), site.api.address().port().to_string());
    let command = ["python3", "-c", PYTHON, site::API, &address, &port];
    let finished = run(site.run(&[], &command)?, WITHIN)?.ok()?;
    let lines: Vec<&str> = finished.stdout.lines().filter(|line| !line.trim().is_empty()).collect();
    ensure!(lines.len() == 2 && lines[0].starts_with("200") && lines[1].starts_with("403"), "{}", finished.stdout);
    ensure!(!lines[0].contains(&samples::email(8)) && lines[0].contains(&samples::name(8)), "{}", lines[0]);
    ensure!(site.api.request_count() == 1);
    Ok(())
}

const NODE: &str = r#"
const https = require("https");
const [host, address, port] = process.argv.slice(1);
const lookup = (_, options, done) => options.all ? done(null, [{ address, family: 4 }]) : done(null, address, 4);
https.get({ host, port, path: "/v1/users/9", lookup }, (answer) => {
  let body = "";
  answer.on("data", (data) => (body += data));
  answer.on("end", () => console.log(answer.statusCode, body));
});
"#;

fn run_node() -> Result<()> {
    let site = Site::without_agent()?;
    let (address, port) = (site.address.to_string(), site.api.address().port().to_string());
    let finished = run(site.run(&[], &["node", "-e", NODE, site::API, &address, &port])?, WITHIN)?.ok()?;
    ensure!(finished.stdout.starts_with("200"), "{}{}", finished.stdout, finished.stderr);
    ensure!(!finished.stdout.contains(&samples::email(9)), "{}", finished.stdout);
    Ok(())
}

/// A repository with one commit, cloned, and a push that policy does not permit.
fn run_git() -> Result<()> {
    let site = Site::without_agent()?;
    let bare = site.path("git/repo.git").display().to_string();
    let seed = format!(
        "git init -q --bare {bare} && git -C {bare} config http.receivepack true && cd $(mktemp -d -p {root}) && \
         git init -q . && echo through the gate > file && git add file && \
         git -c user.name=t -c user.email=t@t commit -q -m one && git push -q {bare} HEAD:refs/heads/main && \
         git -C {bare} symbolic-ref HEAD refs/heads/main",
        root = site.path(".").display(),
    );
    let mut shell = std::process::Command::new("sh");
    shell.args(["-ec", &seed]);
    run(shell, WITHIN)?.ok()?;

    let resolve = format!("http.curloptResolve={}:{}:{}", site::API, site.api.address().port(), site.address);
    let (url, copy) = (site.api_url("/git/repo.git"), tempfile::tempdir()?);
    let copy = copy.path().join("copy").display().to_string();
    run(site.run(&[], &["git", "-c", &resolve, "clone", "-q", &url, &copy])?, WITHIN)?.ok()?;
    let file = std::fs::read_to_string(std::path::Path::new(&copy).join("file"))?;
    ensure!(file == "through the gate\n", "{file}");

    let push = ["git", "-C", &copy, "-c", &resolve, "push", "origin", "HEAD:refs/heads/other"];
    let finished = run(site.run(&[], &push)?, WITHIN)?;
    ensure!(finished.code() != 0 && finished.stderr.contains("403"), "{}", finished.stderr);
    let asked = site.api.requests();
    ensure!(!asked.iter().any(|request| request.path.ends_with("/git-receive-pack")), "{asked:?}");
    let denied = site.api_url("/private/repo");
    let finished = run(site.run(&[], &["git", "-c", &resolve, "ls-remote", &denied])?, WITHIN)?;
    ensure!(finished.code() == 128 && finished.stderr.contains("403"), "{}", finished.stderr);
    ensure!(!site.api.requests().iter().any(|request| request.path.starts_with("/private")));
    let functions: Vec<String> = site
        .records("begin", "the calls", |records| records.len() >= 4)?
        .iter()
        .map(|record| record["function"].to_string())
        .collect();
    ensure!(functions.iter().any(|function| function.contains("git-upload-pack")), "{functions:?}");
    Ok(())
}

fn run_gives_the_commands_exit_code() -> Result<()> {
    let site = Site::without_agent()?;
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 128 + 15)] {
        let finished = run(site.run(&["--quiet"], &["sh", "-c", script])?, WITHIN)?;
        ensure!(finished.code() == code, "`{script}`: {} {}", finished.code(), finished.stderr);
        ensure!(finished.stderr.is_empty(), "{}", finished.stderr);
    }
    let missing = run(site.run(&["--quiet"], &["no-such-command-at-all"])?, WITHIN)?;
    ensure!(missing.code() == 127 && missing.stderr.contains("not found"), "{} {}", missing.code(), missing.stderr);
    Ok(())
}

fn run_without_a_policy_says_how_to_get_one() -> Result<()> {
    let mut command = std::process::Command::new(callgate_harness::program("callgate")?);
    let empty = tempfile::tempdir()?;
    command.args(["run", "--", "true"]).current_dir(empty.path()).env("HOME", empty.path());
    command.env_remove("XDG_CONFIG_HOME").env_remove("SUDO_UID");
    let finished = run(command, WITHIN)?;
    ensure!(finished.code() == 2, "{} {}", finished.code(), finished.stderr);
    let wanted = "callgate: no policy: 'callgate policy init DIR' writes one, '--observe' records without refusing\n";
    ensure!(finished.stderr == wanted, "{}", finished.stderr);
    Ok(())
}

fn run_takes_policies_from_its_configuration() -> Result<()> {
    let site = Site::without_agent()?;
    let empty = tempfile::tempdir()?;
    let with = |config: &std::path::Path, arguments: &[&str]| -> Result<callgate_harness::Finished> {
        let mut command = Command::new(callgate_harness::program("callgate")?);
        command.arg("run").arg("--config").arg(config).args(arguments).args(["--", "true"]);
        command.current_dir(empty.path()).env("HOME", empty.path()).env_remove("XDG_CONFIG_HOME");
        run(command, WITHIN)
    };
    with(&site.path("run.toml"), &[])?.ok()?;
    // What is wrong with a configuration is said, whatever else is missing.
    site.write("broken.toml", "policy_dri = \"x\"\n")?;
    let broken = with(&site.path("broken.toml"), &[])?;
    ensure!(broken.code() == 2 && broken.stderr.contains("policy_dri"), "{} {}", broken.code(), broken.stderr);
    site.write("policies/broken.cedar", "permit (principal")?;
    let broken = with(&site.path("run.toml"), &[])?;
    ensure!(broken.code() == 2 && broken.stderr.contains("broken.cedar"), "{} {}", broken.code(), broken.stderr);
    for (option, value) in [("--as", "x/y"), ("--collector", "nowhere"), ("--log", "loud")] {
        let refused = with(&site.path("run.toml"), &["--observe", option, value])?;
        ensure!(refused.code() == 2 && refused.stderr.contains(value), "{} {}", refused.code(), refused.stderr);
    }
    Ok(())
}

fn a_second_interrupt_ends_a_run_at_once() -> Result<()> {
    let site = Site::without_agent()?;
    // Nobody takes the records, so that the end waits for as long as it may.
    let text = std::fs::read_to_string(site.path("run.toml"))?.replace("drain_timeout_s = 5", "drain_timeout_s = 90");
    site.write("run.toml", &text)?;
    let nowhere = format!("unix:{}", site.path("nowhere.sock").display());
    for (signal, code) in [(rustix::process::Signal::INT, 130), (rustix::process::Signal::TERM, 143)] {
        // Whoever started these tests in the background has SIGINT ignored, and `run` heeds that.
        let run = site.run(&["--collector", &nowhere], &["echo", "done"])?;
        let mut heeding = std::process::Command::new("env");
        heeding.arg("--default-signal=INT,TERM").arg(run.get_program()).args(run.get_args());
        let mut running = Running::start(heeding)?;
        running.line(WITHIN, |line| line == "done")?;
        // Before the end begins to wait a signal is for CMD, and afterwards for the waiting.
        let begun = Instant::now();
        eventually("the first signal's word", WITHIN, || {
            if running.stderr().contains("again to end at once") {
                return Some(());
            }
            let _ = running.signal(signal);
            None
        })?;
        let _ = running.signal(signal);
        let status = running.wait(Duration::from_secs(20))?;
        ensure!(status.code() == Some(code), "{status}: {}", running.stderr());
        ensure!(begun.elapsed() < Duration::from_secs(40), "it took {:?}", begun.elapsed());
    }
    ensure!(std::fs::read_dir(site.path("state/spool"))?.count() == 2, "records were lost");
    // The next one ships what these could not.
    run(site.run(&[], &["true"])?, WITHIN)?.ok()?;
    let left = std::fs::read_dir(site.path("state/spool"))?.count();
    ensure!(left == 0, "{left} spools are still there");
    Ok(())
}

fn what_died_before_enrolling_is_swept() -> Result<()> {
    let site = Site::without_agent()?;
    run(site.run(&[], &["true"])?, WITHIN)?.ok()?;
    let schema = std::fs::read_dir(site.bpffs().join("callgate"))?.next().context("no pins at all")??.path();
    for folder in ["run-idle/maps", "run-idle/links", "run-enforcing/maps", "run-enforcing/links/7"] {
        std::fs::create_dir_all(schema.join(folder))?;
    }
    let next = run(site.run(&[], &["true"])?, WITHIN)?.ok()?;
    ensure!(next.stderr.contains("removed what the crashed `run-idle` left"), "{}", next.stderr);
    ensure!(!schema.join("run-idle").exists(), "pins that enforce nothing are still there");
    ensure!(schema.join("run-enforcing/links/7").exists(), "enforcement was taken away");
    Ok(())
}

const DUMPABLE: &str = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))";

fn the_command_is_as_dumpable_as_any() -> Result<()> {
    let site = Site::without_agent()?;
    let finished = run(site.run(&["-q"], &["python3", "-c", DUMPABLE])?, WITHIN)?.ok()?;
    ensure!(finished.stdout == "1\n", "{}{}", finished.stdout, finished.stderr);
    Ok(())
}

fn run_observes_without_refusing() -> Result<()> {
    let site = Site::without_agent()?;
    let arguments = site.curl_arguments();
    let url = site.plain_url("/v1/users/7");
    let mut command: Vec<&str> = vec!["curl", "-X", "DELETE"];
    command.extend(arguments.iter().map(String::as_str));
    command.push(&url);
    let finished = run(site.run(&["--observe"], &command)?, WITHIN)?.ok()?;
    ensure!(finished.stderr.contains("1 call, 0 denied, 1 would be denied"), "{}", finished.stderr);
    ensure!(!finished.stdout.contains("refused_by_callgate"), "{}", finished.stdout);
    let records = site.records("begin", "the record", |records| records.len() == 1)?;
    ensure!(records[0]["observed"] == true && records[0]["decision"]["verdict"] == "deny", "{}", records[0]);
    Ok(())
}

fn what_was_observed_becomes_a_policy() -> Result<()> {
    let site = Site::without_agent()?;
    let call = |mode: &[&str], path: &str| -> Result<callgate_harness::Finished> {
        let arguments = site.curl_arguments();
        let url = site.api_url(path);
        let mut command: Vec<&str> = vec!["curl", "-X", "PUT"];
        command.extend(arguments.iter().map(String::as_str));
        command.push(&url);
        run(site.run(&[mode, &["--as", "job"]].concat(), &command)?, WITHIN)
    };
    let denied = call(&[], "/v2/orders/7")?;
    ensure!(denied.stdout.ends_with("\n403"), "{denied:?}");
    for path in ["/v2/orders/7", "/v2/orders/8"] {
        let observed = call(&["--observe"], path)?;
        ensure!(!observed.stdout.contains("refused_by_callgate"), "{observed:?}");
    }
    let shown = site.callgate(&["discover", "--workload", "job", "--json"])?.ok()?;
    let row: serde_json::Value = serde_json::from_str(shown.stdout.lines().next().context("no row")?)?;
    ensure!(shown.stdout.lines().count() == 1, "{}", shown.stdout);
    let function = format!("http:PUT {}:{}/v2/orders/*", site::API, site.api.address().port());
    ensure!(row["function"] == function.as_str() && row["count"] == 3, "{row}");
    ensure!(row["would_deny"] == 2 && row["denied"] == 1 && row["reasons"][0] == "no_permit", "{row}");
    ensure!(row["executables"][0].as_str().is_some_and(|path| path.ends_with("/curl")), "{row}");
    let table = site.callgate(&["discover"])?.ok()?;
    ensure!(table.stdout.contains("run/job") && table.stdout.contains("/v2/orders/*"), "{}", table.stdout);

    let draft = site.callgate(&["policy", "suggest", "--workload", "job"])?.ok()?;
    site.write("policies/job.cedar", &draft.stdout)?;
    let policies = site.path("policies").display().to_string();
    run(site_command(&["policy", "check", &policies])?, WITHIN)?.ok()?;
    let permitted = call(&[], "/v2/orders/9")?;
    ensure!(!permitted.stdout.contains("refused_by_callgate"), "{permitted:?}");
    let other = call(&[], "/v2/customers/9")?;
    ensure!(other.stdout.ends_with("\n403"), "{other:?}");
    Ok(())
}

fn site_command(arguments: &[&str]) -> Result<std::process::Command> {
    let mut command = std::process::Command::new(callgate_harness::program("callgate")?);
    command.args(arguments);
    Ok(command)
}

fn a_crashed_run_leaves_nothing_for_long() -> Result<()> {
    let site = Site::without_agent()?;
    let mut crashed = Running::start(site.run(&[], &["sleep", "600"])?)?;
    let cgroups = site.root.path().join("callgate");
    let born = eventually("the run's cgroup", WITHIN, || {
        let path = std::fs::read_dir(&cgroups).ok()?.flatten().find(|entry| entry.path().is_dir())?.path();
        let inside = std::fs::read_to_string(path.join("cgroup.procs")).ok()?;
        (!inside.trim().is_empty()).then_some(path)
    })?;
    crashed.kill()?;
    // CMD outlives a killed agent; it can reach nothing, and the next run must not take its cgroup away from it.
    std::fs::write(born.join("cgroup.kill"), "1")?;
    eventually("the end of what was left", WITHIN, || {
        std::fs::read_to_string(born.join("cgroup.procs")).ok().filter(|inside| inside.trim().is_empty())
    })?;
    let next = run(site.run(&[], &["true"])?, WITHIN)?.ok()?;
    ensure!(next.stderr.contains("removed what the crashed"), "{}", next.stderr);
    ensure!(!born.exists(), "{} is still there", born.display());
    site.callgate(&["audit", "verify"])?.ok()?;
    Ok(())
}
