//! A real name server: answers over UDP and TCP by the first label of what it is asked, and keeps what that was.
//!
//! | first label | answer |
//! | --- | --- |
//! | `www` | A, AAAA, and HTTPS with HTTP/2, HTTP/3, an address hint and ECH |
//! | `large` | 150 A records: cut off over UDP |
//! | `forged` | A, after a datagram with another id |
//! | `servfail` | a failure |
//! | any other | no such name |

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::svcb::{Alpn, EchConfigList, IpHint, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, HTTPS, SOA, SVCB};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The address of `www`.
pub const WWW: [u8; 4] = [192, 0, 2, 80];

/// The IPv6 address of `www`.
pub const WWW6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80);

type Asked = Arc<Mutex<Vec<String>>>;

/// A running name server; ends on drop.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    asked: Asked,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// On one port of loopback, for UDP and TCP.
    ///
    /// # Errors
    /// When no port is free for both.
    pub fn start() -> Result<NameServer> {
        // A port that is free for one may be taken for the other.
        let bound = (0..16).find_map(|_| {
            let stream = TcpListener::bind("127.0.0.1:0").ok()?;
            let datagrams = UdpSocket::bind(stream.local_addr().ok()?).ok()?;
            Some((stream, datagrams))
        });
        let (stream, datagrams) = bound.context("no port of loopback is free for UDP and TCP")?;
        stream.set_nonblocking(true)?;
        datagrams.set_nonblocking(true)?;
        let (address, asked) = (stream.local_addr()?, Asked::default());
        let stopped = Arc::new(AtomicBool::new(false));
        let mut server =
            NameServer { address, asked: Arc::clone(&asked), stopped: Arc::clone(&stopped), threads: vec![] };
        let (end, log) = (Arc::clone(&stopped), Arc::clone(&asked));
        server.threads.push(std::thread::spawn(move || over_udp(&datagrams, &log, &end)));
        server.threads.push(std::thread::spawn(move || over_tcp(&stream, &asked, &stopped)));
        Ok(server)
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked so far: `NAME TYPE TRANSPORT`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().map(|asked| asked.clone()).unwrap_or_default()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

fn waits(socket: &impl std::os::fd::AsFd, stopped: &AtomicBool) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let _again = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout));
    !stopped.load(Ordering::Relaxed)
}

fn over_udp(socket: &UdpSocket, asked: &Asked, stopped: &AtomicBool) {
    let mut buffer = [0; 4096];
    while waits(socket, stopped) {
        while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            let Ok(question) = Message::from_vec(&buffer[..len]) else { continue };
            let Some(mut reply) = answer(&question, "udp", asked) else { continue };
            if label(&question) == "forged" {
                let mut forged = reply.clone();
                forged.metadata.id ^= 1;
                forged.answers.clear();
                let _gone = socket.send_to(&forged.to_vec().unwrap_or_default(), peer);
            }
            let most = question.edns.as_ref().map_or(512, |edns| usize::from(edns.max_payload()));
            if reply.to_vec().is_ok_and(|bytes| bytes.len() > most) {
                reply = reply.truncate();
            }
            let _gone = socket.send_to(&reply.to_vec().unwrap_or_default(), peer);
        }
    }
}

fn over_tcp(listener: &TcpListener, asked: &Asked, stopped: &AtomicBool) {
    while waits(listener, stopped) {
        while let Ok((stream, _)) = listener.accept() {
            // Who asks nothing in time is let go.
            let _gone = one_over_tcp(stream, asked);
        }
    }
}

fn one_over_tcp(mut stream: TcpStream, asked: &Asked) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    let reply = answer(&Message::from_vec(&bytes)?, "tcp", asked).context("no question")?.to_vec()?;
    stream.write_all(&[&u16::try_from(reply.len())?.to_be_bytes()[..], &reply].concat())?;
    Ok(())
}

fn label(question: &Message) -> String {
    let first = question.queries.first().and_then(|query| query.name().iter().next()).unwrap_or_default();
    String::from_utf8_lossy(first).into_owned()
}

fn answer(question: &Message, transport: &str, asked: &Asked) -> Option<Message> {
    let query = question.queries.first()?;
    asked.lock().ok()?.push(format!("{} {} {transport}", query.name(), query.query_type()));
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.metadata.recursion_available = true;
    answer.metadata.authentic_data = true;
    answer.queries.push(query.clone());
    answer.edns.clone_from(&question.edns);
    let mut put = |data: RData| answer.answers.push(Record::from_rdata(query.name().clone(), 60, data));
    match (label(question).as_str(), query.query_type()) {
        ("www" | "forged", RecordType::A) => put(RData::A(A(WWW.into()))),
        ("www", RecordType::AAAA) => put(RData::AAAA(AAAA(WWW6))),
        ("www", RecordType::HTTPS) => put(https()),
        ("large", RecordType::A) => (0..150).for_each(|n| put(RData::A(A::new(192, 0, 2, n)))),
        ("servfail", _) => answer.metadata.response_code = ResponseCode::ServFail,
        _ => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            let zone = Name::from_ascii("example.").ok()?;
            let soa = SOA::new(zone.clone(), zone.clone(), 1, 1, 1, 1, 60);
            answer.authorities.push(Record::from_rdata(zone, 60, RData::SOA(soa)));
        }
    }
    Some(answer)
}

fn https() -> RData {
    let protocols = ["h3", "h2"].map(str::to_owned).to_vec();
    let parameters = vec![
        (SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(protocols))),
        (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![A(WWW.into())]))),
        (SvcParamKey::EchConfigList, SvcParamValue::EchConfigList(EchConfigList(b"ECHCONFIG".to_vec()))),
    ];
    RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), parameters)))
}
