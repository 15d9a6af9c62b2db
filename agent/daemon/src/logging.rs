//! Logs: one line an event, fields first-class, to stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::Level;

/// Sends logs at `level` and above to stderr; human-readable on a terminal, JSON otherwise.
///
/// Only the first call of a process has an effect.
pub fn start(level: Level) {
    let filter = EnvFilter::new(format!("warn,callgate={0},callgate_agent={0}", level.as_str()));
    let filter = [
        "model",
        "wire",
        "mask",
        "policy",
        "seal",
        "identity",
        "dns",
        "enroll",
        "kubernetes",
        "mtls",
        "redirect",
        "uplink",
        "warden",
        "audit",
        "proxy",
        "daemon",
        "collector",
    ]
    .iter()
    .filter_map(|part| format!("callgate_{part}={}", level.as_str()).parse().ok())
    .fold(filter, EnvFilter::add_directive);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber is refused: tests start several agents in one process.
    let _ = if std::io::stderr().is_terminal() { builder.try_init() } else { builder.json().try_init() };
}
