//! DNS of a workload: answered by the agent whichever resolver is asked, recorded, stripped, and refused as a tunnel.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, Site};
use callgate_harness::nameserver::{WWW, WWW6};
use callgate_harness::run;
use serde_json::Value;

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("names_are_resolved_by_the_agent_and_recorded", names_are_resolved_by_the_agent_and_recorded)
        .needs(&["netns", "python3"]),
    Case::new("any_resolver_is_answered_by_the_agent", any_resolver_is_answered_by_the_agent)
        .needs(&["netns", "python3", "ipv6"]),
    Case::new("hints_to_go_around_the_gate_are_stripped", hints_to_go_around_the_gate_are_stripped)
        .needs(&["netns", "python3"]),
    Case::new("a_tunnel_through_dns_is_refused_and_recorded", a_tunnel_through_dns_is_refused_and_recorded)
        .needs(&["netns", "python3"]),
    Case::new("encrypted_dns_and_quic_are_refused_at_once", encrypted_dns_and_quic_are_refused_at_once)
        .needs(&["netns", "python3"]),
    Case::new("questions_are_recorded_within_a_bound", questions_are_recorded_within_a_bound)
        .needs(&["netns", "python3"]),
    Case::new("run_resolves_names", run_resolves_names).needs(&["netns", "python3"]),
];

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/ask.py");

/// Resolvers that do not exist (RFC 5737, RFC 3849).
const NOWHERE: [&str; 2] = ["192.0.2.53", "2001:db8::53"];

const WITHIN: Duration = Duration::from_secs(30);

fn ask(site: &Site, how: &str, name: &str, kind: u16, resolver: &str) -> Result<String> {
    let mut python = site.inside("python3");
    python.args([CLIENT, how, name, &kind.to_string(), resolver]);
    Ok(run(python, WITHIN)?.ok()?.stdout.trim().to_owned())
}

fn addresses() -> [String; 2] {
    [std::net::Ipv4Addr::from(WWW).to_string(), WWW6.to_string()]
}

fn names_are_resolved_by_the_agent_and_recorded() -> Result<()> {
    let site = Site::new()?;
    let found = ask(&site, "getaddrinfo", "www.example", 0, "")?;
    for address in addresses() {
        ensure!(found.contains(&address), "{found}");
    }
    ensure!(site.names.asked().contains(&"www.example. A udp".to_owned()), "{:?}", site.names.asked());
    ensure!(ask(&site, "getaddrinfo", "nowhere.example", 0, "")?.contains("fails -2"), "no such name is one");
    let of = |name: &'static str| move |record: &&Value| record["name"] == name && record["query_type"] == "A";
    let records = site.records("dns", "both questions", |records| {
        records.iter().any(|r| of("www.example")(&r)) && records.iter().any(|r| of("nowhere.example")(&r))
    })?;
    let answered = records.iter().find(of("www.example")).context("no record")?;
    ensure!(answered["workload"] == "cgroup/site" && answered["reason"] == "permitted", "{answered}");
    ensure!(answered["rcode"] == "NOERROR" && answered["answers"] == 1, "{answered}");
    ensure!(answered["destination"].as_str().is_some_and(|to| to.ends_with(":53")), "{answered}");
    let path = answered["process"]["executable"]["path"].as_str().unwrap_or_default();
    ensure!(path.contains("python3"), "{answered}");
    let missing = records.iter().find(of("nowhere.example")).context("no record")?;
    ensure!(missing["rcode"] == "NXDOMAIN" && missing["answers"] == 0, "{missing}");
    let shown = site.callgate(&["audit", "search"])?.ok()?;
    ensure!(shown.stdout.contains("dns:A www.example"), "{}", shown.stdout);
    Ok(())
}

fn any_resolver_is_answered_by_the_agent() -> Result<()> {
    let site = Site::new()?;
    let www = addresses()[0].parse::<std::net::Ipv4Addr>()?.octets();
    let held: String = www.iter().map(|byte| format!("{byte:02x}")).collect();
    for resolver in NOWHERE {
        let answer = ask(&site, "udp", "www.example", 1, resolver)?;
        ensure!(answer.starts_with(&format!("from={resolver}:53 peer=None id=4242 rcode=0")), "{answer}");
        ensure!(answer.contains(" answers=1 ") && answer.ends_with(&held), "{answer}");
        for how in ["udp-connected", "tcp"] {
            let answer = ask(&site, how, "www.example", 1, resolver)?;
            ensure!(answer.contains(&format!("peer=('{resolver}', 53) id=4242 rcode=0")), "{how}: {answer}");
            ensure!(answer.contains(" answers=1 ") && answer.ends_with(&held), "{how}: {answer}");
        }
    }
    // What is too large for a datagram is marked so, and whole over TCP.
    let cut = ask(&site, "udp", "large.example", 1, NOWHERE[0])?;
    ensure!(cut.contains(" tc=1 ") && cut.contains(" answers=0 "), "{cut}");
    let whole = ask(&site, "tcp", "large.example", 1, NOWHERE[0])?;
    ensure!(whole.contains(" tc=0 ") && whole.contains(" answers=150 "), "{whole}");
    let records = site.records("dns", "eight questions", |records| records.len() >= 8)?;
    for (to, transport) in [("192.0.2.53:53", "tcp"), ("[2001:db8::53]:53", "udp"), ("[2001:db8::53]:53", "tcp")] {
        let there = |record: &Value| record["destination"] == to && record["transport"] == transport;
        ensure!(records.iter().any(there), "{to} {transport}: {records:?}");
    }
    Ok(())
}

fn hints_to_go_around_the_gate_are_stripped() -> Result<()> {
    let site = Site::new()?;
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let answer = ask(&site, "udp", "www.example", 65, NOWHERE[0])?;
    ensure!(answer.contains(" answers=1 ") && answer.contains(" ad=0 ") && answer.contains(&hex("\x02h2")), "{answer}");
    for taken_out in ["\x02h3", "ECHCONFIG"] {
        ensure!(!answer.contains(&hex(taken_out)), "`{taken_out}` is in {answer}");
    }
    let records = site.records("dns", "the question", |records| !records.is_empty())?;
    ensure!(records[0]["query_type"] == "HTTPS" && records[0]["stripped"] == 2, "{records:?}");
    Ok(())
}

fn a_tunnel_through_dns_is_refused_and_recorded() -> Result<()> {
    let site = Site::new()?;
    let hostile = "mzxw6ytboi5gk3tdmfzwk4tfmnzgk5bamrqxiyjam5xwk4z.t.example";
    for how in ["udp", "tcp"] {
        let answer = ask(&site, how, hostile, 16, NOWHERE[0])?;
        ensure!(answer.contains(" rcode=5 ") && answer.contains(" answers=0 "), "{how}: {answer}");
    }
    ensure!(site.names.asked().is_empty(), "it was asked for: {:?}", site.names.asked());
    let records = site.records("dns", "both", |records| records.len() >= 2)?;
    for record in &records {
        ensure!(record["rcode"] == "REFUSED" && record["reason"] == "dns_name", "{record}");
        ensure!(record["query_type"] == "TXT" && record["workload"] == "cgroup/site", "{record}");
    }
    Ok(())
}

fn encrypted_dns_and_quic_are_refused_at_once() -> Result<()> {
    let site = Site::new()?;
    let mut attempts = 0;
    for (how, port) in [("attempt-tcp", 853), ("attempt-udp", 853), ("attempt-udp", 443)] {
        for host in ["192.0.2.53", "[2001:db8::53]"] {
            let line = ask(&site, how, "", 0, &format!("{host}:{port}"))?;
            let [_, outcome, ms] = line.split(' ').collect::<Vec<_>>()[..] else { anyhow::bail!("{line}") };
            ensure!(outcome == "EACCES", "{how}: {line}");
            // Refused, not timed out: a client falls back within the time of one system call.
            ensure!(ms.parse::<u32>()? < 1_000, "{how}: {line}");
            attempts += 1;
        }
    }
    let records = site.records("kernel_denial", "the refusals", |records| records.len() >= attempts)?;
    let of = |event: &str| records.iter().filter(|record| record["event"] == event).count();
    ensure!((of("dot"), of("udp")) == (2, 4), "{records:?}");
    Ok(())
}

const FLOOD: &str = r#"
import socket, struct, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(5)
udp.connect(("192.0.2.53", 53))
codes = []
for n in range(int(sys.argv[1])):
    udp.send(struct.pack(">HHHHHH", n, 0x0100, 1, 0, 0, 0) + b"\3www\7example\0" + struct.pack(">HH", 1, 1))
    codes.append(udp.recv(512)[3] & 15)
print(codes.count(0), codes.count(5))
"#;

/// Every question is answered or refused; not every one has a record, and how many have none is told.
fn questions_are_recorded_within_a_bound() -> Result<()> {
    let site = Site::new()?;
    let mut python = site.inside("python3");
    python.args(["-c", FLOOD, "1000"]);
    let line = run(python, WITHIN)?.ok()?.stdout;
    let counts: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(counts.iter().sum::<u64>() == 1000 && counts[0] >= 400, "{line}");
    let told = |records: &[Value]| -> u64 {
        let of = |record: &Value| record["left_out"].as_u64().unwrap_or(0) + u64::from(record["name"] != "");
        records.iter().map(of).sum()
    };
    let records = site.records("dns", "every question in a record or a count", |records| told(records) >= 1000)?;
    ensure!(told(&records) == 1000 && records.len() < 900, "{} records of {}", records.len(), told(&records));
    Ok(())
}

fn run_resolves_names() -> Result<()> {
    let site = Site::without_agent()?;
    let finished =
        run(site.run(&["--as", "names"], &["python3", CLIENT, "getaddrinfo", "www.example", "0", ""])?, WITHIN)?;
    let finished = finished.ok()?;
    ensure!(finished.stdout.contains(&addresses()[0]), "{}{}", finished.stdout, finished.stderr);
    let records = site.records("dns", "the question", |records| !records.is_empty())?;
    ensure!(
        records.iter().all(|record| record["workload"] == "run/names" && record["session"].is_string()),
        "{records:?}"
    );
    Ok(())
}
