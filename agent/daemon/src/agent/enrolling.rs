//! Enrolling and what keeps it: on request, at start from configuration and pins, and again when a cgroup comes back.
//!
//! A cgroup that is not there (yet, or any more) stops nothing: it is an alarm, and looked for until it is there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use callgate_enroll::{Enrolment, Owner, Roster, cgroup};
use callgate_model::{CgroupId, EnrolmentChange, EnrolmentRecord, FailMode, Mode, RecordKind, Workload, WorkloadName};
use callgate_redirect::RedirectError;
use tracing::{info, warn};

use super::Agent;
use super::following::Settling;
use super::wanted::{Want, Wanted};
use crate::config::{EnrollEntry, What};
use crate::place;

/// How long an enrolment that failed, although the cgroup is there, waits for its next try.
const TRY_AGAIN: Duration = Duration::from_secs(5);

impl Agent {
    /// Enrols the cgroup at `path`, and listens in every network namespace that its processes are in; tells whether it
    /// was enrolled just so before.
    ///
    /// # Errors
    /// If there is no such cgroup, it lies outside of the configured root, the kernel refuses, or, without `replace`,
    /// it is enrolled already under another name, in another mode, or to fail otherwise.
    pub fn enrol_path(
        &self,
        path: &Path,
        name: Option<&WorkloadName>,
        (mode, fail): (Mode, FailMode),
        replace: bool,
    ) -> Result<(Arc<Workload>, bool)> {
        let path = place::directory(&self.config, path)?;
        let id = entity(&path, name)?;
        let mut wanted = self.wanted();
        let cgroup = cgroup::id_of(&path).with_context(|| format!("there is no cgroup `{}`", path.display()))?;
        if let Some(known) = self.gate.roster.get(cgroup) {
            if known.id == id && (known.mode, known.fail) == (mode, fail) {
                return Ok((known, true));
            }
            if !replace {
                bail!(
                    "`{}` is enrolled already, as `{}` ({}, fails {}): `--replace` changes that",
                    path.display(),
                    known.id,
                    if known.mode == Mode::Observe { "observe" } else { "enforce" },
                    known.fail.as_str(),
                );
            }
        }
        let want = Want { id, mode, fail, weakened: Vec::new(), next: Instant::now() };
        let workload = self.enrol(want.workload(&path)?, EnrolmentChange::Enrolled)?;
        wanted.remove(&path);
        self.calm(&cause(&path));
        Ok((workload, false))
    }

    /// Takes over what the configuration enrols: now where the cgroup is there, later where it is not.
    ///
    /// # Errors
    /// If an entry names no place for a cgroup, or strict mode cannot begin.
    pub fn enrol_configured(self: &Arc<Self>, entries: &[EnrollEntry]) -> Result<()> {
        let mut rules = Vec::new();
        for entry in entries {
            let named = || format!("in the config: `[[enroll]]` of `{}`", entry.shown());
            rules.extend(entry.rule().with_context(named)?);
            let What::Path(path) = &entry.what else { continue };
            let path = place::directory(&self.config, path).with_context(named)?;
            let called = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let name = entry.name.as_ref().map(|name| name.fill(&called, &path));
            let id = entity(&path, name.as_ref())?;
            let (mode, fail) = (entry.mode, entry.fail);
            let below = path.strip_prefix(cgroup::cgroup2_mount()?).unwrap_or(&path).to_owned();
            self.trust_at(below, entry.trust);
            let want = Want { id, mode, fail, weakened: Vec::new(), next: Instant::now() };
            self.wanted().insert(path, want);
        }
        rules.extend(self.pod_rule());
        self.keep_enrolled();
        self.follow(rules)?;
        self.in_place.settled();
        Ok(())
    }

    /// Enrols `workload`: listeners first, then the roster, then the kernel.
    ///
    /// # Errors
    /// If the kernel refuses, or the enrolment cannot be kept on disk.
    pub fn enrol(&self, workload: Workload, change: EnrolmentChange) -> Result<Arc<Workload>> {
        let path = cgroup::cgroup2_mount()?.join(&workload.cgroup_path);
        // What is enrolled stays so: to let it go would be to open what is closed.
        if self.gate.roster.get(workload.cgroup).is_none() && change == EnrolmentChange::Enrolled {
            self.refuse_net_raw(&path)?;
        }
        self.listen_for(&path, workload.cgroup);
        let workload = Arc::new(workload);
        let enrolment = self.enrolment(&workload, &path);
        enrolment.save(&self.config.state_dir)?;
        let before = self.gate.roster.insert(Workload::clone(&workload));
        if let Err(error) = self.attach(&path, &workload) {
            match before {
                // What was in force stays so, in the kernel as on disk.
                Some(before) => {
                    self.enrolment(&before, &path).save(&self.config.state_dir)?;
                    self.gate.roster.insert(before);
                }
                None => {
                    self.gate.roster.remove(workload.cgroup);
                    enrolment.remove(&self.config.state_dir)?;
                }
            }
            return Err(error).with_context(|| format!("cannot enrol `{}`", path.display()));
        }
        self.forget_files(&path, Some(workload.cgroup));
        self.record(enrolment_record(change, &workload));
        // What was enrolled before went through the hooks all along.
        if before.is_none() && change == EnrolmentChange::Enrolled {
            self.sever(&path, &workload);
        }
        self.policies.set_workload_uids(workload_uids(&self.gate.roster)?);
        self.found().settling.insert(workload.cgroup, Settling::at(path));
        info!(workload = %workload.id, cgroup = %workload.cgroup, ?change, "enrolled");
        Ok(workload)
    }

    /// Attaches the kernel programs to `workload`'s very cgroup: another one may have taken its path a moment ago.
    fn attach(&self, path: &Path, workload: &Workload) -> Result<()> {
        let attached = self.redirect.enrol_failing(path, workload.mode, workload.fail)?;
        if attached == workload.cgroup {
            return Ok(());
        }
        if self.gate.roster.get(attached).is_none() {
            self.redirect.unenrol(attached)?;
        }
        bail!("cgroup {} is gone, and {attached} is in its place", workload.cgroup)
    }

    /// Ends the enrolment of the cgroup at `path`, also of one that is waited for.
    ///
    /// # Errors
    /// If it is not enrolled, or the kernel's programs cannot be detached.
    pub fn unenrol_path(&self, path: &Path) -> Result<()> {
        let path = place::directory(&self.config, path)?;
        let mut wanted = self.wanted();
        let waited_for = wanted.remove(&path).is_some();
        let mount = cgroup::cgroup2_mount()?;
        let listed = self.gate.roster.list();
        let Some(workload) = listed.iter().find(|workload| mount.join(&workload.cgroup_path) == path) else {
            if !waited_for {
                bail!("`{}` is not enrolled: `callgate workloads` lists what is", path.display());
            }
            self.forget_files(&path, None);
            self.calm(&cause(&path));
            return Ok(());
        };
        self.unenrol(workload)?;
        let mut found = self.found();
        if found.enrolled.remove(&workload.cgroup) {
            found.declined.insert(path, workload.cgroup);
        }
        Ok(())
    }

    /// Ends an enrolment.
    ///
    /// # Errors
    /// If the kernel's programs cannot be detached.
    pub fn unenrol(&self, workload: &Workload) -> Result<()> {
        self.let_go(workload)?;
        // Not where a cgroup only went away: the next run of the same job would have to fail again.
        self.gate.unopened.forget(&workload.id);
        let path = cgroup::cgroup2_mount()?.join(&workload.cgroup_path);
        self.enrolment(workload, &path).remove(&self.config.state_dir)?;
        Ok(())
    }

    /// Enrols again what was enrolled when the last agent of this instance ended.
    pub(super) fn resume(&self) -> Result<()> {
        let mut kept: HashMap<CgroupId, Enrolment> = HashMap::new();
        for enrolment in Enrolment::all(&self.config.state_dir) {
            match enrolment {
                Ok(enrolment) if enrolment.instance == self.instance => {
                    kept.insert(enrolment.cgroup, enrolment);
                }
                Ok(_) => {}
                Err(error) => self.alarm(&error.to_string(), &format!("an enrolment cannot be read: {error}")),
            }
        }
        let mount = cgroup::cgroup2_mount()?;
        for id in self.redirect.enrolled()? {
            // An id is not reused, but a directory's path may be: both must still belong together.
            match kept.get(&id).filter(|e| cgroup::id_of(&e.cgroup_path).is_ok_and(|now| now == id)) {
                Some(enrolment) => {
                    if enrolment.found {
                        self.found().enrolled.insert(id);
                    }
                    let (path, want) = Want::kept(enrolment);
                    let resumed = want.workload_of(&path, id, &mount);
                    match self.enrol(resumed, EnrolmentChange::Resumed) {
                        Ok(_) => {
                            kept.remove(&id);
                        }
                        Err(error) => self.alarm(&cause(&path), &format!("{error:#}; it is tried again")),
                    }
                }
                None => {
                    warn!(cgroup = %id, "pins of a cgroup that is gone or that no enrolment names: removed");
                    self.redirect.unenrol(id)?;
                }
            }
        }
        // What was asked for holds until it is ended: a cgroup that went, or a host that was started anew, ends nothing.
        let (found, asked_for): (Vec<_>, Vec<_>) = kept.into_values().partition(|enrolment| enrolment.found);
        self.wanted().extend(asked_for.iter().map(Want::kept));
        for enrolment in found {
            self.found().enrolled.remove(&enrolment.cgroup);
            enrolment.remove(&self.config.state_dir)?;
        }
        self.keep_enrolled();
        Ok(())
    }

    /// Looks for cgroups that went, and enrols those that are waited for and have come. Blocking.
    pub(super) fn keep_enrolled(&self) {
        let Ok(mount) = cgroup::cgroup2_mount() else { return };
        let mut wanted = self.wanted();
        for workload in self.gate.roster.list() {
            let path = mount.join(&workload.cgroup_path);
            if cgroup::id_of(&path).is_ok_and(|now| now == workload.cgroup) {
                continue;
            }
            self.lose(&mut wanted, &workload, &path);
        }
        let due: Vec<PathBuf> =
            wanted.iter().filter(|(_, want)| want.next <= Instant::now()).map(|(path, _)| path.clone()).collect();
        for path in due {
            let Some(want) = wanted.get_mut(&path) else { continue };
            if !path.is_dir() {
                let text = format!(
                    "there is no cgroup `{}`: `{}` is enrolled when it appears, or ended by `callgate unenroll`",
                    path.display(),
                    want.id
                );
                self.alarm(&cause(&path), &text);
                continue;
            }
            let known = cgroup::id_of(&path).ok().and_then(|id| self.gate.roster.get(id));
            let enrolled = if known.is_some_and(|known| want.is(&known)) {
                Ok(())
            } else {
                want.workload(&path).and_then(|workload| self.enrol(workload, EnrolmentChange::Enrolled)).map(drop)
            };
            match enrolled {
                Ok(()) => {
                    wanted.remove(&path);
                    self.calm(&cause(&path));
                }
                Err(error) => {
                    want.next = Instant::now() + TRY_AGAIN;
                    self.alarm(&cause(&path), &format!("{error:#}; it is tried again"));
                }
            }
        }
    }

    /// The cgroup of a workload, which was at `path`, is gone: what a rule had found is forgotten, the rest waited for.
    pub(super) fn lose(&self, wanted: &mut Wanted, workload: &Workload, path: &Path) {
        if let Err(error) = self.let_go(workload) {
            self.alarm(&cause(path), &format!("`{}` is gone, and so cannot be left: {error:#}", path.display()));
            return;
        }
        let enrolment = self.enrolment(workload, path);
        if self.found().enrolled.remove(&workload.cgroup) {
            if let Err(error) = enrolment.remove(&self.config.state_dir) {
                warn!(%error, "what was written down of an enrolment that ended stays");
            }
            self.calm(&cause(path));
            return;
        }
        let Workload { id, mode, fail, weakened, .. } = workload.clone();
        // Configured meanwhile under another name: that holds.
        wanted.entry(path.to_owned()).or_insert(Want { id, mode, fail, weakened, next: Instant::now() });
    }

    /// Takes enforcement away; the enrolment on disk stays.
    fn let_go(&self, workload: &Workload) -> Result<()> {
        match self.redirect.unenrol(workload.cgroup) {
            // Its pins were removed by hand.
            Err(RedirectError::NotEnrolled(_)) => {}
            done => done?,
        }
        self.gate.roster.remove(workload.cgroup);
        self.gate.tallies.forget(workload.cgroup);
        self.calm_about_sockets(workload);
        self.calm_about_net_raw(workload);
        self.take_trust_back(workload);
        self.found().settling.remove(&workload.cgroup);
        self.record(enrolment_record(EnrolmentChange::Unenrolled, workload));
        info!(workload = %workload.id, "unenrolled");
        Ok(())
    }

    /// What waits, and the turn of whoever changes what is enrolled.
    pub(super) fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what is written down of `path`, but for the cgroup `but`: earlier ones at the same path.
    fn forget_files(&self, path: &Path, but: Option<CgroupId>) {
        for enrolment in Enrolment::all(&self.config.state_dir).into_iter().flatten() {
            let other = enrolment.instance == self.instance && enrolment.cgroup_path == path;
            if other
                && Some(enrolment.cgroup) != but
                && let Err(error) = enrolment.remove(&self.config.state_dir)
            {
                warn!(%error, "what was written down of an earlier enrolment stays");
            }
        }
    }

    fn enrolment(&self, workload: &Workload, path: &Path) -> Enrolment {
        Enrolment {
            instance: self.instance.clone(),
            owner: self.run.is_some().then(Owner::this_process),
            cgroup: workload.cgroup,
            cgroup_path: path.to_owned(),
            workload: workload.id.clone(),
            mode: workload.mode,
            fail: workload.fail,
            found: self.found().enrolled.contains(&workload.cgroup),
            weakened: workload.weakened.clone(),
            spool: self.run.is_some().then(|| self.spool_dir()),
            trust: self.run.clone(),
        }
    }
}

/// The entity id: the name, or the path below the mount, which no name can be mistaken for once it holds a `/`.
fn entity(path: &Path, name: Option<&WorkloadName>) -> Result<String> {
    let below = path.strip_prefix(cgroup::cgroup2_mount()?).unwrap_or(path);
    Ok(name.map_or_else(|| format!("cgroup/{}", below.display()), |name| format!("cgroup/{name}")))
}

/// What alarms about the cgroup at `path` are called by.
pub(super) fn cause(path: &Path) -> String {
    format!("enrolment of {}", path.display())
}

fn enrolment_record(change: EnrolmentChange, workload: &Workload) -> RecordKind {
    let mut weakened = workload.weakened.clone();
    if workload.fail != FailMode::Closed {
        weakened.push(format!("fail-{}", workload.fail.as_str()));
    }
    RecordKind::Enrolment(EnrolmentRecord {
        change,
        workload: workload.id.clone(),
        cgroup: workload.cgroup,
        cgroup_path: workload.cgroup_path.display().to_string(),
        weakened,
    })
}

/// The uids of every process of every workload: files that one of them could write are never reloaded.
pub(super) fn workload_uids(roster: &Roster) -> Result<Vec<u32>> {
    let mount = cgroup::cgroup2_mount()?;
    let mut uids = Vec::new();
    for workload in roster.list().iter() {
        for pid in cgroup::processes(&mount.join(&workload.cgroup_path)).unwrap_or_default() {
            uids.extend(callgate_identity::uid_of(pid));
        }
    }
    uids.sort_unstable();
    uids.dedup();
    Ok(uids)
}
