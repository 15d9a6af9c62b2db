//! The kernel's record of who executed whom, as the agent reads it: the twin of `ebpf/warden/lineage.h`.
//!
//! Reads alone, a system call a row; who makes a chain of rows is `callgate-identity`.

use std::path::Path;
use std::time::Duration;

use callgate_model::{Executed, Execution, ExecutionId, Monotonic, StartedBy};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};

use crate::kernel::{self, Plain};
use crate::parts::{COUNTS, LINEAGE, PROCESSES};
use crate::{WardenError, parts};

/// Longest name kept. Unit: bytes.
const NAME_MAX: usize = 128;

/// "There was one, but it is not known", where a number of an execution stands.
const UNTOLD: u64 = u64::MAX;

/// `struct execution`, value of map `PROCESSES`: programs write, the agent reads.
#[repr(C)]
#[derive(Clone, Copy)]
struct InForce {
    start_ns: u64,
    number: u64,
    inode: u64,
    id: u64,
    device: u32,
    padding: u32,
}

/// `struct descent`, value of map `LINEAGE`: programs write, the agent reads.
#[repr(C)]
#[derive(Clone, Copy)]
struct Descent {
    by: u64,
    at_ns: u64,
    start_ns: u64,
    inode: u64,
    device: u32,
    pid: u32,
    name: [u8; NAME_MAX],
}

/// `struct counts`, value of map `COUNTS`: programs write, the agent reads.
#[repr(C)]
#[derive(Clone, Copy)]
struct Counts {
    executions: u64,
    lost: u64,
}

const _: () = assert!(size_of::<InForce>() == 40);
const _: () = assert!(size_of::<Descent>() == 168);
const _: () = assert!(size_of::<Counts>() == 16);

// SAFETY: integers alone.
unsafe impl Plain for InForce {}
// SAFETY: integers and bytes alone.
unsafe impl Plain for Descent {}
// SAFETY: integers alone.
unsafe impl Plain for Counts {}

/// Who executed whom in the enrolled cgroups of one instance.
#[derive(Debug)]
pub struct Lineages {
    processes: MapHandle,
    lineage: MapHandle,
    counts: MapHandle,
}

impl Lineages {
    /// Of the instance whose warden is pinned in `pins`.
    ///
    /// # Errors
    /// [`WardenError::Map`] where the part `exec` was not loaded.
    pub(crate) fn open(pins: &Path) -> Result<Self, WardenError> {
        let open = |name| parts::map(pins, name);
        Ok(Self { processes: open(PROCESSES)?, lineage: open(LINEAGE)?, counts: open(COUNTS)? })
    }

    /// What process `pid` executes at the moment, and by which execution; none when nothing was noted of it.
    #[must_use]
    pub fn current(&self, pid: u32) -> Option<(Executed, StartedBy)> {
        let now: InForce = row(&self.processes, &pid.to_ne_bytes())?;
        let by = match now.id {
            // Unless some found no room: then it may be one of those.
            0 if self.is_whole() => StartedBy::Nobody,
            0 => StartedBy::Untold,
            id => started_by(id),
        };
        Some((executed(now.start_ns, now.device, now.inode), by))
    }

    /// How the execution `id` came about; none when that is forgotten.
    #[must_use]
    pub fn execution(&self, id: ExecutionId) -> Option<Execution> {
        let row: Descent = row(&self.lineage, &id.0.to_ne_bytes())?;
        Some(Execution {
            by: started_by(row.by),
            at: Monotonic(Duration::from_nanos(row.at_ns)),
            pid: row.pid,
            executed: executed(row.start_ns, row.device, row.inode),
            name: shown(&row.name),
        })
    }

    /// Whether every execution and fork so far was noted.
    fn is_whole(&self) -> bool {
        row::<Counts>(&self.counts, &0_u32.to_ne_bytes()).is_some_and(|counts| counts.lost == 0)
    }
}

fn started_by(id: u64) -> StartedBy {
    match id {
        0 => StartedBy::Nobody,
        UNTOLD => StartedBy::Untold,
        id => StartedBy::Execution(ExecutionId(id)),
    }
}

fn executed(start_ns: u64, device: u32, inode: u64) -> Executed {
    let device = rustix::fs::makedev(device >> 20, device & 0xf_ffff);
    Executed { start: Duration::from_nanos(start_ns), device, inode }
}

/// Up to its zero; `…` where it was longer than what is kept.
fn shown(name: &[u8; NAME_MAX]) -> String {
    let bytes = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    if bytes.len() == NAME_MAX - 1 { format!("{text}…") } else { text.into_owned() }
}

fn row<T: Plain>(map: &MapHandle, key: &[u8]) -> Option<T> {
    kernel::read(&map.lookup(key, MapFlags::ANY).ok()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_its_zero_and_says_when_it_was_cut() {
        let mut name = [0; NAME_MAX];
        assert_eq!(shown(&name), "");
        name[..7].copy_from_slice(b"/bin/sh");
        assert_eq!(shown(&name), "/bin/sh");
        let mut long = [b'x'; NAME_MAX];
        long[NAME_MAX - 1] = 0;
        assert_eq!(shown(&long), "x".repeat(NAME_MAX - 1) + "…");
    }

    #[test]
    fn no_number_is_an_entry_and_the_last_one_is_unknown() {
        assert_eq!(started_by(0), StartedBy::Nobody);
        assert_eq!(started_by(u64::MAX), StartedBy::Untold);
        assert_eq!(started_by(7), StartedBy::Execution(ExecutionId(7)));
    }
}
