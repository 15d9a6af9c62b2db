//! The test tools as a process: an upstream, a canary, a load generator, for use inside namespaces and cgroups.
//!
//! Each prints one JSON object on stdout: `upstream` and `canary` when they listen (`{"listen":"IP:PORT"}`), `load`
//! its report at the end. Tests that need no process of their own use the library instead.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use callgate_harness::{Canary, CanaryConfig, LoadConfig, TestCa, Upstream, UpstreamConfig, load, netns};
use clap::{Args, Parser, Subcommand};

/// Servers and load for tests, the demo and the bench of Callgate.
#[derive(Parser)]
#[command(name = "callgate-testkit")]
struct Options {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Subcommand)]
enum Tool {
    /// An HTTP server that logs each request.
    Upstream(UpstreamOptions),
    /// A TCP and UDP listener that notes every connection and byte.
    Canary(CanaryOptions),
    /// N connections make M calls, in a closed loop or at a fixed rate; the report is printed.
    Load(LoadOptions),
}

#[derive(Args)]
struct Common {
    /// Enter this network namespace first: a name of `ip netns`, or a file.
    #[arg(long)]
    netns: Option<String>,
    /// End when stdin does: no orphan survives the test that started it.
    #[arg(long)]
    until_stdin_closes: bool,
}

#[derive(Args)]
struct UpstreamOptions {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Serve TLS with a certificate for these names, separated by commas.
    #[arg(long, value_delimiter = ',', requires = "ca")]
    tls: Vec<String>,
    /// Directory of the authority (`ca.pem`, `ca.key`), made if absent.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Append one JSON line for each request to this file.
    #[arg(long)]
    log: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct CanaryOptions {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Append one JSON line for each connection, piece of bytes and datagram to this file.
    #[arg(long)]
    log: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct LoadOptions {
    /// What to call; `{n}` becomes the call's number.
    url: String,
    /// Dial this address instead of resolving the URL's host.
    #[arg(long)]
    connect_to: Option<SocketAddr>,
    /// PEM file of certificates to trust (default: the file that SSL_CERT_FILE names).
    #[arg(long)]
    ca: Option<PathBuf>,
    /// What the calls travel in.
    #[arg(long, value_enum, default_value = "http1")]
    protocol: load::Protocol,
    /// Connections side by side.
    #[arg(long, default_value_t = 10)]
    connections: u64,
    /// Calls side by side on each connection of HTTP/2.
    #[arg(long, default_value_t = 1)]
    streams: u64,
    /// Calls in all.
    #[arg(long, default_value_t = 1000)]
    calls: u64,
    /// Stop after this many seconds at the latest.
    #[arg(long)]
    seconds: Option<f64>,
    /// Calls each second whatever the answers do; latencies count from when a call was meant to be sent.
    #[arg(long)]
    rate: Option<f64>,
    /// The method of each call.
    #[arg(long, default_value = "GET")]
    method: http::Method,
    /// Length of each call's body. Unit: bytes.
    #[arg(long, default_value_t = 0)]
    body: usize,
    /// A new connection for each call.
    #[arg(long)]
    fresh: bool,
    /// Say `{"open":true}` when all connections are open, and start at a line on stdin.
    #[arg(long)]
    hold: bool,
    /// Longest wait for a connection or an answer. Unit: seconds.
    #[arg(long, default_value_t = 10.0)]
    timeout: f64,
    /// Write each call's outcome to this file, one JSON line each.
    #[arg(long)]
    outcomes: Option<PathBuf>,
    /// Enter this network namespace first.
    #[arg(long)]
    netns: Option<String>,
}

fn main() -> ExitCode {
    let done = match Options::parse().tool {
        Tool::Upstream(options) => upstream(options),
        Tool::Canary(options) => canary(options),
        Tool::Load(options) => generate_load(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callgate-testkit: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn upstream(options: UpstreamOptions) -> Result<()> {
    enter(options.common.netns.as_deref())?;
    let tls = match &options.ca {
        Some(directory) if !options.tls.is_empty() => {
            let names: Vec<&str> = options.tls.iter().map(String::as_str).collect();
            Some(TestCa::at(directory)?.server(&names)?)
        }
        _ => None,
    };
    let upstream = Upstream::start(UpstreamConfig {
        listen: options.listen,
        tls,
        log: options.log,
        ..UpstreamConfig::at(options.listen.ip())
    })?;
    serve(upstream.address(), &options.common)
}

fn canary(options: CanaryOptions) -> Result<()> {
    enter(options.common.netns.as_deref())?;
    let canary = Canary::start(CanaryConfig { listen: options.listen, log: options.log, netns: None, answer: None })?;
    serve(canary.address(), &options.common)
}

fn generate_load(options: LoadOptions) -> Result<()> {
    enter(options.netns.as_deref())?;
    // As every client under `callgate run` finds them.
    let roots_file = options.ca.or_else(|| std::env::var_os("SSL_CERT_FILE").map(PathBuf::from));
    let roots_pem = roots_file
        .map(|path| std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display())))
        .transpose()?;
    let config = LoadConfig {
        connect_to: options.connect_to,
        roots_pem,
        protocol: options.protocol,
        streams: options.streams,
        rate: options.rate,
        method: options.method,
        body: vec![b'x'; options.body].into(),
        duration: options.seconds.map(Duration::from_secs_f64),
        fresh: options.fresh,
        before_start: options.hold.then_some(hold as fn() -> Result<()>),
        timeout: Duration::from_secs_f64(options.timeout),
        ..LoadConfig::get(options.url, options.connections, options.calls)
    };
    let mut report = load::run_with_outcomes(config, options.outcomes)?;
    // They may be a million; who wants them gives a file.
    report.outcomes.clear();
    say(&serde_json::to_string(&report)?)
}

/// Enters the namespace before any other thread exists, so that all of the process is in it.
fn enter(netns: Option<&str>) -> Result<()> {
    let Some(netns) = netns else { return Ok(()) };
    let path = if netns.contains('/') { PathBuf::from(netns) } else { PathBuf::from("/run/netns").join(netns) };
    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    netns::enter_this_thread(&file)
}

fn hold() -> Result<()> {
    say(&serde_json::json!({ "open": true }).to_string())?;
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn serve(address: SocketAddr, common: &Common) -> Result<()> {
    say(&serde_json::json!({ "listen": address }).to_string())?;
    if common.until_stdin_closes {
        std::io::stdin().read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    loop {
        std::thread::park();
    }
}

fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
