//! How an agent ends: open calls first, then the last records, then, if its workloads end with it, enforcement.

use std::time::Duration;

use anyhow::{Context as _, Result};
use callgate_model::AgentState;
use tracing::{error, warn};

use super::{Agent, lock};

impl Agent {
    /// Stops serving: open calls end or are cut off, records are shipped. Enforcement stays as it is.
    pub async fn stop(&self) {
        self.stopping.cancel();
        let all = u32::try_from(self.config.connections_max).unwrap_or(u32::MAX);
        let drained = async { tokio::join!(self.gate.connections.acquire_many(all), self.gate.dns.idle()) };
        if tokio::time::timeout(Duration::from_secs(self.config.drain_timeout_s), drained).await.is_err() {
            warn!("connections were still open at the end of the drain time");
        }
        let exporter = lock(&self.exporter).take();
        if let Some(exporter) = exporter {
            exporter.stop().await;
        }
        self.tell(AgentState::Stopped, "stopped in order");
        // On a thread of its own: a busy disk takes seconds over it, and signals are to be heard meanwhile.
        let recorder = self.gate.recorder.clone();
        match tokio::task::spawn_blocking(move || recorder.sync()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, "the last records could not be written to disk"),
            Err(error) => error!(%error, "the last records may not be on disk"),
        }
        if let Some(uplink) = self.uplink.lock().await.take() {
            if !uplink.drain(Duration::from_secs(self.config.drain_timeout_s)).await {
                warn!("not every record was acknowledged: they stay in the spool");
            }
            uplink.stop().await;
        }
    }

    /// Ends every enrolment of this instance and removes its pins: for an agent whose workloads end with it.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    pub fn tear_down(&self) -> Result<()> {
        if let Some(warden) = &self.warden {
            warden.teardown().context("cannot remove the warden's pins of this run")?;
        }
        self.redirect.teardown().context("cannot remove the pins of this run")
    }

    /// Whether the collector has acknowledged every record.
    #[must_use]
    pub fn all_shipped(&self) -> bool {
        let status = self.gate.recorder.status();
        status.acked_seq == status.last_seq
    }

    /// Accepts no more, and leaves what a successor uses: what it was handed is its own now.
    pub(crate) fn relieved(&self) {
        self.redirect.share(true);
        self.stopping.cancel();
        self.handed_over.cancel();
    }
}
