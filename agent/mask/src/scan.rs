//! One pass over the bytes at hand: judges each anchor, and tells what is settled.
//!
//! Rules, in this order, so that the result is one and the same however the stream was cut:
//! 1. Anchors are judged from left to right; one that needs more bytes stops the pass, and everything from it on waits.
//! 2. At one anchor the finding that begins first wins, then the longer, then the upper row of the table.
//! 3. A finding begins no earlier than the one before it ends; anchors inside a finding are not judged.
//! 4. Not settled are all bytes from the first unjudged anchor on, and those before it that a later one could take.

use std::ops::Range;
use std::sync::Arc;

use crate::content::Content;
use crate::detectors::{DETECTORS, Outcome, Swallow, Swallowed};
use crate::error::MaskError;
use crate::finding::Finding;
use crate::gate::{Anchor, Gates};
use crate::replace;
use crate::rules::Rules;
use crate::window::{LOOKBEHIND, NeedMore, Window};

/// Most bytes that a swallowing detector leaves while it waits; what it cannot judge by then it takes. Unit: bytes.
const SWALLOW_MAX: usize = 256;

/// Where the search stands. Offsets count from the start of the stream.
#[derive(Clone)]
pub(crate) struct Scan {
    rules: Arc<Rules>,
    content: Content,
    /// How many encodings deep the stream lies.
    pub(crate) depth: u8,
    /// Every anchor before it is judged.
    pub(crate) next: u64,
    /// No finding that is still to come begins before it.
    pub(crate) settled: u64,
    /// End of the last finding.
    floor: u64,
    /// The row that is swallowing, and how.
    swallowing: Option<(usize, Swallow)>,
    /// Per row: no anchor before it can be a finding.
    nothing_before: [u64; ROWS],
}

/// Rows of the table.
const ROWS: usize = DETECTORS.len();

/// What became of an anchor.
enum Judgement {
    Nothing,
    Replace(Found),
}

struct Found {
    row: usize,
    range: Range<usize>,
    opened: Option<Swallow>,
}

impl Scan {
    pub(crate) fn new(rules: Arc<Rules>, content: Content, depth: u8) -> Self {
        Self { rules, content, depth, next: 0, settled: 0, floor: 0, swallowing: None, nothing_before: [0; ROWS] }
    }

    /// First byte that the search may still look at.
    pub(crate) fn kept_from(&self) -> u64 {
        self.next.saturating_sub(LOOKBEHIND as u64)
    }

    /// Goes on over `bytes`, the first of which has the offset `base` and is no later than
    /// [`kept_from`](Self::kept_from); `ended` says that the stream ends with them.
    pub(crate) fn over(
        &mut self,
        bytes: &[u8],
        base: u64,
        ended: bool,
        found: &mut Vec<Finding>,
    ) -> Result<(), MaskError> {
        let rules = Arc::clone(&self.rules);
        let mut anchors = rules.gates.over(bytes);
        let mut limit = None;
        loop {
            if let Some((row, swallow)) = self.swallowing
                && !self.swallow(row, swallow, bytes, base, ended, found)?
            {
                return Ok(());
            }
            let next = local(self.next, base)?;
            let limit = match limit {
                Some(limit) if limit >= next => limit,
                _ if ended => bytes.len(),
                _ => *limit.insert(rules.gates.unfinished(bytes, next)),
            };
            let Some(anchor) = anchors.next(next).filter(|anchor| anchor.at < limit) else {
                self.next = base + limit.max(next) as u64;
                return self.settle(bytes, base, ended);
            };
            match self.judge(&rules.gates, bytes, base, anchor, ended)? {
                Ok(Judgement::Nothing) => self.next = base + anchor.at as u64 + 1,
                Ok(Judgement::Replace(one)) => self.take(&one, bytes, base, found)?,
                Err(NeedMore) => {
                    self.next = base + anchor.at as u64;
                    return self.settle(bytes, base, ended);
                }
            }
        }
    }

    /// Asks every detector that wants `anchor`.
    fn judge(
        &mut self,
        gates: &Gates,
        bytes: &[u8],
        base: u64,
        anchor: Anchor,
        ended: bool,
    ) -> Result<Result<Judgement, NeedMore>, MaskError> {
        let at = anchor.at;
        let from = at.saturating_sub(LOOKBEHIND);
        let floor = local(self.floor.max(base), base)?.saturating_sub(from);
        let mut best: Option<Found> = None;
        for row in gates.wanting(anchor) {
            if self.nothing_before.get(row).is_some_and(|settled| base + (at as u64) < *settled) {
                continue;
            }
            let longest = gates.longest(row);
            let upto = bytes.len().min(at + longest);
            let part = bytes.get(from..upto).ok_or(MaskError::Inconsistent)?;
            let window = Window::new(part, at - from, floor, ended && upto == bytes.len());
            let (range, opened) = match gates.judge(row, &window) {
                Ok(Outcome::Nothing) => continue,
                Ok(Outcome::NothingBefore(place)) => {
                    if let Some(settled) = self.nothing_before.get_mut(row) {
                        *settled = base + (from + place) as u64;
                    }
                    continue;
                }
                Ok(Outcome::Found(range)) => (range, None),
                Ok(Outcome::Opened(range, swallow)) => (range, Some(swallow)),
                // The detector has seen all that it may see and cannot tell: masked.
                Err(NeedMore) if upto == at + longest => (at - from..upto - from, None),
                Err(NeedMore) => return Ok(Err(NeedMore)),
            };
            let range = from + range.start..from + range.end;
            let better = best.as_ref().is_none_or(|best| {
                range.start < best.range.start || range.start == best.range.start && range.end > best.range.end
            });
            if better {
                best = Some(Found { row, range, opened });
            }
        }
        let Some(one) = best else { return Ok(Ok(Judgement::Nothing)) };
        if one.range.end < at || one.range.is_empty() || one.range.start < floor + from || one.range.end > bytes.len() {
            return Err(MaskError::Inconsistent);
        }
        // The byte behind a finding tells whether it is a number that stands by itself.
        if one.range.end == bytes.len() && !ended {
            return Ok(Err(NeedMore));
        }
        Ok(Ok(Judgement::Replace(one)))
    }

    /// Takes a finding, with what stands in its place.
    fn take(&mut self, one: &Found, bytes: &[u8], base: u64, found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let Found { row, ref range, opened } = *one;
        let matched = bytes.get(range.clone()).ok_or(MaskError::Inconsistent)?;
        let before = bytes.get(range.start.saturating_sub(LOOKBEHIND / 2)..range.start).unwrap_or_default();
        let bare =
            opened.is_none() && replace::is_bare_number(self.content, before, matched, bytes.get(range.end).copied());
        let (start, end) = (base + range.start as u64, base + range.end as u64);
        let text = self.rules.replacement(row, matched, bare);
        found.push(Finding { start, end, row, depth: self.depth, goes_on: false, text });
        self.swallowing = opened.map(|swallow| (row, swallow));
        self.move_past(end);
        Ok(())
    }

    /// Lets the detector take what belongs to its finding; true once that has ended.
    fn swallow(
        &mut self,
        row: usize,
        swallow: Swallow,
        bytes: &[u8],
        base: u64,
        ended: bool,
        found: &mut Vec<Finding>,
    ) -> Result<bool, MaskError> {
        loop {
            let from = local(self.next, base)?;
            // As far before as is always there, so that the answer does not depend on the cut.
            let (upto, passing, over) = match swallow(&Window::new(bytes, from, from, ended)) {
                Swallowed::Until { upto, ended: over } => (upto, false, over),
                Swallowed::Passing { upto } => (upto, true, false),
            };
            let moved = upto > from;
            let stuck = !over && !moved && bytes.len().saturating_sub(upto) >= SWALLOW_MAX;
            let upto = if stuck { upto + 1 } else { upto };
            if upto < from || upto > bytes.len() {
                return Err(MaskError::Inconsistent);
            }
            let end = base + upto as u64;
            if upto > from && !passing {
                let start = base + from as u64;
                let text = crate::finding::Text::Label("");
                found.push(Finding { start, end, row, depth: self.depth, goes_on: true, text });
            }
            self.move_past(end);
            if over {
                self.swallowing = None;
                return Ok(true);
            }
            if !stuck && !moved {
                return Ok(false);
            }
        }
    }

    /// Everything before `offset` is judged and settled.
    fn move_past(&mut self, offset: u64) {
        (self.next, self.settled, self.floor) = (offset, offset, offset);
    }

    /// Settles what no later anchor can take.
    fn settle(&mut self, bytes: &[u8], base: u64, ended: bool) -> Result<(), MaskError> {
        let upto = if ended { bytes.len() } else { self.free_upto(bytes, base)? };
        self.settled = self.settled.max(base + upto as u64);
        Ok(())
    }

    /// Where the bytes begin that an anchor at `next` or later could take.
    fn free_upto(&self, bytes: &[u8], base: u64) -> Result<usize, MaskError> {
        let next = local(self.next, base)?;
        let before = bytes.get(..next).ok_or(MaskError::Inconsistent)?;
        let run =
            self.rules.gates.leading().map(|leading| {
                before.iter().rev().take(leading.most).take_while(|byte| leading.class.has(**byte)).count()
            });
        Ok(next - run.max().unwrap_or(0))
    }
}

/// The place of a stream's offset in bytes that begin at `base`.
fn local(offset: u64, base: u64) -> Result<usize, MaskError> {
    offset.checked_sub(base).and_then(|at| usize::try_from(at).ok()).ok_or(MaskError::Inconsistent)
}
