//! Which protocol the first bytes of a connection are.
//!
//! Looks only; what it names is then read strictly by its own reader. A client that waits for the server to speak first
//! has sent nothing: that is [`Sniff::NeedMore`] until the caller's patience ends.
//! A new protocol is one file with one function and one row of [`PROTOCOLS`].

mod http;
mod tls;

use crate::limits::SNIFF_MAX;

/// What the first bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sniff {
    /// They could still become one of our protocols.
    NeedMore,
    /// A TLS ClientHello.
    Tls,
    /// An HTTP/1 request, well-formed or not.
    Http1,
    /// The connection preface of HTTP/2 in plain text.
    Http2Preface,
    /// None of our protocols.
    Unknown,
}

/// What one protocol says of the first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Match {
    /// They are its own.
    Yes,
    /// They are not.
    No,
    /// They could still become its own.
    NeedMore,
}

/// One protocol that can be told by its first bytes.
#[derive(Debug)]
pub struct ProtocolRow {
    /// Its name in config, docs and tests.
    pub name: &'static str,
    /// What [`sniff`] answers when it is recognised.
    pub sniff: Sniff,
    /// Looks at the first bytes, of which there is at least one.
    pub recognise: fn(&[u8]) -> Match,
}

/// Every protocol, most specific first: an earlier row that needs more bytes is waited for.
pub const PROTOCOLS: &[ProtocolRow] = &[
    ProtocolRow { name: "tls", sniff: Sniff::Tls, recognise: tls::recognise },
    ProtocolRow { name: "http2", sniff: Sniff::Http2Preface, recognise: http::recognise_preface },
    ProtocolRow { name: "http", sniff: Sniff::Http1, recognise: http::recognise_request },
];

/// Tells the protocol from all bytes that came so far; never [`Sniff::NeedMore`] at [`SNIFF_MAX`] bytes or more.
#[must_use]
pub fn sniff(first: &[u8]) -> Sniff {
    if first.is_empty() {
        return Sniff::NeedMore;
    }
    for row in PROTOCOLS {
        match (row.recognise)(first) {
            Match::Yes => return row.sniff,
            Match::No => {}
            Match::NeedMore if first.len() >= SNIFF_MAX => {}
            Match::NeedMore => return Sniff::NeedMore,
        }
    }
    Sniff::Unknown
}

/// Compares the first bytes with a fixed start.
fn begins_with(first: &[u8], start: &[u8]) -> Match {
    match start.get(..first.len()) {
        Some(part) if part.len() < start.len() => {
            if part == first {
                Match::NeedMore
            } else {
                Match::No
            }
        }
        _ if first.starts_with(start) => Match::Yes,
        _ => Match::No,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_each_protocol_at_its_first_sufficient_byte() {
        for (bytes, expected, sufficient) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], Sniff::Tls, 6),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Sniff::Http2Preface, 24),
            (b"GET /a HTTP/1.1\r\n", Sniff::Http1, 5),
            (b"\r\nPOST /a HTTP/1.1\r\n", Sniff::Http1, 8),
            (b"OPTIONS * HTTP/1.1\r\n", Sniff::Http1, 15),
            (b"get\t/ HTTP/1.1\n", Sniff::Http1, 11),
            (b"PRI * HTTP/1.1\r\n", Sniff::Http1, 12),
            (b"GET /\n", Sniff::Http1, 5),
            (b"CONNECT a:443 HTTP/1.1\r\n", Sniff::Http1, 19),
            (b"SSH-2.0-x\r\n", Sniff::Unknown, 10),
            (b"PING\r\n", Sniff::Unknown, 5),
            (b"SET a b\r\n", Sniff::Unknown, 8),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Sniff::Unknown, 1),
            (b"\x15\x03\x01", Sniff::Unknown, 1),
            (b"*1\r\n$4\r\nPING\r\n", Sniff::Unknown, 3),
        ] {
            for n in 0..sufficient {
                assert_eq!(sniff(&bytes[..n]), Sniff::NeedMore, "{:?}", String::from_utf8_lossy(&bytes[..n]));
            }
            assert_eq!(sniff(&bytes[..sufficient]), expected, "{:?}", String::from_utf8_lossy(bytes));
            assert_eq!(sniff(bytes), expected);
        }
    }

    #[test]
    fn patience_ends() {
        assert_eq!(sniff(&vec![b'a'; SNIFF_MAX - 1]), Sniff::Unknown);
        assert_eq!(sniff(&[b"\r\n".repeat(SNIFF_MAX)].concat()), Sniff::Unknown);
    }

    proptest! {
        #[test]
        fn an_answer_stays(bytes in proptest::collection::vec(any::<u8>(), 0..64), more in any::<Vec<u8>>()) {
            let before = sniff(&bytes);
            if before != Sniff::NeedMore {
                prop_assert_eq!(sniff(&[bytes, more].concat()), before);
            }
        }
    }
}
