//! Records what the kernel refused and what the warden found, at a bounded rate per workload: a flood by one must not push out another's records.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use callgate_enroll::cgroup;
use callgate_model::{CgroupId, KernelDenial, KernelEvent, RecordKind};
use callgate_proxy::Gate;
use callgate_redirect::Events;
use tracing::{debug, error, warn};

/// Most refusals recorded of one workload in one [`WINDOW`]; the rest is counted.
const PER_WINDOW: u32 = 100;

/// See [`PER_WINDOW`].
const WINDOW: Duration = Duration::from_secs(1);

struct Budget {
    since: Instant,
    used: u32,
}

/// Records until the gate stops.
pub async fn pump(mut refused: Events, mut found: Option<callgate_warden::Events>, gate: Arc<Gate>) {
    let mut budgets: HashMap<CgroupId, Budget> = HashMap::new();
    loop {
        let mut denial = tokio::select! {
            () = gate.stopping.cancelled() => return,
            event = refused.next() => match event {
                Ok(denial) => denial,
                Err(error) => {
                    error!(%error, "the kernel's events cannot be read any more");
                    return;
                }
            },
            event = next(&mut found) => match event {
                Some(denial) => denial,
                None => {
                    warn!("the warden tells nothing any more");
                    found = None;
                    continue;
                }
            },
        };
        let workload = gate.roster.get(denial.cgroup);
        // Not of what is no workload, or none any more: nothing would ever take that tally away.
        if workload.is_some() {
            gate.tallies.of(denial.cgroup).kernel.fetch_add(1, Ordering::Relaxed);
        }
        budgets.retain(|_, budget| budget.since.elapsed() < WINDOW);
        let budget = budgets.entry(denial.cgroup).or_insert(Budget { since: Instant::now(), used: 0 });
        budget.used += 1;
        if budget.used > PER_WINDOW && !went_past(&denial) {
            if budget.used == PER_WINDOW + 1 {
                warn!(cgroup = %denial.cgroup, "refused too often for each refusal to be recorded");
            }
            continue;
        }
        match workload {
            Some(workload) => {
                denial.workload.clone_from(&workload.id);
                denial.cgroup_path = workload.cgroup_path.display().to_string();
            }
            None => denial.cgroup_path = path_of(&denial),
        }
        debug!(workload = %denial.workload, event = ?denial.event, destination = %denial.destination, "refused by the kernel");
        if let Err(error) = gate.recorder.write(RecordKind::KernelDenial(denial)) {
            error!(%error, "a refusal by the kernel could not be recorded");
        }
    }
}

/// A connection of a workload that fails as observed, let through while no agent was alive: each one is recorded. They
/// come at once when an agent is back, and there are no more than the ring buffer has kept.
fn went_past(denial: &KernelDenial) -> bool {
    denial.observed && denial.event == KernelEvent::Stale
}

/// Never, where there is no warden.
async fn next(events: &mut Option<callgate_warden::Events>) -> Option<KernelDenial> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// Where the cgroup of a task lies that is in no workload; empty when it cannot be told any more.
fn path_of(denial: &KernelDenial) -> String {
    let told = || -> Option<String> {
        let path = cgroup::of_process(denial.pid).ok()?;
        let now = cgroup::id_of(&cgroup::cgroup2_mount().ok()?.join(&path)).ok()?;
        (now == denial.cgroup).then(|| path.display().to_string())
    };
    told().unwrap_or_default()
}
