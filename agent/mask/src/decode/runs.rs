//! Runs of base64, standard or for URLs: where they may begin, and the search of what they say.
//!
//! A run is tried from its first character, behind each `/`, `-`, `_` and `+`, and every sixteen characters, and is
//! decoded from where sixteen characters spell something like text. A try costs little, and random bytes fail it.

use std::sync::Arc;

use super::base64::{self, Base64};
use super::tries::{Phases, TRY, Tries};
use crate::class::Class;
use crate::content::Content;
use crate::decode::{self, DEPTH_MAX, Trigger};
use crate::error::MaskError;
use crate::finding::Finding;
use crate::rules::Rules;
use crate::scan::Scan;

/// Longest run that is first asked whether it is clean, if it is there as a whole. Unit: bytes. Source: ours; tokens and
/// digests are shorter, and asking costs as much as searching.
const SHORT_MAX: usize = 4096;

/// Both alphabets.
static ALPHABET: Class = Class::BASE64.bytes(b"-_");

/// The runs of a stream.
#[derive(Clone)]
pub(crate) struct Runs {
    rules: Arc<Rules>,
    content: Content,
    depth: u8,
    /// How much has been seen. Unit: bytes.
    at: u64,
    /// The run that the bytes seen end in.
    run: Option<Run>,
    /// What a short run says; kept for the next.
    says: Vec<u8>,
}

#[derive(Clone)]
struct Run {
    /// Offset of its first character.
    start: u64,
    /// First place that has not been tried.
    tried: u64,
    /// Its last characters: those of `tried` on, and the one before.
    tail: Vec<u8>,
    phases: Phases,
    /// At most one per phase.
    decoding: Vec<Base64>,
}

impl Runs {
    pub(crate) fn new(rules: Arc<Rules>, content: Content, depth: u8) -> Self {
        Self { rules, content, depth, at: 0, run: None, says: Vec::new() }
    }

    /// The same, of a stream that lies `depth` encodings deep.
    pub(crate) fn at_depth(self, depth: u8) -> Self {
        Self { depth, ..self }
    }

    /// No finding that is still to come begins before this.
    pub(crate) fn settled(&self) -> u64 {
        let Some(run) = &self.run else { return self.at };
        run.decoding.iter().map(Base64::settled).min().unwrap_or(u64::MAX).min(run.tried)
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn push(&mut self, input: &[u8], found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let mut from = 0;
        if self.run.is_some() {
            from = input.iter().position(|byte| !ALPHABET.has(*byte)).unwrap_or(input.len());
            self.extend(input.get(..from).unwrap_or_default(), found)?;
            if from < input.len() {
                self.end_run(found)?;
            }
        }
        while let Some((start, end)) = next_run(input, from) {
            let offset = self.at + start as u64;
            let chars = input.get(start..end).unwrap_or_default();
            if end < input.len() && chars.len() <= SHORT_MAX {
                self.whole(offset, chars, found)?;
                from = end;
                continue;
            }
            self.run = Some(Run {
                start: offset,
                tried: offset,
                tail: Vec::new(),
                phases: Phases::default(),
                decoding: Vec::new(),
            });
            self.extend_from(offset, chars, found)?;
            if end < input.len() {
                self.end_run(found)?;
            }
            from = end;
        }
        self.at += input.len() as u64;
        Ok(())
    }

    /// Ends the stream.
    pub(crate) fn finish(&mut self, found: &mut Vec<Finding>) -> Result<(), MaskError> {
        self.end_run(found)
    }

    fn end_run(&mut self, found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let Some(run) = self.run.take() else { return Ok(()) };
        run.decoding.into_iter().try_for_each(|decoder| decoder.finish(found))
    }

    /// Takes characters that go on the run which the bytes seen before end in.
    fn extend(&mut self, chars: &[u8], found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let Some(run) = &mut self.run else { return Err(MaskError::Inconsistent) };
        let mut joined = std::mem::take(&mut run.tail);
        let from = self.at.checked_sub(joined.len() as u64).ok_or(MaskError::Inconsistent)?;
        joined.extend_from_slice(chars);
        self.extend_from(from, &joined, found)
    }

    /// Takes a run that is there as a whole, the first character of which stands at `offset`.
    fn whole(&mut self, offset: u64, chars: &[u8], found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let mut phases = Phases::default();
        let mut tries = Tries { chars, run: 0, next: 0 };
        while let Some(at) = tries.next(&phases) {
            if !phases.take(at as u64, self.most()) {
                continue;
            }
            let rest = chars.get(at..).unwrap_or_default();
            self.says.clear();
            base64::decode(rest, &mut self.says);
            if !is_clean(&self.rules, self.content, self.depth + 1, &self.says)? {
                let mut decoder = Base64::new(&self.rules, self.content, self.depth + 1, offset + at as u64);
                decoder.push(rest, found)?;
                decoder.finish(found)?;
            }
        }
        Ok(())
    }

    /// Most phases in which a run is decoded.
    fn most(&self) -> usize {
        if self.depth == 0 { 4 } else { 1 }
    }

    /// Takes characters of the run, the first of which stands at offset `from`.
    fn extend_from(&mut self, from: u64, chars: &[u8], found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let most = self.most();
        let Some(run) = &mut self.run else { return Err(MaskError::Inconsistent) };
        let mut tries = Tries {
            chars,
            run: from.checked_sub(run.start).ok_or(MaskError::Inconsistent)?,
            next: place(run.tried, from)?,
        };
        while let Some(at) = tries.next(&run.phases) {
            let offset = from + at as u64;
            if run.phases.take(offset - run.start, most) {
                run.decoding.push(Base64::new(&self.rules, self.content, self.depth + 1, offset));
            }
        }
        for decoder in &mut run.decoding {
            let next = place(decoder.next(), from)?;
            decoder.push(chars.get(next..).unwrap_or_default(), found)?;
        }
        run.tried = from + tries.next as u64;
        run.tail.clear();
        run.tail.extend_from_slice(chars.get(tries.next.saturating_sub(1)..).unwrap_or_default());
        Ok(())
    }
}

/// Whether nothing in `text` is a finding, nor in what it says once decoded: told as a whole, without keeping anything.
/// May say no where there is none.
pub(crate) fn is_clean(rules: &Arc<Rules>, content: Content, depth: u8, text: &[u8]) -> Result<bool, MaskError> {
    let says_more = || decode::first(text, true) != Trigger::None || has_run(text);
    if depth < DEPTH_MAX && says_more() {
        return Ok(false);
    }
    let mut found = Vec::new();
    Scan::new(Arc::clone(rules), content, depth).over(text, 0, true, &mut found)?;
    Ok(found.is_empty())
}

/// Whether there is a run that is decoded.
fn has_run(text: &[u8]) -> bool {
    let mut from = 0;
    while let Some((start, end)) = next_run(text, from) {
        let chars = text.get(start..end).unwrap_or_default();
        if (Tries { chars, run: 0, next: 0 }).next(&Phases::default()).is_some() {
            return true;
        }
        from = end;
    }
    false
}

fn place(offset: u64, from: u64) -> Result<usize, MaskError> {
    offset.checked_sub(from).and_then(|at| usize::try_from(at).ok()).ok_or(MaskError::Inconsistent)
}

/// The next run of at least [`TRY`] characters, or the one that `bytes` end in.
fn next_run(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut start = from;
    while let Some(part) = bytes.get(start..).and_then(|rest| rest.first_chunk::<TRY>()) {
        match part.iter().rposition(|byte| !ALPHABET.has(*byte)) {
            Some(other) => start += other + 1,
            None => {
                let rest = bytes.get(start + TRY..).unwrap_or_default();
                let more = rest.iter().position(|byte| !ALPHABET.has(*byte)).unwrap_or(rest.len());
                return Some((start, start + TRY + more));
            }
        }
    }
    let rest = bytes.get(start..)?;
    let last = rest.iter().rposition(|byte| !ALPHABET.has(*byte)).map_or(0, |other| other + 1);
    (last < rest.len()).then_some((start + last, bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_wherever_they_stand() {
        for lead in 0..70 {
            let text = format!("{}. {} tail", "a bc/de ".repeat(lead), "Q".repeat(16 + lead));
            let start = lead * 8 + 2;
            assert_eq!(next_run(text.as_bytes(), 0), Some((start, start + 16 + lead)));
        }
        assert_eq!(next_run(b"words and words that end, well", 0), Some((26, 30)));
        assert_eq!(next_run(b"words and words that end.", 0), None);
        assert_eq!(next_run(b"", 0), None);
    }
}
