//! One issuer's keys, kept fresh: read without a lock, fetched by one task at a time.
//!
//! Fresh keys are used as they are. Past three quarters of their time a fetch starts in the background.
//! Past their time a fetch is waited for; if it fails they go on being used, until they are too stale,
//! and further fetches are tried in the background: an issuer that hangs slows down one wait, not every call.
//! A key that is not among them makes for one more fetch, at most one each [`UNKNOWN_EACH`]: rotation is seen at once,
//! and tokens with made-up key ids cost their issuer nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::ClientConfig;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::clock::Clock;
use super::cluster::ClusterApi;
use super::config::KeysAt;
use super::fetch::{self, FetchError, Fetched};
use super::keys::KeySet;

/// Least time between two fetches for unknown key ids.
pub(super) const UNKNOWN_EACH: Duration = Duration::from_secs(30);
/// Least time from a failed fetch to the next one.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The keys of one issuer.
pub(super) struct Keyring {
    issuer: String,
    source: Source,
    /// How long keys are used beyond their time when no fetch succeeds.
    stale_max: Duration,
    clock: Clock,
    held: ArcSwapOption<Held>,
    flight: Mutex<Flight>,
}

/// Who has an issuer's keys.
pub(super) enum Source {
    /// A server of the web.
    Web(KeysAt, Arc<ClientConfig>),
    /// The cluster's API.
    Cluster(Arc<dyn ClusterApi>),
}

/// Keys as they were fetched.
pub(super) struct Held {
    pub keys: KeySet,
    fetched: Duration,
    fresh: Duration,
}

/// The fetch that is under way, and when others were.
#[derive(Default)]
struct Flight {
    /// Closes when the fetch under way has ended.
    landing: Option<watch::Receiver<()>>,
    failed: Option<Duration>,
    unknown: Option<Duration>,
}

/// How far keys are on their way from fresh to useless.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Age {
    Fresh,
    Due,
    Stale,
    Useless,
}

impl Keyring {
    pub fn new(issuer: &str, source: Source, stale_max: Duration, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            issuer: issuer.into(),
            source,
            stale_max,
            clock,
            held: ArcSwapOption::empty(),
            flight: Mutex::default(),
        })
    }

    /// The keys, if they can be used without asking the issuer first; starts a fetch when one is due.
    pub fn at_hand(self: &Arc<Self>) -> Option<Arc<Held>> {
        let held = self.held.load_full()?;
        match self.age(&held) {
            Age::Fresh => Some(held),
            Age::Due => {
                self.start();
                Some(held)
            }
            Age::Stale if self.has_failed_since(held.fetched + held.fresh) => {
                self.start();
                Some(held)
            }
            Age::Stale => None,
            Age::Useless => None,
        }
    }

    /// Starts a fetch, or joins the one under way, without waiting for it.
    pub fn start(self: &Arc<Self>) {
        let _under_way = self.fetch(Duration::ZERO);
    }

    /// The keys, fetched first where that is needed. None: there are none that can be used.
    ///
    /// # Cancel safety
    /// The fetch goes on when the future is dropped: who hangs up cannot keep others from the keys.
    pub async fn wait(self: &Arc<Self>) -> Option<Arc<Held>> {
        if let Some(held) = self.at_hand() {
            return Some(held);
        }
        land(self.fetch(Duration::ZERO)).await;
        self.held.load_full().filter(|held| self.age(held) != Age::Useless)
    }

    /// The keys after one more fetch, as `known` lack the one that is looked for. None: it was not time for a fetch.
    ///
    /// # Cancel safety
    /// As [`wait`](Self::wait).
    pub async fn anew(self: &Arc<Self>, known: &Arc<Held>) -> Option<Arc<Held>> {
        if let Some(newer) = self.newer(known) {
            return Some(newer);
        }
        land(self.fetch(UNKNOWN_EACH)).await;
        self.newer(known)
    }

    /// Waits for the fetch under way, if there is one.
    #[cfg(test)]
    pub async fn landed(&self) {
        let landing = self.flight.lock().unwrap().landing.clone();
        land(landing).await;
    }

    fn newer(&self, known: &Arc<Held>) -> Option<Arc<Held>> {
        self.held.load_full().filter(|held| !Arc::ptr_eq(held, known))
    }

    fn age(&self, held: &Held) -> Age {
        let age = self.clock.steady().saturating_sub(held.fetched);
        match age {
            age if age < held.fresh * 3 / 4 => Age::Fresh,
            age if age < held.fresh => Age::Due,
            age if age < held.fresh + self.stale_max => Age::Stale,
            _ => Age::Useless,
        }
    }

    fn has_failed_since(&self, time: Duration) -> bool {
        let flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        flight.failed.is_some_and(|failed| failed >= time)
    }

    fn is_within(&self, since: Option<Duration>, time: Duration) -> bool {
        since.is_some_and(|since| self.clock.steady().saturating_sub(since) < time)
    }

    /// Joins the fetch under way, or starts one; none where it is too early for another.
    ///
    /// `each` is the least time between fetches of this kind; zero for those that the age of the keys asks for.
    fn fetch(self: &Arc<Self>, each: Duration) -> Option<watch::Receiver<()>> {
        let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landing) = &flight.landing {
            return Some(landing.clone());
        }
        let is_unknown = !each.is_zero();
        if self.is_within(flight.failed, RETRY_AFTER) || (is_unknown && self.is_within(flight.unknown, each)) {
            return None;
        }
        if is_unknown {
            flight.unknown = Some(self.clock.steady());
        }
        let (open, landing) = watch::channel(());
        flight.landing = Some(landing.clone());
        let landing_strip = Landing { keyring: self.clone(), _open: open };
        // A task of its own: it outlives the call that asked for it.
        tokio::spawn(async move { landing_strip.keyring.take(landing_strip.keyring.get().await) });
        Some(landing)
    }

    async fn get(&self) -> Result<Fetched, FetchError> {
        match &self.source {
            Source::Web(at, tls) => fetch::keys(&self.issuer, at, tls).await,
            Source::Cluster(api) => fetch::keys_of_cluster(&self.issuer, &**api).await,
        }
    }

    fn take(&self, fetched: Result<Fetched, FetchError>) {
        let now = self.clock.steady();
        let failed = match fetched {
            Ok(Fetched { keys, fresh }) => {
                if keys.len() == 0 {
                    warn!(issuer = %self.issuer, "the issuer publishes no key that can be used: its tokens are refused");
                }
                debug!(issuer = %self.issuer, keys = keys.len(), fresh_s = fresh.as_secs(), "keys fetched");
                self.held.store(Some(Arc::new(Held { keys, fetched: now, fresh })));
                None
            }
            Err(error) => {
                warn!(issuer = %self.issuer, %error, "the keys of an issuer could not be fetched");
                Some(now)
            }
        };
        self.flight.lock().unwrap_or_else(PoisonError::into_inner).failed = failed;
    }
}

/// Ends a fetch, also one that was cancelled with its runtime: the next may start, and who waits goes on.
struct Landing {
    keyring: Arc<Keyring>,
    _open: watch::Sender<()>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.keyring.flight.lock().unwrap_or_else(PoisonError::into_inner).landing = None;
    }
}

async fn land(landing: Option<watch::Receiver<()>>) {
    if let Some(mut landing) = landing {
        // Nothing is ever sent: it ends when the sender is dropped.
        let _closed = landing.changed().await;
    }
}
