//! The thread that notices changes, judges them, and publishes the set or says why not.
//!
//! Woken by inotify, and by the clock where inotify says nothing (network file systems, a directory that was replaced).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use callgate_mask::Detectors;
use callgate_model::PolicyChange;
use callgate_policy::{LoadErrors, PolicySet};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::Sender;
use tracing::{debug, warn};

use super::directory::{Files, read};
use super::{ownership, parse};

/// Time between two looks when nobody wakes us: half of the second within which a change must be in force.
const POLL: Duration = Duration::from_millis(500);
/// A change is taken when two reads this far apart agree: editors and copies write in steps.
const SETTLE: Duration = Duration::from_millis(60);
/// Most reads of one change before it is left to the next look.
const SETTLE_READS: usize = 5;
/// Most errors told of one refused set.
const ERRORS_TOLD: usize = 5;

/// Ends the watch when dropped.
pub struct Watch {
    _inotify: Option<RecommendedWatcher>,
    _nudge: SyncSender<()>,
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
        Ok(Self { _inotify: inotify, _nudge: nudge })
    }
}

/// What the thread knows.
pub struct Watcher {
    directory: PathBuf,
    detectors: Arc<Detectors>,
    current: Arc<ArcSwap<PolicySet>>,
    workload_uids: Arc<Mutex<BTreeSet<u32>>>,
    changes: Sender<PolicyChange>,
    /// The files of the set in force.
    taken: Files,
    /// What was refused last, so that it is told once.
    refused: Option<Refused>,
}

/// A change that was not taken.
#[derive(PartialEq, Eq)]
struct Refused {
    files: Option<Files>,
    why: String,
    /// Whether the policies themselves are at fault, which nothing but other files can mend.
    broken: bool,
}

impl Watcher {
    pub fn new(
        directory: PathBuf,
        files: &Files,
        detectors: Arc<Detectors>,
        current: Arc<ArcSwap<PolicySet>>,
        workload_uids: Arc<Mutex<BTreeSet<u32>>>,
        changes: Sender<PolicyChange>,
    ) -> Self {
        Self { directory, detectors, current, workload_uids, changes, taken: files.clone(), refused: None }
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
            match nudges.recv_timeout(POLL) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks once, and takes or refuses what has changed.
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
        match parse(&files, &self.detectors) {
            Ok((set, warnings)) => {
                for finding in warnings {
                    warn!(%finding, "policy");
                }
                self.current.store(Arc::new(set));
                (self.taken, self.refused) = (files, None);
                self.tell(String::new());
            }
            Err(errors) => self.refuse(Some(files), summary(&errors), true),
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
        let refused = Refused { files, why, broken };
        if self.refused.as_ref() != Some(&refused) {
            self.tell(refused.why.clone());
            self.refused = Some(refused);
        }
    }

    fn tell(&self, refused: String) {
        let set = self.current.load();
        let change = PolicyChange { policy_set: set.hash().to_owned(), policies: set.len() as u64, refused };
        if let Err(error) = self.changes.try_send(change) {
            warn!(%error, "a change of policies could not be recorded");
        }
    }
}

fn summary(errors: &LoadErrors) -> String {
    let all: Vec<String> = errors.errors().map(ToString::to_string).collect();
    let told = all.iter().take(ERRORS_TOLD).cloned().collect::<Vec<_>>().join("; ");
    match all.len().checked_sub(ERRORS_TOLD) {
        None | Some(0) => told,
        Some(more) => format!("{told}; and {more} more"),
    }
}
