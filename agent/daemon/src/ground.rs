//! The kernel behind the data path's seam.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use callgate_model::{NetnsCookie, Origin};
use callgate_proxy::Ground;
use callgate_redirect::{NetnsSockets, Redirect};

/// [`Ground`] on the kernel programs, with a socket maker for each network namespace that is listened in.
pub struct KernelGround {
    redirect: Arc<Redirect>,
    sockets: RwLock<HashMap<NetnsCookie, Arc<NetnsSockets>>>,
}

impl KernelGround {
    /// Stands on `redirect`; no namespace is known yet.
    #[must_use]
    pub fn new(redirect: Arc<Redirect>) -> Self {
        Self { redirect, sockets: RwLock::default() }
    }

    /// Makes upstream sockets of `netns` with `sockets` from now on.
    pub fn add(&self, netns: NetnsCookie, sockets: NetnsSockets) {
        self.sockets.write().unwrap_or_else(PoisonError::into_inner).insert(netns, Arc::new(sockets));
    }

    /// Makes none in `netns` any more.
    pub fn remove(&self, netns: NetnsCookie) {
        self.sockets.write().unwrap_or_else(PoisonError::into_inner).remove(&netns);
    }
}

impl Ground for KernelGround {
    fn origin(&self, netns: NetnsCookie, peer: SocketAddr) -> Option<Origin> {
        self.redirect.origin(netns, peer)
    }

    fn asker(&self, netns: NetnsCookie, peer: SocketAddr) -> Option<Origin> {
        self.redirect.asker(netns, peer)
    }

    fn socket(&self, netns: NetnsCookie, v6: bool) -> io::Result<socket2::Socket> {
        let sockets = self.sockets.read().unwrap_or_else(PoisonError::into_inner).get(&netns).cloned();
        sockets.ok_or_else(|| io::Error::other("no listener in this network namespace"))?.tcp(v6)
    }
}
