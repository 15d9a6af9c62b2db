//! The output does not depend on how the input was cut, nothing that could be part of a finding comes out early, and
//! memory is bounded.

use callgate_mask::{Content, DETECTORS, Masker, kinds_named};
use callgate_model::MaskKinds;
use proptest::prelude::*;

/// What stands around a sample: it may touch, extend or imitate it.
const AROUND: [(&str, &str); 6] = [
    ("", ""),
    ("plain text before ", " and after"),
    (r#"{"key":"\n"#, r#"\n","n":4111111111111111}"#),
    ("x-4 5", "-7 8.x"),
    ("------ eyJ %4 AK ", " -----BE ey \\u00"),
    ("ann@example.com.", "@example.com"),
];

fn mask(kinds: MaskKinds, content: Content, pieces: &[&[u8]]) -> Vec<u8> {
    let mut masker = Masker::new(kinds, content);
    let mut out = Vec::new();
    for piece in pieces {
        masker.push(piece, &mut out).unwrap();
        assert!(masker.held() <= Masker::HELD_MAX);
    }
    masker.finish(&mut out).unwrap();
    out
}

fn whole(content: Content, text: &[u8]) -> Vec<u8> {
    mask(all(), content, &[text])
}

fn all() -> MaskKinds {
    kinds_named("all").unwrap().union(kinds_named("private_ip").unwrap())
}

fn texts() -> impl Iterator<Item = &'static str> {
    DETECTORS.iter().flat_map(|detector| {
        detector.samples.iter().map(|sample| sample.text).chain(detector.near_misses.iter().copied())
    })
}

#[test]
fn every_sample_at_every_split_gives_the_same_bytes() {
    for text in texts() {
        for (before, after) in AROUND {
            let text = format!("{before}{text}{after}");
            let text = text.as_bytes();
            for content in [Content::Text, Content::Json] {
                let expected = whole(content, text);
                for at in 1..text.len() {
                    let (head, tail) = text.split_at(at);
                    assert_eq!(mask(all(), content, &[head, tail]), expected, "cut at {at}");
                }
                let bytes: Vec<&[u8]> = text.chunks(1).collect();
                assert_eq!(mask(all(), content, &bytes), expected, "byte by byte");
            }
        }
    }
}

#[test]
fn short_samples_at_every_two_splits_give_the_same_bytes() {
    for text in texts().filter(|text| text.len() <= 64) {
        let text = format!("a {text} z");
        let text = text.as_bytes();
        let expected = whole(Content::Json, text);
        for first in 0..text.len() {
            for second in first..text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(mask(all(), Content::Json, &pieces), expected, "cut at {first} and {second}");
            }
        }
    }
}

/// Every prefix of every sample: what is out by then is a prefix of what comes out in the end.
#[test]
fn nothing_comes_out_that_is_masked_later() {
    for text in texts() {
        let expected = whole(Content::Text, text.as_bytes());
        for upto in 0..text.len() {
            let mut masker = Masker::new(all(), Content::Text);
            let mut out = Vec::new();
            masker.push(&text.as_bytes()[..upto], &mut out).unwrap();
            assert!(expected.starts_with(&out), "{text} up to {upto}: {}", String::from_utf8_lossy(&out));
        }
    }
}

#[test]
fn clean_text_is_hardly_held_back() {
    let text =
        "The quick brown fox, having paid 12.50 on 2026-11-22, jumps over \"the lazy dog\" (id 4711).\n".repeat(40);
    let mut held: Vec<usize> = (0..text.len())
        .map(|upto| {
            let mut masker = Masker::new(all(), Content::Text);
            masker.push(&text.as_bytes()[..upto], &mut Vec::new()).unwrap();
            masker.held()
        })
        .collect();
    held.sort_unstable();
    assert!(held[held.len() / 2] <= 8, "median {}", held[held.len() / 2]);
    assert!(held[held.len() - 1] <= 24, "most {}", held[held.len() - 1]);
}

#[test]
fn memory_is_bounded_on_streams_made_to_be_held() {
    let endless: [&[u8]; 9] = [
        b"eyJhbGciOiJIUzI1NiJ9",
        b"eyJ",
        b"a.",
        b"4111 ",
        b"1",
        b"-----BEGIN ",
        b"\\",
        b"ann@a",
        b"aws_secret_access_key = ",
    ];
    for unit in endless {
        let text = unit.repeat(100_000 / unit.len());
        let mut masker = Masker::new(all(), Content::Text);
        let mut out = Vec::new();
        for piece in text.chunks(1000) {
            masker.push(piece, &mut out).unwrap();
            assert!(masker.held() <= Masker::HELD_MAX, "{}", String::from_utf8_lossy(unit));
        }
        masker.finish(&mut out).unwrap();
        assert_eq!(out, whole(Content::Text, &text));
    }
}

#[test]
fn an_endless_private_key_is_dropped_as_it_comes() {
    let mut masker = Masker::new(all(), Content::Text);
    let mut out = Vec::new();
    masker.push(b"-----BEGIN PRIVATE KEY-----\n", &mut out).unwrap();
    for _ in 0..1000 {
        masker.push(&b"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\n".repeat(20), &mut out).unwrap();
        assert!(masker.held() <= 256);
    }
    masker.push(b"-----END PRIVATE KEY-----\ndone", &mut out).unwrap();
    masker.finish(&mut out).unwrap();
    assert_eq!(out, b"[masked:pem_private_key]\ndone");
}

#[test]
fn a_token_with_a_header_beyond_all_measure_is_masked() {
    let token = format!("eyJhbGciOi{}.eyJzdWIiOiIx.c2ln tail", "A".repeat(20_000));
    assert_eq!(whole(Content::Text, token.as_bytes()), b"[masked:jwt] tail");
    let blob = format!("eyJ2ZXJzaW9uIjo{}.eyJzdWIiOiIx tail", "A".repeat(20_000));
    assert_eq!(whole(Content::Text, blob.as_bytes()), blob.as_bytes());
}

/// Pieces of text that detectors care about, to be strung together at random.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let texts: Vec<&'static str> = texts().collect();
    let odd = [
        "@",
        ".",
        "-",
        "--",
        "-----",
        "\\",
        "\\n",
        "\\u00",
        "\\u0040",
        "%",
        "%40",
        "%4",
        "eyJ",
        "AKIA",
        "4111",
        " ",
        "\"",
        "1111",
        "1111 1111 1111",
        "ecret",
        "secret_access_key",
        "=",
        "é",
        "\n",
        "ImFsZy",
        ".com",
        "-----BEGIN PRIVATE",
        " KEY-----",
        "-----END",
        "0",
        "0.",
    ];
    prop_oneof![
        4 => proptest::sample::select(texts).prop_map(|text| text.as_bytes().to_vec()),
        6 => proptest::sample::select(odd.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        2 => "[ -~]{0,40}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => "[a-z ]{100,900}".prop_map(String::into_bytes),
    ]
}

/// JSON text, with everything beyond ASCII escaped if so asked.
fn written(document: &serde_json::Value, ascii: bool) -> String {
    let escape = |unit: &u16| match u8::try_from(*unit).ok().filter(u8::is_ascii) {
        Some(byte) => char::from(byte).to_string(),
        None => format!("\\u{unit:04x}"),
    };
    let text = document.to_string();
    if ascii { text.encode_utf16().collect::<Vec<_>>().iter().map(escape).collect() } else { text }
}

fn cases() -> ProptestConfig {
    // Read by the test alone; `cargo xtask test --full` sets it.
    let full = std::env::var_os("CALLGATE_FULL").is_some_and(|value| value == "1");
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if full { 200_000 } else { 2_000 }) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_text_at_any_splits_gives_the_same_bytes(
        fragments in proptest::collection::vec(fragment(), 0..12),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        json in any::<bool>(),
    ) {
        let text = fragments.concat();
        let content = if json { Content::Json } else { Content::Text };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(text.len());
        let mut from = 0;
        let mut pieces = Vec::new();
        for cut in cuts {
            pieces.push(&text[from..cut]);
            from = cut;
        }
        let expected = whole(content, &text);
        prop_assert_eq!(mask(all(), content, &pieces), expected.clone());
        prop_assert_eq!(mask(all(), content, &text.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_sample_between_blanks_never_survives(
        before in "[ -~]{0,80}",
        sample in proptest::sample::select(
            DETECTORS.iter().flat_map(|detector| detector.samples).map(|sample| sample.text).collect::<Vec<_>>()
        ),
        after in "[ -~]{0,80}",
    ) {
        let text = format!("{before}  {sample}  {after}");
        let masked = whole(Content::Text, text.as_bytes());
        prop_assert!(!String::from_utf8(masked).unwrap().contains(sample));
    }

    #[test]
    fn json_stays_json_at_any_depth(
        fragments in proptest::collection::vec(fragment(), 0..8),
        numbers in proptest::collection::vec(prop_oneof![any::<u64>(), Just(4_111_111_111_111_111)], 0..4),
        depth in 0..4,
        ascii in any::<bool>(),
    ) {
        let text = String::from_utf8_lossy(&fragments.concat()).into_owned();
        let mut document = serde_json::json!({ "text": text, "numbers": numbers, "fraction": 0.4111111111111111 });
        for _ in 0..depth {
            document = serde_json::json!([written(&document, ascii), 4_111_111_111_111_111_u64]);
        }
        let masked = whole(Content::Json, written(&document, ascii).as_bytes());
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&masked).is_ok(), "{}", String::from_utf8_lossy(&masked));
    }

    #[test]
    fn text_stays_utf8(text in "\\PC{0,60}@\\PC{0,60}") {
        prop_assert!(String::from_utf8(whole(Content::Text, text.as_bytes())).is_ok());
    }
}
