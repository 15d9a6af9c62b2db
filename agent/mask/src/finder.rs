//! Searches one stream: what it spells, and what it says once decoded.
//!
//! Gives findings in this stream's offsets, and how much of it is settled: no finding that is still to come begins before
//! that. A decoded view exists only from the first escape on; until then it would say the same, so it starts as a copy.

use std::sync::Arc;

use crate::content::Content;
use crate::decode::{self, DEPTH_MAX, Runs, Trigger, View};
use crate::error::MaskError;
use crate::finding::Finding;
use crate::rules::Rules;
use crate::scan::Scan;
use crate::window::LOOKBEHIND;

/// Bytes of new input taken beside the kept ones before the rest is searched where it lies. Unit: bytes.
/// Source: enough that the search gets [`LOOKBEHIND`] bytes into it, small enough that copying them costs nothing.
const SEAM: usize = 512;

/// The search of one stream.
#[derive(Clone)]
pub(crate) struct Finder {
    scan: Scan,
    /// The last bytes seen: those not settled and what stands before them.
    kept: Vec<u8>,
    /// Offset of the first byte of `kept` in the stream.
    kept_from: u64,
    /// How much has been searched. Unit: bytes.
    received: u64,
    /// What may be the first escape and is not whole yet.
    waiting: Vec<u8>,
    view: Option<Box<View>>,
    runs: Option<Runs>,
    depth: u8,
}

impl Finder {
    /// A search that has seen nothing, `depth` encodings deep.
    pub(crate) fn new(rules: &Arc<Rules>, content: Content, depth: u8) -> Self {
        Self {
            scan: Scan::new(Arc::clone(rules), content, depth),
            kept: Vec::new(),
            kept_from: 0,
            received: 0,
            waiting: Vec::new(),
            view: None,
            runs: (depth < DEPTH_MAX).then(|| Runs::new(Arc::clone(rules), content, depth)),
            depth,
        }
    }

    /// A copy that goes on one encoding deeper.
    fn deeper(&self) -> Self {
        let mut finder = self.clone();
        finder.depth = self.depth.saturating_add(1);
        finder.scan.depth = finder.depth;
        finder.runs = finder.runs.filter(|_| finder.depth < DEPTH_MAX).map(|runs| runs.at_depth(finder.depth));
        finder
    }

    /// How much has been searched. Unit: bytes.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// No finding that is still to come begins before this.
    pub(crate) fn settled(&self) -> u64 {
        let view = self.view.as_ref().map_or(u64::MAX, |view| view.settled());
        let runs = self.runs.as_ref().map_or(u64::MAX, |runs| runs.settled());
        self.scan.settled.min(view).min(runs)
    }

    /// Takes the next bytes of the stream; appends what is found to `found`.
    pub(crate) fn push(&mut self, input: &[u8], found: &mut Vec<Finding>) -> Result<(), MaskError> {
        if self.waiting.is_empty() {
            return self.take(input, false, found);
        }
        let mut joined = std::mem::take(&mut self.waiting);
        joined.extend_from_slice(input);
        self.take(&joined, false, found)
    }

    /// Ends the stream.
    pub(crate) fn finish(&mut self, found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.take(&waiting, true, found)?;
        let kept = std::mem::take(&mut self.kept);
        self.scan.over(&kept, self.kept_from, true, found)?;
        if let Some(runs) = &mut self.runs {
            runs.finish(found)?;
        }
        if let Some(view) = &mut self.view {
            view.finish(found)?;
        }
        Ok(())
    }

    fn take(&mut self, input: &[u8], ended: bool, found: &mut Vec<Finding>) -> Result<(), MaskError> {
        if self.depth >= DEPTH_MAX || self.view.is_some() {
            return self.search(input, found);
        }
        match decode::first(input, ended) {
            Trigger::None => self.search(input, found),
            Trigger::Perhaps(at) => {
                let (whole, rest) = input.split_at_checked(at).ok_or(MaskError::Inconsistent)?;
                self.search(whole, found)?;
                self.waiting = rest.to_vec();
                Ok(())
            }
            Trigger::At(at) => {
                let (same, rest) = input.split_at_checked(at).ok_or(MaskError::Inconsistent)?;
                self.search(same, found)?;
                self.view = Some(Box::new(View::new(self.deeper())));
                self.search(rest, found)
            }
        }
    }

    fn search(&mut self, input: &[u8], found: &mut Vec<Finding>) -> Result<(), MaskError> {
        if input.is_empty() {
            return Ok(());
        }
        self.scan_over(input, found)?;
        if let Some(runs) = &mut self.runs {
            runs.push(input, found)?;
        }
        match &mut self.view {
            Some(view) => view.push(input, found),
            None => Ok(()),
        }
    }

    fn scan_over(&mut self, input: &[u8], found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let input_from = self.received;
        self.received += input.len() as u64;
        let mut rest = input;
        // First where kept and new bytes meet, on a copy; as soon as the search no longer needs kept ones, in place.
        while !self.kept.is_empty() && self.scan.next < input_from + LOOKBEHIND as u64 {
            if rest.is_empty() {
                self.trim();
                return Ok(());
            }
            let (head, tail) = rest.split_at_checked(SEAM.max(self.kept.len())).unwrap_or((rest, &[]));
            self.kept.extend_from_slice(head);
            rest = tail;
            self.scan.over(&self.kept, self.kept_from, false, found)?;
        }
        if rest.is_empty() {
            self.trim();
            return Ok(());
        }
        self.scan.over(input, input_from, false, found)?;
        let keep = self.scan.kept_from().checked_sub(input_from).and_then(|keep| usize::try_from(keep).ok());
        let keep = keep.unwrap_or(0);
        self.kept.clear();
        self.kept.extend_from_slice(input.get(keep..).ok_or(MaskError::Inconsistent)?);
        self.kept_from = input_from + keep as u64;
        Ok(())
    }

    /// Forgets what the search has left behind for good.
    fn trim(&mut self) {
        let past = self.scan.kept_from().saturating_sub(self.kept_from);
        let past = usize::try_from(past).unwrap_or(usize::MAX).min(self.kept.len());
        // Moving what stays costs more than keeping it, unless much can go.
        if past * 2 >= self.kept.len() {
            self.kept.drain(..past);
            self.kept_from += past as u64;
        }
    }
}
