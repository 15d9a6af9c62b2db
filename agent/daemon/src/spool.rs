//! Which spool an agent writes, and what becomes of those that others left.
//!
//! An agent that takes over starts while the one before still ends its calls, and a spool has one writer: so there are
//! slots, each a stream of its own (`NODE/agent`, `NODE/agent.2`), and an agent takes the first that is free.
//! What the others hold is shipped as soon as their writers are gone.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use callgate_audit::{AuditError, Recorder, Recovery, SpoolConfig};
use callgate_model::StreamId;
use callgate_uplink::{Route, Uplink};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Config;

/// Slots of an instance. Source: ours; an upgrade needs two, and one more if the next comes while the last drains.
const SLOTS: usize = 3;

/// How often it is looked whether the writers of other slots are gone.
const LOOK: Duration = Duration::from_secs(2);

/// A spool that this process writes.
pub struct Opened {
    /// Names stream and directory: the instance, or the instance and a number.
    pub slot: String,
    /// The writer.
    pub recorder: Recorder,
    /// What its last writer had left open.
    pub recovery: Recovery,
}

/// What is told of it.
#[must_use]
pub fn told(recovery: &Recovery) -> String {
    match recovery.interrupted.len() {
        0 => "started".to_owned(),
        n => format!("started; {n} calls that were open when the last agent ended are closed as interrupted"),
    }
}

/// Where the spool of `slot` is.
#[must_use]
pub fn spool_dir(config: &Config, slot: &str) -> PathBuf {
    config.state_dir.join("spool").join(slot)
}

/// Opens the first free spool of `instance`.
///
/// # Errors
/// If one is damaged, or all have a writer.
pub fn open(config: &Config, instance: &str) -> Result<Opened> {
    for slot in slots(instance) {
        match open_slot(config, &slot) {
            Ok((recorder, recovery)) => return Ok(Opened { slot, recorder, recovery }),
            Err(AuditError::Locked { .. }) => {}
            Err(error) => {
                let dir = spool_dir(config, &slot);
                return Err(error).with_context(|| format!("cannot open the audit spool `{}`", dir.display()));
            }
        }
    }
    bail!("every audit spool of `{instance}` has a writer: {SLOTS} agents are running, or ending")
}

/// Ships what the other slots of `instance` hold, until nothing is left or `stopping`.
pub async fn ship_others(config: Config, instance: String, own: String, route: Route, stopping: CancellationToken) {
    let there = |slot: &String| *slot != own && spool_dir(&config, slot).is_dir();
    let mut left: Vec<String> = slots(&instance).filter(there).collect();
    while !left.is_empty() {
        let mut locked = Vec::new();
        for slot in left {
            match ship(&config, &slot, &route, &stopping).await {
                Ok(true) => {}
                Ok(false) => locked.push(slot),
                Err(error) => warn!(error = format!("{error:#}"), slot, "what an earlier agent left is not shipped"),
            }
        }
        left = locked;
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Ships one slot; false while it has a writer.
async fn ship(config: &Config, slot: &str, route: &Route, stopping: &CancellationToken) -> Result<bool> {
    let (at, name) = (config.clone(), slot.to_owned());
    let (recorder, recovery) = match tokio::task::spawn_blocking(move || open_slot(&at, &name)).await? {
        Ok(opened) => opened,
        Err(AuditError::Locked { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let status = recorder.status();
    if status.acked_seq == status.last_seq {
        return Ok(true);
    }
    info!(
        slot,
        records = status.last_seq - status.acked_seq,
        interrupted = recovery.interrupted.len(),
        "ships what an earlier agent left"
    );
    let uplink = Uplink::start(recorder, route.clone(), &mut Registry::default());
    tokio::select! {
        () = stopping.cancelled() => {}
        () = async { while !uplink.drain(LOOK).await {} } => {}
    }
    uplink.stop().await;
    Ok(true)
}

fn slots(instance: &str) -> impl Iterator<Item = String> {
    (1..=SLOTS).map(move |number| if number == 1 { instance.to_owned() } else { format!("{instance}.{number}") })
}

fn open_slot(config: &Config, slot: &str) -> Result<(Recorder, Recovery), AuditError> {
    let stream = StreamId(format!("{}/{slot}", config.node_name()));
    let spool =
        SpoolConfig { max_bytes: config.spool_max_mib << 20, ..SpoolConfig::new(spool_dir(config, slot), stream) };
    Recorder::open(spool)
}
