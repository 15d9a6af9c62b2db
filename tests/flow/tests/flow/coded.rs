//! Answers in content codings: decoded, masked, coded again, and recorded in plain; bombs and broken ones are cut off.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use callgate_harness::samples;
use callgate_model::{Outcome, Reason, Record, RecordKind};
use compression_codecs::core::Level;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::{
    BrotliDecoder, BrotliEncoder, DecodeV2, EncodeV2, GzipDecoder, GzipEncoder, ZlibDecoder, ZlibEncoder, ZstdDecoder,
    ZstdEncoder,
};

use crate::gate::{FlowGate, GateConfig, ends};

const MASKED: &str = r#"
@id("masked")
@mask("pii")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal");
"#;

const OPEN: &str = r#"
@id("open")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal");
"#;

const CODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

fn encoded(coding: &str, text: &[u8]) -> Vec<u8> {
    let mut codec: Box<dyn EncodeV2> = match coding {
        "gzip" => Box::new(GzipEncoder::new(Level::Best.into())),
        "deflate" => Box::new(ZlibEncoder::new(Level::Best.into())),
        "br" => Box::new(BrotliEncoder::new(Default::default())),
        _ => Box::new(ZstdEncoder::new(3)),
    };
    let mut out = vec![0; text.len() + 4096];
    let mut space = WriteBuffer::new_initialized(&mut out);
    let mut input = PartialBuffer::new(text);
    while !input.unwritten().is_empty() {
        codec.encode(&mut input, &mut space).expect("it encodes");
    }
    while !codec.finish(&mut space).expect("it ends") {}
    let written = space.written_len();
    out.truncate(written);
    out
}

/// What of `coded` can be decoded, and whether it was all.
fn decoded(coding: &str, coded: &[u8]) -> (Vec<u8>, bool) {
    let mut codec: Box<dyn DecodeV2> = match coding {
        "gzip" => Box::new(GzipDecoder::new()),
        "deflate" => Box::new(ZlibDecoder::new()),
        "br" => Box::new(BrotliDecoder::new()),
        _ => Box::new(ZstdDecoder::new()),
    };
    let mut out = vec![0; 1 << 20];
    let mut space = WriteBuffer::new_initialized(&mut out);
    let mut input = PartialBuffer::new(coded);
    let mut ended = false;
    while !input.unwritten().is_empty() && !ended {
        ended = codec.decode(&mut input, &mut space).unwrap_or(false);
    }
    let _ = codec.flush(&mut space);
    let written = space.written_len();
    out.truncate(written);
    (out, ended)
}

/// A service that sends `parts`, waiting between them until the test lets it go on.
fn service(parts: Vec<Vec<u8>>) -> Result<(SocketAddr, std::sync::mpsc::Sender<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (go_on, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let _ = stream.read(&mut [0; 4096]);
        for part in parts {
            let _ = stream.write_all(&part);
            if wait.recv().is_err() {
                return;
            }
        }
    });
    Ok((address, go_on))
}

fn answer(codings: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: {codings}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// What the caller gets: head and body, chunks taken off.
fn through(policies: &str, parts: Vec<Vec<u8>>) -> Result<(String, Vec<u8>, Vec<Record>)> {
    let (destination, go_on) = service(parts)?;
    drop(go_on);
    let gate = FlowGate::start(&GateConfig { names: &["users.internal"], ..GateConfig::new(policies, destination) })?;
    let mut stream = TcpStream::connect(gate.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET /v1/users/1 HTTP/1.1\r\nhost: users.internal\r\nconnection: close\r\n\r\n")?;
    let mut seen = Vec::new();
    let _ = stream.read_to_end(&mut seen);
    let records = gate.records("the call's end", |records| ends(records) == 1)?;
    // A body that breaks at once takes its head with it.
    let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok((String::new(), seen, records));
    };
    let head = String::from_utf8_lossy(&seen[..end]).to_lowercase();
    let body = if head.contains("transfer-encoding") { unchunked(&seen[end + 4..]) } else { seen[end + 4..].to_vec() };
    Ok((head, body, records))
}

/// As much as is there.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&rest[..line]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(length) = length.filter(|length| *length > 0 && rest.len() >= line + 4 + length) else { break };
        body.extend_from_slice(&rest[line + 2..line + 2 + length]);
        rest = &rest[line + 4 + length..];
    }
    body
}

fn recorded(records: &[Record]) -> String {
    let chunk = |record: &Record| match &record.kind {
        RecordKind::Chunk(chunk) => chunk.data.clone(),
        _ => Vec::new(),
    };
    String::from_utf8_lossy(&records.iter().flat_map(chunk).collect::<Vec<u8>>()).into_owned()
}

fn ending(records: &[Record]) -> Option<(Outcome, Reason)> {
    records.iter().find_map(|record| match &record.kind {
        RecordKind::End(end) => Some((end.outcome, end.reason)),
        _ => None,
    })
}

#[test]
fn coded_answers_are_masked_within_their_coding() -> Result<()> {
    let text = samples::user_json(7);
    for coding in CODINGS {
        let (head, body, records) = through(MASKED, vec![answer(coding, &encoded(coding, text.as_bytes()))])?;
        assert!(head.contains(&format!("content-encoding: {coding}")), "{head}");
        let (plain, ended) = decoded(coding, &body);
        let plain = String::from_utf8(plain)?;
        assert!(ended && plain.contains(&samples::name(7)), "{coding}: {plain}");
        for secret in [samples::email(7), samples::card(7)] {
            assert!(!plain.contains(&secret) && !recorded(&records).contains(&secret), "{coding}: {plain}");
        }
        assert!(recorded(&records).contains(&samples::name(7)), "{coding}: {}", recorded(&records));
    }
    Ok(())
}

#[test]
fn two_codings_are_taken_off_and_put_on_again() -> Result<()> {
    let inner = encoded("br", samples::user_json(7).as_bytes());
    let (_, body, _) = through(MASKED, vec![answer("br, gzip", &encoded("gzip", &inner))])?;
    let (plain, _) = decoded("br", &decoded("gzip", &body).0);
    let plain = String::from_utf8(plain)?;
    assert!(plain.contains(&samples::name(7)) && !plain.contains(&samples::email(7)), "{plain}");
    Ok(())
}

#[test]
fn what_policy_does_not_mask_passes_as_it_is_and_is_recorded_masked() -> Result<()> {
    for coding in CODINGS {
        let coded = encoded(coding, samples::user_json(7).as_bytes());
        let (_, body, records) = through(OPEN, vec![answer(coding, &coded)])?;
        assert_eq!(body, coded, "{coding}");
        let kept = recorded(&records);
        assert!(kept.contains(&samples::name(7)) && !kept.contains(&samples::email(7)), "{coding}: {kept}");
    }
    Ok(())
}

#[test]
fn unknown_stacked_and_broken_codings_never_pass_unmasked() -> Result<()> {
    let text = samples::user_json(7);
    let coded = encoded("gzip", text.as_bytes());
    let refused =
        [("compress", text.as_bytes()), ("gzip, gzip, gzip", &coded), ("br, x", &coded), ("dcb", text.as_bytes())];
    for (codings, body) in refused {
        let (head, body, records) = through(MASKED, vec![answer(codings, body)])?;
        assert!(head.starts_with("http/1.1 502"), "{codings}: {head}");
        assert!(!String::from_utf8_lossy(&body).contains(&samples::email(7)), "{codings}");
        assert_eq!(ending(&records), Some((Outcome::Cut, Reason::Unmaskable)), "{codings}");
    }
    // Announced as gzip and plain in truth, or followed by something plain: cut off, never passed.
    let tail = [&coded[..], text.as_bytes()].concat();
    for body in [text.as_bytes(), &tail, &coded[..coded.len() - 3]] {
        let (_, seen, records) = through(MASKED, vec![answer("gzip", body)])?;
        assert!(!String::from_utf8_lossy(&seen).contains(&samples::email(7)));
        assert_eq!(ending(&records), Some((Outcome::Cut, Reason::Unmaskable)));
    }
    Ok(())
}

#[test]
fn a_bomb_is_cut_off() -> Result<()> {
    let bomb = encoded("gzip", &vec![b' '; 64 << 20]);
    let (_, body, records) = through(MASKED, vec![answer("gzip", &bomb)])?;
    assert!(body.len() < 1 << 20, "{}", body.len());
    assert_eq!(ending(&records), Some((Outcome::Cut, Reason::Unmaskable)));
    Ok(())
}

#[test]
fn an_event_is_given_on_before_the_next_one_comes() -> Result<()> {
    for coding in CODINGS {
        let event = format!("data: {{\"from\":\"{}\"}}\n\n", samples::email(1));
        // One member for each event, as a service that flushes would send it.
        let coded = encoded(coding, event.as_bytes());
        let cut = if matches!(coding, "gzip" | "zstd") { coded.len() } else { coded.len() - 1 };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            coded.len() + 1
        );
        let (destination, go_on) = service(vec![[head.as_bytes(), &coded[..cut]].concat(), coded[cut..].to_vec()])?;
        let config = GateConfig::new(MASKED, destination);
        let gate = FlowGate::start(&GateConfig { names: &["users.internal"], ..config })?;
        let mut stream = TcpStream::connect(gate.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /v1/users/1 HTTP/1.1\r\nhost: users.internal\r\n\r\n")?;
        let mut seen = Vec::new();
        let plain = loop {
            let mut piece = [0; 4096];
            let n = stream.read(&mut piece).with_context(|| format!("{coding}: the event did not come"))?;
            assert!(n > 0, "{coding}: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..n]);
            let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let plain = String::from_utf8_lossy(&decoded(coding, &unchunked(&seen[end + 4..])).0).into_owned();
            if plain.contains("}\n") {
                break plain;
            }
        };
        assert!(plain.starts_with("data: ") && !plain.contains(&samples::email(1)), "{coding}: {plain}");
        drop(go_on);
    }
    Ok(())
}
