//! Our listeners in a network namespace, and upstream sockets that start there.
//!
//! A socket belongs to the namespace of the thread that makes it. For the agent's own that is any thread; for another
//! one, a thread is moved there and parked for as long as the [`NetnsSockets`] live. Its cgroup stays the agent's, so
//! what it opens is not redirected. SO_REUSEPORT is never set: any process of the same uid could join the group.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{HashMap, MapData};
use callgate_ebpf_common::Ports;
use callgate_model::NetnsCookie;
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::cookie_of;
use crate::{NetnsRef, RedirectError};

/// Longest queue of connections that wait for an accept loop. Unit: connections. Source: net.core.somaxconn's default.
const BACKLOG: i32 = 4_096;

/// Most requests for sockets that wait for the parked thread. Unit: requests. The rest waits in [`NetnsSockets::tcp`].
const REQUESTS: usize = 64;

/// Map `LISTENERS`: netns cookie to ports.
pub type PortsMap = Arc<Registered>;

/// The map of the ports, and whether it is still this process's to clean up.
#[derive(Debug)]
pub struct Registered {
    pub map: Mutex<HashMap<MapData, u64, Ports>>,
    /// Another process serves the same listeners, before or after this one: what is registered is not this one's to
    /// take back.
    pub shared: AtomicBool,
}

/// The listeners of one network namespace, bound to its loopback alone.
#[derive(Debug)]
pub struct Listeners {
    /// The namespace.
    pub netns: NetnsCookie,
    /// On 127.0.0.1; none where IPv4 is missing: v4 connections are refused then.
    pub v4: Option<TcpListener>,
    /// On ::1; none where IPv6 is missing: v6 connections are refused then.
    pub v6: Option<TcpListener>,
    /// On 127.0.0.1, for DNS; none where IPv4 is missing: DNS over v4 is refused then.
    pub dns4: Option<UdpSocket>,
    /// On ::1, for DNS; none where IPv6 is missing: DNS over v6 is refused then.
    pub dns6: Option<UdpSocket>,
    /// Makes upstream sockets there. When the last clone is dropped, the namespace is forgotten.
    pub sockets: NetnsSockets,
}

/// What is bound in one network namespace, as one process hands it to the next; fields as those of [`Listeners`].
#[derive(Debug, Default)]
pub struct Bound {
    /// On 127.0.0.1.
    pub v4: Option<TcpListener>,
    /// On ::1.
    pub v6: Option<TcpListener>,
    /// On 127.0.0.1, for DNS.
    pub dns4: Option<UdpSocket>,
    /// On ::1, for DNS.
    pub dns6: Option<UdpSocket>,
}

/// Makes sockets inside one network namespace.
#[derive(Clone, Debug)]
pub struct NetnsSockets(Arc<Place>);

#[derive(Debug)]
struct Place {
    /// None: the agent's own namespace.
    parked: Option<SyncSender<Request>>,
    /// What to take back at the end.
    registered: (PortsMap, NetnsCookie, Ports),
}

struct Request {
    domain: Domain,
    kind: Type,
    answer: SyncSender<io::Result<Socket>>,
}

impl NetnsSockets {
    /// A fresh nonblocking TCP socket, neither bound nor connected.
    ///
    /// Blocks for tens of microseconds, in another namespace than the agent's for a thread's answer.
    ///
    /// # Errors
    /// The kernel's; `BrokenPipe` when the parked thread is gone.
    pub fn tcp(&self, v6: bool) -> io::Result<Socket> {
        make(self.0.parked.as_ref(), if v6 { Domain::IPV6 } else { Domain::IPV4 }, Type::STREAM)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (registered, netns, ports) = &self.registered;
        if registered.shared.load(Ordering::Acquire) {
            return;
        }
        let mut map = registered.map.lock().unwrap_or_else(PoisonError::into_inner);
        // A successor may have registered its own since.
        if map.get(&netns.0, 0).is_ok_and(|now| now == *ports) {
            let _gone_already = map.remove(&netns.0);
        }
    }
}

/// Opens the listeners of a namespace, has each one marked, and registers their ports.
pub fn open(
    netns: &NetnsRef,
    ports: &PortsMap,
    mark: impl Fn(BorrowedFd<'_>) -> Result<(), RedirectError>,
) -> Result<Listeners, RedirectError> {
    let parked = park(netns).map_err(|source| netns.failed(source))?;
    let bind = |address: SocketAddr, kind: Type| -> io::Result<Socket> {
        let socket = make(parked.as_ref(), Domain::for_address(address), kind)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let listener = |address: SocketAddr| -> io::Result<(TcpListener, NetnsCookie)> {
        let socket = bind(address, Type::STREAM)?;
        let cookie = cookie_of(&socket)?;
        socket.listen(BACKLOG)?;
        Ok((socket.into(), cookie))
    };
    let loopback: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
    let [v4, v6] = loopback.map(listener);
    let cookie = match (&v4, &v6) {
        (Ok((_, cookie)), _) | (_, Ok((_, cookie))) => *cookie,
        (Err(_), Err(_)) => return Err(netns.failed(v4.err().unwrap_or_else(|| io::ErrorKind::Other.into()))),
    };
    let [v4, v6] = [v4, v6].map(|bound| bound.ok().map(|(listener, _)| listener));
    let [dns4, dns6] = loopback.map(|address| bind(address, Type::DGRAM).ok().map(UdpSocket::from));
    for listener in v4.iter().chain(&v6) {
        mark(listener.as_fd())?;
    }
    for socket in dns4.iter().chain(&dns6) {
        mark(socket.as_fd())?;
    }
    register(cookie, parked, Bound { v4, v6, dns4, dns6 }, ports)
}

/// Goes on with listeners that the process before handed over; their mark and their ports stay as they are.
pub fn adopt(netns: &NetnsRef, bound: Bound, ports: &PortsMap) -> Result<Listeners, RedirectError> {
    let parked = park(netns).map_err(|source| netns.failed(source))?;
    let cookie = netns.cookie()?;
    register(cookie, parked, bound, ports)
}

fn register(
    cookie: NetnsCookie,
    parked: Option<SyncSender<Request>>,
    bound: Bound,
    ports: &PortsMap,
) -> Result<Listeners, RedirectError> {
    let Bound { v4, v6, dns4, dns6 } = bound;
    let port = |listener: Option<&TcpListener>| Some(listener?.local_addr().ok()?.port());
    let dns = |socket: Option<&UdpSocket>| Some(socket?.local_addr().ok()?.port());
    let entry = Ports {
        v4: port(v4.as_ref()).unwrap_or(0),
        v6: port(v6.as_ref()).unwrap_or(0),
        dns4: dns(dns4.as_ref()).unwrap_or(0),
        dns6: dns(dns6.as_ref()).unwrap_or(0),
    };
    let written = ports.map.lock().unwrap_or_else(PoisonError::into_inner).insert(cookie.0, entry, 0);
    written.map_err(|source| RedirectError::Map { map: "LISTENERS", source: Box::new(source) })?;
    let place = Place { parked, registered: (Arc::clone(ports), cookie, entry) };
    Ok(Listeners { netns: cookie, v4, v6, dns4, dns6, sockets: NetnsSockets(Arc::new(place)) })
}

fn make(parked: Option<&SyncSender<Request>>, domain: Domain, kind: Type) -> io::Result<Socket> {
    let Some(parked) = parked else { return fresh(domain, kind) };
    let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the thread of the network namespace is gone");
    let (answer, made) = sync_channel(1);
    parked.send(Request { domain, kind, answer }).map_err(|_| gone())?;
    made.recv().map_err(|_| gone())?
}

/// Starts the thread that makes sockets in another namespace; none for the agent's own.
fn park(netns: &NetnsRef) -> io::Result<Option<SyncSender<Request>>> {
    if netns.is_own() {
        return Ok(None);
    }
    let netns = netns.try_clone()?;
    let (requests, inbox) = sync_channel(REQUESTS);
    let (entered, outcome) = sync_channel(1);
    std::thread::Builder::new().name("callgate-netns".into()).spawn(move || {
        let done = netns.enter();
        let inside = done.is_ok();
        // The opener waits for this; should it be gone, the inbox is closed too.
        let _gone = entered.send(done);
        if inside {
            serve(&inbox);
        }
    })?;
    outcome.recv().map_err(io::Error::other)??;
    Ok(Some(requests))
}

/// Until the last [`NetnsSockets`] is dropped.
fn serve(inbox: &Receiver<Request>) {
    while let Ok(request) = inbox.recv() {
        let _gone = request.answer.send(fresh(request.domain, request.kind));
    }
}

fn fresh(domain: Domain, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
