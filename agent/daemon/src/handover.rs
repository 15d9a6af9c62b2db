//! Handing the listeners of a running agent over to its successor, so that an upgrade refuses no connection.
//!
//! Both talk by packets over a socket of the runtime directory, which root alone may connect to. The running agent
//! sends [`Message::Hello`] with the lock of its instance, [`Message::Namespace`] with the listeners of each network
//! namespace, [`Message::Metrics`] with that listener, and [`Message::Complete`]. The successor loads its programs,
//! enrols, accepts, and says [`Message::Serving`]: then the running agent stops accepting, says
//! [`Message::Released`], ends its open calls and exits. Until `Serving` either may hang up, and nothing has changed.
//!
//! Descriptors are sent, never shared by SO_REUSEPORT: what waits in the queue of a listener is accepted by whoever
//! comes first.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use callgate_enroll::peer_is_enrolled;
use callgate_redirect::{Bound, NetnsRef, SCHEMA};
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use crate::Agent;

/// Longest wait for a packet of the other side. Source: a successor takes a second to load its programs; thirty times.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest packet. Source: the longest message has 200.
const PACKET_MAX: usize = 1024;

/// Most descriptors of one packet: a namespace, its two listeners and its two sockets for DNS.
const FDS_MAX: usize = 5;

/// Time for the accept loops and the reader of the kernel's events to end. Source: they are woken at once; a hundred times.
const LETTING_GO: Duration = Duration::from_millis(50);

/// What is said; the descriptors that belong to it travel along, in the order in which they are named.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Message {
    /// The lock of the instance.
    Hello { instance: String, version: String, schema: u32 },
    /// A network namespace, and its listeners as far as there are any.
    Namespace { v4: bool, v6: bool, dns4: bool, dns6: bool },
    /// The listener of `/metrics`.
    Metrics,
    /// Nothing more will come.
    Complete,
    /// The successor accepts.
    Serving,
    /// The predecessor does not accept any more.
    Released,
}

/// A network namespace that the agent listens in.
#[derive(Debug)]
pub struct Standing {
    /// The namespace.
    pub netns: NetnsRef,
    /// Our sockets there.
    pub bound: Bound,
}

/// What a running agent has left to its successor.
#[derive(Debug)]
pub struct Inheritance {
    /// Makes its owner the only process of the instance.
    pub(crate) lock: OwnedFd,
    /// Where it listens.
    pub(crate) standing: Vec<Standing>,
    /// Where it serves metrics.
    pub(crate) metrics: Option<TcpListener>,
    predecessor: OwnedFd,
}

/// Path of the socket below the runtime directory.
#[must_use]
pub fn socket_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("handover.sock")
}

/// Asks the agent that runs, if one does, for what it stands on. It serves on until [`Inheritance::serving`].
///
/// # Errors
/// If it refuses, is of another layout of maps or another instance, or does not answer.
pub fn ask(path: &Path, instance: &str) -> Result<Option<Inheritance>> {
    let address = SocketAddrUnix::new(path)?;
    let socket = seqpacket()?;
    match rustix::net::connect(&socket, &address) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => return Ok(None),
        connected => connected.with_context(|| format!("cannot reach the running agent at `{}`", path.display()))?,
    }
    patient(socket.as_fd())?;
    let lost = "the running agent hung up: it goes on as it was, and its log says why";
    let (hello, mut fds) = receive(socket.as_fd()).context(lost)?;
    let Message::Hello { instance: theirs, version, schema } = hello else { bail!("the running agent sent {hello:?}") };
    ensure!(theirs == instance, "the running agent is of the instance `{theirs}`, not `{instance}`");
    ensure!(
        schema == SCHEMA,
        "the running agent ({version}) has maps of layout {schema}, this one of {SCHEMA}: \
         they cannot take turns, stop it first"
    );
    let lock = fds.pop().context("the running agent sent no lock")?;
    let (mut standing, mut metrics) = (Vec::new(), None);
    loop {
        let (message, fds) = receive(socket.as_fd()).context(lost)?;
        let mut fds = fds.into_iter();
        let mut next = || fds.next().context("the running agent sent too few descriptors");
        match message {
            Message::Namespace { v4, v6, dns4, dns6 } => standing.push(Standing {
                netns: NetnsRef::of_file(File::from(next()?))?,
                bound: Bound {
                    v4: v4.then(&mut next).transpose()?.map(TcpListener::from),
                    v6: v6.then(&mut next).transpose()?.map(TcpListener::from),
                    dns4: dns4.then(&mut next).transpose()?.map(UdpSocket::from),
                    dns6: dns6.then(&mut next).transpose()?.map(UdpSocket::from),
                },
            }),
            Message::Metrics => metrics = Some(TcpListener::from(next()?)),
            Message::Complete => break,
            other => bail!("the running agent sent {other:?}"),
        }
    }
    info!(version, namespaces = standing.len(), "takes over from the running agent");
    Ok(Some(Inheritance { lock, standing, metrics, predecessor: socket }))
}

/// The predecessor, which goes when it is told that its successor accepts.
#[derive(Debug)]
pub struct Predecessor(OwnedFd);

impl Inheritance {
    /// What is left once the rest has been taken out.
    pub(crate) fn into_parts(self) -> (OwnedFd, Vec<Standing>, Option<TcpListener>, Predecessor) {
        (self.lock, self.standing, self.metrics, Predecessor(self.predecessor))
    }
}

impl Predecessor {
    /// Says that this agent accepts, and waits until the one before does not any more. Blocks.
    ///
    /// # Errors
    /// If it is gone: then it does not accept either.
    pub(crate) fn relieve(self) -> Result<()> {
        send(self.0.as_fd(), &Message::Serving, &[])?;
        match receive(self.0.as_fd())? {
            (Message::Released, _) => Ok(()),
            (other, _) => bail!("the agent before sent {other:?}"),
        }
    }
}

/// Listens for a successor on a thread of its own; [`Agent::handed_over`] is cancelled once one serves.
///
/// # Errors
/// If the socket cannot be made.
pub fn serve(agent: Arc<Agent>, path: &Path) -> Result<()> {
    let make = || -> io::Result<OwnedFd> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = seqpacket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::fs::chmod(path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
        rustix::net::listen(&socket, 1)?;
        Ok(socket)
    };
    let listener = make().with_context(|| format!("cannot listen on `{}`", path.display()))?;
    let serving = std::thread::Builder::new().name("callgate-handover".into());
    serving.spawn(move || {
        loop {
            let peer = match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
                Ok(peer) => peer,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
                Err(error) => return error!(%error, "no successor can take over any more"),
            };
            match hand_over(&agent, peer.as_fd()) {
                Ok(()) => return,
                Err(error) => {
                    agent.hands_over(false);
                    warn!(error = format!("{error:#}"), "handing over was broken off: this agent goes on");
                }
            }
        }
    })?;
    Ok(())
}

/// Everything that this agent stands on, for the successor at `peer`.
fn hand_over(agent: &Agent, peer: BorrowedFd<'_>) -> Result<()> {
    admit(agent, peer)?;
    patient(peer)?;
    agent.hands_over(true);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let hello = Message::Hello { instance: agent.instance().to_owned(), version, schema: SCHEMA };
    send(peer, &hello, &[agent.ownership()])?;
    for standing in &*agent.standing() {
        let Bound { v4, v6, dns4, dns6 } = &standing.bound;
        let mut fds = vec![standing.netns.file().as_fd()];
        fds.extend(v4.iter().chain(v6).map(AsFd::as_fd));
        fds.extend(dns4.iter().chain(dns6).map(AsFd::as_fd));
        let (v4, v6, dns4, dns6) = (v4.is_some(), v6.is_some(), dns4.is_some(), dns6.is_some());
        send(peer, &Message::Namespace { v4, v6, dns4, dns6 }, &fds)?;
    }
    if let Some(metrics) = agent.metrics_listener() {
        send(peer, &Message::Metrics, &[metrics.as_fd()])?;
    }
    send(peer, &Message::Complete, &[])?;
    match receive(peer).context("the successor did not come to serve")? {
        (Message::Serving, _) => {}
        (other, _) => bail!("the successor sent {other:?}"),
    }
    info!("a successor serves: no connection is accepted here any more, open calls are ended");
    agent.relieved();
    std::thread::sleep(LETTING_GO);
    // Should it be gone again, this agent is relieved all the same: its successor was serving.
    let _gone = send(peer, &Message::Released, &[]);
    Ok(())
}

/// Root, and no process of a workload.
fn admit(agent: &Agent, peer: BorrowedFd<'_>) -> Result<()> {
    let credentials = socket_peercred(peer)?;
    ensure!(credentials.uid.is_root(), "uid {} asked to take over", credentials.uid.as_raw());
    let pid = u32::try_from(credentials.pid.as_raw_nonzero().get())?;
    ensure!(!peer_is_enrolled(pid, agent.roster())?, "process {pid} of an enrolled workload asked to take over");
    Ok(())
}

fn seqpacket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn patient(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_socket_timeout(socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(set_socket_timeout(socket, Timeout::Send, Some(PATIENCE))?)
}

fn send(socket: BorrowedFd<'_>, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ensure!(fds.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(fds)), "too many descriptors");
    rustix::net::sendmsg(socket, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>) -> Result<(Message, Vec<OwnedFd>)> {
    let mut text = [0; PACKET_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut text)];
    let received = rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    ensure!(received.bytes > 0, "the other side hung up");
    let text = text.get(..received.bytes).context("a packet is longer than its buffer")?;
    Ok((serde_json::from_slice(text)?, fds))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn messages_arrive_with_their_descriptors() {
        let (a, b) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let netns = File::open("/proc/self/ns/net").unwrap();
        let said = Message::Namespace { v4: true, v6: false, dns4: false, dns6: true };
        let dns = UdpSocket::bind("[::1]:0").unwrap();
        send(a.as_fd(), &said, &[netns.as_fd(), listener.as_fd(), dns.as_fd()]).unwrap();
        let (heard, fds) = receive(b.as_fd()).unwrap();
        assert_eq!(heard, said);
        let [netns, copy, asked]: [OwnedFd; 3] = fds.try_into().unwrap();
        assert!(NetnsRef::of_file(netns.into()).unwrap().is_own());
        let copy = TcpListener::from(copy);
        assert_ne!(copy.as_raw_fd(), listener.as_raw_fd());
        assert_eq!(copy.local_addr().unwrap(), listener.local_addr().unwrap());
        assert_eq!(UdpSocket::from(asked).local_addr().unwrap(), dns.local_addr().unwrap());
    }

    #[test]
    fn what_is_not_understood_or_cut_off_is_an_error() {
        let (a, b) = pair();
        for text in ["{\"kind\":\"hello\"}", "{\"kind\":\"other\"}", "nothing"] {
            rustix::net::send(&a, text.as_bytes(), SendFlags::NOSIGNAL).unwrap();
            assert!(receive(b.as_fd()).is_err(), "{text}");
        }
        drop(a);
        assert!(receive(b.as_fd()).unwrap_err().to_string().contains("hung up"));
    }

    #[test]
    fn nobody_to_ask_is_a_fresh_start() {
        let directory = tempfile::tempdir().unwrap();
        assert!(ask(&directory.path().join("none.sock"), "agent").unwrap().is_none());
    }
}
