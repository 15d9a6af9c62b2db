//! Admission: adds to labelled pods what makes their clients trust the gate, where the cluster has no policies that do.
//!
//! - `patch`: what is added: pure.
//! - `review`: the API server's question and the answer.
//! - `serve`: HTTPS, with a certificate of the CA in use, in memory.
//! - `announce`: tells the API server which CA that is.
//!
//! A convenience, not a guard: a pod that passed by is enforced all the same, so the webhook's failure policy is
//! `Ignore`. Answers anybody, since it tells nothing but what it was given.

mod announce;
mod patch;
mod review;
mod serve;

use tracing::warn;

use crate::tasks::Context;

/// Serves for ever; where the command line names no address, does nothing for ever.
pub async fn serve(context: Context) {
    let Some(address) = context.options.admission_listen else { return std::future::pending().await };
    let names = vec![format!("{}.{}.svc", context.options.service, context.options.namespace)];
    let announce = announce::keep(context.client.clone(), context.trust.clone());
    let serve = async {
        loop {
            if let Err(error) = serve::serve(address, &names, &context.trust).await {
                warn!(error = format!("{error:#}"), "admission is not served: it is tried again");
            }
            tokio::time::sleep(serve::AGAIN).await;
        }
    };
    tokio::join!(announce, serve);
}
