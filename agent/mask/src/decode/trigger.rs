//! Where a stream first says something else than it spells, so that its decoded view must be searched too.
//!
//! `\n`, `\"` and their like at any depth of JSON only part words, and detectors know them; they are no triggers, for
//! nearly every answer has them and most have no other.

use super::unit::{self, Unit};

/// What a stretch of a stream holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trigger {
    /// No trigger.
    None,
    /// The first trigger stands here.
    At(usize),
    /// Here may stand one: more bytes are needed to tell.
    Perhaps(usize),
}

/// Most backslashes in a row before the run counts as a trigger by itself.
const BACKSLASHES_MAX: usize = 32;

/// The first trigger in `bytes`; with `ended` nothing comes after them.
pub(crate) fn first(bytes: &[u8], ended: bool) -> Trigger {
    let mut from = 0;
    let mut openings = Openings::of(bytes);
    while let Some(at) = openings.next(from) {
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.first() == Some(&b'\\') {
            let run = rest.iter().take(BACKSLASHES_MAX + 1).take_while(|byte| **byte == b'\\').count();
            if run > BACKSLASHES_MAX {
                return Trigger::At(at);
            }
            match rest.get(run) {
                None if ended => return Trigger::None,
                None => return Trigger::Perhaps(at),
                Some(b'u' | b'x' | b'/') => match unit::at(rest.get(run - 1..).unwrap_or_default(), ended) {
                    Unit::Escape { .. } => return Trigger::At(at),
                    Unit::More => return Trigger::Perhaps(at),
                    Unit::Plain => {}
                },
                Some(_) => {}
            }
            from = at + run;
            continue;
        }
        match unit::at(rest, ended) {
            Unit::Escape { .. } => return Trigger::At(at),
            Unit::More => return Trigger::Perhaps(at),
            Unit::Plain => from = at + 1,
        }
    }
    Trigger::None
}

/// The bytes of a stretch that may open an escape, to be asked for in rising order.
///
/// Two searches for three bytes each, both of which run once over the stretch: asking each byte by itself took a sixth of
/// the time of a download.
pub(super) struct Openings<'a> {
    bytes: &'a [u8],
    ascii: Option<usize>,
    other: Option<usize>,
}

impl<'a> Openings<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, ascii: None, other: None }
    }

    /// The first one at `from` or later.
    pub(super) fn next(&mut self, from: usize) -> Option<usize> {
        let rest = self.bytes.get(from..)?;
        let [one, two, three] = unit::OPENING_ASCII;
        let ascii = refresh(&mut self.ascii, from, || memchr::memchr3(one, two, three, rest));
        let [one, two, three] = unit::OPENING_OTHER;
        let other = refresh(&mut self.other, from, || memchr::memchr3(one, two, three, rest));
        let nearest = ascii.min(other);
        (nearest != NOWHERE).then_some(nearest)
    }
}

/// Where a search that has found nothing stands.
const NOWHERE: usize = usize::MAX;

/// The place remembered in `seen`, looked for anew if it lies before `from`.
fn refresh(seen: &mut Option<usize>, from: usize, find: impl FnOnce() -> Option<usize>) -> usize {
    match *seen {
        Some(place) if place >= from => place,
        _ => *seen.insert(find().map_or(NOWHERE, |at| from + at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_words_is_a_trigger() {
        for (text, expected) in [
            (r#"{"a":"b\n\"c\" \\n \\\"d"}"#, Trigger::None),
            (r"C:\\Users\\n", Trigger::None),
            (r"abc\u0041", Trigger::At(3)),
            (r"abc\\u0041", Trigger::At(3)),
            (r"abc\/", Trigger::At(3)),
            ("100% of", Trigger::None),
            ("a%20b", Trigger::At(1)),
            ("a&b=c&amp;", Trigger::At(5)),
            ("a\\", Trigger::Perhaps(1)),
            ("a\\\\u00", Trigger::Perhaps(1)),
            ("a%4", Trigger::Perhaps(1)),
            ("“é”", Trigger::None),
        ] {
            assert_eq!(first(text.as_bytes(), false), expected, "{text}");
        }
        assert_eq!(first(b"a\\", true), Trigger::None);
        assert_eq!(first(b"a%4", true), Trigger::None);
        let lead = "x".repeat(1000);
        for extra in 0..130 {
            let text = format!("{}%40{}", &lead[..extra], "y".repeat(100));
            assert_eq!(first(text.as_bytes(), false), Trigger::At(extra));
        }
    }
}
