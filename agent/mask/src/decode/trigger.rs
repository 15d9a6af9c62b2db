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

/// Bytes looked at at once.
const BLOCK: usize = 64;

/// The first trigger in `bytes`; with `ended` nothing comes after them.
pub(crate) fn first(bytes: &[u8], ended: bool) -> Trigger {
    let mut from = 0;
    while let Some(at) = next_opening(bytes, from) {
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

/// The next byte that may open an escape.
pub(super) fn next_opening(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let (blocks, tail) = rest.as_chunks::<BLOCK>();
    // A whole block is asked at once: most have none, and that is told without a branch per byte.
    let clean =
        blocks.iter().take_while(|block| !block.iter().fold(false, |any, byte| any | unit::opens(*byte))).count();
    let skipped = clean * BLOCK;
    let found = match blocks.get(clean) {
        Some(block) => block.iter().position(|byte| unit::opens(*byte)),
        None => tail.iter().position(|byte| unit::opens(*byte)),
    };
    found.map(|at| from + skipped + at)
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
