//! Every row of the corpus does what it says.

use std::collections::HashSet;

use callgate_wire::{HeadError, Sniff, sniff};

use super::{HOST, cut, load, scan};

#[test]
fn every_case_ends_as_expected() {
    let mut wrong = Vec::new();
    for case in load::load() {
        let bytes = case.bytes(HOST);
        let outcome = scan([bytes.as_slice()]);
        let word = outcome.result.map_or_else(HeadError::as_str, |()| "accept");
        let path = outcome.heads.last().map(|h| h.path.to_string());
        let path_fits = case.path.is_none() || case.path == path;
        if word != case.expect || outcome.heads.len() != case.heads() || !path_fits {
            wrong.push(format!(
                "{}: {word}, {} heads, path {path:?}, expected {case:?}",
                case.name,
                outcome.heads.len()
            ));
        }
        assert!(
            bytes.starts_with(&outcome.out) || outcome.heads.iter().any(|h| !h.keep_alive),
            "{}: bytes were changed",
            case.name
        );
        if case.expect == "accept" && outcome.heads.iter().all(|h| h.keep_alive) {
            assert_eq!(outcome.out, bytes, "{}: bytes were held back", case.name);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_cut_anywhere_changes_nothing() {
    for case in load::load() {
        let bytes = case.bytes(HOST);
        let whole = scan([bytes.as_slice()]);
        assert_eq!(scan(bytes.chunks(1)), whole, "{}, byte by byte", case.name);
        let step = 1 + bytes.len() / 400;
        for place in (0..bytes.len()).step_by(step) {
            assert_eq!(scan(cut(&bytes, &[place])), whole, "{}, cut at {place}", case.name);
        }
    }
}

#[test]
fn is_large_distinct_and_names_every_error() {
    let cases = load::load();
    assert!(cases.len() >= 140, "{} cases", cases.len());
    let names: HashSet<_> = cases.iter().map(|c| &c.name).collect();
    assert_eq!(names.len(), cases.len(), "names are distinct");
    assert!(cases.iter().all(|c| !c.why.is_empty()));
    let words: HashSet<_> = cases.iter().map(|c| c.expect.as_str()).collect();
    for error in HeadError::ALL.iter().filter(|e| **e != HeadError::Malformed) {
        assert!(words.contains(error.as_str()), "no case for `{}`", error.as_str());
    }
    for word in words {
        assert!(word == "accept" || word.parse::<HeadError>().is_ok(), "`{word}` is no error");
    }
}

#[test]
fn every_case_is_recognised_as_http_and_so_gets_its_answer() {
    for case in load::load() {
        let expected = if case.name == "http2-preface" { Sniff::Http2Preface } else { Sniff::Http1 };
        assert_eq!(sniff(&case.bytes(HOST)), expected, "{}", case.name);
    }
}
