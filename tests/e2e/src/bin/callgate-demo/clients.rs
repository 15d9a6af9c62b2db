//! The clients that the demo starts, and what they answered.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use callgate_e2e::Site;
use callgate_e2e::site::API;
use callgate_harness::{run, samples};

/// Longest time for one client. Source: each takes well under a second; a busy machine may take ten times that.
const CLIENT: Duration = Duration::from_secs(30);

/// The user whose record is asked for.
pub const USER: u64 = 7;
/// The path of that record.
pub const USER_PATH: &str = "/v1/users/7";

/// Python as anyone writes it; only the name is resolved by hand, for there is no DNS server here.
const PYTHON_GET: &str = r#"
import socket, sys, urllib.request
host, address, url = sys.argv[1:4]
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda name, *rest, **more: resolve(address if name == host else name, *rest, **more)
with urllib.request.urlopen(url, timeout=20) as answer:
    print(answer.read().decode())
    print(answer.status)
"#;

/// Ways around a proxy; prints what became of each.
const PYTHON_DIRECT: &str = r#"
import errno, socket, sys
address, port = sys.argv[1], int(sys.argv[2])
def attempt(name, act):
    try:
        print(name, act())
    except OSError as error:
        print(name, errno.errorcode.get(error.errno, str(error)))
def udp():
    return "sent %d" % socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"leak", (address, port))
def raw():
    return "sent %d" % socket.socket(socket.AF_INET, socket.SOCK_RAW, 253).sendto(b"leak", (address, 0))
def tcp():
    stream = socket.create_connection((address, port), timeout=5)
    stream.sendall(b"\x01leak over a protocol of our own\r\n\r\n")
    return "answered" if stream.recv(100) else "closed"
attempt("udp", udp)
attempt("raw", raw)
attempt("tcp", tcp)
"#;

/// An answer: the status, and the body.
pub struct Answer {
    /// HTTP status; 0 if there was no answer.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Reads what `curl` and the Python script print: the body, and the status on the last line.
    pub fn of(stdout: &str) -> Self {
        let (body, status) = stdout.trim_end().rsplit_once('\n').unwrap_or(("", stdout.trim_end()));
        Self { status: status.parse().unwrap_or(0), body: body.trim_end().to_owned() }
    }

    /// That it is user 7's record without what identifies anybody; shows an excerpt of before and after.
    pub fn masked(&self) -> Result<String> {
        ensure!(self.status == 200, "status {}: {}", self.status, self.body);
        let secret = [samples::email(USER), samples::card(USER), samples::email(USER + 1), samples::card(USER + 1)];
        for text in secret {
            ensure!(!self.body.contains(&text), "`{text}` came through: {}", self.body);
        }
        let before: serde_json::Value = serde_json::from_str(&samples::user_json(USER))?;
        let after: serde_json::Value = serde_json::from_str(&self.body)?;
        ensure!(after["id"] == before["id"], "not the record that was asked for: {}", self.body);
        let excerpt = ["email", "card"].map(|field| format!("{field} {} -> {}", before[field], after[field]));
        Ok(format!("200\n{}", excerpt.join("\n")))
    }
}

/// `curl` in the enrolled cgroup.
pub fn curl(site: &Site, arguments: &[&str]) -> Result<Answer> {
    let mut curl = site.inside("curl");
    curl.args(site.curl_arguments()).args(["--noproxy", "*"]).args(arguments);
    let finished = run(curl, CLIENT)?;
    Ok(Answer { body: finished.stdout.clone() + &finished.stderr, ..Answer::of(&finished.stdout) }.trimmed())
}

impl Answer {
    /// Without the status line in the body.
    fn trimmed(self) -> Self {
        let end = format!("\n{:03}", self.status);
        Self { body: self.body.replace(&end, "").trim().to_owned(), ..self }
    }
}

/// The same call by `curl` outside of the gate.
pub fn curl_outside(site: &Site) -> Result<Answer> {
    let mut curl = Command::new("curl");
    curl.args(site.curl_arguments()).args(["--noproxy", "*", "--cacert"]).arg(site.path("upstream.pem"));
    curl.arg(site.api_url(USER_PATH));
    Ok(Answer::of(&run(curl, CLIENT)?.ok()?.stdout))
}

/// Python in the enrolled cgroup.
pub fn python(site: &Site) -> Result<Answer> {
    let mut python = site.inside("python3");
    python.args(["-c", PYTHON_GET, API, &site.address.to_string(), &site.api_url(USER_PATH)]);
    python.env("no_proxy", "*");
    Ok(Answer::of(&run(python, CLIENT)?.ok()?.stdout))
}

/// What became of a UDP datagram, a raw socket and a TCP dial to `port` of the upstream's address: `udp EPERM`, …
pub fn direct(site: &Site, port: u16) -> Result<Vec<String>> {
    let mut python = site.inside("python3");
    python.args(["-c", PYTHON_DIRECT, &site.address.to_string(), &port.to_string()]);
    Ok(run(python, CLIENT)?.ok()?.stdout.lines().map(str::to_owned).collect())
}
