//! The corpus of request heads through the whole gate: refused ones get 400, and the upstream never hears of them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, Site, site};
use callgate_harness::run;

#[path = "../../../corpora/heads/load.rs"]
#[expect(dead_code, reason = "the loader is shared; what the canonical path is, the crate's own tests check")]
mod corpus;

/// The cases of this file.
pub const CASES: &[Case] = &[Case::new("refused_heads_get_400_and_go_nowhere", refused_heads_get_400_and_go_nowhere)
    .needs(&["netns", "python3"])
    .within(Duration::from_secs(300))];

/// Sends each payload of a file (one line each, hex) on a connection of its own; prints the statuses that came back.
const CLIENT: &str = r#"
import re, socket, sys
address, port = sys.argv[1], int(sys.argv[2])
for line in open(sys.argv[3]):
    client = socket.create_connection((address, port))
    client.settimeout(10)
    answer = b""
    try:
        client.sendall(bytes.fromhex(line.strip()))
        client.shutdown(socket.SHUT_WR)
        while data := client.recv(65536):
            answer += data
    except OSError as error:
        answer += b" error " + str(error).encode()
    print(" ".join(s.decode() for s in re.findall(rb"HTTP/1\.1 (\d\d\d)", answer)) or "none", flush=True)
    client.close()
"#;

fn refused_heads_get_400_and_go_nowhere() -> Result<()> {
    let site = Site::new()?;
    let host = format!("{}:{}", site::PLAIN, site.plain.address().port());
    // One connection for each, so that the upstream's log tells them apart by count.
    let cases: Vec<corpus::Case> = corpus::load();
    let refused: Vec<&corpus::Case> = cases.iter().filter(|case| !case.is_accepted() && case.heads() == 0).collect();
    ensure!(refused.len() >= 100, "{} refused payloads", refused.len());
    let lines: String = refused.iter().map(|case| hex(&case.bytes(&host)) + "\n").collect();
    site.write("payloads", &lines)?;
    let (address, port) = (site.address.to_string(), site.plain.address().port().to_string());
    let mut python = site.inside("python3");
    python.args(["-c", CLIENT, &address, &port]).arg(site.path("payloads"));
    let finished = run(python, Duration::from_secs(240))?.ok()?;
    let answers: Vec<&str> = finished.stdout.lines().collect();
    ensure!(answers.len() == refused.len(), "{} answers of {}", answers.len(), refused.len());
    let wrong: Vec<String> = refused
        .iter()
        .zip(&answers)
        .filter(|(case, answer)| !matches!(**answer, "400") && case.name != "http2-preface")
        .map(|(case, answer)| format!("{} ({}): {answer}", case.name, case.expect))
        .collect();
    ensure!(wrong.is_empty(), "{} not refused with 400: {wrong:#?}", wrong.len());
    ensure!(site.plain.request_count() == 0, "{:?}", site.plain.requests().first().context("one")?);
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
