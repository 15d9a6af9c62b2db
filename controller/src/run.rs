//! Starts everything, and stops in order.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use callgate_kubernetes::Cluster;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tracing::info;

use crate::Options;
use crate::issuer::Trust;
use crate::tasks::{Context, TASKS};

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If the way to the cluster's API cannot be used, or a task ends.
pub async fn run(options: Options) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
    let cluster = Cluster::new(options.kubeconfig.as_deref()).await?;
    let context = Context { client: cluster.client(), options: Arc::new(options), trust: Trust::default() };
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
