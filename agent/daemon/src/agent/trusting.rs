//! Has the containers of workloads trust our CA, by mounts over their own CA files, and takes that back.
//!
//! How that is done is `callgate_trust`'s. Here is when: as containers come, until their enrolment ends.
//! Enforcement does not depend on it: a client without trust refuses our certificate, and its call does not go out.

mod state;
mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use callgate_enroll::{Trust, cgroup};
use callgate_identity::Authority;
use callgate_model::{CgroupId, Workload};
use callgate_trust::{Ca, Delivered, Space, SpaceId, TrustError};
use tracing::{debug, info};

use super::Agent;
use state::{Done, State};
use threads::{LATE, Silent, Task, Threads};

/// How often containers that are new are looked for, and how often just after a cgroup has come.
const LOOK: Duration = Duration::from_secs(1);
const HURRIED: Duration = Duration::from_millis(50);
/// How long a container may take to be made, once its cgroup is there. Source: runc takes 100 to 300 ms.
const HURRY: Duration = Duration::from_secs(3);

/// How long the containers of one workload may hold up those of others: what is left has its turn later.
const SHARE: Duration = Duration::from_secs(2);
/// Most roots of one workload that are looked into: each takes up to 16 MiB of memory, and a workload can make any number.
const SPACES_MAX: usize = 64;
/// When what failed is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// What is known of trust on this node.
pub(super) struct Trusting {
    ca: Arc<Ca>,
    /// A directory of ours in which mounts are prepared.
    scratch: PathBuf,
    shared: Arc<Shared>,
    /// Held while one workload is looked into or cleared: nothing is mounted once its enrolment has ended.
    turn: Mutex<()>,
    /// What looks into containers: it outlives their enrolment.
    threads: Threads,
}

/// What is known, and what wakes the thread that looks for containers.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    bell: Condvar,
}

impl Trusting {
    /// Delivers `authority`'s CA, preparing mounts in `scratch`.
    ///
    /// # Errors
    /// If the CA's certificate cannot be parsed.
    pub(super) fn new(authority: &Authority, scratch: &Path) -> Result<Self> {
        let ca = Ca::of_pem(&authority.ca_pem()).context("the CA of this agent")?;
        Ok(Self {
            ca: Arc::new(ca),
            scratch: scratch.to_owned(),
            shared: Arc::default(),
            turn: Mutex::default(),
            threads: Threads::default(),
        })
    }

    fn hurries(&self, cgroup: CgroupId) -> bool {
        self.state().hurried.get(&cgroup).is_some_and(|until| *until > Instant::now())
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks into the workload at every turn for a while, and at once.
    fn hurry(&self, cgroup: CgroupId) {
        self.state().hurried.insert(cgroup, Instant::now() + HURRY);
        self.shared.bell.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next turn.
    fn wait(&self) {
        let state = self.state();
        let turn = if state.hurried.is_empty() { LOOK } else { HURRIED };
        drop(self.bell.wait_timeout(state, turn));
    }
}

impl Agent {
    /// A rule enrols `cgroup`, which is to come to trust in this way.
    pub(super) fn trust_by(&self, cgroup: CgroupId, trust: Trust) {
        if self.found().enrolled.contains(&cgroup) {
            let before = self.trusting.state().wishes.insert(cgroup, trust);
            if before != Some(trust) {
                self.trusting.hurry(cgroup);
            }
        }
    }

    /// The configuration enrols the cgroup at `path`.
    pub(super) fn trust_at(&self, path: PathBuf, trust: Trust) {
        self.trusting.state().by_path.insert(path, trust);
    }

    /// A cgroup has come at `path`, below the cgroup v2 mount: a container may be in the making.
    pub(super) fn hurry_trust(&self, path: &Path) {
        if let Some(workload) = self.gate.roster.covering(path) {
            self.trusting.hurry(workload.cgroup);
        }
    }

    /// Looks for containers, as long as the agent lives.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub(super) fn deliver_trust(self: &Arc<Self>) -> Result<()> {
        let (agent, shared) = (Arc::downgrade(self), Arc::clone(&self.trusting.shared));
        let run = move || {
            let mut looked: Option<Instant> = None;
            while let Some(agent) = living(&agent) {
                if looked.is_none_or(|at| at.elapsed() >= LOOK) {
                    agent.look_for_containers();
                    looked = Some(Instant::now());
                } else {
                    agent.look_in_a_hurry();
                }
                drop(agent);
                shared.wait();
            }
        };
        thread::Builder::new().name("trust".into()).spawn(run).context("cannot look for containers")?;
        Ok(())
    }

    /// How `workload` trusts our CA, in words: `webhook + mount (2 files)`, `none`.
    pub(crate) fn trust_of(&self, workload: &Workload) -> String {
        let admitted = self.joined.as_ref().and_then(|joined| joined.pods.admitted_at(&workload.cgroup_path));
        let state = self.trusting.state();
        let own = || state.done.iter().filter(|((cgroup, _), _)| *cgroup == workload.cgroup).map(|(_, done)| done);
        let files: usize = own().map(|done| if let Done::Delivered { files } = done { *files } else { 0 }).sum();
        let failed = own().any(|done| !matches!(done, Done::Delivered { .. }));
        let mounted = match (state.wish(workload).mounts(), files, failed) {
            (false, ..) => None,
            (true, 0, true) => Some("mount (failed)".to_owned()),
            (true, 0, false) => Some("mount (nothing yet)".to_owned()),
            (true, files, false) => Some(format!("mount ({files} files)")),
            (true, files, true) => Some(format!("mount ({files} files, some failed)")),
        };
        let all: Vec<String> = admitted.into_iter().chain(mounted).collect();
        if all.is_empty() { "none".into() } else { all.join(" + ") }
    }

    /// Takes back what was mounted for `workload`, whose enrolment ends.
    pub(super) fn take_trust_back(&self, workload: &Workload) {
        self.trusting.state().wishes.remove(&workload.cgroup);
        self.calm(&cause(workload));
        self.clear(workload);
    }

    /// Takes back what was mounted for `workload`, wherever it still lives.
    fn clear(&self, workload: &Workload) {
        let _turn = self.trusting.turn();
        self.trusting.state().end(workload.cgroup);
        let Ok(mount) = cgroup::cgroup2_mount() else { return };
        match taken_back(&self.trusting.threads, workload.cgroup, &mount.join(&workload.cgroup_path)) {
            Ok(0) => {}
            Ok(files) => info!(workload = %workload.id, files, "trust was taken back"),
            Err(error) => self.alarm(&cause(workload), &format!("mounts of `{}` stay: {error:#}", workload.id)),
        }
    }

    fn look_for_containers(&self) {
        let Ok(mount) = cgroup::cgroup2_mount() else { return };
        let roster = self.gate.roster.list();
        let mut seen = BTreeSet::new();
        for workload in roster.iter() {
            let wished = self.trusting.state().wish(workload).mounts();
            if !wished {
                let was_served = self.trusting.state().orders.contains_key(&workload.cgroup);
                if was_served {
                    self.clear(workload);
                    self.calm(&cause(workload));
                }
                continue;
            }
            self.look_into(workload, &mount.join(&workload.cgroup_path), &mut seen);
        }
        self.trusting.state().settle(&seen, &self.trusting.threads);
    }

    fn look_in_a_hurry(&self) {
        let Ok(mount) = cgroup::cgroup2_mount() else { return };
        let hurried: Vec<CgroupId> = {
            let mut state = self.trusting.state();
            state.hurried.retain(|_, until| *until > Instant::now());
            state.hurried.keys().copied().collect()
        };
        for workload in hurried.into_iter().filter_map(|cgroup| self.gate.roster.get(cgroup)) {
            let wished = self.trusting.state().wish(&workload).mounts();
            if wished {
                self.look_into(&workload, &mount.join(&workload.cgroup_path), &mut BTreeSet::new());
            }
        }
    }

    fn look_into(&self, workload: &Workload, path: &Path, seen: &mut BTreeSet<(CgroupId, SpaceId)>) {
        let _turn = self.trusting.turn();
        if self.gate.roster.get(workload.cgroup).is_none() {
            return;
        }
        let threads = &self.trusting.threads;
        if threads.wait(workload.cgroup, Task::TakeBack) {
            // Of an enrolment before this one; it would take away what is mounted now.
            self.tell_troubles(workload, &BTreeSet::from([LATE.to_owned()]));
            return;
        }
        let _order = self.trusting.state().order(workload.cgroup);
        let (mut spent, mut troubles) = (Duration::ZERO, BTreeSet::new());
        for pid in cgroup::processes(path).unwrap_or_default() {
            // Its root may be on a file system that does not answer.
            let space = match threads.within(workload.cgroup, Task::Deliver, move || Space::of(pid)) {
                Err(silent) => {
                    troubles.insert(silent.why().into());
                    // Of those that come after it is known what was.
                    seen.extend(self.trusting.state().spaces_of(workload.cgroup));
                    break;
                }
                Ok(Ok(space)) => space,
                Ok(Err(error @ TrustError::OwnNamespace(_))) => {
                    troubles.insert(error.to_string());
                    continue;
                }
                // It is gone.
                Ok(Err(_)) => continue,
            };
            let key = (workload.cgroup, space.id());
            if matches!(self.trusting.state().done.get(&key), Some(Done::Delivered { .. })) {
                seen.insert(key);
                continue;
            }
            // While its number was looked up it may have become another process's.
            let is_in = cgroup::of_process(pid).is_ok_and(|at| at.starts_with(&workload.cgroup_path));
            if !is_in || !space.is_alive() || !seen.insert(key) {
                continue;
            }
            let due = match self.trusting.state().done.get(&key) {
                None => true,
                Some(Done::Failed { at, .. }) => at.elapsed() > AGAIN,
                Some(Done::Delivered { .. } | Done::Stuck(_)) => false,
            };
            if due && spent >= SHARE {
                continue;
            }
            if due && self.trusting.state().spaces_of(workload.cgroup).count() >= SPACES_MAX {
                // Each root of a workload's own making would take memory of ours.
                troubles.insert("too many roots in its containers: the others have been served".into());
            } else if due {
                let began = Instant::now();
                let done = self.deliver(workload, space);
                spent += began.elapsed();
                self.trusting.state().done.insert(key, done);
            }
            match self.trusting.state().done.get(&key) {
                Some(Done::Failed { why, .. }) => drop(troubles.insert(why.clone())),
                Some(Done::Stuck(_)) => drop(troubles.insert(LATE.into())),
                Some(Done::Delivered { .. }) | None => {}
            }
        }
        self.tell_troubles(workload, &troubles);
    }

    fn tell_troubles(&self, workload: &Workload, troubles: &BTreeSet<String>) {
        match troubles.first() {
            // Of what is still being made nothing can be said yet.
            Some(_) if self.trusting.hurries(workload.cgroup) => {}
            Some(first) => {
                let text = format!("clients of `{}` may not trust the gate: {first}", workload.id);
                self.alarm(&cause(workload), &text);
            }
            None => self.calm(&cause(workload)),
        }
    }

    fn deliver(&self, workload: &Workload, space: Space) -> Done {
        let failed = |why| Done::Failed { why, at: Instant::now() };
        let order = self.trusting.state().order(workload.cgroup);
        let (ca, scratch) = (Arc::clone(&self.trusting.ca), self.trusting.scratch.clone());
        let work = move || space.deliver(&ca, &scratch, &|| !order.is_cancelled());
        match self.trusting.threads.within(workload.cgroup, Task::Deliver, work) {
            Ok(Ok(Delivered { mounted, already, left })) => {
                if !mounted.is_empty() {
                    info!(workload = %workload.id, files = ?mounted, "our CA was mounted over CA files");
                }
                debug!(workload = %workload.id, ?already, ?left, "CA files that were left as they are");
                match (left.first(), mounted.len() + already.len()) {
                    (Some((path, why)), 0) => failed(format!("`{path}`: {why}")),
                    (_, files) => Done::Delivered { files },
                }
            }
            Ok(Err(error)) => failed(format!("{:#}", anyhow::Error::from(error))),
            Err(Silent::Late(thread)) => Done::Stuck(thread),
            Err(silent) => failed(silent.why().into()),
        }
    }
}

/// Takes back what was mounted in the containers whose processes are in the cgroup at `path`; how many mounts that were.
///
/// # Errors
/// If a mount stays.
pub fn take_trust_back(path: &Path) -> Result<usize> {
    taken_back(&Threads::default(), cgroup::id_of(path).unwrap_or(CgroupId(0)), path)
}

/// The same for `cgroup`, which is the one at `path`. One container that does not answer keeps no other one's mounts.
fn taken_back(threads: &Threads, cgroup: CgroupId, path: &Path) -> Result<usize> {
    let (mut spaces, mut failed) = (BTreeMap::new(), None);
    for pid in cgroup::processes(path).unwrap_or_default() {
        match threads.within(cgroup, Task::TakeBack, move || Space::of(pid)) {
            Ok(Ok(space)) => drop(spaces.entry(space.id()).or_insert(space)),
            // It is gone, or nothing was ever mounted there.
            Ok(Err(_)) => {}
            Err(silent) => failed = Some(anyhow!(silent.why())),
        }
    }
    let mut gone = 0;
    for space in spaces.into_values() {
        match threads.within(cgroup, Task::TakeBack, move || space.take_back()) {
            Ok(Ok(taken)) => gone += taken,
            Ok(Err(error)) => failed = Some(error.into()),
            Err(silent) => failed = Some(anyhow!(silent.why())),
        }
    }
    failed.map_or(Ok(gone), Err)
}

fn living(agent: &Weak<Agent>) -> Option<Arc<Agent>> {
    agent.upgrade().filter(|agent| !agent.stopping.is_cancelled())
}

fn cause(workload: &Workload) -> String {
    format!("trust of {}", workload.id)
}
