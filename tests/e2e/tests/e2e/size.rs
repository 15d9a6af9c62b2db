//! Large bodies, long streams and many connections: all of it arrives, in constant memory, masked and recorded.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, PYTHON, Site, Used, site};
use callgate_harness::{Running, count, run};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("a_large_answer_streams_in_constant_memory", a_large_answer_streams_in_constant_memory)
        .needs(&["netns", "curl"])
        .alone()
        .within(Duration::from_secs(900)),
    Case::new("a_large_request_streams_in_constant_memory", a_large_request_streams_in_constant_memory)
        .needs(&["netns", "curl"])
        .alone()
        .within(Duration::from_secs(300)),
    Case::new("events_come_one_by_one_for_as_long_as_it_takes", events_come_one_by_one_for_as_long_as_it_takes)
        .needs(&["netns", "curl"])
        .within(Duration::from_secs(2400)),
    Case::new("idle_connections_cost_little", idle_connections_cost_little)
        .needs(&["netns", "python3"])
        .alone()
        .within(Duration::from_secs(600)),
];

/// Most memory that one body may add, whatever its length. Unit: bytes.
/// Source: the windows of one connection on both sides, the spool's buffers, and what the allocator keeps of them.
const MEMORY: u64 = 48 << 20;

/// Most memory of an idle connection. Unit: bytes. Source: hyper's buffers, 8 KiB each way on both sides, and as much again
/// for what is ours and the allocator's. (Requirement Q2 asks for 20 KiB: docs/results.md says where it stands.)
const IDLE: u64 = 64 << 10;

/// Runs curl and says what the agent's memory grew by.
fn growth(site: &mut Site, arguments: &[&str], within: Duration) -> Result<(String, u64)> {
    let pid = site.agent()?.pid();
    let before = Used::afresh(pid)?;
    let mut curl = site.inside("curl");
    curl.args(site.curl_arguments()).args(["--max-time", "900"]).args(arguments);
    let begun = Instant::now();
    let finished = run(curl, within)?.ok()?;
    let after = Used::of(pid)?;
    let grown = after.peak.saturating_sub(before.resident);
    let (cpu, took) = (after.cpu - before.cpu, begun.elapsed());
    println!("{:?}: {took:.1?}, {cpu:.1?} of CPU, {} KiB more", arguments.last(), grown >> 10);
    Ok((finished.stdout, grown))
}

fn a_large_answer_streams_in_constant_memory() -> Result<()> {
    let mut site = Site::new()?;
    let length = count("download_mib") << 20;
    for version in ["--http1.1", "--http2"] {
        let url = site.api_url(&format!("/bytes/{length}"));
        let arguments = [version, "--output", "/dev/null", "--write-out", "%{size_download} %{http_code}", &url];
        let (said, grown) = growth(&mut site, &arguments, Duration::from_secs(800))?;
        let (size, status) = said.trim().split_once(' ').with_context(|| said.clone())?;
        // A number among random bytes may be masked, which changes the length a little.
        let size: u64 = size.parse()?;
        ensure!(status == "200" && size.abs_diff(length) <= length / 100, "{version}: {said} of {length}");
        ensure!(grown <= MEMORY, "{version}: {grown} bytes more");
    }
    Ok(())
}

fn a_large_request_streams_in_constant_memory() -> Result<()> {
    let mut site = Site::new()?;
    let length = count("upload_mib") << 20;
    let path = site.path("upload");
    let mut file = std::fs::File::create(&path)?;
    for n in 0..length >> 20 {
        file.write_all(&vec![b'a' + (n % 26) as u8; 1 << 20])?;
    }
    let data = format!("@{}", path.display());
    for version in ["--http1.1", "--http2"] {
        let url = site.api_url("/v1/files");
        let (said, grown) = growth(&mut site, &[version, "--data-binary", &data, &url], Duration::from_secs(250))?;
        ensure!(said.contains(&format!("\"stored\":{length}")) && said.ends_with("201"), "{version}: {said}");
        ensure!(grown <= MEMORY, "{version}: {grown} bytes more");
    }
    Ok(())
}

fn events_come_one_by_one_for_as_long_as_it_takes() -> Result<()> {
    let site = Site::new()?;
    let events = count("stream_events");
    // Short runs send an event every 50 ms, full ones every second: half an hour.
    let pause = if events > 100 { 1000 } else { 50 };
    let mut curl = site.inside("curl");
    let url = site.api_url(&format!("/stream/{events}?ms={pause}"));
    curl.args(site.curl_arguments()).args(["--max-time", "2400", "--no-buffer", &url]);
    let begun = Instant::now();
    let mut stream = Running::start(curl)?;
    for n in 0..events {
        let due = Duration::from_millis(pause) * u32::try_from(n + 1)?;
        let line = stream.line(Duration::from_secs(30), |line| line.starts_with(&format!("data: {{\"n\":{n},")))?;
        ensure!(!line.contains('@'), "{line}");
        let late = begun.elapsed().saturating_sub(due);
        ensure!(late < Duration::from_secs(20), "event {n} came {late:?} late");
    }
    ensure!(stream.wait(Duration::from_secs(30))?.success(), "{}", stream.stderr());
    Ok(())
}

/// Opens connections with one call each, says so, and holds them until stdin closes. Every other call is denied: those
/// connections have no upstream, so that 10,000 fit into the 20,000 descriptors that some machines stop at.
const IDLERS: &str = r#"
import resource, socket, sys
host, address, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
held = []
for n in range(count):
    client = socket.create_connection((address, port))
    method, status = ("GET", b"200") if n % 2 else ("DELETE", b"403")
    client.sendall(f"{method} /v1/users/{n} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
    answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    held.append(client)
print("held", len(held), flush=True)
sys.stdin.read()
"#;

fn idle_connections_cost_little() -> Result<()> {
    let mut site = Site::new()?;
    let wanted = count("idle_connections");
    let pid = site.agent()?.pid();
    let before = Used::of(pid)?;
    let mut python = site.inside(PYTHON);
    let (address, port) = (site.address.to_string(), site.plain.address().port().to_string());
    python.args(["-c", IDLERS, site::PLAIN, &address, &port, &wanted.to_string()]);
    let mut idlers = Running::start(python)?;
    idlers.line(Duration::from_secs(500), |line| line == format!("held {wanted}"))?;
    let after = Used::of(pid)?;
    let each = after.resident.saturating_sub(before.resident) / wanted;
    println!("{wanted} idle connections: {} KiB in all, {each} bytes each", after.resident >> 10);
    // What the first calls load once weighs too much among a few connections to say anything.
    ensure!(wanted < 10_000 || each <= IDLE, "{each} bytes for each of {wanted} connections");
    idlers.close_stdin();
    idlers.wait(Duration::from_secs(30))?;
    Ok(())
}
