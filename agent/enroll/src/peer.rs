//! Whether a process is one of those that we guard.

use crate::{EnrollError, Roster, cgroup};

/// Whether process `pid` is in an enrolled cgroup, or below one: it may then not speak with the agent.
///
/// Of a unix socket's peer (`SO_PEERCRED`). Refuse on an error as well: a process that cannot be looked at may have
/// been a workload's. A process that connected, then exited, may have been followed by another with its id; who needs
/// more certainty holds a `SO_PEERPIDFD` while asking.
///
/// # Errors
/// [`EnrollError::Process`] when it cannot be told.
pub fn peer_is_enrolled(pid: u32, roster: &Roster) -> Result<bool, EnrollError> {
    Ok(roster.covering(&cgroup::of_process(pid)?).is_some())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use callgate_model::{CgroupId, FailMode, Mode, Workload};

    use super::*;

    #[test]
    fn tells_a_process_below_an_enrolled_cgroup_from_others() {
        let mount = cgroup::cgroup2_mount().unwrap();
        let root = mount.join(format!("callgate-test-{}-peer", std::process::id()));
        cgroup::create(&root.join("run-1/inner")).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        fs::write(root.join("run-1/inner/cgroup.procs"), child.id().to_string()).unwrap();

        let roster = Roster::new();
        let enrol = |path: &Path| {
            roster.insert(Workload {
                id: "run/1".into(),
                cgroup: CgroupId(1),
                cgroup_path: path.strip_prefix(&mount).unwrap().to_owned(),
                mode: Mode::Enforce,
                fail: FailMode::Closed,
                session: None,
                weakened: Vec::new(),
            });
        };
        enrol(&root.join("run-2"));
        assert!(!peer_is_enrolled(child.id(), &roster).unwrap());
        enrol(&root.join("run-1"));
        assert!(peer_is_enrolled(child.id(), &roster).unwrap());
        assert!(!peer_is_enrolled(std::process::id(), &roster).unwrap());

        child.kill().unwrap();
        child.wait().unwrap();
        assert!(peer_is_enrolled(child.id(), &roster).is_err());
        cgroup::remove(&root).unwrap();
    }
}
