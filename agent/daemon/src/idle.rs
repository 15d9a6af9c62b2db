//! An agent that is idle: it enforces nothing, holds nothing, and only says that it is alive.
//!
//! What a relieved agent becomes (`--stay`) where a supervisor would start it again, and take over back: kubelet, until
//! the old pod is deleted. It becomes so by executing itself, which closes every descriptor of the agent that it was:
//! listeners, spool, and the instance's lock, so that its successor may be restarted meanwhile.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use callgate_observe::Probes;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::observe;

/// The option of `callgate-agent` that starts it so.
pub const OPTION: &str = "--idle";

/// Executes this program anew, as an idle one. Returns only if that fails.
///
/// # Errors
/// Why it does.
pub fn become_idle(config: &Path) -> Result<()> {
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let words = [OsStr::new("--config"), config.as_os_str(), OsStr::new(OPTION)];
    Err(Command::new(&program).args(words).exec()).with_context(|| format!("cannot execute `{}`", program.display()))
}

/// Answers at `address` until `stopping`: alive, but not ready.
pub async fn serve(address: Option<SocketAddr>, stopping: CancellationToken) {
    let ready = || vec!["idle: another agent serves this node, or none does".into()];
    let probes = Probes { ready: Arc::new(ready), alive: Arc::new(Vec::new) };
    match observe::listen(address, None).await {
        Ok(Some(listener)) => callgate_observe::serve(listener, Arc::new(Registry::default()), probes, stopping).await,
        Ok(None) => stopping.cancelled().await,
        // The successor has it: it is in the same network namespace.
        Err(error) => {
            warn!(error = format!("{error:#}"), "idle, and nobody is told so");
            stopping.cancelled().await;
        }
    }
}
