//! DNS over TCP: a connection to port 53 is answered by the resolver, and each of its questions recorded.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use callgate_model::{DnsRecord, DnsTransport, Mode, Outcome, Reason, RecordKind};

use crate::gate::{FlowGate, GateConfig};

/// A question for the addresses of `name`, with its length before it.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = [&id.to_be_bytes()[..], b"\x01\x00\0\x01\0\0\0\0\0\0"].concat();
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend(b"\0\0\x01\0\x01");
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

/// Id and code of an answer; none at the end.
type Answer = Option<(u16, u8)>;

fn answer(stream: &mut TcpStream) -> Result<Answer> {
    let mut length = [0; 2];
    if stream.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..])?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(Some((u16::from_be_bytes([message[0], message[1]]), message[3] & 0xf)))
}

fn asked(config: &GateConfig<'_>, bytes: &[u8], answers: usize) -> Result<(FlowGate, Vec<Answer>)> {
    let gate = FlowGate::start(config)?;
    let mut stream = TcpStream::connect(gate.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(bytes)?;
    let found = (0..answers).map(|_| answer(&mut stream)).collect::<Result<_>>()?;
    Ok((gate, found))
}

fn dns(gate: &FlowGate, count: usize) -> Result<Vec<DnsRecord>> {
    let records = gate.records("the questions", |records| {
        records.iter().filter(|record| matches!(record.kind, RecordKind::Dns(_))).count() >= count
            && records.iter().any(|record| matches!(record.kind, RecordKind::Connection(_)))
    })?;
    let of = |kind| match kind {
        RecordKind::Dns(dns) => Some(*dns),
        _ => None,
    };
    Ok(records.into_iter().filter_map(|record| of(record.kind)).collect())
}

const HOSTILE: &str = "mzxw6ytboi5gk3tdmfzwk4tfmnzgk5bamrqxiyjam5xwk4z.t.example";

#[test]
fn questions_on_a_connection_are_answered_in_turn_and_recorded() -> Result<()> {
    let config = GateConfig::new("", "192.0.2.53:53".parse()?);
    let both = [question(1, "www.example"), question(2, HOSTILE)].concat();
    let (gate, answers) = asked(&config, &both, 2)?;
    // There is nobody to ask, so what may be asked fails.
    assert_eq!(answers, [Some((1, 2)), Some((2, 5))]);
    let records = dns(&gate, 2)?;
    assert_eq!((records[0].name.as_str(), records[0].reason), ("www.example", Reason::Permitted));
    assert_eq!((records[1].rcode.as_str(), records[1].reason), ("REFUSED", Reason::DnsName));
    for record in &records {
        assert_eq!((record.transport, record.destination.as_str()), (DnsTransport::Tcp, "192.0.2.53:53"));
        assert_eq!((record.workload.as_str(), record.query_type.as_str()), ("run/flow", "A"));
        assert!(record.session.is_some() && !record.observed);
    }
    Ok(())
}

#[test]
fn what_is_observed_is_not_refused() -> Result<()> {
    let config = GateConfig { mode: Mode::Observe, ..GateConfig::new("", "192.0.2.53:53".parse()?) };
    let (gate, answers) = asked(&config, &question(3, HOSTILE), 1)?;
    assert_eq!(answers, [Some((3, 2))]);
    let records = dns(&gate, 1)?;
    assert!(records[0].observed && records[0].reason == Reason::DnsName, "{records:?}");
    Ok(())
}

#[test]
fn what_is_no_question_ends_the_connection() -> Result<()> {
    let config = GateConfig::new("", "192.0.2.53:53".parse()?);
    // An answer, and another protocol: 18245 bytes are announced and never come.
    let mut response = question(4, "www.example");
    response[4] |= 0x80;
    let (_gate, answers) = asked(&config, &response, 1)?;
    assert_eq!(answers, [None]);
    let gate = FlowGate::start(&config)?;
    let mut stream = TcpStream::connect(gate.address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    assert_eq!(answer(&mut stream)?, None);
    let cut = |kind: &RecordKind| matches!(kind, RecordKind::Connection(end) if end.outcome == Outcome::Cut);
    gate.records("the connection", |records| records.iter().any(|record| cut(&record.kind)))?;
    Ok(())
}
