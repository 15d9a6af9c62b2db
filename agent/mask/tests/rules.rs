//! What policies and config ask for: ways to replace, places, custom kinds; and that errors cut off.

use std::sync::Arc;

use callgate_mask::{
    Content, DETECTORS, DetectorError, Detectors, JsonPlaces, MaskError, Masker, PseudonymKey, Rules, kinds_named,
    mask_form, mask_header, mask_text_by,
};
use callgate_model::Masking;

fn key(byte: u8) -> Option<PseudonymKey> {
    Some(PseudonymKey::new(&[byte; PseudonymKey::LENGTH]))
}

fn rules(words: &str) -> Arc<Rules> {
    Rules::new(&Masking::parse(words, kinds_named).unwrap(), Arc::default(), key(1))
}

fn masked(words: &str, text: &str) -> String {
    mask_text_by(&rules(words), text).into_owned()
}

#[test]
fn partial_leaves_what_tells_little() {
    for (words, text, expected) in [
        ("payment_card=partial", "4111 1111 1111 1111", "[payment_card:*1111]"),
        ("email=partial", "ann@example.com", "[email:*@example.com]"),
        ("iban=partial", "DE89 3704 0044 0532 0130 00", "[iban:*3000]"),
        ("email=partial", r"ann\u0040example.com", "[email:*@example.com]"),
        // Decoded twice the domain begins with a byte that is no text.
        ("email=partial", "ann@%25dbexample.com", "[masked:email]"),
    ] {
        assert_eq!(masked(words, text), expected);
        assert_eq!(mask_text_by(&rules("all"), expected), expected, "masked again by all kinds");
    }
}

#[test]
fn partial_is_refused_for_secrets() {
    for detector in DETECTORS.iter().filter(|detector| detector.groups.iter().any(|group| group.name() == "secrets")) {
        assert!(!detector.has_partial(), "{}", detector.name);
        assert!(Masking::parse(&format!("{}=partial", detector.name), kinds_named).is_err());
    }
}

#[test]
fn the_same_value_has_the_same_pseudonym_however_it_is_written() {
    let words = "email=pseudonym,payment_card=pseudonym";
    let one = masked(words, "ann@example.com");
    assert!(one.starts_with("[email:") && !one.contains("ann") && one.len() == "[email:]".len() + 12, "{one}");
    assert_eq!(masked(words, "ANN@example.com"), one);
    assert_eq!(masked(words, "ann%40example.com"), one);
    assert_ne!(masked(words, "bob@example.com"), one);
    assert_eq!(masked(words, "4111 1111 1111 1111"), masked(words, "4111-1111-1111-1111"));
    let other = Rules::new(&Masking::parse(words, kinds_named).unwrap(), Arc::default(), key(2));
    assert_ne!(mask_text_by(&other, "ann@example.com"), one);
}

#[test]
fn pseudonyms_without_a_key_cut_off() {
    for words in ["email=pseudonym", "json:/a=pseudonym"] {
        let rules = Rules::new(&Masking::parse(words, kinds_named).unwrap(), Arc::default(), None);
        let mut out = Vec::new();
        assert_eq!(Masker::by(&rules, Content::Text).push(b"x", &mut out), Err(MaskError::NoKey));
        if let Some(mut places) = JsonPlaces::new(&rules) {
            assert_eq!(places.push(b"{}", &mut out), Err(MaskError::NoKey));
        }
        assert!(out.is_empty());
    }
}

#[test]
fn debug_shows_neither_key_nor_value() {
    let rules = rules("email=pseudonym");
    let mut places = JsonPlaces::new(&self::rules("json:/a")).unwrap();
    places.push(br#"{"a":"secretive"#, &mut Vec::new()).unwrap();
    let shown = format!("{rules:?} {:?} {places:?}", key(77));
    assert!(!shown.contains("77") && !shown.contains("4d4d") && !shown.contains("secretive"), "{shown}");
}

fn placed(words: &str, pieces: &[&[u8]]) -> Result<String, MaskError> {
    let mut places = JsonPlaces::new(&rules(words)).unwrap();
    let mut out = Vec::new();
    for piece in pieces {
        places.push(piece, &mut out)?;
    }
    places.finish(&mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn values_are_masked_by_pointer_at_every_split() {
    for (words, text, expected) in [
        (
            "json:/users/*/email",
            r#"{"users":[{"email":"a","id":1},{"email":null}],"email":"b"}"#,
            r#"{"users":[{"email":"[masked]","id":1},{"email":null}],"email":"b"}"#,
        ),
        ("json:/a", r#"{"a" : 42, "b":-1.5}"#, r#"{"a" : 10, "b":-1.5}"#),
        (
            "json:/a",
            r#"{"a":{"b":[1,"x",{"c":true}],"d":"y"},"e":"z"}"#,
            r#"{"a":{"b":[1,"[masked]",{"c":null}],"d":"[masked]"},"e":"z"}"#,
        ),
        ("json:/1/x~1y", r#"[{"x/y":"a"},{"x\/y":"a\"b\\","z":"c"}]"#, r#"[{"x/y":"a"},{"x\/y":"[masked]","z":"c"}]"#),
        ("json:/p\u{e4}ss", r#"{"p\u00e4ss":"a"}"#, r#"{"p\u00e4ss":"[masked]"}"#),
        ("json:/*", "{\"a\":\"b\"}\n[\"c\"]\n\"d\"", "{\"a\":\"[masked]\"}\n[\"[masked]\"]\n\"d\""),
        ("json:/a", r#"{"a":"one","a":"two"}"#, r#"{"a":"[masked]","a":"[masked]"}"#),
        ("json:/a", r#"{"a":[],"b":{}}"#, r#"{"a":[],"b":{}}"#),
    ] {
        assert_eq!(placed(words, &[text.as_bytes()]).unwrap(), expected, "{words}");
        for at in 0..text.len() {
            let (head, tail) = text.as_bytes().split_at(at);
            assert_eq!(placed(words, &[head, tail]).unwrap(), expected, "{words} cut at {at}");
        }
    }
    let pseudonym = placed("json:/a=pseudonym", &[br#"{"a":"v","b":1}"#]).unwrap();
    assert!(pseudonym.starts_with(r#"{"a":"[value:"#) && pseudonym.ends_with(r#"]","b":1}"#), "{pseudonym}");
}

#[test]
fn what_cannot_be_followed_is_cut_off() {
    let deep = "[".repeat(200);
    let long = format!("{{\"{}\":1}}", "k".repeat(5000));
    for text in ["<html>", "{a:1}", "{\"a\":1", "{\"a\":\"x", "[1,]x", "}", "{\"a\" 1}", "[1}", &deep, &long] {
        assert_eq!(placed("json:/a", &[text.as_bytes()]), Err(MaskError::NotJson), "{}", &text[..text.len().min(20)]);
    }
    let mut places = JsonPlaces::new(&rules("json:/a")).unwrap();
    let mut out = Vec::new();
    assert!(places.push(b"<", &mut out).is_err());
    assert_eq!(places.push(b"{}", &mut out), Err(MaskError::NotJson), "an error is final");
    assert!(out.is_empty());
}

#[test]
fn headers_and_forms_are_masked_by_name() {
    let rules = rules("header:X-Api-Key,form:pass word");
    assert_eq!(mask_header(&rules, "x-API-key", "abc"), "[masked]");
    assert_eq!(mask_header(&rules, "x-other", "abc"), "abc");
    assert_eq!(
        mask_form(&rules, "a=1&pass+word=x%20y&pass%20word=z&b=2"),
        "a=1&pass+word=[masked]&pass%20word=[masked]&b=2"
    );
    assert_eq!(mask_form(&rules, "a=1&b"), "a=1&b");
}

fn custom(rows: &[(&str, &str, Option<&str>)]) -> Result<Detectors, DetectorError> {
    let mut detectors = Detectors::default();
    rows.iter().try_for_each(|(name, pattern, label)| detectors.add(name, pattern, *label))?;
    Ok(detectors)
}

#[test]
fn custom_kinds_are_masked_like_those_of_the_table() {
    let detectors = Arc::new(
        custom(&[("employee", r"\bEMP-\d{4,6}\b", None), ("project", "(?i)project (alpha|beta)", Some("[a project]"))])
            .unwrap(),
    );
    let masking = Masking::parse("custom,email", |word| detectors.kinds_named(word)).unwrap();
    let rules = Rules::new(&masking, Arc::clone(&detectors), None);
    for (text, expected) in [
        (
            "EMP-1234 and EMP-123456, XEMP-1234, EMP-1234567, EMP-123",
            "[masked:employee] and [masked:employee], XEMP-1234, EMP-1234567, EMP-123",
        ),
        ("Project Alpha by ann@example.com", "[a project] by [masked:email]"),
        (r"\u0045MP-1234 RU1QLTEyMzQgYW5kIG1vcmUgdGV4dA==", "[masked:employee] "),
        ("EMP%2D1234", "[masked:employee]"),
        ("EMP-EMP-1234", "EMP-[masked:employee]"),
    ] {
        let whole = mask_text_by(&rules, text).into_owned();
        assert!(whole.starts_with(expected) && !whole.contains("RU1QLTEyMzQ"), "{text}: {whole}");
        for size in 1..text.len() {
            let (mut masker, mut out) = (Masker::by(&rules, Content::Text), Vec::new());
            text.as_bytes().chunks(size).for_each(|piece| masker.push(piece, &mut out).unwrap());
            masker.finish(&mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), whole, "in pieces of {size}");
        }
    }
    let (mut masker, mut out) = (Masker::by(&rules, Content::Text), Vec::new());
    masker.push(b"EMP-1234 ", &mut out).unwrap();
    masker.finish(&mut out).unwrap();
    assert_eq!(masker.findings_by_kind().find(|(name, _)| *name == "employee"), Some(("employee", 1)));
}

#[test]
fn custom_kinds_that_could_not_be_kept_are_refused() {
    for (name, pattern, label, error) in [
        ("a", r"EMP-\d+", None, DetectorError::Unbounded("a".into())),
        ("a", r"x{1,2000}", None, DetectorError::Unbounded("a".into())),
        ("a", r"x{0,3}", None, DetectorError::Empty("a".into())),
        ("email", "abc", None, DetectorError::Name("email".into())),
        ("pii", "abc", None, DetectorError::Name("pii".into())),
        ("A b", "abc", None, DetectorError::Name("A b".into())),
        ("a", "abc", Some("say \"hi\""), DetectorError::Label("a".into())),
        ("a", "masked", None, DetectorError::Label("a".into())),
    ] {
        assert_eq!(custom(&[(name, pattern, label)]).unwrap_err(), error);
    }
    assert!(matches!(custom(&[("a", "(", None)]), Err(DetectorError::Pattern(..))));
    let names: Vec<String> = (0..17).map(|number| format!("kind_{number}")).collect();
    let rows: Vec<_> = names.iter().map(|name| (name.as_str(), "abc", None)).collect();
    assert!(custom(&rows[..16]).is_ok());
    assert_eq!(custom(&rows).unwrap_err(), DetectorError::TooMany);
}
