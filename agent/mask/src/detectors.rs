//! The table of detectors: one row per kind, one file per row.
//!
//! To add a kind: a file in `detectors/` with its [`Detector`], a line in [`DETECTORS`], a free bit.
//! Names for policies, the gates, the metrics' labels, the property tests and the fuzz targets all come from this table.

use std::ops::Range;

use callgate_model::MaskKinds;

use crate::class::Class;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

mod aws_key;
mod email;
mod jwt;
mod payment_card;
mod pem_private_key;

pub(crate) use payment_card::{is_separator, opens_card};

/// Every kind that can be masked. Of two findings at one anchor that begin and end alike, the upper row wins.
pub static DETECTORS: &[Detector] =
    &[email::DETECTOR, payment_card::DETECTOR, jwt::DETECTOR, pem_private_key::DETECTOR, aws_key::DETECTOR];

/// How one kind of sensitive data is found and replaced.
pub struct Detector {
    /// The word in policies, config and metrics.
    pub name: &'static str,
    /// The bit in [`MaskKinds`]; never given to another kind, records carry it.
    pub bit: u32,
    /// Words that stand for this kind among others.
    pub groups: &'static [Group],
    /// What a finding becomes: valid inside a JSON string, and no detector's anchor.
    pub label: &'static str,
    /// Texts with findings, and what becomes of them.
    pub samples: &'static [Sample],
    /// Texts that look like findings and are none.
    pub near_misses: &'static [&'static str],
    /// What makes a place worth judging.
    pub(crate) gate: Gate,
    /// Most bytes from the anchor on that a judgement may look at. Unit: bytes.
    /// If that many are not enough, they are masked.
    pub(crate) longest: usize,
    /// Bytes that may belong to a finding although they stand before its anchor.
    pub(crate) leading: Leading,
    /// Judges one anchor.
    pub(crate) find: fn(&Window<'_>) -> Result<Outcome, NeedMore>,
    /// Takes what follows a certain opening; `None` if this kind has bounds.
    pub(crate) swallow: Option<fn(&Window<'_>) -> Swallowed>,
}

impl Detector {
    /// The kind as a set of one.
    #[must_use]
    pub fn kind(&self) -> MaskKinds {
        MaskKinds(1_u64.checked_shl(self.bit).unwrap_or(0))
    }
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector").field("name", &self.name).field("bit", &self.bit).finish_non_exhaustive()
    }
}

/// A text with findings.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The text.
    pub text: &'static str,
    /// What the masker makes of it, with this one kind on.
    pub masked: &'static str,
}

/// What makes a place worth judging: the first byte of any of these is an anchor.
#[derive(Clone, Copy)]
pub(crate) struct Gate {
    /// A single byte that is rare in text.
    pub(crate) byte: Option<u8>,
    /// Literals of at least three bytes.
    pub(crate) literals: &'static [&'static str],
    /// The start of a group of digits among enough other digits.
    pub(crate) digits: bool,
}

/// Bytes before an anchor that may belong to its finding.
#[derive(Clone, Copy)]
pub(crate) struct Leading {
    /// Which bytes; the run of them that ends at the anchor may belong.
    pub(crate) class: &'static Class,
    /// How many at most. Unit: bytes.
    pub(crate) most: usize,
}

impl Leading {
    /// Findings begin at their anchor or after it.
    pub(crate) const NONE: Self = Self { class: &Class::NONE, most: 0 };
}

/// What an anchor turned out to be. Positions are the window's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Nothing.
    Nothing,
    /// Nothing, and no anchor before this position can be anything either.
    NothingBefore(usize),
    /// A finding. What stands between the anchor and its start holds no anchor of any kind.
    Found(Range<usize>),
    /// The certain opening of a finding whose end is not known.
    Opened(Range<usize>),
}

/// What a swallowing detector took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Swallowed {
    /// First byte not taken. Unit: position in the window.
    pub(crate) upto: usize,
    /// The finding ends there; otherwise more bytes are needed to go on.
    pub(crate) ended: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::LOOKBEHIND;

    #[test]
    fn names_bits_and_labels_are_unlike() {
        for (at, one) in DETECTORS.iter().enumerate() {
            assert!(one.bit < 64 && !one.samples.is_empty() && !one.near_misses.is_empty(), "{}", one.name);
            for other in &DETECTORS[..at] {
                assert!(one.name != other.name && one.bit != other.bit && one.label != other.label);
            }
        }
    }

    #[test]
    fn labels_fit_into_a_json_string() {
        for detector in DETECTORS {
            assert_eq!(detector.label, format!("[masked:{}]", detector.name));
            assert!(detector.label.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'));
        }
    }

    #[test]
    fn rows_keep_what_the_engine_relies_on() {
        for Detector { name, gate, leading, longest, .. } in DETECTORS {
            assert!(gate.literals.iter().all(|literal| literal.len() >= 3), "{name}");
            assert!(leading.most * 2 <= LOOKBEHIND && *longest <= 8192, "{name}");
        }
    }
}
