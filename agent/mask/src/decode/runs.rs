//! Runs of base64, standard or for URLs: where they may begin, and the search of what they say.
//!
//! A run is tried from its first character, behind each `/`, `-`, `_` and `+`, and every sixteen characters, and is
//! decoded from where sixteen characters spell something like text. A try costs little, and random bytes fail it.

use std::sync::Arc;

use super::base64::{Base64, value};
use crate::class::Class;
use crate::content::Content;
use crate::error::MaskError;
use crate::finding::Finding;
use crate::rules::Rules;

/// Characters that are tried. Unit: bytes. Source: ours; an e-mail address of eleven bytes takes as many.
const TRY: usize = 16;

/// Of the twelve bytes that a try makes, those that must be printable. Source: ours; random bytes pass once in 170.
const PRINTABLE_MIN: usize = 9;

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
}

#[derive(Clone)]
struct Run {
    /// Offset of its first character.
    start: u64,
    /// First place that has not been tried.
    tried: u64,
    /// Its last characters: those of `tried` on, and the one before.
    tail: Vec<u8>,
    /// At most one per phase.
    decoding: Vec<Base64>,
}

impl Runs {
    pub(crate) fn new(rules: Arc<Rules>, content: Content, depth: u8) -> Self {
        Self { rules, content, depth, at: 0, run: None }
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
            self.run = Some(Run { start: offset, tried: offset, tail: Vec::new(), decoding: Vec::new() });
            self.extend_from(offset, input.get(start..end).unwrap_or_default(), found)?;
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

    /// Takes characters of the run, the first of which stands at offset `from`.
    fn extend_from(&mut self, from: u64, chars: &[u8], found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let most = if self.depth == 0 { 4 } else { 1 };
        let Some(run) = &mut self.run else { return Err(MaskError::Inconsistent) };
        let mut at = place(run.tried, from)?;
        while let Some(tried) = chars.get(at..).and_then(|rest| rest.first_chunk::<TRY>()) {
            let offset = from + at as u64;
            let aligned = (offset - run.start).is_multiple_of(TRY as u64);
            let parted = || at.checked_sub(1).and_then(|before| chars.get(before)).is_some_and(|byte| parts(*byte));
            if (aligned || parted())
                && run.decoding.len() < most
                && run.decoding.iter().all(|other| !(offset - other.start()).is_multiple_of(4))
                && is_text(tried)
            {
                run.decoding.push(Base64::new(&self.rules, self.content, self.depth + 1, offset));
            }
            at += 1;
        }
        for decoder in &mut run.decoding {
            let next = place(decoder.next(), from)?;
            decoder.push(chars.get(next..).unwrap_or_default(), found)?;
        }
        run.tried = from + at as u64;
        run.tail = chars.get(at.saturating_sub(1)..).unwrap_or_default().to_vec();
        Ok(())
    }
}

fn place(offset: u64, from: u64) -> Result<usize, MaskError> {
    offset.checked_sub(from).and_then(|at| usize::try_from(at).ok()).ok_or(MaskError::Inconsistent)
}

/// Whether something else may begin behind `byte`.
fn parts(byte: u8) -> bool {
    matches!(byte, b'/' | b'-' | b'_' | b'+')
}

/// Whether sixteen characters spell something like text.
fn is_text(chars: &[u8; TRY]) -> bool {
    let (groups, _) = chars.as_chunks::<4>();
    let printable = |byte: &u8| (b' '..=b'~').contains(byte) || matches!(byte, b'\n' | b'\r' | b'\t');
    let bytes = groups.iter().flat_map(|group| {
        let bits = group.iter().fold(0_u32, |bits, char| bits << 6 | u32::from(value(*char)));
        let [_, bytes @ ..] = bits.to_be_bytes();
        bytes
    });
    bytes.filter(printable).count() >= PRINTABLE_MIN
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

    #[test]
    fn text_is_told_from_other_bytes() {
        assert!(is_text(b"YW5uQGV4YW1wbGUu"));
        assert!(!is_text(b"4bf92f3577b34da6"));
        assert!(!is_text(b"transformational"));
    }
}
