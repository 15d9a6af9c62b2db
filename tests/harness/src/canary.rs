//! A listener that must hear nothing: TCP and UDP on one port, every connection and every byte noted.
//!
//! A test of enforcement points its client at a canary; one hit is one leak.
//! With an answer it also serves as a raw upstream that shows exactly which bytes arrived.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// How often the threads look whether the canary was dropped.
const LOOK: Duration = Duration::from_millis(50);

/// What a canary is to be.
#[derive(Debug, Clone)]
pub struct CanaryConfig {
    /// Where it listens, TCP and UDP; port 0 takes one that is free in both.
    pub listen: SocketAddr,
    /// One JSON line for each [`Hit`] is appended here.
    pub log: Option<PathBuf>,
    /// The network namespace it listens in.
    pub netns: Option<PathBuf>,
    /// Sent once on a TCP connection after each empty line (the end of an HTTP head) that came.
    pub answer: Option<Vec<u8>>,
}

impl CanaryConfig {
    /// A silent one on a free port of `address`, in this network namespace.
    pub fn at(address: impl Into<IpAddr>) -> CanaryConfig {
        CanaryConfig { listen: SocketAddr::new(address.into(), 0), log: None, netns: None, answer: None }
    }
}

/// Something that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "hit", rename_all = "snake_case")]
pub enum Hit {
    /// A TCP connection was established.
    Connection {
        /// Its other end.
        peer: SocketAddr,
    },
    /// Bytes came over a TCP connection.
    Bytes {
        /// Its other end.
        peer: SocketAddr,
        /// How many.
        len: usize,
        /// What they were, as far as they are text.
        text: String,
    },
    /// A UDP datagram came.
    Datagram {
        /// Who sent it.
        peer: SocketAddr,
        /// Length of its payload. Unit: bytes.
        len: usize,
    },
}

/// A running canary; stops on drop.
#[derive(Debug)]
pub struct Canary {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hits: Mutex<Vec<Hit>>,
    raw: Mutex<Vec<u8>>,
    log: Option<File>,
    answer: Option<Vec<u8>>,
    stopped: AtomicBool,
}

impl Canary {
    /// Starts one.
    ///
    /// # Errors
    /// When the address is taken, or the namespace cannot be entered.
    pub fn start(config: CanaryConfig) -> Result<Canary> {
        let bind = || bind_both(config.listen);
        let (tcp, udp) = match &config.netns {
            Some(netns) => crate::netns::enter(netns, bind)??,
            None => bind()?,
        };
        let address = tcp.local_addr()?;
        let log = config.log.as_ref().map(|path| File::options().create(true).append(true).open(path)).transpose()?;
        let shared = Arc::new(Shared {
            hits: Mutex::default(),
            raw: Mutex::default(),
            log,
            answer: config.answer,
            stopped: AtomicBool::new(false),
        });
        tcp.set_nonblocking(true)?;
        udp.set_read_timeout(Some(LOOK))?;
        let (accepting, hearing) = (shared.clone(), shared.clone());
        std::thread::spawn(move || accept(&tcp, &accepting));
        std::thread::spawn(move || hear(&udp, &hearing));
        Ok(Canary { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that arrived so far.
    pub fn hits(&self) -> Vec<Hit> {
        self.shared.hits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bytes of all TCP connections so far, in the order they came.
    pub fn raw(&self) -> Vec<u8> {
        self.shared.raw.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// That nothing arrived.
    ///
    /// # Errors
    /// With the hits, if something did.
    pub fn silent(&self) -> Result<()> {
        match self.hits() {
            hits if hits.is_empty() => Ok(()),
            hits => bail!("{} hits at the canary {}, first: {:?}", hits.len(), self.address, hits.first()),
        }
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn hit(&self, hit: Hit) {
        if let Some(mut log) = self.log.as_ref() {
            let mut line = serde_json::to_vec(&hit).unwrap_or_default();
            line.push(b'\n');
            let _ = log.write_all(&line);
        }
        self.hits.lock().unwrap_or_else(PoisonError::into_inner).push(hit);
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// A port that is free in both protocols.
fn bind_both(listen: SocketAddr) -> Result<(TcpListener, UdpSocket)> {
    let mut last = None;
    for _ in 0..20 {
        let tcp = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
        match UdpSocket::bind(tcp.local_addr()?) {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) => last = Some(error),
        }
    }
    bail!("no port of {} is free in TCP and UDP: {last:?}", listen.ip())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.stopped() {
        let Ok((stream, peer)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        shared.hit(Hit::Connection { peer });
        let shared = shared.clone();
        std::thread::spawn(move || read(stream, peer, &shared));
    }
}

fn read(mut stream: TcpStream, peer: SocketAddr, shared: &Shared) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(LOOK));
    let mut buffer = vec![0; 64 * 1024];
    let mut seen = Vec::new();
    while !shared.stopped() {
        let len = match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => len,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => return,
        };
        let bytes = buffer.get(..len).unwrap_or_default();
        shared.raw.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        shared.hit(Hit::Bytes { peer, len, text: String::from_utf8_lossy(bytes).into_owned() });
        let Some(answer) = &shared.answer else { continue };
        seen.extend_from_slice(bytes);
        while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            seen.drain(..end + 4);
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

fn hear(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while !shared.stopped() {
        if let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            shared.hit(Hit::Datagram { peer, len });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_connections_bytes_and_datagrams() {
        let canary = Canary::start(CanaryConfig { answer: Some(b"ok".to_vec()), ..CanaryConfig::at([127, 0, 0, 1]) });
        let canary = canary.unwrap();
        canary.silent().unwrap();
        let mut stream = TcpStream::connect(canary.address()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!((&answer, canary.raw().as_slice()), (b"ok", b"GET / HTTP/1.1\r\n\r\n".as_slice()));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"leak", canary.address()).unwrap();
        crate::eventually("the datagram", Duration::from_secs(5), || {
            canary.hits().iter().any(|hit| matches!(hit, Hit::Datagram { len: 4, .. })).then_some(())
        })
        .unwrap();
        assert!(canary.silent().is_err());
    }
}
