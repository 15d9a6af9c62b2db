//! Which programs started a process: as the kernel notes it, and as records tell it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Executed, Monotonic};

/// Number of one execution of a program, never given twice while the kernel programs stay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ExecutionId(pub u64);

/// What was executing before a program was executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartedBy {
    /// This execution.
    Execution(ExecutionId),
    /// Nothing that was executed within an enrolment: here the workload was entered, or it is older than its enrolment.
    Nobody,
    /// Something that is not known.
    Untold,
}

/// How one execution within an enrolment came about, as the kernel noted it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Execution {
    /// What the process was executing before, itself or by inheritance.
    pub by: StartedBy,
    /// When it began.
    pub at: Monotonic,
    /// Process that executed it, in the initial pid namespace.
    pub pid: u32,
    /// Which file.
    pub executed: Executed,
    /// What the kernel was told to load: a label that the workload chooses.
    pub name: String,
}

/// The programs that started a process, each by executing the next one or by a child that did.
///
/// From the kernel's record of executions alone: who is whose parent in `/proc` has no part in it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Lineage {
    /// Nearest first.
    pub ancestors: Vec<Ancestor>,
    /// What comes behind the last of them.
    pub end: LineageEnd,
}

/// One program that started another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ancestor {
    /// Process that executed it, in the initial pid namespace.
    pub pid: u32,
    /// Start of that process, in clock ticks since boot.
    pub start_time: u64,
    /// Path as `/proc/PID/exe` shows it, or as it was named to `exec()` where the process executed it no more: a label.
    pub path: String,
    /// Device number of its file system.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// SHA-256 of its content, 64 lower-case hex digits; none when its process executed it no more as the agent looked.
    pub sha256: Option<String>,
}

/// What comes behind the last ancestor that is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineageEnd {
    /// Nothing: it came into the workload from outside, or is older than its enrolment.
    Entry,
    /// More, which the kernel has forgotten, or which is too far away to be told.
    Cut,
    /// Nobody knows: nothing is told of this process.
    #[default]
    Unknown,
}

impl Lineage {
    /// Whether every ancestor up to the entry is told with its digest.
    ///
    /// Who wants to exclude an ancestor must ask this: it may be among those that are not told, or have no digest.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end == LineageEnd::Entry && self.ancestors.iter().all(|ancestor| ancestor.sha256.is_some())
    }

    /// The digests that are known for certain.
    pub fn digests(&self) -> impl Iterator<Item = &str> {
        self.ancestors.iter().filter_map(|ancestor| ancestor.sha256.as_deref())
    }
}

/// `bash <- python3`, nearest first; `…` where more is not told, empty where nothing is known.
impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for ancestor in &self.ancestors {
            let name = ancestor.path.rsplit('/').next().unwrap_or_default();
            write!(f, "{separator}{name}")?;
            separator = " <- ";
        }
        if self.end == LineageEnd::Cut { write!(f, "{separator}…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ancestor(path: &str, sha256: Option<&str>) -> Ancestor {
        let (path, sha256) = (path.to_owned(), sha256.map(str::to_owned));
        Ancestor { pid: 1, start_time: 1, path, device: 1, inode: 1, sha256 }
    }

    #[test]
    fn is_shown_nearest_first_and_says_when_it_is_cut() {
        let ancestors = vec![ancestor("/bin/bash", None), ancestor("python3", None)];
        let told = |ancestors: &[Ancestor], end| Lineage { ancestors: ancestors.to_vec(), end }.to_string();
        assert_eq!(told(&ancestors, LineageEnd::Entry), "bash <- python3");
        assert_eq!(told(&ancestors, LineageEnd::Cut), "bash <- python3 <- …");
        assert_eq!(told(&[], LineageEnd::Cut), "…");
        assert_eq!(told(&[], LineageEnd::Unknown), "");
    }

    #[test]
    fn is_complete_up_to_the_entry_with_every_digest() {
        let of = |sha256: &[Option<&str>], end| Lineage {
            ancestors: sha256.iter().map(|sha256| ancestor("/x", *sha256)).collect(),
            end,
        };
        assert!(of(&[Some("a"), Some("b")], LineageEnd::Entry).is_complete());
        assert!(of(&[], LineageEnd::Entry).is_complete());
        assert!(!of(&[Some("a"), None], LineageEnd::Entry).is_complete());
        assert!(!of(&[Some("a")], LineageEnd::Cut).is_complete());
        assert!(!Lineage::default().is_complete());
        assert_eq!(of(&[Some("a"), None], LineageEnd::Cut).digests().collect::<Vec<_>>(), ["a"]);
    }
}
