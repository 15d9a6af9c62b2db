//! The uplink: ships for ever, and says how it is.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use callgate_audit::Recorder;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::certificates;
use crate::shipment::{Ended, Progress, Shipment};
use crate::{Metrics, Route, ShipError, UplinkState, UplinkStatus};

/// One failure in this time is logged; what lies between shows in the status and the metrics.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Ships one spool to one collector. Stops when it is dropped; what was not acknowledged stays in the spool.
#[derive(Debug)]
pub struct Uplink {
    recorder: Recorder,
    status: watch::Receiver<UplinkStatus>,
    hurry: Arc<Notify>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Uplink {
    /// Starts to ship what `recorder` writes along `route`; its metrics are named in `registry`.
    ///
    /// Never fails: a collector that is not there is waited for. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(recorder: Recorder, route: Route, registry: &mut Registry) -> Self {
        if let Some(tls) = route.tls() {
            certificates::register(tls.clone(), registry);
        }
        let metrics = Metrics::default();
        metrics.register(registry);
        let acked_seq = recorder.status().acked_seq;
        let state = UplinkState::Connecting;
        let first = UplinkStatus { state, connected: false, acked_seq, acked_at: None, lag: 0, error: None };
        let (sender, status) = watch::channel(first);
        let (hurry, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let state = State { recorder: recorder.clone(), metrics, status: sender };
        let (hurried, stopped) = (Arc::clone(&hurry), stop.clone());
        let task = tokio::spawn(async move {
            let mut state = state;
            tokio::select! {
                () = stopped.cancelled() => {}
                () = ship(&mut state, &route, &hurried) => {}
            }
            state.set(UplinkState::Stopped, None);
        });
        Self { recorder, status, hurry, stop, task: Some(task) }
    }

    /// How it is now.
    #[must_use]
    pub fn status(&self) -> UplinkStatus {
        let mut status = self.status.borrow().clone();
        let spool = self.recorder.status();
        status.lag = spool.durable_seq.saturating_sub(status.acked_seq);
        status
    }

    /// How it is, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<UplinkStatus> {
        self.status.clone()
    }

    /// Waits until everything recorded so far is acknowledged: true; or until `timeout`, or until it is clear that
    /// it never will be: false. Tries at once if it was pausing. What is left stays in the spool.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn drain(&self, timeout: Duration) -> bool {
        let recorder = self.recorder.clone();
        let deadline = tokio::time::Instant::now() + timeout;
        // A record is shipped only once it is on disk.
        let synced = tokio::task::spawn_blocking(move || recorder.sync().map(|()| recorder.status().durable_seq));
        let target = match tokio::time::timeout_at(deadline, synced).await {
            Ok(Ok(Ok(seq))) => seq,
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "the last records are not on disk, so they are not shipped");
                return false;
            }
            Ok(Err(_)) | Err(_) => return false,
        };
        self.hurry.notify_one();
        let mut status = self.status.clone();
        let done = status.wait_for(|status| {
            status.acked_seq >= target || matches!(status.state, UplinkState::Stopped | UplinkState::Broken)
        });
        match tokio::time::timeout_at(deadline, done).await {
            Ok(Ok(status)) => status.acked_seq >= target,
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Stops, and waits until the spool is let go.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Ships until the spool is closed and all of it is acknowledged.
async fn ship(state: &mut State, route: &Route, hurry: &Notify) {
    let endpoint = route.endpoint();
    let mut backoff = Backoff::default();
    let mut logged: Option<Instant> = None;
    loop {
        let (recorder, metrics) = (state.recorder.clone(), state.metrics.clone());
        let ended = Shipment { recorder: &recorder, metrics: &metrics, progress: state }.run(route).await;
        let flowed = state.status.borrow().connected;
        let error = match ended {
            Ok(Ended::Shipped) => return,
            // Nothing failed: the next connection verifies certificates anew.
            Ok(Ended::Aged) => continue,
            Err(error) => error,
        };
        metrics.failures.inc();
        if flowed {
            backoff.reset();
        }
        let pause = match &error {
            ShipError::Breach(breach) => {
                tracing::error!(%endpoint, %breach, "records cannot be shipped: an operator must look");
                state.set(UplinkState::Broken, Some(&error));
                Backoff::after_breach()
            }
            error => {
                if flowed || logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                    tracing::warn!(%endpoint, %error, "records stay in the spool until the collector is back");
                    logged = Some(Instant::now());
                }
                state.set(UplinkState::Connecting, Some(error));
                backoff.next()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = hurry.notified() => {}
        }
    }
}

/// What the task knows and tells.
struct State {
    recorder: Recorder,
    metrics: Metrics,
    status: watch::Sender<UplinkStatus>,
}

impl State {
    fn set(&mut self, state: UplinkState, error: Option<&ShipError>) {
        let connected = state == UplinkState::Connected;
        let durable_seq = self.recorder.status().durable_seq;
        self.metrics.connected.set(connected.into());
        self.metrics.broken.set((state == UplinkState::Broken).into());
        self.status.send_modify(|status| {
            status.state = state;
            status.connected = connected;
            status.lag = durable_seq.saturating_sub(status.acked_seq);
            self.metrics.lag.set(status.lag);
            if connected || error.is_some() {
                status.error = error.map(ToString::to_string);
            }
        });
    }
}

impl Progress for State {
    fn connected(&mut self) {
        tracing::info!("the collector takes records");
        self.set(UplinkState::Connected, None);
    }

    fn acked(&mut self, seq: u64) {
        let lag = self.recorder.status().durable_seq.saturating_sub(seq);
        self.metrics.acked_seq.set(seq);
        self.metrics.lag.set(lag);
        let now = Some(SystemTime::now());
        self.status.send_modify(|status| (status.acked_seq, status.acked_at, status.lag) = (seq, now, lag));
    }
}
