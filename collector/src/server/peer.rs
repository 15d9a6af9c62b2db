//! Who may connect: a peer that sits in an enrolled cgroup may not, whatever its uid.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::enrolled;

/// Where bpffs is mounted unless somebody says otherwise.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Says whether a local process may connect.
///
/// Asked for unix sockets, with the pid that the kernel keeps of the peer (`SO_PEERCRED`: who called `connect()`).
/// A peer whose pid cannot be known is refused without asking.
#[derive(Clone)]
pub struct PeerGuard(Arc<dyn Fn(u32) -> bool + Send + Sync>);

impl PeerGuard {
    /// Lets in whom `allows` says; the embedder knows what is enrolled.
    pub fn new(allows: impl Fn(u32) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(allows))
    }

    /// Refuses every workload of this host: what is enrolled, as the pins below `bpffs` tell, every `callgate run`, and
    /// what is below `refused` (paths below the cgroup v2 mount).
    ///
    /// A peer of which it cannot be told is refused.
    #[must_use]
    pub fn by_cgroup(refused: Vec<String>, bpffs: PathBuf) -> Self {
        Self::new(move |pid| {
            let Some(cgroup) = peer_cgroup(pid).filter(|cgroup| !is_refused(cgroup, &refused)) else { return false };
            enrolled::covers(&bpffs, &cgroup).map(|is| !is).unwrap_or_else(|error| {
                let bpffs = bpffs.display();
                tracing::warn!(pid, %cgroup, %bpffs, %error, "cannot tell whether a peer is enrolled: run as root");
                false
            })
        })
    }

    pub(crate) fn allows(&self, pid: Option<i32>) -> bool {
        pid.and_then(|pid| u32::try_from(pid).ok()).is_some_and(|pid| pid != 0 && (self.0)(pid))
    }
}

impl fmt::Debug for PeerGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerGuard")
    }
}

/// Path of a process's cgroup below the cgroup v2 mount, with a leading slash; none if it cannot be read.
#[must_use]
pub fn peer_cgroup(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/cgroup"))).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

fn is_refused(cgroup: &str, refused: &[String]) -> bool {
    let parts: Vec<&str> = cgroup.split('/').filter(|part| !part.is_empty()).collect();
    let is_run = parts.windows(2).any(|pair| matches!(pair, ["callgate", run] if run.starts_with("run-")));
    let below = |path: &String| {
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        parts.starts_with(&path)
    };
    is_run || refused.iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_listed_cgroups_are_refused() {
        let refused = ["/system.slice/app.service".to_owned()];
        for cgroup in
            ["/callgate/run-7", "/a/callgate/run-7/b", "/system.slice/app.service", "/system.slice/app.service/x"]
        {
            assert!(is_refused(cgroup, &refused), "{cgroup}");
        }
        for cgroup in ["/", "/user.slice", "/callgate/agent", "/system.slice/app.service2", "/callgate"] {
            assert!(!is_refused(cgroup, &refused), "{cgroup}");
        }
    }

    #[test]
    fn who_cannot_be_known_is_refused() {
        let all = PeerGuard::new(|_| true);
        assert!(all.allows(Some(1)));
        assert!(!all.allows(None) && !all.allows(Some(0)) && !all.allows(Some(-1)));
        assert!(!PeerGuard::by_cgroup(vec![], BPFFS.into()).allows(Some(i32::MAX)));
        assert!(peer_cgroup(std::process::id()).is_some());
    }
}
