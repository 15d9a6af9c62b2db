//! `callgate run` with the hostile program as its command, which tries one order a line.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use callgate_e2e::Site;
use callgate_harness::{Running, eventually};

use super::scene::SOON;
use crate::order::{Order, Seen};
use crate::vector::Way;

/// Longest time of one attempt: that of the hostile program's own patience, and the machine's load.
const ANSWER: Duration = Duration::from_secs(30);

/// A run.
pub struct Session {
    running: Running,
    cgroup: PathBuf,
}

impl Session {
    /// Starts it, as the user of `way`.
    pub fn start(site: &Site, hostile: &Path, way: Way) -> Result<Session> {
        let program = hostile.display().to_string();
        let inner = site.run(&["--quiet"], &[&program, "serve"])?;
        let mut command = Command::new(inner.get_program());
        command.args(inner.get_args());
        for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "PKEXEC_UID"] {
            command.env_remove(name);
        }
        if way == Way::Run {
            command.env("SUDO_UID", way.uid().to_string()).env("SUDO_GID", way.uid().to_string());
        }
        // Readable by everybody, and not hidden.
        command.current_dir("/");
        let below = site.root.path().join("callgate");
        let before = inhabited(&below);
        let running = Running::start(command)?;
        let cgroup =
            eventually("the run's command", SOON, || inhabited(&below).into_iter().find(|path| !before.contains(path)));
        let cgroup = cgroup.with_context(|| format!("`callgate run`: {}", running.stderr()))?;
        Ok(Session { running, cgroup })
    }

    /// The process that is agent and collector.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Has one order tried.
    pub fn attempt(&mut self, order: &Order) -> Result<Seen> {
        self.running.write(&format!("{}\n", serde_json::to_string(order)?))?;
        let line = self.running.line(ANSWER, |line| line.starts_with(&order.nonce))?;
        let text = line.strip_prefix(&order.nonce).context("an answer")?;
        Ok(serde_json::from_str(text.trim())?)
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }
}

/// Cgroups of runs that have processes.
fn inhabited(below: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(below).into_iter().flatten().flatten().map(|entry| entry.path());
    let inside =
        |path: &PathBuf| std::fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|text| !text.trim().is_empty());
    entries.filter(|path| path.is_dir()).filter(inside).collect()
}
