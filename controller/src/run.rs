//! Starts everything, and stops in order.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use callgate_kubernetes::Cluster;
use callgate_observe::{Probes, bind, serve};
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::Options;
use crate::issuer::Trust;
use crate::metrics::Metrics;
use crate::tasks::{Context, TASKS};

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If the way to the cluster's API cannot be used, or a task ends.
pub async fn run(options: Options) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
    let cluster = Cluster::new(options.kubeconfig.as_deref()).await?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let port = bind(options.metrics_listen).await?;
    let context = Context { client: cluster.client(), options: Arc::new(options), metrics, trust: Trust::default() };
    let stopping = CancellationToken::new();
    let _stop = stopping.clone().drop_guard();
    tokio::spawn(serve(port, Arc::new(registry), probes(context.trust.clone()), stopping));
    let mut tasks = JoinSet::new();
    for (name, task) in TASKS {
        let task = task(context.clone());
        tasks.spawn(async move {
            task.await;
            *name
        });
    }
    info!("ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = tasks.join_next() => match ended {
            Some(Ok(name)) => bail!("the task `{name}` has ended"),
            Some(Err(error)) => return Err(error).context("a task failed"),
            None => bail!("there is no task"),
        },
    }
    info!("stopping");
    Ok(())
}

/// Ready once there is a CA; alive as long as it answers.
fn probes(trust: Trust) -> Probes {
    let ready = move || {
        let missing = || "there is no certificate authority yet: the log says why".to_owned();
        (!trust.is_there()).then(missing).into_iter().collect()
    };
    Probes { ready: Arc::new(ready), alive: Arc::new(Vec::new) }
}
