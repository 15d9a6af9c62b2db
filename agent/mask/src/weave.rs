//! Puts findings into the stream: what stands between them passes, as far as it is settled.
//!
//! Findings of all encodings come here in any order; where they overlap, all of it goes, and the one that begins first
//! gives the text. A finding takes its place only once no other can begin where it does.

use crate::error::MaskError;
use crate::finding::Finding;

/// The way out.
#[derive(Default)]
pub(crate) struct Weave {
    /// Bytes that are not out.
    held: Vec<u8>,
    /// Everything before it is out, or replaced. Unit: offset in the stream.
    emitted: u64,
    /// Findings that begin at `emitted` or later, or reach beyond it.
    waiting: Vec<Finding>,
    /// Findings per row.
    pub(crate) counts: Vec<u64>,
}

impl Weave {
    /// Bytes held back.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Drops what is held: nothing may follow.
    pub(crate) fn forget(&mut self) {
        (self.held, self.waiting) = (Vec::new(), Vec::new());
    }

    /// Takes the next bytes and findings; everything before `settled` goes to `out`.
    pub(crate) fn push(
        &mut self,
        input: &[u8],
        found: &mut Vec<Finding>,
        settled: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), MaskError> {
        let first = self.emitted;
        if found.is_empty() && self.waiting.is_empty() && self.held.is_empty() {
            self.emitted = self.emitted.max(settled.min(first + input.len() as u64));
            let (free, rest) = input.split_at_checked(offset(self.emitted, first)?).ok_or(MaskError::Inconsistent)?;
            out.extend_from_slice(free);
            self.held.extend_from_slice(rest);
            return Ok(());
        }
        self.waiting.append(found);
        self.waiting.sort_by_key(Finding::rank);
        let bytes = Bytes { first, held: &std::mem::take(&mut self.held), input };
        let waiting = std::mem::take(&mut self.waiting);
        let mut waiting = waiting.into_iter().peekable();
        while let Some(finding) = waiting.next_if(|finding| finding.start < settled) {
            self.put(&finding, &bytes, out)?;
        }
        let upto = settled.min(waiting.peek().map_or(u64::MAX, |finding| finding.start));
        self.waiting = waiting.collect();
        bytes.copy(self.emitted, upto, out)?;
        self.emitted = self.emitted.max(upto.min(bytes.end()));
        if self.emitted > bytes.end() {
            return Err(MaskError::Inconsistent);
        }
        bytes.copy(self.emitted, bytes.end(), &mut self.held)
    }

    fn put(&mut self, finding: &Finding, bytes: &Bytes<'_>, out: &mut Vec<u8>) -> Result<(), MaskError> {
        if finding.end <= self.emitted {
            return Ok(());
        }
        if finding.start >= self.emitted {
            bytes.copy(self.emitted, finding.start, out)?;
            out.extend_from_slice(finding.text.bytes());
            if !finding.goes_on {
                if self.counts.len() <= finding.row {
                    self.counts.resize(finding.row + 1, 0);
                }
                let count = self.counts.get_mut(finding.row).ok_or(MaskError::Inconsistent)?;
                *count = count.saturating_add(1);
            }
        }
        self.emitted = finding.end;
        Ok(())
    }
}

/// Bytes at hand: those held, and behind them those just come.
struct Bytes<'a> {
    first: u64,
    held: &'a [u8],
    input: &'a [u8],
}

impl Bytes<'_> {
    fn end(&self) -> u64 {
        self.first + (self.held.len() + self.input.len()) as u64
    }

    /// Appends what stands between two offsets, as far as it has come.
    fn copy(&self, from: u64, upto: u64, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let upto = upto.min(self.end());
        if from >= upto {
            return Ok(());
        }
        let (from, upto) = (offset(from, self.first)?, offset(upto, self.first)?);
        let middle = self.held.len();
        let held = self.held.get(from.min(middle)..upto.min(middle)).unwrap_or_default();
        let input = self.input.get(from.max(middle) - middle..upto.max(middle) - middle).unwrap_or_default();
        out.extend_from_slice(held);
        out.extend_from_slice(input);
        Ok(())
    }
}

fn offset(at: u64, from: u64) -> Result<usize, MaskError> {
    at.checked_sub(from).and_then(|at| usize::try_from(at).ok()).ok_or(MaskError::Inconsistent)
}
