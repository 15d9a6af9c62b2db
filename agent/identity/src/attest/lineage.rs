//! Which programs started the one that connected: the kernel's rows, walked from execution to execution.
//!
//! A row never changes once it is written, and no number is given twice, so what was found of an execution is kept.
//! Nothing is asked of `/proc` but the content of a file that its process still executes, as the kernel says too.

use std::sync::Arc;

use callgate_model::{Ancestor, Executable, Executed, Execution, ExecutionId, Lineage, LineageEnd, Origin, StartedBy};

use super::{Attestor, stat};
use crate::generations::Generations;

/// Most ancestors that are told. Must be `ANCESTORS_MAX` of ebpf/warden/lineage.h.
/// Source: the scripts of a version manager before an interpreter make eight alone.
pub(super) const ANCESTORS_MAX: usize = 16;

/// Most executions kept; one costs about 400 bytes.
const KEPT: usize = 4096;

/// The kernel's record of executions within enrolments.
pub trait Executions: Send + Sync {
    /// What process `pid` executes at the moment, and by which execution; none when nothing was noted of it.
    fn current(&self, pid: u32) -> Option<(Executed, StartedBy)>;

    /// How the execution `id` came about; none when that is forgotten.
    fn execution(&self, id: ExecutionId) -> Option<Execution>;
}

/// The record, and what was found in it.
pub(super) struct Descent {
    executions: Arc<dyn Executions>,
    known: Generations<ExecutionId, Arc<Known>>,
}

/// What is known of one execution, for good.
struct Known {
    ancestor: Ancestor,
    by: StartedBy,
}

impl Known {
    /// `executable`: what `execution` executes, if that was read.
    fn new(execution: Execution, executable: Option<&Executable>) -> Self {
        let Execution { by, pid, executed, name, .. } = execution;
        let noted = Ancestor {
            pid,
            start_time: stat::ticks(executed.start),
            path: name,
            device: executed.device,
            inode: executed.inode,
            sha256: None,
        };
        let ancestor = match executable.cloned() {
            Some(Executable { path, device, inode, sha256 }) => {
                Ancestor { path, device, inode, sha256: Some(sha256), ..noted }
            }
            None => noted,
        };
        Self { ancestor, by }
    }
}

impl Descent {
    pub fn new(executions: Arc<dyn Executions>) -> Self {
        Self { executions, known: Generations::new(KEPT) }
    }

    /// What started the process of `origin`, which executes `executable`. `budget`: bytes of executables that may be
    /// read and hashed for it.
    ///
    /// Nothing is known of a process that is gone, or has executed another program since it connected.
    pub fn of(
        &self,
        origin: &Origin,
        executable: Option<&Executable>,
        attestor: &Attestor,
        budget: &mut u64,
    ) -> Lineage {
        let current = self.executions.current(origin.pid);
        let Some((executed, by)) = current else { return Lineage::default() };
        if origin.executed != Some(executed) {
            return Lineage::default();
        }
        let alone = |end| Lineage { end, ..Lineage::default() };
        let id = match by {
            StartedBy::Execution(id) => id,
            StartedBy::Nobody => return alone(LineageEnd::Entry),
            StartedBy::Untold => return alone(LineageEnd::Cut),
        };
        let Some(own) = self.executions.execution(id) else { return alone(LineageEnd::Cut) };
        // The same program, executed once more since.
        if own.at > origin.connected_at {
            return alone(LineageEnd::Unknown);
        }
        let by = own.by;
        if executable.is_some() {
            // For those that it starts, once the process that executed it is gone: children go on with its execution.
            let has_digest = |known: &Arc<Known>| known.ancestor.sha256.is_some();
            self.known.get_or(&id, has_digest, || Arc::new(Known::new(own, executable)));
        }
        self.walk(by, attestor, budget)
    }

    fn walk(&self, mut by: StartedBy, attestor: &Attestor, budget: &mut u64) -> Lineage {
        let mut ancestors = Vec::new();
        let end = loop {
            let id = match by {
                StartedBy::Nobody => break LineageEnd::Entry,
                StartedBy::Untold => break LineageEnd::Cut,
                StartedBy::Execution(_) if ancestors.len() == ANCESTORS_MAX => break LineageEnd::Cut,
                StartedBy::Execution(id) => id,
            };
            let Some(known) = self.known(id, attestor, budget) else { break LineageEnd::Cut };
            ancestors.push(known.ancestor.clone());
            by = known.by;
        };
        Lineage { ancestors, end }
    }

    fn known(&self, id: ExecutionId, attestor: &Attestor, budget: &mut u64) -> Option<Arc<Known>> {
        if let Some(known) = self.known.get(&id) {
            return Some(known);
        }
        let execution = self.executions.execution(id)?;
        let goes_on = self.goes_on(id, &execution);
        let executable = if goes_on { attestor.executes(execution.pid, &execution.executed, budget) } else { None };
        // Between the two looks it may have executed the same file again, with another content.
        let executable = executable.filter(|_| self.goes_on(id, &execution));
        let known = Arc::new(Known::new(execution, executable.as_ref()));
        // One that could not be read now may be readable next time; one that is over stays unread.
        let for_good = executable.is_some() || !goes_on;
        Some(if for_good { self.known.get_or(&id, |_| true, || known) } else { known })
    }

    /// Whether the process that executed it still is in this execution.
    fn goes_on(&self, id: ExecutionId, execution: &Execution) -> bool {
        let Some((executed, by)) = self.executions.current(execution.pid) else { return false };
        by == StartedBy::Execution(id) && executed == execution.executed
    }
}

#[cfg(test)]
mod tests;
