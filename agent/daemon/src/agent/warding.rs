//! What the warden does for the agent: sockets that no hook has seen, and saying what of it this kernel lacks.
//!
//! Without it the agent goes on: the redirect holds for whatever is born in an enrolled cgroup.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use callgate_identity::{Attestor, Executions};
use callgate_model::{Executed, Execution, ExecutionId, KernelDenial, RecordKind, StartedBy, Workload};
use callgate_redirect::Redirect;
use callgate_warden::{Feature, Lineages, Older, Warden, WardenError};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{info, warn};

use super::Agent;
use crate::config::{Answer, Config, OlderSockets};
use crate::place;

/// Cause of the alarm about what this kernel lacks.
const WARDEN: &str = "warden";

/// Loads the warden for the instance of `redirect`; `has_seccomp`: its workloads cannot ask for odd sockets at all.
pub(super) fn start(config: &Config, redirect: &Arc<Redirect>, has_seccomp: bool) -> Result<Warden> {
    let root = place::root(config)?;
    let config = callgate_warden::Config {
        pins: redirect.warden_pins(),
        enrolments: redirect.enrolments_pin(),
        client_sockets: Some(redirect.sockets_pin()),
        cgroup_root: root,
        older: match config.older_sockets {
            OlderSockets::Destroy => Older::Destroy,
            OlderSockets::Report => Older::Report,
        },
        means: None,
        netlink: match config.netlink {
            Answer::Refuse => callgate_warden::Answer::Refuse,
            Answer::Report => callgate_warden::Answer::Report,
        },
        has_seccomp,
    };
    Warden::start(&config).context("the warden cannot be started")
}

/// The kernel's record of who executed whom, for [`Attestor`].
struct Kernel(Lineages);

impl Executions for Kernel {
    fn current(&self, pid: u32) -> Option<(Executed, StartedBy)> {
        self.0.current(pid)
    }

    fn execution(&self, id: ExecutionId) -> Option<Execution> {
        self.0.execution(id)
    }
}

/// Tells who connects; lineages too, where the kernel keeps a record of them.
pub(super) fn attestor(warden: &Result<Warden>) -> Attestor {
    let lineages = warden.as_ref().ok().map(Warden::lineages);
    match lineages {
        Some(Ok(lineages)) => Attestor::new().with_executions(Arc::new(Kernel(lineages))),
        // What is missing is an alarm already.
        Some(Err(_)) | None => Attestor::new(),
    }
}

/// The gauge `callgate_warden_parts_missing`.
pub(super) fn register(registry: &mut Registry, warden: &Result<Warden>) {
    let gauge: Gauge = Gauge::default();
    gauge.set(i64::try_from(lacking(warden).len()).unwrap_or(i64::MAX));
    let help = "Parts of the warden that this kernel does not take: `callgate doctor` names them";
    registry.register("callgate_warden_parts_missing", help, gauge);
}

/// What is lost, one sentence each.
pub(super) fn lacking(warden: &Result<Warden>) -> Vec<String> {
    match warden {
        Ok(warden) => missing(warden.features()).map(|f| format!("{}: {}", f.name, f.degrades)).collect(),
        Err(error) => vec![format!("{error:#}: sockets that are older than an enrolment or handed in work on unseen")],
    }
}

/// LSM is one of two ways: it is missed by nobody where the other one works.
fn missing(features: &[Feature]) -> impl Iterator<Item = &Feature> {
    let ends = features.iter().any(|feature| feature.name == "calls" && feature.ok);
    features.iter().filter(move |feature| !feature.ok).filter(move |feature| feature.name != "lsm" || !ends)
}

impl Agent {
    /// Alarms when something of the warden is not there.
    pub(super) fn say_what_is_unwarded(&self, lacking: &[String]) {
        if lacking.is_empty() {
            self.calm(WARDEN);
        } else {
            self.alarm(WARDEN, &format!("this kernel does not take all of the warden: {}", lacking.join("; ")));
        }
    }

    /// Destroys the sockets that a cgroup had before it was enrolled, and records them. Blocking.
    pub(super) fn sever(&self, path: &Path, workload: &Workload) {
        let Some(warden) = &self.warden else { return };
        let severed = match warden.sever(path, workload.cgroup) {
            Ok(severed) => severed,
            // An alarm of its own says so already.
            Err(WardenError::Blind) => return,
            Err(error) => {
                self.alarm(
                    &cause(workload),
                    &format!("connections of `{}` may be older than its enrolment: {error}", workload.id),
                );
                return;
            }
        };
        let (destroyed, left) = (severed.destroyed.len(), severed.uncovered.len());
        if destroyed + severed.inbound > 0 {
            info!(workload = %workload.id, destroyed, inbound = severed.inbound, "connections older than the enrolment");
        }
        self.note_sockets(severed.destroyed, workload);
        self.note_sockets(severed.uncovered, workload);
        match warden.sweep() {
            Ok(swept) => {
                for found in [swept.destroyed, swept.ended, swept.uncovered] {
                    self.note_sockets(found, workload);
                }
            }
            Err(error) => warn!(%error, "the hands of enrolled tasks could not be looked at"),
        }
        if left > 0 || !severed.unseen.is_empty() {
            let unseen = severed.unseen.join("; ");
            let text = format!(
                "{left} connections of `{}` are older than its enrolment and go on uncovered: restart it{}{unseen}",
                workload.id,
                if unseen.is_empty() { "" } else { "; not looked at: " },
            );
            self.alarm(&cause(workload), &text);
        }
    }

    pub(super) fn calm_about_sockets(&self, workload: &Workload) {
        self.calm(&cause(workload));
    }

    fn note_sockets(&self, found: Vec<KernelDenial>, workload: &Workload) {
        for mut denial in found {
            // A look at all hands finds other workloads' too.
            let owner = self.gate.roster.get(denial.cgroup);
            denial.workload = owner.map_or_else(|| workload.id.clone(), |owner| owner.id.clone());
            self.record(RecordKind::KernelDenial(denial));
        }
    }
}

/// What alarms about the sockets of a workload are called by.
fn cause(workload: &Workload) -> String {
    format!("older sockets of {}", workload.id)
}
