//! One run of base64 from one of its phases: searches what it says, and writes what stands in a finding's place.
//!
//! A finding's groups are encoded anew with its text in its place, padded so that the bytes behind keep their phase:
//! what is decoded later is the masked text. Labels are letters and brackets, which need neither `+` nor `/`.

use std::sync::Arc;

use crate::content::Content;
use crate::error::MaskError;
use crate::finder::Finder;
use crate::finding::{Finding, Text};
use crate::rules::Rules;

/// Most bytes that are replaced in one piece; what is longer goes on in the next. Unit: bytes, a multiple of three.
/// Source: three times a private key of 16,384 bits in PEM.
const REGION_MAX: u64 = 3 << 14;

/// Fills up a text to the length modulo three of what it replaces.
const FILL: u8 = b'.';

/// A run that is being decoded.
#[derive(Clone)]
pub(super) struct Base64 {
    finder: Box<Finder>,
    /// Offset of the first character.
    start: u64,
    /// Characters so far.
    chars: u64,
    /// Characters from group `recent_from` on.
    recent: Vec<u8>,
    recent_from: u64,
    /// Findings that are not settled.
    waiting: Vec<Finding>,
    /// What will be replaced next.
    region: Option<Region>,
}

/// Bytes to be replaced, and what stands in their place.
#[derive(Clone)]
struct Region {
    start: u64,
    end: u64,
    text: Vec<u8>,
    row: usize,
    depth: u8,
}

impl Base64 {
    pub(super) fn new(rules: &Arc<Rules>, content: Content, depth: u8, start: u64) -> Self {
        Self {
            finder: Box::new(Finder::new(rules, content, depth)),
            start,
            chars: 0,
            recent: Vec::new(),
            recent_from: 0,
            waiting: Vec::new(),
            region: None,
        }
    }

    /// Offset of the next character.
    pub(super) fn next(&self) -> u64 {
        self.start + self.chars
    }

    /// No finding that is still to come begins before this. Unit: offset of the stream around.
    pub(super) fn settled(&self) -> u64 {
        self.char_of(self.open_from())
    }

    /// Takes the next characters.
    pub(super) fn push(&mut self, chars: &[u8], found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let whole_before = self.chars / 4;
        self.chars += chars.len() as u64;
        self.recent.extend_from_slice(chars);
        let decoded = self.decoded(whole_before, self.chars / 4)?;
        let mut inner = Vec::new();
        self.finder.push(&decoded, &mut inner)?;
        self.waiting.append(&mut inner);
        let settled = self.finder.settled();
        self.collect(settled, found)?;
        let keep = self.open_from() / 3;
        let past = usize::try_from(keep.saturating_sub(self.recent_from) * 4).unwrap_or(usize::MAX);
        self.recent.drain(..past.min(self.recent.len()));
        self.recent_from = self.recent_from.max(keep);
        Ok(())
    }

    /// Ends the run.
    pub(super) fn finish(mut self, found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let decoded = self.decoded(self.chars / 4, self.chars / 4 + 1)?;
        let mut inner = Vec::new();
        self.finder.push(&decoded, &mut inner)?;
        self.finder.finish(&mut inner)?;
        self.waiting.append(&mut inner);
        self.collect(u64::MAX, found)
    }

    /// First byte that may still be replaced. Unit: offset of the decoded bytes.
    fn open_from(&self) -> u64 {
        let waiting = self.waiting.first().map_or(u64::MAX, |finding| finding.start);
        let region = self.region.as_ref().map_or(u64::MAX, |region| region.start);
        self.finder.settled().min(waiting).min(region)
    }

    /// Offset of the first character of the group that byte `at` belongs to.
    fn char_of(&self, at: u64) -> u64 {
        self.start + at / 3 * 4
    }

    /// The bytes of the groups from `from` up to `upto`, as far as they are there.
    fn decoded(&self, from: u64, upto: u64) -> Result<Vec<u8>, MaskError> {
        let mut bytes = Vec::new();
        decode(self.groups(from, upto)?, &mut bytes);
        Ok(bytes)
    }

    fn groups(&self, from: u64, upto: u64) -> Result<&[u8], MaskError> {
        let place = |group: u64| {
            let groups = group.checked_sub(self.recent_from).and_then(|groups| usize::try_from(groups).ok());
            groups.and_then(|groups| groups.checked_mul(4)).ok_or(MaskError::Inconsistent)
        };
        let length = self.recent.len();
        Ok(self.recent.get(place(from)?.min(length)..place(upto)?.min(length)).unwrap_or_default())
    }

    /// Makes regions of findings, and findings of the stream around of regions; all before `settled` are known.
    fn collect(&mut self, settled: u64, found: &mut Vec<Finding>) -> Result<(), MaskError> {
        self.waiting.sort_by_key(Finding::rank);
        let waiting = std::mem::take(&mut self.waiting);
        let mut waiting = waiting.into_iter().peekable();
        while let Some(finding) = waiting.next_if(|finding| finding.start < settled) {
            self.add(finding, found)?;
        }
        self.waiting = waiting.collect();
        // What begins in the region's last group belongs to it, so the region is whole once that group is settled.
        if let Some(region) = self.region.take_if(|region| settled > region.end && settled >= whole_groups(region.end))
        {
            self.replace(&region, found)?;
        }
        Ok(())
    }

    fn add(&mut self, finding: Finding, found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let Finding { start, end, row, depth, goes_on, text } = finding;
        let text = if goes_on { &[] } else { text.bytes() };
        match self.region.take() {
            Some(mut region) if start < whole_groups(region.end) || goes_on && start == region.end => {
                if start >= region.end {
                    let between = self.between(region.end, start)?;
                    region.text.extend_from_slice(&between);
                    region.text.extend_from_slice(text);
                }
                region.end = region.end.max(end);
                self.region = Some(region);
            }
            other => {
                if let Some(region) = other {
                    self.replace(&region, found)?;
                }
                self.region = Some(Region { start, end, text: text.to_vec(), row, depth });
            }
        }
        while let Some(region) = self.region.take_if(|region| region.end - region.start > REGION_MAX) {
            let middle = region.start - region.start % 3 + REGION_MAX;
            let rest = Region { start: middle, text: Vec::new(), ..region };
            self.replace(&Region { end: middle, ..region }, found)?;
            self.region = Some(rest);
        }
        Ok(())
    }

    /// The bytes from `from` up to `upto`, as far as they are there.
    fn between(&self, from: u64, upto: u64) -> Result<Vec<u8>, MaskError> {
        let bytes = self.decoded(from / 3, upto.div_ceil(3))?;
        let first = usize::try_from(from % 3).unwrap_or(0);
        let length = usize::try_from(upto.saturating_sub(from)).map_err(|_| MaskError::Inconsistent)?;
        Ok(bytes.get(first..(first + length).min(bytes.len())).unwrap_or_default().to_vec())
    }

    fn replace(&self, region: &Region, found: &mut Vec<Finding>) -> Result<(), MaskError> {
        let (start, end) = (region.start / 3 * 3, whole_groups(region.end));
        let before = self.between(start, region.start)?;
        let after = self.between(region.end, end)?;
        let mut bytes = before;
        bytes.extend_from_slice(&region.text);
        let was = region.end - region.start;
        let short = (was + 2 * (region.text.len() as u64 % 3)) % 3;
        bytes.extend((0..short).map(|_| FILL));
        bytes.extend_from_slice(&after);
        let first = self.groups(start / 3, start / 3 + 1)?;
        let last = self.groups((end / 3).saturating_sub(1), end / 3)?;
        let url = first.iter().chain(last).any(|char| matches!(char, b'-' | b'_'));
        found.push(Finding {
            start: self.char_of(start),
            end: self.char_of(end).min(self.start + self.chars),
            row: region.row,
            depth: region.depth,
            goes_on: region.text.is_empty(),
            text: Text::Own(encoded(&bytes, url).into_boxed_slice()),
        });
        Ok(())
    }
}

/// First byte behind the group that the byte before `at` belongs to.
fn whole_groups(at: u64) -> u64 {
    at.div_ceil(3) * 3
}

/// What each character stands for, in either alphabet.
static VALUES: [u8; 256] = values();

#[expect(clippy::indexing_slicing, reason = "u8 indexes 256 places; used in a constant only")]
const fn values() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let char = byte as u8;
        table[byte] = match char {
            b'A'..=b'Z' => char - b'A',
            b'a'..=b'z' => char - b'a' + 26,
            b'0'..=b'9' => char - b'0' + 52,
            b'+' | b'-' => 62,
            _ => 63,
        };
        byte += 1;
    }
    table
}

/// What four characters say.
#[inline]
pub(super) fn three(group: [u8; 4]) -> [u8; 3] {
    let [first, second, third, fourth] = group.map(|char| VALUES.get(usize::from(char)).copied().unwrap_or(0));
    [first << 2 | second >> 4, second << 4 | third >> 2, third << 6 | fourth]
}

/// Appends what `chars` say from their first group on; the last may lack characters.
pub(super) fn decode(chars: &[u8], out: &mut Vec<u8>) {
    let (groups, rest) = chars.as_chunks::<4>();
    out.extend(groups.iter().flat_map(|group| three(*group)));
    let mut last = *b"AAAA";
    last.iter_mut().zip(rest).for_each(|(place, char)| *place = *char);
    out.extend(three(last).into_iter().take(rest.len() * 3 / 4));
}

/// `bytes` in base64 without padding: what stood there had none either, or still has it behind.
fn encoded(bytes: &[u8], url: bool) -> Vec<u8> {
    let char = |six: u32| match u8::try_from(six & 63).unwrap_or(0) {
        six @ 0..26 => b'A' + six,
        six @ 26..52 => b'a' + (six - 26),
        six @ 52..62 => b'0' + (six - 52),
        62 => {
            if url {
                b'-'
            } else {
                b'+'
            }
        }
        _ => {
            if url {
                b'_'
            } else {
                b'/'
            }
        }
    };
    let mut out = Vec::with_capacity(bytes.len() * 4 / 3 + 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        out.extend([18, 12, 6, 0].iter().take(group.len() + 1).map(|shift| char(bits >> shift)));
    }
    out
}
