//! Finds what crashed owners left: enrolments whose owner is gone and whose cgroup is empty.
//!
//! An enrolment whose cgroup still holds processes stays: they must not become free because we crashed.
//! Enrolments of the node have no owner and are never swept.

use std::fs;
use std::path::Path;

use tracing::warn;

use crate::{EnrollError, Enrolment, cgroup};

/// An enrolment that nobody owns and nobody lives in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stale {
    /// What was written down of it. Its pins are the caller's to remove (by instance), its spool to ship.
    pub enrolment: Enrolment,
}

/// The stale enrolments below `state_dir`. Changes nothing. Files that cannot be read are logged and left alone.
#[must_use]
pub fn sweep(state_dir: &Path) -> Vec<Stale> {
    let mut stale = Vec::new();
    for found in Enrolment::all(state_dir) {
        match found {
            Ok(enrolment) if is_stale(&enrolment) => stale.push(Stale { enrolment }),
            Ok(_) => {}
            Err(error) => warn!(%error, "an enrolment was skipped"),
        }
    }
    stale
}

fn is_stale(enrolment: &Enrolment) -> bool {
    // A cgroup that cannot be looked at counts as populated: enforcement stays on.
    let abandoned = enrolment.owner.as_ref().is_some_and(|owner| !owner.is_alive());
    abandoned && !cgroup::populated(&enrolment.cgroup_path).unwrap_or(true)
}

impl Stale {
    /// Removes the empty cgroup, the trust files and the state file. Call it after the pins are removed.
    ///
    /// The spool stays: what it holds was promised to the audit.
    ///
    /// # Errors
    /// [`EnrollError`]; the state file is then still there, so that the next sweep tries again.
    pub fn forget(&self, state_dir: &Path) -> Result<(), EnrollError> {
        let path = &self.enrolment.cgroup_path;
        // Somebody else's cgroup may have taken the path since: only the very one enrolled is removed.
        if cgroup::id_of(path).is_ok_and(|id| id == self.enrolment.cgroup) {
            cgroup::remove(path)?;
        }
        if let Some(trust) = &self.enrolment.trust {
            match fs::remove_dir_all(trust) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(EnrollError::io("remove", trust)(e)),
                _ => {}
            }
        }
        self.enrolment.remove(state_dir)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use callgate_model::{FailMode, Mode};

    use super::*;
    use crate::Owner;

    #[test]
    fn finds_only_what_nobody_owns_and_nobody_lives_in() {
        let state = tempfile::tempdir().unwrap();
        let trust = tempfile::tempdir().unwrap().keep();
        let root = cgroup::cgroup2_mount().unwrap().join(format!("callgate-test-{}-sweep", std::process::id()));
        let dead = Owner { pid: u32::MAX, ..Owner::this_process() };
        let enrolment = |name: &str, owner: Option<Owner>| {
            let cgroup_path = root.join(name);
            let cgroup = cgroup::create(&cgroup_path).unwrap();
            let trust = (name == "dead").then(|| trust.clone());
            let one = Enrolment {
                instance: format!("run-{name}"),
                owner,
                cgroup,
                cgroup_path,
                workload: format!("run/{name}"),
                mode: Mode::Enforce,
                fail: FailMode::Closed,
                found: false,
                weakened: Vec::new(),
                spool: None,
                trust,
            };
            one.save(state.path()).unwrap();
            one
        };
        let swept = enrolment("dead", Some(dead.clone()));
        enrolment("alive", Some(Owner::this_process()));
        enrolment("node", None);
        let inhabited = enrolment("inhabited", Some(dead));
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        fs::write(inhabited.cgroup_path.join("cgroup.procs"), child.id().to_string()).unwrap();

        let stale = sweep(state.path());
        assert_eq!(stale.iter().map(|s| &s.enrolment).collect::<Vec<_>>(), [&swept]);
        stale[0].forget(state.path()).unwrap();
        assert!(!swept.cgroup_path.exists() && !trust.exists());
        assert!(sweep(state.path()).is_empty());
        assert_eq!(Enrolment::all(state.path()).len(), 3);

        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(sweep(state.path()), [Stale { enrolment: inhabited }]);
        cgroup::remove(&root).unwrap();
    }
}
