//! Where policies come from: a directory of `*.cedar` files, read into memory at start and watched from then on, and
//! the objects of a cluster ([`objects`]), which are offered by whoever watches its API.
//!
//! A change is taken within a second, and only if it is whole and sound: a broken set is refused and the last good one
//! stays. It is taken only from files that no workload can write (see [`ownership`]), for a workload may run as the
//! very user whose files they are.
//!
//! Never decides anything: that is `callgate-policy`. Reading is in [`directory`], the watching thread in [`watch`].

mod alarm;
mod directory;
mod objects;
mod ownership;
mod watch;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use callgate_kubernetes::PolicyObject;
use callgate_mask::{Detectors, kinds_named};
use callgate_model::PolicyChange;
use callgate_policy::{Compiler, Finding, LoadErrors, PolicySet};
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::mpsc as async_mpsc;
use tracing::warn;

pub use directory::{FILE_MAX, FILES_MAX, Files, TOTAL_MAX, read};
pub use objects::Offered;

/// Changes that wait to be recorded. When it is full the newest is logged and dropped: the set in force is in every
/// decision anyway.
const CHANGES_MAX: usize = 64;

/// The uids that workloads run under.
type WorkloadUids = Arc<Mutex<BTreeSet<u32>>>;

/// The policy set in force, and the watch over its files.
///
/// Dropping it ends the watch.
pub struct Policies {
    current: Arc<ArcSwap<PolicySet>>,
    workload_uids: WorkloadUids,
    sources: Vec<String>,
    changes: AsyncMutex<async_mpsc::Receiver<PolicyChange>>,
    offered: Offered,
    watch: Option<watch::Watch>,
}

impl Policies {
    /// Reads the policies in `directory`, and watches it.
    ///
    /// # Errors
    /// The directory cannot be read, or holds a policy that is refused: the message lists what is wrong, with places.
    pub fn load(directory: &Path, detectors: &Arc<Detectors>) -> Result<Self> {
        // Absolute, so that what is watched does not depend on the working directory.
        let directory = directory.canonicalize().with_context(|| {
            let shown = directory.display();
            format!("cannot read policies in `{shown}`: `callgate policy init {shown}` writes a first one")
        })?;
        let files = read(&directory)?;
        let (set, warnings) = parse(&files, detectors).map_err(|errors| refusal(&directory, &errors))?;
        for finding in warnings {
            warn!(%finding, "policy");
        }
        let (sender, changes) = async_mpsc::channel(CHANGES_MAX);
        let current = Arc::new(ArcSwap::from_pointee(set));
        let workload_uids = Arc::new(Mutex::new(BTreeSet::new()));
        let sources = vec![directory.display().to_string()];
        let offered = Offered::default();
        let words = Arc::clone(detectors);
        let compiler = Compiler::new(move |word| words.kinds_named(word))?;
        let watch = watch::Watch::start(watch::Watcher::new(
            directory,
            &files,
            compiler,
            Arc::clone(&current),
            Arc::clone(&workload_uids),
            offered.clone(),
            sender,
        ))?;
        Ok(Self { current, workload_uids, sources, changes: AsyncMutex::new(changes), offered, watch: Some(watch) })
    }

    /// No policy at all: everything is denied, or, in observe mode, recorded as what would be denied.
    #[must_use]
    pub fn none() -> Self {
        let (set, _) =
            PolicySet::parse(&[], kinds_named).expect("no files load with the built-in schema: a test does it");
        let (_, changes) = async_mpsc::channel(1);
        Self {
            current: Arc::new(ArcSwap::from_pointee(set)),
            workload_uids: Arc::default(),
            sources: Vec::new(),
            changes: AsyncMutex::new(changes),
            offered: Offered::default(),
            watch: None,
        }
    }

    /// Where policies are read from, for people.
    #[must_use]
    pub fn sources(&self) -> Vec<String> {
        self.sources.iter().cloned().chain(self.offered.told()).collect()
    }

    /// Where the set in force is, replaced whole by each reload.
    #[must_use]
    pub fn current(&self) -> Arc<ArcSwap<PolicySet>> {
        Arc::clone(&self.current)
    }

    /// Tells which uids workloads run under: what one of them can write is not reloaded.
    ///
    /// Uids told before stay known: what a workload that ended has written is not trusted later.
    /// Until the first call nothing but files of root, writable by root alone, is reloaded.
    pub fn set_workload_uids(&self, uids: impl IntoIterator<Item = u32>) {
        self.workload_uids.lock().unwrap_or_else(PoisonError::into_inner).extend(uids);
    }

    /// From now on the policies of a cluster count too, and until they are known what was known of them, which is kept
    /// in `state_dir`.
    pub fn join(&self, state_dir: PathBuf) {
        self.offered.join(state_dir);
        self.nudge();
    }

    /// All policies that the cluster holds: each that is sound is taken, within a second.
    pub fn offer(&self, objects: Vec<PolicyObject>) {
        self.offered.offer(objects);
        self.nudge();
    }

    /// Waits until what was offered is in force, or refused.
    pub async fn settled(&self) {
        if self.watch.is_some() {
            self.offered.settled().await;
        }
    }

    /// Whether the policies of the cluster are not known, and never were, so that its pods are refused.
    #[must_use]
    pub fn awaits_cluster(&self) -> bool {
        self.current.load().place(objects::UNKNOWN_POLICY).is_some()
    }

    fn nudge(&self) {
        if let Some(watch) = &self.watch {
            watch.nudge();
        }
    }

    /// The next change: a set that was taken, or one that was refused and why. `None` when nothing is watched.
    ///
    /// # Cancel safety
    /// Dropping the future loses no change.
    pub async fn changed(&self) -> Option<PolicyChange> {
        self.changes.lock().await.recv().await
    }
}

/// Parses files as the agent does: with the masker's table of kinds, and those that the configuration adds.
///
/// # Errors
/// What is wrong with the policies.
pub fn parse(files: &Files, detectors: &Detectors) -> Result<(PolicySet, Vec<Finding>), LoadErrors> {
    PolicySet::parse(&files.texts(), |word| detectors.kinds_named(word))
}

fn refusal(directory: &Path, errors: &LoadErrors) -> anyhow::Error {
    let mut text = format!("the policies in `{}` are refused:", directory.display());
    for error in errors.errors() {
        let _ = write!(text, "\n  {error}");
    }
    anyhow::anyhow!(text)
}

#[cfg(test)]
mod tests;
