//! A finding on its way from where it was made to the stream that is put out.

use std::cmp::Reverse;

/// A stretch to be replaced. Offsets count from the start of the stream that it was found in, or was mapped to.
#[derive(Clone)]
pub(crate) struct Finding {
    /// First byte.
    pub(crate) start: u64,
    /// First byte behind.
    pub(crate) end: u64,
    /// Row of the detector.
    pub(crate) row: usize,
    /// How many encodings deep it was found.
    pub(crate) depth: u8,
    /// More of the finding before it: dropped, with nothing in its place.
    pub(crate) goes_on: bool,
    /// What stands in its place.
    pub(crate) text: Text,
}

/// What stands in the place of a finding.
#[derive(Clone)]
pub(crate) enum Text {
    /// Always the same.
    Label(&'static str),
    /// Made for this finding.
    Own(Box<[u8]>),
}

impl Text {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Label(label) => label.as_bytes(),
            Self::Own(bytes) => bytes,
        }
    }
}

impl Finding {
    /// Of two that overlap the one with the lower rank gives its text: the earlier, then what goes on, then the
    /// longer, then the one that takes less decoding.
    /// What goes on without a text comes before what has one (the rest of a group of base64): how long its pieces are
    /// depends on the cut, so that length must not decide.
    pub(crate) fn rank(&self) -> (u64, bool, bool, Reverse<u64>, u8, usize) {
        let has_text = self.goes_on && !self.text.bytes().is_empty();
        (self.start, !self.goes_on, has_text, Reverse(self.end), self.depth, self.row)
    }
}
