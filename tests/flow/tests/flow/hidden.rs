//! Answers in a form that would hide sensitive data from the masker: refused, whatever the service says of them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;
use callgate_model::{Reason, RecordKind};

use crate::gate::{FlowGate, GateConfig, ends};

const POLICIES: &str = r#"
@id("masked")
@mask("pii")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal");
"#;

/// What must not come through.
const SECRET: &str = "ann@example.com";

/// A service that answers each connection's first request with `answer`, byte for byte.
fn canned(answer: Vec<u8>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        // Ends with the test's process; each test makes one call.
        let Ok((mut stream, _)) = listener.accept() else { return };
        let mut head = [0; 4096];
        let _ = stream.read(&mut head);
        let _ = stream.write_all(&answer);
    });
    Ok(address)
}

/// The caller's view of `answer`, and the reason in the record.
fn through(answer: Vec<u8>) -> Result<(String, Reason)> {
    let destination = canned(answer)?;
    let gate = FlowGate::start(&GateConfig { names: &["users.internal"], ..GateConfig::new(POLICIES, destination) })?;
    let mut stream = TcpStream::connect(gate.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /v1/users/1 HTTP/1.1\r\nhost: users.internal\r\nconnection: close\r\n\r\n")?;
    let mut seen = Vec::new();
    stream.read_to_end(&mut seen)?;
    let records = gate.records("the call's end", |records| ends(records) == 1)?;
    let kept = format!("{records:?}");
    assert!(!kept.contains(SECRET), "{kept}");
    let reason = records.iter().find_map(|record| match &record.kind {
        RecordKind::End(end) => Some(end.reason),
        _ => None,
    });
    Ok((String::from_utf8_lossy(&seen).into_owned(), reason.expect("there is an end")))
}

#[test]
fn a_transfer_coding_other_than_chunked_is_refused() -> Result<()> {
    let body = format!("{:x}\r\n{SECRET}\r\n0\r\n\r\n", SECRET.len());
    for coding in ["gzip, chunked", "identity, chunked", "x-unknown, chunked"] {
        let (seen, reason) = through(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {coding}\r\n\r\n{body}").into())?;
        assert!(seen.starts_with("HTTP/1.1 502") && !seen.contains(SECRET), "{coding}: {seen}");
        assert_eq!(reason, Reason::UpstreamProtocol, "{coding}");
    }
    Ok(())
}

#[test]
fn text_that_is_not_ascii_based_is_refused() -> Result<()> {
    let wide: Vec<u8> = SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-16le\r\ncontent-length: {}\r\n\r\n",
        wide.len()
    )
    .into_bytes();
    answer.extend_from_slice(&wide);
    let (seen, reason) = through(answer)?;
    assert!(seen.starts_with("HTTP/1.1 502"), "{seen}");
    assert_eq!(reason, Reason::Unmaskable);
    Ok(())
}

#[test]
fn a_piece_of_a_body_is_refused() -> Result<()> {
    let answer = format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-14/15\r\ncontent-length: {}\r\n\r\n{SECRET}",
        SECRET.len()
    );
    let (seen, reason) = through(answer.into())?;
    assert!(seen.starts_with("HTTP/1.1 502") && !seen.contains(SECRET), "{seen}");
    assert_eq!(reason, Reason::Unmaskable);
    Ok(())
}
