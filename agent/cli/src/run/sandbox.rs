//! What CMD is locked into, as the options of `run` say it.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Invoker;

/// The place and the limits of CMD. [`stage`](super::stage) applies them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sandbox {
    /// As whom it runs.
    pub invoker: Invoker,
    /// The enrolled cgroup's directory.
    pub cgroup: PathBuf,
    /// Whether programs may gain privileges (setuid, file capabilities). Turns off `no_new_privs`, and with it the
    /// seccomp filter: safe Rust has no way to load one without the other.
    pub allow_setuid: bool,
    /// What stays visible although it would be hidden: sockets, or directories with all that is in them.
    pub expose: Vec<PathBuf>,
    /// Whether CMD runs in a Landlock domain: no signals, no abstract unix sockets, no ptrace to the outside.
    pub landlock: bool,
    /// What is hidden, whatever is exposed: our own state.
    pub hide: Vec<PathBuf>,
    /// The directory of the trust files: the only one of ours that CMD sees, read-only.
    pub trust: PathBuf,
    /// The directory around it, hidden but for `trust`.
    pub runtime_dir: PathBuf,
}

impl Sandbox {
    /// What weakens it, by name, as records show it.
    #[must_use]
    pub fn weakened(&self) -> Vec<String> {
        let mut all: Vec<String> = self.expose.iter().map(|path| format!("expose {}", path.display())).collect();
        if self.allow_setuid {
            all.push("allow-setuid".into());
        }
        if !self.landlock {
            all.push("without-landlock".into());
        }
        all
    }
}

/// All that the stage needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub sandbox: Sandbox,
    /// CMD and its arguments.
    pub command: Vec<OsString>,
    /// Variables to set.
    pub set: Vec<(OsString, OsString)>,
    /// Variables to unset.
    pub unset: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_weakens_it() {
        let mut sandbox = Sandbox {
            invoker: Invoker::current().unwrap(),
            cgroup: "/x".into(),
            allow_setuid: false,
            expose: Vec::new(),
            landlock: true,
            hide: Vec::new(),
            trust: "/x".into(),
            runtime_dir: "/x".into(),
        };
        assert!(sandbox.weakened().is_empty());
        sandbox.allow_setuid = true;
        sandbox.landlock = false;
        sandbox.expose.push("/run/docker.sock".into());
        assert_eq!(sandbox.weakened(), ["expose /run/docker.sock", "allow-setuid", "without-landlock"]);
    }
}
