//! The head scanner: the same verdict at every cut, nothing behind a fault, and httparse reads what it released alike.

use callgate_wire::{Framing, Head, HeadError, HeadRules, HeadScanner, Version};

use crate::pieces;

const PLAIN: HeadRules = HeadRules { tls: false, default_port: 80 };
const FIELDS_MAX: usize = 256;

#[derive(Debug, PartialEq)]
struct Outcome {
    out: Vec<u8>,
    heads: Vec<Head>,
    result: Result<(), HeadError>,
}

pub fn run(data: &[u8]) -> bool {
    let whole = scan(&[data]);
    pieces::each(data, |pieces| assert_eq!(scan(pieces), whole));
    bypassing(data, &whole);
    assert!(data.starts_with(&whole.out), "what is released is what came");
    follow(&whole);
    whole.result.is_ok() && !whole.heads.is_empty()
}

/// Sends the pieces through a scanner and ends the stream; every request to upgrade is refused at the end.
fn scan(pieces: &[&[u8]]) -> Outcome {
    let mut scanner = HeadScanner::new(PLAIN);
    let (mut out, mut heads) = (Vec::new(), Vec::new());
    for piece in pieces {
        if let Err(error) = scanner.push(piece, &mut out, &mut heads) {
            silent(&mut scanner, error);
            break;
        }
    }
    while scanner.awaits_upgrade() {
        if let Err(error) = scanner.refuse_upgrade(&mut out, &mut heads) {
            silent(&mut scanner, error);
        }
    }
    Outcome { out, heads, result: scanner.finish() }
}

/// After a fault nothing passes any more, and the fault stays.
fn silent(scanner: &mut HeadScanner, error: HeadError) {
    let (mut out, mut heads) = (Vec::new(), Vec::new());
    for more in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\r\n", b"0\r\n\r\n"] {
        assert_eq!(scanner.push(more, &mut out, &mut heads), Err(error));
        assert_eq!(scanner.pass(more), 0);
    }
    assert!(out.is_empty() && heads.is_empty() && scanner.finish() == Err(error));
}

/// Bytes of bodies need not be pushed: what `pass` says is what would have been released.
fn bypassing(data: &[u8], whole: &Outcome) {
    let mut scanner = HeadScanner::new(PLAIN);
    let (mut out, mut heads) = (Vec::new(), Vec::new());
    for piece in data.chunks(7) {
        let direct = scanner.pass(piece);
        out.extend_from_slice(&piece[..direct]);
        if scanner.push(&piece[direct..], &mut out, &mut heads).is_err() {
            break;
        }
    }
    if !scanner.awaits_upgrade() && whole.heads.iter().all(|head| head.upgrade.is_none()) {
        assert_eq!((out, heads), (whole.out.clone(), whole.heads.clone()));
    }
}

/// Walks over what was released with httparse as the only guide.
fn follow(outcome: &Outcome) {
    let mut rest = &outcome.out[..];
    for (place, head) in outcome.heads.iter().enumerate() {
        same(head, rest);
        rest = &rest[head.length..];
        let body = match head.framing {
            Framing::None => Some(0),
            Framing::Length(length) => usize::try_from(length).ok().filter(|length| *length <= rest.len()),
            Framing::Chunked => chunked(rest),
        };
        let last = place + 1 == outcome.heads.len();
        match body {
            Some(length) => rest = &rest[length..],
            None => {
                assert!(last && outcome.result.is_err(), "a message that is not whole is the last");
                return;
            }
        }
        assert!(last || head.keep_alive, "a request follows one that ends the connection");
    }
    assert!(rest.is_empty(), "bytes were released that belong to no request");
}

fn same(head: &Head, bytes: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(head.length)));
    assert_eq!(request.method, Some(head.method.as_str()));
    assert_eq!(request.version, Some(u8::from(head.version == Version::Http11)));
    assert_eq!(request.headers.len(), head.fields.len());
    for (theirs, ours) in request.headers.iter().zip(&head.fields) {
        assert_eq!(theirs.name.as_bytes(), &bytes[ours.name.clone()]);
        assert_eq!(theirs.value, &bytes[ours.value.clone()]);
    }
    let hosts = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host")).count();
    assert_eq!(hosts, 1, "one Host");
}

/// Length of a chunked body that begins here; none if it is not whole.
fn chunked(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(&bytes[at..]) else {
            return None;
        };
        at += line;
        if size == 0 {
            let mut trailers = [httparse::EMPTY_HEADER; FIELDS_MAX];
            return match httparse::parse_headers(&bytes[at..], &mut trailers) {
                Ok(httparse::Status::Complete((length, _))) => Some(at + length),
                _ => None,
            };
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
}
