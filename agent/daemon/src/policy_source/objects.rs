//! The policies of a cluster beside those of the directory: what it offers now, and what of each object was good last.
//!
//! What was good is kept in a file too, so that an agent that starts while the API is away knows it, and also of which
//! objects nothing was in force though it should have been: their namespace stays closed. An agent that has never known
//! any refuses the pods of the cluster until it does: a policy that is not known may forbid.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use callgate_kubernetes::{Past, PolicyObject, Status, within_bounds};
use callgate_policy::{NO_PODS, Offer, Origin, PolicyText, Refused};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

/// File in the state directory.
const FILE: &str = "cluster-policies.json";
/// Longest file that is read. Unit: bytes. Source: what may be known, with room for its escapes.
const FILE_LENGTH_MAX: u64 = 128 << 20;
/// Stands for the policies of a cluster that are not known.
const UNKNOWN: &str = "not-known-yet";
/// The id of its policy.
pub(super) const UNKNOWN_POLICY: &str = "cluster:not-known-yet/1";

/// What the cluster offers, as the watching thread is told. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Offered {
    state: Arc<Mutex<State>>,
    /// The newest version that is in force.
    done: Arc<watch::Sender<u64>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub version: u64,
    /// None: no cluster is asked.
    pub joined: Option<Joined>,
}

#[derive(Clone, Debug)]
pub(super) struct Joined {
    pub state_dir: PathBuf,
    /// None: the API has listed nothing yet.
    pub listed: Option<Arc<Vec<PolicyObject>>>,
}

impl Default for Offered {
    fn default() -> Self {
        Self { state: Arc::default(), done: Arc::new(watch::Sender::new(0)) }
    }
}

impl Offered {
    /// From now on the policies of a cluster count, with what is kept of them in `state_dir`.
    pub fn join(&self, state_dir: PathBuf) {
        let mut state = self.lock();
        state.joined = Some(Joined { state_dir, listed: None });
        state.version += 1;
    }

    /// What it offers, for people, in numbers; none where no cluster is asked.
    pub fn told(&self) -> Option<String> {
        let joined = self.lock().joined.clone()?;
        let Some(listed) = joined.listed else { return Some("what was known of the cluster's policies".to_owned()) };
        let namespaces: BTreeSet<&str> = listed.iter().filter_map(|object| object.origin.namespace()).collect();
        let namespaced = listed.iter().filter(|object| object.origin.namespace().is_some()).count();
        Some(format!(
            "{} in {}, {}",
            counted(namespaced, "CallPolicy", "CallPolicies"),
            counted(namespaces.len(), "namespace", "namespaces"),
            counted(listed.len() - namespaced, "ClusterCallPolicy", "ClusterCallPolicies"),
        ))
    }

    /// All objects that there are.
    pub fn offer(&self, objects: Vec<PolicyObject>) {
        let mut state = self.lock();
        if let Some(joined) = &mut state.joined {
            joined.listed = Some(Arc::new(objects));
            state.version += 1;
        }
    }

    /// Waits until what was offered is in force, or refused.
    pub async fn settled(&self) {
        let version = self.lock().version;
        // Cannot fail: we hold the sender.
        let _ = self.done.subscribe().wait_for(|done| *done >= version).await;
    }

    pub(super) fn state(&self) -> State {
        self.lock().clone()
    }

    pub(super) fn is_done(&self, version: u64) {
        self.done.send_replace(version);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// What was good of each object, as the watching thread knows it.
#[derive(Debug, Default)]
pub(super) struct Good {
    /// None: nothing was ever known of the cluster.
    known: Option<BTreeMap<Origin, Text>>,
    file: PathBuf,
}

/// What was in force of an object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Text {
    uid: String,
    /// None: nothing, though it should have been.
    cedar: Option<String>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    namespace: Option<String>,
    name: String,
    #[serde(flatten)]
    text: Text,
}

impl Good {
    /// What is kept in `state_dir`.
    pub fn read(state_dir: &Path) -> Self {
        let file = state_dir.join(FILE);
        let known = match read(&file) {
            Ok(known) => Some(known),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(%error, file = %file.display(), "what was known of the cluster's policies cannot be read");
                None
            }
        };
        Self { known, file }
    }

    /// What the compiler is given: the objects that are listed; before that, what was known of them.
    pub fn offers(&self, listed: Option<&[PolicyObject]>) -> Vec<Offer> {
        match (listed, &self.known) {
            (Some(objects), _) => within_bounds(objects, |object| self.past(object)),
            (None, Some(known)) => {
                let kept: Vec<PolicyObject> = known.iter().map(|(origin, text)| object(origin, text)).collect();
                within_bounds(&kept, |object| self.past(object))
            }
            (None, None) => {
                let origin = Origin::Cluster { name: UNKNOWN.into() };
                vec![Offer::of(PolicyText::object(origin, NO_PODS))]
            }
        }
    }

    /// Learns what became of the objects that were listed.
    pub fn learn(&mut self, objects: &[PolicyObject], offers: &[Offer], refused: &[Refused]) {
        let refused: BTreeMap<usize, &Refused> = refused.iter().map(|refused| (refused.offer, refused)).collect();
        let mut now = BTreeMap::new();
        for (place, (object, offer)) in objects.iter().zip(offers).enumerate() {
            let kept = |text: &PolicyText| text.only().map(str::to_owned);
            let cedar = match refused.get(&place) {
                None => kept(&offer.text),
                Some(Refused { stands_in: true, .. }) => offer.last.as_ref().and_then(kept),
                Some(Refused { closes: true, .. }) => None,
                Some(_) => match self.past(object) {
                    Past::Unknown => continue,
                    Past::InForce(text) => Some(text.to_owned()),
                    Past::Lost => None,
                },
            };
            now.insert(object.origin.clone(), Text { uid: object.uid.clone(), cedar });
        }
        if self.known.as_ref() == Some(&now) {
            return;
        }
        if let Err(error) = write(&self.file, &now) {
            warn!(%error, file = %self.file.display(), "the cluster's policies cannot be kept for the next start");
        }
        self.known = Some(now);
    }

    fn past(&self, object: &PolicyObject) -> Past<'_> {
        let known = self.known.as_ref().and_then(|known| known.get(&object.origin));
        match known.filter(|known| known.uid == object.uid) {
            None => Past::Unknown,
            Some(Text { cedar: Some(cedar), .. }) => Past::InForce(cedar),
            Some(Text { cedar: None, .. }) => Past::Lost,
        }
    }
}

fn object(origin: &Origin, text: &Text) -> PolicyObject {
    PolicyObject {
        origin: origin.clone(),
        uid: text.uid.clone(),
        generation: 0,
        text: text.cedar.clone().ok_or_else(|| "nothing of it could be in force before this agent started".to_owned()),
        status: Status::default(),
    }
}

fn read(file: &Path) -> io::Result<BTreeMap<Origin, Text>> {
    if fs::metadata(file)?.len() > FILE_LENGTH_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    let kept: Vec<Kept> = serde_json::from_slice(&fs::read(file)?)?;
    let origin = |namespace, name| match namespace {
        Some(namespace) => Origin::Namespace { namespace, name },
        None => Origin::Cluster { name },
    };
    Ok(kept.into_iter().map(|Kept { namespace, name, text }| (origin(namespace, name), text)).collect())
}

fn write(file: &Path, known: &BTreeMap<Origin, Text>) -> io::Result<()> {
    let kept = known.iter().filter_map(|(origin, text)| {
        let (namespace, name) = match origin {
            Origin::Directory => return None,
            Origin::Cluster { name } => (None, name.clone()),
            Origin::Namespace { namespace, name } => (Some(namespace.clone()), name.clone()),
        };
        Some(Kept { namespace, name, text: text.clone() })
    });
    let bytes = serde_json::to_vec(&kept.collect::<Vec<_>>())?;
    let new = file.with_extension("json.new");
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(&bytes)?;
    out.sync_all()?;
    fs::rename(&new, file)
}
