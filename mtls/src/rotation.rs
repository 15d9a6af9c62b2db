//! Files that are looked at each second, and the configuration made of them, replaced whole.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::files::Material;
use crate::{Certificate, TlsError, TlsFiles};

/// How often the files are looked at. Contents are compared, not times: a swapped link or a restored file counts, too.
const LOOK: Duration = Duration::from_secs(1);
/// Looks in a row that must fail before it is a fault: certificate and key are two files, and one is written first.
const FAULT_LOOKS: u32 = 2;
/// How one side's certificates are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// The one that is shown to the other side; none where the files are still to come.
    pub certificate: Option<Certificate>,
    /// Why what is in the files now is not used; the last good ones are.
    pub fault: Option<String>,
    /// How often changed files were taken.
    pub reloads: u64,
}

/// Makes a configuration.
pub(crate) type Build<C> = fn(&TlsFiles, &Material) -> Result<C, TlsError>;

/// A configuration that follows its files. Stops when it is dropped.
pub(crate) struct Rotation<C> {
    current: Arc<ArcSwapOption<C>>,
    condition: watch::Receiver<Condition>,
    _looking: DropGuard,
}

impl<C: Send + Sync + 'static> Rotation<C> {
    /// Reads the files, and looks at them from now on. Must be called within a tokio runtime.
    pub(crate) fn open(files: &TlsFiles, build: Build<C>) -> Result<Self, TlsError> {
        let contents = files.contents()?;
        let material = files.material(&contents)?;
        let config = build(files, &material)?;
        Ok(Self::follow(files, build, Some((config, material.leaf, contents.digest))))
    }

    /// The same for files that may be still to come: what cannot be used now is none.
    pub(crate) fn await_files(files: &TlsFiles, build: Build<C>) -> Self {
        Self::open(files, build).unwrap_or_else(|_| Self::follow(files, build, None))
    }

    fn follow(files: &TlsFiles, build: Build<C>, first: Option<(C, Certificate, Vec<u8>)>) -> Self {
        let (config, certificate, good) = match first {
            Some((config, certificate, digest)) => (Some(Arc::new(config)), Some(certificate), digest),
            None => (None, None, Vec::new()),
        };
        let current = Arc::new(ArcSwapOption::new(config));
        let (sender, condition) = watch::channel(Condition { certificate, fault: None, reloads: 0 });
        let look = Look {
            files: files.clone(),
            build,
            current: Arc::clone(&current),
            condition: sender,
            good,
            failures: 0,
            warned: None,
        };
        let stop = CancellationToken::new();
        tokio::spawn(look.follow(stop.clone()));
        Self { current, condition, _looking: stop.drop_guard() }
    }

    /// What a new connection uses, if there is something.
    pub(crate) fn current(&self) -> Option<Arc<C>> {
        self.current.load_full()
    }

    pub(crate) fn condition(&self) -> Condition {
        self.condition.borrow().clone()
    }
}

struct Look<C> {
    files: TlsFiles,
    build: Build<C>,
    current: Arc<ArcSwapOption<C>>,
    condition: watch::Sender<Condition>,
    /// Digest of what is in use.
    good: Vec<u8>,
    failures: u32,
    /// Days that were left when it was warned last.
    warned: Option<i64>,
}

impl<C: Send + Sync + 'static> Look<C> {
    async fn follow(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looked.await {
                Ok(looker) => self = looker,
                Err(error) => {
                    return tracing::error!(%error, "certificates are not looked at any more: a restart is needed");
                }
            }
        }
    }

    fn look(&mut self) {
        match self.take() {
            Ok(taken) => {
                self.failures = 0;
                self.condition.send_if_modified(|condition| {
                    let changed = taken.is_some() || condition.fault.is_some();
                    condition.fault = None;
                    if taken.is_some() {
                        tracing::info!(cert = %self.files.cert.display(), "changed certificates are in use");
                        condition.certificate = taken;
                        condition.reloads += 1;
                    }
                    changed
                });
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let text = error.to_string();
                let known = self.condition.borrow().fault.as_ref() == Some(&text);
                if self.failures >= FAULT_LOOKS && !known {
                    tracing::error!(%error, "changed certificates are not used: the last good ones are");
                    self.condition.send_modify(|condition| condition.fault = Some(text));
                }
            }
        }
        self.warn();
    }

    /// Takes what is in the files, if it is new and whole.
    fn take(&mut self) -> Result<Option<Certificate>, TlsError> {
        let contents = self.files.contents()?;
        if contents.digest == self.good {
            return Ok(None);
        }
        let material = self.files.material(&contents)?;
        self.current.store(Some(Arc::new((self.build)(&self.files, &material)?)));
        self.good = contents.digest;
        Ok(Some(material.leaf))
    }

    fn warn(&mut self) {
        let Some(certificate) = self.condition.borrow().certificate.clone() else { return };
        let days = days_until(certificate.expires);
        if !certificate.ends_soon() {
            self.warned = None;
        } else if self.warned != Some(days) {
            self.warned = Some(days);
            tracing::warn!(cert = %self.files.cert.display(), days, "a certificate expires soon, or has");
        }
    }
}

/// Whole days from now until `time`; negative when it has passed.
#[must_use]
pub fn days_until(time: SystemTime) -> i64 {
    let days = |span: Duration| i64::try_from(span.as_secs() / 86_400).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::now()) {
        Ok(left) => days(left),
        Err(past) => -1 - days(past.duration()),
    }
}
