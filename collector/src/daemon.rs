//! The collector as a daemon: store, listeners, metrics and probes, from a config to the stop in order.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::Context as _;
use callgate_observe::Probes;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::server::{Metrics, register_certificate, register_store};
use crate::{Config, PeerGuard, Server, Store, Tls, serve_tls};

/// A collector that serves on everything that its config names.
#[derive(Debug)]
pub struct Daemon {
    servers: Vec<Server>,
    state: State,
    observed: Option<(SocketAddr, CancellationToken)>,
    config: Config,
}

/// What keeps it from serving, for `/readyz`; none: it serves.
#[derive(Clone, Debug)]
struct State(Arc<Mutex<Option<&'static str>>>);

impl State {
    fn set(&self, fault: Option<&'static str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    fn faults(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|fault| (*fault).to_owned()).collect()
    }
}

impl Daemon {
    /// Opens the store and listens. Metrics and probes are served from the first moment on; it is ready when this
    /// returns.
    ///
    /// # Errors
    /// Names what cannot be opened or bound.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let state = State(Arc::new(Mutex::new(Some("the store is not open yet"))));
        let tls = config.tls.as_ref().map(Tls::open).transpose().context("`[tls]`")?;
        let (metrics, opened, mut registry) = (Metrics::default(), Arc::new(OnceLock::new()), Registry::default());
        metrics.register(&mut registry);
        register_store(Arc::clone(&opened), &mut registry);
        if let Some(tls) = &tls {
            register_certificate(tls.clone(), &mut registry);
        }
        let observed = match config.metrics_listen {
            Some(address) => Some(observe(address, registry, &state).await?),
            None => None,
        };
        // A store that was not closed in order is looked through: that may take long, and probes are answered meanwhile.
        let dir = config.store_dir.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(&dir)).await.context("opening the store")??;
        let store = opened.get_or_init(|| store).clone();
        state.set(Some("not every address of `listen` is bound yet"));
        let mut servers = Vec::new();
        for listen in config.listen()? {
            let guard = PeerGuard::by_cgroup(config.refuse_cgroups.clone(), config.bpffs.clone());
            let server = serve_tls(store.clone(), listen, guard, tls.clone(), metrics.clone()).await?;
            tracing::info!(endpoint = server.endpoint(), store = %config.store_dir.display(), "listening");
            servers.push(server);
        }
        state.set(None);
        Ok(Self { servers, state, observed, config: config.clone() })
    }

    /// Where metrics and probes are served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.observed.as_ref().map(|(address, _)| *address)
    }

    /// Where agents and the command line reach it, one for each of `listen`.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(Server::endpoint)
    }

    /// Waits until one of the listeners ends by itself, which it does only when it fails.
    ///
    /// # Errors
    /// What it failed by.
    /// # Cancel safety
    /// Safe.
    pub async fn failed(&mut self) -> anyhow::Result<()> {
        // `Server::failed` is cancel safe, so each may be polled afresh.
        std::future::poll_fn(|cx| {
            for server in &mut self.servers {
                let failed = std::pin::pin!(server.failed());
                if let std::task::Poll::Ready(result) = failed.poll(cx) {
                    return std::task::Poll::Ready(result.map_err(anyhow::Error::from));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Stops in order: not ready any more, begun batches are stored and acknowledged, then the probes end too.
    ///
    /// # Errors
    /// If serving had failed before.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.state.set(Some("it is stopping"));
        let timeout = self.config.shutdown_timeout();
        let stops: Vec<_> = self.servers.into_iter().map(|server| tokio::spawn(server.stop_within(timeout))).collect();
        for stop in stops {
            stop.await??;
        }
        if let Some((_, stopping)) = self.observed {
            stopping.cancel();
        }
        Ok(())
    }
}

async fn observe(
    address: SocketAddr,
    registry: Registry,
    state: &State,
) -> anyhow::Result<(SocketAddr, CancellationToken)> {
    let listener = callgate_observe::bind(address).await?;
    let address = listener.local_addr()?;
    let (state, stopping) = (state.clone(), CancellationToken::new());
    // The store's work is on threads of its own: that this answers is all there is to say of being alive.
    let probes = Probes { ready: Arc::new(move || state.faults()), alive: Arc::new(Vec::new) };
    tokio::spawn(callgate_observe::serve(listener, Arc::new(registry), probes, stopping.clone()));
    Ok((address, stopping))
}
