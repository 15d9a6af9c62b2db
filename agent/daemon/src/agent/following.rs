//! Follows the cgroup tree: what a rule of the configuration finds is enrolled as it comes, and let go as it goes.
//!
//! Told by inotify, and by a look at everything now and then: queues overflow, and labels may be read too early.
//! What is enrolled by its path or by hand is [`enrolling`](super::enrolling)'s, and never touched by a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use callgate_enroll::{Change, Class, Pattern, Rule, TreeWatch, cgroup};
use callgate_model::{CgroupId, EnrolmentChange, FailMode, Mode, Workload};
use callgate_redirect::NetnsRef;
use tracing::{error, info, warn};

use super::Agent;
use super::enrolling::cause;
use crate::place;

/// Time between two looks at the whole tree.
const LOOK: Duration = Duration::from_secs(5);
/// Longest wait for something to happen, before the end of the agent is looked for.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long after its first process a workload's network namespaces are looked for. One that appears later has no
/// listener, and so no way out.
const SETTLED: Duration = Duration::from_secs(10);

/// Cause of the alarm that not everything can be watched.
const WATCHES: &str = "cgroup watches";
const QUEUE: &str = "cgroup events";

/// What rules have found, and what is left alone.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Enrolled by a rule.
    pub enrolled: BTreeSet<CgroupId>,
    /// Ended by an operator, although a rule finds it: until it goes, or the agent is started anew.
    pub declined: BTreeMap<PathBuf, CgroupId>,
    /// Exempt from strict mode.
    exempt: BTreeMap<PathBuf, CgroupId>,
    /// Enrolled a moment ago, or still empty.
    pub settling: BTreeMap<CgroupId, Settling>,
}

/// A workload whose network namespaces may not be there yet: a container's first process is born into its cgroup, and
/// only then enters them.
#[derive(Clone, Debug)]
pub(super) struct Settling {
    path: PathBuf,
    /// Since when somebody is in it.
    populated: Option<Instant>,
}

impl Settling {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, populated: None }
    }
}

struct Follower {
    agent: Weak<Agent>,
    rules: Vec<Rule>,
    exempt: Vec<Pattern>,
    mount: PathBuf,
    root: PathBuf,
    watch: TreeWatch,
    /// Where accept loops are started.
    runtime: tokio::runtime::Handle,
    /// Cgroups that could not be judged or enrolled: each has an alarm.
    troubled: BTreeSet<PathBuf>,
}

impl Agent {
    /// Enrols what `rules` find, now and as it comes, and then has strict mode begin or end, as configured.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If strict mode cannot begin, or nothing can be watched.
    pub(super) fn follow(self: &Arc<Self>, rules: Vec<Rule>) -> Result<()> {
        let root = place::root(&self.config)?;
        let mut follower = Follower {
            agent: Arc::downgrade(self),
            rules,
            exempt: self.config.exempt()?,
            mount: cgroup::cgroup2_mount()?,
            watch: TreeWatch::new(&root)?,
            runtime: tokio::runtime::Handle::current(),
            root,
            troubled: BTreeSet::new(),
        };
        // What is there is classified first, so that strict mode refuses nothing that is to go on.
        follower.look(self);
        self.stand_guard()?;
        thread::Builder::new().name("cgroups".into()).spawn(move || follower.run()).context("cannot follow cgroups")?;
        Ok(())
    }

    fn stand_guard(&self) -> Result<()> {
        let mut stands = self.redirect.guarded()?;
        if let Some(strict) = &self.config.strict {
            let path = place::at_or_below_root(&self.config, strict).context("in the config: `strict`")?;
            let id = self.redirect.guard(&path).with_context(|| format!("no strict mode at `{}`", path.display()))?;
            info!(path = %path.display(), "what is not classified is refused");
            stands.retain(|other| *other != id);
        }
        for id in stands {
            self.redirect.unguard(id)?;
        }
        Ok(())
    }

    /// Enrols what a rule found; none if it is gone, or not for rules to enrol.
    fn enrol_found(&self, path: &Path, id: String, mode: Mode, fail: FailMode) -> Result<Option<CgroupId>> {
        let wanted = self.wanted();
        let Ok(cgroup) = cgroup::id_of(path) else { return Ok(None) };
        if wanted.contains_key(path) || self.found().declined.get(path) == Some(&cgroup) {
            return Ok(None);
        }
        let known = self.gate.roster.get(cgroup);
        if let Some(known) = &known
            && (!self.found().enrolled.contains(&cgroup)
                || (known.id == id && (known.mode, known.fail) == (mode, fail)))
        {
            return Ok(Some(cgroup));
        }
        let mount = cgroup::cgroup2_mount()?;
        let workload = Workload {
            id,
            cgroup,
            cgroup_path: path.strip_prefix(mount).unwrap_or(path).to_owned(),
            mode,
            fail,
            session: None,
            weakened: Vec::new(),
        };
        self.found().enrolled.insert(cgroup);
        let enrolled = self.enrol(workload, EnrolmentChange::Enrolled);
        if enrolled.is_err() && known.is_none() {
            self.found().enrolled.remove(&cgroup);
        }
        match enrolled {
            // Gone meanwhile; whatever is in its place comes by itself.
            Err(_) if cgroup::id_of(path).ok() != Some(cgroup) => Ok(None),
            enrolled => {
                enrolled?;
                self.calm(&cause(path));
                Ok(Some(cgroup))
            }
        }
    }

    /// Lets go what rules had found and find no more: they, or a label, were changed. What is not among `seen` is let go
    /// only when it is gone: it may be that it could not be looked at.
    fn keep_found(&self, still: &BTreeSet<CgroupId>, seen: &[PathBuf]) {
        let _turn = self.wanted();
        let lost: Vec<CgroupId> = self.found().enrolled.difference(still).copied().collect();
        let Ok(mount) = cgroup::cgroup2_mount() else { return };
        for workload in lost.into_iter().filter_map(|id| self.gate.roster.get(id)) {
            let path = mount.join(&workload.cgroup_path);
            if !seen.contains(&path) && cgroup::id_of(&path).is_ok_and(|now| now == workload.cgroup) {
                continue;
            }
            match self.unenrol(&workload) {
                Ok(()) => {
                    self.found().enrolled.remove(&workload.cgroup);
                }
                Err(error) => error!(workload = %workload.id, error = %format!("{error:#}"), "cannot be let go"),
            }
        }
    }

    /// Exempts the cgroup at `path` from strict mode, if there is any.
    fn exempt(&self, path: &Path) -> Result<()> {
        if let (Some(_), Ok(id)) = (&self.config.strict, cgroup::id_of(path)) {
            self.redirect.exempt(id)?;
            self.found().exempt.insert(path.to_owned(), id);
        }
        Ok(())
    }

    /// Whether or not it can be enrolled then.
    fn end_exemption(&self, path: &Path) -> Result<()> {
        let exempt = self.found().exempt.remove(path);
        Ok(exempt.map_or(Ok(()), |id| self.redirect.unexempt(id))?)
    }

    /// What was enrolled and is to be exempt became so only when it was let go.
    fn exempt_again(&self) {
        let exempt: Vec<CgroupId> = self.found().exempt.values().copied().collect();
        for id in exempt {
            if let Err(error) = self.redirect.exempt(id) {
                error!(%error, "an exemption from strict mode is missing");
            }
        }
    }

    /// The cgroup at `path`, if a rule had enrolled it.
    fn enrolled_before(&self, path: &Path) -> Option<CgroupId> {
        let id = cgroup::id_of(path).ok()?;
        self.found().enrolled.contains(&id).then_some(id)
    }

    fn went(&self, path: &Path, below_mount: &Path) {
        let exempt = self.found().exempt.remove(path);
        if let Some(id) = exempt
            && let Err(error) = self.redirect.unexempt(id)
        {
            error!(%error, "an exemption from strict mode stays");
        }
        self.found().declined.remove(path);
        // Looked up in our turn: what two lose would be waited for by the second.
        let mut wanted = self.wanted();
        let Some(workload) = self.gate.roster.at(below_mount) else { return };
        if cgroup::id_of(path).is_ok_and(|now| now == workload.cgroup) {
            return;
        }
        self.lose(&mut wanted, &workload, path);
    }

    /// Listens in the network namespaces of the processes in the cgroup at `path`, which is enrolled as `user`.
    pub(super) fn listen_for(&self, path: &Path, user: CgroupId) {
        for pid in cgroup::processes(path).unwrap_or_default() {
            // A process may be gone by now; the others still need their listener.
            if let Ok(netns) = NetnsRef::of_pid(pid)
                && let Err(error) = self.listen(&netns, Some(user))
            {
                warn!(pid, %error, "no listener in this process's network namespace: it will be refused");
            }
        }
    }

    fn settle(&self) {
        let settling: Vec<_> = self.found().settling.iter().map(|(id, one)| (*id, one.clone())).collect();
        for (id, Settling { path, mut populated }) in settling {
            if !cgroup::populated(&path).unwrap_or(true) {
                continue;
            }
            {
                // Two who listen in the same namespace would take it from each other.
                let _turn = self.wanted();
                self.listen_for(&path, id);
            }
            let since = *populated.get_or_insert_with(Instant::now);
            let mut found = self.found();
            if since.elapsed() > SETTLED {
                found.settling.remove(&id);
            } else if let Some(one) = found.settling.get_mut(&id) {
                one.populated = populated;
            }
        }
    }

    pub(super) fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    fn run(mut self) {
        let runtime = self.runtime.clone();
        let _entered = runtime.enter();
        let mut looked = Instant::now();
        loop {
            let changes = self.watch.wait(PATIENCE);
            let Some(agent) = self.agent.upgrade().filter(|agent| !agent.stopping.is_cancelled()) else { return };
            agent.settle();
            let mut lost = agent.pods_changed();
            match changes {
                Ok(changes) => {
                    for change in changes {
                        match change {
                            Change::Came(path) => {
                                agent.hurry_trust();
                                self.came(&agent, &path);
                            }
                            Change::Went(path) => self.went(&agent, &path),
                            Change::Lost => lost = true,
                        }
                    }
                    agent.calm(QUEUE);
                }
                Err(error) => {
                    agent.alarm(QUEUE, &format!("cgroups that come are found late: {error}"));
                    thread::sleep(PATIENCE);
                }
            }
            if lost || looked.elapsed() > LOOK {
                self.look(&agent);
                looked = Instant::now();
            }
        }
    }

    /// Looks at everything.
    fn look(&mut self, agent: &Agent) {
        let there = self.watch.look();
        if self.watch.is_whole() {
            agent.calm(WATCHES);
        } else {
            let text = "not every cgroup can be watched, so some are enrolled seconds late: raise \
                        `fs.inotify.max_user_watches`";
            agent.alarm(WATCHES, text);
        }
        let enrolled: BTreeSet<CgroupId> = there.iter().filter_map(|path| self.came(agent, path)).collect();
        agent.keep_found(&enrolled, &there);
        agent.exempt_again();
        let gone: Vec<PathBuf> = agent.found().exempt.keys().filter(|path| !path.is_dir()).cloned().collect();
        gone.iter().for_each(|path| self.went(agent, path));
        agent.found().declined.retain(|path, id| cgroup::id_of(path).is_ok_and(|now| now == *id));
        let exempt: BTreeSet<CgroupId> = agent.found().exempt.values().copied().collect();
        // What an earlier agent exempted stays so until it can be classified.
        if agent.knows_pods()
            && let Err(error) = agent.redirect.exempt_only(&exempt)
        {
            error!(%error, "old exemptions from strict mode stay");
        }
        self.troubled.retain(|path| {
            let there = path.is_dir();
            if !there {
                agent.calm(&cause(path));
            }
            there
        });
    }

    /// Classifies a cgroup that has come; its id if a rule enrols it.
    fn came(&mut self, agent: &Agent, path: &Path) -> Option<CgroupId> {
        let (below_mount, below_root) = (path.strip_prefix(&self.mount).ok()?, path.strip_prefix(&self.root).ok()?);
        match self.classify(agent, path, below_mount, below_root) {
            Ok(enrolled) => {
                if self.troubled.remove(path) {
                    agent.calm(&cause(path));
                }
                // One that was waited for by its path.
                if enrolled.is_none() && agent.wanted().contains_key(path) {
                    agent.keep_enrolled();
                }
                enrolled
            }
            Err(error) => {
                agent.alarm(&cause(path), &format!("`{}`: {error:#}; it is tried again", path.display()));
                self.troubled.insert(path.to_owned());
                // What is enrolled stays so: to let it go would be to open what is closed.
                agent.enrolled_before(path)
            }
        }
    }

    fn classify(&self, agent: &Agent, path: &Path, below_mount: &Path, below_root: &Path) -> Result<Option<CgroupId>> {
        for rule in &self.rules {
            match rule.class(below_mount, below_root)? {
                Some(Class::Enrolled { id, mode, fail, trust }) => {
                    agent.end_exemption(path)?;
                    let enrolled = agent.enrol_found(path, id, mode, fail)?;
                    if let Some(cgroup) = enrolled {
                        agent.trust_by(cgroup, trust);
                    }
                    return Ok(enrolled);
                }
                Some(Class::Exempt) => {
                    agent.exempt(path)?;
                    return Ok(None);
                }
                Some(Class::Undecided) => return Ok(agent.enrolled_before(path)),
                None => {}
            }
        }
        if self.exempt.iter().any(|pattern| pattern.matches(below_mount)) {
            agent.exempt(path)?;
        }
        Ok(None)
    }

    fn went(&mut self, agent: &Agent, path: &Path) {
        let Ok(below_mount) = path.strip_prefix(&self.mount) else { return };
        agent.went(path, below_mount);
        if self.troubled.remove(path) {
            agent.calm(&cause(path));
        }
    }
}
