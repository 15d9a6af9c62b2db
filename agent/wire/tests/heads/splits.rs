//! What passes does not depend on how the stream was cut, and no bytes make it panic or hold much.

use callgate_wire::limits::HEAD_MAX;
use callgate_wire::{HeadScanner, sniff};
use proptest::prelude::*;

use super::requests::{Request, streams};
use super::{HOST, PLAIN, cases, cut, load, scan};

/// Bytes that look like requests: rows of the corpus with some bytes changed.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let rows: Vec<Vec<u8>> = load::load().iter().map(|c| c.bytes(HOST)).filter(|b| b.len() < 2_000).collect();
    let edits = prop::collection::vec((any::<usize>(), any::<u8>()), 0..3);
    (prop::collection::vec(prop::sample::select(rows), 1..3), edits).prop_map(|(rows, edits)| {
        let mut bytes = rows.concat();
        for (place, byte) in edits {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn cuts_change_nothing(bytes in mangled(), places in prop::collection::vec(any::<usize>(), 0..12)) {
        prop_assert_eq!(scan(cut(&bytes, &places)), scan([bytes.as_slice()]));
    }

    #[test]
    fn cuts_change_nothing_of_valid_requests(requests in streams(), places in prop::collection::vec(any::<usize>(), 0..12)) {
        let bytes: Vec<u8> = requests.iter().flat_map(Request::bytes).collect();
        prop_assert_eq!(scan(cut(&bytes, &places)), scan([bytes.as_slice()]));
    }

    #[test]
    fn what_bypasses_the_buffer_is_what_would_pass(requests in streams(), places in prop::collection::vec(any::<usize>(), 0..12)) {
        let bytes: Vec<u8> = requests.iter().flat_map(Request::bytes).collect();
        let mut scanner = HeadScanner::new(PLAIN);
        let (mut out, mut heads) = (Vec::new(), Vec::new());
        for piece in cut(&bytes, &places) {
            let direct = scanner.pass(piece);
            out.extend_from_slice(&piece[..direct]);
            scanner.push(&piece[direct..], &mut out, &mut heads).unwrap();
        }
        let whole = scan([bytes.as_slice()]);
        prop_assert_eq!((out, heads), (whole.out, whole.heads));
    }

    #[test]
    fn nothing_panics(bytes in any::<Vec<u8>>(), prefix in prop::sample::select(&["", "GET / HTTP/1.1\r\nHost: a\r\n"][..])) {
        let _ = sniff(&bytes);
        let bytes = [prefix.as_bytes(), &bytes].concat();
        prop_assert_eq!(scan(bytes.chunks(1)), scan([bytes.as_slice()]));
    }
}

#[test]
fn whatever_is_held_is_bounded() {
    for start in [
        "GET / HTTP/1.1\r\nX: ",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ] {
        let mut scanner = HeadScanner::new(PLAIN);
        let (mut out, mut heads) = (Vec::new(), Vec::new());
        scanner.push(start.as_bytes(), &mut out, &mut heads).unwrap();
        let passed = out.len();
        let mut sent = 0;
        while scanner.push(&[b'0'; 1000], &mut out, &mut heads).is_ok() {
            sent += 1000;
            assert!(sent <= HEAD_MAX, "held {sent} bytes after {start:?}");
        }
        assert_eq!(out.len(), passed);
    }
}
