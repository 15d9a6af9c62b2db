//! Where a process is started: in which cgroup, in which network namespace.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use crate::{Netns, TestCgroup};

/// Enters the cgroup before anything else runs: the program's sockets are all made inside.
const BORN_IN: &str = r#"echo 0 > "$0/cgroup.procs" && exec "$@""#;

/// A place to start processes in; nowhere special unless told otherwise.
#[derive(Debug, Clone, Default)]
pub struct Place {
    cgroup: Option<PathBuf>,
    netns: Option<PathBuf>,
}

impl Place {
    /// The cgroup and network namespace of the test itself.
    pub fn here() -> Place {
        Place::default()
    }

    /// The same place, in `cgroup`.
    pub fn cgroup(self, cgroup: &TestCgroup) -> Place {
        self.cgroup_path(cgroup.path())
    }

    /// The same place, in the cgroup at this path.
    pub fn cgroup_path(self, path: impl Into<PathBuf>) -> Place {
        Place { cgroup: Some(path.into()), ..self }
    }

    /// The same place, in `netns`.
    pub fn netns(self, netns: &Netns) -> Place {
        Place { netns: Some(netns.path()), ..self }
    }

    /// A command that runs `program` here; the process id that is spawned is the program's own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut words: Vec<std::ffi::OsString> = Vec::new();
        if let Some(cgroup) = &self.cgroup {
            words.extend(["sh".into(), "-c".into(), BORN_IN.into(), cgroup.into()]);
        }
        if let Some(netns) = &self.netns {
            let mut option = std::ffi::OsString::from("--net=");
            option.push(netns);
            words.extend(["nsenter".into(), option, "--".into()]);
        }
        words.push(program.as_ref().into());
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }
}
