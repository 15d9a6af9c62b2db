//! What the masker sees through: each encoding, stacked, and at every split.

use callgate_mask::{Content, DETECTORS, Masker, kinds_named};
use callgate_model::MaskKinds;
use proptest::prelude::*;

fn mask(kinds: MaskKinds, content: Content, pieces: &[&[u8]]) -> String {
    let mut masker = Masker::new(kinds, content);
    let mut out = Vec::new();
    for piece in pieces {
        masker.push(piece, &mut out).unwrap();
    }
    masker.finish(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn all() -> MaskKinds {
    kinds_named("all").unwrap().union(kinds_named("private_ip").unwrap())
}

/// A way to write text, and to read it again.
#[derive(Clone, Copy, Debug)]
enum Coding {
    Unicode,
    Percent,
    Decimal,
    Hexadecimal,
    Json,
    Base64,
    Base64Url,
}

const CODINGS: [Coding; 7] = [
    Coding::Unicode,
    Coding::Percent,
    Coding::Decimal,
    Coding::Hexadecimal,
    Coding::Json,
    Coding::Base64,
    Coding::Base64Url,
];

impl Coding {
    fn encode(self, text: &str) -> String {
        let each = |write: &dyn Fn(u8) -> String| text.bytes().map(write).collect::<String>();
        match self {
            Self::Unicode => text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect(),
            Self::Percent => each(&|byte| format!("%{byte:02X}")),
            Self::Decimal => text.chars().map(|char| format!("&#{};", char as u32)).collect(),
            Self::Hexadecimal => text.chars().map(|char| format!("&#x{:x};", char as u32)).collect(),
            Self::Json => serde_json::Value::String(text.to_owned()).to_string().replace('/', "\\/"),
            Self::Base64 => base64(text.as_bytes(), b'+', b'/', true),
            Self::Base64Url => base64(text.as_bytes(), b'-', b'_', false),
        }
    }

    /// What `text` says; escapes may have plain text between them.
    fn decode(self, text: &str) -> String {
        let mut out = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let (length, bytes) = match self {
                Self::Json => return serde_json::from_str(text).unwrap(),
                Self::Base64 | Self::Base64Url => return String::from_utf8(unbase64(text)).unwrap(),
                Self::Unicode if rest.starts_with("\\u") => {
                    let unit = u16::from_str_radix(&rest[2..6], 16).unwrap();
                    (6, char::from_u32(unit.into()).unwrap().to_string().into_bytes())
                }
                Self::Percent if first == '%' => (3, vec![u8::from_str_radix(&rest[1..3], 16).unwrap()]),
                Self::Decimal | Self::Hexadecimal if rest.starts_with("&#") => {
                    let end = rest.find(';').unwrap();
                    let digits = rest[2..end].trim_start_matches('x');
                    let radix = if rest[2..].starts_with('x') { 16 } else { 10 };
                    let code = u32::from_str_radix(digits, radix).unwrap();
                    (end + 1, char::from_u32(code).unwrap().to_string().into_bytes())
                }
                _ => (first.len_utf8(), first.to_string().into_bytes()),
            };
            out.extend(bytes);
            rest = &rest[length..];
        }
        String::from_utf8(out).unwrap()
    }
}

fn base64(bytes: &[u8], plus: u8, slash: u8, padded: bool) -> String {
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            match bits >> (18 - 6 * at) & 63 {
                _ if at > group.len() => out.push_str(if padded { "=" } else { "" }),
                six @ 0..26 => out.push((b'A' + six as u8) as char),
                six @ 26..52 => out.push((b'a' + six as u8 - 26) as char),
                six @ 52..62 => out.push((b'0' + six as u8 - 52) as char),
                62 => out.push(plus as char),
                _ => out.push(slash as char),
            }
        }
    }
    out
}

fn unbase64(text: &str) -> Vec<u8> {
    let text = text.trim_end_matches('=').as_bytes();
    let value = |char: &u8| match char {
        b'A'..=b'Z' => char - b'A',
        b'a'..=b'z' => char - b'a' + 26,
        b'0'..=b'9' => char - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => panic!("no base64: {char}"),
    };
    let groups = text.chunks(4).flat_map(|group| {
        let bits = group.iter().fold(0_u32, |bits, char| bits << 6 | u32::from(value(char))) << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..][..group.len() * 3 / 4].to_vec()
    });
    groups.collect()
}

/// Samples that have no escapes of their own, with what becomes of them.
fn plain() -> impl Iterator<Item = (MaskKinds, &'static str, &'static str)> {
    DETECTORS.iter().flat_map(|detector| {
        let plain = |text: &str| text.is_ascii() && !text.contains(['\\', '%', '&']);
        let samples = detector.samples.iter().filter(move |sample| plain(sample.text));
        samples.map(|sample| (detector.kind(), sample.text, sample.masked))
    })
}

/// What fills up base64 behind a label.
fn unfilled(text: &str) -> String {
    text.replace('.', "")
}

#[test]
fn every_sample_is_masked_in_every_encoding() {
    for (kinds, text, masked) in plain() {
        for coding in CODINGS {
            let encoded = format!("{}\n", coding.encode(&format!("{text}|the end of it")));
            let out = mask(kinds, Content::Text, &[encoded.as_bytes()]);
            let decoded = coding.decode(out.trim_end());
            assert_eq!(
                unfilled(&decoded),
                unfilled(&format!("{masked}|the end of it")),
                "{coding:?}: {text}\n{encoded}\n{out}"
            );
        }
    }
}

#[test]
fn every_sample_is_masked_in_every_two_encodings() {
    for (kinds, text, masked) in plain() {
        for inner in CODINGS {
            for outer in CODINGS {
                if matches!(inner, Coding::Base64 | Coding::Base64Url)
                    && matches!(outer, Coding::Base64 | Coding::Base64Url)
                {
                    continue;
                }
                let encoded = outer.encode(&inner.encode(&format!("{text}|the end of it")));
                let out = mask(kinds, Content::Text, &[encoded.as_bytes()]);
                let decoded = inner.decode(&outer.decode(&out));
                assert_eq!(
                    unfilled(&decoded),
                    unfilled(&format!("{masked}|the end of it")),
                    "{inner:?} in {outer:?}: {text}"
                );
            }
        }
    }
}

#[test]
fn three_encodings_are_seen_through_and_the_text_stays_valid() {
    for (coding, expected) in [
        ([Coding::Json, Coding::Json, Coding::Json], "to [masked:email], please"),
        ([Coding::Json, Coding::Base64, Coding::Json], "to [masked:email], please"),
        ([Coding::Percent, Coding::Unicode, Coding::Base64Url], "to [masked:email], please"),
        ([Coding::Decimal, Coding::Json, Coding::Percent], "to [masked:email], please"),
    ] {
        let encoded = coding.iter().fold("to ann@example.com, please".to_owned(), |text, coding| coding.encode(&text));
        let out = mask(all(), Content::Text, &[encoded.as_bytes()]);
        let decoded = coding.iter().rev().fold(out, |text, coding| coding.decode(&text));
        assert_eq!(unfilled(&decoded), expected, "{coding:?}");
    }
}

#[test]
fn look_alike_characters_hide_nothing() {
    for text in [
        "4111\u{2013}1111\u{2013}1111\u{2013}1111",
        "4111\u{a0}1111\u{a0}1111\u{a0}1111",
        "4111.1111.1111.1111",
        "4111/1111/1111/1111",
        "４１１１１１１１１１１１１１１１",
        "4111&nbsp;1111&nbsp;1111&nbsp;1111",
        r"4111\u00a01111\u00a01111\u00a01111",
        "4111\u{200b}111111111111",
    ] {
        assert_eq!(mask(all(), Content::Text, &[text.as_bytes()]), "[masked:payment_card]", "{text}");
    }
    assert_eq!(mask(all(), Content::Text, &["ann＠example.com".as_bytes()]), "[masked:email]");
}

#[test]
fn a_key_in_base64_as_kubernetes_keeps_it_is_masked_whole() {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n";
    let key = format!("-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\n", line.repeat(25));
    let text = format!("  tls.key: {}\n  tls.crt: none\n", Coding::Base64.encode(&key));
    let out = mask(all(), Content::Text, &[text.as_bytes()]);
    let value = out.strip_prefix("  tls.key: ").unwrap().strip_suffix("\n  tls.crt: none\n").unwrap();
    assert_eq!(unfilled(&Coding::Base64.decode(value)), "[masked:pem_private_key]\n");
}

#[test]
fn encoded_text_without_findings_is_left_alone() {
    for text in ["nothing to hide in here, really", "{\"a\":[1,2,3],\"b\":\"c/d\"}", "4111 1111 1111 1112"] {
        for inner in CODINGS {
            for outer in CODINGS {
                let encoded = outer.encode(&inner.encode(text));
                assert_eq!(mask(all(), Content::Json, &[encoded.as_bytes()]), encoded);
            }
        }
    }
}

fn splits(text: &str, content: Content, step: usize) {
    let text = text.as_bytes();
    let expected = mask(all(), content, &[text]);
    for at in (1..text.len()).step_by(step) {
        let (head, tail) = text.split_at(at);
        assert_eq!(mask(all(), content, &[head, tail]), expected, "cut at {at}");
    }
    assert_eq!(mask(all(), content, &text.chunks(1).collect::<Vec<_>>()), expected, "byte by byte");
    assert_eq!(mask(all(), content, &text.chunks(7).collect::<Vec<_>>()), expected, "seven at a time");
}

#[test]
fn encoded_samples_at_every_split_give_the_same_bytes() {
    for detector in DETECTORS {
        for (number, sample) in detector.samples.iter().enumerate() {
            for coding in CODINGS {
                let text = format!("{{\"a\":{}, ", coding.encode(sample.text));
                splits(&text, Content::Json, if number == 0 { 1 } else { 17 });
            }
        }
    }
}

#[test]
fn stacked_samples_at_splits_give_the_same_bytes() {
    for detector in DETECTORS {
        let text = detector.samples[0].text;
        for (inner, outer) in CODINGS.into_iter().flat_map(|inner| CODINGS.map(|outer| (inner, outer))) {
            splits(&format!("[{}]", outer.encode(&inner.encode(text))), Content::Text, 41);
        }
    }
}

/// A token that swallows base64 of which a part is swallowed by itself.
#[test]
fn what_is_swallowed_in_two_encodings_is_dropped_at_every_split() {
    let key = r#"["-----BEGIN PRIVATE KEY-----","MC4CAQAwBQYDK2VwBCIEIJ1h","-----END PRIVATE KEY-----"]"#;
    for lead in 0..6 {
        let key = format!("{}{key}", "x".repeat(lead));
        for coding in CODINGS {
            let text = format!("eyJhbGciOiJub25lIn0.e30.{}", Coding::Base64Url.encode(&coding.encode(&key)));
            assert_eq!(mask(all(), Content::Text, &[text.as_bytes()]), "[masked:jwt]");
            splits(&text, Content::Text, 1);
        }
    }
}

/// What says nothing and lies between two pieces of what is swallowed goes with them.
#[test]
fn invisible_characters_within_what_is_swallowed_are_dropped_at_every_split() {
    let text = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQ\u{feff}YDK2VwBCIEIJ1h\n-----END PRIVATE KEY-----\n.";
    assert_eq!(mask(all(), Content::Text, &[text.as_bytes()]), "[masked:pem_private_key]\n.");
    splits(text, Content::Text, 1);
    for coding in CODINGS {
        splits(&coding.encode(text), Content::Text, 1);
    }
}

/// Whatever is out after any prefix stays as it is in the end.
#[test]
fn nothing_comes_out_that_is_masked_later() {
    for text in DETECTORS.iter().map(|detector| detector.samples[0].text) {
        for coding in CODINGS {
            let text = format!("a {}", coding.encode(text));
            let expected = mask(all(), Content::Text, &[text.as_bytes()]);
            for upto in 0..text.len() {
                let mut masker = Masker::new(all(), Content::Text);
                let mut out = Vec::new();
                masker.push(&text.as_bytes()[..upto], &mut out).unwrap();
                assert!(
                    expected.as_bytes().starts_with(&out),
                    "{text} up to {upto}: {}",
                    String::from_utf8_lossy(&out)
                );
            }
        }
    }
}

fn fragment() -> impl Strategy<Value = String> {
    let texts: Vec<&'static str> =
        DETECTORS.iter().flat_map(|detector| detector.samples).map(|sample| sample.text).collect();
    let odd = [
        "\\", "\\u00", "%4", "%25", "&#", "&amp;", "=", "/", "ann@", "\u{a0}", "１", "-----", "eyJ", "YW5u", "\"", "+",
    ];
    let coded = (proptest::sample::select(texts.clone()), 0..CODINGS.len(), 0..CODINGS.len());
    prop_oneof![
        3 => proptest::sample::select(texts).prop_map(str::to_owned),
        3 => coded.prop_map(|(text, inner, outer)| CODINGS[outer].encode(&CODINGS[inner].encode(text))),
        3 => proptest::sample::select(odd.to_vec()).prop_map(str::to_owned),
        1 => "[ -~]{0,30}",
        1 => "[A-Za-z0-9+/]{0,60}",
    ]
}

fn cases() -> ProptestConfig {
    // Read by the test alone; `cargo xtask test --full` sets it.
    let full = std::env::var_os("CALLGATE_FULL").is_some_and(|value| value == "1");
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if full { 20_000 } else { 500 }) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_encoded_text_at_any_splits_gives_the_same_bytes(
        fragments in proptest::collection::vec(fragment(), 0..8),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        json in any::<bool>(),
    ) {
        let text = fragments.concat();
        let text = text.as_bytes();
        let content = if json { Content::Json } else { Content::Text };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
        let expected = mask(all(), content, &[text]);
        prop_assert_eq!(mask(all(), content, &pieces), expected.clone());
        prop_assert_eq!(mask(all(), content, &text.chunks(1).collect::<Vec<_>>()), expected);
    }
}
