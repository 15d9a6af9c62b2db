//! hyper sees exactly the requests that the scanner passed: the same number, the same heads, the same bodies.

use callgate_wire::{Framing, Head, TargetForm, Version};
use proptest::prelude::*;

use super::peer::{Seen, serve};
use super::requests::{Request, streams};
use super::{HOST, cases, cut, load, scan};

/// Compares one head with what hyper made of it. `bytes` starts at the head.
fn same_head(head: &Head, bytes: &[u8], seen: &Seen) {
    assert_eq!(head.method, seen.method);
    assert_eq!(head.version == Version::Http10, seen.http10);
    let mut ours: Vec<_> = head
        .fields
        .iter()
        .map(|f| {
            (String::from_utf8(bytes[f.name.clone()].to_ascii_lowercase()).unwrap(), bytes[f.value.clone()].to_vec())
        })
        .collect();
    let mut theirs = seen.fields.clone();
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
    let uri: hyper::Uri = seen.target.parse().unwrap();
    assert_eq!(uri.query(), head.query.as_deref());
    match head.form {
        TargetForm::Asterisk => assert_eq!(uri.path(), "*"),
        _ => assert_eq!(callgate_wire::CanonicalPath::parse(uri.path()).as_ref(), Ok(&head.path)),
    }
    assert_eq!(uri.authority().is_some(), head.form == TargetForm::Absolute);
    match (head.framing, &seen.body) {
        (Framing::None, Some(body)) => assert!(body.is_empty()),
        (Framing::Length(length), Some(body)) => assert_eq!(length, body.len() as u64),
        (Framing::Chunked, _) | (_, None) => {}
    }
}

#[test]
fn hyper_sees_what_passed_of_every_case() {
    for case in load::load() {
        let bytes = case.bytes(HOST);
        let outcome = scan([bytes.as_slice()]);
        let (seen, whole) = serve(&[&outcome.out]);
        assert_eq!(seen.len(), outcome.heads.len(), "{}", case.name);
        let mut at = 0;
        for (head, seen) in outcome.heads.iter().zip(&seen) {
            let start = find(&outcome.out[at..], head) + at;
            same_head(head, &outcome.out[start..], seen);
            at = start + head.length;
        }
        if case.is_accepted() {
            assert!(whole && seen.iter().all(|s| s.body.is_some()), "{}: hyper refused a part of it", case.name);
        } else if scan([outcome.out.as_slice()]).result.is_err() {
            // The refusal was within a body.
            assert_eq!(seen.last().unwrap().body, None, "{}: hyper took a refused body as complete", case.name);
        }
    }
}

/// Where a head begins: at its request line or the empty line before it.
fn find(bytes: &[u8], head: &Head) -> usize {
    let start = format!("{} ", head.method);
    let found = bytes.windows(start.len()).position(|w| w == start.as_bytes()).unwrap();
    // An empty line before it belongs to the head: its spans say so.
    let line = |at: usize| bytes[at..].windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    if line(found) == head.length { found } else { found - 2 }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn hyper_sees_valid_requests_as_we_do(requests in streams(), places in prop::collection::vec(any::<usize>(), 0..6)) {
        let bytes: Vec<u8> = requests.iter().flat_map(Request::bytes).collect();
        let outcome = scan(cut(&bytes, &places));
        prop_assert_eq!(outcome.result, Ok(()));
        // Requests behind one that ends the connection are dropped.
        let last = requests.iter().position(|r| !r.keep_alive()).map_or(requests.len(), |i| i + 1);
        prop_assert_eq!(outcome.heads.len(), last);
        let passed: Vec<u8> = requests[..last].iter().flat_map(Request::bytes).collect();
        prop_assert_eq!(&outcome.out, &passed);
        let (seen, whole) = serve(&cut(&outcome.out, &places));
        prop_assert!(whole);
        prop_assert_eq!(seen.len(), last);
        for ((request, head), seen) in requests.iter().zip(&outcome.heads).zip(&seen) {
            same_head(head, &request.bytes(), seen);
            prop_assert_eq!(seen.body.as_ref(), Some(&request.body()));
            prop_assert_eq!(seen.trailers, request.trailers());
        }
    }

    #[test]
    fn hyper_sees_no_more_than_passed_of_mangled_requests(
        requests in streams(),
        edits in prop::collection::vec((any::<usize>(), prop::sample::select(&b"\r\n\0 \t:;,/%AaZz019\x0b\x7f\xff"[..])), 1..4),
        insert in any::<bool>(),
    ) {
        let mut bytes: Vec<u8> = requests.iter().flat_map(Request::bytes).collect();
        for (place, byte) in edits {
            let place = place % bytes.len();
            if insert { bytes.insert(place, byte) } else { bytes[place] = byte }
        }
        let outcome = scan([bytes.as_slice()]);
        let (seen, _) = serve(&[&outcome.out]);
        prop_assert_eq!(seen.len(), outcome.heads.len());
        for (head, seen) in outcome.heads.iter().zip(&seen) {
            prop_assert_eq!((&head.method, head.fields.len()), (&seen.method, seen.fields.len()));
        }
        // Whatever is not the last was passed whole.
        for seen in seen.iter().rev().skip(1) {
            prop_assert!(seen.body.is_some());
        }
    }
}
