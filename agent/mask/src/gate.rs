//! Finds the places worth judging, fast: most bytes of most streams are looked at here and nowhere else.
//!
//! Three searches, each of which runs once over the bytes: rare single bytes (memchr), literals (Teddy, by
//! aho-corasick), groups of digits of certain shapes. They may name too many places, never too few.
//! A custom detector brings a search of its own.

use std::sync::Arc;

use callgate_model::MaskKinds;

use crate::custom::{CUSTOM_FROM, Detectors};
use crate::detectors::{DETECTORS, Detector, Leading, Outcome};
use crate::window::{NeedMore, Window};

mod digits;
mod literals;
mod look;
mod shape;

use literals::{LITERALS, Literals};
pub(crate) use shape::Shapes;

/// Most single bytes to look for. Source: memchr3.
const BYTES_MAX: usize = 3;

/// The searches that a set of kinds needs.
#[derive(Clone)]
pub(crate) struct Gates {
    kinds: u64,
    bytes: [Option<u8>; BYTES_MAX],
    /// Rows that want single bytes, as bits.
    byte_rows: u64,
    literals: Option<&'static Literals>,
    longest_literal: usize,
    shapes: Shapes,
    /// Rows per set of shapes, as bits.
    shape_rows: [u64; Shapes::SETS],
    custom: Arc<Detectors>,
}

impl Gates {
    /// The searches for `kinds`; `None` if the table asks for more than can be searched.
    pub(crate) fn new(kinds: MaskKinds, custom: Arc<Detectors>) -> Option<Self> {
        let mut gates = Self { kinds: kinds.0, custom, ..Self::none() };
        for detector in DETECTORS.iter().filter(|detector| kinds.covers(detector.kind())) {
            if let Some(byte) = detector.gate.byte {
                gates.byte_rows |= detector.kind().0;
                if !gates.bytes.contains(&Some(byte)) {
                    *gates.bytes.iter_mut().find(|place| place.is_none())? = Some(byte);
                }
            }
            let longest = detector.gate.literals.iter().map(|literal| literal.len()).max().unwrap_or(0);
            gates.longest_literal = gates.longest_literal.max(longest);
            gates.shapes = gates.shapes.union(detector.gate.shapes);
            let shaped = !detector.gate.shapes.is_empty();
            for (set, rows) in gates.shape_rows.iter_mut().enumerate().filter(|_| shaped) {
                if detector.gate.shapes.meets(set) {
                    *rows |= detector.kind().0;
                }
            }
        }
        if gates.longest_literal > 0 {
            gates.literals = Some(LITERALS.as_ref()?);
        }
        Some(gates)
    }

    /// No search: for a masker that refuses everything.
    pub(crate) fn none() -> Self {
        Self {
            kinds: 0,
            bytes: [None; BYTES_MAX],
            byte_rows: 0,
            literals: None,
            longest_literal: 0,
            shapes: Shapes::NONE,
            shape_rows: [0; Shapes::SETS],
            custom: Arc::default(),
        }
    }

    /// The bytes before an anchor that may belong to its finding, per kind.
    pub(crate) fn leading(&self) -> impl Iterator<Item = &'static Leading> + use<> {
        active(self.kinds).map(|detector| &detector.leading).filter(|leading| leading.most > 0)
    }

    /// The anchors in `bytes`, to be asked for in rising order.
    pub(crate) fn over<'a>(&'a self, bytes: &'a [u8]) -> Anchors<'a> {
        let custom = self.custom.active(self.kinds).map(|row| (row, None)).collect();
        Anchors { gates: self, bytes, byte: None, literal: None, digit: None, custom }
    }

    /// The rows that want `anchor` judged.
    pub(crate) fn wanting(&self, anchor: Anchor) -> impl Iterator<Item = usize> + use<> {
        bits(anchor.rows & self.kinds)
    }

    /// Most bytes from an anchor on that row `row` may look at.
    pub(crate) fn longest(&self, row: usize) -> usize {
        DETECTORS.get(row).map_or_else(|| self.custom.longest(row), |detector| detector.longest)
    }

    /// What row `row` says of an anchor.
    pub(crate) fn judge(&self, row: usize, window: &Window<'_>) -> Result<Outcome, NeedMore> {
        match DETECTORS.get(row) {
            Some(detector) => detector.find.judge(window),
            None => self.custom.judge(row, window),
        }
    }

    /// Where something begins, at `from` or later, that the bytes to come may make an anchor; else the end of `bytes`.
    pub(crate) fn unfinished(&self, bytes: &[u8], from: usize) -> usize {
        let first = from.max((bytes.len() + 1).saturating_sub(self.longest_literal));
        let unfinished = |at: &usize| {
            let end = bytes.get(*at..).unwrap_or_default();
            self.literals.is_some_and(|literals| literals.is_unfinished(self.kinds, end))
        };
        let literal = (first..bytes.len()).find(unfinished).unwrap_or(bytes.len());
        self.custom.unfinished(self.kinds, bytes, from).min(literal)
    }
}

/// The rows of the table that are on.
fn active(kinds: u64) -> impl Iterator<Item = &'static Detector> {
    bits(kinds).map_while(|row| DETECTORS.get(row))
}

/// The places of the bits that are set.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        lowest
    })
}

/// The anchors in some bytes. Each search remembers how far it has looked.
pub(crate) struct Anchors<'a> {
    gates: &'a Gates,
    bytes: &'a [u8],
    byte: Option<(usize, u64)>,
    literal: Option<(usize, u64)>,
    digit: Option<(usize, u64)>,
    custom: Vec<(usize, Option<(usize, u64)>)>,
}

/// A place worth judging, and the rows that want to, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Anchor {
    /// Where it is.
    pub(crate) at: usize,
    rows: u64,
}

/// Where a search that has found nothing stands.
const NOWHERE: (usize, u64) = (usize::MAX, 0);

impl Anchors<'_> {
    /// The first anchor at `from` or later.
    pub(crate) fn next(&mut self, from: usize) -> Option<Anchor> {
        let (bytes, gates) = (self.bytes, self.gates);
        let byte = refresh(&mut self.byte, from, || Some((find_byte(gates.bytes, bytes, from)?, gates.byte_rows)));
        let literal = refresh(&mut self.literal, from, || {
            let literals = gates.literals?;
            literals.next(bytes, from)
        });
        let digit = refresh(&mut self.digit, from, || {
            let (at, shapes) = digits::next_group(bytes, from, gates.shapes)?;
            Some((at, *gates.shape_rows.get(shapes.set())?))
        });
        let mut seen = [byte, literal, digit].into_iter().fold(NOWHERE, nearer);
        for (row, place) in &mut self.custom {
            let row = *row;
            let custom = refresh(place, from, || Some((gates.custom.next(row, bytes, from)?, 1 << row)));
            seen = nearer(seen, custom);
        }
        let (at, rows) = seen;
        (at != NOWHERE.0).then_some(Anchor { at, rows })
    }
}

/// The nearer of two places; both, where they are the same.
fn nearer(one: (usize, u64), other: (usize, u64)) -> (usize, u64) {
    match one.0.cmp(&other.0) {
        std::cmp::Ordering::Less => one,
        std::cmp::Ordering::Equal => (one.0, one.1 | other.1),
        std::cmp::Ordering::Greater => other,
    }
}

/// The place remembered in `seen`, looked for anew if it lies before `from`.
fn refresh(seen: &mut Option<(usize, u64)>, from: usize, find: impl FnOnce() -> Option<(usize, u64)>) -> (usize, u64) {
    match *seen {
        Some(place) if place.0 >= from => place,
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

// Bits from there on are custom rows.
const _: () = assert!(DETECTORS.len() <= CUSTOM_FROM);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::known;

    fn gates() -> Gates {
        Gates::new(known(), Arc::default()).unwrap()
    }

    fn anchors(text: &str) -> Vec<usize> {
        let gates = gates();
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
        for (text, expected) in
            [("x ey", 2), ("x eyJ", 5), ("x --", 2), ("x -----BEGI", 2), ("z", 1), ("=", 1), ("", 0)]
        {
            assert_eq!(gates().unfinished(text.as_bytes(), 0), expected, "{text}");
        }
        assert_eq!(gates().unfinished(b"eqq", 1), 3);
    }
}
