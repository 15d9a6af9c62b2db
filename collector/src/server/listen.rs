//! Where the collector listens, and the connections from there.
//!
//! A unix socket is made with mode 0600 and asks the [`PeerGuard`] about each peer.
//! A port with TLS takes whoever shows a certificate; what that allows is for the services to ask ([`rights`](super::rights)).
//! A port without is for loopback addresses alone, and cannot know its peer's process. Workloads are kept from it by the agent: every connection of an enrolled
//! cgroup goes to the proxy, and the proxy refuses the ports of Callgate itself as destinations (`own_port`).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use callgate_mtls::{HandshakeError, ServerStream, ServerTls};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::metrics::Refusal;
use super::rights::PeerInfo;
use super::{Metrics, PeerGuard, ServeError};

/// Most connections at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1_024;
/// Pause after `accept` failed: out of descriptors, which only others can free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most handshakes at once: strangers may take no more places than that from those who have certificates.
const HANDSHAKES_MAX: usize = 128;
/// Refused handshakes are logged at most this often; anybody can cause one.
const REFUSAL_EVERY: Duration = Duration::from_secs(1);

/// Where to listen: `https://0.0.0.0:4700`, `127.0.0.1:4700`, `[::1]:4700` or `unix:/run/callgate/collector.sock`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// A loopback address, plain text; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// Any address, with TLS.
    Tls(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// Why a text is no [`Listen`].
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ListenError {
    /// Not an address.
    #[error(
        "`{0}` is no address to listen on: expected `https://ADDRESS:PORT`, `127.0.0.1:PORT`, `[::1]:PORT` or `unix:/absolute/path`"
    )]
    Malformed(String),
    /// Reachable from elsewhere.
    #[error(
        "`{0}` can be reached from other hosts, which takes TLS: `https://{0}`, or listen on a loopback address or a unix socket"
    )]
    NotLoopback(String),
}

impl Listen {
    /// Listens on `address`.
    ///
    /// # Errors
    /// [`ListenError::NotLoopback`]: without TLS nobody else may reach it.
    pub fn tcp(address: SocketAddr) -> Result<Self, ListenError> {
        if address.ip().to_canonical().is_loopback() {
            Ok(Self::Tcp(address))
        } else {
            Err(ListenError::NotLoopback(address.to_string()))
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;
    fn from_str(text: &str) -> Result<Self, ListenError> {
        let malformed = || ListenError::Malformed(text.into());
        if let Some(address) = text.strip_prefix("https://") {
            return address.parse().map(Self::Tls).map_err(|_| malformed());
        }
        match text.strip_prefix("unix:") {
            Some(path) if Path::new(path).is_absolute() => Ok(Self::Unix(path.into())),
            Some(_) => Err(malformed()),
            None => Self::tcp(text.parse().map_err(|_| malformed())?),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Tls(address) => write!(f, "https://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A place that is listened on.
pub(super) struct Bound {
    /// As agents and the command line take it.
    pub endpoint: String,
    /// The socket's file, if it has one.
    pub file: Option<SocketFile>,
    /// Peers that may connect.
    pub incoming: ReceiverStream<io::Result<Peer>>,
}

/// The file of a unix socket: removed when dropped, unless another collector has put its own in the place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Binds.
pub(super) async fn bind(
    listen: Listen,
    guard: PeerGuard,
    tls: Option<ServerTls>,
    metrics: Metrics,
) -> Result<Bound, ServeError> {
    let failed = |source| ServeError::Bind { listen: listen.to_string(), source };
    let (endpoint, file, listener) = match &listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            (format!("http://{address}"), None, Listener::Tcp(listener))
        }
        Listen::Tls(address) => {
            let tls = tls.ok_or_else(|| ServeError::NoCertificates(listen.to_string()))?;
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            (format!("https://{address}"), None, Listener::Tls(listener, tls))
        }
        Listen::Unix(path) => {
            let listener = bind_unix(path).await?;
            let inode = std::fs::symlink_metadata(path).map_err(failed)?.ino();
            let file = SocketFile { path: path.clone(), inode };
            (format!("unix:{}", path.display()), Some(file), Listener::Unix(listener, guard))
        }
    };
    // One place: the server takes a connection or nobody does.
    let (peers, incoming) = mpsc::channel(1);
    tokio::spawn(accept(listener, peers, metrics));
    Ok(Bound { endpoint, file, incoming: ReceiverStream::new(incoming) })
}

enum Listener {
    Tcp(TcpListener),
    Tls(TcpListener, ServerTls),
    Unix(UnixListener, PeerGuard),
}

async fn accept(listener: Listener, peers: mpsc::Sender<io::Result<Peer>>, metrics: Metrics) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let shaking = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let refusals = Arc::new(Refusals::default());
    loop {
        let Ok(handshake) = Arc::clone(&shaking).acquire_owned().await else { return };
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = peers.closed() => return,
        };
        let stream = match accepted {
            Ok(Some(stream)) => stream,
            Ok(None) => {
                metrics.refused(Refusal::peer);
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let stream = match stream {
            Accepted::Ready(stream) => stream,
            Accepted::Raw(stream, address, tls) => {
                let (peers, refusals, metrics) = (peers.clone(), Arc::clone(&refusals), metrics.clone());
                tokio::spawn(async move {
                    match tls.accept(stream).await {
                        Ok((stream, client)) => {
                            drop(handshake);
                            let info = PeerInfo {
                                client: Some(Arc::new(client)),
                                until: Some(Instant::now() + tls.connection_max()),
                            };
                            let peer = Peer { stream: Stream::Tls(Box::new(stream)), info, _permit: permit };
                            let _ = peers.send(Ok(peer)).await;
                        }
                        Err(error) => {
                            metrics.refused(Refusal::handshake);
                            refusals.tell(address, &error);
                        }
                    }
                });
                continue;
            }
        };
        if peers.send(Ok(Peer { stream, info: PeerInfo::default(), _permit: permit })).await.is_err() {
            return;
        }
    }
}

/// Refused handshakes, for the log.
#[derive(Default)]
struct Refusals(Mutex<(Option<Instant>, u64)>);

impl Refusals {
    fn tell(&self, peer: SocketAddr, error: &HandshakeError) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.is_some_and(|at| at.elapsed() < REFUSAL_EVERY) {
            state.1 += 1;
            return;
        }
        let unsaid = std::mem::take(&mut state.1);
        state.0 = Some(Instant::now());
        tracing::warn!(%peer, %error, unsaid, "refused a connection");
    }
}

/// Somebody who was let in, or who has to show a certificate first.
enum Accepted {
    Ready(Stream),
    Raw(TcpStream, SocketAddr, ServerTls),
}

impl Listener {
    /// The next peer; none if it was refused.
    async fn accept(&self) -> io::Result<Option<Accepted>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Some(Accepted::Ready(Stream::Tcp(stream))))
            }
            Self::Tls(listener, tls) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Some(Accepted::Raw(stream, address, tls.clone())))
            }
            Self::Unix(listener, guard) => {
                let (stream, _) = listener.accept().await?;
                let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
                if guard.allows(pid) {
                    return Ok(Some(Accepted::Ready(Stream::Unix(stream))));
                }
                tracing::warn!(pid, "refused a peer that sits in an enrolled cgroup, or that cannot be known");
                Ok(None)
            }
        }
    }
}

/// Binds a socket that is never open to others, not even for a moment: it is renamed into place with its mode set.
async fn bind_unix(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |source| ServeError::Bind { listen: format!("unix:{}", path.display()), source };
    match UnixStream::connect(path).await {
        Ok(_) => return Err(ServeError::InUse(path.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // A file that nobody listens on: left by a collector that was killed.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) => return Err(failed(error)),
    }
    let mut made = path.as_os_str().to_owned();
    made.push(format!(".{}", std::process::id()));
    let made = PathBuf::from(made);
    let _ = std::fs::remove_file(&made);
    let bound = UnixListener::bind(&made).and_then(|listener| {
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&made, path)?;
        Ok(listener)
    });
    bound.map_err(failed)
}

/// A connection that counts against the limit as long as it lives.
pub(super) struct Peer {
    stream: Stream,
    info: PeerInfo,
    _permit: OwnedSemaphorePermit,
}

enum Stream {
    Tcp(TcpStream),
    Tls(Box<ServerStream>),
    Unix(UnixStream),
}

impl Connected for Peer {
    type ConnectInfo = PeerInfo;
    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

macro_rules! forward {
    ($self:ident, $poll:ident, $($argument:expr),*) => {
        match &mut $self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).$poll($($argument),*),
            Stream::Tls(stream) => Pin::new(stream).$poll($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$poll($($argument),*),
        }
    };
}

impl AsyncRead for Peer {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, poll_write, cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_flush, cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_shutdown, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_for_loopback_and_unix_sockets() {
        for text in ["127.0.0.1:4700", "127.8.0.1:0", "[::1]:4700", "unix:/run/x.sock", "https://0.0.0.0:4700"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        for text in ["0.0.0.0:4700", "[::]:4700", "10.0.0.7:1", "[fe80::1]:1"] {
            assert!(matches!(text.parse::<Listen>(), Err(ListenError::NotLoopback(_))), "{text}");
        }
        for text in ["", "4700", "localhost:4700", "unix:", "unix:x.sock", "tcp://127.0.0.1:1", "https://x:1"] {
            assert!(matches!(text.parse::<Listen>(), Err(ListenError::Malformed(_))), "{text}");
        }
    }
}
