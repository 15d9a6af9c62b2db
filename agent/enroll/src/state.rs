//! What is written down of an enrolment, so that a later process can undo what a crashed one left.
//!
//! One file each, `STATE_DIR/enrolments/INSTANCE-CGROUPID.json`, replaced atomically, readable by root alone.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use callgate_model::{CgroupId, FailMode, Mode};
use serde::{Deserialize, Serialize};

use crate::{EnrollError, Owner};

/// One enrolment, as written down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Enrolment {
    /// Whose pins it uses: `agent`, or `run-ID`.
    pub instance: String,
    /// The process that it ends with; none for an enrolment of the node, which only `unenroll` ends.
    pub owner: Option<Owner>,
    /// The enrolled cgroup.
    pub cgroup: CgroupId,
    /// Its absolute path.
    pub cgroup_path: PathBuf,
    /// The workload's entity id.
    pub workload: String,
    /// Whether verdicts are enforced.
    pub mode: Mode,
    /// What holds while no agent is alive.
    #[serde(default)]
    pub fail: FailMode,
    /// Whether a rule of the configuration found it: then it ends with its cgroup, and is not waited for.
    #[serde(default)]
    pub found: bool,
    /// What weakens it, by name.
    pub weakened: Vec<String>,
    /// Where its records wait, if it has a spool of its own. Never removed here: records are not litter.
    pub spool: Option<PathBuf>,
    /// A directory that is removed with it: the trust files of a `run`.
    pub trust: Option<PathBuf>,
}

impl Enrolment {
    /// Writes it below `state_dir`, in place of an earlier one of the same instance and cgroup. Returns the file.
    ///
    /// # Errors
    /// [`EnrollError::Instance`] for a name unfit for a file; [`EnrollError::Io`].
    pub fn save(&self, state_dir: &Path) -> Result<PathBuf, EnrollError> {
        let path = self.path(state_dir)?;
        let dir = directory(state_dir);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(EnrollError::io("create", &dir))?;
        let temporary = path.with_extension("tmp");
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| EnrollError::Malformed { path: path.clone(), detail: e.to_string() })?;
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .map_err(EnrollError::io("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(EnrollError::io("write", &path))?;
        Ok(path)
    }

    /// Removes its file. One that is gone is fine.
    ///
    /// # Errors
    /// [`EnrollError::Io`] when it cannot be removed.
    pub fn remove(&self, state_dir: &Path) -> Result<(), EnrollError> {
        let path = self.path(state_dir)?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(EnrollError::io("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    /// Reads one file.
    ///
    /// # Errors
    /// [`EnrollError::Io`] or [`EnrollError::Malformed`].
    pub fn load(path: &Path) -> Result<Self, EnrollError> {
        let text = fs::read(path).map_err(EnrollError::io("read", path))?;
        serde_json::from_slice(&text)
            .map_err(|e| EnrollError::Malformed { path: path.to_owned(), detail: e.to_string() })
    }

    /// All enrolments written below `state_dir`, sorted by file name. A file that cannot be read is an entry of its
    /// own, so that one broken file hides no other.
    #[must_use]
    pub fn all(state_dir: &Path) -> Vec<Result<Self, EnrollError>> {
        let entries = fs::read_dir(directory(state_dir)).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths.iter().map(|path| Self::load(path)).collect()
    }

    fn path(&self, state_dir: &Path) -> Result<PathBuf, EnrollError> {
        let name = &self.instance;
        let fit = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(1..=64).contains(&name.len()) || !name.bytes().all(fit) {
            return Err(EnrollError::Instance(name.clone()));
        }
        Ok(directory(state_dir).join(format!("{name}-{}.json", self.cgroup)))
    }
}

fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("enrolments")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn enrolment() -> Enrolment {
        Enrolment {
            instance: "run-1".into(),
            owner: Some(Owner::this_process()),
            cgroup: CgroupId(42),
            cgroup_path: "/sys/fs/cgroup/callgate/run-1".into(),
            workload: "run/1".into(),
            mode: Mode::Enforce,
            fail: FailMode::Open,
            found: false,
            weakened: vec!["allow-setuid".into()],
            spool: Some("/var/lib/callgate/spool/x".into()),
            trust: None,
        }
    }

    #[test]
    fn reads_what_it_wrote_and_root_alone_may() {
        let dir = tempfile::tempdir().unwrap();
        let one = enrolment();
        let path = one.save(dir.path()).unwrap();
        assert_eq!(path, dir.path().join("enrolments/run-1-42.json"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let observed = Enrolment { mode: Mode::Observe, ..one };
        observed.save(dir.path()).unwrap();
        let all: Vec<_> = Enrolment::all(dir.path()).into_iter().map(Result::unwrap).collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), [&observed]);
        observed.remove(dir.path()).unwrap();
        observed.remove(dir.path()).unwrap();
        assert!(Enrolment::all(dir.path()).is_empty());
    }

    #[test]
    fn refuses_an_instance_that_leads_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        for instance in ["", "../x", "a/b", "a.b", &"a".repeat(65)] {
            let one = Enrolment { instance: instance.into(), ..enrolment() };
            assert!(matches!(one.save(dir.path()), Err(EnrollError::Instance(_))), "{instance}");
        }
    }

    #[test]
    fn a_broken_file_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = enrolment().save(dir.path()).unwrap();
        fs::write(path.with_file_name("a.json"), "{}").unwrap();
        let all = Enrolment::all(dir.path());
        assert_eq!(all.len(), 2);
        assert!(matches!(all[0], Err(EnrollError::Malformed { .. })));
        assert!(all[1].is_ok());
    }
}
