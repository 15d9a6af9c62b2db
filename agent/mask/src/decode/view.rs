//! One level of escapes undone: searches what a stream says, and tells where it says it.

use std::collections::VecDeque;

use super::trigger::Openings;
use super::unit::{self, Unit};
use crate::error::MaskError;
use crate::finder::Finder;
use crate::finding::Finding;

/// The decoded twin of a stream, the outer one.
#[derive(Clone)]
pub(crate) struct View {
    finder: Finder,
    /// Offset in the outer stream up to which it has been decoded.
    upto: u64,
    /// How much has been made of it. Unit: bytes of the inner stream.
    made: u64,
    /// Bytes of the outer stream from `upto` on that open an escape and are not whole.
    partial: Vec<u8>,
    /// Escapes that may still matter, in order; between them both streams run alike.
    escapes: VecDeque<Place>,
    /// Where both streams last met before the first of `escapes`.
    met: Place,
}

/// An escape: where it stands in both streams, and where it ends.
#[derive(Clone, Copy, Default)]
struct Place {
    inner: u64,
    inner_end: u64,
    outer: u64,
    outer_end: u64,
}

impl View {
    /// A view that begins where `finder` stands: so far both streams were alike.
    pub(crate) fn new(finder: Finder) -> Self {
        let at = finder.received();
        let met = Place { inner: 0, inner_end: 0, outer: 0, outer_end: 0 };
        Self { finder, upto: at, made: at, partial: Vec::new(), escapes: VecDeque::new(), met }
    }

    /// Everything before this is settled. Unit: offset in the outer stream.
    pub(crate) fn settled(&self) -> u64 {
        self.outer(self.finder.settled(), Edge::End).min(self.upto)
    }

    /// Takes the next bytes of the outer stream; findings are in its offsets.
    pub(crate) fn push(&mut self, input: &[u8], found: &mut Vec<Finding>) -> Result<(), MaskError> {
        if self.partial.is_empty() {
            return self.decode(input, false, found);
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(input);
        self.decode(&joined, false, found)
    }

    /// Ends the stream.
    pub(crate) fn finish(&mut self, found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let partial = std::mem::take(&mut self.partial);
        self.decode(&partial, true, found)?;
        let mut inner = Vec::new();
        self.finder.finish(&mut inner)?;
        self.map(inner, found);
        Ok(())
    }

    fn decode(&mut self, input: &[u8], ended: bool, found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let mut decoded = Vec::with_capacity(input.len());
        let (mut at, mut copied) = (0, 0);
        let inner_from = self.made;
        let mut openings = Openings::of(input);
        while let Some(opening) = openings.next(at) {
            match unit::at(input.get(opening..).unwrap_or_default(), ended) {
                Unit::Plain => at = opening + 1,
                Unit::More => {
                    self.partial = input.get(opening..).unwrap_or_default().to_vec();
                    break;
                }
                Unit::Escape { length, says } => {
                    decoded.extend_from_slice(input.get(copied..opening).ok_or(MaskError::Inconsistent)?);
                    let inner = inner_from + decoded.len() as u64;
                    let outer = self.upto + opening as u64;
                    decoded.extend_from_slice(says.bytes());
                    let (inner_end, outer_end) = (inner + says.bytes().len() as u64, outer + length as u64);
                    self.escapes.push_back(Place { inner, inner_end, outer, outer_end });
                    at = opening + length;
                    copied = at;
                }
            }
        }
        let end = input.len() - self.partial.len();
        decoded.extend_from_slice(input.get(copied..end).ok_or(MaskError::Inconsistent)?);
        self.upto += end as u64;
        let mut inner = Vec::new();
        self.finder.push(&decoded, &mut inner)?;
        self.made += decoded.len() as u64;
        self.map(inner, found);
        self.forget();
        Ok(())
    }

    /// What goes on begins where the piece before it ended: what says nothing between the two goes too.
    fn map(&self, inner: Vec<Finding>, found: &mut Vec<Finding>) {
        found.extend(inner.into_iter().map(|finding| Finding {
            start: self.outer(finding.start, if finding.goes_on { Edge::End } else { Edge::Start }),
            end: self.outer(finding.end, Edge::End),
            ..finding
        }));
    }

    /// The place in the outer stream of one in the inner: of an escape, its beginning or its end.
    fn outer(&self, inner: u64, edge: Edge) -> u64 {
        let behind = self.escapes.partition_point(|place| match edge {
            Edge::Start => place.inner_end <= inner,
            Edge::End => place.inner_end < inner,
        });
        if let Some(place) = self.escapes.get(behind).filter(|place| place.inner < inner) {
            return match edge {
                Edge::Start => place.outer,
                Edge::End => place.outer_end,
            };
        }
        let met = behind.checked_sub(1).and_then(|last| self.escapes.get(last)).unwrap_or(&self.met);
        met.outer_end + inner.saturating_sub(met.inner_end)
    }

    /// Forgets escapes that no finding can reach any more.
    fn forget(&mut self) {
        let settled = self.finder.settled();
        while let Some(place) = self.escapes.front().copied().filter(|place| place.inner_end < settled) {
            self.met = place;
            self.escapes.pop_front();
        }
    }
}

/// Which end of a stretch is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Start,
    End,
}
