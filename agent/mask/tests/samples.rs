//! What is found and what is not, driven by the table of detectors, and how findings are replaced.

use callgate_mask::{Content, DETECTORS, MaskError, Masker, kinds_named, mask_text};
use callgate_model::MaskKinds;

fn masked(kinds: MaskKinds, content: Content, text: &str) -> (String, u64) {
    let mut masker = Masker::new(kinds, content);
    let mut out = Vec::new();
    masker.push(text.as_bytes(), &mut out).unwrap();
    masker.finish(&mut out).unwrap();
    (String::from_utf8(out).unwrap(), masker.findings())
}

fn all() -> MaskKinds {
    kinds_named("all").unwrap()
}

fn json(text: &str) -> String {
    masked(all(), Content::Json, text).0
}

#[test]
fn samples_become_what_the_table_says() {
    for detector in DETECTORS {
        for sample in detector.samples {
            let (text, findings) = masked(detector.kind(), Content::Text, sample.text);
            assert_eq!(text, sample.masked, "{}: {}", detector.name, sample.text);
            assert_eq!(findings, sample.masked.matches(detector.label).count() as u64, "{}", sample.text);
            assert_eq!(mask_text(detector.kind(), sample.text), sample.masked);
        }
    }
}

#[test]
fn near_misses_pass_untouched() {
    for detector in DETECTORS {
        for text in detector.near_misses {
            assert_eq!(masked(detector.kind(), Content::Text, text), ((*text).to_owned(), 0), "{}", detector.name);
        }
    }
}

#[test]
fn a_kind_that_is_not_asked_for_is_left_alone() {
    for detector in DETECTORS {
        for sample in detector.samples {
            let others = MaskKinds(all().0 & !detector.kind().0);
            let (text, _) = masked(others, Content::Text, sample.text);
            assert!(!text.contains(detector.label), "{text}");
        }
    }
}

#[test]
fn nothing_is_masked_when_nothing_is_asked_for() {
    for sample in DETECTORS.iter().flat_map(|detector| detector.samples) {
        assert_eq!(masked(MaskKinds::NONE, Content::Json, sample.text), (sample.text.to_owned(), 0));
    }
}

#[test]
fn masking_twice_changes_nothing_more() {
    for sample in DETECTORS.iter().flat_map(|detector| detector.samples) {
        for content in [Content::Text, Content::Json] {
            let once = masked(all(), content, sample.text).0;
            assert_eq!(masked(all(), content, &once), (once.clone(), 0));
        }
    }
}

#[test]
fn a_number_in_json_stays_a_number() {
    for (text, expected) in [
        (r#"{"pan":4111111111111111}"#, r#"{"pan":1000000000000000}"#),
        (r#"{"pan": 4111111111111111 }"#, r#"{"pan": 1000000000000000 }"#),
        (r#"[378282246310005,-4111111111111111,1]"#, r#"[100000000000000,-1000000000000000,1]"#),
        (r#"[4111111111111111.50]"#, r#"[1000000000000000.50]"#),
        ("[\n    4111111111111111\n]", "[\n    1000000000000000\n]"),
        ("4111111111111111", "1000000000000000"),
        ("{\"a\":1}\n4111111111111111\n", "{\"a\":1}\n1000000000000000\n"),
        (r#"{"in":"{\"pan\":4111111111111111}"}"#, r#"{"in":"{\"pan\":1000000000000000}"}"#),
        (r#"{"pan":"4111111111111111"}"#, r#"{"pan":"[masked:payment_card]"}"#),
        (r#"{"note":"paid by 4111111111111111 today"}"#, r#"{"note":"paid by [masked:payment_card] today"}"#),
        (r#"{"in":"{\"pan\":\"4111111111111111\"}"}"#, r#"{"in":"{\"pan\":\"[masked:payment_card]\"}"}"#),
    ] {
        assert_eq!(json(text), expected);
    }
}

/// Whatever stands in a JSON document, as a string at any depth or as a number, it can be parsed afterwards.
#[test]
fn json_stays_json() {
    let texts = DETECTORS.iter().flat_map(|detector| {
        detector.samples.iter().map(|sample| sample.text).chain(detector.near_misses.iter().copied())
    });
    for text in texts {
        for lead in ["", "\n", "\t", "é", "\u{2014}", "\\", "\"", "x: ", "n", "u00", "\u{7f}\u{0}"] {
            let mut document = serde_json::json!({ "a": [format!("{lead}{text}{lead}"), 4_111_111_111_111_111_u64] });
            for _depth in 0..4 {
                let written = document.to_string();
                let escaped = written.replace('é', "\\u00e9").replace('/', "\\/");
                for written in [written, escaped] {
                    let masked = json(&written);
                    assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok(), "{written}\n{masked}");
                }
                document = serde_json::json!([document.to_string(), text]);
            }
        }
    }
}

#[test]
fn findings_are_counted_by_kind() {
    let mut masker = Masker::new(all(), Content::Text);
    let mut out = Vec::new();
    masker.push(b"a@b.example c@d.example AKIAIOSFODNN7EXAMPLE", &mut out).unwrap();
    masker.finish(&mut out).unwrap();
    let counts: Vec<_> = masker.findings_by_kind().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, [("email", 2), ("aws_key", 1)]);
}

#[test]
fn refuses_kinds_it_does_not_know() {
    let mut masker = Masker::new(MaskKinds(1 << 63 | 1), Content::Text);
    let mut out = Vec::new();
    assert_eq!(masker.push(b"anything", &mut out), Err(MaskError::UnknownKind));
    assert_eq!(masker.finish(&mut out), Err(MaskError::UnknownKind));
    assert!(out.is_empty());
}

#[test]
fn refuses_bytes_after_the_end() {
    let mut masker = Masker::new(all(), Content::Text);
    let mut out = Vec::new();
    masker.finish(&mut out).unwrap();
    assert_eq!(masker.push(b"late", &mut out), Err(MaskError::Ended));
    assert_eq!(masker.finish(&mut out), Err(MaskError::Ended));
    assert!(out.is_empty());
}

#[test]
fn debug_shows_no_byte_of_the_stream() {
    let mut masker = Masker::new(all(), Content::Text);
    let mut out = Vec::new();
    masker.push(b"secretive@exam", &mut out).unwrap();
    let shown = format!("{masker:?} {:?}", DETECTORS);
    assert!(!shown.contains("secretive") && !shown.contains("115, 101"), "{shown}");
    assert_eq!(masker.held(), "secretive@exam".len());
}
