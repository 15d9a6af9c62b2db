//! The thread that notices changes, judges them, and publishes the set or says why not.
//!
//! Woken by inotify, and by the clock where inotify says nothing (network file systems, a directory that was replaced).

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use callgate_kubernetes::Pace;
use callgate_model::PolicyChange;
use callgate_policy::{Compiled, Compiler, LoadErrors, Offer, PolicySet, PolicyText, Warning};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::Sender;
use tracing::{debug, warn};

use super::directory::{Files, read};
use super::objects::{Good, State};
use super::{Offered, WorkloadUids, alarm, ownership};

/// Time between two looks when nobody wakes us: half of the second within which a change must be in force.
const POLL: Duration = Duration::from_millis(500);
/// A change is taken when two reads this far apart agree: editors and copies write in steps.
const SETTLE: Duration = Duration::from_millis(60);
/// Most reads of one change before it is left to the next look.
const SETTLE_READS: usize = 5;

/// Ends the watch when dropped.
pub struct Watch {
    _inotify: Option<RecommendedWatcher>,
    nudge: SyncSender<()>,
}

impl Watch {
    /// Starts the thread.
    pub fn start(watcher: Watcher) -> Result<Self> {
        // One waiting nudge says as much as many.
        let (nudge, nudges) = sync_channel(1);
        let inotify = watcher.inotify(nudge.clone());
        thread::Builder::new()
            .name("policy-watch".into())
            .spawn(move || watcher.run(&nudges))
            .context("cannot start the thread that watches policies")?;
        Ok(Self { _inotify: inotify, nudge })
    }

    /// Has it look at once.
    pub fn nudge(&self) {
        let _ = self.nudge.try_send(());
    }
}

/// What the thread knows.
pub struct Watcher {
    directory: PathBuf,
    compiler: Compiler<'static>,
    current: Arc<ArcSwap<PolicySet>>,
    workload_uids: WorkloadUids,
    changes: Sender<PolicyChange>,
    /// What the cluster offers, and which version of it was looked at.
    offered: Offered,
    seen: u64,
    /// When the next version may be looked at.
    pace: Pace,
    /// What was good of it.
    good: Good,
    /// What was warned of the set in force.
    warned: Vec<Warning>,
    /// What is wrong with objects of the cluster; empty: nothing.
    broken: String,
    /// The files of the set in force.
    taken: Files,
    /// What was refused last, so that it is told once.
    refused: Option<RefusedFiles>,
}

/// A change that was not taken.
#[derive(PartialEq, Eq)]
struct RefusedFiles {
    files: Option<Files>,
    why: String,
    /// Whether the policies themselves are at fault, which nothing but other files can mend.
    broken: bool,
}

impl Watcher {
    pub fn new(
        directory: PathBuf,
        files: &Files,
        compiler: Compiler<'static>,
        current: Arc<ArcSwap<PolicySet>>,
        workload_uids: WorkloadUids,
        offered: Offered,
        changes: Sender<PolicyChange>,
    ) -> Self {
        let (taken, good, pace) = (files.clone(), Good::default(), Pace::default());
        let (seen, warned, broken, refused) = (0, Vec::new(), String::new(), None);
        Self {
            directory,
            compiler,
            current,
            workload_uids,
            changes,
            offered,
            seen,
            pace,
            good,
            warned,
            broken,
            taken,
            refused,
        }
    }

    fn inotify(&self, nudge: SyncSender<()>) -> Option<RecommendedWatcher> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Our own reading is an event too: heeding it would have us read for ever.
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            let _ = nudge.try_send(());
        });
        let watching = watcher.and_then(|mut watcher| {
            watcher.watch(&self.directory, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        watching.inspect_err(|error| debug!(%error, "no inotify: policies are polled")).ok()
    }

    fn run(mut self, nudges: &Receiver<()>) {
        loop {
            let behind = self.offered.state().version != self.seen;
            let wait = if behind { POLL.min(self.pace.wait(Instant::now())) } else { POLL };
            match nudges.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {
                    self.look_at_cluster();
                    self.look();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Takes what the cluster offers anew, unless it is too soon after the last time.
    fn look_at_cluster(&mut self) {
        let begun = Instant::now();
        let State { version, joined } = self.offered.state();
        if version == self.seen || !self.pace.wait(begun).is_zero() {
            return;
        }
        if self.seen == 0
            && let Some(joined) = &joined
        {
            self.good = Good::read(&joined.state_dir);
        }
        self.seen = version;
        let files = self.taken.clone();
        let (before, broken) = (self.current.load().hash().to_owned(), self.broken.clone());
        if let Err(errors) = self.compile(&files) {
            // The directory stands as it stood, so this is a bug of ours; what is in force stays.
            self.broken = alarm::summary(&errors);
        }
        if self.current.load().hash() != before || self.broken != broken {
            let refused = self.refused.as_ref().map(|refused| refused.why.clone()).unwrap_or_default();
            self.tell(refused);
        }
        // The first list is not kept waiting by what came before it.
        if joined.is_some_and(|joined| joined.listed.is_some()) {
            let ended = Instant::now();
            self.pace.took(ended - begun, ended);
        }
        self.offered.is_done(version);
    }

    /// Makes a set of `files` and of what the cluster offers, and puts it in force. A broken object keeps itself out.
    fn compile(&mut self, files: &Files) -> Result<(), LoadErrors> {
        let State { joined, .. } = self.offered.state();
        let listed = joined.as_ref().and_then(|joined| joined.listed.clone());
        let mut offers = match &joined {
            Some(_) => self.good.offers(listed.as_deref().map(Vec::as_slice)),
            None => Vec::new(),
        };
        let objects = offers.len();
        offers.push(Offer::of(PolicyText::directory(files.texts())));
        let Compiled { set, warnings, refused, closed } = self.compiler.compile(&offers)?;
        if let Some(directory) = refused.iter().find(|refused| refused.offer == objects) {
            return Err(directory.errors.clone());
        }
        // Once each, however often somebody else's object changes.
        for finding in warnings.iter().filter(|finding| !self.warned.contains(finding)) {
            warn!(%finding, "policy");
        }
        self.warned = warnings;
        if let Some(listed) = listed {
            self.good.learn(&listed, &offers, &refused);
        }
        self.broken = alarm::broken(&refused, &closed);
        if self.current.load().hash() != set.hash() {
            self.current.store(Arc::new(set));
        }
        Ok(())
    }

    /// Looks at the directory once, and takes or refuses what has changed.
    fn look(&mut self) {
        let files = match read(&self.directory) {
            Ok(files) => files,
            Err(error) => return self.refuse(None, format!("{error:#}"), false),
        };
        if files.reads_as(&self.taken) {
            // What was refused is taken back: the files say again what is in force.
            if self.refused.take().is_some() {
                self.tell(String::new());
            }
            return;
        }
        if self.refused.as_ref().is_some_and(|refused| refused.broken && refused.files.as_ref() == Some(&files)) {
            return;
        }
        let uids = self.workload_uids.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The directory is judged before the files are read for good: from then on no workload can change them.
        if let Err(why) = ownership::of_directory(&self.directory, &uids) {
            return self.refuse(Some(files), why, false);
        }
        let Some(files) = self.settled(files) else { return };
        if let Err(why) = ownership::of_files(&self.directory, &files, &uids) {
            return self.refuse(Some(files), why, false);
        }
        match self.compile(&files) {
            Ok(()) => {
                (self.taken, self.refused) = (files, None);
                self.tell(String::new());
            }
            Err(errors) => self.refuse(Some(files), alarm::summary(&errors), true),
        }
    }

    /// The files once two reads agree; none if they keep changing, or cannot be read now.
    fn settled(&self, mut before: Files) -> Option<Files> {
        for _ in 0..SETTLE_READS {
            thread::sleep(SETTLE);
            let now = read(&self.directory).ok()?;
            if now == before {
                return Some(now);
            }
            before = now;
        }
        None
    }

    fn refuse(&mut self, files: Option<Files>, why: String, broken: bool) {
        let refused = RefusedFiles { files, why, broken };
        if self.refused.as_ref() != Some(&refused) {
            self.tell(refused.why.clone());
            self.refused = Some(refused);
        }
    }

    /// Tells what is in force, with what of the directory was `refused` and which objects are broken.
    fn tell(&self, mut refused: String) {
        if !refused.is_empty() && !self.broken.is_empty() {
            refused.push_str("; ");
        }
        refused.push_str(&self.broken);
        let set = self.current.load();
        let change = PolicyChange { policy_set: set.hash().to_owned(), policies: set.len() as u64, refused };
        if let Err(error) = self.changes.try_send(change) {
            warn!(%error, "a change of policies could not be recorded");
        }
    }
}
