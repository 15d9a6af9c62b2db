//! Asking an upstream: over UDP, over TCP where the answer was cut off, one upstream after the other.
//!
//! Each question has a socket of its own, so a source port of the kernel's choice, and a random id: who cannot see the
//! question cannot answer it. Sockets are the agent's, in its own cgroup and network namespace.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tracing::debug;

use crate::question::Question;

/// Longest datagram that we ask for. Unit: bytes. Source: DNS flag day 2020: passes every path unfragmented.
const PAYLOAD: u16 = 1_232;

/// Rounds over all upstreams. Source: the C library's `attempts`, resolv.conf(5).
const ROUNDS: usize = 2;

/// An upstream's answer and its length.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) message: Message,
    pub(crate) size: usize,
}

/// Asks until one gives an answer; a failure that an upstream reports is passed on where no other does better.
pub(crate) async fn forward(question: &Question, upstreams: &[SocketAddr], timeout: Duration) -> Option<Forwarded> {
    let (mut failure, mut failures) = (None, 0);
    for upstream in upstreams.iter().cycle().take(upstreams.len() * ROUNDS) {
        let asked = tokio::time::timeout(timeout, ask(question, *upstream)).await;
        match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(answer) => match answer.message.metadata.response_code {
                ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp | ResponseCode::FormErr => {
                    failure = Some(answer);
                    failures += 1;
                    // The second round is for upstreams that did not answer at all.
                    if failures == upstreams.len() {
                        break;
                    }
                }
                _ => return Some(answer),
            },
            Err(error) => debug!(%upstream, %error, "an upstream resolver did not answer"),
        }
    }
    failure
}

/// # Cancel safety
/// Dropping the future closes its sockets.
async fn ask(question: &Question, upstream: SocketAddr) -> io::Result<Forwarded> {
    let answer = over_udp(question, upstream, true).await?;
    // An upstream that knows no EDNS says so.
    let answer = match answer.message.metadata.response_code {
        ResponseCode::FormErr | ResponseCode::NotImp => over_udp(question, upstream, false).await?,
        _ => answer,
    };
    if answer.message.metadata.truncation { over_tcp(question, upstream).await } else { Ok(answer) }
}

async fn over_udp(question: &Question, upstream: SocketAddr, edns: bool) -> io::Result<Forwarded> {
    let any: SocketAddr =
        if upstream.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    let sent = message(question, edns);
    socket.send(&encoded(&sent)?).await?;
    let mut buffer = [0; 4_096];
    loop {
        let size = socket.recv(&mut buffer).await?;
        // Anything else may be a late answer, or forged: the right one may still come.
        if let Some(message) = answer_to(&sent, &buffer[..size]) {
            return Ok(Forwarded { message, size });
        }
    }
}

async fn over_tcp(question: &Question, upstream: SocketAddr) -> io::Result<Forwarded> {
    let socket = if upstream.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let mut stream = socket.connect(upstream).await?;
    let sent = message(question, true);
    let bytes = encoded(&sent)?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    let size = usize::from(stream.read_u16().await?);
    let mut buffer = vec![0; size];
    stream.read_exact(&mut buffer).await?;
    let message = answer_to(&sent, &buffer).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Forwarded { message, size })
}

/// What goes upstream: nothing of the client's but name, type and two flags.
fn message(question: &Question, edns: bool) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = question.checking_disabled;
    message.queries.push(Query::query(question.name.clone(), question.query_type()));
    if edns {
        let mut ours = Edns::new();
        ours.set_max_payload(PAYLOAD).set_dnssec_ok(question.dnssec_ok());
        message.edns = Some(ours);
    }
    message
}

fn encoded(message: &Message) -> io::Result<Vec<u8>> {
    message.to_vec().map_err(io::Error::other)
}

/// The message in `bytes`, if it answers `sent`.
fn answer_to(sent: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let same = answer.metadata.id == sent.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.metadata.op_code == sent.metadata.op_code;
    // Some repeat no question when they report that they could not read it.
    let unread = answer.queries.is_empty() && answer.metadata.response_code == ResponseCode::FormErr;
    (same && (unread || answer.queries == sent.queries)).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::tests::{query, question};
    use hickory_proto::rr::{Name, RecordType};

    #[test]
    fn nothing_of_the_client_goes_upstream_but_the_question() {
        let mut asked = query("WwW.eXample.com.", RecordType::HTTPS);
        asked.metadata.authentic_data = true;
        let mut edns = Edns::new();
        edns.options_mut().insert(hickory_proto::rr::rdata::opt::EdnsOption::Unknown(65_001, b"secret".to_vec()));
        asked.edns = Some(edns);
        let sent = message(&question(&asked), true);
        let bytes = sent.to_vec().unwrap();
        assert!(bytes.windows(15).any(|part| part == b"\x07example\x03com\0\0A"), "{bytes:?}");
        assert!(!bytes.windows(6).any(|part| part == b"secret"));
        assert!(
            sent.metadata.id != asked.metadata.id || message(&question(&asked), true).metadata.id != sent.metadata.id
        );
        assert!(!sent.metadata.authentic_data);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let sent = query("a.example.", RecordType::A);
        let right = sent.clone().into_response();
        assert!(answer_to(&sent, &right.to_vec().unwrap()).is_some());
        assert!(answer_to(&sent, &sent.to_vec().unwrap()).is_none(), "a question");
        let mut other = right.clone();
        other.metadata.id ^= 1;
        assert!(answer_to(&sent, &other.to_vec().unwrap()).is_none(), "another id");
        let mut other = right.clone();
        other.queries[0].set_name(Name::from_ascii("b.example.").unwrap());
        assert!(answer_to(&sent, &other.to_vec().unwrap()).is_none(), "another name");
        let mut other = right;
        other.queries.clear();
        assert!(answer_to(&sent, &other.to_vec().unwrap()).is_none(), "no question");
    }
}
