//! E-mail addresses.
//!
//! Local parts and domains may be written in letters beyond ASCII (UTF-8, two bytes).
//! Wider than RFC 5321 where that costs little; a domain must have a dot and end in something like a top-level domain.

use super::{Detector, Find, Gate, Leading, Outcome, Partial, Sample};
use crate::class::Class;
use crate::escape;
use crate::gate::Shapes;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

/// Longest local part. Unit: bytes. Source: RFC 5321 §4.5.3.1.1.
const LOCAL_MAX: usize = 64;

/// Longest domain. Unit: bytes. Source: RFC 5321 §4.5.3.1.2.
const DOMAIN_MAX: usize = 255;

/// Letters of two UTF-8 bytes, U+00C0 to U+07FF: lead bytes and continuations.
const LETTERS: Class = Class::ALNUM.range(0x80, 0xbf).range(0xc3, 0xdf);

/// What a local part is written with. Of RFC 5322's `atext` the bytes that delimit in URLs, JSON and code are left out.
static LOCAL: Class = LETTERS.bytes(b"._%+-'");

/// What a label of a domain is written with.
static LABEL: Class = LETTERS.bytes(b"-");

/// Pictures for dense screens are called `icon@2x.png`.
const PICTURES: [&[u8]; 7] = [b"png", b"jpg", b"jpeg", b"gif", b"webp", b"svg", b"avif"];

pub(super) const DETECTOR: Detector = Detector {
    name: "email",
    bit: 0,
    groups: &[Group::Pii],
    label: "[masked:email]",
    gate: Gate { byte: Some(b'@'), literals: &[], shapes: Shapes::NONE },
    longest: 6 + DOMAIN_MAX + 2,
    leading: Leading { class: &LOCAL, most: LOCAL_MAX },
    find: Find::By(find),
    unbounded: false,
    partial: Partial::Domain,
    samples: &[
        Sample { text: "john.doe+news@mail.example.co.uk", masked: "[masked:email]" },
        Sample { text: "a@b.co, <c_d@e-f.org>.", masked: "[masked:email], <[masked:email]>." },
        Sample { text: "write to ops@example.com.", masked: "write to [masked:email]." },
        Sample { text: r#"{"mail":"o'brien@example.com"}"#, masked: r#"{"mail":"[masked:email]"}"# },
        Sample { text: r#"["one\nann@example.com\n"]"#, masked: r#"["one\n[masked:email]\n"]"# },
        Sample { text: r#"{"in":"{\"to\":\"ann@example.com\"}"}"#, masked: r#"{"in":"{\"to\":\"[masked:email]\"}"}"# },
        Sample { text: "q=1&to=ann%40example.com&x=%20", masked: "q=1&to=[masked:email]&x=%20" },
        Sample { text: r"ann\u0040example.com", masked: "[masked:email]" },
        Sample { text: "jörg@müller.example", masked: "[masked:email]" },
        Sample { text: r"name: j\u00f6rg@example.de", masked: "name: [masked:email]" },
        Sample { text: "—ann@example.com…", masked: "—[masked:email]…" },
        Sample { text: r"C:\\n@example.com", masked: r"C:\\n[masked:email]" },
        Sample { text: "a@b.example.1", masked: "[masked:email].1" },
        Sample { text: "https://user:secret@host.example/", masked: "https://user:[masked:email]/" },
        Sample {
            text: "0123456789012345678901234567890123456789012345678901234567890123456789@example.com",
            masked: "012345[masked:email]",
        },
    ],
    near_misses: &[
        "ann@localhost",
        "@example.com",
        r"\n@example.com",
        "ann@ example.com",
        "react@18.2.0",
        "img/icon@2x.png",
        "ann@[10.0.0.1]",
        "ann@10.0.0.1",
        "ann@example.c",
        "ann@.com",
        "100%40",
        "at 5 @ home.",
    ],
};

fn find(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let anchor = window.anchor();
    let domain = anchor + 1;
    // The domain first: what is no address mostly fails there, and at once.
    let Some(end) = domain_end(window, domain)? else { return Ok(Outcome::Nothing) };
    Ok(local_part(window).map_or(Outcome::Nothing, |start| Outcome::Found(start..end)))
}

/// Where the local part that ends at the anchor begins.
fn local_part(window: &Window<'_>) -> Option<usize> {
    let end = window.anchor();
    let lowest = end.saturating_sub(LOCAL_MAX).max(window.floor());
    let mut start = end;
    while let Some(unit) = unit_before(window, start).filter(|unit| *unit >= lowest) {
        start = unit;
    }
    while start < end && matches!(window.before(start + 1, 1), Some(b'.' | b'-' | b'+' | b'%' | b'\'')) {
        start += 1;
    }
    (start < end || may_lack_local_part(window, end)).then_some(start)
}

/// Where the letter before `at` begins, if it can be part of a local part. Escapes are none: what they say is searched
/// apart.
fn unit_before(window: &Window<'_>, at: usize) -> Option<usize> {
    let byte = window.before(at, 1).filter(|byte| LOCAL.has(*byte))?;
    if escape::ends_before(window, at) {
        return None;
    }
    match byte {
        0x80..=0xbf => matches!(window.before(at, 2), Some(0xc3..=0xdf)).then(|| at - 2),
        0xc3..=0xdf => None,
        _ => Some(at - 1),
    }
}

/// Whether the domain is masked although nothing before it may be: after `\\n`, which is either a backslash and the
/// letter that makes the whole local part, or a line feed of JSON inside JSON.
fn may_lack_local_part(window: &Window<'_>, at: usize) -> bool {
    let backslashes = (2..LOCAL_MAX).take_while(|back| window.before(at, *back) == Some(b'\\')).count();
    escape::short_ends_before(window, at) && backslashes % 2 == 0
}

/// Where the domain that begins at `from` ends: after the last label that may be a top-level domain.
fn domain_end(window: &Window<'_>, from: usize) -> Result<Option<usize>, NeedMore> {
    let limit = from + DOMAIN_MAX;
    let (mut label, mut best, mut first) = (from, None, true);
    loop {
        let mut end = window.run(label, &LABEL, limit - label)?;
        if end == limit && matches!(window.before(end, 1), Some(0xc3..=0xdf)) {
            end -= 1;
        }
        let text = window.slice(label, end);
        if !first && is_top_level(text) && !is_picture(window.slice(from, label), text) {
            best = Some(end - text.iter().rev().take_while(|byte| **byte == b'-').count());
        }
        if text.is_empty() || end + 1 >= limit || window.at(end)? != Some(b'.') {
            return Ok(best);
        }
        (label, first) = (end + 1, false);
    }
}

/// Whether `label` may be a top-level domain: two bytes or more and a letter in front.
fn is_top_level(label: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte >= 0xc3;
    label.first().is_some_and(letter) && label.get(1).is_some_and(|second| *second != b'-')
}

/// Whether this is the `2x.` and `png` of `icon@2x.png`.
fn is_picture(before: &[u8], last: &[u8]) -> bool {
    matches!(before, [b'1'..=b'9', b'x', b'.']) && PICTURES.contains(&last)
}
