//! One pass over the bytes at hand: judges each anchor, passes on what is settled, holds what is not.
//!
//! Rules, in this order, so that the result is one and the same however the stream was cut:
//! 1. Anchors are judged from left to right; one that needs more bytes stops the pass, and everything from it on waits.
//! 2. At one anchor the finding that begins first wins, then the longer, then the upper row of the table.
//! 3. A finding begins no earlier than the one before it ends; anchors inside a finding are not judged.
//! 4. Held are all bytes from the first unsettled anchor on, and those before it that a later anchor could still take.

use std::ops::Range;

use crate::content::Content;
use crate::detectors::{DETECTORS, Detector, Outcome};
use crate::error::MaskError;
use crate::gate::{Anchor, Gates};
use crate::replace;
use crate::window::{LOOKBEHIND, NeedMore, Window};

/// Most bytes that a swallowing detector leaves while it waits; what it cannot judge by then it takes. Unit: bytes.
const SWALLOW_MAX: usize = 256;

/// Where the search stands. Offsets count from the start of the stream.
pub(crate) struct Scan {
    gates: Gates,
    content: Content,
    /// Every anchor before it is settled.
    pub(crate) next: u64,
    /// Everything before it is out.
    pub(crate) emitted: u64,
    /// End of the last finding.
    floor: u64,
    /// The detector that is swallowing.
    swallowing: Option<&'static Detector>,
    /// Per row: no anchor before it can be a finding.
    nothing_before: [u64; ROWS],
    /// Per row: findings so far.
    pub(crate) found: [u64; ROWS],
}

/// Rows of the table.
const ROWS: usize = DETECTORS.len();

/// What became of an anchor.
enum Judgement {
    Nothing,
    Replace(Finding),
}

struct Finding {
    row: usize,
    detector: &'static Detector,
    range: Range<usize>,
    open: bool,
}

impl Scan {
    pub(crate) fn new(gates: Gates, content: Content) -> Self {
        Self {
            gates,
            content,
            next: 0,
            emitted: 0,
            floor: 0,
            swallowing: None,
            nothing_before: [0; ROWS],
            found: [0; ROWS],
        }
    }

    /// First byte that the search may still look at.
    pub(crate) fn kept_from(&self) -> u64 {
        self.next.saturating_sub(LOOKBEHIND as u64)
    }

    /// Goes on over `bytes`, the first of which has the offset `base` and is no later than
    /// [`kept_from`](Self::kept_from); `ended` says that the stream ends with them.
    pub(crate) fn over(&mut self, bytes: &[u8], base: u64, ended: bool, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let gates = self.gates.clone();
        let mut anchors = gates.over(bytes);
        let mut limit = None;
        loop {
            if let Some(detector) = self.swallowing
                && !self.swallow(detector, bytes, base, ended)?
            {
                return Ok(());
            }
            let next = local(self.next, base)?;
            let limit = match limit {
                Some(limit) if limit >= next => limit,
                _ if ended => bytes.len(),
                _ => *limit.insert(gates.unfinished_literal(bytes, next)),
            };
            let Some(anchor) = anchors.next(next).filter(|anchor| anchor.at < limit) else {
                self.next = base + limit.max(next) as u64;
                return self.pass(bytes, base, ended, out);
            };
            match self.judge(bytes, base, anchor, ended)? {
                Ok(Judgement::Nothing) => self.next = base + anchor.at as u64 + 1,
                Ok(Judgement::Replace(finding)) => self.mask(&finding, bytes, base, out)?,
                Err(NeedMore) => {
                    self.next = base + anchor.at as u64;
                    return self.pass(bytes, base, ended, out);
                }
            }
        }
    }

    /// Asks every detector that wants `anchor`.
    fn judge(
        &mut self,
        bytes: &[u8],
        base: u64,
        anchor: Anchor,
        ended: bool,
    ) -> Result<Result<Judgement, NeedMore>, MaskError> {
        let wanting = self.gates.wanting(bytes, anchor);
        let anchor = anchor.at;
        let from = anchor.saturating_sub(LOOKBEHIND);
        let floor = local(self.floor.max(base), base)?.saturating_sub(from);
        let mut best: Option<Finding> = None;
        for (row, detector) in wanting {
            let settled = self.nothing_before.get_mut(row).ok_or(MaskError::Inconsistent)?;
            if base + (anchor as u64) < *settled {
                continue;
            }
            let upto = bytes.len().min(anchor + detector.longest);
            let part = bytes.get(from..upto).ok_or(MaskError::Inconsistent)?;
            let window = Window::new(part, anchor - from, floor, ended && upto == bytes.len());
            let (range, open) = match (detector.find)(&window) {
                Ok(Outcome::Nothing) => continue,
                Ok(Outcome::NothingBefore(at)) => {
                    *settled = base + (from + at) as u64;
                    continue;
                }
                Ok(Outcome::Found(range)) => (range, false),
                Ok(Outcome::Opened(range)) => (range, true),
                // The detector has seen all that it may see and cannot tell: masked.
                Err(NeedMore) if upto == anchor + detector.longest => (anchor - from..upto - from, false),
                Err(NeedMore) => return Ok(Err(NeedMore)),
            };
            let range = from + range.start..from + range.end;
            let better = best.as_ref().is_none_or(|best| {
                range.start < best.range.start || range.start == best.range.start && range.end > best.range.end
            });
            if better {
                best = Some(Finding { row, detector, range, open });
            }
        }
        let Some(finding) = best else { return Ok(Ok(Judgement::Nothing)) };
        if finding.range.end <= anchor || finding.range.start < floor + from || finding.range.end > bytes.len() {
            return Err(MaskError::Inconsistent);
        }
        // The byte behind a finding tells whether it is a number that stands by itself.
        if finding.range.end == bytes.len() && !ended {
            return Ok(Err(NeedMore));
        }
        Ok(Ok(Judgement::Replace(finding)))
    }

    /// Passes on what stands before the finding, then what replaces it.
    fn mask(&mut self, finding: &Finding, bytes: &[u8], base: u64, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let Finding { row, detector, ref range, open } = *finding;
        let emitted = local(self.emitted, base)?;
        let clean = bytes.get(emitted..range.start).ok_or(MaskError::Inconsistent)?;
        let found = bytes.get(range.clone()).ok_or(MaskError::Inconsistent)?;
        let before = bytes.get(range.start.saturating_sub(LOOKBEHIND / 2)..range.start).unwrap_or_default();
        let bare = replace::is_bare_number(self.content, before, found, bytes.get(range.end).copied());
        out.extend_from_slice(clean);
        replace::replace(detector, found, bare && !open, out);
        let count = self.found.get_mut(row).ok_or(MaskError::Inconsistent)?;
        *count = count.saturating_add(1);
        self.swallowing = open.then_some(detector);
        self.move_past(base + range.end as u64);
        Ok(())
    }

    /// Lets the detector take what belongs to its finding; true once that has ended.
    fn swallow(
        &mut self,
        detector: &'static Detector,
        bytes: &[u8],
        base: u64,
        ended: bool,
    ) -> Result<bool, MaskError> {
        let swallow = detector.swallow.ok_or(MaskError::Inconsistent)?;
        loop {
            let from = local(self.next, base)?;
            let taken = swallow(&Window::new(bytes, from, from, ended));
            let stuck = !taken.ended && bytes.len().saturating_sub(taken.upto) >= SWALLOW_MAX;
            let upto = if stuck { taken.upto + 1 } else { taken.upto };
            if upto < from || upto > bytes.len() {
                return Err(MaskError::Inconsistent);
            }
            self.move_past(base + upto as u64);
            if taken.ended {
                self.swallowing = None;
                return Ok(true);
            }
            if !stuck {
                return Ok(false);
            }
        }
    }

    /// Everything before `offset` is settled and out, or masked.
    fn move_past(&mut self, offset: u64) {
        (self.next, self.emitted, self.floor) = (offset, offset, offset);
    }

    /// Passes on what no later anchor can take.
    fn pass(&mut self, bytes: &[u8], base: u64, ended: bool, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let emitted = local(self.emitted, base)?;
        let upto = if ended { bytes.len() } else { emitted.max(self.free_upto(bytes, base)?) };
        out.extend_from_slice(bytes.get(emitted..upto).ok_or(MaskError::Inconsistent)?);
        self.emitted = base + upto as u64;
        Ok(())
    }

    /// Where the bytes begin that an anchor at `next` or later could take.
    fn free_upto(&self, bytes: &[u8], base: u64) -> Result<usize, MaskError> {
        let next = local(self.next, base)?;
        let before = bytes.get(..next).ok_or(MaskError::Inconsistent)?;
        let run = self
            .gates
            .leading()
            .map(|leading| before.iter().rev().take(leading.most).take_while(|byte| leading.class.has(**byte)).count());
        Ok(next - run.max().unwrap_or(0))
    }
}

/// The place of a stream's offset in bytes that begin at `base`.
fn local(offset: u64, base: u64) -> Result<usize, MaskError> {
    offset.checked_sub(base).and_then(|at| usize::try_from(at).ok()).ok_or(MaskError::Inconsistent)
}
