//! What the controller does, each by itself and at the same time; a new task is a line.

use std::pin::Pin;
use std::sync::Arc;

use kube::Client;

use crate::Options;
use crate::admission;
use crate::issuer::{self, Trust};
use crate::metrics::Metrics;
use crate::policies;
use crate::taint;

/// What every task works with. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub client: Client,
    pub options: Arc<Options>,
    pub metrics: Metrics,
    /// The CA, once there is one: for those who serve.
    pub trust: Trust,
}

/// A task: never ends by itself; what fails is logged and tried again.
type Task = fn(Context) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// All of them, with their names for the log.
pub const TASKS: &[(&str, Task)] = &[
    ("admission", |context| Box::pin(admission::serve(context))),
    ("authority", |context| Box::pin(issuer::keep_authority(context))),
    ("nodes", |context| Box::pin(issuer::sign_for_nodes(context))),
    ("policies", |context| Box::pin(policies::judge(context))),
    ("taint", |context| Box::pin(taint::keep(context))),
];
