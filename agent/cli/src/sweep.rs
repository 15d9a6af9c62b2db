//! Ends what crashed runs left: their enrolments, pins and cgroups; their last records go to the collector.
//!
//! Done by the next `run`, `status` or `doctor`, for runs whose process is gone and whose cgroup is empty.

use std::time::Duration;

use anyhow::{Context as _, Result};
use callgate_audit::{AuditError, Recorder, SpoolConfig};
use callgate_collector::{Listen, Store};
use callgate_daemon::Config;
use callgate_enroll::Stale;
use callgate_model::StreamId;
use callgate_uplink::{Endpoint, Route, Uplink};
use prometheus_client::registry::Registry;

/// What instances of runs are called, before their id.
const RUN: &str = "run-";

/// Longest wait for the collector to take the records of one crashed run.
const SHIP_TIMEOUT: Duration = Duration::from_secs(10);

/// Removes what crashed runs left; gives the instances of what was removed.
///
/// # Errors
/// Names what could not be removed; the next sweep tries again.
pub async fn sweep(config: &Config) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for stale in callgate_enroll::sweep(&config.state_dir) {
        let instance = stale.enrolment.instance.clone();
        end(config, &stale).await.with_context(|| format!("cannot remove what the crashed `{instance}` left"))?;
        swept.push(instance);
    }
    swept.extend(forget_idle_pins(config)?);
    ship_left_spools(config).await?;
    Ok(swept)
}

/// Map pins of runs that died between loading the programs and enrolling, and so enforce nothing.
///
/// Pins with links stay, also where no enrolment here names them: a run with another state directory, killed while its
/// command lives, has its pins alone, and without them that command would go around the gate.
fn forget_idle_pins(config: &Config) -> Result<Vec<String>> {
    let mut forgotten = Vec::new();
    for instance in callgate_redirect::instances(&config.bpffs).unwrap_or_default() {
        if !instance.starts_with(RUN) {
            continue;
        }
        let removed = callgate_redirect::remove_idle_pins(&config.bpffs, &instance);
        if removed.with_context(|| format!("cannot remove the pins of `{instance}`"))? {
            forgotten.push(instance);
        }
    }
    Ok(forgotten)
}

/// Spools of runs whose collector could not be reached at their end.
async fn ship_left_spools(config: &Config) -> Result<()> {
    let Ok(spools) = std::fs::read_dir(config.state_dir.join("spool")) else { return Ok(()) };
    for spool in spools.flatten() {
        let instance = spool.file_name().to_string_lossy().into_owned();
        if !instance.starts_with(RUN) {
            continue;
        }
        let stream = StreamId(format!("{}/{instance}", config.node_name()));
        match Recorder::open(SpoolConfig::new(spool.path(), stream)) {
            Ok((recorder, _)) => {
                if ship(config, recorder, &instance).await? {
                    std::fs::remove_dir_all(spool.path())?;
                }
            }
            // A run that lives.
            Err(AuditError::Locked { .. }) => {}
            Err(error) => eprintln!("callgate: the spool `{}` is left alone: {error}", spool.path().display()),
        }
    }
    Ok(())
}

async fn end(config: &Config, stale: &Stale) -> Result<()> {
    let enrolment = &stale.enrolment;
    callgate_redirect::remove_pins(&config.bpffs, &enrolment.instance)?;
    if let Some(spool) = enrolment.spool.as_deref().filter(|spool| spool.exists()) {
        let stream = StreamId(format!("{}/{}", config.node_name(), enrolment.instance));
        match Recorder::open(SpoolConfig::new(spool, stream)) {
            Ok((recorder, _)) => {
                if ship(config, recorder, &enrolment.instance).await? {
                    std::fs::remove_dir_all(spool)?;
                }
            }
            // Evidence, and no reason to keep later runs from starting; told again by `ship_left_spools`.
            Err(AuditError::Corrupt { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    stale.forget(&config.state_dir)?;
    Ok(())
}

/// Ships what is left of a spool; whether all of it was acknowledged.
async fn ship(config: &Config, recorder: Recorder, instance: &str) -> Result<bool> {
    let (route, server) = match config.route()? {
        Some(route) => (route, None),
        None => {
            let socket = config.state_dir.join(format!("{instance}.sock"));
            let store = Store::open(&config.state_dir.join("store"))?;
            let server = callgate_collector::serve(store, Listen::Unix(socket.clone())).await?;
            let endpoint: Endpoint = format!("unix:{}", socket.display()).parse()?;
            (Route::new(endpoint, None)?, Some(server))
        }
    };
    let uplink = Uplink::start(recorder, route, &mut Registry::default());
    let all = uplink.drain(SHIP_TIMEOUT).await;
    uplink.stop().await;
    if let Some(server) = server {
        server.stop().await;
    }
    Ok(all)
}
