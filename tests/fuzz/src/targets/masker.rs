//! The masker: the same bytes at every cut, JSON stays JSON, text stays text, and masked is masked.

use std::sync::{Arc, LazyLock};

use callgate_mask::{Content, Masker, PseudonymKey, Rules, kinds_named, mask_text_by};
use callgate_model::{MaskKinds, Masking};
use serde::de::IgnoredAny;

use crate::pieces;

/// What all labels begin with.
const LABEL: &[u8] = b"[masked:";

/// Everything, each in one way.
static EVERY_WAY: LazyLock<[Arc<Rules>; 3]> = LazyLock::new(|| {
    ["all,private_ip", "all=partial,private_ip", "all=pseudonym,private_ip=pseudonym"].map(|words| {
        let masking = Masking::parse(words, kinds_named).expect("words of policies");
        Rules::new(&masking, Arc::default(), Some(PseudonymKey::new(&[7; PseudonymKey::LENGTH])))
    })
});

pub fn run(data: &[u8]) -> bool {
    let mut found = false;
    for content in [Content::Text, Content::Json] {
        for (way, rules) in EVERY_WAY.iter().enumerate() {
            let (masked, findings) = mask(rules, content, &[data]);
            found |= findings > 0;
            if findings == 0 {
                assert_eq!(masked, data, "changed without a finding");
            }
            assert!(std::str::from_utf8(data).is_err() || std::str::from_utf8(&masked).is_ok(), "text became none");
            if content == Content::Json && is_json(data) {
                assert!(is_json(&masked), "JSON became none: {}", masked.escape_ascii());
            }
            // The ways differ in what is put in a place only; cutting one of them anew each time is enough.
            if way == data.len() % EVERY_WAY.len() {
                pieces::each(data, |pieces| assert_eq!(mask(rules, content, pieces).0, masked));
            }
        }
    }
    stays_masked(data);
    agrees_with_text(data);
    nothing_asked_nothing_done(data);
    found
}

fn mask(rules: &Arc<Rules>, content: Content, pieces: &[&[u8]]) -> (Vec<u8>, u64) {
    let mut masker = Masker::by(rules, content);
    let mut out = Vec::new();
    for piece in pieces {
        masker.push(piece, &mut out).expect("small inputs are never too much");
        assert!(masker.held() <= Masker::HELD_MAX);
    }
    masker.finish(&mut out).expect("small inputs are never too much");
    (out, masker.findings())
}

/// What was put in the place of findings is left alone when it is masked again. Beside it there may be more to find:
/// a key that was no key with a digit before it is one behind a bracket.
fn stays_masked(data: &[u8]) {
    let labels = |bytes: &[u8]| bytes.windows(LABEL.len()).filter(|window| *window == LABEL).count();
    for content in [Content::Text, Content::Json] {
        let (once, found) = mask(&EVERY_WAY[0], content, &[data]);
        let (twice, more) = mask(&EVERY_WAY[0], content, &[&once]);
        let kept = labels(&twice) >= labels(&once);
        assert!(kept, "{} and then {}", once.escape_ascii(), twice.escape_ascii());
        assert!(found > 0 || more == 0, "found only the second time");
    }
}

/// A text that comes whole is masked as a stream is.
fn agrees_with_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let rules = &EVERY_WAY[0];
    assert_eq!(mask_text_by(rules, text).as_bytes(), mask(rules, Content::Text, &[data]).0);
}

fn nothing_asked_nothing_done(data: &[u8]) {
    assert_eq!(mask(&Rules::redact(MaskKinds::NONE), Content::Json, &[data]), (data.to_vec(), 0));
}

fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}
