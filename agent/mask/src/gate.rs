//! Finds the places worth judging, fast: most bytes of most streams are looked at here and nowhere else.
//!
//! Three searches, each of which runs once over the bytes: rare single bytes (memchr), literals (Teddy, by
//! aho-corasick), groups of digits among other digits. They may name too many places, never too few.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use callgate_model::MaskKinds;

use crate::detectors::{DETECTORS, Detector, Leading};

mod digits;

/// Most single bytes to look for. Source: memchr3.
const BYTES_MAX: usize = 3;

/// Every literal of the table. Compiled once per process: a constant in all but the language's eyes.
static LITERALS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let literals = DETECTORS.iter().flat_map(|detector| detector.gate.literals);
    AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(literals).ok()
});

/// The searches that a set of kinds needs.
#[derive(Clone)]
pub(crate) struct Gates {
    kinds: MaskKinds,
    bytes: [Option<u8>; BYTES_MAX],
    literals: Option<&'static AhoCorasick>,
    longest_literal: usize,
    digits: bool,
}

impl Gates {
    /// The searches for `kinds`; `None` if the table asks for more than can be searched.
    pub(crate) fn new(kinds: MaskKinds) -> Option<Self> {
        let mut gates = Self { kinds, ..Self::none() };
        for (_, detector) in active(kinds) {
            if let Some(byte) = detector.gate.byte.filter(|byte| !gates.bytes.contains(&Some(*byte))) {
                *gates.bytes.iter_mut().find(|place| place.is_none())? = Some(byte);
            }
            let longest = detector.gate.literals.iter().map(|literal| literal.len()).max().unwrap_or(0);
            gates.longest_literal = gates.longest_literal.max(longest);
            gates.digits |= detector.gate.digits;
        }
        if gates.longest_literal > 0 {
            gates.literals = Some(LITERALS.as_ref()?);
        }
        Some(gates)
    }

    /// No search: for a masker that refuses everything.
    pub(crate) fn none() -> Self {
        Self { kinds: MaskKinds::NONE, bytes: [None; BYTES_MAX], literals: None, longest_literal: 0, digits: false }
    }

    /// The bytes before an anchor that may belong to its finding, per kind.
    pub(crate) fn leading(&self) -> impl Iterator<Item = &'static Leading> + use<> {
        active(self.kinds).map(|(_, detector)| &detector.leading)
    }

    /// The anchors in `bytes`, to be asked for in rising order.
    pub(crate) fn over<'a>(&'a self, bytes: &'a [u8]) -> Anchors<'a> {
        Anchors { gates: self, bytes, byte: None, literal: None, digit: None }
    }

    /// The detectors that want `anchor` judged, with their rows.
    pub(crate) fn wanting<'a>(
        &self,
        bytes: &'a [u8],
        anchor: Anchor,
    ) -> impl Iterator<Item = (usize, &'static Detector)> + use<'a> {
        let here = bytes.get(anchor.at..).unwrap_or_default();
        active(self.kinds).filter(move |(_, detector)| {
            let gate = &detector.gate;
            anchor.byte && gate.byte.is_some() && gate.byte == here.first().copied()
                || anchor.digit && gate.digits
                || anchor.literal && gate.literals.iter().any(|literal| here.starts_with(literal.as_bytes()))
        })
    }

    /// Where a literal begins, at `from` or later, of which the end is not there yet; else the end of `bytes`.
    pub(crate) fn unfinished_literal(&self, bytes: &[u8], from: usize) -> usize {
        let from = from.max((bytes.len() + 1).saturating_sub(self.longest_literal));
        let unfinished = |at: &usize| {
            let here = bytes.get(*at..).unwrap_or_default();
            active(self.kinds)
                .flat_map(|(_, detector)| detector.gate.literals)
                .any(|literal| literal.len() > here.len() && literal.as_bytes().starts_with(here))
        };
        (from..bytes.len()).find(unfinished).unwrap_or(bytes.len())
    }
}

/// The rows of the kinds that are on.
fn active(kinds: MaskKinds) -> impl Iterator<Item = (usize, &'static Detector)> {
    DETECTORS.iter().enumerate().filter(move |(_, detector)| kinds.covers(detector.kind()))
}

/// The anchors in some bytes. Each search remembers how far it has looked.
pub(crate) struct Anchors<'a> {
    gates: &'a Gates,
    bytes: &'a [u8],
    byte: Option<usize>,
    literal: Option<usize>,
    digit: Option<usize>,
}

/// A place worth judging, and which searches say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Anchor {
    /// Where it is.
    pub(crate) at: usize,
    byte: bool,
    literal: bool,
    digit: bool,
}

/// Where a search that has found nothing stands.
const NOWHERE: usize = usize::MAX;

impl Anchors<'_> {
    /// The first anchor at `from` or later.
    pub(crate) fn next(&mut self, from: usize) -> Option<Anchor> {
        let (bytes, gates) = (self.bytes, self.gates);
        let byte = refresh(&mut self.byte, from, || find_byte(gates.bytes, bytes, from));
        let literal = refresh(&mut self.literal, from, || {
            let found = gates.literals?.find(bytes.get(from..)?)?;
            Some(from + found.start())
        });
        let digit = refresh(&mut self.digit, from, || match gates.digits {
            true => digits::next_group(bytes, from),
            false => None,
        });
        let at = byte.min(literal).min(digit);
        (at != NOWHERE).then_some(Anchor { at, byte: byte == at, literal: literal == at, digit: digit == at })
    }
}

/// The place remembered in `seen`, looked for anew if it lies before `from`.
fn refresh(seen: &mut Option<usize>, from: usize, find: impl FnOnce() -> Option<usize>) -> usize {
    match *seen {
        Some(at) if at >= from => at,
        _ => *seen.insert(find().unwrap_or(NOWHERE)),
    }
}

fn find_byte(wanted: [Option<u8>; BYTES_MAX], bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let found = match wanted {
        [Some(one), Some(two), Some(three)] => memchr::memchr3(one, two, three, rest),
        [Some(one), Some(two), None] => memchr::memchr2(one, two, rest),
        [Some(one), ..] => memchr::memchr(one, rest),
        _ => None,
    };
    found.map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::known;

    fn anchors(text: &str) -> Vec<usize> {
        let gates = Gates::new(known()).unwrap();
        let mut anchors = gates.over(text.as_bytes());
        let (mut found, mut from) = (Vec::new(), 0);
        while let Some(anchor) = anchors.next(from) {
            found.push(anchor.at);
            from = anchor.at + 1;
        }
        found
    }

    #[test]
    fn anchors_come_in_order_and_once() {
        assert_eq!(anchors("no anchor here"), [] as [usize; 0]);
        assert_eq!(anchors("a@b eyJ AKIA @ -----BEGIN"), [1, 4, 8, 13, 15]);
    }

    #[test]
    fn a_literal_that_may_go_on_is_told() {
        let gates = Gates::new(known()).unwrap();
        for (text, expected) in
            [("x ey", 2), ("x eyJ", 5), ("x --", 2), ("x -----BEGI", 2), ("x", 1), ("%", 0), ("", 0)]
        {
            assert_eq!(gates.unfinished_literal(text.as_bytes(), 0), expected, "{text}");
        }
        assert_eq!(gates.unfinished_literal(b"ey", 1), 2);
    }
}
