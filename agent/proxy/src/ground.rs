//! What the data path needs of the ground it stands on: the kernel in the product, plain sockets in flow tests.

use std::io;
use std::net::SocketAddr;

use callgate_model::{NetnsCookie, Origin};

/// Where connections come from and where upstream sockets are made.
pub trait Ground: Send + Sync + 'static {
    /// Takes the record of where the connection from `peer` was going. None: it was never redirected by us, close it.
    fn origin(&self, netns: NetnsCookie, peer: SocketAddr) -> Option<Origin>;

    /// Who sent the datagram of DNS that was just read from `peer`. None: nobody that is known, drop it.
    fn asker(&self, netns: NetnsCookie, peer: SocketAddr) -> Option<Origin>;

    /// Makes a non-blocking TCP socket inside the network namespace, in the agent's own cgroup.
    ///
    /// # Errors
    /// When the namespace is not one that we listen in, or the kernel makes no socket.
    fn socket(&self, netns: NetnsCookie, v6: bool) -> io::Result<socket2::Socket>;
}
